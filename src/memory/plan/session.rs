//! A DataFusion session over one snapshot.

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::first_rows::FirstRows;
use super::group_codes::GroupByCodes;
use super::record_scan::RecordTable;
use super::table::{JobsTable, RecordsTable};
use crate::memory::storage::Tables;

pub(in crate::memory) const TABLES: [&str; 4] = ["job", "job_run", "job_spec", "job_error"];

/// A session with the read-only tables `job`, `job_run`, `job_spec` and `job_error` of a snapshot. It has a target
/// partition per core.
pub(in crate::memory) fn session_context(
    tables: &Arc<Tables>,
    runtime: Arc<RuntimeEnv>,
) -> EngineResult<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    // A scan has as many partitions as its rows justify.
    config.options_mut().optimizer.enable_round_robin_repartition = false;
    // The scans look up the ids of a join.
    config.options_mut().optimizer.hash_join_inlist_pushdown_max_distinct_values = 10_000;
    config.options_mut().optimizer.hash_join_inlist_pushdown_max_size = 16 << 20;
    // Errors have the positions of names.
    config.options_mut().sql_parser.collect_spans = true;
    // The generic dialect parses `cluster` after a comma as a clause.
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let state = state(config).with_runtime_env(runtime).build();
    #[cfg(feature = "sql")]
    let state = super::dialect::apply(state)?;
    let context = SessionContext::new_with_state(state);
    let [jobs, runs, specs, errors] = TABLES;
    context.register_table(jobs, Arc::new(JobsTable(Arc::clone(tables))))?;
    for (name, table) in [(runs, RecordTable::Runs), (specs, RecordTable::Specs), (errors, RecordTable::Errors)] {
        context.register_table(name, Arc::new(RecordsTable { tables: Arc::clone(tables), table }))?;
    }
    Ok(context)
}

fn state(config: SessionConfig) -> SessionStateBuilder {
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_query_planner(Arc::new(GroupByCodes))
        .with_physical_optimizer_rule(Arc::new(FirstRows));
    #[cfg(feature = "sql")]
    let state = state
        .with_type_planner(Arc::new(super::times::TimeTypes))
        .with_relation_planners(vec![Arc::new(super::dialect::Samples)]);
    state
}
