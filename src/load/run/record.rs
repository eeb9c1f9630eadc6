//! The record of a run: before the load, and with its measurements.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Run;
use crate::error::BackendKind;
use crate::load::driver::LoadOutcome;
use crate::load::duration::GoDuration;
use crate::load::monitor;
use crate::load::record::{CensusRecord, Phase, PhaseRecord, RunRecord, ShareRecord, StoreRecord};
use crate::measure::Machine;

impl Run<'_> {
    /// The record at the start of the load, with the planned phases.
    pub(super) fn planned(&self, skeleton: &RunRecord, [warm_up, end]: [u64; 2]) -> RunRecord {
        let mut record = skeleton.clone();
        let start = self.start.elapsed().as_nanos() as u64;
        let phase = |phase, from: u64, to: u64| PhaseRecord {
            phase,
            start_nanos: start + from * 1000,
            end_nanos: start + to * 1000,
        };
        if warm_up > 0 {
            record.phases.push(phase(Phase::WarmUp, 0, warm_up));
        }
        record.phases.push(phase(Phase::Test, warm_up, end));
        record
    }

    /// The record of a run without a load.
    pub(super) fn unloaded(&self) -> RunRecord {
        RunRecord {
            format: RunRecord::FORMAT,
            broadside: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            ended: self.started,
            seed: self.options.generator.seed,
            options: self.recorded_options(),
            configuration: serde_json::to_value(self.config).unwrap_or_default(),
            store: StoreRecord {
                backend: self.database.backend().name().to_owned(),
                address: self.config.database.address(),
                ..StoreRecord::default()
            },
            machine: Machine::this(),
            partial: true,
            phases: self.phases.clone(),
            resources: self.resources.clone(),
            activity: self.activity.clone(),
            activity_problems: self.activity_problems.clone(),
            rate_search: self.search.clone(),
            share: self.team.as_ref().map(|team| ShareRecord {
                share: self.options.generator.share.to_string(),
                load: team.load().to_owned(),
            }),
            ..RunRecord::default()
        }
    }

    pub(super) fn recorded_options(&self) -> BTreeMap<String, Value> {
        let options = self.options.generator;
        BTreeMap::from([
            ("selection".to_owned(), json!(options.selection)),
            ("arrivals".to_owned(), json!(options.arrivals)),
            ("queryTimeout".to_owned(), json!(GoDuration(self.options.query_timeout))),
        ])
    }

    pub(super) fn record(&mut self, driven: LoadOutcome, census: Option<CensusRecord>) -> RunRecord {
        let offset = driven.offset.as_nanos() as u64;
        let LoadOutcome { generator, reads, actions, record, drained, interrupted, aborted, .. } = driven;
        let mut record = RunRecord {
            partial: interrupted,
            aborted,
            phases: self.phases.clone(),
            actions: actions.iter().map(|action| action.record(offset)).collect(),
            resources: self.resources.clone(),
            activity: std::mem::take(&mut self.activity),
            activity_problems: std::mem::take(&mut self.activity_problems),
            census,
            ..record
        };
        record.ingester.jobs_dropped = generator.shed.dropped;
        record.ingester.jobs_rejected = generator.shed.rejected;
        record.reads_without_id = reads.without_id;
        let in_process = self.database.backend() == BackendKind::Memory;
        if let Some(test) = self.phases.iter().find(|phase| phase.phase == Phase::Test) {
            record.invalid.extend(monitor::driver_limits(&record.activity, test, record.machine.cores, in_process));
        }
        if !drained && !interrupted && record.aborted.is_none() {
            record.unsustained.push("some calls had not completed at the end of the drain".to_owned());
        }
        if self.team.is_some() {
            record.judge_share();
        } else {
            record.evaluate(self.config);
        }
        record
    }
}
