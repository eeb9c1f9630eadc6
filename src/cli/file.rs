//! Files, with errors that name them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that cannot be read or written, or does not hold what it should.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    problem: String,
}

impl FileError {
    /// What is wrong with a file.
    pub fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for FileError {}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|error| FileError::new(path, error))
}

/// Writes a file in place of the one before, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let temporary = temporary(path);
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        fs::remove_file(&temporary).ok();
        FileError::new(path, error)
    })
}

/// The file beside another that becomes it when it is whole.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}
