//! A store as a folder of Parquet files.
//!
//! The folder has a folder of files for each table, such as `job_run/00003.parquet`, so that other tools read a table as
//! `job_run/*.parquet`, and a file `manifest.json`. Files with the same number contain the rows of the same jobs, and so
//! do row groups with the same number of rows in the manifest's list: a part is read without the rest of its file.
//!
//! Files are complete once the manifest names them. An interrupted writer leaves files that it does not name, which the
//! next writer replaces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::{StreamExt, stream};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Part, Parts, Table, VERSION, schema};
use crate::error::{Error, ErrorKind, Operation, Result};

const MANIFEST: &str = "manifest.json";
/// A row group ends with the part that reaches one of these limits. Larger groups take more memory in reader and writer.
const GROUP_JOBS: usize = if cfg!(test) { 100 } else { 16_384 };
const GROUP_BYTES: usize = 32 << 20;
/// A file ends with the row group that reaches this number. An interrupted copy repeats the last file.
const FILE_GROUPS: usize = if cfg!(test) { 4 } else { 16 };

/// The content of a folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    version: String,
    /// Whether the folder has all rows of its source.
    complete: bool,
    files: Vec<Files>,
}

/// The files with one number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Files {
    /// The state of the copy after the last row; empty in a complete folder.
    progress: String,
    /// The rows of each row group by table, in the order of [`Table::ALL`].
    groups: Vec<[usize; 4]>,
}

/// A folder of Parquet files with the rows of a store.
///
/// ```no_run
/// # use broadside::Database;
/// # use broadside::exchange::ParquetFolder;
/// # use futures::TryStreamExt;
/// # async fn example(database: &dyn Database) -> broadside::Result<()> {
/// let mut parts = ParquetFolder::open("jobs".as_ref())?.export(None)?;
/// while let Some(part) = parts.try_next().await? {
///     database.import(&part).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ParquetFolder {
    path: PathBuf,
    manifest: Manifest,
}

impl ParquetFolder {
    /// Opens a complete folder.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a folder of another kind or version, or one whose writer was interrupted.
    pub fn open(path: &Path) -> Result<Self> {
        let Some(manifest) = read_manifest(path, Operation::Export)? else {
            return Err(invalid(Operation::Export, path, "the folder has no manifest.json"));
        };
        if !manifest.complete {
            return Err(invalid(Operation::Export, path, "the copy into this folder is not complete"));
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// The number of rows of a table.
    pub fn rows(&self, table: Table) -> u64 {
        let groups = self.manifest.files.iter().flat_map(|files| &files.groups);
        groups.map(|rows| rows[table as usize] as u64).sum()
    }

    /// Reads all rows after a position, as [`Database::export`](crate::Database::export) does.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a position that is not a number of row groups. Elements are `Backend` if a file cannot be
    /// read, or is not one of this format.
    pub fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        let skipped: usize = match after {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| invalid(Operation::Export, &self.path, "the position is not a number of row groups"))?,
        };
        let folder = self.clone();
        let (sender, mut receiver) = mpsc::channel(1);
        spawn_blocking(move || {
            let sent = folder.read(skipped, |part| sender.blocking_send(Ok(part)).is_ok());
            if let Err(error) = sent {
                // Without a receiver, nobody waits for the error.
                sender.blocking_send(Err(error)).ok();
            }
        });
        Ok(stream::poll_fn(move |context| receiver.poll_recv(context)).boxed())
    }

    /// Passes the parts to a function until it returns false.
    fn read(&self, skipped: usize, mut send: impl FnMut(Part) -> bool) -> Result<()> {
        let mut done = 0;
        for (number, files) in self.manifest.files.iter().enumerate() {
            let end = done + files.groups.len();
            if end <= skipped {
                done = end;
                continue;
            }
            let mut tables = Vec::with_capacity(Table::ALL.len());
            for table in Table::ALL {
                tables.push(TableFile::open(&self.path, table, number)?);
            }
            for rows in &files.groups {
                done += 1;
                let mut batches = Vec::with_capacity(Table::ALL.len());
                for (file, &rows) in tables.iter_mut().zip(rows) {
                    batches.push(file.group(rows, done > skipped)?);
                }
                let batches = batches.try_into().map_err(|_| broken(&self.path, "a table is missing"))?;
                if done > skipped && !send(Part::new(batches, done.to_string())?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A file of a table that is read.
struct TableFile {
    table: Table,
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    /// The next row group. A part without rows of the table has none.
    next: usize,
}

impl TableFile {
    fn open(folder: &Path, table: Table, number: usize) -> Result<Self> {
        let path = file_path(folder, table, number);
        let file = File::open(&path).map_err(|error| broken(&path, "the file cannot be read").with_source(error))?;
        let metadata = ArrowReaderMetadata::load(&file, Default::default())
            .map_err(|error| broken(&path, "the file is not a Parquet file").with_source(error))?;
        let (key, version) = VERSION;
        if metadata.schema().metadata().get(key).map(String::as_str) != Some(version) {
            return Err(broken(&path, "the file is not one of this version of the exchange format"));
        }
        Ok(Self { table, path, file, metadata, next: 0 })
    }

    /// The rows of the next row group; none if it is skipped.
    fn group(&mut self, rows: usize, is_read: bool) -> Result<RecordBatch> {
        let schema = schema(self.table);
        let group = self.next;
        self.next += usize::from(rows > 0);
        if rows == 0 || !is_read {
            return Ok(RecordBatch::new_empty(schema));
        }
        let unreadable = |error| broken(&self.path, "a row group cannot be read").with_source(error);
        let file =
            self.file.try_clone().map_err(|error| broken(&self.path, "the file cannot be read").with_source(error))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(rows)
            .build()
            .map_err(unreadable)?;
        let batches: Vec<_> = reader.collect::<Result<_, _>>().map_err(|error| unreadable(error.into()))?;
        let batch = concat_batches(&schema, &batches).map_err(|error| unreadable(error.into()))?;
        if batch.num_rows() == rows {
            Ok(batch)
        } else {
            Err(broken(&self.path, "the number of rows is not that of the manifest"))
        }
    }
}

/// Writes the rows of a store to a folder.
#[derive(Debug)]
pub struct ParquetWriter {
    folder: ParquetFolder,
    files: Files,
    /// The writers of the tables; empty between files.
    writers: Vec<ArrowWriter<File>>,
    /// The rows of the next row group.
    rows: [usize; 4],
    bytes: usize,
    progress: String,
}

impl ParquetWriter {
    /// Opens a folder that is empty or does not exist, or continues one whose writer was interrupted. The folder is not
    /// changed before the first part.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a folder that is complete, or has other content.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = match read_manifest(path, Operation::Import)? {
            Some(manifest) if manifest.complete => {
                return Err(invalid(Operation::Import, path, "the folder already has a complete copy"));
            }
            Some(manifest) => manifest,
            None => Manifest { version: VERSION.1.to_owned(), complete: false, files: Vec::new() },
        };
        let folder = ParquetFolder { path: path.to_owned(), manifest };
        Ok(Self {
            folder,
            files: Files::default(),
            writers: Vec::new(),
            rows: [0; 4],
            bytes: 0,
            progress: String::new(),
        })
    }

    /// The progress of the last complete file; `None` for a new folder.
    pub fn progress(&self) -> Option<&str> {
        self.folder.manifest.files.last().map(|files| &*files.progress)
    }

    /// Adds a part. `progress` is what [`progress`](Self::progress) returns after an interruption that follows the end of
    /// the file.
    ///
    /// # Errors
    ///
    /// `Backend` if a file cannot be written.
    pub fn import(&mut self, part: &Part, progress: String) -> Result<()> {
        if self.writers.is_empty() {
            self.begin_files()?;
        }
        for (table, writer) in Table::ALL.into_iter().zip(&mut self.writers) {
            let batch = part.batch(table);
            writer.write(batch).map_err(|error| unwritable(&self.folder.path, error))?;
            self.rows[table as usize] += batch.num_rows();
        }
        self.bytes += part.bytes();
        self.progress = progress;
        if self.rows[Table::Job as usize] >= GROUP_JOBS || self.bytes >= GROUP_BYTES {
            self.end_group()?;
        }
        if self.files.groups.len() >= FILE_GROUPS { self.end_files() } else { Ok(()) }
    }

    /// Completes the folder.
    ///
    /// # Errors
    ///
    /// As [`import`](Self::import).
    pub fn finish(mut self) -> Result<ParquetFolder> {
        if self.writers.is_empty() && self.folder.manifest.files.is_empty() {
            self.begin_files()?;
        }
        self.end_files()?;
        self.folder.manifest.complete = true;
        // The state of a copy contains the key of its hashes.
        self.folder.manifest.files.iter_mut().for_each(|files| files.progress.clear());
        self.folder.write_manifest()?;
        Ok(self.folder)
    }

    fn begin_files(&mut self) -> Result<()> {
        // First the manifest: a folder without one is not continued.
        let path = &self.folder.path;
        fs::create_dir_all(path).map_err(|error| unwritable(path, error))?;
        self.folder.write_manifest()?;
        for table in Table::ALL {
            let writer = self.create_file(table)?;
            self.writers.push(writer);
        }
        Ok(())
    }

    fn create_file(&self, table: Table) -> Result<ArrowWriter<File>> {
        let directory = self.folder.path.join(table.name());
        fs::create_dir_all(&directory).map_err(|error| unwritable(&directory, error))?;
        let path = file_path(&self.folder.path, table, self.folder.manifest.files.len());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // A row group ends by `end_group` alone.
            .set_max_row_group_row_count(None)
            .build();
        let file = File::create(&path).map_err(|error| unwritable(&path, error))?;
        ArrowWriter::try_new(file, schema(table), Some(properties)).map_err(|error| unwritable(&path, error))
    }

    fn end_group(&mut self) -> Result<()> {
        for writer in &mut self.writers {
            writer.flush().map_err(|error| unwritable(&self.folder.path, error))?;
        }
        if self.rows != [0; 4] {
            self.files.groups.push(std::mem::take(&mut self.rows));
        }
        self.bytes = 0;
        Ok(())
    }

    /// Completes the files, and then names them in the manifest.
    fn end_files(&mut self) -> Result<()> {
        self.end_group()?;
        for writer in self.writers.drain(..) {
            let synced = writer.into_inner().map_err(io::Error::other).and_then(|file| file.sync_all());
            synced.map_err(|error| unwritable(&self.folder.path, error))?;
        }
        if !self.files.groups.is_empty() {
            let progress = std::mem::take(&mut self.progress);
            self.folder.manifest.files.push(Files { progress, ..std::mem::take(&mut self.files) });
            self.folder.write_manifest()?;
        }
        Ok(())
    }
}

impl ParquetFolder {
    fn write_manifest(&self) -> Result<()> {
        let path = self.path.join(MANIFEST);
        let temporary = self.path.join(format!(".{MANIFEST}.tmp"));
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(|error| unwritable(&path, error))?;
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        });
        written.map_err(|error| unwritable(&path, error))
    }
}

/// The manifest of a folder; `None` if the folder is empty or does not exist.
fn read_manifest(folder: &Path, operation: Operation) -> Result<Option<Manifest>> {
    let unreadable = |error: io::Error| invalid(operation, folder, "the folder cannot be read").with_source(error);
    let text = match fs::read(folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
                Ok(true) => Err(invalid(operation, folder, "the folder is not empty, and has no manifest.json")),
                Ok(false) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unreadable(error)),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| invalid(operation, folder, "manifest.json is not that of a copy").with_source(error))?;
    if manifest.version == VERSION.1 {
        Ok(Some(manifest))
    } else {
        Err(invalid(operation, folder, "the folder has another version of the exchange format"))
    }
}

fn file_path(folder: &Path, table: Table, number: usize) -> PathBuf {
    folder.join(table.name()).join(format!("{number:05}.parquet"))
}

fn invalid(operation: Operation, path: &Path, problem: &str) -> Error {
    Error::invalid(operation, format!("{}: {problem}", path.display()))
}

fn broken(path: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::Backend, Operation::Export, format!("{}: {problem}", path.display()))
}

fn unwritable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Backend, Operation::Import, format!("{}: the folder cannot be written", path.display()))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::exchange::tests::part;
    use crate::exchange::{Census, Filter};

    fn census(parts: &[Part]) -> Census {
        let mut census = Census::default();
        parts.iter().for_each(|part| census.add(part));
        census
    }

    async fn export(folder: &ParquetFolder, after: Option<&str>) -> Vec<Part> {
        folder.export(after).unwrap().try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn an_interrupted_folder_is_continued() {
        let folder = std::env::temp_dir().join(format!("broadside-parquet-{}", std::process::id()));
        let parts: Vec<Part> = (0..40).map(|i| part(i * 80..(i + 1) * 80)).collect();
        let parts: Vec<Part> =
            parts.into_iter().map(|part| Filter::new().without_specs().apply(part).unwrap()).collect();
        let mut writer = ParquetWriter::open(&folder).unwrap();
        for (number, part) in parts.iter().take(20).enumerate() {
            writer.import(part, number.to_string()).unwrap();
        }
        drop(writer);
        assert_eq!(ParquetFolder::open(&folder).unwrap_err().kind(), ErrorKind::InvalidArgument);
        let mut writer = ParquetWriter::open(&folder).unwrap();
        let done: usize = writer.progress().unwrap().parse().unwrap();
        assert_eq!(done, 15);
        for part in &parts[done + 1..] {
            writer.import(part, String::new()).unwrap();
        }
        writer.finish().unwrap();
        assert!(ParquetWriter::open(&folder).is_err());
        let written = ParquetFolder::open(&folder).unwrap();
        let exported = export(&written, None).await;
        assert_eq!(census(&exported), census(&parts));
        assert_eq!(written.rows(Table::JobRun), 3200);
        assert!(written.manifest.files.iter().all(|files| files.progress.is_empty()));
        // An export continues after each part.
        let middle = exported.len() / 2;
        let rest = export(&written, Some(&exported[middle].position)).await;
        assert_eq!(census(&rest), census(&exported[middle + 1..]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn other_content_is_not_changed() {
        let folder = std::env::temp_dir().join(format!("broadside-foreign-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        assert_eq!(ParquetWriter::open(&folder).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
