//! The events of a server during a load, from the statistics of its activity.

use broadside::load::RunRecord;
use broadside::load::record::ActivitySample;

/// An event of the server: a counter that grew or a gauge that is not 0.
const EVENTS: [(&str, &[&str]); 3] =
    [("checkpoint", &["checkpoints"]), ("vacuum", &["vacuums", "runningVacuums"]), ("merge", &["runningMerges"])];
/// The maximum number of marks of an event. A more frequent one is shown by its chart.
const MAX_MARKS: usize = 20;

/// The events of a run with the start of the interval in which they began, in seconds from the start of the run.
pub(super) fn events(run: &RunRecord) -> Vec<(f64, &'static str)> {
    let mut events = Vec::new();
    for (event, statistics) in EVENTS {
        let happens = |sample: &ActivitySample| {
            let values = statistics.iter().flat_map(|name| sample.counters.get(*name).or(sample.gauges.get(*name)));
            values.into_iter().any(|value| *value > 0)
        };
        let began = run.activity.windows(2).filter(|pair| happens(&pair[1]) && !happens(&pair[0]));
        let began: Vec<_> = began.map(|pair| (pair[0].at_nanos as f64 / 1e9, event)).collect();
        if began.len() <= MAX_MARKS {
            events.extend(began);
        }
    }
    events
}
