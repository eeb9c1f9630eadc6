//! Ingestion: a batch is copied into a temporary table, from which one statement a table applies it.

use std::iter;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{SinkExt, pin_mut};

use super::connection::Client;
use super::error::Attempt;
use super::staging::{self, StagedBatch};

/// A part of a batch.
struct Part {
    /// Its rows.
    rows: fn(&StagedBatch) -> &Bytes,
    /// Takes the rows to the server.
    copy: &'static str,
    /// Applies them.
    apply: &'static str,
}

/// The parts of a batch in the order in which they are applied: inserts before updates, and every
/// batch in the same order, so that two of them cannot wait for each other.
///
/// Whether an update applies is decided in the one statement that applies it, from nothing but the
/// job's row and the update's: where another transaction has just changed the job, the server waits for
/// it and then decides anew, for the job as it now is.
const PARTS: [Part; 6] = [
    Part {
        rows: |batch| &batch.specs,
        copy: staging::COPY_SPECS,
        apply: "INSERT INTO job_spec (job_id, job_spec) SELECT job_id, job_spec FROM staged WHERE part = 'spec'
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.errors,
        copy: staging::COPY_ERRORS,
        apply: "INSERT INTO job_error (job_id, error) SELECT job_id, error FROM staged WHERE part = 'error'
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.runs,
        copy: staging::COPY_RUNS,
        apply: "INSERT INTO job_run (run_id, job_id, cluster, node, pool, leased, job_run_state)
            SELECT run_id, job_id, cluster, node, pool, leased, job_run_state FROM staged WHERE part = 'run'
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.jobs,
        copy: staging::COPY_JOBS,
        apply:
            "INSERT INTO job (job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted,
                state, last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations)
            SELECT job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted,
                state, last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
            FROM staged WHERE part = 'job'
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.job_updates,
        copy: staging::COPY_JOB_UPDATES,
        apply: "UPDATE job AS j SET
                priority = CASE WHEN j.state IN (1, 2, 3, 8) THEN coalesce(u.priority, j.priority) ELSE j.priority END,
                state = CASE WHEN j.state IN (1, 2, 3, 8) THEN coalesce(u.state, j.state) ELSE 7 END,
                last_transition_time = CASE WHEN j.state IN (1, 2, 3, 8)
                    THEN coalesce(u.last_transition_time, j.last_transition_time) ELSE u.preempted END,
                last_transition_time_seconds = CASE WHEN j.state IN (1, 2, 3, 8)
                    THEN coalesce(u.last_transition_time_seconds, j.last_transition_time_seconds)
                    ELSE u.preempted_seconds END,
                latest_run_id = CASE WHEN j.state IN (1, 2, 3, 8)
                    THEN coalesce(u.latest_run_id, j.latest_run_id) ELSE j.latest_run_id END,
                cancelled = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancelled ELSE j.cancelled END,
                cancel_reason = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancel_reason ELSE j.cancel_reason END,
                cancel_user = CASE WHEN j.state IN (1, 2, 3, 8) THEN u.cancel_user ELSE j.cancel_user END
            FROM staged AS u
            WHERE u.part = 'job update' AND u.job_id = j.job_id
                AND (j.state IN (1, 2, 3, 8) OR j.state IN (4, 5, 6) AND u.preempted IS NOT NULL);",
    },
    Part {
        rows: |batch| &batch.run_updates,
        copy: staging::COPY_RUN_UPDATES,
        apply: "UPDATE job_run AS r SET
                job_run_state = u.job_run_state,
                node = coalesce(u.node, r.node),
                pending = coalesce(u.pending, r.pending),
                started = coalesce(u.started, r.started),
                finished = coalesce(u.finished, r.finished),
                exit_code = coalesce(u.exit_code, r.exit_code),
                error = coalesce(u.error, r.error),
                debug = coalesce(u.debug, r.debug)
            FROM staged AS u
            WHERE u.part = 'run update' AND u.run_id = r.run_id;",
    },
];

/// The planner knows little of a temporary table, and would read all jobs to find the few of a
/// batch. Looking up one after the other is right for every size that occurs, and visits the rows
/// in the order of ids, in which they were copied; the price that the planner puts on having no other
/// way would make it compile the statement.
const LOOK_UP: &str = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_seqscan = off; SET LOCAL jit = off;";

/// Applies a batch in the transaction that the caller has begun.
pub(super) async fn apply(client: Client, batch: &StagedBatch) -> Attempt<()> {
    let parts = || PARTS.iter().filter(|part| !(part.rows)(batch).is_empty());
    try_join_all(parts().map(|part| copy(&client, part.copy, (part.rows)(batch)))).await?;
    // One message with all statements, which are planned for what is staged now: a plan that was
    // kept from a batch of another size, or from when the tables were small, may be a bad one.
    let statements: String = iter::once(LOOK_UP).chain(parts().map(|part| part.apply)).collect();
    Ok(client.batch_execute(&statements).await?)
}

async fn copy(client: &Client, statement: &str, rows: &Bytes) -> Attempt<()> {
    let statement = client.prepare_cached(statement).await?;
    let sink = client.copy_in(&statement).await?;
    pin_mut!(sink);
    sink.send(rows.clone()).await?;
    sink.finish().await?;
    Ok(())
}
