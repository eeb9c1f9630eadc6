//! Pages of jobs.

use super::selection::LatestRun;
use crate::postgres::layout::Layout;
use crate::postgres::row::{JOB_COLUMNS, RUN_COLUMNS};
use crate::postgres::statement::Statement;
use crate::query::{JobOrder, JobOrderKey, JobQuery};

/// A page of jobs, each with all its runs, in one statement and therefore one snapshot.
pub(in crate::postgres) fn jobs(query: &JobQuery, layout: Layout) -> Statement {
    let mut statement = Statement::default();
    let selection = query.selection();
    let latest_run = if selection.uses_latest_run() { LatestRun::Required } else { LatestRun::Unused };
    statement.push("SELECT ").push_columns("page", JOB_COLUMNS).push(", runs.list\nFROM (\nSELECT ");
    statement.push_columns("j", JOB_COLUMNS).push(", j.last_transition_time_seconds");
    statement.push_selection(selection, layout, latest_run).push_order("j", query.order()).push_page(query.page());
    statement.push("\n) AS page\nCROSS JOIN LATERAL (\nSELECT json_agg(json_build_array(");
    statement.push_columns("r", RUN_COLUMNS).push(")) AS list");
    statement.push("\nFROM job_run AS r\nWHERE r.job_id = page.job_id\n) AS runs");
    statement.push_order("page", query.order());
    statement
}

impl Statement {
    fn push_columns(&mut self, table: &str, columns: &[&str]) -> &mut Self {
        for (position, column) in columns.iter().enumerate() {
            if position > 0 {
                self.push(", ");
            }
            self.push(table).push(".").push(column);
        }
        self
    }

    fn push_order(&mut self, table: &str, order: Option<JobOrder>) -> &mut Self {
        let Some(JobOrder { key, direction }) = order else { return self };
        self.push("\nORDER BY ").push(table).push(".").push(order_column(key)).push_direction(direction)
    }
}

fn order_column(key: JobOrderKey) -> &'static str {
    match key {
        JobOrderKey::JobId => "job_id",
        JobOrderKey::Queue => "queue",
        JobOrderKey::JobSet => "jobset",
        JobOrderKey::State => "state",
        JobOrderKey::Submitted => "submitted",
        JobOrderKey::LastTransitionTime => "last_transition_time_seconds",
    }
}
