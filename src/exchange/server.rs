//! What exports from servers and imports into them share.

use arrow::array::AsArray;

use super::{Part, Table, schema};
use crate::error::{Error, Operation, Result};
use crate::ingest::{JOB_ID_BYTES, RUN_ID_BYTES};
use crate::model::{JobState, RunState};

/// The size of a part, above which the next one has fewer rows. A copy has several parts in memory.
const PART_BYTES: usize = 16 << 20;

/// The number of rows of the part after one with a number of rows and a size.
pub(crate) fn next_rows(rows: usize, bytes: usize, most: usize) -> usize {
    (rows.saturating_mul(PART_BYTES) / bytes.max(1)).clamp(1, most)
}

/// The ordinals of the states of a table, and their names.
pub(crate) fn states(table: Table) -> Vec<(u8, &'static str)> {
    match table {
        Table::Job => JobState::ALL.iter().map(|state| (state.ordinal(), state.name())).collect(),
        _ => RunState::ALL.iter().map(|state| (state.ordinal(), state.name())).collect(),
    }
}

/// Succeeds if no id is longer than those of batches.
fn check_ids(part: &Part) -> Result<()> {
    for table in Table::ALL {
        for (column, limit) in [("job_id", JOB_ID_BYTES), ("run_id", RUN_ID_BYTES), ("latest_run_id", RUN_ID_BYTES)] {
            let Some(ids) = part.batch(table).column_by_name(column) else { continue };
            let too_long = ids.as_string::<i32>().iter().flatten().find(|id| id.len() > limit);
            if let Some(id) = too_long {
                let message = format!("the {column} {id:?} has more than {limit} bytes");
                return Err(Error::invalid(Operation::Import, message));
            }
        }
    }
    Ok(())
}

/// Succeeds if no id is too long, and every state is one that [`JobState`] and [`RunState`] print and that passes a
/// condition.
pub(crate) fn check_values(part: &Part, can_be_stored: impl Fn(&str) -> bool) -> Result<()> {
    check_ids(part)?;
    let is_known = |table, name: &str| match table {
        Table::Job => JobState::from_shown(name).is_ok(),
        _ => RunState::from_shown(name).is_ok(),
    };
    for table in [Table::Job, Table::JobRun] {
        let texts = |column: &str| part.batch(table).column_by_name(column)?.as_string_opt::<i32>();
        let (Some(ids), Some(states)) = (texts(schema(table).field(0).name()), texts("state")) else { continue };
        let mut rows = ids.iter().flatten().zip(states.iter().flatten());
        if let Some((id, state)) = rows.find(|(_, state)| !(is_known(table, state) && can_be_stored(state))) {
            let message = format!("the {} {id:?} has the unknown state {state:?}", table.name());
            return Err(Error::invalid(Operation::Import, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_parts_is_bounded() {
        assert_eq!(next_rows(4096, 0, 4096), 4096);
        assert_eq!(next_rows(4096, 4 * PART_BYTES, 4096), 1024);
        assert_eq!(next_rows(1024, PART_BYTES / 2, 4096), 2048);
        assert_eq!(next_rows(1, usize::MAX, 4096), 1);
    }
}
