//! Historical jobs, implemented independently of the crate.

use broadside::Timestamp;
use broadside::historical::HistoricalJobs;
use broadside::ingest::{InsertJobRun, NewJob};
use broadside::model::{JobState, RunState};

use super::Store;
use super::ingest::{new_job, new_run};

const GIB: i64 = 1024 * 1024 * 1024;

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_micros(time.as_micros() + seconds * 1_000_000)
}

impl Store {
    /// Inserts job `i` and its records, except those that exist.
    pub fn insert_historical_job(&mut self, jobs: &HistoricalJobs, i: u64) {
        let at = |table: &[&str]| table[i as usize % table.len()].to_owned();
        let number = |table: &[i64]| table[i as usize % table.len()];
        let base = jobs.bases()[i as usize % jobs.bases().len()];
        let job_id = format!("{}{i:010}", jobs.id_prefix());
        if self.jobs.contains_key(&job_id) {
            return;
        }
        let run_id = format!("{job_id}00");
        let cluster = format!("broadside-cluster-{}", i % 40 + 1);
        let finished = later(base, 10);
        let [succeeded, errored, cancelled] = jobs.thresholds();
        let (state, run_state) = match i % 1000 {
            n if n < succeeded => (JobState::Succeeded, RunState::Succeeded),
            n if n < errored => (JobState::Failed, RunState::Failed),
            n if n < cancelled => (JobState::Cancelled, RunState::Cancelled),
            _ => (JobState::Preempted, RunState::Preempted),
        };

        let mut job = new_job(&NewJob {
            job_id: job_id.clone(),
            queue: jobs.queue().to_owned(),
            job_set: jobs.job_set().to_owned(),
            owner: jobs.queue().to_owned(),
            namespace: Some(at(&[
                "default",
                "dev",
                "staging",
                "research-red",
                "research-blue",
                "research-green",
                "research-yellow",
            ])),
            priority: (i % 2000) as i64 + 1,
            priority_class: Some(at(&["armada-default", "armada-resilient", "armada-high", "armada-custom"])),
            submitted: base,
            cpu: number(&[1, 2, 4, 8, 16, 32]),
            memory: number(&[GIB, 4 * GIB, 64 * GIB, 1024 * GIB]),
            ephemeral_storage: number(&[GIB / 2, 2 * GIB, 10 * GIB, 1024 * GIB, 30 * 1024 * GIB]),
            gpu: number(&[0, 0, 0, 1, 0, 0, 0, 8]),
            annotations: [("alpha", 10), ("beta", 100), ("charlie", 1000), ("delta", 10_000), ("echo", 100_000)]
                .into_iter()
                .map(|(name, modulus)| (format!("example.com/broadside-{name}"), format!("value-{}", i % modulus)))
                .collect(),
        });
        job.state = state;
        job.last_transition_time = finished;
        job.last_active_run_id = Some(run_id.as_str().into());
        if state == JobState::Cancelled {
            job.cancelled = Some(finished);
            job.cancel_reason = Some("user requested".into());
            job.cancel_user = Some(jobs.queue().into());
        }

        let mut run = new_run(&InsertJobRun {
            job_run_id: run_id.clone(),
            job_id: job_id.clone(),
            node: Some(format!("{cluster}-node-{}", i % 80 + 1)),
            cluster,
            pool: Some(at(&["general-purpose", "high-memory", "high-cpu", "gpu"])),
            time: later(base, 1),
            submitted: None,
        });
        run.run.pending = Some(later(base, 2));
        run.run.started = Some(later(base, 3));
        run.run.finished = Some(finished);
        run.run.job_run_state = run_state;
        match run_state {
            RunState::Succeeded => run.run.exit_code = Some(0),
            RunState::Failed => {
                run.run.exit_code = Some(0);
                run.error = jobs.error().cloned();
                run.debug = jobs.debug().cloned();
                self.insert_error(&job_id, jobs.error());
            }
            RunState::Preempted => run.error = jobs.preemption().cloned(),
            _ => {}
        }

        self.insert_spec(&job_id, jobs.spec());
        self.runs.entry(run_id).or_insert(run);
        self.jobs.insert(job_id, job);
    }
}
