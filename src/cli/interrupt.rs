//! SIGINT, SIGTERM and SIGHUP: every command ends with 130 and leaves nothing on a server.
//!
//! The first signal ends the process at once unless the command holds it: a [`Hold`] stands for a
//! scratch store that has to be removed, or for results that have to be written. Then the command
//! learns of the signal by [`requested`], does what it has to, and the process ends as soon as
//! nothing is held. A second signal ends the process whatever is held, and names the stores left.
//!
//! All this happens on a thread of its own, so that it also works while the command computes, reads
//! standard input, or writes to a pipe that nobody reads. It needs handlers even where nothing is
//! held: process 1 of a container has no default action for a signal.

use std::fmt;
use std::io;
use std::process::exit;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use broadside::DatabaseConfig;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::report;

/// The exit code of a process that SIGINT ended, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// A signal that follows the first one within this time counts as the same: timeout(1) and shells
/// that lose their terminal send each signal twice.
const REPETITION: Duration = Duration::from_millis(250);
/// How long a command may take to react to the signal until its stores are removed over its head.
const REACTION: Duration = Duration::from_secs(2);
/// How long a message may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A signal came: the command must end, and can begin nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// A scratch store on a server.
#[derive(Debug, Clone)]
pub struct HeldStore {
    /// Its schema or database.
    pub name: String,
    /// The configuration of its server.
    pub server: DatabaseConfig,
}

/// What is done with a scratch store at the moment, as far as an interruption must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is created or removed, which must come to its end.
    Changing,
    /// It is there and can be removed.
    Idle,
}

#[derive(Debug)]
struct Held {
    id: u64,
    store: Option<HeldStore>,
    phase: Phase,
}

/// Whether a signal has come, and what is held.
#[derive(Debug, Default)]
struct State {
    requested: bool,
    /// Whether SIGINT ends some work alone, and whether one came.
    catching: bool,
    caught: bool,
    held: Vec<Held>,
    last_id: u64,
}

impl State {
    fn get_mut(&mut self, id: u64) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.id == id)
    }
}

/// The state of this process.
#[derive(Debug)]
struct Registry(watch::Sender<State>);

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Keeps the first signal from ending the process until it is dropped.
#[derive(Debug)]
pub struct Hold {
    registry: &'static Registry,
    id: u64,
}

impl Registry {
    fn new() -> Self {
        Self(watch::Sender::default())
    }

    fn hold(&'static self, store: Option<HeldStore>) -> Result<Hold, Interrupted> {
        let mut hold = Err(Interrupted);
        self.0.send_if_modified(|state| {
            if state.requested {
                return false;
            }
            state.last_id += 1;
            let id = state.last_id;
            state.held.push(Held { id, store, phase: Phase::Changing });
            hold = Ok(Hold { registry: self, id });
            true
        });
        hold
    }

    fn request(&self) {
        self.0.send_modify(|state| state.requested = true);
    }

    /// Gives SIGINT to the work that catches it; false if there is none.
    fn catch(&self) -> bool {
        self.0.send_if_modified(|state| {
            state.caught |= state.catching;
            state.catching
        })
    }

    fn set_catching(&self, catching: bool) {
        self.0.send_modify(|state| (state.catching, state.caught) = (catching, false));
    }

    /// Ends with the work, or when SIGINT comes before.
    async fn catching<T>(&'static self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        let _catching = Catching::new(self);
        tokio::select! {
            value = work => Ok(value),
            () = self.until(|state| state.caught) => Err(Interrupted),
        }
    }

    fn is_requested(&self) -> bool {
        self.0.borrow().requested
    }

    async fn requested(&self) {
        self.until(|state| state.requested).await;
    }

    async fn nothing_held(&self) {
        self.until(|state| state.held.is_empty()).await;
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // The sender lives as long as the process, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(condition).await;
    }

    fn release(&self, id: u64) {
        self.0.send_modify(|state| state.held.retain(|held| held.id != id));
    }

    /// Marks the store as being removed; false if someone else removes it.
    fn claim(&self, id: u64) -> bool {
        self.0.send_if_modified(|state| match state.get_mut(id) {
            Some(held) if held.phase == Phase::Idle => {
                held.phase = Phase::Changing;
                true
            }
            _ => false,
        })
    }

    fn idle_stores(&self) -> Vec<(u64, HeldStore)> {
        let state = self.0.borrow();
        let idle = state.held.iter().filter(|held| held.phase == Phase::Idle);
        idle.filter_map(|held| Some((held.id, held.store.clone()?))).collect()
    }

    fn names(&self) -> Vec<String> {
        let state = self.0.borrow();
        state.held.iter().filter_map(|held| held.store.as_ref()).map(ToString::to_string).collect()
    }

    /// Waits until nothing is held, and sees to it: after a time without reaction, the stores that the
    /// command works on are removed from here.
    async fn settle(&self, reaction: Duration) {
        if timeout(reaction, self.nothing_held()).await.is_ok() {
            return;
        }
        for (id, store) in self.idle_stores().into_iter().filter(|(id, _)| self.claim(*id)) {
            // A log line could wait for the very reader that the command waits for.
            let removal = store.server.remove_scratch(&store.name).with_subscriber(NoSubscriber::default());
            if let Err(error) = removal.await {
                say(format!("{store} is left behind: {error}")).await;
            }
            self.release(id);
        }
        self.nothing_held().await;
    }
}

/// Some work that SIGINT ends, until it is dropped.
struct Catching(&'static Registry);

impl Catching {
    fn new(registry: &'static Registry) -> Self {
        registry.set_catching(true);
        Self(registry)
    }
}

impl Drop for Catching {
    fn drop(&mut self) {
        self.0.set_catching(false);
    }
}

/// Writes to standard error, if that is possible: nobody may be reading it.
async fn say(message: String) {
    let _ = timeout(LAST_WORDS, tokio::task::spawn_blocking(|| report::problem(message))).await;
}

impl fmt::Display for HeldStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.server.backend())
    }
}

impl Hold {
    /// Says that the store has been created, and can be removed when a signal comes.
    pub fn created(&self) {
        self.registry.0.send_modify(|state| {
            if let Some(held) = state.get_mut(self.id) {
                held.phase = Phase::Idle;
            }
        });
    }

    /// Says that the store is about to be removed; returns when the caller is the one to remove it. After
    /// a signal to which the command did not react in time that is never: the process is about to end.
    pub async fn removing(&self) {
        if !self.registry.claim(self.id) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.registry.release(self.id);
    }
}

/// Handles the signals from here on.
///
/// # Errors
///
/// Those of the operating system, which then ends the process itself when a signal comes.
pub fn install() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The handlers are in place when this returns, before the thread has begun to run.
    let signals = runtime.block_on(async { Signals::new() })?;
    let watch = move || runtime.block_on(end_on(signals));
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

/// Keeps the first signal from ending the process: for a command that ends by itself when one is
/// [`requested`], with results to write.
pub fn hold() -> Result<Hold, Interrupted> {
    REGISTRY.hold(None)
}

/// The same for a scratch store that is about to be created.
pub fn hold_store(store: HeldStore) -> Result<Hold, Interrupted> {
    REGISTRY.hold(Some(store))
}

/// Work that SIGINT ends while the command goes on: a statement of a shell. The other signals end the command.
pub async fn catching<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    REGISTRY.catching(work).await
}

/// Whether a signal has come.
pub fn is_requested() -> bool {
    REGISTRY.is_requested()
}

/// Returns when a signal comes, at once if one has come before.
pub async fn requested() {
    REGISTRY.requested().await;
}

/// Ends the process when signals come.
async fn end_on(mut signals: Signals) {
    while signals.next().await == Kind::Interrupt && REGISTRY.catch() {}
    REGISTRY.request();
    tokio::select! {
        () = REGISTRY.settle(REACTION) => {}
        () = signals.insist(Instant::now()) => {
            let names = REGISTRY.names();
            if !names.is_empty() {
                say(format!("interrupted again; left behind: {}", names.join(", "))).await;
            }
        }
    }
    exit(EXIT_CODE.into());
}

#[derive(PartialEq, Eq)]
enum Kind {
    Interrupt,
    Other,
}

/// The signals that end a command.
struct Signals {
    #[cfg(unix)]
    streams: Vec<Signal>,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        Ok(Self { streams: kinds.into_iter().map(signal).collect::<io::Result<_>>()? })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Kind {
        let signals = self.streams.iter_mut().map(|stream| Box::pin(stream.recv()));
        // The stream of SIGINT is the first.
        match futures::future::select_all(signals).await {
            (_, 0, _) => Kind::Interrupt,
            _ => Kind::Other,
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Kind {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the signal ends the process by itself.
            std::future::pending::<()>().await;
        }
        Kind::Interrupt
    }

    /// Returns when a signal comes that is no repetition of the one that came at `first`.
    async fn insist(&mut self, first: Instant) {
        loop {
            self.next().await;
            if first.elapsed() >= REPETITION {
                return;
            }
        }
    }
}

/// Whether the caller has SIGHUP ignored, as nohup(1) does: the command is to outlive its terminal.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    // Only Linux says so without unsafe code; elsewhere SIGHUP ends the command.
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    bits >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> &'static Registry {
        Box::leak(Box::new(Registry::new()))
    }

    fn store(name: &str) -> Option<HeldStore> {
        Some(HeldStore { name: name.to_owned(), server: "memory".parse().unwrap() })
    }

    #[test]
    fn after_a_signal_nothing_new_is_held() {
        let registry = registry();
        let before = registry.hold(None).unwrap();
        registry.request();
        assert!(registry.is_requested());
        assert_eq!(registry.hold(None).unwrap_err(), Interrupted);
        assert_eq!(registry.0.borrow().held.len(), 1);
        drop(before);
        assert!(registry.0.borrow().held.is_empty());
    }

    #[tokio::test]
    async fn an_interrupt_ends_the_work_that_catches_it_and_no_other() {
        let registry = registry();
        assert!(!registry.catch());
        let work = registry.catching(async {
            assert!(registry.catch());
            std::future::pending::<()>().await;
        });
        assert_eq!(work.await, Err(Interrupted));
        assert_eq!(registry.catching(async { 1 }).await, Ok(1));
        assert!(!registry.catch() && !registry.is_requested());
    }

    #[tokio::test]
    async fn a_signal_that_came_before_is_not_lost() {
        let registry = registry();
        registry.request();
        registry.requested().await;
        registry.nothing_held().await;
    }

    #[test]
    fn a_store_is_removed_once_and_not_while_it_is_created() {
        let registry = registry();
        let hold = registry.hold(store("s")).unwrap();
        assert!(!registry.claim(hold.id));
        hold.created();
        assert!(registry.claim(hold.id));
        assert!(!registry.claim(hold.id));
        assert_eq!(registry.names(), ["s on memory"]);
    }

    #[tokio::test]
    async fn stores_are_removed_over_the_head_of_a_command_that_does_not_react() {
        let registry = registry();
        let hold = registry.hold(store("s")).unwrap();
        hold.created();
        registry.request();
        registry.settle(Duration::ZERO).await;
        assert!(registry.names().is_empty());
        assert!(timeout(Duration::ZERO, hold.removing()).await.is_err());
    }

    #[cfg(unix)]
    #[test]
    fn nohup_is_respected() {
        assert!(ignores_hangup("Name:\tbroadside\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
