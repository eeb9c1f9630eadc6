//! The files of a run: the result file of Armada's Broadside, and the record, which grows while the test runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use broadside::Timestamp;
use broadside::load::RunRecord;
use broadside::load::record::SecondRecord;
use broadside::load::upstream::file_names;
use parking_lot::Mutex;
use serde::Serialize;

use crate::cli::file::{self, FileError};
use crate::cli::messages;

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
    /// The length of the complete lines of the file.
    length: u64,
    /// The lines that could not be written, for lack of space for example. They are written with the next one.
    pending: Vec<u8>,
    /// Whether an error has been reported.
    has_failed: bool,
}

impl Journal {
    /// Writes the pending lines. An error leaves the complete lines.
    fn write(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.pending) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
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
            let journal = Journal { file, length: 0, pending: Vec::new(), has_failed: false };
            let files = Self { result, record, directories, journal: Mutex::new(journal) };
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

    /// The paths of the files that have a content.
    pub fn written(&self) -> Vec<&Path> {
        let has_content = |path: &&Path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        self.paths().into_iter().filter(has_content).collect()
    }

    /// Begins the record of a load, without measurements. A search for a rate begins a record for each trial.
    pub fn begin(&self, record: &RunRecord) {
        let emptied = |journal: &mut Journal| {
            journal.pending.clear();
            journal.length = 0;
            journal.file.set_len(0)
        };
        self.append(emptied, record);
    }

    /// Appends the measurements of a second.
    pub fn append_second(&self, second: &SecondRecord) {
        self.append(|_| Ok(()), second);
    }

    fn append(&self, prepare: impl FnOnce(&mut Journal) -> io::Result<()>, line: &impl Serialize) {
        let journal = &mut *self.journal.lock();
        let written = prepare(journal).and_then(|()| {
            serde_json::to_writer(&mut journal.pending, line)?;
            journal.pending.push(b'\n');
            journal.write()
        });
        if let Err(error) = written
            && !std::mem::replace(&mut journal.has_failed, true)
        {
            messages::warning(FileError::new(&self.record, format!("{error}; the record is written later")));
        }
    }

    /// Replaces the content of both files.
    pub fn finish(&self, result: &str, record: &str) -> Result<(), FileError> {
        file::write(&self.record, record)?;
        file::write(&self.result, result)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let written = self.written();
        for path in self.paths().into_iter().filter(|path| !written.contains(path)) {
            fs::remove_file(path).ok();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_that_could_not_be_written_are_written_later() {
        let directory = std::env::temp_dir().join(format!("broadside-files-{}", std::process::id()));
        let started: Timestamp = "2026-08-01T09:30:00Z".parse().unwrap();
        let record: RunRecord = serde_json::from_value(json!({
            "format": RunRecord::FORMAT, "broadside": "", "seed": 1, "options": {}, "configuration": {}, "queries": [],
            "series": [], "started": started, "ended": started, "store": {"backend": "memory", "address": ""},
            "machine": {"system": ""}, "phases": [], "ingester": {},
        }))
        .unwrap();
        let files = Files::create(&directory, started).unwrap();
        let stored = || RunRecord::from_json(&fs::read(files.paths()[1]).unwrap()).unwrap().error_count;
        let second: SecondRecord = serde_json::from_value(json!({"errorCount": 1})).unwrap();
        files.begin(&record);
        files.append_second(&second);
        // A file without access instead of a disk without space.
        let writable = std::mem::replace(&mut files.journal.lock().file, File::open(files.paths()[1]).unwrap());
        files.append_second(&second);
        files.append_second(&second);
        assert_eq!(stored(), 1);
        files.journal.lock().file = writable;
        files.append_second(&second);
        assert_eq!(stored(), 4);
        files.begin(&record);
        assert_eq!(stored(), 0);
        fs::remove_dir_all(&directory).unwrap();
    }
}
