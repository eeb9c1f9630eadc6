//! Groups of jobs: their aggregates, order and page.

use std::cmp::Ordering;
use std::fmt::{self, Display};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use datafusion::arrow::compute::filter;
use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::metrics::{Count, Time};

use super::cost::SPARSE_MIN_GROUPS;
use super::query::{GroupAccumulators, GroupKey, PageRange, RowSelection, consume_budget, rounded};
use super::storage::{
    CachedGroups, Chunk, GroupAccumulator, GroupTotals, JobColumnIndex, PartialKey, Tables, TotalsUpdate,
};
use crate::model::{GroupAggregates, JobGroup, JobState, StateSet};
use crate::query::{Direction, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, TimeAggregate};
use crate::time::Timestamp;

/// A query for groups of the jobs of a snapshot.
///
/// The jobs are aggregated by codes: the code is the index of the accumulator in an array, so no hash table is needed.
/// DataFusion's `AggregateExec` takes several times as long for a count per state.
pub(super) struct GroupPlan {
    tables: Arc<Tables>,
    query: GroupQuery,
    key: GroupKey,
    selected: RowSelection,
    /// Whether there are more groups than rows. Memory is allocated only for groups with rows then.
    is_sparse: bool,
    cache: Option<GroupCache>,
    scan: StageMetrics,
    aggregation: StageMetrics,
}

/// The cached aggregates of a query. They include all aggregates, whichever the query requests.
struct GroupCache {
    key: PartialKey,
    /// The cached aggregates, of a version of the table.
    totals: Option<Arc<GroupTotals>>,
    /// The chunks to scan: those whose segment is not cached.
    scanned: Vec<usize>,
}

/// What EXPLAIN shows of an executed stage.
#[derive(Default)]
struct StageMetrics {
    rows: Count,
    elapsed: Time,
}

/// A group: code, number of jobs and accumulator.
type Group<'a> = (u32, u32, &'a GroupAccumulator);

impl GroupPlan {
    pub(super) async fn new(tables: &Arc<Tables>, query: &GroupQuery) -> EngineResult<Self> {
        let selection = query.selection();
        let selected = RowSelection::new(tables, selection).await?;
        let key = GroupKey::new(tables, query.group_by());
        let rows = selected.upper_bound(tables) as usize;
        let is_sparse = key.groups() > rows.max(SPARSE_MIN_GROUPS);
        let is_cached = !is_sparse && !selection.active_job_sets() && !selected.has_residual();
        let cache = if is_cached { GroupCache::new(tables, query) } else { None };
        let (scan, aggregation) = (StageMetrics::default(), StageMetrics::default());
        Ok(Self {
            tables: Arc::clone(tables),
            query: query.clone(),
            key,
            selected,
            is_sparse,
            cache,
            scan,
            aggregation,
        })
    }

    pub(super) async fn execute(&self) -> EngineResult<Vec<JobGroup>> {
        let groups = match &self.cache {
            Some(cache) => self.update(cache).await?,
            None => {
                let groups = if self.is_sparse { None } else { Some(self.key.groups()) };
                let accumulators = groups.map_or_else(GroupAccumulators::sparse, GroupAccumulators::new);
                self.aggregate(0..self.tables.jobs.chunks().len(), accumulators).await?
            }
        };
        self.aggregation.rows.add(groups.len());
        Ok(groups)
    }

    /// Aggregates the selected jobs of chunks.
    async fn aggregate(
        &self,
        chunks: impl Iterator<Item = usize> + Send,
        mut accumulators: GroupAccumulators,
    ) -> EngineResult<Vec<JobGroup>> {
        for chunk in chunks {
            self.add(chunk, &mut accumulators).await?;
        }
        let _timer = self.aggregation.elapsed.timer();
        Ok(self.page(accumulators.groups()))
    }

    /// Aggregates the jobs of stale segments, and updates the cached aggregates.
    async fn update(&self, cache: &GroupCache) -> EngineResult<Vec<JobGroup>> {
        let cached = cache.totals.as_deref();
        if let Some(cached) = cached.filter(|_| cache.scanned.is_empty()) {
            let _timer = self.aggregation.elapsed.timer();
            return Ok(self.page(cached.groups()));
        }
        let (partials, budget) = (&self.tables.indexes.partials, self.tables.cache_budget());
        let mut update = TotalsUpdate::new(cached, self.key.groups());
        let mut accumulators = GroupAccumulators::new(self.key.groups());
        let mut chunks = cache.scanned.iter().copied().peekable();
        while let Some(chunk) = chunks.next() {
            self.add(chunk, &mut accumulators).await?;
            let Some(size) = update.chunks_per_segment(accumulators.touched()) else {
                partials.insert(&cache.key, CachedGroups::TooMany, budget);
                return self.aggregate(chunks, accumulators).await;
            };
            if chunks.peek().is_none_or(|&next| next / size != chunk / size) {
                update.replace(chunk / size, &accumulators.take());
            }
        }
        let _timer = self.aggregation.elapsed.timer();
        let totals = Arc::new(update.finish(self.tables.jobs.chunks()));
        let groups = self.page(totals.groups());
        partials.insert(&cache.key, CachedGroups::Totals(totals), budget);
        self.tables.evict_caches(budget);
        Ok(groups)
    }

    /// Adds the selected jobs of a chunk to the accumulators.
    async fn add(&self, chunk: usize, accumulators: &mut GroupAccumulators) -> EngineResult<()> {
        consume_budget().await;
        let timer = self.scan.elapsed.timer();
        let rows = self.selected.chunk(&self.tables, chunk);
        let count = rows.count_set_bits();
        if count == 0 {
            return Ok(());
        }
        let passing = (count < rows.len()).then(|| BooleanArray::new(rows, None));
        let selected = |column: &ArrayRef| match &passing {
            Some(passing) => filter(column, passing),
            None => Ok(Arc::clone(column)),
        };
        let columns = self.columns(chunk).iter().map(selected).collect::<Result<Vec<_>, _>>()?;
        self.scan.rows.add(count);
        drop(timer);
        let _timer = self.aggregation.elapsed.timer();
        accumulators.add(&columns)
    }

    /// The columns of a chunk that [`GroupAccumulators::add`] takes.
    fn columns(&self, chunk: usize) -> Vec<ArrayRef> {
        let chunk = &self.tables.jobs.chunks()[chunk];
        let stored = |column: JobColumnIndex| Arc::clone(chunk.batch().column(column as usize));
        let catalog = &self.tables.dictionaries.annotations;
        let codes = || match &self.key {
            GroupKey::Annotation(key, _) => (0..chunk.len()).map(chunk.annotation(catalog, *key)).collect(),
            _ => UInt32Array::new_null(chunk.len()),
        };
        let mut columns = vec![self.key.stored().map_or_else(|| Arc::new(codes()) as ArrayRef, stored)];
        columns.push(stored(JobColumnIndex::state));
        let aggregates = self.query.aggregates();
        if self.cache.is_some() || aggregates.submitted() || aggregates.last_transition_time().is_some() {
            columns.extend([JobColumnIndex::submitted, JobColumnIndex::last_transition_seconds].map(stored));
        }
        columns
    }

    /// The page out of groups.
    fn page<'a>(&self, groups: impl Iterator<Item = Group<'a>>) -> Vec<JobGroup> {
        let mut groups: Vec<Group<'_>> = groups.filter(|&(group, ..)| self.key.groups_nulls() || group > 0).collect();
        let page = PageRange::from(self.query.page());
        if let Some(order) = self.query.order() {
            let by_key = |a: &Group<'_>, b: &Group<'_>| self.compare_keys(order, a, b);
            // The contract orders ties by name.
            let compare = |a: &Group<'_>, b: &Group<'_>| by_key(a, b).then_with(|| self.key.compare_names(a.0, b.0));
            if (1..groups.len()).contains(&page.end()) {
                // Names are compared only among the ties of the last group, because a comparison takes two lookups in
                // a dictionary.
                let last = *groups.select_nth_unstable_by(page.end() - 1, by_key).1;
                groups.retain(|group| by_key(group, &last).is_le());
            }
            groups.sort_unstable_by(compare);
            groups.truncate(page.end());
        }
        page.of(groups).into_iter().map(|group| self.group(group)).collect()
    }

    /// Compares groups by their sort keys. Averages are compared before they are rounded.
    fn compare_keys(&self, order: GroupOrder, a: &Group<'_>, b: &Group<'_>) -> Ordering {
        let &(group_a, count_a, of_a) = a;
        let &(group_b, count_b, of_b) = b;
        let ascending = match order.key {
            GroupOrderKey::Count => count_a.cmp(&count_b),
            GroupOrderKey::Name => self.key.compare_names(group_a, group_b),
            GroupOrderKey::Submitted => of_a.submitted.cmp(&of_b.submitted),
            GroupOrderKey::LastTransitionTime => match self.query.aggregates().last_transition_time() {
                Some(TimeAggregate::Average) => {
                    let scaled = |sum: i64, by: u32| i128::from(sum) * i128::from(by);
                    scaled(of_a.transition_sum, count_b).cmp(&scaled(of_b.transition_sum, count_a))
                }
                Some(TimeAggregate::Earliest) => of_a.earliest_transition.cmp(&of_b.earliest_transition),
                Some(TimeAggregate::Latest) | None => of_a.latest_transition.cmp(&of_b.latest_transition),
            },
        };
        if order.direction == Direction::Ascending { ascending } else { ascending.reverse() }
    }

    fn group(&self, (group, count, of): Group<'_>) -> JobGroup {
        let aggregates = self.query.aggregates();
        let of_state = |state: JobState| (state, u64::from(of.states[usize::from(state.ordinal())]));
        let transition = |aggregate: TimeAggregate| match aggregate {
            TimeAggregate::Average => rounded(of.transition_sum, count.into()),
            TimeAggregate::Earliest => of.earliest_transition,
            TimeAggregate::Latest => of.latest_transition,
        };
        JobGroup {
            name: self.key.name(group),
            count: count.into(),
            aggregates: GroupAggregates {
                state: aggregates.states().map(|states| states.iter().map(of_state).collect()),
                submitted: aggregates.submitted().then(|| Timestamp::from_micros(of.submitted)),
                last_transition_time: aggregates
                    .last_transition_time()
                    .map(|aggregate| Timestamp::from_seconds(transition(aggregate))),
            },
        }
    }
}

impl GroupCache {
    /// The cached aggregates, and the chunks that they do not include; `None` if the query has too many groups.
    fn new(tables: &Tables, query: &GroupQuery) -> Option<Self> {
        let predicates = query.selection().predicates().to_vec();
        let key = PartialKey { group_by: query.group_by().clone(), predicates };
        let chunks = tables.jobs.chunks();
        let totals = match tables.indexes.partials.get(&key) {
            Some(CachedGroups::TooMany) => return None,
            Some(CachedGroups::Totals(totals)) => totals.stale(chunks).map(|stale| (totals, stale)),
            None => None,
        };
        let (totals, scanned) =
            totals.map_or_else(|| (None, (0..chunks.len()).collect()), |(totals, stale)| (Some(totals), stale));
        Some(Self { key, totals, scanned })
    }
}

/// The plan in the format of DataFusion's EXPLAIN, with the metrics of its execution.
impl Display for GroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.query.group_by() {
            GroupBy::State => "state".to_owned(),
            GroupBy::Text(field) => field.column().to_owned(),
            GroupBy::Annotation(key) => format!("annotation {key:?}"),
        };
        let aggregates = self.query.aggregates();
        let mut names = vec!["count"];
        names.extend(aggregates.states().into_iter().flat_map(StateSet::iter).map(JobState::name));
        names.extend(aggregates.submitted().then_some("submitted"));
        names.extend(aggregates.last_transition_time().map(|_| "last_transition_time"));
        write!(f, "GroupExec: gby=[{by}], aggr=[{}]", names.join(", "))?;
        if let Some(GroupOrder { key, direction }) = self.query.order() {
            let key = match key {
                GroupOrderKey::Count => "count",
                GroupOrderKey::Name => "name",
                GroupOrderKey::Submitted => "submitted",
                GroupOrderKey::LastTransitionTime => "last_transition_time",
            };
            write!(f, ", order=[{key} {direction}]")?;
        }
        let page = PageRange::from(self.query.page());
        if page.offset > 0 {
            write!(f, ", skip={}", page.offset)?;
        }
        if let Some(limit) = page.limit {
            write!(f, ", limit={limit}")?;
        }
        if self.is_sparse {
            f.write_str(", sparse")?;
        }
        let chunks = self.tables.jobs.chunks().len();
        let scanned = self.cache.as_ref().map_or(chunks, |cache| cache.scanned.len());
        if self.cache.is_some() {
            write!(f, ", cached chunks={}", chunks - scanned)?;
        }
        write!(f, ", {}\n  GroupScan: {}", self.aggregation, self.selected)?;
        if let Some(candidates) = self.selected.candidates(&self.tables) {
            write!(f, ", candidates={candidates}")?;
        }
        writeln!(f, ", chunks={scanned} of {chunks}, {}", self.scan)
    }
}

impl Display for StageMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics=[output_rows={}, elapsed_compute={}]", self.rows, self.elapsed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::runtime::Runtime;

    use super::*;
    use crate::ingest::IngestionBatch;
    use crate::memory::ingest::Store;
    use crate::memory::read;
    use crate::model::Job;
    use crate::query::{GroupField, JobQuery, Predicate, StateField};
    use crate::time::divide_half_away;
    use crate::workload::{Workload, WorkloadOptions};

    fn planned(tables: &Arc<Tables>, query: &GroupQuery) -> GroupPlan {
        Runtime::new().unwrap().block_on(GroupPlan::new(tables, query)).unwrap()
    }

    fn groups(plan: &GroupPlan) -> Vec<JobGroup> {
        Runtime::new().unwrap().block_on(plan.execute()).unwrap()
    }

    fn ingest(store: &mut Store, options: WorkloadOptions, size: u64, mut after: impl FnMut(&Store)) {
        for batch in Workload::new(options).batches(size) {
            store.apply(&IngestionBatch::new(batch).unwrap()).unwrap();
            after(store);
        }
    }

    fn name(job: &Job, field: GroupField) -> String {
        let text = match field {
            GroupField::Queue => Some(&job.queue),
            GroupField::JobSet => Some(&job.job_set),
            GroupField::State => return job.state.name().to_owned(),
            GroupField::Node => job.node.as_ref(),
            other => panic!("{other} is not tested"),
        };
        text.map_or(String::new(), ToString::to_string)
    }

    /// The groups of jobs in the order of their names, each with the sum of its transition times.
    fn expected(jobs: &[Job], field: GroupField, transition: TimeAggregate) -> Vec<(JobGroup, i128)> {
        let mut by_name: BTreeMap<String, Vec<&Job>> = BTreeMap::new();
        jobs.iter().for_each(|job| by_name.entry(name(job, field)).or_default().push(job));
        let group = |(name, jobs): (String, Vec<&Job>)| {
            let count = |state: JobState| (state, jobs.iter().filter(|job| job.state == state).count() as u64);
            let seconds = || jobs.iter().map(|job| job.last_transition_time.floor_seconds());
            let sum: i128 = seconds().map(i128::from).sum();
            let transition = match transition {
                TimeAggregate::Average => divide_half_away(sum, jobs.len() as i128) as i64,
                TimeAggregate::Earliest => seconds().min().unwrap(),
                TimeAggregate::Latest => seconds().max().unwrap(),
            };
            let aggregates = GroupAggregates {
                state: Some(StateSet::ALL.iter().map(count).collect()),
                submitted: jobs.iter().map(|job| job.submitted).min(),
                last_transition_time: Some(Timestamp::from_seconds(transition)),
            };
            let of = JobGroup { name: name.into(), count: jobs.len() as u64, aggregates };
            (of, sum)
        };
        by_name.into_iter().map(group).collect()
    }

    /// The groups in an order. The sort is stable, so ties remain in the order of their names.
    fn sorted(mut groups: Vec<(JobGroup, i128)>, query: &GroupQuery) -> Vec<JobGroup> {
        let Some(GroupOrder { key, direction }) = query.order() else { panic!("the query has an order") };
        let transition = |(group, sum): &(JobGroup, i128), other: u64| match query.aggregates().last_transition_time() {
            Some(TimeAggregate::Average) => sum * i128::from(other),
            _ => group.aggregates.last_transition_time.unwrap().as_micros().into(),
        };
        groups.sort_by(|a, b| {
            let (first, second) = if direction == Direction::Ascending { (a, b) } else { (b, a) };
            match key {
                GroupOrderKey::Count => first.0.count.cmp(&second.0.count),
                GroupOrderKey::Name => first.0.name.cmp(&second.0.name),
                GroupOrderKey::Submitted => first.0.aggregates.submitted.cmp(&second.0.aggregates.submitted),
                GroupOrderKey::LastTransitionTime => {
                    transition(first, second.0.count).cmp(&transition(second, first.0.count))
                }
            }
        });
        groups.into_iter().map(|(group, _)| group).collect()
    }

    #[test]
    fn groups_are_those_of_the_jobs_in_any_order() {
        let mut store = Store::default();
        ingest(&mut store, WorkloadOptions { jobs: 9000, ..WorkloadOptions::default() }, 3000, |_| ());
        let (tables, all) = (Arc::new(store.snapshot()), JobQuery::new());
        let jobs = read::jobs(&tables, &all, Timestamp::from_micros(0));
        let jobs = Runtime::new().unwrap().block_on(jobs).unwrap();
        let keys =
            [GroupOrderKey::Count, GroupOrderKey::Name, GroupOrderKey::Submitted, GroupOrderKey::LastTransitionTime];
        for (field, transition) in [
            (GroupField::Queue, TimeAggregate::Average),
            (GroupField::JobSet, TimeAggregate::Earliest),
            (GroupField::Node, TimeAggregate::Latest),
            (GroupField::State, TimeAggregate::Average),
        ] {
            let query = GroupQuery::by(field).count_states().submitted().last_transition_time(transition);
            let all = expected(&jobs, field, transition);
            for (key, direction) in keys.into_iter().flat_map(|key| Direction::ALL.map(|direction| (key, direction))) {
                // States are ordered by their ordinals, not by their names.
                if field == GroupField::State && key != GroupOrderKey::Submitted {
                    continue;
                }
                let query = query.clone().order_by(key, direction);
                let sorted = sorted(all.clone(), &query);
                for (offset, limit) in [(0, 10_000), (3, 5), (2, 10_000), (10_000, 1)] {
                    let query = query.clone().offset(offset as u64).limit(limit as u64);
                    let page = &sorted[offset.min(sorted.len())..sorted.len().min(offset + limit)];
                    assert_eq!(groups(&planned(&tables, &query)), page, "{field} {key:?} {direction} {offset}");
                }
                assert_eq!(groups(&planned(&tables, &query)), sorted);
            }
            let mut sparse = planned(&tables, &query);
            (sparse.is_sparse, sparse.cache) = (true, None);
            let mut sparse = groups(&sparse);
            sparse.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(sparse, all.into_iter().map(|(group, _)| group).collect::<Vec<_>>(), "{field}");
        }
    }

    #[test]
    fn cached_aggregates_do_not_change_groups_after_writes_to_chunks() {
        let mut store = Store::default();
        let failed: &[Predicate] = &[StateField.equals(JobState::Failed)];
        ingest(&mut store, WorkloadOptions { jobs: 18_000, ..WorkloadOptions::default() }, 1500, |store| {
            let tables = Arc::new(store.snapshot());
            let mut anew = store.snapshot();
            anew.indexes.partials = Arc::default();
            let anew = Arc::new(anew);
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
                assert_eq!(groups(&planned(&tables, &query)), groups(&planned(&anew, &query)), "{field}");
            }
        });
        assert!(store.snapshot().indexes.partials.heap_bytes() > 0);
    }
}
