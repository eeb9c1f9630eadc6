//! Scan orders, including orders that only SQL supports.

use std::fmt;

use datafusion::error::Result as EngineResult;

use crate::memory::query::{PageRange, RowSelection, order_method, ordered_rows};
use crate::memory::storage::Tables;
use crate::model::JobState;
use crate::query::{Direction, JobOrder, JobOrderKey, JobQuery, Predicate, StateField, TextField, TimeField};
use crate::time::Timestamp;

/// An order of the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanOrder {
    /// An order of the API.
    Api(JobOrder),
    /// By the state's name; the API orders states by their ordinal.
    StateName(Direction),
    /// By the last transition time in microseconds; the API orders by whole seconds.
    LastTransition(Direction),
}

impl ScanOrder {
    /// The order that satisfies a sort by a column of the SQL table, if there is one.
    pub(super) fn by(column: &str, descending: bool) -> Option<Self> {
        let direction = if descending { Direction::Descending } else { Direction::Ascending };
        let key = match column {
            "job_id" => JobOrderKey::JobId,
            "queue" => JobOrderKey::Queue,
            "job_set" => JobOrderKey::JobSet,
            "submitted" => JobOrderKey::Submitted,
            "state" => return Some(Self::StateName(direction)),
            "last_transition_time" => return Some(Self::LastTransition(direction)),
            _ => return None,
        };
        Some(Self::Api(JobOrder { key, direction }))
    }
}

impl ScanOrder {
    /// How the first rows are found, for EXPLAIN.
    pub(super) fn method(self, tables: &Tables, selected: &RowSelection, page: PageRange) -> &'static str {
        match self {
            Self::Api(order) => order_method(tables, selected, order, page),
            Self::StateName(_) => "bitmaps",
            Self::LastTransition(direction) => {
                let order = JobOrder { key: JobOrderKey::LastTransitionTime, direction };
                order_method(tables, selected, order, page)
            }
        }
    }
}

impl fmt::Display for ScanOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (column, direction) = match *self {
            Self::Api(JobOrder { key, direction }) => match key {
                JobOrderKey::JobId => ("job_id", direction),
                JobOrderKey::Queue => ("queue", direction),
                JobOrderKey::JobSet => ("job_set", direction),
                JobOrderKey::State => ("state", direction),
                JobOrderKey::Submitted => ("submitted", direction),
                JobOrderKey::LastTransitionTime => ("last_transition_seconds", direction),
            },
            Self::StateName(direction) => ("state", direction),
            Self::LastTransition(direction) => ("last_transition_time", direction),
        };
        write!(f, "{column} {}", if direction == Direction::Ascending { "ASC" } else { "DESC" })
    }
}

pub(super) async fn select(
    tables: &Tables,
    predicates: impl IntoIterator<Item = Predicate>,
) -> EngineResult<RowSelection> {
    RowSelection::new(tables, JobQuery::new().filters(predicates).selection()).await
}

/// The ordered page of a selection.
pub(super) struct Ordered<'a> {
    pub(super) tables: &'a Tables,
    /// The jobs that satisfy the predicates.
    pub(super) selected: &'a RowSelection,
    /// The predicates of SQL. A scan of the API has none, and uses orders of the API only.
    pub(super) predicates: &'a [Predicate],
    pub(super) page: PageRange,
}

impl Ordered<'_> {
    pub(super) async fn rows(&self, order: Option<ScanOrder>) -> EngineResult<Vec<u32>> {
        match order {
            None => Ok(ordered_rows(self.tables, self.selected, None, self.page).await),
            Some(ScanOrder::Api(order)) => Ok(ordered_rows(self.tables, self.selected, Some(order), self.page).await),
            Some(ScanOrder::StateName(direction)) => self.by_state_name(direction).await,
            Some(ScanOrder::LastTransition(direction)) => self.by_last_transition(direction).await,
        }
    }

    /// The rows of one state after another, until the limit is reached.
    async fn by_state_name(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        let mut states = JobState::ALL;
        states.sort_by_key(|state| state.name());
        if direction == Direction::Descending {
            states.reverse();
        }
        let mut rows = Vec::new();
        for state in states {
            let left = self.page.end() - rows.len();
            if left == 0 {
                break;
            }
            let selected = self.selected_with(vec![StateField.equals(state)]).await?;
            let page = PageRange { offset: 0, limit: self.page.limit.map(|_| left) };
            rows.extend(ordered_rows(self.tables, &selected, None, page).await);
        }
        Ok(self.page.of(rows))
    }

    /// The first rows by whole seconds, with all rows of the last second, sorted.
    async fn by_last_transition(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        let order = JobOrder { key: JobOrderKey::LastTransitionTime, direction };
        let page = PageRange { offset: 0, limit: self.page.limit.map(|_| self.page.end()) };
        let mut rows = ordered_rows(self.tables, self.selected, Some(order), page).await;
        if let Some(&last) = rows.last().filter(|_| rows.len() == self.page.end()) {
            let start = self.last_transition(last).floor_seconds();
            let [start, end] = [start, start + 1].map(Timestamp::from_seconds);
            self.add(&mut rows, within(TimeField::LastTransitionTime, start, end)).await?;
        }
        rows.sort_by_key(|&row| self.last_transition(row));
        if direction == Direction::Descending {
            rows.reverse();
        }
        Ok(self.page.of(rows))
    }

    /// Adds the rows whose keys equal that of the last row, if the page is full.
    pub(super) async fn add_ties(&self, order: ScanOrder, rows: &mut Vec<u32>) -> EngineResult<()> {
        let Some(&last) = rows.last().filter(|_| rows.len() == self.page.end()) else { return Ok(()) };
        let (chunk, at) = self.tables.jobs.locate(last);
        let dictionaries = &self.tables.dictionaries;
        let at_time = |field, micros| {
            let [start, end] = [micros, micros + 1].map(Timestamp::from_micros);
            within(field, start, end)
        };
        let key = match order {
            ScanOrder::Api(order) => order.key,
            ScanOrder::StateName(_) => JobOrderKey::State,
            ScanOrder::LastTransition(_) => JobOrderKey::LastTransitionTime,
        };
        let ties = match key {
            JobOrderKey::JobId => return Ok(()),
            JobOrderKey::Queue => {
                vec![TextField::Queue.equals(dictionaries.queues.text(chunk.cells.queue[at]).as_str())]
            }
            JobOrderKey::JobSet => {
                vec![TextField::JobSet.equals(dictionaries.job_sets.text(chunk.cells.job_set[at]).as_str())]
            }
            JobOrderKey::State => vec![StateField.equals(self.tables.jobs.state(last))],
            JobOrderKey::Submitted => at_time(TimeField::Submitted, chunk.cells.submitted[at]),
            JobOrderKey::LastTransitionTime => {
                at_time(TimeField::LastTransitionTime, chunk.cells.last_transition_time[at])
            }
        };
        self.add(rows, ties).await
    }

    /// Adds the selected rows that satisfy more predicates and are not among the rows yet.
    async fn add(&self, rows: &mut Vec<u32>, more: Vec<Predicate>) -> EngineResult<()> {
        let selected = self.selected_with(more).await?;
        let all = ordered_rows(self.tables, &selected, None, PageRange::default()).await;
        rows.retain(|row| all.binary_search(row).is_err());
        rows.extend(all);
        Ok(())
    }

    fn last_transition(&self, row: u32) -> Timestamp {
        let (chunk, at) = self.tables.jobs.locate(row);
        Timestamp::from_micros(chunk.cells.last_transition_time[at])
    }

    async fn selected_with(&self, more: Vec<Predicate>) -> EngineResult<RowSelection> {
        select(self.tables, self.predicates.iter().cloned().chain(more)).await
    }
}

/// The times from `start`, and before `end`.
fn within(field: TimeField, start: Timestamp, end: Timestamp) -> Vec<Predicate> {
    vec![field.at_least(start), field.less_than(end)]
}
