//! The activity of the server, from its system tables.
//!
//! The statistics of `system.parts` and `system.merges` are those of the database, the others those of the server.

use tokio::join;

use super::connection::Connection;
use super::statement::Statement;
use crate::Activity;
use crate::error::{ErrorKind, Operation, Result};

/// The statistics of `system.events`. An event is listed from its first occurrence on.
const EVENTS: [(&str, &str); 12] = [
    ("InsertedRows", "insertedRows"),
    ("InsertedBytes", "insertedBytes"),
    ("SelectedRows", "selectedRows"),
    ("SelectedBytes", "selectedBytes"),
    ("Merge", "mergesStarted"),
    ("MergedRows", "mergedRows"),
    ("MergedUncompressedBytes", "mergedBytes"),
    ("DelayedInserts", "delayedInserts"),
    ("RejectedInserts", "rejectedInserts"),
    ("ReadBufferFromFileDescriptorReadBytes", "ioReadBytes"),
    ("WriteBufferFromFileDescriptorWriteBytes", "ioWriteBytes"),
    ("OSCPUVirtualTimeMicroseconds", "cpuMicros"),
];
const PARTS: &str =
    "SELECT 'parts' AS name, count() AS value FROM system.parts WHERE active AND database = currentDatabase()";
const MERGES: &str =
    "SELECT 'runningMerges' AS name, count() AS value FROM system.merges WHERE database = currentDatabase()";
const MEMORY: &str = "
    SELECT 'memoryBytes' AS name, toUInt64(greatest(value, 0)) AS value
    FROM system.metrics WHERE metric = 'MemoryTracking'";

/// The name and the value of a statistic.
type Statistic = (String, u64);

/// Reads the statistics that the user may read.
pub(super) async fn read(connection: &Connection) -> Result<Activity> {
    let names: Vec<_> = EVENTS.iter().map(|(event, _)| format!("'{event}'")).collect();
    let events = format!("SELECT event AS name, value FROM system.events WHERE event IN ({})", names.join(", "));
    let read = |sql: &str| {
        let statement = Statement::plain(sql);
        async move { connection.fetch::<Statistic>(Operation::Activity, &statement).await }
    };
    let (events, parts, merges, memory) = join!(read(&events), read(PARTS), read(MERGES), read(MEMORY));
    let mut activity = Activity::default();
    if let Some(rows) = readable(events, "system.events", &mut activity.unreadable)? {
        activity.counters.extend(EVENTS.iter().map(|(_, name)| ((*name).to_owned(), 0)));
        for (found, value) in rows {
            if let Some((_, name)) = EVENTS.iter().find(|(event, _)| *event == found) {
                activity.counters.insert((*name).to_owned(), value);
            }
        }
    }
    for (rows, view) in [(parts, "system.parts"), (merges, "system.merges"), (memory, "system.metrics")] {
        let rows = readable(rows, view, &mut activity.unreadable)?.unwrap_or_default();
        activity.gauges.extend(rows);
    }
    Ok(activity)
}

/// The rows of a system table; `None` if the user may not read it.
fn readable(rows: Result<Vec<Statistic>>, view: &str, unreadable: &mut Vec<String>) -> Result<Option<Vec<Statistic>>> {
    match rows {
        Err(error) if error.kind() == ErrorKind::Backend => {
            unreadable.push(format!("{view} ({error})"));
            Ok(None)
        }
        rows => rows.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_refused_table_is_left_out_and_an_unreachable_server_is_an_error() {
        let failed = |kind| Err(Error::new(kind, Operation::Activity, "no grant"));
        let mut unreadable = Vec::new();
        assert!(readable(failed(ErrorKind::Backend), "system.events", &mut unreadable).unwrap().is_none());
        let [reason] = unreadable.as_slice() else { panic!("{unreadable:?}") };
        assert!(reason.starts_with("system.events (") && reason.contains("no grant"), "{reason}");
        let error = readable(failed(ErrorKind::Unavailable), "system.events", &mut unreadable).unwrap_err();
        assert_eq!((error.kind(), unreadable.len()), (ErrorKind::Unavailable, 1));
    }
}
