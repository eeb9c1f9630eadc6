//! The settings of the terminal, which the line editor changes while it reads.
//!
//! The editor restores them when it returns. If a signal ends the process before that, they must be restored here,
//! because otherwise the user's shell would have a terminal without echo.

#[cfg(unix)]
use std::sync::OnceLock;

#[cfg(unix)]
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The settings before the first use of the line editor.
#[cfg(unix)]
static SAVED: OnceLock<Termios> = OnceLock::new();

/// Saves the settings of the terminal on standard input, if there is one.
#[cfg(unix)]
pub fn save() {
    if let Ok(settings) = tcgetattr(std::io::stdin()) {
        SAVED.get_or_init(|| settings);
    }
}

/// Restores the saved settings, if there are any.
#[cfg(unix)]
pub fn restore() {
    if let Some(settings) = SAVED.get() {
        // The terminal may have been closed.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
    }
}

/// Does nothing: the consoles of other systems restore their settings.
#[cfg(not(unix))]
pub fn save() {}

/// Does nothing: the consoles of other systems restore their settings.
#[cfg(not(unix))]
pub fn restore() {}
