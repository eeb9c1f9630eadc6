//! Queries of the workload as SQL.

use broadside::model::{JobState, StateSet};
use broadside::query::{
    Aggregates, AnnotationTest, Comparison, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, IntegerTest, JobOrderKey,
    JobQuery, Page, Predicate, Selection, TextField, TextTest, TimeAggregate,
};
use broadside::workload::Record;

use crate::cell::Cell;

/// The differences in SQL and in access paths between the engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    DuckDb,
}

/// SQL and its parameters, in the order of the placeholders.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub sql: String,
    pub parameters: Vec<Cell>,
}

impl Statement {
    fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: Vec::new() }
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Appends a placeholder for a value.
    fn bind(&mut self, value: impl Into<Cell>) {
        self.sql.push('?');
        self.parameters.push(value.into());
    }

    /// Appends placeholders for a list of values, in parentheses.
    fn bind_list<T: Into<Cell>>(&mut self, values: impl IntoIterator<Item = T>) {
        self.sql.push('(');
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " });
            self.bind(value);
        }
        self.sql.push(')');
    }
}

const JOB_COLUMNS: &str = "j.job_id, j.queue, j.owner, j.namespace, j.job_set, j.cpu, j.memory, j.ephemeral_storage, j.gpu, \
    j.priority, j.priority_class, j.submitted, j.cancelled, j.state, j.last_transition_time, j.latest_run_id, \
    j.annotations, j.cancel_reason, j.cancel_user";
const LATEST_RUN: &str = "job_run AS r ON r.run_id = j.latest_run_id AND r.job_id = j.job_id";

/// The page of jobs that a query selects.
pub(super) fn jobs(query: &JobQuery, dialect: Dialect) -> Statement {
    let mut statement = Statement::new(format!("SELECT {JOB_COLUMNS} FROM "));
    let source = Source::new(query.selection(), dialect);
    source.write(&mut statement);
    if let Some(order) = query.order() {
        let column = match order.key {
            JobOrderKey::JobId => source.job_id(),
            JobOrderKey::Queue => "j.queue",
            JobOrderKey::JobSet => "j.job_set",
            JobOrderKey::State => "j.state",
            JobOrderKey::Submitted => "j.submitted",
            JobOrderKey::LastTransitionTime => "j.last_transition_time_seconds",
        };
        statement.push(&format!(" ORDER BY {column} {}", order.direction));
    }
    limit(&mut statement, query.page());
    statement
}

/// The runs of jobs.
pub(super) fn runs<'a>(job_ids: impl Iterator<Item = &'a str>) -> Statement {
    let mut statement = Statement::new(
        "SELECT job_id, run_id, cluster, node, pool, leased, pending, started, finished, state, exit_code \
         FROM job_run WHERE job_id IN ",
    );
    statement.bind_list(job_ids);
    statement
}

/// A single record.
pub(super) fn record(record: Record, id: &str) -> Statement {
    let mut statement = Statement::new(match record {
        Record::Spec => "SELECT spec FROM job_spec WHERE job_id = ",
        Record::Error => "SELECT error FROM job_error WHERE job_id = ",
        Record::RunError => "SELECT error FROM job_run WHERE run_id = ",
        Record::RunDebugMessage => "SELECT debug FROM job_run WHERE run_id = ",
    });
    statement.bind(id);
    statement
}

/// The page of groups that a query selects.
pub(super) fn groups(query: &GroupQuery, dialect: Dialect) -> Statement {
    let name = match query.group_by() {
        GroupBy::Text(field) => format!("coalesce({}, '')", text_column(*field)),
        GroupBy::State => "j.state".to_owned(),
        GroupBy::Annotation(_) => "g.value".to_owned(),
    };
    let mut statement = Statement::new(format!("SELECT {name} AS name, count(*) AS jobs"));
    let aggregates = query.aggregates();
    for state in aggregates.states().into_iter().flat_map(StateSet::iter) {
        statement.push(&format!(", count(*) FILTER (WHERE j.state = {})", state.ordinal()));
    }
    if aggregates.submitted() {
        statement.push(", min(j.submitted)");
    }
    if let Some(aggregate) = aggregates.last_transition_time() {
        statement.push(&format!(", {}", last_transition(aggregate)));
    }
    statement.push(" FROM ");
    write_groups_source(&mut statement, query, dialect);
    statement.push(" GROUP BY 1");
    if let Some(order) = query.order() {
        statement.push(&format!(" ORDER BY {} {}, 1", group_order(order, aggregates), order.direction));
    }
    limit(&mut statement, query.page());
    statement
}

/// The aggregate as an expression. The average is fetched as a sum, which is divided exactly in Rust.
fn last_transition(aggregate: TimeAggregate) -> &'static str {
    match aggregate {
        TimeAggregate::Average => "CAST(sum(j.last_transition_time_seconds) AS BIGINT)",
        TimeAggregate::Earliest => "min(j.last_transition_time_seconds)",
        TimeAggregate::Latest => "max(j.last_transition_time_seconds)",
    }
}

fn group_order(order: GroupOrder, aggregates: Aggregates) -> &'static str {
    match order.key {
        GroupOrderKey::Count => "2",
        GroupOrderKey::Name => "1",
        GroupOrderKey::Submitted => "min(j.submitted)",
        GroupOrderKey::LastTransitionTime => match aggregates.last_transition_time() {
            Some(TimeAggregate::Earliest) => "min(j.last_transition_time_seconds)",
            Some(TimeAggregate::Latest) => "max(j.last_transition_time_seconds)",
            _ => "avg(j.last_transition_time_seconds)",
        },
    }
}

/// The tables and conditions of groups.
fn write_groups_source(statement: &mut Statement, query: &GroupQuery, dialect: Dialect) {
    let selection = query.selection();
    match query.group_by() {
        GroupBy::Annotation(key) => {
            statement.push("annotation AS g");
            // Without a predicate or aggregate on jobs, the annotation table suffices.
            let whole = selection.predicates().is_empty() && !selection.active_job_sets();
            if !whole || query.aggregates() != Aggregates::default() {
                statement.push(" JOIN job AS j ON j.job_id = g.job_id");
            }
            if selection.uses_latest_run() {
                statement.push(&format!(" JOIN {LATEST_RUN}"));
            }
            statement.push(" WHERE g.key = ");
            statement.bind(key);
            write_conditions(statement, selection, None, " AND ");
        }
        by if by.uses_latest_run() && !selection.uses_latest_run() => {
            statement.push(&format!("job AS j LEFT JOIN {LATEST_RUN}"));
            write_conditions(statement, selection, None, " WHERE ");
        }
        _ => Source::new(selection, dialect).write(statement),
    }
}

/// The tables of a query of jobs.
struct Source<'a> {
    selection: &'a Selection,
    /// The annotation whose rows drive the join, in the order of job ids. If there are several, the last one, because
    /// later annotations of the workload have more distinct values.
    driver: Option<(&'a String, &'a String)>,
}

impl<'a> Source<'a> {
    fn new(selection: &'a Selection, dialect: Dialect) -> Self {
        let driver = selection.predicates().iter().rev().find_map(exact_annotation);
        // A column store uses hash joins and needs no driving table.
        Self { selection, driver: driver.filter(|_| dialect == Dialect::Sqlite && !selection.uses_latest_run()) }
    }

    /// The column of the job id that is ordered by an index.
    fn job_id(&self) -> &'static str {
        match self.driver {
            Some(_) => "a.job_id",
            None if self.selection.uses_latest_run() => "r.job_id",
            None => "j.job_id",
        }
    }

    /// Writes the tables and the conditions.
    fn write(&self, statement: &mut Statement) {
        let mut and = " WHERE ";
        if let Some((key, value)) = self.driver {
            // CROSS JOIN keeps SQLite from reordering the tables.
            statement.push("annotation AS a CROSS JOIN job AS j ON j.job_id = a.job_id WHERE a.key = ");
            statement.bind(key);
            statement.push(" AND a.value = ");
            statement.bind(value);
            and = " AND ";
        } else if self.selection.uses_latest_run() {
            statement.push(&format!("job AS j JOIN {LATEST_RUN}"));
        } else {
            statement.push("job AS j");
        }
        write_conditions(statement, self.selection, self.driver, and);
    }
}

fn exact_annotation(predicate: &Predicate) -> Option<(&String, &String)> {
    match predicate {
        Predicate::Annotation(key, AnnotationTest::Value(TextTest::Exact(value))) => Some((key, value)),
        _ => None,
    }
}

/// Writes the conditions, except for that on the driving annotation; `and` precedes the first.
fn write_conditions(
    statement: &mut Statement,
    selection: &Selection,
    driver: Option<(&String, &String)>,
    mut and: &'static str,
) {
    for predicate in selection.predicates() {
        if driver.is_none() || exact_annotation(predicate) != driver {
            statement.push(and);
            write_predicate(statement, predicate);
            and = " AND ";
        }
    }
    if selection.active_job_sets() {
        statement.push(and);
        statement
            .push("EXISTS (SELECT 1 FROM job AS x WHERE x.queue = j.queue AND x.job_set = j.job_set AND x.state IN (");
        statement.push(&StateSet::ACTIVE.ordinals());
        statement.push("))");
    }
}

fn write_predicate(statement: &mut Statement, predicate: &Predicate) {
    match predicate {
        Predicate::Text(field, test) => write_text_test(statement, &text_column(*field), test),
        Predicate::State(states) => {
            statement.push("j.state IN ");
            statement.bind_list(states.iter().map(|state: JobState| i64::from(state.ordinal())));
        }
        Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
            statement.push(&format!("j.{}", field.column()));
            statement.push(" IN ");
            statement.bind_list(values.iter().copied());
        }
        Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
            // The plus keeps SQLite from using the index for the range, which would require a sort of half a queue;
            // reading the queue in order and filtering is faster.
            statement.push(if *comparison == Comparison::Equal { "" } else { "+" });
            statement.push(&format!("j.{}", field.column()));
            statement.push(&format!(" {comparison} "));
            statement.bind(*value);
        }
        Predicate::Time(field, comparison, time) => {
            statement.push(&format!("j.{} {} ", field.column(), comparison));
            statement.bind(*time);
        }
        Predicate::Annotation(key, test) => {
            statement.push("j.job_id IN (SELECT n.job_id FROM annotation AS n WHERE n.key = ");
            statement.bind(key);
            if let AnnotationTest::Value(test) = test {
                statement.push(" AND ");
                write_text_test(statement, "n.value", test);
            }
            statement.push(")");
        }
        later => unreachable!("{later:?} of a later version"),
    }
}

fn write_text_test(statement: &mut Statement, column: &str, test: &TextTest) {
    match test {
        TextTest::Exact(text) => {
            statement.push(&format!("{column} = "));
            statement.bind(text);
        }
        TextTest::AnyOf(texts) => {
            statement.push(&format!("{column} IN "));
            statement.bind_list(texts);
        }
        TextTest::StartsWith(prefix) => {
            // A range, for which an index or a zone map can be used.
            statement.push(&format!("{column} >= "));
            statement.bind(prefix);
            statement.push(&format!(" AND {column} < "));
            statement.bind(&format!("{prefix}{}", char::MAX));
        }
        TextTest::Contains(part) => {
            statement.push(&format!("instr({column}, "));
            statement.bind(part);
            statement.push(") > 0");
        }
    }
}

/// The column of a text field.
fn text_column(field: TextField) -> String {
    let table = if field.is_of_latest_run() { "r" } else { "j" };
    format!("{table}.{}", field.column())
}

fn limit(statement: &mut Statement, page: Page) {
    // Both engines accept a limit beyond the number of rows.
    let most = page.limit().unwrap_or(i64::MAX as u64);
    if page.limit().is_some() || page.offset() > 0 {
        statement.push(&format!(" LIMIT {most} OFFSET {}", page.offset()));
    }
}
