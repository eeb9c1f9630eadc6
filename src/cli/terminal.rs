//! The settings of the terminal, which a line editor changes while it reads.
//!
//! The editor restores them when it returns. A signal that ends the process meanwhile must do it too: otherwise the
//! user's shell would get a terminal without echo.

#[cfg(unix)]
use std::sync::OnceLock;

#[cfg(unix)]
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The settings before the first line editor.
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
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
    }
}

/// Does nothing: consoles of other systems reset themselves.
#[cfg(not(unix))]
pub fn save() {}

/// Does nothing: consoles of other systems reset themselves.
#[cfg(not(unix))]
pub fn restore() {}
