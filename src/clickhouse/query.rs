//! Reads as SQL.
//!
//! Every statement reads merged rows: `FINAL` keeps of a row's versions the highest. ClickHouse
//! applies `WHERE` after that, but uses of it what it can beforehand: ranges of the primary key,
//! and skip indexes, whose granules it then widens to all that may hold another version
//! (`use_skip_indexes_if_final_exact_mode`).
//!
//! `PREWHERE` comes before merging. It is exact for what all versions of a row share, so it may
//! hold conditions on annotations, which never change, and saves the merge from reading the map
//! of every row. Conditions on the plain columns stay in `WHERE`: reading them costs little, and
//! an order by job id then reads in order and stops at the end of the page.

use super::marker::TABLE;
use super::schema::{ANNOTATION_PAIRS, JOB_COLUMNS, Layout, RUN_COLUMNS};
use super::statement::{Statement, Values};
use crate::model::{JobState, StateSet};
use crate::query::{
    Aggregates, AnnotationTest, Comparison, Direction, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, IntegerField,
    IntegerTest, JobOrder, JobOrderKey, JobQuery, Page, Predicate, Selection, TextField, TextTest, TimeAggregate,
    TimeField,
};

/// The most values of an annotation that are looked up as pairs: each row's pairs are compared with every one of
/// them, which beyond so many costs more than the index saves.
const MOST_PAIRS: usize = 1000;

/// A condition that no row meets.
const NONE: &str = "false";

/// Writes the reads of a layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    /// What follows a table's name to read its merged rows.
    merged: &'static str,
}

impl Reads {
    pub(super) fn of(layout: Layout) -> Self {
        let merged = match layout {
            Layout::Replacing => " FINAL",
            // Patches are applied to every read; there is but one version.
            Layout::Patch => "",
        };
        Self { merged }
    }

    /// A page of jobs.
    pub(super) fn jobs(self, query: &JobQuery) -> Statement {
        let mut values = Values::default();
        let conditions = self.conditions(query.selection(), &mut values);
        let order = query.order().map(job_order).unwrap_or_default();
        let page = page(query.page(), &mut values);
        let sql = format!("SELECT {JOB_COLUMNS} FROM job{}{conditions}{order}{page}", self.merged);
        Statement { sql, values }
    }

    /// The runs of jobs.
    pub(super) fn runs<'a>(self, job_ids: impl IntoIterator<Item = &'a str>) -> Statement {
        let mut values = Values::default();
        let ids = values.texts(job_ids);
        Statement { sql: format!("SELECT {RUN_COLUMNS} FROM job_run{} WHERE job_id IN {ids}", self.merged), values }
    }

    /// A page of groups, in the columns of [`GroupRow`](super::row::GroupRow).
    pub(super) fn groups(self, query: &GroupQuery) -> Statement {
        let mut values = Values::default();
        let (name, grouped) = group_key(query.group_by(), &mut values);
        let aggregates = aggregates(query.aggregates());
        let source = self.group_source(query.group_by());
        let conditions = self.group_conditions(query, &mut values);
        let order = query.order().map(|order| group_order(order, &grouped, query.aggregates())).unwrap_or_default();
        let page = page(query.page(), &mut values);
        let sql = format!(
            "SELECT {name} AS name, count() AS count, {aggregates} FROM {source}{conditions} GROUP BY {grouped}{order}{page}"
        );
        Statement { sql, values }
    }

    /// The jobs, with their latest runs where the groups are by one of its fields.
    ///
    /// A job names its latest run by id, and the run may be another job's or come later, so the
    /// two are brought together when they are read, not when they are written.
    fn group_source(self, group_by: &GroupBy) -> String {
        let merged = self.merged;
        match group_by {
            GroupBy::Text(field) if field.is_of_latest_run() => format!(
                "job{merged} ANY LEFT JOIN (SELECT run_id, {} FROM job_run{merged}) AS run ON run.run_id = job.latest_run_id",
                text_column(*field)
            ),
            _ => format!("job{merged}"),
        }
    }

    fn group_conditions(self, query: &GroupQuery, values: &mut Values) -> String {
        let mut conditions = self.collect(query.selection(), values);
        if let GroupBy::Annotation(key) = query.group_by() {
            conditions.before_merge.push(annotation_exists(key, values));
        }
        conditions.sql()
    }

    fn conditions(self, selection: &Selection, values: &mut Values) -> String {
        self.collect(selection, values).sql()
    }

    fn collect(self, selection: &Selection, values: &mut Values) -> Conditions {
        let mut conditions = Conditions::default();
        let mut of_latest_run = Vec::new();
        for predicate in selection.predicates() {
            match predicate {
                Predicate::Text(field, test) if field.is_of_latest_run() => {
                    of_latest_run.push(text_test(text_column(*field), test, values));
                }
                Predicate::Text(field, test) => {
                    conditions.after_merge.push(text_test(text_column(*field), test, values));
                }
                Predicate::State(states) => conditions.after_merge.push(state_test(*states, values)),
                Predicate::Integer(field, test) => conditions.after_merge.push(integer_test(*field, test, values)),
                Predicate::Time(field, comparison, time) => conditions.after_merge.push(format!(
                    "toUnixTimestamp64Micro({}) {} {}",
                    time_column(*field),
                    operator(*comparison),
                    values.integer(time.as_micros())
                )),
                Predicate::Annotation(key, test) => {
                    conditions.before_merge.push(annotation_test(key, test, values));
                }
            }
        }
        if !of_latest_run.is_empty() {
            conditions.after_merge.push(format!(
                "latest_run_id IN (SELECT run_id FROM job_run{} WHERE {})",
                self.merged,
                of_latest_run.join(" AND ")
            ));
        }
        if selection.active_job_sets() {
            conditions.after_merge.push(format!(
                "(queue, job_set) IN (SELECT queue, job_set FROM job{} WHERE {} GROUP BY queue, job_set)",
                self.merged,
                state_test(StateSet::ACTIVE, values)
            ));
        }
        conditions
    }

    /// The record of an existing job: its spec or its error.
    pub(super) fn record(table: &str, job_id: &str) -> Statement {
        let mut values = Values::default();
        let id = values.text(job_id);
        let sql = format!(
            "SELECT value FROM {table} WHERE job_id = {id} \
             AND job_id IN (SELECT job_id FROM job WHERE job_id = {id}) ORDER BY version DESC LIMIT 1"
        );
        Statement { sql, values }
    }

    /// A property of the store.
    pub(super) fn property(key: &str) -> Statement {
        let mut values = Values::default();
        let key = values.text(key);
        let sql = format!("SELECT value AS id FROM {TABLE} WHERE key = {key} ORDER BY version DESC LIMIT 1");
        Statement { sql, values }
    }

    /// A message of a run: the column `error` or `debug`.
    pub(super) fn run_message(column: &str, run_id: &str) -> Statement {
        let mut values = Values::default();
        let id = values.text(run_id);
        let sql = format!("SELECT {column} AS value FROM job_run WHERE run_id = {id} ORDER BY version DESC LIMIT 1");
        Statement { sql, values }
    }
}

/// Conditions by where they are applied.
#[derive(Default)]
struct Conditions {
    /// On what never changes.
    before_merge: Vec<String>,
    /// On anything.
    after_merge: Vec<String>,
}

impl Conditions {
    fn sql(self) -> String {
        let clause = |word: &str, conditions: &[String]| match conditions {
            [] => String::new(),
            _ => format!(" {word} {}", conditions.join(" AND ")),
        };
        clause("PREWHERE", &self.before_merge) + &clause("WHERE", &self.after_merge)
    }
}

const fn text_column(field: TextField) -> &'static str {
    match field {
        TextField::JobId => "job_id",
        TextField::Queue => "queue",
        TextField::JobSet => "job_set",
        TextField::Owner => "owner",
        TextField::Namespace => "namespace",
        TextField::PriorityClass => "priority_class",
        TextField::Cluster => "cluster",
        TextField::Node => "node",
        TextField::Pool => "pool",
    }
}

const fn integer_column(field: IntegerField) -> &'static str {
    match field {
        IntegerField::Cpu => "cpu",
        IntegerField::Memory => "memory",
        IntegerField::EphemeralStorage => "ephemeral_storage",
        IntegerField::Gpu => "gpu",
        IntegerField::Priority => "priority",
    }
}

const fn time_column(field: TimeField) -> &'static str {
    match field {
        TimeField::Submitted => "submitted",
        TimeField::LastTransitionTime => "last_transition_time",
    }
}

const fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::Greater => ">",
        Comparison::Less => "<",
        Comparison::GreaterOrEqual => ">=",
        Comparison::LessOrEqual => "<=",
    }
}

/// A condition on a text column, in which the empty text is null: nothing equals it.
fn text_test(column: &str, test: &TextTest, values: &mut Values) -> String {
    match test {
        TextTest::Exact(text) if text.is_empty() => NONE.to_owned(),
        TextTest::Exact(text) => format!("{column} = {}", values.text(text)),
        TextTest::AnyOf(texts) => {
            let texts: Vec<_> = texts.iter().filter(|text| !text.is_empty()).collect();
            if texts.is_empty() { NONE.to_owned() } else { values.is_in(column, &texts) }
        }
        TextTest::StartsWith(text) | TextTest::Contains(text) if text.is_empty() => format!("{column} != ''"),
        TextTest::StartsWith(text) => format!("startsWith({column}, {})", values.text(text)),
        TextTest::Contains(text) => format!("position({column}, {}) > 0", values.text(text)),
    }
}

fn state_test(states: StateSet, values: &mut Values) -> String {
    if states.is_empty() {
        return NONE.to_owned();
    }
    format!("state IN {}", values.texts(states.iter().map(JobState::name)))
}

fn integer_test(field: IntegerField, test: &IntegerTest, values: &mut Values) -> String {
    let column = integer_column(field);
    match test {
        IntegerTest::Compare(comparison, value) => {
            format!("{column} {} {}", operator(*comparison), values.integer(*value))
        }
        IntegerTest::AnyOf(list) if list.is_empty() => NONE.to_owned(),
        IntegerTest::AnyOf(list) => values.is_in_integers(column, list),
    }
}

/// A condition on an annotation, whose value may be empty. Whole pairs go through the index.
fn annotation_test(key: &str, test: &AnnotationTest, values: &mut Values) -> String {
    let pair = |value: &String| format!("{key}\0{value}");
    match test {
        AnnotationTest::Exists => annotation_exists(key, values),
        AnnotationTest::Value(TextTest::Exact(value)) => {
            format!("has({ANNOTATION_PAIRS}, {})", values.text(&pair(value)))
        }
        AnnotationTest::Value(TextTest::AnyOf(list)) if list.is_empty() => NONE.to_owned(),
        AnnotationTest::Value(TextTest::AnyOf(list)) if list.len() > MOST_PAIRS => {
            let exists = annotation_exists(key, values);
            let value = format!("annotations[{}]", values.text(key));
            format!("{exists} AND {}", values.is_in(&value, list))
        }
        AnnotationTest::Value(TextTest::AnyOf(list)) => {
            format!("hasAny({ANNOTATION_PAIRS}, {})", values.texts(list.iter().map(pair)))
        }
        AnnotationTest::Value(TextTest::StartsWith(prefix)) => {
            let exists = annotation_exists(key, values);
            format!("{exists} AND startsWith(annotations[{}], {})", values.text(key), values.text(prefix))
        }
        AnnotationTest::Value(TextTest::Contains(part)) => {
            let exists = annotation_exists(key, values);
            format!("{exists} AND position(annotations[{}], {}) > 0", values.text(key), values.text(part))
        }
    }
}

fn annotation_exists(key: &str, values: &mut Values) -> String {
    format!("mapContains(annotations, {})", values.text(key))
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => "ASC",
        Direction::Descending => "DESC",
    }
}

fn job_order(order: JobOrder) -> String {
    let column = match order.key {
        JobOrderKey::JobId => "job_id",
        JobOrderKey::Queue => "queue",
        JobOrderKey::JobSet => "job_set",
        JobOrderKey::State => "state",
        JobOrderKey::Submitted => "submitted",
        JobOrderKey::LastTransitionTime => "last_transition_seconds",
    };
    format!(" ORDER BY {column} {}", direction(order.direction))
}

fn page(page: Page, values: &mut Values) -> String {
    let limit = page.limit().map(|take| format!(" LIMIT {}", values.count(take))).unwrap_or_default();
    let offset = match page.offset() {
        0 => String::new(),
        skip => format!(" OFFSET {}", values.count(skip)),
    };
    limit + &offset
}

/// What names a group, and what makes it.
fn group_key(group_by: &GroupBy, values: &mut Values) -> (String, String) {
    match group_by {
        GroupBy::Text(field) => (text_column(*field).to_owned(), "name".to_owned()),
        // By the state itself, whose order is that of the ordinals.
        GroupBy::State => ("toString(state)".to_owned(), "state".to_owned()),
        GroupBy::Annotation(key) => (format!("annotations[{}]", values.text(key)), "name".to_owned()),
    }
}

fn aggregates(aggregates: Aggregates) -> String {
    let states = match aggregates.states() {
        Some(states) if !states.is_empty() => {
            let counts: Vec<_> = states.iter().map(|state| format!("countIf(state = '{}')", state.name())).collect();
            format!("[{}]", counts.join(", "))
        }
        _ => "emptyArrayUInt64()".to_owned(),
    };
    let submitted = if aggregates.submitted() { "toUnixTimestamp64Micro(min(submitted))" } else { "toInt64(0)" };
    let transition = match aggregates.last_transition_time() {
        Some(TimeAggregate::Average) => "sum(toInt128(last_transition_seconds))",
        Some(TimeAggregate::Earliest) => "toInt128(min(last_transition_seconds))",
        Some(TimeAggregate::Latest) => "toInt128(max(last_transition_seconds))",
        None => "toInt128(0)",
    };
    format!("{states} AS states, {submitted} AS earliest, {transition} AS transition")
}

/// The average transition time as a number that orders exactly: seconds since 1900, so that it
/// is not negative, in 2^-64ths. Averages over fewer than 2^32 jobs that differ at all differ by
/// more than that.
const EXACT_AVERAGE: &str = "intDiv(bitShiftLeft(toUInt256(transition + toInt128(count) * 2208988800), 64), count)";

fn group_order(order: GroupOrder, grouped: &str, aggregates: Aggregates) -> String {
    let key = match (order.key, aggregates.last_transition_time()) {
        (GroupOrderKey::Count, _) => "count",
        (GroupOrderKey::Name, _) => grouped,
        (GroupOrderKey::Submitted, _) => "earliest",
        (GroupOrderKey::LastTransitionTime, Some(TimeAggregate::Average)) => EXACT_AVERAGE,
        (GroupOrderKey::LastTransitionTime, _) => "transition",
    };
    format!(" ORDER BY {key} {}", direction(order.direction))
}
