//! The comparison of the results of an operation, and its measurement.

use std::time::Duration;

use super::check::answers_differ;
use super::operation::ReadOperation;
use super::ratio::MIN_TURNS;
use super::target::Target;
use super::turns::{RUNS_PER_TURN, Samples, turns};
use super::writes::Writes;
use crate::error::{Error, ErrorKind, Result};
use crate::query::{ReadCall, ReadResult};

/// The time of a target after which an operation is no longer repeated. It applies to all targets together, because all
/// of them execute the same queries.
const ENOUGH_TIME: Duration = Duration::from_secs(2);

/// A result that differs from that of the first target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryDifference {
    /// The operation.
    pub operation: String,
    /// The target with the different result.
    pub target: String,
    /// The target with the expected result.
    pub reference: String,
    /// The difference.
    pub problem: String,
    /// The query.
    pub query: String,
}

/// The reads of an operation on the targets that support it.
pub(super) struct Reads<'a> {
    operation: ReadOperation,
    targets: &'a [Box<dyn Target>],
    /// The positions of the targets that support the operation.
    active: Vec<usize>,
    /// The batches before each read, which are not timed.
    writes: Option<&'a mut Writes>,
}

/// The queries of an operation, whose results are equal.
pub(super) struct Checked {
    queries: Vec<ReadCall>,
    /// The time of an execution, the sum over the targets.
    time: Duration,
}

impl Checked {
    /// Whether there is no query.
    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }
}

impl<'a> Reads<'a> {
    pub(super) fn new(operation: ReadOperation, targets: &'a [Box<dyn Target>], writes: &'a mut Writes) -> Self {
        let writes = matches!(operation, ReadOperation::AfterWrite(_)).then_some(writes);
        let is_active = |at: &usize| writes.is_none() || targets[*at].supports_updates();
        Self { operation, targets, active: (0..targets.len()).filter(is_active).collect(), writes }
    }

    /// Executes each distinct query once on every target, and compares the results. If the targets are slow, it stops
    /// early.
    pub(super) async fn check(
        &mut self,
        queries: impl Iterator<Item = ReadCall>,
    ) -> Result<Result<Checked, QueryDifference>> {
        let mut distinct: Vec<ReadCall> = Vec::new();
        let mut total = Duration::ZERO;
        for query in queries {
            if distinct.len() >= MIN_TURNS && total > enough_time(self.active.len()) {
                break;
            }
            if distinct.contains(&query) {
                continue;
            }
            let write = self.writes.as_deref_mut().map(Writes::next).transpose()?;
            let mut answers = Vec::new();
            for &at in &self.active {
                let target = self.targets[at].as_ref();
                if let Some(batch) = &write {
                    total += target.ingest(batch).await?;
                }
                let answer = answer_or_missing(target, &query).await?;
                total += answer.as_ref().map_or(Duration::ZERO, |(_, time)| *time);
                answers.push(answer.map(|(answer, _)| answer));
            }
            if let Some(difference) = self.difference(&query, &answers).await? {
                return Ok(Err(difference));
            }
            // A query that fails on all targets has no time.
            if answers.iter().any(Result::is_ok) {
                distinct.push(query);
            }
        }
        let time = mean(total, distinct.len());
        Ok(Ok(Checked { queries: distinct, time }))
    }

    /// Executes the queries repeatedly, in rounds in which each target has a turn. All targets execute the same
    /// queries, at most `samples` times in total. The last results of a round are compared.
    pub(super) async fn time(
        &mut self,
        checked: &Checked,
        samples: usize,
    ) -> Result<Result<Vec<Samples>, QueryDifference>> {
        let mut times: Vec<Samples> = self.targets.iter().map(|_| Samples::default()).collect();
        let (enough_time, mut total) = (enough_time(self.active.len()), Duration::ZERO);
        let executions: Vec<&ReadCall> = checked.queries.iter().cycle().take(samples).collect();
        for (round, queries) in executions.chunks(runs_per_turn(enough_time, checked.time)).enumerate() {
            if round >= MIN_TURNS && total > enough_time {
                break;
            }
            let writes: Vec<_> = match &mut self.writes {
                Some(writes) => queries.iter().map(|_| writes.next().map(Some)).collect::<Result<_>>()?,
                None => vec![None; queries.len()],
            };
            let mut last: Vec<Option<ReadResult>> = vec![None; self.active.len()];
            for turn in turns(self.active.len(), round) {
                let at = self.active[turn];
                for (query, write) in queries.iter().zip(&writes) {
                    if let Some(batch) = write {
                        total += self.targets[at].ingest(batch).await?;
                    }
                    let (answer, time) = self.targets[at].answer(query).await?;
                    total += time;
                    times[at].add(round, time, answer.rows());
                    last[turn] = Some(answer);
                }
            }
            let answers: Vec<_> = last.into_iter().flatten().map(Ok).collect();
            if let Some(difference) = self.difference(queries[queries.len() - 1], &answers).await? {
                return Ok(Err(difference));
            }
        }
        Ok(Ok(times))
    }

    /// The first difference from the results of the first target.
    async fn difference(
        &self,
        query: &ReadCall,
        answers: &[Result<ReadResult, Error>],
    ) -> Result<Option<QueryDifference>> {
        let [expected, others @ ..] = answers else { return Ok(None) };
        let reference = self.targets[self.active[0]].as_ref();
        for (&at, got) in self.active[1..].iter().zip(others) {
            let problem = match (expected, got) {
                (Ok(expected), Ok(got)) => answers_differ(reference, query, expected, got).await?,
                (Err(expected), Ok(_)) => Some(format!("expected an error: {expected}")),
                (Ok(_), Err(got)) => Some(format!("got an error: {got}")),
                (Err(_), Err(_)) => None,
            };
            if let Some(problem) = problem {
                return Ok(Some(QueryDifference {
                    operation: self.operation.to_string(),
                    target: self.targets[at].name().to_owned(),
                    reference: reference.name().to_owned(),
                    problem,
                    query: format!("{query:?}"),
                }));
            }
        }
        Ok(None)
    }
}

/// The result of a query and its time, or the error if the record does not exist.
async fn answer_or_missing(target: &dyn Target, query: &ReadCall) -> Result<Result<(ReadResult, Duration), Error>> {
    match target.answer(query).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(error)),
        answer => answer.map(Ok),
    }
}

/// The mean time of a number of executions, which may be 0.
fn mean(total: Duration, count: usize) -> Duration {
    total / count.max(1) as u32
}

/// The time after which an operation on a number of targets is no longer repeated.
fn enough_time(targets: usize) -> Duration {
    ENOUGH_TIME * targets as u32
}

/// The number of executions in a turn, given the time of one on all targets. Slow operations have short turns, so that
/// there are enough of them.
fn runs_per_turn(enough_time: Duration, time: Duration) -> usize {
    let affordable = enough_time.as_nanos() / MIN_TURNS as u128 / time.as_nanos().max(1);
    usize::try_from(affordable).unwrap_or(RUNS_PER_TURN).clamp(1, RUNS_PER_TURN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_enough_turns_within_its_time() {
        assert_eq!(enough_time(3), ENOUGH_TIME * 3);
        let time = |runs: usize| enough_time(3) / (MIN_TURNS * runs) as u32;
        for runs in [1, 2, RUNS_PER_TURN] {
            assert_eq!(runs_per_turn(enough_time(3), time(runs)), runs, "{:?}", time(runs));
        }
        assert_eq!(runs_per_turn(enough_time(3), time(1) * 10), 1, "a turn has at least one execution");
        assert_eq!(runs_per_turn(enough_time(3), Duration::ZERO), RUNS_PER_TURN);
        assert_eq!([mean(time(1), 4), mean(Duration::ZERO, 0)], [time(4), Duration::ZERO]);
    }
}
