//! Handling of SIGINT, SIGTERM and SIGHUP: commands exit with 130 and remove their scratch stores.
//!
//! The first signal ends the process immediately unless the command has a [`Guard`], which represents
//! a scratch store to remove or results to write. In that case [`requested`] notifies the command, and
//! the process ends when the last guard is dropped. A second signal ends the process immediately and
//! prints the names of the remaining stores.
//!
//! The signals are handled by a separate thread, so that they take effect while the command computes,
//! reads standard input, or writes to a full pipe. Handlers are installed even if there is no guard,
//! because process 1 of a container has no default action for signals.

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

use super::{messages, terminal};

/// The exit code of an interrupted command: 128 + SIGINT, as shells report it.
pub const EXIT_CODE: u8 = 130;

/// A signal within this time after the first one is ignored: timeout(1), and shells whose terminal
/// closes, send each signal twice.
const REPEAT_WINDOW: Duration = Duration::from_millis(250);
/// The time that a command has to remove its stores after a signal. Then the signal thread removes them.
const GRACE_PERIOD: Duration = Duration::from_secs(2);
/// The timeout of writing a message to standard error.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// A signal has been received: the command must end and cannot create guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// A scratch store on a server.
#[derive(Debug, Clone)]
pub struct GuardedStore {
    /// The name of its schema or database.
    pub name: String,
    /// The configuration of its server.
    pub server: DatabaseConfig,
}

/// The state of a guarded scratch store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The store is being created or removed.
    Changing,
    /// The store exists and can be removed.
    Idle,
}

#[derive(Debug)]
struct Registration {
    id: u64,
    store: Option<GuardedStore>,
    phase: Phase,
}

/// The received signals and the current guards.
#[derive(Debug, Default)]
struct State {
    /// A signal has requested the end of the command.
    requested: bool,
    /// SIGINT cancels an operation instead of the command.
    cancellable: bool,
    /// SIGINT has cancelled the operation.
    cancelled: bool,
    registrations: Vec<Registration>,
    last_id: u64,
}

impl State {
    fn get_mut(&mut self, id: u64) -> Option<&mut Registration> {
        self.registrations.iter_mut().find(|registration| registration.id == id)
    }
}

/// The state of this process.
#[derive(Debug)]
struct Registry(watch::Sender<State>);

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Delays the end of the process after the first signal until it is dropped.
#[derive(Debug)]
pub struct Guard {
    registry: &'static Registry,
    id: u64,
}

impl Registry {
    fn new() -> Self {
        Self(watch::Sender::default())
    }

    fn guard(&'static self, store: Option<GuardedStore>) -> Result<Guard, Interrupted> {
        let mut guard = Err(Interrupted);
        self.0.send_if_modified(|state| {
            if state.requested {
                return false;
            }
            state.last_id += 1;
            let id = state.last_id;
            state.registrations.push(Registration { id, store, phase: Phase::Changing });
            guard = Ok(Guard { registry: self, id });
            true
        });
        guard
    }

    fn request(&self) {
        self.0.send_modify(|state| state.requested = true);
    }

    /// Cancels the current cancellable operation. Returns false if there is none.
    fn cancel(&self) -> bool {
        self.0.send_if_modified(|state| {
            state.cancelled |= state.cancellable;
            state.cancellable
        })
    }

    fn set_cancellable(&self, cancellable: bool) {
        self.0.send_modify(|state| (state.cancellable, state.cancelled) = (cancellable, false));
    }

    /// Runs the operation until it completes or SIGINT cancels it.
    async fn cancellable<T>(&'static self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        let _scope = CancellableScope::new(self);
        tokio::select! {
            value = work => Ok(value),
            () = self.until(|state| state.cancelled) => Err(Interrupted),
        }
    }

    fn is_requested(&self) -> bool {
        self.0.borrow().requested
    }

    async fn requested(&self) {
        self.until(|state| state.requested).await;
    }

    async fn all_released(&self) {
        self.until(|state| state.registrations.is_empty()).await;
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        // Waiting cannot fail: the sender exists until the process ends.
        let _ = self.0.subscribe().wait_for(condition).await;
    }

    fn release(&self, id: u64) {
        self.0.send_modify(|state| state.registrations.retain(|registration| registration.id != id));
    }

    /// Marks the store as being removed. Returns false if it is already being created or removed.
    fn claim(&self, id: u64) -> bool {
        self.0.send_if_modified(|state| match state.get_mut(id) {
            Some(registration) if registration.phase == Phase::Idle => {
                registration.phase = Phase::Changing;
                true
            }
            _ => false,
        })
    }

    fn idle_stores(&self) -> Vec<(u64, GuardedStore)> {
        let state = self.0.borrow();
        let idle = state.registrations.iter().filter(|registration| registration.phase == Phase::Idle);
        idle.filter_map(|registration| Some((registration.id, registration.store.clone()?))).collect()
    }

    fn names(&self) -> Vec<String> {
        let state = self.0.borrow();
        state
            .registrations
            .iter()
            .filter_map(|registration| registration.store.as_ref())
            .map(ToString::to_string)
            .collect()
    }

    /// Waits until all guards are dropped. After the grace period it removes the idle stores itself.
    async fn clean_up(&self, grace_period: Duration) {
        if timeout(grace_period, self.all_released()).await.is_ok() {
            return;
        }
        for (id, store) in self.idle_stores().into_iter().filter(|(id, _)| self.claim(*id)) {
            // Logging could block on the full pipe that blocks the command.
            let removal = store.server.remove_scratch(&store.name).with_subscriber(NoSubscriber::default());
            if let Err(error) = removal.await {
                write_message(format!("{store} is left behind: {error}")).await;
            }
            self.release(id);
        }
        self.all_released().await;
    }
}

/// The scope of a cancellable operation.
struct CancellableScope(&'static Registry);

impl CancellableScope {
    fn new(registry: &'static Registry) -> Self {
        registry.set_cancellable(true);
        Self(registry)
    }
}

impl Drop for CancellableScope {
    fn drop(&mut self) {
        self.0.set_cancellable(false);
    }
}

/// Writes to standard error with a timeout, because the pipe may be full.
async fn write_message(message: String) {
    let _ = timeout(MESSAGE_TIMEOUT, tokio::task::spawn_blocking(|| messages::problem(message))).await;
}

impl fmt::Display for GuardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.server.backend())
    }
}

impl Guard {
    /// Marks the store as created, so that a signal can remove it.
    pub fn created(&self) {
        self.registry.0.send_modify(|state| {
            if let Some(registration) = state.get_mut(self.id) {
                registration.phase = Phase::Idle;
            }
        });
    }

    /// Marks the store as being removed and returns. Never returns if the signal thread is removing the store
    /// after the grace period: the process is about to end.
    pub async fn removing(&self) {
        if !self.registry.claim(self.id) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.release(self.id);
    }
}

/// Installs the signal handlers and starts the signal thread.
///
/// # Errors
///
/// Errors of the operating system. The default actions of the signals then remain in effect.
pub fn install() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The handlers must be installed before this function returns.
    let signals = runtime.block_on(async { Signals::new() })?;
    let watch = move || runtime.block_on(end_on(signals));
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

/// Guards a command that writes results after it is [`requested`] to end.
pub fn guard() -> Result<Guard, Interrupted> {
    REGISTRY.guard(None)
}

/// Guards a scratch store that is about to be created.
pub fn guard_store(store: GuardedStore) -> Result<Guard, Interrupted> {
    REGISTRY.guard(Some(store))
}

/// Runs an operation that SIGINT cancels without ending the command, such as a statement of the SQL shell. The
/// other signals end the command.
pub async fn cancellable<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    REGISTRY.cancellable(work).await
}

/// Returns true if a signal has requested the end of the command.
pub fn is_requested() -> bool {
    REGISTRY.is_requested()
}

/// Returns when a signal has requested the end of the command.
pub async fn requested() {
    REGISTRY.requested().await;
}

/// Waits for signals and ends the process.
async fn end_on(mut signals: Signals) {
    while signals.next().await == Kind::Interrupt && REGISTRY.cancel() {}
    REGISTRY.request();
    tokio::select! {
        () = REGISTRY.clean_up(GRACE_PERIOD) => {}
        () = signals.second(Instant::now()) => {
            let names = REGISTRY.names();
            if !names.is_empty() {
                write_message(format!("interrupted again; left behind: {}", names.join(", "))).await;
            }
        }
    }
    terminal::restore();
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
            // Without a handler the default action ends the process.
            std::future::pending::<()>().await;
        }
        Kind::Interrupt
    }

    /// Returns on the next signal that is not a repetition of the one received at `first`.
    async fn second(&mut self, first: Instant) {
        loop {
            self.next().await;
            if first.elapsed() >= REPEAT_WINDOW {
                return;
            }
        }
    }
}

/// Returns true if the process was started with SIGHUP ignored, as by nohup(1).
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    // Only Linux provides this without unsafe code. On other systems SIGHUP ends the command.
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

    fn store(name: &str) -> Option<GuardedStore> {
        Some(GuardedStore { name: name.to_owned(), server: "memory".parse().unwrap() })
    }

    #[test]
    fn no_guard_is_created_after_a_signal() {
        let registry = registry();
        let before = registry.guard(None).unwrap();
        registry.request();
        assert!(registry.is_requested());
        assert_eq!(registry.guard(None).unwrap_err(), Interrupted);
        assert_eq!(registry.0.borrow().registrations.len(), 1);
        drop(before);
        assert!(registry.0.borrow().registrations.is_empty());
    }

    #[tokio::test]
    async fn sigint_cancels_only_the_current_operation() {
        let registry = registry();
        assert!(!registry.cancel());
        let work = registry.cancellable(async {
            assert!(registry.cancel());
            std::future::pending::<()>().await;
        });
        assert_eq!(work.await, Err(Interrupted));
        assert_eq!(registry.cancellable(async { 1 }).await, Ok(1));
        assert!(!registry.cancel() && !registry.is_requested());
    }

    #[tokio::test]
    async fn a_signal_received_before_waiting_is_not_lost() {
        let registry = registry();
        registry.request();
        registry.requested().await;
        registry.all_released().await;
    }

    #[test]
    fn a_store_is_removed_once_and_not_during_its_creation() {
        let registry = registry();
        let guard = registry.guard(store("s")).unwrap();
        assert!(!registry.claim(guard.id));
        guard.created();
        assert!(registry.claim(guard.id));
        assert!(!registry.claim(guard.id));
        assert_eq!(registry.names(), ["s on memory"]);
    }

    #[tokio::test]
    async fn idle_stores_are_removed_after_the_grace_period() {
        let registry = registry();
        let guard = registry.guard(store("s")).unwrap();
        guard.created();
        registry.request();
        registry.clean_up(Duration::ZERO).await;
        assert!(registry.names().is_empty());
        assert!(timeout(Duration::ZERO, guard.removing()).await.is_err());
    }

    #[cfg(unix)]
    #[test]
    fn nohup_keeps_sighup_ignored() {
        assert!(ignores_hangup("Name:\tbroadside\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
