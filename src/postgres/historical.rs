//! Historical jobs, made inside the server.

use std::iter;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesOrdered;
use tokio_postgres::types::ToSql;

use super::connection::{Client, Connections};
use super::error::Attempt;
use super::layout::Layout;
use super::row::PgTimestamp;
use crate::error::{Operation, Result};
use crate::historical::{self, Ending, HistoricalJobs};
use crate::{Progress, ProgressFn};

const OPERATION: Operation = Operation::PopulateHistoricalJobs;

/// The endings in the order of the thresholds below which they lie; the statement counts them from 1.
const ENDINGS: [Ending; 4] = [Ending::Succeeded, Ending::Failed, Ending::Cancelled, Ending::Preempted];

/// How many chunks are made at once, each on its own connection: the server spends its time on the
/// many indexes, which several of its processes do side by side.
const CHUNKS_AT_ONCE: usize = 4;

/// Makes all the jobs, a chunk at a time. Each chunk is a transaction.
pub(super) async fn populate(
    connections: &Connections,
    layout: Layout,
    jobs: &HistoricalJobs,
    report: ProgressFn<'_>,
) -> Result<()> {
    let statement = &layout.historical_chunk();
    let total = jobs.count();
    let end_of = |start: u64| total.min(start.saturating_add(jobs.chunk_size()));
    let mut starts = iter::successors(Some(0), |&start| Some(end_of(start))).take_while(|&start| start < total);
    let make = |start: u64| async move {
        let end = end_of(start);
        connections.transact(OPERATION, |client| chunk(client, layout, statement, jobs, start, end)).await.map(|()| end)
    };
    let mut making: FuturesOrdered<_> =
        starts.by_ref().take(CHUNKS_AT_ONCE.min(connections.max_size())).map(make).collect();
    report(Progress { done: 0, total });
    while let Some(done) = making.try_next().await? {
        making.extend(starts.next().map(make));
        report(Progress { done, total });
    }
    Ok(())
}

/// Makes the jobs from `start` to before `end`.
async fn chunk(
    client: Client,
    layout: Layout,
    statement: &str,
    jobs: &HistoricalJobs,
    start: u64,
    end: u64,
) -> Attempt<()> {
    if layout == Layout::HotColdSplit {
        // No index keeps an id from being in both tables, so nobody may insert it meanwhile.
        client.batch_execute("LOCK TABLE job IN SHARE ROW EXCLUSIVE MODE").await?;
    }
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
    let statement = client.prepare_cached(statement).await?;
    client.execute(&statement, &parameters).await?;
    Ok(())
}

/// Validation keeps all counts within i64.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
