//! Arguments that may contain a password: addresses, and parts of an address that was not quoted.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use broadside::exchange::Endpoint;
use broadside::{DatabaseConfig, Error, Operation, SystemClock};
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The name or the address of a backend, unparsed: clap prints values that it cannot parse.
#[derive(Clone)]
pub struct Address(String);

impl Address {
    /// Parses the address.
    pub fn config(&self) -> broadside::Result<DatabaseConfig> {
        self.0.parse()
    }

    /// Parses the address of a store or of a folder of Parquet files.
    pub fn endpoint(&self) -> broadside::Result<EndpointConfig> {
        match self.0.strip_prefix("parquet:") {
            // Errors show the path, and a URL may have a password.
            Some(path) if path.contains("://") || (path.contains('=') && path.contains(' ')) => {
                Err(Error::invalid(Operation::Connect, "parquet: is followed by a path, not by another address"))
            }
            Some(path) => Ok(EndpointConfig::Folder(path.into())),
            None => self.config().map(EndpointConfig::Store),
        }
    }
}

/// A store or a folder of Parquet files that is not open yet.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a command has few addresses")]
pub enum EndpointConfig {
    Store(DatabaseConfig),
    Folder(PathBuf),
}

impl EndpointConfig {
    /// Opens the store. A folder is opened by its first export.
    pub async fn open(&self) -> broadside::Result<Endpoint> {
        Ok(match self {
            Self::Store(config) => Endpoint::Store(config.connect(Arc::new(SystemClock)).await?),
            Self::Folder(path) => Endpoint::Folder(path.clone()),
        })
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

/// Parses the arguments of the process. Prints the usage and exits if they are invalid.
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| redacted(error).exit())
}

/// Removes the user's input from an error. An unquoted address that contains a space is split into several
/// arguments, any of which may be the password. Argument names and possible values are kept.
fn redacted(mut error: clap::Error) -> clap::Error {
    const USER_INPUT: [ContextKind; 3] =
        [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::TrailingArg];
    let mut hide = |context: ContextKind, value: ContextValue| {
        if error.get(context).is_some() {
            error.insert(context, value);
        }
    };
    let hidden = || ContextValue::String("…".to_owned());
    USER_INPUT.into_iter().for_each(|context| hide(context, hidden()));
    // Suggestions repeat the argument.
    hide(ContextKind::Suggested, ContextValue::None);
    if error.kind() == ErrorKind::UnknownArgument {
        error.insert(ContextKind::InvalidArg, hidden());
    }
    error
}
