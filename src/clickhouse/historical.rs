//! Historical jobs, generated in the server by `INSERT … SELECT … FROM numbers(…)`.
//!
//! A chunk is one insert for each table. Existing ids are skipped, so a chunk can be repeated after an interruption.

use bytes::Bytes;

use super::connection::INSERT_BYTES;
use super::statement::{Statement, Values};
use super::tables::{JOB_COLUMNS, STORED_RUN_COLUMNS};
use crate::historical::{
    ANNOTATIONS, CANCEL_REASON, CLUSTERS, CPUS, EPHEMERAL_STORAGES, Ending, FINISHED_AFTER, GPUS, HistoricalJobs,
    LEASED_AFTER, MEMORIES, NAMESPACES, NODES, PENDING_AFTER, POOLS, PRIORITIES, PRIORITY_CLASSES, RUN_ID_SUFFIX,
    STARTED_AFTER, STATE_MODULUS,
};
use crate::time::Timestamp;

/// Lower than every version of a batch: a late insert never replaces a row of a batch.
const VERSION: &str = "1";

/// More bytes than a row has without its spec, errors and debug message.
const ROW_BYTES: usize = 1024;

/// A range of the historical jobs, starting at number `first`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub first: u64,
    pub count: u64,
}

impl Chunk {
    /// The chunks of all jobs, in order, each with at most [`INSERT_BYTES`] in a table.
    pub(super) fn all(jobs: &HistoricalJobs) -> impl Iterator<Item = Self> + Send + use<> {
        let bytes = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
        let run = (bytes(jobs.error()) + bytes(jobs.debug())).max(bytes(jobs.preemption()));
        let row = ROW_BYTES + run.max(bytes(jobs.spec()));
        let size = jobs.chunk_size().min((INSERT_BYTES / row).max(1) as u64);
        let total = jobs.count();
        let mut first = 0;
        std::iter::from_fn(move || {
            let chunk = Self { first, count: size.min(total - first) };
            first += chunk.count;
            (chunk.count > 0).then_some(chunk)
        })
    }

    /// The number of the first job after the chunk.
    pub(super) fn end(self) -> u64 {
        self.first + self.count
    }

    /// The statements that insert the chunk, in the order in which they must be executed.
    pub(super) fn statements(self, jobs: &HistoricalJobs) -> Vec<Statement> {
        let spec = jobs.spec().map(|spec| self.specs(jobs, spec));
        let error = jobs.error().map(|error| self.errors(jobs, error));
        spec.into_iter().chain(error).chain([self.runs(jobs), self.jobs(jobs)]).collect()
    }

    fn specs(self, jobs: &HistoricalJobs, spec: &Bytes) -> Statement {
        let mut maker = Maker::new(self, jobs);
        let spec = maker.values.bytes(spec);
        let known = maker.unknown("job_spec", "job_id");
        maker.insert(
            "job_spec",
            "job_id, version, value",
            &["new_job_id".to_owned(), VERSION.to_owned(), spec],
            &[known],
        )
    }

    fn errors(self, jobs: &HistoricalJobs, error: &Bytes) -> Statement {
        let mut maker = Maker::new(self, jobs);
        let error = maker.values.bytes(error);
        let failed = maker.by_ending(|ending, _| (ending == Ending::Failed).to_string());
        let known = maker.unknown("job_error", "job_id");
        let columns = ["new_job_id".to_owned(), VERSION.to_owned(), error];
        maker.insert("job_error", "job_id, version, value", &columns, &[failed, known])
    }

    /// In the order of [`STORED_RUN_COLUMNS`].
    fn runs(self, jobs: &HistoricalJobs) -> Statement {
        let mut maker = Maker::new(self, jobs);
        let columns = [
            "new_run_id".to_owned(),
            "new_job_id".to_owned(),
            VERSION.to_owned(),
            format!("concat('broadside-cluster-', toString(number % {CLUSTERS} + 1)) AS new_cluster"),
            format!("concat(new_cluster, '-node-', toString(number % {NODES} + 1))"),
            maker.pick_text(&POOLS),
            maker.by_ending(|ending, values| values.text(ending.run_state().name())),
            maker.time(LEASED_AFTER),
            maker.time(PENDING_AFTER),
            maker.time(STARTED_AFTER),
            maker.time(FINISHED_AFTER),
            maker.by_ending(|ending, _| ending.exit_code().map_or_else(|| "NULL".to_owned(), |code| code.to_string())),
            maker.by_ending(|ending, values| match ending {
                Ending::Failed => optional(jobs.error(), values),
                Ending::Preempted => optional(jobs.preemption(), values),
                Ending::Succeeded | Ending::Cancelled => "''".to_owned(),
            }),
            maker.by_ending(|ending, values| match ending {
                Ending::Failed => optional(jobs.debug(), values),
                _ => "''".to_owned(),
            }),
        ];
        let known = maker.unknown("job_run", "run_id");
        maker.insert("job_run", STORED_RUN_COLUMNS, &columns, &[known])
    }

    /// In the order of [`JOB_COLUMNS`].
    fn jobs(self, jobs: &HistoricalJobs) -> Statement {
        let mut maker = Maker::new(self, jobs);
        let queue = maker.values.text(jobs.queue());
        let finished = maker.time(FINISHED_AFTER);
        let reason = maker.values.text(CANCEL_REASON);
        let columns = [
            "new_job_id".to_owned(),
            VERSION.to_owned(),
            queue.clone(),
            maker.values.text(jobs.job_set()),
            queue.clone(),
            maker.pick_text(&NAMESPACES),
            format!("number % {PRIORITIES} + 1"),
            maker.pick_text(&PRIORITY_CLASSES),
            maker.time(0),
            maker.pick(&CPUS),
            maker.pick(&MEMORIES),
            maker.pick(&EPHEMERAL_STORAGES),
            maker.pick(&GPUS),
            maker.annotations(),
            maker.by_ending(|ending, values| values.text(ending.job_state().name())),
            finished.clone(),
            "new_run_id".to_owned(),
            maker.if_cancelled(&finished, "NULL"),
            maker.if_cancelled(&reason, "''"),
            maker.if_cancelled(&queue, "''"),
        ];
        maker.insert("job", JOB_COLUMNS, &columns, &[])
    }
}

/// Bytes; absent ones are stored as empty ones.
fn optional(bytes: Option<&Bytes>, values: &mut Values) -> String {
    bytes.map_or_else(|| "''".to_owned(), |bytes| values.bytes(bytes))
}

/// Builds the INSERT of a chunk from expressions of `number`, the number of a job.
struct Maker {
    values: Values,
    /// The chunk: `numbers(…)`.
    numbers: String,
    job_id: String,
    run_id: String,
    bases: String,
    /// The thresholds of all endings except the last.
    thresholds: [String; 3],
}

impl Maker {
    fn new(chunk: Chunk, jobs: &HistoricalJobs) -> Self {
        let mut values = Values::default();
        let numbers = format!("numbers({}, {})", values.count(chunk.first), values.count(chunk.count));
        let prefix = values.text(jobs.id_prefix());
        let digits = "leftPad(toString(number), greatest(10, length(toString(number))), '0')";
        let bases: Vec<_> = jobs.bases().iter().copied().map(Timestamp::as_micros).collect();
        Self {
            numbers,
            job_id: format!("concat({prefix}, {digits})"),
            run_id: format!("concat({prefix}, {digits}, '{RUN_ID_SUFFIX}')"),
            bases: values.integers(&bases),
            thresholds: jobs.thresholds().map(|threshold| values.count(threshold)),
            values,
        }
    }

    fn insert(self, table: &str, columns: &str, expressions: &[String], conditions: &[String]) -> Statement {
        let Self { values, numbers, job_id, run_id, .. } = self;
        let conditions: String = conditions.iter().map(|condition| format!(" AND {condition}")).collect();
        let sql = format!(
            "INSERT INTO {table} ({columns}) WITH {job_id} AS new_job_id, {run_id} AS new_run_id \
             SELECT {} FROM {numbers} \
             WHERE new_job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT {job_id} FROM {numbers})){conditions}",
            expressions.join(", ")
        );
        Statement { sql, values }
    }

    /// The condition that a table does not contain the new id, which is in its column `job_id` or `run_id`.
    fn unknown(&self, table: &str, column: &str) -> String {
        let id = if column == "run_id" { &self.run_id } else { &self.job_id };
        format!(
            "new_{column} NOT IN (SELECT {column} FROM {table} WHERE {column} IN (SELECT {id} FROM {}))",
            self.numbers
        )
    }

    fn time(&self, seconds: i64) -> String {
        let micros = Timestamp::from_seconds(seconds).as_micros();
        let Self { bases, .. } = self;
        format!("fromUnixTimestamp64Micro({bases}[number % length({bases}) + 1] + {micros}, 'UTC')")
    }

    fn pick(&mut self, table: &[i64]) -> String {
        format!("{}[number % {} + 1]", self.values.integers(table), table.len())
    }

    fn pick_text(&mut self, table: &[&str]) -> String {
        format!("{}[number % {} + 1]", self.values.texts(table), table.len())
    }

    fn annotations(&mut self) -> String {
        let pairs = ANNOTATIONS
            .map(|(key, modulus)| format!("{}, concat('value-', toString(number % {modulus}))", self.values.text(key)));
        format!("map({})", pairs.join(", "))
    }

    /// An expression that depends on the ending of the job.
    fn by_ending(&mut self, sql: impl Fn(Ending, &mut Values) -> String) -> String {
        let mut branches = String::new();
        for (ending, below) in Ending::ALL.into_iter().zip(&self.thresholds) {
            branches += &format!("number % {STATE_MODULUS} < {below}, {}, ", sql(ending, &mut self.values));
        }
        let [.., last] = Ending::ALL;
        format!("multiIf({branches}{})", sql(last, &mut self.values))
    }

    fn if_cancelled(&mut self, sql: &str, otherwise: &str) -> String {
        self.by_ending(|ending, _| if ending == Ending::Cancelled { sql } else { otherwise }.to_owned())
    }
}
