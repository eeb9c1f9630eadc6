//! The attributes of live jobs, derived from random numbers by the same tables as those of historical jobs.

use std::collections::BTreeMap;

use super::selection::{DrawSource, Property};
use crate::historical::{
    ANNOTATIONS, CPUS, EPHEMERAL_STORAGES, GPUS, MEMORIES, NAMESPACES, POOLS, PRIORITY_CLASSES, annotation_value,
    cluster, node_of_cluster, pick, priority,
};
use crate::ingest::NewJob;
use crate::time::Timestamp;

/// Derives the attributes of live jobs.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    source: DrawSource,
}

/// The cluster, node and pool of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) pool: &'static str,
}

impl Attributes {
    pub(super) fn new(source: DrawSource) -> Self {
        Self { source }
    }

    /// The attributes of job `number`. Its owner is the queue.
    pub(super) fn job(&self, number: u64, id: &str, queue: &str, job_set: &str, submitted: Timestamp) -> NewJob {
        let draw = |property| self.source.draw(number, property);
        NewJob {
            job_id: id.to_owned(),
            queue: queue.to_owned(),
            job_set: job_set.to_owned(),
            owner: queue.to_owned(),
            namespace: Some(pick(&NAMESPACES, draw(Property::Namespace)).to_owned()),
            priority: priority(draw(Property::Priority)),
            priority_class: Some(pick(&PRIORITY_CLASSES, draw(Property::PriorityClass)).to_owned()),
            submitted,
            cpu: pick(&CPUS, draw(Property::Cpu)),
            memory: pick(&MEMORIES, draw(Property::Memory)),
            ephemeral_storage: pick(&EPHEMERAL_STORAGES, draw(Property::EphemeralStorage)),
            gpu: pick(&GPUS, draw(Property::Gpu)),
            annotations: self.annotations(number),
        }
    }

    fn annotations(&self, number: u64) -> BTreeMap<String, String> {
        let annotation = |(index, &(key, modulus)): (usize, &(&str, u64))| {
            (key.to_owned(), annotation_value(self.source.draw_annotation(number, index), modulus))
        };
        ANNOTATIONS.iter().enumerate().map(annotation).collect()
    }

    /// The placement of the run of job `number`.
    pub(super) fn placement(&self, number: u64) -> Placement {
        let (of_cluster, of_node) =
            (self.source.draw(number, Property::Cluster), self.source.draw(number, Property::Node));
        Placement {
            cluster: cluster(of_cluster),
            node: node_of_cluster(of_cluster, of_node),
            pool: pick(&POOLS, self.source.draw(number, Property::Pool)),
        }
    }
}
