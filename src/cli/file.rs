//! Reading and writing of files, with errors that contain the path.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that cannot be read or written, or has invalid content.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    path: PathBuf,
    problem: String,
}

impl FileError {
    /// An error with the path of the file.
    pub fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|error| FileError::new(path, error))
}

/// Replaces a file atomically.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    replace(path, |temporary| fs::write(temporary, text))
}

/// Replaces a file atomically by a content that is on the disk when the function returns.
pub fn write_synced(path: &Path, text: &str) -> Result<(), FileError> {
    replace(path, |temporary| {
        let mut file = fs::File::create(temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
}

fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), FileError> {
    let temporary = temporary(path);
    let written = write(&temporary).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        fs::remove_file(&temporary).ok();
        FileError::new(path, error)
    })
}

/// The path of the temporary file that [`replace`] renames, in the same directory.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}
