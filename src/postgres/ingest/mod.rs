//! Batches: the rows are copied into a temporary table. Then one statement for each target table applies them.
//!
//! Every batch writes the tables in the same order and the rows sorted by id, so batches cannot deadlock. Whether an
//! update applies is a condition of the UPDATE on the job's row and the update alone: after waiting for a concurrent
//! transaction, the server evaluates the condition again for the new version of the row.

mod staging;

use futures::future::{try_join, try_join3};

use self::staging::{Record, copy};
use super::compression::Compression;
use super::connection::Client;
use super::error::Attempt;
use super::layout::{Layout, move_jobs};
use super::marker::{self, Lock};
use super::partitions;
use crate::ingest::IngestionBatch;
use crate::model::{JobState, StateSet};

const INSERT_SPECS: &str = "
INSERT INTO job_spec (job_id, job_spec) SELECT job_id, job_spec FROM pg_temp.broadside_staged WHERE target = 'spec'
ON CONFLICT DO NOTHING;";

const INSERT_ERRORS: &str = "
INSERT INTO job_error (job_id, error) SELECT job_id, error FROM pg_temp.broadside_staged WHERE target = 'error'
ON CONFLICT DO NOTHING;";

const INSERT_RUNS: &str = "
INSERT INTO job_run (run_id, job_id, cluster, node, pool, leased, job_run_state)
SELECT run_id, job_id, cluster, node, pool, leased, job_run_state FROM pg_temp.broadside_staged WHERE target = 'run'
ON CONFLICT DO NOTHING;";

const INSERT_JOBS: &str = "
INSERT INTO job (
    job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, state,
    last_transition_time, last_transition_time_seconds, priority_class, namespace, annotations
)
SELECT
    s.job_id, s.queue, s.owner, s.jobset, s.cpu, s.memory, s.ephemeral_storage, s.gpu, s.priority, s.submitted, s.state,
    s.last_transition_time, s.last_transition_time_seconds, s.priority_class, s.namespace, s.annotations
FROM pg_temp.broadside_staged AS s";

fn insert_jobs(layout: Layout) -> String {
    match layout {
        Layout::Lookout => format!("{INSERT_JOBS}\nWHERE s.target = 'job'\nON CONFLICT DO NOTHING;"),
        // If another transaction is moving the job, the insert waits for it and then succeeds, because the id is free
        // again. The second statement finds the moved job and deletes the inserted one. Its OFFSET fixes the join
        // order: the disabled-path penalties of `NESTED_LOOPS` dwarf the cost of comparing every historical job with
        // every row.
        Layout::HotColdSplit => format!(
            "{NESTED_LOOPS}{INSERT_JOBS}
WHERE s.target = 'job' AND NOT EXISTS (SELECT FROM job_historical AS h WHERE h.job_id = s.job_id)
ON CONFLICT DO NOTHING;
WITH moved AS MATERIALIZED (
    SELECT s.job_id
    FROM pg_temp.broadside_staged AS s
    CROSS JOIN LATERAL (SELECT FROM job_historical AS h WHERE h.job_id = s.job_id OFFSET 0) AS known
    WHERE s.target = 'job'
)
DELETE FROM job AS j USING moved WHERE j.job_id = moved.job_id;"
        ),
        Layout::PartitionBySubmitted => format!(
            "
WITH fresh AS (
    INSERT INTO job_key (job_id, submitted) SELECT job_id, submitted FROM pg_temp.broadside_staged WHERE target = 'job'
    ON CONFLICT DO NOTHING
    RETURNING job_id
){INSERT_JOBS}
JOIN fresh ON fresh.job_id = s.job_id
WHERE s.target = 'job';"
        ),
    }
}

/// Forces nested loops with index lookups. The planner has no statistics of the temporary table, and would read all
/// jobs to find the few of a batch. Nested loops are efficient for every batch size, and visit rows in the order in
/// which they were copied. The disabled-path penalties would trigger JIT compilation, so that is disabled too.
pub(super) const NESTED_LOOPS: &str = "
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off;";

/// An active job gets the values of the patch, a terminal one those of the preemption.
const UPDATE_JOBS: &str = "
UPDATE job AS j SET
    priority = CASE WHEN j.state IN ({active}) THEN coalesce(u.priority, j.priority) ELSE j.priority END,
    state = CASE WHEN j.state IN ({active}) THEN coalesce(u.state, j.state) ELSE {preempted} END,
    last_transition_time = CASE WHEN j.state IN ({active})
        THEN coalesce(u.last_transition_time, j.last_transition_time) ELSE u.preempted END,
    last_transition_time_seconds = CASE WHEN j.state IN ({active})
        THEN coalesce(u.last_transition_time_seconds, j.last_transition_time_seconds) ELSE u.preempted_seconds END,
    latest_run_id = CASE WHEN j.state IN ({active})
        THEN coalesce(u.latest_run_id, j.latest_run_id) ELSE j.latest_run_id END,
    cancelled = CASE WHEN j.state IN ({active}) THEN u.cancelled ELSE j.cancelled END,
    cancel_reason = CASE WHEN j.state IN ({active}) THEN u.cancel_reason ELSE j.cancel_reason END,
    cancel_user = CASE WHEN j.state IN ({active}) THEN u.cancel_user ELSE j.cancel_user END
FROM pg_temp.broadside_staged AS u";

/// The condition that an update changes the job of its id: the rule of `JobUpdate::effect_on`.
const IS_CHANGED: &str = "u.target = 'job update'
    AND (j.state IN ({active}) OR j.state IN ({preemptible}) AND u.preempted IS NOT NULL)";

/// Preempts jobs that had ended before the batch.
const PREEMPT_ENDED_JOBS: &str = "
UPDATE job_historical AS j SET
    state = {preempted}, last_transition_time = u.preempted, last_transition_time_seconds = u.preempted_seconds
FROM pg_temp.broadside_staged AS u
WHERE u.target = 'job update' AND u.preempted IS NOT NULL AND j.job_id = u.job_id AND j.state IN ({preemptible});";

/// Updates the jobs; in a partitioned layout, those of the given partitions.
fn update_jobs(layout: Layout, partitions: &[String]) -> String {
    let sql = match layout {
        Layout::Lookout => format!("{NESTED_LOOPS}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};"),
        Layout::HotColdSplit => {
            let ended = "u.target = 'job update' AND j.job_id = u.job_id";
            let moved = move_jobs("USING pg_temp.broadside_staged AS u", ended);
            format!(
                "{NESTED_LOOPS}{UPDATE_JOBS}\nWHERE j.job_id = u.job_id AND {IS_CHANGED};{moved}{PREEMPT_ENDED_JOBS}"
            )
        }
        // One statement for each partition, because the planning time of an UPDATE grows with the number of partitions.
        Layout::PartitionBySubmitted => partitions.iter().fold(String::new(), |statements, name| {
            let update = UPDATE_JOBS.replacen("UPDATE job AS j", &format!("UPDATE {name} AS j"), 1);
            format!("{statements}{update}\nWHERE j.job_id = u.job_id AND j.submitted = u.submitted AND {IS_CHANGED};")
        }),
    };
    sql.replace("{active}", &StateSet::ACTIVE.ordinals())
        .replace("{preemptible}", &StateSet::PREEMPTIBLE_ENDS.ordinals())
        .replace("{preempted}", &JobState::Preempted.ordinal().to_string())
}

const UPDATE_RUNS: &str = "
UPDATE job_run AS r SET
    job_run_state = u.job_run_state,
    node = coalesce(u.node, r.node),
    pending = coalesce(u.pending, r.pending),
    started = coalesce(u.started, r.started),
    finished = coalesce(u.finished, r.finished),
    exit_code = coalesce(u.exit_code, r.exit_code),
    error = coalesce(u.error, r.error),
    debug = coalesce(u.debug, r.debug)
FROM pg_temp.broadside_staged AS u
WHERE u.target = 'run update' AND r.run_id = u.run_id;";

/// Applies a batch in the open transaction. Ids have the given collation.
pub(super) async fn apply(
    client: Client,
    layout: Layout,
    collation: &str,
    compression: Compression,
    batch: &IngestionBatch,
) -> Attempt<()> {
    try_join3(
        marker::guard(&client, layout, Lock::Layout),
        client.stage(|keep| staging::create(collation, keep)),
        stage(&client, batch, compression),
    )
    .await?;
    // All statements are sent in one message and unprepared, so that each is planned for the rows that are staged now.
    // A plan for a batch of another size, or for small tables, can be inefficient.
    let mut statements = inserts(layout, batch);
    if !batch.job_updates().is_empty() {
        let mut partitions = Vec::new();
        if layout == Layout::PartitionBySubmitted {
            statements.push_str(NESTED_LOOPS);
            client.batch_execute(&statements).await?;
            statements.clear();
            partitions = partitions::of_updates(&client).await?;
        }
        statements.push_str(&update_jobs(layout, &partitions));
    }
    if !batch.run_updates().is_empty() {
        statements.push_str(NESTED_LOOPS);
        statements.push_str(UPDATE_RUNS);
    }
    Ok(client.batch_execute(&statements).await?)
}

fn inserts(layout: Layout, batch: &IngestionBatch) -> String {
    let inserts = [
        (batch.specs().is_empty(), INSERT_SPECS.to_owned()),
        (batch.errors().is_empty(), INSERT_ERRORS.to_owned()),
        (batch.runs().is_empty(), INSERT_RUNS.to_owned()),
        (batch.jobs().is_empty(), insert_jobs(layout)),
    ];
    inserts.into_iter().filter(|(is_empty, _)| !is_empty).map(|(_, insert)| insert).collect()
}

/// Copies the rows of the batch into the temporary table.
async fn stage(client: &Client, batch: &IngestionBatch, compression: Compression) -> Attempt<()> {
    let spec = |insert| Record { target: "spec", column: "job_spec", insert };
    let error = |insert| Record { target: "error", column: "error", insert };
    let specs: Vec<_> = batch.specs().iter().map(spec).collect();
    let errors: Vec<_> = batch.errors().iter().map(error).collect();
    let records = try_join(copy(client, &specs, compression), copy(client, &errors, compression));
    let inserts = try_join(copy(client, batch.runs(), compression), copy(client, batch.jobs(), compression));
    let updates =
        try_join(copy(client, batch.job_updates(), compression), copy(client, batch.run_updates(), compression));
    try_join3(records, inserts, updates).await?;
    Ok(())
}
