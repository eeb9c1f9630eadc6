//! SQL over a snapshot.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::TaskContext;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, poll, stream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::sql_cancel::{Reader, cancellable};
use super::sql_planner::{Cause, SqlPlanner, check_depth, refused, sql_error};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// The stack size of a thread that plans and executes statements; unused pages take no memory. DataFusion grows the
/// stack when it traverses a tree, but not when it formats, compares or drops one: the size allows 32 KiB for each of
/// [`MAX_LEVELS`](super::sql_planner::MAX_LEVELS) levels.
const STACK_BYTES: usize = 64 << 20;

/// The address space that the C library takes when a thread first allocates.
const ARENA_BYTES: usize = 128 << 20;
/// The time after which the thread of a statement that has ended stops. An allocator may return the memory that the
/// statement has freed only then.
const KEEP_ALIVE: Duration = Duration::from_millis(200);
/// The number of batches that are computed ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// A session that executes SQL statements over a snapshot of the store.
///
/// It is read-only, with the tables `job`, `job_run`, `job_spec` and `job_error`. Times have no time zone and are in
/// UTC. Statements are planned and executed on threads of the session, so that a deeply nested expression does not
/// overflow the caller's stack. They continue if the session is dropped, until their results are dropped.
///
/// The memory of statements is limited by [`MemoryDatabase::with_sql_memory`](super::MemoryDatabase::with_sql_memory).
///
/// ```
/// # use std::sync::Arc;
/// # use broadside::{Database, SystemClock};
/// # use broadside::memory::MemoryDatabase;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> broadside::Result<()> {
/// let database = MemoryDatabase::new();
/// database.initialise_schema().await?;
/// let session = database.sql_session().await?;
/// let answer = session.query("SELECT count(*) AS jobs FROM job").await?;
/// assert_eq!(answer.schema().field(0).name(), "jobs");
/// assert_eq!(answer.collect().await?[0].num_rows(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqlSession {
    runner: Arc<StatementRunner>,
}

/// The parts of a session that its statements share.
#[derive(Debug)]
struct StatementRunner {
    planner: SqlPlanner,
    tasks: Arc<TaskContext>,
    /// `None` only during drop.
    runtime: Option<Runtime>,
}

impl SqlSession {
    pub(super) fn new(context: SessionContext) -> Result<Self> {
        let runtime = runtime(context.copied_config().target_partitions())
            .map_err(|error| sql_error(ErrorKind::Backend, "the threads of the session cannot start", error))?;
        let (tasks, runtime) = (context.task_ctx(), Some(runtime));
        Ok(Self { runner: Arc::new(StatementRunner { planner: SqlPlanner::new(context), tasks, runtime }) })
    }

    /// Starts a statement. It stops, and frees its memory, when this future or the result is dropped: each of its threads
    /// after the batch of 8,192 rows that it computes.
    ///
    /// A statement occupies a thread until its result has been read or dropped. With 512 of them, another one waits.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a statement that does not parse, names an unknown table or column, is not a query, or is
    /// nested too deeply.
    pub async fn query(&self, statement: &str) -> Result<SqlAnswer> {
        check_depth(statement)?;
        let Some(runtime) = &self.runner.runtime else { return Err(stopped()) };
        let (schema_sender, schema) = oneshot::channel();
        let (batch_sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (runner, handle, statement) = (Arc::clone(&self.runner), runtime.handle().clone(), statement.to_owned());
        let reader = Arc::new(());
        let of_reader = Arc::downgrade(&reader);
        // Starting a blocking thread takes one wake-up; a worker that receives a task also wakes another worker.
        let task = runtime.spawn_blocking(move || {
            handle.block_on(async {
                tokio::select! {
                    biased;
                    () = batch_sender.closed() => Ok(()),
                    end = runner.execute(&statement, &of_reader, schema_sender, &batch_sender) => end,
                }
            })
        });
        match schema.await {
            Ok(schema) => Ok(SqlAnswer { schema, batches: answer(batches, task), _reader: reader }),
            // The task ended without a schema.
            Err(_) => Err(join(task).await.err().unwrap_or_else(stopped)),
        }
    }
}

/// A runtime with threads for the tasks that operators spawn.
fn runtime(threads: usize) -> io::Result<Runtime> {
    // The runtime would panic if a thread cannot start, so that the memory of all threads is tried first.
    drop(thread::Builder::new().stack_size((STACK_BYTES + ARENA_BYTES) * threads).spawn(|| ())?.join());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).thread_stack_size(STACK_BYTES).thread_name("sql");
    runtime.thread_keep_alive(KEEP_ALIVE).build()
}

impl Drop for StatementRunner {
    fn drop(&mut self) {
        // Waiting for the threads would block the caller's runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The record batches of a result, streamed as they are computed.
pub struct SqlAnswer {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// The statement stops when this is dropped.
    _reader: Arc<()>,
}

impl SqlAnswer {
    /// The schema of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All batches.
    ///
    /// # Errors
    ///
    /// `Backend` if execution fails, for example by a division by zero or beyond the memory budget.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for SqlAnswer {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for SqlAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlAnswer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Waits for a statement to end. A panic becomes an error.
async fn join(statement: JoinHandle<Result<()>>) -> Result<()> {
    statement.await.unwrap_or_else(|error| Err(sql_error(ErrorKind::Backend, "the engine failed", error)))
}

/// The batches, then the error if the statement failed. Dropping the stream cancels the statement.
fn answer(
    batches: mpsc::Receiver<RecordBatch>,
    statement: JoinHandle<Result<()>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let next = async |state: Option<(mpsc::Receiver<RecordBatch>, JoinHandle<Result<()>>)>| {
        let (mut batches, statement) = state?;
        match batches.recv().await {
            Some(batch) => Some((Ok(batch), Some((batches, statement)))),
            None => join(statement).await.err().map(|error| (Err(error), None)),
        }
    };
    stream::unfold(Some((batches, statement)), next).boxed()
}

impl StatementRunner {
    /// Plans and executes a statement.
    async fn execute(
        &self,
        statement: &str,
        reader: &Reader,
        schema: oneshot::Sender<SchemaRef>,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<()> {
        let plan = cancellable(self.planner.plan(statement).await?, reader).map_err(refused)?;
        let stream = execute_stream(plan, Arc::clone(&self.tasks)).map_err(refused)?;
        let stream_schema = stream.schema();
        let mut sent = pin!(self.send(stream, batches));
        // The schema is sent after the first poll, so that a statement that does not wait wakes the caller once, when
        // it has ended.
        let first = poll!(&mut sent);
        if schema.send(stream_schema).is_err() {
            return Ok(());
        }
        match first {
            Poll::Ready(end) => end,
            Poll::Pending => sent.await,
        }
    }

    /// Sends the batches of a stream to a reader, until the reader is dropped.
    async fn send(&self, mut stream: SendableRecordBatchStream, batches: &mpsc::Sender<RecordBatch>) -> Result<()> {
        while let Some(batch) = stream.next().await {
            if batches.send(batch.map_err(|error| self.failed(error))?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, error: DataFusionError) -> Error {
        if let (DataFusionError::ResourcesExhausted(_), MemoryLimit::Finite(bytes)) =
            (error.find_root(), self.tasks.memory_pool().memory_limit())
        {
            let raise = "raise it with --memory or MemoryDatabase::with_sql_memory";
            let message = format!("the statement exceeds the memory budget of {}: {raise}", size(bytes));
            return Error::new(ErrorKind::Backend, Operation::Sql, message).with_backend(BackendKind::Memory);
        }
        sql_error(ErrorKind::Backend, "the statement failed", Cause::of(&error))
    }
}

/// A size in the largest unit that leaves two digits.
fn size(bytes: usize) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter().find(|(_, shift)| bytes >> shift >= 10);
    let (unit, shift) = unit.unwrap_or(("bytes", 0));
    format!("{} {unit}", bytes >> shift)
}

fn stopped() -> Error {
    Error::new(ErrorKind::Backend, Operation::Sql, "the statement was stopped").with_backend(BackendKind::Memory)
}
