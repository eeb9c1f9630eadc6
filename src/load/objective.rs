//! Service level objectives of a run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::duration::parse_duration;
use super::record::QueryType;

/// The name of the 99.9th percentile.
const P99_9: &str = "p99.9";

/// A service level objective, for example `page.p99 < 50ms`, `groups.annotations.p95 < 1s` or `ingest.errors < 0.1%`.
///
/// An objective consists of a kind of call (`page`, `groups`, `spec`, `runError`, `debugMessage` or `ingest`),
/// optionally a filter combination of reads, a statistic and a bound. The statistic is `p50`, `p95`, `p99`, `p99.9`,
/// `mean` or `max` of the latency from due time to completion, or `errors`, the percentage of calls that failed or had
/// not completed at the end. Latencies of `ingest` are those of events, errors those of attempts to send a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    pub(super) text: String,
    /// The kind of read; `None` for ingestion.
    pub(super) kind: Option<QueryType>,
    pub(super) filter: Option<String>,
    pub(super) bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    Latency(Statistic, Duration),
    /// The maximum fraction of calls that fail or do not complete.
    Errors(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Statistic {
    Quantile(f64),
    Mean,
    Max,
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "must have the form KIND.STATISTIC < BOUND, such as page.p99 < 50ms".to_owned();
        let (measure, bound) = text.split_once('<').ok_or_else(form)?;
        let measure = measure.trim();
        // The only statistic with a point in its name.
        let (calls, statistic) = match measure.strip_suffix(P99_9).and_then(|calls| calls.strip_suffix('.')) {
            Some(calls) => (calls, P99_9),
            None => measure.rsplit_once('.').ok_or_else(form)?,
        };
        let (kind, filter) = match calls.split_once('.') {
            None => (calls, None),
            Some((kind, filter)) if !filter.is_empty() && !filter.contains('.') => (kind, Some(filter.to_owned())),
            Some(_) => return Err(form()),
        };
        let kind = kind_of(kind)?;
        if kind.is_none() && filter.is_some() {
            return Err("has a filter, which ingest does not support".to_owned());
        }
        let bound = bound_of(statistic, bound.trim())?;
        Ok(Self { text: text.trim().to_owned(), kind, filter, bound })
    }
}

fn kind_of(name: &str) -> Result<Option<QueryType>, String> {
    Ok(match name {
        "ingest" => None,
        "page" => Some(QueryType::GetJobs),
        "groups" => Some(QueryType::GetJobGroups),
        "spec" => Some(QueryType::GetJobSpec),
        "runError" => Some(QueryType::GetJobRunError),
        "debugMessage" => Some(QueryType::GetJobRunDebugMessage),
        _ => return Err(format!("has no kind {name:?}: use page, groups, spec, runError, debugMessage or ingest")),
    })
}

fn bound_of(statistic: &str, bound: &str) -> Result<Bound, String> {
    let statistic = match statistic {
        "p50" => Statistic::Quantile(0.5),
        "p95" => Statistic::Quantile(0.95),
        "p99" => Statistic::Quantile(0.99),
        P99_9 => Statistic::Quantile(0.999),
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        "errors" => {
            let share = bound.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let share = share.filter(|share| (0.0..=100.0).contains(share));
            return share
                .map(|share| Bound::Errors(share / 100.0))
                .ok_or_else(|| format!("has the bound {bound:?}, which must be a percentage such as 0.1%"));
        }
        _ => return Err(format!("has no statistic {statistic:?}: use p50, p95, p99, p99.9, mean, max or errors")),
    };
    let limit = parse_duration(bound).map_err(|error| format!("has the bound {bound:?}, which {error}"))?;
    Ok(Bound::Latency(statistic, limit))
}
