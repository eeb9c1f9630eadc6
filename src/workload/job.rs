//! A job of the workload, derived only from its number.

use super::random::Random;
use super::vocabulary::*;
use super::{Placement, Workload};
use crate::ingest::NewJob;
use crate::model::JobState;
use crate::time::Timestamp;

const MICROS_PER_SECOND: u64 = 1_000_000;
/// The maximum duration of a run, in seconds.
const MAX_RUN_SECONDS: u64 = 6 * 3600;
/// The maximum duration of a step before a run, in seconds.
const MAX_STEP_SECONDS: u64 = 600;
/// The probability of a further failed run before the last one, per mille.
const RERUN_PER_MILLE: u64 = 80;
/// The maximum number of runs of a job.
const MAX_RUNS: usize = 3;

/// A job of the workload in its final state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeneratedJob {
    /// The number in the workload, starting at 0. Ids are in the order of numbers.
    pub number: u64,
    /// The job as submitted. Its id is a ULID, and its annotations have the [`ANNOTATION_KEYS`].
    pub new: NewJob,
    /// The state.
    pub state: JobState,
    /// The time of the last state transition.
    pub last_transition_time: Timestamp,
    /// The runs in order.
    pub runs: Vec<GeneratedRun>,
    /// The error of a failed job.
    pub failure: (&'static str, i32),
    /// The reason of a cancelled job.
    pub cancel_reason: Option<&'static str>,
}

/// A run of a job of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeneratedRun {
    /// The run's id, a UUID.
    pub run_id: String,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// The pool.
    pub pool: &'static str,
    /// The time of the lease.
    pub leased: Timestamp,
    /// The time of the transition to pending; `None` if the run did not become pending.
    pub pending: Option<Timestamp>,
    /// The time of the start; `None` if the run did not start.
    pub started: Option<Timestamp>,
    /// The time of the end; `None` if the run did not end.
    pub finished: Option<Timestamp>,
}

impl GeneratedJob {
    pub(super) fn new(workload: &Workload, number: u64) -> Self {
        let mut random = Random::new(workload.options.seed, number);
        let placement = workload.placement(number, &mut random);
        let Placement { queue, submitted, .. } = placement;
        let state = state(&placement, &mut random);
        let gpu = random.pick_weighted(&GPUS);
        let cpu = random.pick_weighted(&CPUS);
        let mut clock = SimulatedClock { now: submitted };
        let runs = runs(state, gpu > 0, &mut clock, &mut random);
        // A job with a run ends when its last run ends.
        let last_transition_time = match state {
            JobState::Queued => submitted,
            JobState::Rejected => clock.step(MAX_STEP_SECONDS, &mut random),
            JobState::Cancelled if runs.is_empty() => clock.step(MAX_RUN_SECONDS, &mut random),
            _ => clock.now,
        };
        Self {
            number,
            new: NewJob {
                job_id: ulid(placement.id_time, &mut random),
                queue: QUEUES[queue].to_owned(),
                job_set: job_set(queue, placement.job_set),
                owner: owner(queue, &mut random),
                namespace: namespace(queue, &mut random).map(str::to_owned),
                priority: 1 + random.skewed(1000) as i64,
                priority_class: random.pick_weighted(&PRIORITY_CLASSES).map(str::to_owned),
                submitted,
                cpu,
                memory: cpu * random.pick(&MEMORY_PER_CPU) / 1000,
                ephemeral_storage: random.pick(&EPHEMERAL_STORAGES),
                gpu,
                annotations: ANNOTATION_KEYS
                    .map(str::to_owned)
                    .into_iter()
                    .zip(annotations(queue, &mut random))
                    .collect(),
            },
            state,
            last_transition_time,
            runs,
            failure: random.pick(&FAILURES),
            cancel_reason: random.pick_weighted(&CANCEL_REASONS),
        }
    }

    /// Whether the job has a spec.
    pub(super) fn has_spec(&self, specs_every: u64) -> bool {
        specs_every > 0 && self.number.is_multiple_of(specs_every)
    }
}

/// Draws the state. Active jobs are among those submitted last, as in a cluster that keeps up, so only recent job sets
/// are active.
fn state(placement: &Placement, random: &mut Random) -> JobState {
    const RECENT_PER_MILLE: u64 = 350;
    const ACTIVE_OF_RECENT_PER_MILLE: u64 = 857; // 30% of all

    let recent = placement.age_per_mille < RECENT_PER_MILLE;
    if recent && random.per_mille(ACTIVE_OF_RECENT_PER_MILLE) {
        random.pick_weighted(&ACTIVE_STATES)
    } else {
        random.pick_weighted(&TERMINAL_STATES)
    }
}

/// The simulated clock of a job.
struct SimulatedClock {
    now: Timestamp,
}

impl SimulatedClock {
    /// Advances by a random duration of at most `most_seconds`, skewed to short ones.
    fn step(&mut self, most_seconds: u64, random: &mut Random) -> Timestamp {
        let micros = 1 + random.skewed(most_seconds * MICROS_PER_SECOND);
        self.now = Timestamp::from_micros(self.now.as_micros() + micros as i64);
        self.now
    }
}

fn runs(state: JobState, needs_gpu: bool, clock: &mut SimulatedClock, random: &mut Random) -> Vec<GeneratedRun> {
    let has_run = match state {
        JobState::Queued | JobState::Rejected => false,
        JobState::Cancelled => random.per_mille(500),
        _ => true,
    };
    let mut runs = Vec::new();
    if has_run {
        while runs.len() + 1 < MAX_RUNS && random.per_mille(RERUN_PER_MILLE) {
            runs.push(run(JobState::Failed, needs_gpu, clock, random));
        }
        runs.push(run(state, needs_gpu, clock, random));
    }
    runs
}

/// The latest run of a job in `state`.
fn run(state: JobState, needs_gpu: bool, clock: &mut SimulatedClock, random: &mut Random) -> GeneratedRun {
    let pool = if needs_gpu { GPU_POOL } else { random.below(GPU_POOL as u64) as usize };
    let cluster = format!("{}-{:02}", POOLS[pool], 1 + random.skewed(CLUSTERS_PER_POOL));
    let is_terminal = state.is_terminal();
    GeneratedRun {
        run_id: uuid(random),
        node: format!("{cluster}-node-{:03}", 1 + random.below(NODES_PER_CLUSTER)),
        cluster,
        pool: POOLS[pool],
        leased: clock.step(MAX_STEP_SECONDS, random),
        pending: (state != JobState::Leased).then(|| clock.step(MAX_STEP_SECONDS, random)),
        started: (is_terminal || state == JobState::Running).then(|| clock.step(MAX_STEP_SECONDS, random)),
        finished: is_terminal.then(|| clock.step(MAX_RUN_SECONDS, random)),
    }
}

fn job_set(queue: usize, number: u64) -> String {
    format!("{}-{}-{number:06}", QUEUES[queue], PURPOSES[(number % PURPOSES.len() as u64) as usize])
}

fn owner(queue: usize, random: &mut Random) -> String {
    format!("user-{:03}", (queue as u64 * 7 + random.skewed(OWNERS_PER_QUEUE)) % OWNERS)
}

fn namespace(queue: usize, random: &mut Random) -> Option<&'static str> {
    match random.below(100) {
        0..2 => None,
        2..20 => Some("default"),
        _ => Some(NAMESPACES[queue % NAMESPACES.len()]),
    }
}

fn annotations(queue: usize, random: &mut Random) -> [String; ANNOTATION_KEYS.len()] {
    [
        random.pick_weighted(&STAGES).to_owned(),
        format!("team-{:02}", (queue as u64 + random.skewed(4)) % TEAMS),
        format!("project-{:03}", random.skewed(PROJECTS)),
        format!("model-{:04}", random.skewed(MODELS)),
        format!("{:016x}", random.next()),
    ]
}

/// A ULID in lower case, as in Armada: 48 bits of milliseconds and 80 random bits, as 26 digits of Crockford's base 32.
fn ulid(time: Timestamp, random: &mut Random) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    let millis = time.as_micros().unsigned_abs() / 1000;
    let random_bits = u128::from(random.next()) << 16 | u128::from(random.below(1 << 16));
    let value = u128::from(millis) << 80 | random_bits;
    (0..26).rev().map(|digit| char::from(DIGITS[(value >> (5 * digit)) as usize % 32])).collect()
}

/// A random UUID (version 4).
fn uuid(random: &mut Random) -> String {
    let high = random.next() & !0xf000 | 0x4000;
    let low = random.next() >> 2 | 1 << 63;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}
