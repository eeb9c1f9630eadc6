//! SQL over a snapshot.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::TaskContext;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, poll, stream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::sql_planner::{Cause, SqlPlanner, check_depth, refused, sql_error};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// The stack size of a thread that plans and executes statements; unused pages take no memory. DataFusion grows the
/// stack when it traverses a tree, but not when it formats, compares or drops one: the size allows 32 KiB for each of
/// [`MAX_LEVELS`](super::sql_planner::MAX_LEVELS) levels.
const STACK_BYTES: usize = 64 << 20;
/// The number of additional threads for the tasks that operators spawn. A cancelled task occupies its thread until it
/// yields, which can take long in a join whose filter passes no row.
const SPARE_THREADS: usize = 3;
/// The number of batches that are computed ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// A session that executes SQL statements over a snapshot of the store.
///
/// It is read-only, with the tables `job`, `job_run`, `job_spec` and `job_error`. Times have no time zone and are in
/// UTC. Statements are planned and executed on threads of the session, so that a deeply nested expression does not
/// overflow the caller's stack. They continue if the session is dropped, until their results are dropped.
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
    /// `None` only during drop.
    runtime: Option<Runtime>,
}

/// The parts of a session that its statements share.
#[derive(Debug)]
struct StatementRunner {
    planner: SqlPlanner,
    tasks: Arc<TaskContext>,
}

impl SqlSession {
    pub(super) fn new(context: SessionContext) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(context.copied_config().target_partitions() + SPARE_THREADS)
            .thread_stack_size(STACK_BYTES)
            .thread_name("sql")
            .build()
            .map_err(|error| sql_error(ErrorKind::Backend, "the threads of the session cannot start", error))?;
        let runner = StatementRunner { tasks: context.task_ctx(), planner: SqlPlanner::new(context) };
        Ok(Self { runner: Arc::new(runner), runtime: Some(runtime) })
    }

    /// Starts a statement. Dropping the result cancels it.
    ///
    /// A statement occupies a thread until its result has been read or dropped. With 512 of them, another one waits.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a statement that does not parse, names an unknown table or column, is not a query, or is
    /// nested too deeply.
    pub async fn query(&self, statement: &str) -> Result<SqlAnswer> {
        check_depth(statement)?;
        let Some(runtime) = &self.runtime else { return Err(stopped()) };
        let (schema_sender, schema) = oneshot::channel();
        let (batch_sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (runner, handle, statement) = (Arc::clone(&self.runner), runtime.handle().clone(), statement.to_owned());
        // Starting a blocking thread takes one wake-up; a worker that receives a task also wakes another worker.
        let task = runtime.spawn_blocking(move || {
            handle.block_on(async {
                tokio::select! {
                    biased;
                    () = batch_sender.closed() => Ok(()),
                    end = runner.execute(&statement, schema_sender, &batch_sender) => end,
                }
            })
        });
        match schema.await {
            Ok(schema) => Ok(SqlAnswer { schema, batches: answer(batches, task) }),
            // The task ended without a schema.
            Err(_) => Err(join(task).await.err().unwrap_or_else(stopped)),
        }
    }
}

impl Drop for SqlSession {
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
    /// `Backend` if execution fails, for example by a division by zero or an overflow.
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
        schema: oneshot::Sender<SchemaRef>,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<()> {
        let plan = self.planner.plan(statement).await?;
        let stream = execute_stream(plan, Arc::clone(&self.tasks)).map_err(refused)?;
        let stream_schema = stream.schema();
        let mut sent = pin!(send(stream, batches));
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
}

/// Sends the batches of a stream to a reader, until the reader is dropped.
async fn send(mut stream: SendableRecordBatchStream, batches: &mpsc::Sender<RecordBatch>) -> Result<()> {
    while let Some(batch) = stream.next().await {
        if batches.send(batch.map_err(failed)?).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn failed(error: DataFusionError) -> Error {
    sql_error(ErrorKind::Backend, "the statement failed", Cause::of(&error))
}

fn stopped() -> Error {
    Error::new(ErrorKind::Backend, Operation::Sql, "the statement was stopped").with_backend(BackendKind::Memory)
}
