//! Historical jobs, made inside the server.

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::connection::{Client, Connections};
use super::error::Attempt;
use super::row::PgTimestamp;
use super::schema;
use crate::error::{Operation, Result};
use crate::historical::{self, Ending, HistoricalJobs};
use crate::{Progress, ProgressFn};

const OPERATION: Operation = Operation::PopulateHistoricalJobs;

/// The endings in the order of the thresholds below which they lie; the statement counts them from 1.
const ENDINGS: [Ending; 4] = [Ending::Succeeded, Ending::Failed, Ending::Cancelled, Ending::Preempted];

const CHUNK: &str = include_str!("historical/chunk.sql");

/// Makes all the jobs, a chunk at a time. Each chunk is a transaction.
pub(super) async fn populate(connections: &Connections, jobs: &HistoricalJobs, report: ProgressFn<'_>) -> Result<()> {
    connections.read(OPERATION, schema::check).await?;
    let total = jobs.count();
    report(Progress { done: 0, total });
    let mut done = 0;
    while done < total {
        let end = total.min(done.saturating_add(jobs.chunk_size()));
        connections.transact(OPERATION, |client| chunk(client, jobs, done, end)).await?;
        done = end;
        report(Progress { done, total });
    }
    Ok(())
}

/// Makes the jobs from `start` to before `end`.
async fn chunk(client: Client, jobs: &HistoricalJobs, start: u64, end: u64) -> Attempt<()> {
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
    let statement = client.prepare_cached(CHUNK).await?;
    client.execute(&statement, &parameters).await?;
    Ok(())
}

/// Validation keeps all counts within i64.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
