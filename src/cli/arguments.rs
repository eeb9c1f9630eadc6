//! Arguments that may hold a password: addresses, and whatever a mistake of quoting turned one into.

use std::fmt;

use broadside::DatabaseConfig;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The name or the address of a backend. It is kept as text, for clap shows a value that it cannot parse.
#[derive(Clone)]
pub struct Address(String);

impl Address {
    /// The configuration that it stands for.
    pub fn config(&self) -> broadside::Result<DatabaseConfig> {
        self.0.parse()
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

/// The arguments of the process; ends it with the usage if they are wrong.
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| quoting_nothing(error).exit())
}

/// The error without what was typed. An address with a blank in it, typed without quotes, is several arguments,
/// and any of them may be the password; the names of arguments and the values that they take are not secret.
fn quoting_nothing(mut error: clap::Error) -> clap::Error {
    const TYPED: [ContextKind; 3] =
        [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::TrailingArg];
    let mut hide = |context: ContextKind, value: ContextValue| {
        if error.get(context).is_some() {
            error.insert(context, value);
        }
    };
    let hidden = || ContextValue::String("…".to_owned());
    TYPED.into_iter().for_each(|context| hide(context, hidden()));
    // Advice that repeats the argument.
    hide(ContextKind::Suggested, ContextValue::None);
    if error.kind() == ErrorKind::UnknownArgument {
        error.insert(ContextKind::InvalidArg, hidden());
    }
    error
}
