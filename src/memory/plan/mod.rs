//! DataFusion plans over a snapshot.
//!
//! The physical plans of API calls are built directly, in microseconds; parsing and optimising SQL takes hundreds of
//! microseconds. SQL uses the same scan through table providers.
//!
//! | operator | output |
//! |---|---|
//! | `JobScanExec` | columns of the selected jobs, with an optional order and limit |
//! | `RecordScanExec` | columns of the tables `job_run`, `job_spec` and `job_error` |

#[cfg(feature = "sql")]
mod dialect;
mod filters;
mod first_rows;
#[cfg(feature = "sql")]
mod functions;
mod group_codes;
mod ids;
mod job_scan;
mod properties;
mod record_scan;
mod session;
mod sql_order;
mod stored_filter;
#[cfg(feature = "sql")]
mod sums;
mod table;
#[cfg(test)]
mod tests;
#[cfg(feature = "sql")]
mod times;
mod values;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::ExecutionPlan;

use self::job_scan::{JobColumn, JobScanExec};
pub(super) use self::record_scan::run_column;
#[cfg(feature = "sql")]
pub(super) use self::session::TABLES;
pub(super) use self::session::session_context;
use self::sql_order::ScanOrder;
use super::query::RowSelection;
use super::storage::Tables;
use crate::query::JobQuery;

/// The schema of a page of the API: the rows of the jobs.
static ROW_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("row", DataType::UInt32, false)])));

/// The plan of a page of jobs. Its output are their rows, which [`row::jobs`](super::row::jobs) decodes.
pub(super) async fn jobs(tables: &Arc<Tables>, query: &JobQuery) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let selected = Arc::new(RowSelection::new(tables, query.selection()).await?);
    let scan = JobScanExec::new(Arc::clone(tables), selected, Arc::new([JobColumn::Row]), Arc::clone(&ROW_SCHEMA));
    Ok(Arc::new(scan.with_order(query.order().map(ScanOrder::Api), query.page().into())))
}
