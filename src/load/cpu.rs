//! The CPU time of the load driver, which Linux provides.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The duration of the kernel's unit of CPU time: `USER_HZ` is 100 on all architectures of Linux that Rust supports.
const TICK: Duration = Duration::from_millis(10);

/// The thread of the load generator.
#[derive(Debug, Clone, Default)]
pub(super) struct GeneratorThread(Arc<Thread>);

#[derive(Debug, Default)]
struct Thread {
    directory: OnceLock<PathBuf>,
    /// The time of polling the clock, in microseconds.
    polled: AtomicU64,
}

impl GeneratorThread {
    /// Makes the current thread that of the generator.
    pub(super) fn enter(&self) {
        if let Ok(thread) = std::fs::read_link("/proc/thread-self") {
            // A generator has one thread.
            let _ = self.0.directory.set(Path::new("/proc").join(thread));
        }
    }

    /// Adds time in which the thread polled the clock and had no other work.
    pub(super) fn add_polled(&self, time: Duration) {
        self.0.polled.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// The CPU time of the thread without that of polling; `None` before it starts and after it ends.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let polled = Duration::from_micros(self.0.polled.load(Ordering::Relaxed));
        Some(cpu_time(self.0.directory.get()?)?.saturating_sub(polled))
    }

    /// The time that the thread was ready to run and had no core.
    pub(super) fn wait_time(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.0.directory.get()?.join("schedstat")).ok()?;
        Some(Duration::from_nanos(text.split(' ').nth(1)?.parse().ok()?))
    }
}

/// The CPU time of this process.
pub(super) fn process_cpu_time() -> Option<Duration> {
    cpu_time(Path::new("/proc/self"))
}

fn cpu_time(directory: &Path) -> Option<Duration> {
    parse(&std::fs::read_to_string(directory.join("stat")).ok()?)
}

/// The time in user and kernel mode: the fields 14 and 15. The second field is a name in parentheses, which may contain
/// spaces and parentheses.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(14 - 3);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_contain_anything() {
        let stat = "71 (a) S 9 (b) R 1 71 71 0 -1 4194304 95 0 0 0 250 50 7 8 20 0 1 0 5 9 3";
        assert_eq!(parse(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse("71 (a) R 1 71"), None);
    }

    /// The nanoseconds on a CPU by the scheduler's own account.
    #[cfg(target_os = "linux")]
    fn scheduled() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_a_thread_is_that_of_the_scheduler() {
        let thread = GeneratorThread::default();
        assert_eq!(thread.cpu_time(), None);
        thread.enter();
        let (before, process_before, scheduled_before) =
            (thread.cpu_time().unwrap(), process_cpu_time().unwrap(), scheduled());
        while scheduled() < scheduled_before + Duration::from_millis(200) {
            std::hint::black_box((0..10_000u64).sum::<u64>());
        }
        let (used, scheduled) = (thread.cpu_time().unwrap() - before, scheduled() - scheduled_before);
        assert!(used.abs_diff(scheduled) <= 4 * TICK, "{used:?}, {scheduled:?}");
        assert!(process_cpu_time().unwrap() - process_before >= used - 2 * TICK);
        let before = thread.cpu_time().unwrap();
        thread.add_polled(Duration::from_millis(150));
        assert!(thread.cpu_time().unwrap() < before);
        let other = thread.clone();
        std::thread::spawn(move || other.enter()).join().unwrap();
        assert!(thread.cpu_time().is_some(), "the first thread is kept");
    }
}
