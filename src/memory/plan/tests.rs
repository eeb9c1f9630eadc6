//! Compares the scans with operators of DataFusion.

use std::future::Future;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, col, in_list, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalExprRef, PhysicalSortExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{ChildFilterPushdownResult, ChildPushdownResult, FilterPushdownPhase};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, collect};
use tokio::runtime::Runtime;

use super::record_scan::{RecordScanExec, RecordTable};
use super::*;
use crate::ingest::IngestionBatch;
use crate::memory::ingest::Store;
use crate::memory::query::PageRange;
use crate::memory::schema::{JOB_SCHEMA, RUN_SCHEMA};
use crate::model::JobState;
use crate::query::{Direction, IntegerField, JobOrderKey, Predicate, StateField, TextField};
use crate::workload::{Workload, WorkloadOptions};

fn run(plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    let batches = Runtime::new().unwrap().block_on(collect(plan, Arc::new(TaskContext::default()))).unwrap();
    concat_batches(&schema, &batches).unwrap()
}

fn planned(plan: impl Future<Output = EngineResult<Arc<dyn ExecutionPlan>>>) -> Arc<dyn ExecutionPlan> {
    Runtime::new().unwrap().block_on(plan).unwrap()
}

/// A store with full chunks and a part of one, whose columns have nulls.
fn store(jobs: u64) -> Arc<Tables> {
    let mut store = Store::default();
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(2000) {
        store.apply(&IngestionBatch::new(batch).unwrap()).unwrap();
    }
    Arc::new(store.snapshot())
}

/// The page of a scan of all columns of the SQL table.
fn page(tables: &Arc<Tables>, predicates: Vec<Predicate>, order: Option<ScanOrder>, page: PageRange) -> RecordBatch {
    let selected = Runtime::new().unwrap().block_on(sql_order::select(tables, predicates.clone())).unwrap();
    let columns = (0..JOB_SCHEMA.fields().len()).map(JobColumn::Sql).collect();
    let scan = JobScanExec::new(Arc::clone(tables), Arc::new(selected), columns, Arc::clone(&JOB_SCHEMA));
    run(Arc::new(scan.with_predicates(predicates).with_order(order, page)))
}

#[test]
fn an_ordered_scan_matches_sort_exec() {
    let tables = store(18_000);
    let all = page(&tables, Vec::new(), None, PageRange::default());
    assert_eq!(all.num_rows(), tables.jobs.len());
    for column in ["job_id", "submitted", "state", "last_transition_time"] {
        for descending in [false, true] {
            let order = ScanOrder::by(column, descending);
            let ours = page(&tables, Vec::new(), order, PageRange { offset: 50, limit: Some(200) });
            let source = MemorySourceConfig::try_new_exec(&[vec![all.clone()]], all.schema(), None).unwrap();
            let by = PhysicalSortExpr::new(
                col(column, &all.schema()).unwrap(),
                SortOptions { descending, nulls_first: false },
            );
            let sorted = SortExec::new(LexOrdering::new([by]).unwrap(), source).with_fetch(Some(250));
            let theirs = run(Arc::new(sorted)).slice(50, 200);
            assert_eq!(ours.column_by_name(column), theirs.column_by_name(column), "{column} {descending}");
        }
    }
}

#[test]
fn a_filtered_scan_matches_filter_exec() {
    let tables = store(18_000);
    let all = page(&tables, Vec::new(), None, PageRange::default());
    let schema = all.schema();
    for cpu in [1i64, 4, 16] {
        let predicates = vec![IntegerField::Cpu.at_least(cpu), StateField.equals(JobState::Failed)];
        let ours = page(&tables, predicates, None, PageRange::default());
        let compare = |column: &str, operator, value| {
            let column = col(column, &schema).unwrap();
            datafusion::physical_expr::expressions::binary(column, operator, value, &schema).unwrap()
        };
        let by_cpu = compare("cpu", Operator::GtEq, lit(cpu));
        let failed = ScalarValue::Utf8View(Some("FAILED".to_owned()));
        let failed = lit(ScalarValue::Dictionary(Box::new(DataType::UInt32), Box::new(failed)));
        let by_state = compare("state", Operator::Eq, failed);
        let both = datafusion::physical_expr::conjunction([by_cpu, by_state]);
        let source = MemorySourceConfig::try_new_exec(&[vec![all.clone()]], all.schema(), None).unwrap();
        assert_eq!(ours, run(Arc::new(FilterExec::try_new(both, source).unwrap())));
    }
}

/// The ids of all partitions, sorted.
fn ids(plan: Arc<dyn ExecutionPlan>) -> Vec<String> {
    let batch = run(Arc::new(CoalescePartitionsExec::new(plan)));
    let mut ids: Vec<_> = batch.column(0).as_string_view().iter().map(|id| id.unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// A scan that the optimiser has offered a filter.
fn with_filter(scan: &Arc<dyn ExecutionPlan>, filter: Arc<DynamicFilterPhysicalExpr>) -> Arc<dyn ExecutionPlan> {
    let offered = ChildFilterPushdownResult { filter, child_results: Vec::new() };
    let offered = ChildPushdownResult { parent_filters: vec![offered], self_filters: Vec::new() };
    let answer = scan.handle_child_pushdown_result(FilterPushdownPhase::Post, offered, &ConfigOptions::default());
    answer.unwrap().updated_node.unwrap()
}

#[test]
fn the_filter_of_a_join_is_looked_up_in_each_partition() {
    let tables = store(18_000);
    let [jobs, runs] = [&JOB_SCHEMA, &RUN_SCHEMA].map(|schema| Arc::new(schema.project(&[0]).unwrap()));
    let selected = Runtime::new().unwrap().block_on(sql_order::select(&tables, Vec::new())).unwrap();
    let columns = Arc::new([JobColumn::Sql(0)]);
    let scan = JobScanExec::new(Arc::clone(&tables), Arc::new(selected), columns, jobs).with_partitions(3);
    let records = RecordScanExec::new(Arc::clone(&tables), RecordTable::Runs, runs).with_partitions(3);
    for scan in [Arc::new(scan) as Arc<dyn ExecutionPlan>, Arc::new(records)] {
        let (schema, all) = (scan.schema(), ids(Arc::clone(&scan)));
        let column = col(schema.field(0).name(), &schema).unwrap();
        let filter = Arc::new(DynamicFilterPhysicalExpr::new(vec![Arc::clone(&column)], lit(true)));
        let scan = with_filter(&scan, Arc::clone(&filter));
        // The build side has not been read yet.
        assert_eq!(ids(Arc::clone(&scan)), all);
        let some: Vec<String> = all.iter().step_by(50).cloned().collect();
        let list = some.iter().map(|id| lit(ScalarValue::Utf8View(Some(id.clone())))).collect();
        filter.update(in_list(column, list, &false, &schema).unwrap()).unwrap();
        assert_eq!(ids(scan), some);
    }
}

#[test]
fn the_filter_of_a_top_k_operator_applies_to_stored_columns() {
    let tables = store(18_000);
    let selected = Runtime::new().unwrap().block_on(sql_order::select(&tables, Vec::new())).unwrap();
    let of = |schema: &SchemaRef, names: [&str; 2]| names.map(|name| schema.index_of(name).unwrap());
    let of_jobs = of(&JOB_SCHEMA, ["job_id", "cpu"]);
    let jobs = Arc::new(JOB_SCHEMA.project(&of_jobs).unwrap());
    let scan = JobScanExec::new(Arc::clone(&tables), Arc::new(selected), of_jobs.map(JobColumn::Sql).into(), jobs);
    let runs = Arc::new(RUN_SCHEMA.project(&of(&RUN_SCHEMA, ["run_id", "started"])).unwrap());
    let records = RecordScanExec::new(Arc::clone(&tables), RecordTable::Runs, runs);
    for scan in [Arc::new(scan) as Arc<dyn ExecutionPlan>, Arc::new(records)] {
        let (schema, all) = (scan.schema(), run(Arc::clone(&scan)));
        let [id, key] = [0, 1].map(|at| col(schema.field(at).name(), &schema).unwrap());
        let filter = Arc::new(DynamicFilterPhysicalExpr::new(vec![Arc::clone(&key), Arc::clone(&id)], lit(true)));
        let scan = with_filter(&scan, Arc::clone(&filter));
        assert_eq!(run(Arc::clone(&scan)), all);
        let value = ScalarValue::try_from_array(all.column(1), all.num_rows() / 2).unwrap();
        assert!(!value.is_null());
        let compare = |left: &PhysicalExprRef, operator, right| {
            datafusion::physical_expr::expressions::binary(Arc::clone(left), operator, right, &schema).unwrap()
        };
        // The filter of `ORDER BY key DESC, id`, and the part of it that is tested.
        let after = compare(&key, Operator::Gt, lit(value.clone()));
        let equal = compare(&key, Operator::Eq, lit(value.clone()));
        let first = compare(&id, Operator::Lt, lit(ScalarValue::Utf8View(Some(String::new()))));
        let tied = compare(&equal, Operator::And, first);
        filter.update(compare(&after, Operator::Or, tied)).unwrap();
        let at_least = compare(&key, Operator::GtEq, lit(value));
        let source = MemorySourceConfig::try_new_exec(&[vec![all.clone()]], all.schema(), None).unwrap();
        let expected = run(Arc::new(FilterExec::try_new(at_least, source).unwrap()));
        assert!(expected.num_rows() < all.num_rows());
        assert_eq!(run(scan), expected);
    }
}

#[test]
fn the_partitions_of_a_scan_emit_each_row_once() {
    let tables = store(18_000);
    let schema = Arc::new(JOB_SCHEMA.project(&[0]).unwrap());
    let jobs = |predicates: Vec<Predicate>, partitions| {
        let selected = Runtime::new().unwrap().block_on(sql_order::select(&tables, predicates)).unwrap();
        let columns = Arc::new([JobColumn::Sql(0)]);
        let scan = JobScanExec::new(Arc::clone(&tables), Arc::new(selected), columns, Arc::clone(&schema));
        Arc::new(scan.with_partitions(partitions))
    };
    let runs = |partitions| {
        let schema = Arc::new(RUN_SCHEMA.project(&[0]).unwrap());
        RecordScanExec::new(Arc::clone(&tables), RecordTable::Runs, schema).with_partitions(partitions)
    };
    let failed = || vec![StateField.equals(JobState::Failed)];
    for partitions in [2, 3, 7] {
        for predicates in [vec![], failed()] {
            let scan = jobs(predicates.clone(), partitions);
            assert_eq!(scan.properties().output_partitioning().partition_count(), partitions);
            assert_eq!(ids(scan), ids(jobs(predicates, 1)));
        }
        assert_eq!(ids(Arc::new(runs(partitions))), ids(Arc::new(runs(1))));
        let statistics = |partition| {
            let args = StatisticsArgs::new().with_partition(partition);
            runs(partitions).statistics_from_inputs(&[], &args).unwrap().num_rows
        };
        let parts = (0..partitions).map(|at| *statistics(Some(at)).get_value().unwrap()).sum();
        assert_eq!((statistics(None), parts), (Precision::Exact(tables.runs.len()), tables.runs.len()));
        // A limit applies to all partitions together.
        for limited in [jobs(failed(), partitions).with_fetch(Some(10)), runs(partitions).with_fetch(Some(10))] {
            let limited = limited.unwrap();
            assert_eq!(limited.properties().output_partitioning().partition_count(), 1);
            assert_eq!(run(limited).num_rows(), 10);
        }
    }
}

#[test]
fn explain_names_index_order_and_limit() {
    let tables = store(9000);
    let query = JobQuery::new()
        .filter(TextField::Queue.equals("no such queue"))
        .order_by(JobOrderKey::JobId, Direction::Descending)
        .limit(5);
    let plan = planned(jobs(&tables, &query));
    let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    for part in ["JobScanExec", "index=[queue = \"no such queue\"]", "order=[job_id DESC by sort]", "limit=5"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
