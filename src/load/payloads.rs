//! The specs, errors and debug messages of jobs in a load test, shared by all jobs.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;

use crate::api;

/// The encoded spec of each job.
pub(super) static SPEC: LazyLock<Bytes> = LazyLock::new(|| {
    let labels = (0..40).map(|index| (format!("example.com/label-{index}"), format!("value-{index:032}"))).collect();
    let job = api::Job { client_id: "broadside".to_owned(), priority: 1.0, labels, ..api::Job::default() };
    job.encode_to_vec().into()
});
/// The error of failed jobs and their runs.
pub(super) static ERROR: LazyLock<Bytes> =
    LazyLock::new(|| message("the container main exited with code 1: out of memory", 512));
/// The debug message of the runs of failed jobs.
pub(super) static DEBUG: LazyLock<Bytes> =
    LazyLock::new(|| message("pod events: Scheduled, Pulled, Created, Started, BackOff", 2048));
/// The error of the runs of preempted jobs.
pub(super) static PREEMPTION: LazyLock<Bytes> =
    LazyLock::new(|| message("preempted by a job of a higher priority class", 256));

/// Repeats a text up to a length in bytes.
fn message(text: &str, length: usize) -> Bytes {
    text.bytes().chain(*b"; ").cycle().take(length).collect()
}
