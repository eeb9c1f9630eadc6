//! Table providers of a snapshot.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::job_scan::{JobColumn, JobScanExec};
use super::properties::partitions_of;
use super::record_scan::{RecordScanExec, RecordTable};
use super::sql_order::select;
use super::{filters, ids, values};
use crate::memory::query::PageRange;
use crate::memory::schema::{ERROR_SCHEMA, JOB_SCHEMA, RUN_SCHEMA, SPEC_SCHEMA};
use crate::memory::storage::Tables;
use crate::query::{Predicate, TextField};

/// The table `job` of a snapshot.
#[derive(Debug)]
pub(super) struct JobsTable(pub(super) Arc<Tables>);

/// A table other than `job`.
#[derive(Debug)]
pub(super) struct RecordsTable {
    pub(super) tables: Arc<Tables>,
    pub(super) table: RecordTable,
}

fn project(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> EngineResult<SchemaRef> {
    Ok(match projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(schema),
    })
}

#[async_trait]
impl TableProvider for JobsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&JOB_SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let predicate = |condition| match self.predicate(condition) {
            Some(predicate) => Ok(predicate),
            None => internal_err!("the scan does not support the condition {condition}"),
        };
        // A supported condition may be simplified after it has been pushed down.
        let is_true = |condition: &&Expr| condition.as_literal() == Some(&ScalarValue::Boolean(Some(true)));
        let filters = filters.iter().filter(|condition| !is_true(condition));
        let predicates = filters.map(predicate).collect::<EngineResult<Vec<_>>>()?;
        let selected = Arc::new(select(&self.0, predicates.clone()).await?);
        let all = (0..JOB_SCHEMA.fields().len()).collect();
        let columns = projection.unwrap_or(&all).iter().copied().map(JobColumn::Sql).collect();
        let schema = project(&JOB_SCHEMA, projection)?;
        let rows = selected.upper_bound(&self.0) as usize;
        let scan = JobScanExec::new(Arc::clone(&self.0), selected, columns, schema)
            .with_partitions(partitions_of(rows, session.config().target_partitions()));
        Ok(Arc::new(scan.with_predicates(predicates).with_order(None, PageRange { offset: 0, limit })))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        let answer = |&condition: &&Expr| match self.predicate(condition) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }
}

impl JobsTable {
    fn predicate(&self, condition: &Expr) -> Option<Predicate> {
        if let Some(ScalarValue::Boolean(None | Some(false))) = condition.as_literal() {
            return Some(TextField::Queue.any_of([""; 0]));
        }
        filters::predicate(condition).or_else(|| values::predicate(&self.0, condition))
    }
}

#[async_trait]
impl TableProvider for RecordsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(match self.table {
            RecordTable::Runs => &RUN_SCHEMA,
            RecordTable::Specs => &SPEC_SCHEMA,
            RecordTable::Errors => &ERROR_SCHEMA,
        })
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let schema = project(&self.schema(), projection)?;
        let scan = RecordScanExec::new(Arc::clone(&self.tables), self.table, schema);
        let scan = match filters.iter().find_map(|condition| self.lookup(condition)) {
            Some((column, ids)) => scan.with_ids(column, &ids),
            None => scan,
        };
        let partitions = partitions_of(scan.rows(), session.config().target_partitions());
        Ok(Arc::new(scan.with_partitions(partitions).with_limit(limit)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        // DataFusion tests the rows again: the scan looks up the ids of one condition only.
        let answer = |condition: &&Expr| match self.lookup(condition) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }
}

impl RecordsTable {
    /// The column with an index, and the ids, that a condition requires.
    fn lookup<'a>(&self, condition: &'a Expr) -> Option<(&'a str, Vec<String>)> {
        ids::of_condition(condition).filter(|(column, _)| self.table.ids().contains(column))
    }
}
