//! Historical jobs, made inside the server.
//!
//! One statement makes a chunk of them, rows of all tables, out of a range of numbers. Each chunk is a transaction, so
//! a call that was interrupted is continued by one with the same parameters, which finds what is there already.
//!
//! Most of the work would be to keep seventeen secondary indexes up. So where the jobs come to the better part of what
//! a table will hold, its indexes are dropped first and made again at the end ([`indexes`]). Meanwhile every
//! answer is right, though a reader may have to read the whole table for it; writers wait while an index is made.

use std::iter;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use tokio_postgres::types::ToSql;

use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::indexes;
use super::layout::Layout;
use super::row::PgTimestamp;
use super::store::{self, Lock};
use crate::error::{Operation, Result};
use crate::historical::{self, Ending, HistoricalJobs};
use crate::{Progress, ProgressFn};

const OPERATION: Operation = Operation::PopulateHistoricalJobs;

/// The endings in the order of the thresholds below which they lie; the statement counts them from 1.
const ENDINGS: [Ending; 4] = [Ending::Succeeded, Ending::Failed, Ending::Cancelled, Ending::Preempted];

/// How many chunks are made at once, each on its own connection. More of them, on two cores, wait for each other at
/// the ends of the tables and of the log.
const CHUNKS_AT_ONCE: usize = 2;

/// The fewest jobs for which indexes are dropped: to make one again takes its time even if it is small.
const BULK: u64 = 10_000;

/// What every part of the call has behind it but the first.
const PART: Step =
    Step::after(OPERATION, "some of the jobs may have been added, and indexes dropped until a repetition");

/// Makes all the jobs.
pub(super) async fn populate(
    connections: &Connections,
    layout: Layout,
    collation: &str,
    jobs: &HistoricalJobs,
    report: ProgressFn<'_>,
) -> Result<()> {
    let total = jobs.count();
    report(Progress { done: 0, total });
    if total >= BULK {
        // To make the indexes of all rows costs less than to add these to them up to about this size.
        let most_rows = number(total / 2);
        for (table, step) in [(layout.ended_jobs(), OPERATION.into()), ("job_run", PART)] {
            connections.transact(step, |client| indexes::defer(client, layout, table, most_rows)).await?;
        }
    }
    make(connections, layout, collation, jobs, report).await?;
    indexes::restore(connections, PART).await?;
    report(Progress { done: total, total });
    Ok(())
}

/// Makes the jobs, a chunk at a time, and reports each chunk but the last.
async fn make(
    connections: &Connections,
    layout: Layout,
    collation: &str,
    jobs: &HistoricalJobs,
    report: ProgressFn<'_>,
) -> Result<()> {
    let statement = &layout.historical_chunk(collation).replace("{annotation_values}", &annotation_values());
    let total = jobs.count();
    let at_once = CHUNKS_AT_ONCE.min(connections.max_size());
    let size = chunk_size(jobs, at_once as u64);
    // A lone chunk is the whole call. Of several, one may be there when another fails.
    let step = if total <= size && total < BULK { OPERATION.into() } else { PART };
    let end_of = |start: u64| total.min(start.saturating_add(size));
    let mut starts = iter::successors(Some(0), |&start| Some(end_of(start))).take_while(|&start| start < total);
    let make_from = |start: u64| async move {
        let end = end_of(start);
        connections.transact(step, |client| chunk(client, layout, statement, jobs, start, end)).await.map(|()| end)
    };
    let mut making: FuturesOrdered<_> = starts.by_ref().take(at_once).map(make_from).collect();
    while let Some(done) = making.try_next().await? {
        making.extend(starts.next().map(make_from));
        if done < total {
            report(Progress { done, total });
        }
    }
    Ok(())
}

/// How many jobs to make at a time: of many, as many as make the last chunks end together.
fn chunk_size(jobs: &HistoricalJobs, at_once: u64) -> u64 {
    if jobs.count() < BULK {
        return jobs.chunk_size();
    }
    let rounds = jobs.count().div_ceil(jobs.chunk_size().saturating_mul(at_once));
    jobs.count().div_ceil(rounds * at_once)
}

/// With its values known, the statement is planned for the tables as they are: a plan from when they were small would be
/// a bad one later on.
const PLANNED_ANEW: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

/// Makes the jobs from `start` to before `end`.
async fn chunk(
    client: Client,
    layout: Layout,
    statement: &str,
    jobs: &HistoricalJobs,
    start: u64,
    end: u64,
) -> Attempt<()> {
    let lock = match layout {
        Layout::Lookout | Layout::PartitionBySubmitted => Lock::Layout,
        // No index keeps an id from being in both tables, so nobody may insert it meanwhile.
        Layout::HotColdSplit => Lock::Writes,
    };
    store::guard(&client, layout, lock).await?;
    client.batch_execute(PLANNED_ANEW).await?;
    let bases: Vec<PgTimestamp> = jobs.bases().iter().copied().map(PgTimestamp).collect();
    let bytes = |bytes: Option<&Bytes>| bytes.map(|bytes| bytes.to_vec());
    let parameters: [&(dyn ToSql + Sync); _] = [
        &number(start),
        &(number(end) - 1),
        &jobs.id_prefix(),
        &historical::RUN_ID_SUFFIX,
        &jobs.queue(),
        &jobs.job_set(),
        &bases,
        &jobs.thresholds().map(number).to_vec(),
        &number(historical::STATE_MODULUS),
        &bytes(jobs.spec()),
        &bytes(jobs.error()),
        &bytes(jobs.debug()),
        &bytes(jobs.preemption()),
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
        &ENDINGS.map(|ending| i16::from(ending.job_state().ordinal())).to_vec(),
        &ENDINGS.map(|ending| i16::from(ending.run_state().ordinal())).to_vec(),
        &ENDINGS.map(Ending::exit_code).to_vec(),
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

/// The values of a job's annotations, in the order of their keys.
fn annotation_values() -> String {
    let value = |place: usize| format!("'value-' || i % annotation_counts[{place}]");
    (1..=historical::ANNOTATIONS.len()).map(value).collect::<Vec<_>>().join(", ")
}

/// Validation keeps all counts within i64.
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
    fn chunks_of_many_jobs_end_together() {
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
