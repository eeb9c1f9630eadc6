//! Ingestion: a batch is copied into a temporary table, from which one statement a table applies it.

use bytes::Bytes;
use futures::future::{try_join_all, try_join3};
use futures::{SinkExt, pin_mut};

use super::connection::Client;
use super::error::Attempt;
use super::layout::Layout;
use super::partitions;
use super::staging::{self, StagedBatch};
use super::store::{self, Lock};

/// A part of a batch.
struct Part {
    /// Its rows.
    rows: fn(&StagedBatch) -> &Bytes,
    /// Takes the rows to the server.
    copy: &'static str,
    /// The statements that apply them, each with its semicolon.
    apply: fn(&Target) -> String,
}

/// What a batch is applied to.
struct Target {
    layout: Layout,
    /// Where jobs are partitioned, the partitions of those to be updated.
    partitions: Vec<String>,
}

/// The inserts of a batch in the order in which they are applied. It is the same for every batch, so
/// that two of them cannot wait for each other.
const INSERTS: [Part; 4] = [
    Part { rows: |batch| &batch.specs, copy: staging::COPY_SPECS, apply: |_| INSERT_SPECS.to_owned() },
    Part { rows: |batch| &batch.errors, copy: staging::COPY_ERRORS, apply: |_| INSERT_ERRORS.to_owned() },
    Part { rows: |batch| &batch.runs, copy: staging::COPY_RUNS, apply: |_| INSERT_RUNS.to_owned() },
    Part { rows: |batch| &batch.jobs, copy: staging::COPY_JOBS, apply: insert_jobs },
];

/// The updates, which follow the inserts.
///
/// Whether an update applies is decided in the one statement that applies it, from nothing but the
/// job's row and the update's: where another transaction has just changed the job, the server waits for
/// it and then decides anew, for the job as it now is.
const UPDATES: [Part; 2] = [
    Part { rows: |batch| &batch.job_updates, copy: staging::COPY_JOB_UPDATES, apply: update_jobs },
    Part { rows: |batch| &batch.run_updates, copy: staging::COPY_RUN_UPDATES, apply: update_runs },
];

const INSERT_SPECS: &str = "
INSERT INTO job_spec (job_id, job_spec) SELECT job_id, job_spec FROM pg_temp.staged WHERE part = 'spec'
ON CONFLICT DO NOTHING;";

const INSERT_ERRORS: &str = "
INSERT INTO job_error (job_id, error) SELECT job_id, error FROM pg_temp.staged WHERE part = 'error'
ON CONFLICT DO NOTHING;";

const INSERT_RUNS: &str = "
INSERT INTO job_run (run_id, job_id, cluster, node, pool, leased, job_run_state)
SELECT run_id, job_id, cluster, node, pool, leased, job_run_state FROM pg_temp.staged WHERE part = 'run'
ON CONFLICT DO NOTHING;";

const INSERT_JOBS: &str = "
INSERT INTO job (
    job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, state,
    last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
)
SELECT
    s.job_id, s.queue, s.owner, s.jobset, s.cpu, s.memory, s.ephemeral_storage, s.gpu, s.priority, s.submitted, s.state,
    s.last_transition_time, s.last_transition_time_seconds, s.priority_class, s.namespace, s.annotations
FROM pg_temp.staged AS s";

fn insert_jobs(target: &Target) -> String {
    match target.layout {
        Layout::Lookout => format!("{INSERT_JOBS}\nWHERE s.part = 'job'\nON CONFLICT DO NOTHING;"),
        // The job may just be moving: then the insert waits for that, finds its place free and
        // takes it, which the second statement, for which the move is over, puts right.
        Layout::HotColdSplit => format!(
            "{LOOK_UP}{INSERT_JOBS}
WHERE s.part = 'job' AND NOT EXISTS (SELECT FROM job_historical AS h WHERE h.job_id = s.job_id)
ON CONFLICT DO NOTHING;
DELETE FROM job AS j USING pg_temp.staged AS s, job_historical AS h
WHERE s.part = 'job' AND j.job_id = s.job_id AND h.job_id = s.job_id;"
        ),
        Layout::PartitionBySubmitted => format!(
            "
WITH fresh AS (
    INSERT INTO job_key (job_id, submitted) SELECT job_id, submitted FROM pg_temp.staged WHERE part = 'job'
    ON CONFLICT DO NOTHING
    RETURNING job_id
){INSERT_JOBS}
JOIN fresh ON fresh.job_id = s.job_id
WHERE s.part = 'job';"
        ),
    }
}

/// The planner knows little of a temporary table, and would read all jobs to find the few of a
/// batch. Looking up one after the other is right for every size that occurs, and visits the rows
/// in the order of ids, in which they were copied; the price that the planner puts on having no other
/// way would make it compile the statement.
const LOOK_UP: &str = "
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off;";

/// An active job takes what the update has for it; one that has ended, the preemption.
const UPDATE_JOBS: &str = "
UPDATE job AS j SET
    priority = CASE WHEN j.state IN (1, 2, 3, 8) THEN coalesce(u.priority, j.priority) ELSE j.priority END,
    state = CASE WHEN j.state IN (1, 2, 3, 8) THEN coalesce(u.state, j.state) ELSE 7 END,
    last_transition_time = CASE WHEN j.state IN (1, 2, 3, 8)
        THEN coalesce(u.last_transition_time, j.last_transition_time) ELSE u.preempted END,
    last_transition_time_seconds = CASE WHEN j.state IN (1, 2, 3, 8)
        THEN coalesce(u.last_transition_time_seconds, j.last_transition_time_seconds) ELSE u.preempted_seconds END,
    latest_run_id = CASE WHEN j.state IN (1, 2, 3, 8)
        THEN coalesce(u.latest_run_id, j.latest_run_id) ELSE j.latest_run_id END,
    cancelled = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancelled ELSE j.cancelled END,
    cancel_reason = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancel_reason ELSE j.cancel_reason END,
    cancel_user = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancel_user ELSE j.cancel_user END
FROM pg_temp.staged AS u";

/// Whether a job is one that an update changes.
const IS_CHANGED: &str =
    "u.part = 'job update' AND (j.state IN (1, 2, 3, 8) OR j.state IN (4, 5, 6) AND u.preempted IS NOT NULL)";

fn update_jobs(target: &Target) -> String {
    match target.layout {
        Layout::Lookout => format!("{LOOK_UP}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};"),
        Layout::HotColdSplit => format!(
            "{LOOK_UP}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};
WITH ended AS (
    DELETE FROM job AS j USING pg_temp.staged AS u
    WHERE u.part = 'job update' AND j.job_id = u.job_id AND j.state NOT IN (1, 2, 3, 8)
    RETURNING j.*
)
INSERT INTO job_historical SELECT * FROM ended;
UPDATE job_historical AS j SET
    state = 7, last_transition_time = u.preempted, last_transition_time_seconds = u.preempted_seconds
FROM pg_temp.staged AS u
WHERE j.job_id = u.job_id AND {IS_CHANGED};"
        ),
        // Each partition is named, for planning an update of all of them takes longer the more there are.
        Layout::PartitionBySubmitted => target.partitions.iter().fold(String::new(), |statements, name| {
            let update = UPDATE_JOBS.replacen("UPDATE job AS j", &format!("UPDATE {name} AS j"), 1);
            format!("{statements}{update}\nWHERE j.job_id = u.job_id AND j.submitted = u.submitted AND {IS_CHANGED};")
        }),
    }
}

fn update_runs(_: &Target) -> String {
    format!(
        "{LOOK_UP}
UPDATE job_run AS r SET
    job_run_state = u.job_run_state,
    node = coalesce(u.node, r.node),
    pending = coalesce(u.pending, r.pending),
    started = coalesce(u.started, r.started),
    finished = coalesce(u.finished, r.finished),
    exit_code = coalesce(u.exit_code, r.exit_code),
    error = coalesce(u.error, r.error),
    debug = coalesce(u.debug, r.debug)
FROM pg_temp.staged AS u
WHERE u.part = 'run update' AND r.run_id = u.run_id;"
    )
}

/// The rows go in messages of this size: the server takes none of a gigabyte, and can begin with the
/// first while the next is on its way.
const MESSAGE_BYTES: usize = 1 << 18;

/// Applies a batch in the transaction that the caller has begun, with ids of this collation.
pub(super) async fn apply(client: Client, layout: Layout, collation: &str, batch: &StagedBatch) -> Attempt<()> {
    let inserts = || INSERTS.iter().filter(|part| !(part.rows)(batch).is_empty());
    let updates = || UPDATES.iter().filter(|part| !(part.rows)(batch).is_empty());
    let copies = try_join_all(inserts().chain(updates()).map(|part| copy(&client, part.copy, (part.rows)(batch))));
    try_join3(store::guard(&client, layout, Lock::Layout), client.stage(collation), copies).await?;
    // One message with all statements, which are planned for what is staged now: a plan that was
    // kept from a batch of another size, or from when the tables were small, may be a bad one.
    let mut target = Target { layout, partitions: Vec::new() };
    let mut statements: String = inserts().map(|part| (part.apply)(&target)).collect();
    if layout == Layout::PartitionBySubmitted && !batch.job_updates.is_empty() {
        statements.push_str(LOOK_UP);
        client.batch_execute(&statements).await?;
        statements.clear();
        target.partitions = partitions::of_updates(&client).await?;
    }
    statements.extend(updates().map(|part| (part.apply)(&target)));
    Ok(client.batch_execute(&statements).await?)
}

async fn copy(client: &Client, statement: &str, rows: &Bytes) -> Attempt<()> {
    let statement = client.prepare(statement).await?;
    let sink = client.copy_in(&statement).await?;
    pin_mut!(sink);
    let mut rest = rows.clone();
    while !rest.is_empty() {
        sink.send(rest.split_to(rest.len().min(MESSAGE_BYTES))).await?;
    }
    sink.finish().await?;
    Ok(())
}
