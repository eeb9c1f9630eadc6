//! Ingestion: a batch is copied into temporary tables, from which one statement a table applies it.

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{SinkExt, pin_mut};

use super::connection::Client;
use super::error::Attempt;
use super::staging::StagedBatch;

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
/// Updates lock their rows in the order of ids first, and so are decided against the newest rows:
/// without that, a job that another transaction is just ending would still count as active when the
/// update picks the row that is meant for it.
const PARTS: [Part; 6] = [
    Part {
        rows: |batch| &batch.specs,
        copy: "COPY staged_spec FROM STDIN (FORMAT binary)",
        apply: "INSERT INTO job_spec (job_id, job_spec) SELECT job_id, value FROM staged_spec ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.errors,
        copy: "COPY staged_error FROM STDIN (FORMAT binary)",
        apply: "INSERT INTO job_error (job_id, error) SELECT job_id, value FROM staged_error ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.runs,
        copy: "COPY staged_run FROM STDIN (FORMAT binary)",
        apply: "INSERT INTO job_run (run_id, job_id, cluster, node, pool, leased, job_run_state)
            SELECT run_id, job_id, cluster, node, pool, leased, job_run_state FROM staged_run
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.jobs,
        copy: "COPY staged_job FROM STDIN (FORMAT binary)",
        apply: "INSERT INTO job (job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted,
                state, last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations)
            SELECT job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted,
                state, last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
            FROM staged_job
            ON CONFLICT DO NOTHING;",
    },
    Part {
        rows: |batch| &batch.job_updates,
        copy: "COPY staged_job_update FROM STDIN (FORMAT binary)",
        apply: "SELECT FROM job AS j JOIN staged_job_update AS u ON j.job_id = u.job_id AND NOT u.ended
            ORDER BY j.job_id FOR NO KEY UPDATE OF j;
            UPDATE job AS j SET
                priority = coalesce(u.priority, j.priority),
                state = coalesce(u.state, j.state),
                last_transition_time = coalesce(u.last_transition_time, j.last_transition_time),
                last_transition_time_seconds =
                    coalesce(u.last_transition_time_seconds, j.last_transition_time_seconds),
                latest_run_id = coalesce(u.latest_run_id, j.latest_run_id),
                cancelled = coalesce(u.cancelled, j.cancelled),
                cancel_reason = coalesce(u.cancel_reason, j.cancel_reason),
                cancel_user = coalesce(u.cancel_user, j.cancel_user)
            FROM staged_job_update AS u
            WHERE j.job_id = u.job_id
                AND CASE WHEN u.ended THEN j.state IN (4, 5, 6) ELSE j.state IN (1, 2, 3, 8) END;",
    },
    Part {
        rows: |batch| &batch.run_updates,
        copy: "COPY staged_run_update FROM STDIN (FORMAT binary)",
        apply: "SELECT FROM job_run AS r JOIN staged_run_update AS u ON r.run_id = u.run_id
            ORDER BY r.run_id FOR NO KEY UPDATE OF r;
            UPDATE job_run AS r SET
                job_run_state = u.job_run_state,
                node = coalesce(u.node, r.node),
                pending = coalesce(u.pending, r.pending),
                started = coalesce(u.started, r.started),
                finished = coalesce(u.finished, r.finished),
                exit_code = coalesce(u.exit_code, r.exit_code),
                error = coalesce(u.error, r.error),
                debug = coalesce(u.debug, r.debug)
            FROM staged_run_update AS u
            WHERE r.run_id = u.run_id;",
    },
];

/// Applies a batch in the transaction that the caller has begun.
pub(super) async fn apply(client: Client, batch: &StagedBatch) -> Attempt<()> {
    let parts = || PARTS.iter().filter(|part| !(part.rows)(batch).is_empty());
    try_join_all(parts().map(|part| copy(&client, part.copy, (part.rows)(batch)))).await?;
    // One message with all statements, which are planned for what is staged now: a plan that was
    // kept from a batch of another size, or from when the tables were small, may be a bad one.
    let statements: String = parts().map(|part| part.apply).collect();
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
