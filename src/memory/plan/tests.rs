//! Compares the operators with those of DataFusion on random batches.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray, TimestampSecondArray, UInt8Array,
    UInt32Array, UInt64Array,
};
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, TimestampMicrosecondType, TimestampSecondType, UInt32Type, UInt64Type,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{CastExpr, col, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, collect};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::record_scan::{RecordScanExec, RecordTable};
use super::*;
use crate::ingest::IngestionBatch;
use crate::memory::ingest::Store;
use crate::memory::schema::{JOB_SCHEMA, RUN_SCHEMA};
use crate::memory::storage::Dictionary;
use crate::model::JobState;
use crate::query::{
    Aggregates, Direction, GroupField, GroupOrder, GroupOrderKey, IntegerField, JobOrderKey, Predicate, StateField,
    TextField, TimeAggregate,
};
use crate::workload::{Workload, WorkloadOptions};

fn run(plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    let batches = Runtime::new().unwrap().block_on(collect(plan, Arc::new(TaskContext::default()))).unwrap();
    concat_batches(&schema, &batches).unwrap()
}

fn planned(plan: impl Future<Output = EngineResult<Arc<dyn ExecutionPlan>>>) -> Arc<dyn ExecutionPlan> {
    Runtime::new().unwrap().block_on(plan).unwrap()
}

/// Batches of a code that may be null, a state, a submission and a transition time.
fn batches() -> impl Strategy<Value = Vec<RecordBatch>> {
    let row = (prop::option::weighted(0.8, 0..300u32), 1..10u8, -5_000_000_000i64..5_000_000_000, -9999i64..9999);
    prop::collection::vec(prop::collection::vec(row, 0..200), 1..6).prop_map(|batches| {
        let batch = |rows: Vec<(Option<u32>, u8, i64, i64)>| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.0).collect::<UInt32Array>()),
                Arc::new(rows.iter().map(|row| Some(row.1)).collect::<UInt8Array>()),
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2))),
                Arc::new(TimestampSecondArray::from_iter_values(rows.iter().map(|row| row.3))),
            ];
            RecordBatch::try_new(input_schema(), columns).unwrap()
        };
        batches.into_iter().map(batch).collect()
    })
}

fn input_schema() -> SchemaRef {
    let by = JobColumn::Annotation(None);
    let read = [JobColumnIndex::state, JobColumnIndex::submitted, JobColumnIndex::last_transition_seconds]
        .map(JobColumn::from);
    job_scan::schema(&std::iter::once(by).chain(read).collect::<Vec<_>>())
}

fn input(batches: &[RecordBatch]) -> Arc<dyn ExecutionPlan> {
    MemorySourceConfig::try_new_exec(&[batches.to_vec()], input_schema(), None).unwrap()
}

fn aggregates(transition: TimeAggregate) -> Aggregates {
    GroupQuery::by(GroupField::Queue).count_states().submitted().last_transition_time(transition).aggregates()
}

/// By group: count, count of FAILED, earliest submission and the transition time of an aggregate.
type Groups = BTreeMap<Option<u32>, [i64; 4]>;

fn dense(batches: &[RecordBatch], transition: TimeAggregate, nulls: bool, is_sparse: bool) -> Groups {
    let aggregates = aggregates(transition);
    let plan = DenseAggregateExec::new(input(batches), 301, nulls, aggregates, None);
    let output = run(Arc::new(if is_sparse { plan.with_sparse_groups() } else { plan }));
    assert!(output.column(0).as_primitive::<UInt32Type>().values().is_sorted());
    let group = |at: usize| {
        let count = |name: &str| output.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(at) as i64;
        let submitted = output.column_by_name("submitted").unwrap().as_primitive::<TimestampMicrosecondType>();
        let transition = output.columns().last().unwrap().as_primitive::<Int64Type>();
        let group = output.column(0).as_primitive::<UInt32Type>().value(at).checked_sub(1);
        (group, [count("count"), count("FAILED"), submitted.value(at), transition.value(at)])
    };
    (0..output.num_rows()).map(group).collect()
}

/// The same aggregates, computed by DataFusion's operator.
fn aggregated(batches: &[RecordBatch], transition: TimeAggregate, nulls: bool) -> Groups {
    let schema = input_schema();
    let column = |name: &str| col(name, &schema).unwrap();
    let seconds =
        Arc::new(CastExpr::new(column("last_transition_seconds"), datafusion::arrow::datatypes::DataType::Int64, None));
    let of_transition = match transition {
        TimeAggregate::Average => sum_udaf(),
        TimeAggregate::Earliest => min_udaf(),
        TimeAggregate::Latest => max_udaf(),
    };
    let expressions = [
        AggregateExprBuilder::new(count_udaf(), vec![lit(1i64)]).alias("count"),
        AggregateExprBuilder::new(count_udaf(), vec![lit(1i64)]).alias("failed"),
        AggregateExprBuilder::new(min_udaf(), vec![column("submitted")]).alias("submitted"),
        AggregateExprBuilder::new(of_transition, vec![seconds]).alias("transition"),
    ];
    let expressions: Vec<_> =
        expressions.map(|expression| Arc::new(expression.schema(Arc::clone(&schema)).build().unwrap())).to_vec();
    let failed = datafusion::physical_expr::expressions::binary(
        column("state"),
        datafusion::logical_expr::Operator::Eq,
        lit(JobState::Failed.ordinal()),
        &schema,
    );
    let filters = vec![None, Some(failed.unwrap()), None, None];
    let by = PhysicalGroupBy::new_single(vec![(column("annotation"), "annotation".to_owned())]);
    let plan =
        AggregateExec::try_new(AggregateMode::Single, by, expressions, filters, input(batches), Arc::clone(&schema));
    let output = run(Arc::new(plan.unwrap()));
    let groups = output.column(0).as_primitive::<UInt32Type>();
    let value = |column: usize, at: usize| {
        let values =
            datafusion::arrow::compute::cast(output.column(column), &datafusion::arrow::datatypes::DataType::Int64);
        values.unwrap().as_primitive::<Int64Type>().value(at)
    };
    let group =
        |at: usize| (groups.is_valid(at).then(|| groups.value(at)), [1, 2, 3, 4].map(|column| value(column, at)));
    (0..output.num_rows()).map(group).filter(|(group, _)| nulls || group.is_some()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn dense_aggregate_matches_aggregate_exec(batches in batches(), nulls: bool) {
        for transition in [TimeAggregate::Average, TimeAggregate::Earliest, TimeAggregate::Latest] {
            let expected = aggregated(&batches, transition, nulls);
            prop_assert_eq!(&dense(&batches, transition, nulls, false), &expected);
            prop_assert_eq!(&dense(&batches, transition, nulls, true), &expected);
        }
    }
}

/// Groups of distinct codes in batches: a count, the earliest submission, and the sum of transition times.
fn groups_in_batches() -> impl Strategy<Value = Vec<Vec<(u32, u64, i64, i64)>>> {
    // The counts divide 100, so that averages are compared exactly as hundredths.
    let group = (0..200u32, prop::sample::select(vec![1u64, 2, 4, 5, 10, 20, 50]), 0..20i64, -50..50i64);
    prop::collection::vec(group, 0..150).prop_map(|mut groups| {
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|&(group, ..)| seen.insert(group));
        groups.chunks(40).map(<[_]>::to_vec).collect()
    })
}

/// The groups with columns for their names and their averages in hundredths.
fn group_batch(key: &GroupKey, aggregates: Aggregates, groups: &[(u32, u64, i64, i64)], sorted: bool) -> RecordBatch {
    let schema = aggregate::schema(aggregates);
    let states = aggregates.states().map_or(0, |states| states.len());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(groups.iter().map(|group| group.0))),
        Arc::new(UInt64Array::from_iter_values(groups.iter().map(|group| group.1))),
    ];
    let counts: ArrayRef = Arc::new(UInt64Array::from_iter_values(groups.iter().map(|group| group.1)));
    columns.extend(std::iter::repeat_n(counts, states));
    columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(groups.iter().map(|group| group.2))));
    columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| group.3))));
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    if sorted {
        let names = groups.iter().map(|group| key.name(group.0).to_string());
        columns.push(Arc::new(StringArray::from_iter_values(names)));
        fields.push(Arc::new(Field::new("name", DataType::Utf8, false)));
        let hundredths = groups.iter().map(|group| group.3 * 100 / group.1 as i64);
        columns.push(Arc::new(Int64Array::from_iter_values(hundredths)));
        fields.push(Arc::new(Field::new("average", DataType::Int64, false)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn source(batches: Vec<RecordBatch>, schema: SchemaRef) -> Arc<dyn ExecutionPlan> {
    MemorySourceConfig::try_new_exec(&[batches], schema, None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn group_sort_matches_sort_exec(batches in groups_in_batches(), fetch in prop::option::of(1..250usize)) {
        let mut dictionary = Dictionary::default();
        dictionary.intern_all::<Vec<u32>>((0..200).map(|at| format!("{}", at * 7919 % 1000)).collect::<Vec<_>>().iter().map(String::as_str));
        let key = GroupKey::Text(TextField::Queue, dictionary);
        for (transition, directed) in [(TimeAggregate::Average, Direction::Ascending), (TimeAggregate::Earliest, Direction::Descending)] {
            let aggregates = aggregates(transition);
            let plain: Vec<_> = batches.iter().map(|groups| group_batch(&key, aggregates, groups, false)).collect();
            let named: Vec<_> = batches.iter().map(|groups| group_batch(&key, aggregates, groups, true)).collect();
            let named_schema = group_batch(&key, aggregates, &[], true).schema();
            let transition_column = if transition == TimeAggregate::Average { "average" } else { "last_transition_seconds_min" };
            for (by, column) in [
                (GroupOrderKey::Count, "count"),
                (GroupOrderKey::Name, "name"),
                (GroupOrderKey::Submitted, "submitted"),
                (GroupOrderKey::LastTransitionTime, transition_column),
            ] {
                let order = GroupOrder { key: by, direction: directed };
                let input = source(plain.clone(), aggregate::schema(aggregates));
                let ours = run(Arc::new(GroupSortExec::new(input, key.clone(), aggregates, Some(order), fetch)));
                let options = SortOptions { descending: directed == Direction::Descending, nulls_first: false };
                let expr = PhysicalSortExpr::new(col(column, &named_schema).unwrap(), options);
                let sorted = SortExec::new(LexOrdering::new([expr]).unwrap(), source(named.clone(), Arc::clone(&named_schema)));
                let theirs = run(Arc::new(sorted.with_fetch(fetch)));
                prop_assert_eq!(ours.num_rows(), theirs.num_rows());
                // Groups with equal sort keys may be in any order, so only the sort keys are compared.
                let keys_of = |groups: &ArrayRef| -> Vec<(String, u64, i64, i64)> {
                    let of = |code: u32| {
                        let group = batches.iter().flatten().find(|group| group.0 == code).unwrap();
                        match by {
                            GroupOrderKey::Count => (String::new(), group.1, 0, 0),
                            GroupOrderKey::Name => (key.name(code).to_string(), 0, 0, 0),
                            GroupOrderKey::Submitted => (String::new(), 0, group.2, 0),
                            GroupOrderKey::LastTransitionTime if transition == TimeAggregate::Average => {
                                (String::new(), 0, 0, group.3 * 100 / group.1 as i64)
                            }
                            GroupOrderKey::LastTransitionTime => (String::new(), 0, 0, group.3),
                        }
                    };
                    groups.as_primitive::<UInt32Type>().values().iter().map(|&code| of(code)).collect()
                };
                prop_assert_eq!(keys_of(ours.column(0)), keys_of(theirs.column(0)), "{} {:?}", column, directed);
                // The other columns belong to the same group, and averages are rounded half away from zero.
                for at in 0..ours.num_rows() {
                    let code = ours.column(0).as_primitive::<UInt32Type>().value(at);
                    let group = batches.iter().flatten().find(|group| group.0 == code).unwrap();
                    let seconds = ours.columns().last().unwrap().as_primitive::<TimestampSecondType>().value(at);
                    let expected = match transition {
                        TimeAggregate::Average => (group.3 as f64 / group.1 as f64).round() as i64,
                        _ => group.3,
                    };
                    prop_assert_eq!((ours.column(1).as_primitive::<UInt64Type>().value(at), seconds), (group.1, expected));
                }
            }
        }
    }
}

/// A store with full chunks and a part of one, whose columns have nulls.
fn store(jobs: u64) -> Arc<Tables> {
    let mut store = Store::default();
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(2000) {
        store.apply(&IngestionBatch::new(batch).unwrap()).unwrap();
    }
    Arc::new(store.snapshot())
}

fn page(tables: &Arc<Tables>, query: JobQuery) -> RecordBatch {
    run(planned(jobs(tables, &query)))
}

#[test]
fn an_ordered_scan_matches_sort_exec() {
    let tables = store(18_000);
    let all = page(&tables, JobQuery::new());
    assert_eq!(all.num_rows(), tables.jobs.len());
    for (key, column) in
        [(JobOrderKey::JobId, "job_id"), (JobOrderKey::Submitted, "submitted"), (JobOrderKey::State, "state")]
    {
        for direction in Direction::ALL {
            let descending = direction == Direction::Descending;
            let ours = page(&tables, JobQuery::new().order_by(key, direction).offset(50).limit(200));
            let source = MemorySourceConfig::try_new_exec(&[vec![all.clone()]], all.schema(), None).unwrap();
            let by = PhysicalSortExpr::new(
                col(column, &all.schema()).unwrap(),
                SortOptions { descending, nulls_first: false },
            );
            let sorted = SortExec::new(LexOrdering::new([by]).unwrap(), source).with_fetch(Some(250));
            let theirs = run(Arc::new(sorted)).slice(50, 200);
            assert_eq!(ours.column_by_name(column), theirs.column_by_name(column), "{key} {direction:?}");
        }
    }
}

#[test]
fn a_filtered_scan_matches_filter_exec() {
    let tables = store(18_000);
    let all = page(&tables, JobQuery::new());
    let schema = all.schema();
    for cpu in [1i64, 4, 16] {
        let query = JobQuery::new().filter(IntegerField::Cpu.at_least(cpu)).filter(StateField.equals(JobState::Failed));
        let ours = page(&tables, query);
        let compare = |column: &str, operator, value| {
            let column = col(column, &schema).unwrap();
            datafusion::physical_expr::expressions::binary(column, operator, value, &schema).unwrap()
        };
        let by_cpu = compare("cpu", datafusion::logical_expr::Operator::GtEq, lit(cpu));
        let by_state = compare("state", datafusion::logical_expr::Operator::Eq, lit(JobState::Failed.ordinal()));
        let both = datafusion::physical_expr::conjunction([by_cpu, by_state]);
        let source = MemorySourceConfig::try_new_exec(&[vec![all.clone()]], all.schema(), None).unwrap();
        assert_eq!(ours, run(Arc::new(FilterExec::try_new(both, source).unwrap())));
    }
}

#[test]
fn the_partitions_of_a_scan_emit_each_row_once() {
    let tables = store(18_000);
    let ids = |plan: Arc<dyn ExecutionPlan>| {
        let batch = run(Arc::new(CoalescePartitionsExec::new(plan)));
        let mut ids: Vec<_> = batch.column(0).as_string_view().iter().map(|id| id.unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids
    };
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

/// Cached aggregates do not change results, even after writes to chunks.
#[test]
fn cached_partials_do_not_change_groups() {
    let workload = Workload::new(WorkloadOptions { jobs: 18_000, ..WorkloadOptions::default() });
    let mut cached = Store::default();
    for (at, batch) in workload.batches(1500).enumerate() {
        let batch = IngestionBatch::new(batch).unwrap();
        cached.apply(&batch).unwrap();
        let tables = Arc::new(cached.snapshot());
        let mut anew = cached.snapshot();
        anew.indexes.partials = Arc::default();
        let anew = Arc::new(anew);
        let failed: &[Predicate] = &[StateField.equals(JobState::Failed)];
        for (field, predicates) in [
            (GroupField::Queue, &[][..]),
            (GroupField::JobSet, &[]),
            (GroupField::State, &[]),
            (GroupField::Node, failed),
        ] {
            let query = GroupQuery::by(field)
                .filters(predicates.iter().cloned())
                .count_states()
                .submitted()
                .last_transition_time(TimeAggregate::Average);
            let answer = |tables: &Arc<Tables>| {
                let key = GroupKey::new(tables, query.group_by());
                run(planned(groups(tables, &query, &key)))
            };
            assert_eq!(answer(&tables), answer(&anew), "{field} after batch {at}");
        }
    }
    assert!(cached.snapshot().indexes.partials.heap_bytes() > 0);
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
