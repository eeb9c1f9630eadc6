//! Copies of a store into another one, or into a folder of Parquet files.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Anonymiser, Census, Filter, ParquetFolder, ParquetWriter, Part, Parts, Table};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};

/// The property of a target with the state of an interrupted copy.
const PROPERTY: &str = "copy";
/// The state of a copy that has ended.
const COMPLETE: &str = "complete";
/// The number of parts that are read ahead of the target.
const PARTS_AHEAD: usize = 1;

/// A store that is copied, or the target of a copy.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A store of a backend.
    Store(Arc<dyn Database>),
    /// A folder of Parquet files, by its path.
    Folder(PathBuf),
}

impl Endpoint {
    /// Reads all rows after a position, as [`Database::export`] does.
    ///
    /// # Errors
    ///
    /// Those of the export of a store or of a [`ParquetFolder`].
    pub async fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        match self {
            Self::Store(database) => database.export(after).await,
            Self::Folder(path) => ParquetFolder::open(path)?.export(after),
        }
    }

    /// The number of jobs.
    ///
    /// # Errors
    ///
    /// Those of [`Database::job_count`], or of opening a [`ParquetFolder`].
    pub async fn job_count(&self) -> Result<u64> {
        match self {
            Self::Store(database) => database.job_count().await,
            Self::Folder(path) => ParquetFolder::open(path).map(|folder| folder.rows(Table::Job)),
        }
    }

    /// The census of all rows.
    ///
    /// # Errors
    ///
    /// Those of an export.
    pub async fn census(&self) -> Result<Census> {
        let mut census = Census::default();
        let mut parts = self.export(None).await?;
        while let Some(part) = parts.try_next().await? {
            census.add(&part);
        }
        Ok(census)
    }
}

/// The rows of a copy.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// The selected jobs.
    pub filter: Filter,
    /// Whether names and texts are replaced by hashes with a random key, which is forgotten at the end of the copy.
    pub anonymise: bool,
}

impl CopyOptions {
    /// The options of a copy of the selected jobs, whose names and texts may be replaced.
    pub fn new(filter: Filter, anonymise: bool) -> Self {
        Self { filter, anonymise }
    }
}

/// The state of a copy, as its target stores it until the copy is complete.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// The options, to which an interrupted copy is bound.
    options: String,
    /// The position in the source.
    position: Option<String>,
    /// The rows up to the position.
    census: Census,
    /// The key of hashes.
    key: Option<[u8; 32]>,
}

/// The progress of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// The jobs that were read from the source, without those of an earlier attempt.
    pub jobs: u64,
    /// The size of the copied rows in memory, in bytes.
    pub bytes: u64,
}

/// Copies the rows of a source, and returns the census of the copied rows and that of the target.
///
/// A copy that was interrupted continues where the target has the rows, if it is repeated with the same options.
///
/// # Errors
///
/// `InvalidArgument`, before any change, for a target that has jobs, or an interrupted copy with other options; those of
/// [`Database::export`] and [`Database::import`].
pub async fn copy(
    source: &Endpoint,
    target: &Endpoint,
    options: &CopyOptions,
    report: impl Fn(Copied),
) -> Result<(Census, Census)> {
    let (mut sink, state) = Sink::open(target).await?;
    let described = format!("{options:?}");
    let mut state = match state {
        Some(state) if state.options == described => state,
        Some(_) => return Err(refused("the target has part of a copy with other options")),
        None => State { options: described, key: options.anonymise.then(random_key).transpose()?, ..State::default() },
    };
    let parts = source.export(state.position.as_deref()).await?;
    sink = sink.prepare(&state).await?;
    let mut parts = transformed(parts, options.filter.clone(), state.key.map(Anonymiser::new));
    let mut copied = Copied::default();
    while let Some(part) = parts.recv().await {
        let (part, jobs) = part?;
        copied.jobs += jobs;
        copied.bytes += part.bytes() as u64;
        state.census.add(&part);
        state.position = Some(part.position.clone());
        sink = sink.import(part, &state).await?;
        report(copied);
    }
    let stored = sink.finish(target).await?;
    Ok((state.census, stored))
}

/// Selects the rows of each part on another task, with the number of jobs before the selection.
fn transformed(
    mut parts: Parts<'static>,
    filter: Filter,
    anonymiser: Option<Anonymiser>,
) -> mpsc::Receiver<Result<(Part, u64)>> {
    let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
    let transform = move |part: Part| {
        let jobs = part.batch(Table::Job).num_rows() as u64;
        let part = filter.apply(part)?;
        let part = match &anonymiser {
            Some(anonymiser) => anonymiser.apply(&part)?,
            None => part,
        };
        Ok((part, jobs))
    };
    tokio::spawn(async move {
        while let Some(part) = parts.try_next().await.transpose() {
            let part = part.and_then(&transform);
            let is_last = part.is_err();
            // Without a receiver, the copy has failed.
            if sender.send(part).await.is_err() || is_last {
                break;
            }
        }
    });
    receiver
}

/// The target of a copy.
enum Sink {
    Store(Arc<dyn Database>),
    Folder(Box<ParquetWriter>),
}

impl Sink {
    /// Opens a target without changing it, with the state of an interrupted copy.
    async fn open(target: &Endpoint) -> Result<(Self, Option<State>)> {
        match target {
            Endpoint::Folder(path) => {
                let writer = ParquetWriter::open(path)?;
                let state = writer.progress().map(parse).transpose()?;
                Ok((Self::Folder(Box::new(writer)), state))
            }
            Endpoint::Store(database) => {
                let database = Arc::clone(database);
                let state = match database.property(PROPERTY).await {
                    Ok(text) => text.as_deref().filter(|&text| text != COMPLETE).map(parse).transpose()?,
                    Err(error) if error.kind() == ErrorKind::NotInitialised => None,
                    Err(error) => return Err(error),
                };
                match database.job_count().await? {
                    jobs if jobs > 0 && state.is_none() => {
                        Err(refused(&format!("the target has {jobs} jobs: a copy requires an empty store")))
                    }
                    _ => Ok((Self::Store(database), state)),
                }
            }
        }
    }

    /// Creates the schema of a store, with the state of the copy, so that an interruption at any time leaves one. A folder
    /// is created with its first part.
    async fn prepare(self, state: &State) -> Result<Self> {
        if let Self::Store(database) = self {
            database.initialise_schema().await?;
            database.set_property(PROPERTY, Some(&text(state)?)).await?;
            return Ok(Self::Store(database));
        }
        Ok(self)
    }

    async fn import(self, part: Part, state: &State) -> Result<Self> {
        let text = text(state)?;
        match self {
            Self::Store(database) => {
                database.import(&part).await?;
                database.set_property(PROPERTY, Some(&text)).await?;
                Ok(Self::Store(database))
            }
            Self::Folder(mut writer) => {
                let written = spawn_blocking(move || writer.import(&part, text).map(|()| writer)).await;
                written.map_err(ended)?.map(Self::Folder)
            }
        }
    }

    /// Completes the copy, and returns the census of the target.
    async fn finish(self, target: &Endpoint) -> Result<Census> {
        match self {
            Self::Store(database) => {
                let census = target.census().await?;
                database.set_property(PROPERTY, Some(COMPLETE)).await?;
                Ok(census)
            }
            Self::Folder(writer) => {
                spawn_blocking(move || writer.finish()).await.map_err(ended)??;
                target.census().await
            }
        }
    }
}

fn text(state: &State) -> Result<String> {
    serde_json::to_string(state).map_err(|error| {
        Error::new(ErrorKind::Backend, Operation::Import, "the state of the copy has no JSON").with_source(error)
    })
}

fn parse(text: &str) -> Result<State> {
    serde_json::from_str(text)
        .map_err(|error| refused("the state of the interrupted copy is unreadable").with_source(error))
}

fn refused(problem: &str) -> Error {
    Error::invalid(Operation::Import, problem)
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Backend, Operation::Import, "the thread that writes files has ended").with_source(error)
}

fn random_key() -> Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        Error::new(ErrorKind::Backend, Operation::Import, format!("the system has no random numbers: {error}"))
    })?;
    Ok(key)
}
