//! The memory budget of SQL: a pool for the operators, and the files to which they spill.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, stream};
use parking_lot::Mutex;

use super::limit::machine_bytes;

/// The budget where no limit of the system is known.
const FALLBACK_BYTES: u64 = 4 << 30;
/// The maximum size of all spilled files.
const MAX_SPILLED_BYTES: u64 = 100 << 30;
/// The size of a read from a spilled file.
const READ_BYTES: usize = 128 << 10;

/// The budget that the SQL sessions of a store share.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: Option<u64>,
    runtime: OnceLock<Arc<RuntimeEnv>>,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes: Some(bytes), runtime: OnceLock::new() }
    }

    /// The environment of plans. The default budget is computed for the first session.
    pub(super) fn runtime(&self) -> EngineResult<Arc<RuntimeEnv>> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(Arc::clone(runtime));
        }
        let bytes = self.bytes.unwrap_or_else(default_bytes);
        let pool = FairSpillPool::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        let files = DiskManagerBuilder::default().with_temp_file_factory(Arc::new(UnnamedFiles::default()));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(files);
        let runtime = runtime.build_arc()?;
        Ok(Arc::clone(self.runtime.get_or_init(|| runtime)))
    }
}

/// Half of the memory that the process can have, and a quarter of the rest of a limited address space, because an array
/// that grows is copied to one of twice its size.
fn default_bytes() -> u64 {
    let memory = machine_bytes().map(|bytes| bytes / 2);
    memory.into_iter().chain(address_space().map(|bytes| bytes / 4)).min().unwrap_or(FALLBACK_BYTES)
}

/// The part of a limited address space that is not in use.
fn address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let number = |text: &str, label| {
        text.lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse::<u64>().ok())
    };
    // The first number is the soft limit, or `unlimited`.
    let limit = number(&limits, "Max address space")?;
    Some(limit.saturating_sub(number(&status, "VmSize:")? * 1024))
}

/// Creates files without a name, which the system removes with the process, however it ends.
#[derive(Default)]
struct UnnamedFiles {
    /// The size of all files.
    used: Arc<AtomicU64>,
}

impl TempFileFactory for UnnamedFiles {
    fn create_temp_file(&self, _: &str) -> EngineResult<Arc<dyn SpillFile>> {
        let file = Mutex::new(tempfile::tempfile().map_err(DataFusionError::IoError)?);
        Ok(Arc::new(UnnamedFile(Arc::new(Spilled { file, size: AtomicU64::new(0), used: Arc::clone(&self.used) }))))
    }
}

/// Readers and writers share the handle of the file, so each access seeks.
struct Spilled {
    file: Mutex<File>,
    size: AtomicU64,
    used: Arc<AtomicU64>,
}

impl Spilled {
    fn read_at(&self, at: u64) -> io::Result<Bytes> {
        let mut part = vec![0; READ_BYTES];
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(at))?;
        let length = file.read(&mut part)?;
        part.truncate(length);
        Ok(part.into())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock();
        if self.used.load(Ordering::Relaxed) >= MAX_SPILLED_BYTES {
            return Err(io::Error::other(format!("more than {} GiB of temporary files", MAX_SPILLED_BYTES >> 30)));
        }
        file.seek(SeekFrom::End(0))?;
        let written = file.write(bytes)?;
        self.size.fetch_add(written as u64, Ordering::Relaxed);
        self.used.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.used.fetch_sub(self.size.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

struct UnnamedFile(Arc<Spilled>);

impl SpillFile for UnnamedFile {
    fn size(&self) -> Option<u64> {
        Some(self.0.size.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> EngineResult<Pin<Box<dyn Stream<Item = EngineResult<Bytes>> + Send>>> {
        let spilled = Arc::clone(&self.0);
        let read = move |at| {
            let part = spilled.read_at(at);
            async move {
                let part = part?;
                let next = at + part.len() as u64;
                Ok((!part.is_empty()).then_some((part, next)))
            }
        };
        Ok(Box::pin(stream::try_unfold(0, read)))
    }

    fn open_writer(&self) -> EngineResult<Box<dyn SpillWriter>> {
        Ok(Box::new(UnnamedFile(Arc::clone(&self.0))))
    }
}

impl Write for UnnamedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for UnnamedFile {
    fn finish(&mut self) -> EngineResult<()> {
        Ok(())
    }
}
