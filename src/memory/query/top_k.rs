//! The rows of a page of an order, found without reading more than they need.
//!
//! Three ways, by what the order is by:
//!
//! - ids and times: blocks of rows are taken by their zones, the best bound first, and the
//!   search ends when no bound left can beat the rows that are found;
//! - queues, job sets and states: their rows are listed by an index, so the lists are gone
//!   through in order until there are enough rows;
//! - anything, when few rows are selected or most are wanted: their keys are gathered and sorted.

use datafusion::error::Result as EngineResult;

use super::by_zones::{Ascending, Descending, Ids, LastTransitions, Submissions, ZonedColumn};
use super::pause::pause;
use super::search::{Part, Search};
use super::select::Selected;
use crate::memory::storage::{Node, Tables, first_row};
use crate::query::{Direction, JobOrder, JobOrderKey};

/// A part of the selected rows in an order.
pub(in crate::memory) async fn ordered_rows(
    tables: &Tables,
    selected: &Selected,
    order: Option<JobOrder>,
    part: Part,
) -> EngineResult<Vec<u32>> {
    let Some(JobOrder { key, direction }) = order else { return in_row_order(tables, selected, part).await };
    let search = Search { tables, selected, part };
    match key {
        JobOrderKey::JobId => search.by_zones_of::<Ids>(direction).await,
        JobOrderKey::Submitted => search.by_zones_of::<Submissions>(direction).await,
        JobOrderKey::LastTransitionTime => search.by_zones_of::<LastTransitions>(direction).await,
        JobOrderKey::State => search.by_state(direction).await,
        JobOrderKey::Queue => {
            search.by_text(direction, &tables.dictionaries.queues, |chunk, at| chunk.queue().value(at)).await
        }
        JobOrderKey::JobSet => {
            search.by_text(direction, &tables.dictionaries.job_sets, |chunk, at| chunk.job_set().value(at)).await
        }
    }
}

async fn in_row_order(tables: &Tables, selected: &Selected, part: Part) -> EngineResult<Vec<u32>> {
    let mut skip = part.skip;
    let mut rows = Vec::new();
    let wanted = part.take.unwrap_or(usize::MAX);
    for chunk in 0..tables.jobs.chunks().len() {
        if rows.len() >= wanted {
            break;
        }
        pause().await;
        if !selected.may_hold(tables, Node::chunk(chunk)) {
            continue;
        }
        if skip > 0 {
            let count = selected.count(tables, Node::chunk(chunk)).await?;
            if count <= skip {
                skip -= count;
                continue;
            }
        }
        let of_chunk = selected.chunk(tables, chunk)?;
        rows.extend(of_chunk.iter().skip(skip).take(wanted - rows.len()).map(|at| first_row(chunk) + at as u32));
        skip = 0;
    }
    Ok(rows)
}

impl Search<'_> {
    async fn by_zones_of<C: ZonedColumn>(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        match direction {
            Direction::Ascending => self.by_zones::<C, Ascending>().await,
            Direction::Descending => self.by_zones::<C, Descending>().await,
        }
    }
}
