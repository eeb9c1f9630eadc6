//! The plans of reads.

use tokio_postgres::types::ToSql;

use super::config::Queries;
use super::connection::Client;
use super::error::Attempt;
use super::layout::Relations;
use super::query;
use super::record;
use crate::query::ReadCall;
use crate::record::Record;
use crate::{ExplainedStatement, Explanation};

/// The plan of a call. The statement is executed in a read-only transaction that is rolled back.
pub(super) async fn explain(
    client: Client,
    relations: &Relations,
    queries: Queries,
    call: &ReadCall,
) -> Attempt<Explanation> {
    let statement = match call {
        ReadCall::Jobs(query) => {
            let statement = query::jobs(query, relations, queries);
            explained(&client, &statement.sql, &statement.values.parameters()).await?
        }
        ReadCall::Groups(query) => {
            let statement = query::groups(query, relations, queries);
            explained(&client, &statement.sql, &statement.values.parameters()).await?
        }
        ReadCall::JobSpec(id) => one(&client, relations, Record::JobSpec, id).await?,
        ReadCall::JobError(id) => one(&client, relations, Record::JobError, id).await?,
        ReadCall::JobRunError(id) => one(&client, relations, Record::RunError, id).await?,
        ReadCall::JobRunDebugMessage(id) => one(&client, relations, Record::RunDebugMessage, id).await?,
    };
    Ok(Explanation { statements: vec![statement] })
}

async fn one(client: &Client, relations: &Relations, record: Record, id: &str) -> Attempt<ExplainedStatement> {
    explained(client, &record::statement(record, relations), &[&record::known_id(id)]).await
}

async fn explained(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Attempt<ExplainedStatement> {
    // In a shared session, `Connections::run` begins and ends the transaction.
    let (begin, end) =
        if client.is_dedicated() { ("BEGIN READ ONLY", "ROLLBACK") } else { ("SET TRANSACTION READ ONLY", "") };
    client.batch_execute(begin).await?;
    let explained = plan(client, sql, parameters).await;
    if !end.is_empty() {
        client.batch_execute(end).await?;
    }
    Ok(ExplainedStatement { statement: sql.to_owned(), plan: explained? })
}

async fn plan(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Attempt<String> {
    let lines: Vec<String> = client.column(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"), parameters).await?;
    Ok(lines.join("\n"))
}
