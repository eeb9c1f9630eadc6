//! Progress bars, which show on a terminal alone, and what is written to standard error between them.

use std::borrow::Cow;
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{msg:24} {bar:40} {human_pos:>9}/{human_len} {elapsed:>5} ({eta} left)";

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar for so many steps of some work.
pub fn bar(work: impl Into<Cow<'static, str>>, steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(steps).with_style(style).with_message(work))
}

/// Lines that a message replaces again and again.
pub fn lines() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    BARS.add(ProgressBar::new_spinner().with_style(style))
}

/// Writes to standard error while no bar is there, so that neither garbles the other.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}
