//! Historical jobs, generated in the server.
//!
//! One statement generates a chunk, the rows of all tables, from a range of numbers. Each chunk is a transaction and
//! skips existing ids, so a call with the same parameters completes an interrupted one.
//!
//! Most of the time would be spent on maintaining seventeen secondary indexes. If the new jobs outnumber the stored
//! ones, the indexes are dropped first and recreated at the end ([`indexes`]). Meanwhile results are correct, but reads
//! may scan whole tables, and writes wait while an index is created.

use std::iter;
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_postgres::types::ToSql;

use super::compression::Compression;
use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::indexes;
use super::layout::Layout;
use super::marker::{self, Lock};
use super::row::PgTimestamp;
use crate::error::{Operation, Result};
use crate::historical::{self, Ending, HistoricalJobs};
use crate::{Progress, ProgressFn};

const OPERATION: Operation = Operation::PopulateHistoricalJobs;

/// The number of chunks generated concurrently, each on its own connection. On two cores, more chunks contend for the
/// last pages of the tables and for the write-ahead log.
const CONCURRENT_CHUNKS: usize = 2;

/// The minimum number of jobs for which indexes are dropped: recreating them has a fixed cost.
const BULK: u64 = 10_000;

/// The later steps of the call.
const LATER_STEP: Step =
    Step::after(OPERATION, "some jobs may be added and some indexes dropped; a repetition of the call completes it");

/// Inserts all the jobs.
pub(super) async fn populate(
    connections: &Connections,
    layout: Layout,
    collation: &str,
    compression: Compression,
    jobs: &HistoricalJobs,
    report: ProgressFn<'_>,
) -> Result<()> {
    let total = jobs.count();
    report(Progress { done: 0, total });
    if total >= BULK {
        // Up to about this number of stored rows, building the indexes costs less than maintaining them.
        let max_rows = number(total / 2);
        for (table, step) in [(layout.ended_jobs(), OPERATION.into()), ("job_run", LATER_STEP)] {
            connections.transact(step, |client| indexes::defer(client, layout, table, max_rows)).await?;
        }
    }
    insert(connections, layout, collation, compression, jobs, report).await?;
    indexes::restore(connections, layout, LATER_STEP).await?;
    report(Progress { done: total, total });
    Ok(())
}

/// Inserts the jobs in chunks, and reports each chunk except the last.
async fn insert(
    connections: &Connections,
    layout: Layout,
    collation: &str,
    compression: Compression,
    jobs: &HistoricalJobs,
    report: ProgressFn<'_>,
) -> Result<()> {
    let statement = &layout.historical_chunk(collation).replace("{annotation_values}", &annotation_values());
    let total = jobs.count();
    let concurrency = CONCURRENT_CHUNKS.min(connections.max_size());
    let size = chunk_size(jobs, concurrency as u64);
    // A single chunk is the whole call. Of several, one may be committed when another fails.
    let step = if total <= size && total < BULK { OPERATION.into() } else { LATER_STEP };
    let end_of = |start: u64| total.min(start.saturating_add(size));
    let starts = iter::successors(Some(0), |&start| Some(end_of(start))).take_while(|&start| start < total);
    let insert_from = |start: u64| async move {
        let end = end_of(start);
        connections
            .transact(step, |client| chunk(client, layout, statement, compression, jobs, start..end))
            .await
            .map(|()| end)
    };
    let mut inserting = pin!(stream::iter(starts).map(insert_from).buffered(concurrency));
    while let Some(done) = inserting.try_next().await? {
        if done < total {
            report(Progress { done, total });
        }
    }
    Ok(())
}

/// The number of jobs per chunk. In a bulk load, the last concurrent chunks have equal sizes.
fn chunk_size(jobs: &HistoricalJobs, concurrency: u64) -> u64 {
    if jobs.count() < BULK {
        return jobs.chunk_size();
    }
    let rounds = jobs.count().div_ceil(jobs.chunk_size().saturating_mul(concurrency));
    jobs.count().div_ceil(rounds * concurrency)
}

/// Plans each execution for the current table sizes. A cached plan of small tables would become inefficient.
const CUSTOM_PLAN: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

/// Inserts the jobs with these numbers.
async fn chunk(
    client: Client,
    layout: Layout,
    statement: &str,
    compression: Compression,
    jobs: &HistoricalJobs,
    numbers: Range<u64>,
) -> Attempt<()> {
    let lock = match layout {
        Layout::Lookout | Layout::PartitionBySubmitted => Lock::Layout,
        // No constraint prevents an id from being in both tables, so other inserts must wait.
        Layout::HotColdSplit => Lock::Writes,
    };
    marker::guard(&client, layout, lock).await?;
    client.batch_execute(CUSTOM_PLAN).await?;
    let bases: Vec<PgTimestamp> = jobs.bases().iter().copied().map(PgTimestamp).collect();
    let compressed = |value: Option<&Bytes>| value.map(|value| compression.compress(value));
    let parameters: [&(dyn ToSql + Sync); _] = [
        &number(numbers.start),
        &(number(numbers.end) - 1),
        &jobs.id_prefix(),
        &historical::RUN_ID_SUFFIX,
        &jobs.queue(),
        &jobs.job_set(),
        &bases,
        &jobs.thresholds().map(number).to_vec(),
        &number(historical::STATE_MODULUS),
        &compressed(jobs.spec()),
        &compressed(jobs.error()),
        &compressed(jobs.debug()),
        &compressed(jobs.preemption()),
        &historical::NAMESPACES.to_vec(),
        &historical::PRIORITY_CLASSES.to_vec(),
        &historical::CPUS.to_vec(),
        &historical::MEMORIES.to_vec(),
        &historical::EPHEMERAL_STORAGES.to_vec(),
        &historical::GPUS.to_vec(),
        &historical::POOLS.to_vec(),
        &number(historical::PRIORITIES),
        &number(historical::CLUSTERS),
        &number(historical::NODES),
        &historical::ANNOTATIONS.map(|(key, _)| key).to_vec(),
        &historical::ANNOTATIONS.map(|(_, values)| number(values)).to_vec(),
        &Ending::ALL.map(|ending| i16::from(ending.job_state().ordinal())).to_vec(),
        &Ending::ALL.map(|ending| i16::from(ending.run_state().ordinal())).to_vec(),
        &Ending::ALL.map(Ending::exit_code).to_vec(),
        &historical::CANCEL_REASON,
        &(historical::LEASED_AFTER as f64),
        &(historical::PENDING_AFTER as f64),
        &(historical::STARTED_AFTER as f64),
        &(historical::FINISHED_AFTER as f64),
    ];
    let statement = client.prepare(statement).await?;
    client.execute(&statement, &parameters).await?;
    Ok(())
}

/// The expressions of the annotation values, in the order of the keys.
fn annotation_values() -> String {
    let value = |place: usize| format!("'value-' || i % annotation_counts[{place}]");
    (1..=historical::ANNOTATIONS.len()).map(value).collect::<Vec<_>>().join(", ")
}

/// Validation limits counts to the range of i64.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::HistoricalJobsParams;

    fn size(count: i64, chunk_size: i64) -> u64 {
        let params: HistoricalJobsParams = serde_json::from_value(json!({
            "queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s", "nJobs": count, "chunkSize": chunk_size,
            "jobAgeDays": [0], "referenceTime": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        super::chunk_size(&params.try_into().unwrap(), 2)
    }

    #[test]
    fn chunks_of_a_bulk_load_end_together() {
        assert_eq!(size(9_999, 10_000), 10_000);
        assert_eq!(size(10_000, 10_000), 5_000);
        assert_eq!(size(30_000, 10_000), 7_500);
        assert_eq!(size(100_000, 10_000), 10_000);
        assert_eq!(size(100_001, 10_000), 8_334);
        assert_eq!(size(10_000, 1), 1);
        assert_eq!(size(i64::MAX, 1), 1);
        assert_eq!(size(10_000, i64::MAX), 5_000);
    }
}
