//! Plans of reads: `EXPLAIN` of exactly the statements that a read executes.

use super::ClickHouseDatabase;
use super::query::Reads;
use super::row::{JobRow, PlanRow};
use super::statement::{MOST_IDS, Statement};
use crate::error::{Operation, Result};
use crate::query::ReadCall;
use crate::{ExplainedStatement, Explanation};

const OPERATION: Operation = Operation::Explain;

impl ClickHouseDatabase {
    pub(super) async fn explanation(&self, call: &ReadCall) -> Result<Explanation> {
        let statements = match call {
            ReadCall::Jobs(query) => {
                let page = self.reads.jobs(query);
                // The ids of the page are in the statements that read its runs.
                let rows: Vec<JobRow> = self.connection.fetch(OPERATION, &page).await?;
                let runs =
                    rows.chunks(MOST_IDS).map(|rows| self.reads.runs(rows.iter().map(|row| row.job_id.as_str())));
                [page].into_iter().chain(runs).collect()
            }
            ReadCall::Groups(query) => vec![self.reads.groups(query)],
            ReadCall::JobSpec(job_id) => vec![Reads::record("job_spec", job_id)],
            ReadCall::JobError(job_id) => vec![Reads::record("job_error", job_id)],
            ReadCall::JobRunError(run_id) => vec![Reads::run_message("error", run_id)],
            ReadCall::JobRunDebugMessage(run_id) => vec![Reads::run_message("debug", run_id)],
        };
        let mut explanation = Explanation::default();
        for statement in statements {
            explanation.statements.push(self.explained(statement).await?);
        }
        Ok(explanation)
    }

    async fn explained(&self, statement: Statement) -> Result<ExplainedStatement> {
        let text = statement.to_string();
        let Statement { sql, values } = statement;
        let explain = Statement { sql: format!("EXPLAIN indexes = 1 {sql}"), values };
        let rows: Vec<PlanRow> = self.connection.fetch(OPERATION, &explain).await?;
        let lines: Vec<_> = rows.into_iter().map(|row| row.explain).collect();
        Ok(ExplainedStatement { statement: text, plan: lines.join("\n") })
    }
}
