//! The attributes of live jobs, derived from random numbers by the same tables as those of historical jobs.

use std::collections::BTreeMap;

use super::selection::{DrawSource, Property};
use crate::historical::{
    ANNOTATIONS, CPUS, EPHEMERAL_STORAGES, GPUS, MEMORIES, NAMESPACES, POOLS, PRIORITY_CLASSES, annotation_value,
    cluster, node_of_cluster, pick, priority,
};
use crate::ingest::NewJob;
use crate::time::Timestamp;

/// The cluster, node and pool of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) pool: &'static str,
}

impl DrawSource {
    /// The attributes of job `number`. Its owner is the queue.
    pub(super) fn new_job(self, number: u64, id: &str, queue: &str, job_set: &str, submitted: Timestamp) -> NewJob {
        let draw = |property| self.draw(number, property);
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

    fn annotations(self, number: u64) -> BTreeMap<String, String> {
        let annotation = |(index, &(key, modulus)): (usize, &(&str, u64))| {
            (key.to_owned(), annotation_value(self.draw_annotation(number, index), modulus))
        };
        ANNOTATIONS.iter().enumerate().map(annotation).collect()
    }

    /// The placement of the run of job `number`.
    pub(super) fn placement(self, number: u64) -> Placement {
        let (of_cluster, of_node) = (self.draw(number, Property::Cluster), self.draw(number, Property::Node));
        Placement {
            cluster: cluster(of_cluster),
            node: node_of_cluster(of_cluster, of_node),
            pool: pick(&POOLS, self.draw(number, Property::Pool)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: u64 = 20_000;

    fn annotations(source: DrawSource) -> Vec<Vec<u64>> {
        let numbers = |job| {
            let values = source.annotations(job).into_values();
            values.map(|value| value.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()).collect()
        };
        (0..JOBS).map(numbers).collect()
    }

    #[test]
    fn annotations_are_uniform_and_independent() {
        let jobs = annotations(DrawSource::Seed(7));
        for (at, (key, modulus)) in ANNOTATIONS.into_iter().enumerate().take(3) {
            let mut counts = vec![0_u64; modulus as usize];
            jobs.iter().for_each(|values| counts[(values[at] % modulus) as usize] += 1);
            let expected = JOBS as f64 / modulus as f64;
            let worst = counts.iter().map(|&count| (count as f64 - expected).abs()).fold(0.0, f64::max);
            assert!(worst <= 6.0 * expected.sqrt(), "{key}: {worst} from {expected}");
        }
        // The last digit of an annotation says nothing about that of another one.
        for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)] {
            let same = jobs.iter().filter(|values| values[a] % 10 == values[b] % 10).count();
            assert!((1800..2200).contains(&same), "annotations {a} and {b} agree in {same} of {JOBS} jobs");
        }
        assert_ne!(jobs, annotations(DrawSource::Seed(8)));
        // As in Armada's Broadside, all annotations are derived from the job number.
        let upstream = annotations(DrawSource::JobNumber);
        assert!((0..JOBS).all(|job| upstream[job as usize] == ANNOTATIONS.map(|(_, modulus)| job % modulus)));
    }
}
