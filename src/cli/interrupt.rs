//! Handling of SIGINT, SIGTERM and SIGHUP: commands exit with 130 and remove their scratch stores.
//!
//! The first signal ends the process immediately unless the command has a [`Guard`], which represents
//! a scratch store to remove or results to write. In that case [`requested`] notifies the command, and
//! the process ends when the last guard is dropped. A second signal ends the process immediately and
//! prints the names of the remaining stores, which `broadside clean` removes.
//!
//! The signals are handled by a separate thread, so that they take effect while the command computes or
//! reads standard input. Handlers are installed even if there is no guard, because process 1 of a container
//! has no default action for signals.

use std::io;
use std::process::exit;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use broadside::BackendKind;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{messages, terminal};

/// The exit code of an interrupted command: 128 + SIGINT, as shells report it.
pub const EXIT_CODE: u8 = 130;

/// A signal within this time after the first one is ignored: timeout(1), and shells whose terminal
/// closes, send each signal twice.
const REPEAT_WINDOW: Duration = Duration::from_millis(250);
/// The timeout of writing a message to standard error, which may be a full pipe.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// A signal has been received: the command must end and cannot create guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// The received signals and the current guards.
#[derive(Debug, Default)]
struct State {
    /// A signal has requested the end of the command.
    requested: bool,
    /// SIGINT cancels an operation instead of the command.
    cancellable: bool,
    /// SIGINT has cancelled the operation.
    cancelled: bool,
    /// What each guard protects: a store by its name and backend, or `None` for results.
    guarded: Vec<Option<String>>,
}

static STATE: LazyLock<watch::Sender<State>> = LazyLock::new(watch::Sender::default);

/// Delays the end of the process after the first signal until it is dropped.
#[derive(Debug)]
pub struct Guard(Option<String>);

impl State {
    /// Adds a guard. Returns false after a signal.
    fn add(&mut self, guarded: &Option<String>) -> bool {
        if !self.requested {
            self.guarded.push(guarded.clone());
        }
        !self.requested
    }

    fn remove(&mut self, guarded: &Option<String>) {
        let at = self.guarded.iter().position(|other| other == guarded);
        at.map(|at| self.guarded.swap_remove(at));
    }
}

impl Guard {
    fn new(guarded: Option<String>) -> Result<Self, Interrupted> {
        if STATE.send_if_modified(|state| state.add(&guarded)) { Ok(Self(guarded)) } else { Err(Interrupted) }
    }

    /// Guards a command that writes results after it is [`requested`] to end.
    pub fn of_results() -> Result<Self, Interrupted> {
        Self::new(None)
    }

    /// Guards a scratch store of a unique name. A guard from before the creation to the end of the removal covers
    /// requests that the server executes after its client has gone.
    pub fn of_store(name: &str, backend: BackendKind) -> Result<Self, Interrupted> {
        Self::new(Some(format!("{name} on {backend}")))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        STATE.send_modify(|state| state.remove(&self.0));
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
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(watch);
    thread.map(drop).map_err(|error| io::Error::new(error.kind(), format!("the signal thread cannot start: {error}")))
}

/// Runs an operation that SIGINT cancels without ending the command, such as a statement of the SQL shell. The
/// other signals end the command.
pub async fn cancellable<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let set_cancellable = |cancellable| {
        STATE.send_modify(|state| (state.cancellable, state.cancelled) = (cancellable, false));
    };
    set_cancellable(true);
    let outcome = tokio::select! {
        value = work => Ok(value),
        () = until(|state| state.cancelled) => Err(Interrupted),
    };
    set_cancellable(false);
    outcome
}

/// Returns true if a signal has requested the end of the command.
pub fn is_requested() -> bool {
    STATE.borrow().requested
}

/// Returns when a signal has requested the end of the command.
pub async fn requested() {
    until(|state| state.requested).await;
}

async fn until(condition: impl FnMut(&State) -> bool) {
    // Waiting cannot fail: the sender exists until the process ends.
    let _ = STATE.subscribe().wait_for(condition).await;
}

/// Waits for signals and ends the process.
async fn end_on(mut signals: Signals) {
    while signals.next_is_interrupt().await && cancel() {}
    STATE.send_modify(|state| state.requested = true);
    tokio::select! {
        () = until(|state| state.guarded.is_empty()) => {}
        () = signals.second(Instant::now()) => report_remaining().await,
    }
    terminal::restore();
    exit(EXIT_CODE.into());
}

/// Cancels the current cancellable operation. Returns false if there is none.
fn cancel() -> bool {
    STATE.send_if_modified(|state| {
        state.cancelled |= state.cancellable;
        state.cancellable
    })
}

/// Prints the names of the stores that remain.
async fn report_remaining() {
    let names: Vec<_> = STATE.borrow().guarded.iter().flatten().cloned().collect();
    if !names.is_empty() {
        let message = format!("interrupted again; left behind: {}", names.join(", "));
        let _ = timeout(MESSAGE_TIMEOUT, tokio::task::spawn_blocking(|| messages::problem(message))).await;
    }
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
    async fn next_is_interrupt(&mut self) -> bool {
        let signals = self.streams.iter_mut().map(|stream| Box::pin(stream.recv()));
        let (_, index, _) = futures::future::select_all(signals).await;
        // The stream of SIGINT is the first.
        index == 0
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next_is_interrupt(&mut self) -> bool {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the default action ends the process.
            std::future::pending::<()>().await;
        }
        true
    }

    /// Returns on the next signal that is not a repetition of the one received at `first`.
    async fn second(&mut self, first: Instant) {
        loop {
            self.next_is_interrupt().await;
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

    #[test]
    fn no_guard_is_created_after_a_signal() {
        let mut state = State::default();
        let (store, results) = (Some("s".to_owned()), None);
        assert!(state.add(&store) && state.add(&results));
        state.requested = true;
        assert!(!state.add(&store));
        state.remove(&results);
        assert_eq!(state.guarded, [Some("s".to_owned())]);
        state.remove(&store);
        assert_eq!(state.guarded, [None; 0]);
    }

    #[tokio::test]
    async fn sigint_cancels_only_the_current_operation() {
        assert!(!cancel());
        let work = cancellable(async {
            assert!(cancel());
            std::future::pending::<()>().await;
        });
        assert_eq!(work.await, Err(Interrupted));
        assert_eq!(cancellable(async { 1 }).await, Ok(1));
        assert!(!cancel() && !is_requested());
    }

    #[cfg(unix)]
    #[test]
    fn nohup_keeps_sighup_ignored() {
        assert!(ignores_hangup("Name:\tbroadside\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
