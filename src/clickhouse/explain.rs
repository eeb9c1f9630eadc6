//! The plans of reads: `EXPLAIN` of the statements that a read executes.

use super::connection::Connection;
use super::query::{self, Reads};
use super::record;
use super::row::JobRow;
use super::statement::{MAX_IDS, Statement};
use crate::error::{Operation, Result};
use crate::query::ReadCall;
use crate::record::Record;
use crate::{ExplainedStatement, Explanation};

const OPERATION: Operation = Operation::Explain;

/// The plans of a call's statements.
pub(super) async fn explain(connection: &Connection, reads: Reads, call: &ReadCall) -> Result<Explanation> {
    let statements = match call {
        ReadCall::Jobs(query) => {
            let page = query::jobs(reads, query);
            // The statements that read the runs contain the ids of the jobs of the page.
            let rows: Vec<JobRow> = connection.fetch(OPERATION, &page).await?;
            let runs = rows.chunks(MAX_IDS).map(|rows| query::runs(reads, rows.iter().map(|row| row.job_id.as_str())));
            [page].into_iter().chain(runs).collect()
        }
        ReadCall::Groups(query) => vec![query::groups(reads, query)],
        ReadCall::JobSpec(job_id) => vec![record::statement(Record::JobSpec, job_id)],
        ReadCall::JobError(job_id) => vec![record::statement(Record::JobError, job_id)],
        ReadCall::JobRunError(run_id) => vec![record::statement(Record::RunError, run_id)],
        ReadCall::JobRunDebugMessage(run_id) => vec![record::statement(Record::RunDebugMessage, run_id)],
    };
    let mut explanation = Explanation::default();
    for statement in statements {
        explanation.statements.push(explained(connection, statement).await?);
    }
    Ok(explanation)
}

async fn explained(connection: &Connection, statement: Statement) -> Result<ExplainedStatement> {
    let text = statement.to_string();
    let Statement { sql, values } = statement;
    let explain = Statement { sql: format!("EXPLAIN indexes = 1 {sql}"), values };
    let lines: Vec<String> = connection.fetch(OPERATION, &explain).await?;
    Ok(ExplainedStatement { statement: text, plan: lines.join("\n") })
}
