//! The reads of a load test: a stream for each kind of read, and the slots that limit concurrent reads.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol_str::SmolStr;
use tokio::time::timeout;

use super::arrivals::{Arrivals, Profile};
use super::config::LoadConfig;
use super::generator::GeneratorOptions;
use super::record::QueryType;
use super::replay::RecordedRead;
use super::requests::{self, LookoutPage, Requests};
use super::selection::split_mix;
use super::share::Share;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Job, JobState};
use crate::query::{ReadCall, ReadResult};

/// The capacity of a reservoir of known ids.
const RESERVOIR_SIZE: usize = 4096;
/// The maximum number of ids taken from a page.
const IDS_PER_PAGE: usize = 8;
/// The filter combination of reads of single records.
const NO_FILTER: &str = "none";
/// The filter combination of replayed reads.
const REPLAYED: &str = "replayed";

/// The kinds of reads that have rates of their own: one for each type, and one for each further kind of page.
type ReadKind = (QueryType, Option<LookoutPage>);

/// The rates of the reads, per hour.
fn rates(config: &LoadConfig) -> [(ReadKind, u64); 10] {
    let (queries, lookout) = (&config.queries, &config.lookout_queries);
    let page = |page, rate| ((QueryType::GetJobs, Some(page)), rate);
    [
        ((QueryType::GetJobs, None), queries.get_jobs_queries_per_hour),
        ((QueryType::GetJobGroups, None), queries.get_job_groups_queries_per_hour),
        ((QueryType::GetJobSpec, None), queries.get_job_spec_queries_per_hour),
        ((QueryType::GetJobRunError, None), queries.get_job_run_error_queries_per_hour),
        ((QueryType::GetJobRunDebugMessage, None), queries.get_job_run_debug_message_queries_per_hour),
        page(LookoutPage::ActiveJobSets, lookout.active_job_sets_queries_per_hour),
        page(LookoutPage::Contains, lookout.contains_queries_per_hour),
        page(LookoutPage::DeepOffset, lookout.deep_offset_queries_per_hour),
        page(LookoutPage::Owner, lookout.owner_queries_per_hour),
        page(LookoutPage::Pool, lookout.pool_queries_per_hour),
    ]
}

/// The fraction of the reads of a kind that have the filter combination.
fn fraction_with(combo: &str, kind: ReadKind) -> f64 {
    match kind {
        (_, Some(page)) => f64::from(page.name() == combo),
        (QueryType::GetJobs | QueryType::GetJobGroups, None) => requests::fraction_with(combo),
        _ => f64::from(combo == NO_FILTER),
    }
}

/// The number of reads of a kind that the test phase makes, optionally only those with a filter combination. Does not
/// include replayed reads.
pub(super) fn expected_reads(config: &LoadConfig, query_type: QueryType, combo: Option<&str>) -> f64 {
    let of_type = rates(config).into_iter().filter(|((of, _), _)| *of == query_type);
    let per_hour: f64 =
        of_type.map(|(kind, rate)| rate as f64 * combo.map_or(1.0, |combo| fraction_with(combo, kind))).sum();
    per_hour / 3600.0 * Profile::of(config).work(config.test_micros()) / 1e6
}

/// A read that is due.
#[derive(Debug)]
pub(super) struct DueRead {
    pub(super) query_type: QueryType,
    pub(super) combo: &'static str,
    /// The due time, in microseconds from the start of the load.
    pub(super) due: u64,
    /// The time from which on the read was due and had a slot.
    pub(super) ready: u64,
    pub(super) call: ReadCall,
}

/// The id of a running read.
pub(super) type ReadId = u64;

/// The outcome of a read.
#[derive(Debug)]
pub(super) struct CompletedRead {
    pub(super) id: ReadId,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: Result<KnownIds>,
}

/// Ids that are known to exist in the store.
#[derive(Debug, Default)]
pub(super) struct KnownIds {
    pub(super) jobs: Vec<SmolStr>,
    pub(super) failed_runs: Vec<SmolStr>,
}

/// A reservoir of known ids. When it is full, a new id replaces a random one.
#[derive(Debug, Default)]
struct Reservoir {
    ids: Vec<SmolStr>,
}

impl Reservoir {
    fn offer(&mut self, id: SmolStr, random: u64) {
        if self.ids.len() < RESERVOIR_SIZE {
            self.ids.push(id);
        } else {
            self.ids[(random % RESERVOIR_SIZE as u64) as usize] = id;
        }
    }

    fn pick(&self, random: u64) -> Option<&SmolStr> {
        self.ids.get((random % self.ids.len().max(1) as u64) as usize)
    }
}

#[derive(Debug)]
struct Stream {
    kind: ReadKind,
    arrivals: Peekable<Arrivals>,
    number: u64,
}

/// The reads of a run.
#[derive(Debug)]
pub(super) struct Reads {
    requests: Requests,
    streams: Vec<Stream>,
    recorded: VecDeque<RecordedRead>,
    share: Share,
    /// The number of recorded reads that were due.
    next_recorded: u64,
    test_start: u64,
    horizon: u64,
    slots: Slots,
    jobs: Reservoir,
    failed_runs: Reservoir,
    random: u64,
    /// The reads that wait for a slot.
    waiting: VecDeque<DueRead>,
    running: BTreeMap<ReadId, DueRead>,
    next_id: ReadId,
    /// The number of reads of records of the test phase that were skipped because no id was known.
    pub(super) without_id: u64,
}

/// The slots that limit concurrent reads.
#[derive(Debug)]
struct Slots {
    /// The number of slots that are free since the start.
    unused: usize,
    /// The times at which the free slots that were used became free, in ascending order.
    freed: VecDeque<u64>,
}

impl Slots {
    /// Takes a slot. Returns the time since which it is free; `None` if none is free.
    fn take(&mut self) -> Option<u64> {
        if let Some(unused) = self.unused.checked_sub(1) {
            self.unused = unused;
            return Some(0);
        }
        self.freed.pop_front()
    }

    /// Frees a slot at a time. The driver may learn of it after later ones.
    fn free(&mut self, at: u64) {
        if self.unused > 0 {
            self.unused += 1;
        } else {
            self.freed.insert(self.freed.partition_point(|&freed| freed <= at), at);
        }
    }
}

impl Reads {
    pub(super) fn new(
        config: &LoadConfig,
        options: GeneratorOptions,
        requests: Requests,
        recorded: Vec<RecordedRead>,
    ) -> Self {
        let profile = Arc::new(Profile::of(config));
        let stream = |(index, (kind, per_hour)): (usize, (ReadKind, u64))| {
            let seed = split_mix(options.seed.wrapping_add(index as u64 + 1));
            let arrivals = Arrivals::new(options.arrivals, per_hour as f64 / 3600.0, profile.clone(), seed);
            Stream { kind, arrivals: arrivals.at_index(index).peekable(), number: 0 }
        };
        Self {
            requests,
            streams: rates(config).into_iter().enumerate().map(stream).collect(),
            recorded: recorded.into(),
            share: options.share,
            next_recorded: 0,
            test_start: config.test_micros()[0],
            horizon: u64::MAX,
            slots: Slots {
                unused: match config.queries.max_concurrent_queries {
                    0 => usize::MAX,
                    limit => usize::try_from(limit).unwrap_or(usize::MAX),
                },
                freed: VecDeque::new(),
            },
            jobs: Reservoir::default(),
            failed_runs: Reservoir::default(),
            random: split_mix(options.seed ^ 0x1d5),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            next_id: 0,
            without_id: 0,
        }
    }

    /// Ends the reads at a time. Reads that are due at or after it are not generated.
    pub(super) fn end_at(&mut self, micros: u64) {
        self.horizon = self.horizon.min(micros);
    }

    /// Adds known ids to the reservoirs.
    pub(super) fn add_ids(&mut self, seen: KnownIds) {
        for id in seen.jobs {
            let random = self.draw();
            self.jobs.offer(id, random);
        }
        for id in seen.failed_runs {
            let random = self.draw();
            self.failed_runs.offer(id, random);
        }
    }

    fn draw(&mut self) -> u64 {
        self.random = split_mix(self.random.wrapping_add(0x9e37_79b9_7f4a_7c15));
        self.random
    }

    /// Generates the reads that are due, and passes each to `due`.
    pub(super) fn advance(&mut self, now: u64, mut due: impl FnMut(&DueRead)) {
        for index in 0..self.streams.len() {
            let horizon = self.horizon;
            while let Some(arrival) =
                self.streams[index].arrivals.next_if(|&arrival| arrival <= now && arrival < horizon)
            {
                let number = self.streams[index].number;
                self.streams[index].number += 1;
                if !self.share.has(number) {
                    continue;
                }
                match self.read(self.streams[index].kind, number, arrival) {
                    Some(read) => {
                        due(&read);
                        self.waiting.push_back(read);
                    }
                    None => self.without_id += u64::from(arrival >= self.test_start),
                }
            }
        }
        while let Some(recorded) = self.recorded.pop_front_if(|read| read.due <= now && read.due < self.horizon) {
            self.next_recorded += 1;
            if self.share.has(self.next_recorded - 1) {
                let RecordedRead { query_type, due: at, call } = recorded;
                let read = DueRead { query_type, combo: REPLAYED, due: at, ready: at, call };
                due(&read);
                self.waiting.push_back(read);
            }
        }
    }

    /// Generates read `number` of a kind; `None` for the read of a record if no id is known.
    fn read(&mut self, kind: ReadKind, number: u64, due: u64) -> Option<DueRead> {
        let random = self.draw();
        let (combo, call) = match kind {
            (_, Some(page)) => (page.name(), ReadCall::Jobs(self.requests.lookout_page(page, number))),
            (QueryType::GetJobs, None) => {
                let (combo, query) = self.requests.page(number);
                (combo, ReadCall::Jobs(query))
            }
            (QueryType::GetJobGroups, None) => {
                let (combo, query) = self.requests.groups(number);
                (combo, ReadCall::Groups(query))
            }
            (QueryType::GetJobSpec, None) => {
                let id = self.jobs.pick(random)?;
                (NO_FILTER, ReadCall::JobSpec(id.to_string()))
            }
            (QueryType::GetJobRunError, None) => {
                let id = self.failed_runs.pick(random)?;
                (NO_FILTER, ReadCall::JobRunError(id.to_string()))
            }
            (QueryType::GetJobRunDebugMessage, None) => {
                let id = self.failed_runs.pick(random)?;
                (NO_FILTER, ReadCall::JobRunDebugMessage(id.to_string()))
            }
        };
        Some(DueRead { query_type: kind.0, combo, due, ready: due, call })
    }

    /// Takes a slot for the next waiting read.
    pub(super) fn start(&mut self) -> Option<(ReadId, ReadCall)> {
        self.waiting.front()?;
        let free_since = self.slots.take()?;
        let mut read = self.waiting.pop_front()?;
        read.ready = read.due.max(free_since);
        let (id, call) = (self.next_id, read.call.clone());
        self.next_id += 1;
        self.running.insert(id, read);
        Some((id, call))
    }

    /// Frees the slot of a read that ended at a time.
    pub(super) fn finish(&mut self, id: ReadId, ended: u64) -> Option<DueRead> {
        let read = self.running.remove(&id)?;
        self.slots.free(ended);
        Some(read)
    }

    /// The reads that have not completed.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &DueRead> {
        self.running.values().chain(&self.waiting)
    }

    pub(super) fn backlog(&self, of: QueryType) -> u64 {
        self.unfinished().filter(|read| read.query_type == of).count() as u64
    }

    pub(super) fn is_drained(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// The due time of the next read.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let horizon = self.horizon;
        let recorded = self.recorded.front().map(|read| read.due);
        let arrivals = self.streams.iter_mut().filter_map(|stream| stream.arrivals.peek().copied());
        arrivals.chain(recorded).filter(|&due| due < horizon).min()
    }
}

/// Executes a read with a timeout.
pub(super) async fn execute(
    database: Arc<dyn Database>,
    id: ReadId,
    call: ReadCall,
    deadline: Duration,
) -> CompletedRead {
    let began = Instant::now();
    let answer = timeout(deadline, call.execute(&*database)).await;
    let ended = Instant::now();
    let outcome = match answer {
        Ok(Ok(ReadResult::Jobs(jobs))) => Ok(seen(&jobs)),
        Ok(Ok(_)) => Ok(KnownIds::default()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::new(ErrorKind::Timeout, call.operation(), format!("no response within {deadline:?}"))
            .with_backend(database.backend())),
    };
    CompletedRead { id, began, ended, outcome }
}

fn seen(jobs: &[Job]) -> KnownIds {
    let failed = jobs.iter().filter(|job| job.state == JobState::Failed);
    KnownIds {
        jobs: jobs.iter().take(IDS_PER_PAGE).map(|job| job.job_id.clone()).collect(),
        failed_runs: failed.filter_map(|job| job.last_active_run_id.clone()).take(IDS_PER_PAGE).collect(),
    }
}

#[cfg(test)]
mod tests;
