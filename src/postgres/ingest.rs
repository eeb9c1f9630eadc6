//! Ingestion: a batch is copied into a temporary table, from which one statement a table applies it.

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{SinkExt, pin_mut};

use super::connection::Client;
use super::error::Attempt;
use super::layout::Layout;
use super::staging::{self, StagedBatch};

/// A part of a batch.
struct Part {
    /// Its rows.
    rows: fn(&StagedBatch) -> &Bytes,
    /// Takes the rows to the server.
    copy: &'static str,
    /// The statements that apply them, each with its semicolon.
    apply: fn(Layout) -> String,
}

/// The parts of a batch in the order in which they are applied: inserts before updates, and every
/// batch in the same order, so that two of them cannot wait for each other.
///
/// Whether an update applies is decided in the one statement that applies it, from nothing but the
/// job's row and the update's: where another transaction has just changed the job, the server waits for
/// it and then decides anew, for the job as it now is.
const PARTS: [Part; 6] = [
    Part { rows: |batch| &batch.specs, copy: staging::COPY_SPECS, apply: |_| INSERT_SPECS.to_owned() },
    Part { rows: |batch| &batch.errors, copy: staging::COPY_ERRORS, apply: |_| INSERT_ERRORS.to_owned() },
    Part { rows: |batch| &batch.runs, copy: staging::COPY_RUNS, apply: |_| INSERT_RUNS.to_owned() },
    Part { rows: |batch| &batch.jobs, copy: staging::COPY_JOBS, apply: insert_jobs },
    Part { rows: |batch| &batch.job_updates, copy: staging::COPY_JOB_UPDATES, apply: update_jobs },
    Part { rows: |batch| &batch.run_updates, copy: staging::COPY_RUN_UPDATES, apply: update_runs },
];

const INSERT_SPECS: &str = "
INSERT INTO job_spec (job_id, job_spec) SELECT job_id, job_spec FROM staged WHERE part = 'spec'
ON CONFLICT DO NOTHING;";

const INSERT_ERRORS: &str = "
INSERT INTO job_error (job_id, error) SELECT job_id, error FROM staged WHERE part = 'error'
ON CONFLICT DO NOTHING;";

const INSERT_RUNS: &str = "
INSERT INTO job_run (run_id, job_id, cluster, node, pool, leased, job_run_state)
SELECT run_id, job_id, cluster, node, pool, leased, job_run_state FROM staged WHERE part = 'run'
ON CONFLICT DO NOTHING;";

const INSERT_JOBS: &str = "
INSERT INTO job (
    job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, state,
    last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
)
SELECT
    s.job_id, s.queue, s.owner, s.jobset, s.cpu, s.memory, s.ephemeral_storage, s.gpu, s.priority, s.submitted, s.state,
    s.last_transition_time, s.last_transition_time_seconds, s.priority_class, s.namespace, s.annotations
FROM staged AS s";

fn insert_jobs(layout: Layout) -> String {
    match layout {
        Layout::Lookout => format!("{INSERT_JOBS}\nWHERE s.part = 'job'\nON CONFLICT DO NOTHING;"),
        // The job may just be moving: then the insert waits for that, finds its place free and
        // takes it, which the second statement, for which the move is over, puts right.
        Layout::HotColdSplit => format!(
            "{LOOK_UP}{INSERT_JOBS}
WHERE s.part = 'job' AND NOT EXISTS (SELECT FROM job_historical AS h WHERE h.job_id = s.job_id)
ON CONFLICT DO NOTHING;
DELETE FROM job AS j USING staged AS s, job_historical AS h
WHERE s.part = 'job' AND j.job_id = s.job_id AND h.job_id = s.job_id;"
        ),
        Layout::PartitionBySubmitted => format!(
            "
WITH fresh AS (
    INSERT INTO job_key (job_id, submitted) SELECT job_id, submitted FROM staged WHERE part = 'job'
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
FROM staged AS u";

/// Whether a job is one that an update changes.
const IS_CHANGED: &str =
    "u.part = 'job update' AND (j.state IN (1, 2, 3, 8) OR j.state IN (4, 5, 6) AND u.preempted IS NOT NULL)";

fn update_jobs(layout: Layout) -> String {
    match layout {
        Layout::Lookout => format!("{LOOK_UP}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};"),
        Layout::HotColdSplit => format!(
            "{LOOK_UP}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};
WITH ended AS (
    DELETE FROM job AS j USING staged AS u
    WHERE u.part = 'job update' AND j.job_id = u.job_id AND j.state NOT IN (1, 2, 3, 8)
    RETURNING j.*
)
INSERT INTO job_historical SELECT * FROM ended;
UPDATE job_historical AS j SET
    state = 7, last_transition_time = u.preempted, last_transition_time_seconds = u.preempted_seconds
FROM staged AS u
WHERE j.job_id = u.job_id AND {IS_CHANGED};"
        ),
        Layout::PartitionBySubmitted => format!(
            "{LOOK_UP}{UPDATE_JOBS}
JOIN job_key AS k ON k.job_id = u.job_id
WHERE j.job_id = k.job_id AND j.submitted = k.submitted AND {IS_CHANGED};"
        ),
    }
}

fn update_runs(_: Layout) -> String {
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
FROM staged AS u
WHERE u.part = 'run update' AND r.run_id = u.run_id;"
    )
}

/// The rows go in messages of this size: the server takes none of a gigabyte, and can begin with the
/// first while the next is on its way.
const MESSAGE_BYTES: usize = 1 << 18;

/// Applies a batch in the transaction that the caller has begun.
pub(super) async fn apply(client: Client, layout: Layout, batch: &StagedBatch) -> Attempt<()> {
    let parts = || PARTS.iter().filter(|part| !(part.rows)(batch).is_empty());
    try_join_all(parts().map(|part| copy(&client, part.copy, (part.rows)(batch)))).await?;
    // One message with all statements, which are planned for what is staged now: a plan that was
    // kept from a batch of another size, or from when the tables were small, may be a bad one.
    let statements: String = parts().map(|part| (part.apply)(layout)).collect();
    Ok(client.batch_execute(&statements).await?)
}

async fn copy(client: &Client, statement: &str, rows: &Bytes) -> Attempt<()> {
    let statement = client.prepare_cached(statement).await?;
    let sink = client.copy_in(&statement).await?;
    pin_mut!(sink);
    let mut rest = rows.clone();
    while !rest.is_empty() {
        sink.send(rest.split_to(rest.len().min(MESSAGE_BYTES))).await?;
    }
    sink.finish().await?;
    Ok(())
}
