//! Progress bars, which show on a terminal alone.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{msg:24} {bar:40} {human_pos:>9}/{human_len} {elapsed:>5} ({eta} left)";

/// A bar for so many steps of some work.
pub fn bar(work: impl Into<Cow<'static, str>>, steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style).with_message(work)
}
