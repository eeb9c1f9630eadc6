//! The files of a run: the result file of Armada's Broadside, and the record, which grows while the test runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use broadside::Timestamp;
use broadside::load::RunRecord;
use broadside::load::record::SecondRecord;
use broadside::load::upstream::file_names;
use parking_lot::Mutex;

use crate::cli::file::{self, FileError};
use crate::cli::report;

/// The two files of a run. They are created before the load, so that a directory without access or space is an error
/// before a measurement that may take hours.
///
/// While the test runs, the record file has a line for each second, which a killed command leaves behind. Files without
/// content are removed when the value is dropped, together with the directories that were created for them.
pub struct Files {
    result: PathBuf,
    record: PathBuf,
    /// The directories that did not exist, the deepest first.
    directories: Vec<PathBuf>,
    journal: Mutex<Journal>,
}

struct Journal {
    file: File,
    /// The first error has been reported. Nothing is written after it.
    failed: bool,
}

impl Files {
    /// Creates the files in a directory, with names from the time of the start. If a file of that name exists, the names
    /// have a number.
    pub fn create(directory: &Path, started: Timestamp) -> Result<Self, FileError> {
        let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let directories = missing.map(Path::to_owned).collect();
        fs::create_dir_all(directory).map_err(|error| FileError::new(directory, error))?;
        for number in 1.. {
            let [result, record] = file_names(started).map(|name| directory.join(numbered(&name, number)));
            // The record is created first, so that of two commands with the same name only one continues.
            let file = match create_new(&record) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created.map_err(|error| FileError::new(&record, error))?,
            };
            let files = Self { result, record, directories, journal: Mutex::new(Journal { file, failed: false }) };
            if let Err(error) = create_new(&files.result) {
                return Err(FileError::new(&files.result, error));
            }
            return Ok(files);
        }
        unreachable!("the numbers do not end")
    }

    /// The paths of the result file and of the record.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.result, &self.record]
    }

    /// Begins the record of a load, without measurements.
    pub fn begin(&self, record: &RunRecord) {
        self.append(|file| {
            // A search for a rate begins a record for each trial.
            file.set_len(0)?;
            write_line(file, record)
        });
    }

    /// Appends the measurements of a second.
    pub fn append_second(&self, second: &SecondRecord) {
        self.append(|file| write_line(file, second));
    }

    fn append(&self, write: impl FnOnce(&mut File) -> io::Result<()>) {
        let Journal { file, failed } = &mut *self.journal.lock();
        if *failed {
            return;
        }
        if let Err(error) = write(file) {
            *failed = true;
            report::warning(FileError::new(&self.record, format!("{error}; the record is written at the end")));
        }
    }

    /// Replaces the content of both files.
    pub fn finish(&self, result: &str, record: &str) -> Result<(), FileError> {
        file::write_synced(&self.record, record)?;
        file::write_synced(&self.result, result)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.paths() {
            if fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
                fs::remove_file(path).ok();
            }
        }
        // Directories with other files are kept.
        self.directories.iter().take_while(|directory| fs::remove_dir(directory).is_ok()).for_each(drop);
    }
}

/// Opens a new file, whose writes are appended.
fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).open(path)
}

fn numbered(name: &str, number: u32) -> String {
    match name.strip_suffix(".json") {
        Some(stem) if number > 1 => format!("{stem}-{number}.json"),
        _ => name.to_owned(),
    }
}

fn write_line(file: &mut File, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}
