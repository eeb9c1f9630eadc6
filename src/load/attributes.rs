//! The attributes of live jobs: those of historical jobs, by the numbers that the selection draws.

use std::collections::BTreeMap;

use super::selection::{Draw, Source};
use crate::historical::{
    ANNOTATIONS, CPUS, EPHEMERAL_STORAGES, GPUS, MEMORIES, NAMESPACES, POOLS, PRIORITY_CLASSES, annotation_value,
    cluster, node_of_cluster, pick, priority,
};
use crate::ingest::NewJob;
use crate::time::Timestamp;

/// Gives live jobs their attributes.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    source: Source,
}

/// Where a job's run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) pool: &'static str,
}

impl Attributes {
    pub(super) fn new(source: Source) -> Self {
        Self { source }
    }

    /// Job `number` of a queue, which owns it, and a job set.
    pub(super) fn job(&self, number: u64, id: &str, queue: &str, job_set: &str, submitted: Timestamp) -> NewJob {
        let draw = |what| self.source.draw(number, what);
        NewJob {
            job_id: id.to_owned(),
            queue: queue.to_owned(),
            job_set: job_set.to_owned(),
            owner: queue.to_owned(),
            namespace: Some(pick(&NAMESPACES, draw(Draw::Namespace)).to_owned()),
            priority: priority(draw(Draw::Priority)),
            priority_class: Some(pick(&PRIORITY_CLASSES, draw(Draw::PriorityClass)).to_owned()),
            submitted,
            cpu: pick(&CPUS, draw(Draw::Cpu)),
            memory: pick(&MEMORIES, draw(Draw::Memory)),
            ephemeral_storage: pick(&EPHEMERAL_STORAGES, draw(Draw::EphemeralStorage)),
            gpu: pick(&GPUS, draw(Draw::Gpu)),
            annotations: self.annotations(number),
        }
    }

    fn annotations(&self, number: u64) -> BTreeMap<String, String> {
        let annotation = |(index, &(key, modulus)): (usize, &(&str, u64))| {
            (key.to_owned(), annotation_value(self.source.draw_annotation(number, index), modulus))
        };
        ANNOTATIONS.iter().enumerate().map(annotation).collect()
    }

    /// Where the run of job `number` is.
    pub(super) fn placement(&self, number: u64) -> Placement {
        let (of_cluster, of_node) = (self.source.draw(number, Draw::Cluster), self.source.draw(number, Draw::Node));
        Placement {
            cluster: cluster(of_cluster),
            node: node_of_cluster(of_cluster, of_node),
            pool: pick(&POOLS, self.source.draw(number, Draw::Pool)),
        }
    }
}
