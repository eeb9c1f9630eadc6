//! Progress bars on a terminal.

use std::borrow::Cow;
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{msg:24} {bar:40} {human_pos:>9}/{human_len} {elapsed:>5} ({eta} left)";

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A progress bar with a message and a number of steps.
pub fn bar(message: impl Into<Cow<'static, str>>, steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(steps).with_style(style).with_message(message))
}

/// A spinner with a message, which may have several lines.
pub fn lines() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    BARS.add(ProgressBar::new_spinner().with_style(style))
}

/// Hides the progress bars while `write` writes to standard error.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}
