//! Pages of jobs.

use super::selection::LatestRun;
use crate::postgres::config::Queries;
use crate::postgres::layout::Layout;
use crate::postgres::row::{JOB_COLUMNS, RUN_COLUMNS};
use crate::postgres::statement::Statement;
use crate::query::{Direction, JobOrder, JobOrderKey, JobQuery, Predicate, TextField, TextTest};

/// A page of jobs, each with all its runs, in one statement and therefore one snapshot.
pub(in crate::postgres) fn jobs(query: &JobQuery, layout: Layout, queries: Queries) -> Statement {
    let mut statement = Statement::new(queries);
    let selection = query.selection();
    let latest_run = if selection.uses_latest_run() { LatestRun::Required } else { LatestRun::Unused };
    statement.push("SELECT ").push_columns("page", JOB_COLUMNS).push(", runs.list\nFROM (\nSELECT ");
    statement.push_columns("j", JOB_COLUMNS).push(", j.last_transition_time_seconds");
    statement.push_selection(selection, None, layout, latest_run).push_order("j", query).push_page(query.page());
    statement.push("\n) AS page\nCROSS JOIN LATERAL (\nSELECT json_agg(json_build_array(");
    statement.push_columns("r", RUN_COLUMNS).push(")) AS list");
    statement.push("\nFROM job_run AS r\nWHERE r.job_id = page.job_id\n) AS runs");
    statement.push_order("page", query);
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

    /// Appends an order that an index has. Texts are ordered by bytes in databases of any collation.
    fn push_order(&mut self, table: &str, query: &JobQuery) -> &mut Self {
        let Some(JobOrder { key, direction }) = query.order() else { return self };
        // For one queue, the indexes that begin with the queue have these orders.
        let order = match key {
            _ if self.queries == Queries::Lookout => order_column(key),
            // Ties of this index are ordered by id, so that consecutive pages have each job once.
            JobOrderKey::LastTransitionTime if !is_of_one_queue(query) => {
                self.push_order_by(table, "last_transition_time").push_direction(direction);
                return self.push(&format!(", {table}.job_id")).push_direction(direction);
            }
            JobOrderKey::JobSet if !is_of_one_queue(query) => match direction {
                Direction::Ascending => return self.push_order_by(table, "jobset USING ~<~"),
                Direction::Descending => return self.push_order_by(table, "jobset USING ~>~"),
            },
            JobOrderKey::JobId => "job_id COLLATE \"C\"",
            JobOrderKey::Queue => "queue COLLATE \"C\"",
            JobOrderKey::JobSet => "jobset COLLATE \"C\"",
            key => order_column(key),
        };
        self.push_order_by(table, order).push_direction(direction)
    }

    fn push_order_by(&mut self, table: &str, order: &str) -> &mut Self {
        self.push("\nORDER BY ").push(table).push(".").push(order)
    }
}

fn is_of_one_queue(query: &JobQuery) -> bool {
    let is_exact = |predicate: &Predicate| matches!(predicate, Predicate::Text(TextField::Queue, TextTest::Exact(_)));
    query.selection().predicates().iter().any(is_exact)
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
