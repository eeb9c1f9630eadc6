//! Questions on the terminal, and its settings, which the line editor changes while it reads.
//!
//! The editor restores the settings when it returns. If a signal ends the process before that, they must be restored
//! here, because otherwise the user's shell would have a terminal without echo.

use std::io::{self, IsTerminal, Write};
#[cfg(unix)]
use std::sync::OnceLock;

#[cfg(unix)]
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Asks a question on the terminal. `None` if standard input is not a terminal.
pub fn confirm(question: &str) -> io::Result<Option<bool>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
}

/// The number of columns of the terminal on standard output; `None` if it is not a terminal.
pub fn columns() -> Option<usize> {
    #[cfg(unix)]
    return tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col.into()).filter(|&columns| columns > 0);
    #[cfg(not(unix))]
    None
}

/// The settings before the first use of the line editor.
#[cfg(unix)]
static SAVED: OnceLock<Termios> = OnceLock::new();

/// Saves the settings of the terminal on standard input, if there is one.
#[cfg(unix)]
pub fn save() {
    if let Ok(settings) = tcgetattr(io::stdin()) {
        SAVED.get_or_init(|| settings);
    }
}

/// Restores the saved settings, if there are any.
#[cfg(unix)]
pub fn restore() {
    if let Some(settings) = SAVED.get() {
        // The terminal may have been closed.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
    }
}

/// Does nothing: the consoles of other systems restore their settings.
#[cfg(not(unix))]
pub fn save() {}

/// Does nothing: the consoles of other systems restore their settings.
#[cfg(not(unix))]
pub fn restore() {}
