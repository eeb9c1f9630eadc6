//! Random statements on the table of jobs, each as SQL and as an evaluation in Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use broadside::Timestamp;

use super::table::{Cell, INTEGERS, JobRow, Row, TEXTS, TIMES, Table, Value};

/// The SplitMix64 generator, which is deterministic for a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The operand of a condition.
#[derive(Debug, Clone)]
enum Term {
    Column(&'static str),
    Annotation(String),
}

impl Term {
    fn text(random: &mut Random) -> Self {
        if random.one_in(3) {
            return Self::Annotation(random.pick(&["k", "K", "queue", "", "nowhere"]).to_owned());
        }
        Self::Column(random.pick(&TEXTS))
    }

    fn any(random: &mut Random) -> Self {
        match random.below(5) {
            0 => Self::Column(random.pick(&INTEGERS)),
            1 => Self::Column(random.pick(&TIMES)),
            _ => Self::text(random),
        }
    }

    fn of<'a>(&self, row: &'a JobRow) -> Option<&'a Value> {
        match self {
            Self::Column(name) => row.column(name),
            Self::Annotation(key) => row.annotation(key),
        }
    }

    /// A value for a comparison, mostly one of a row.
    fn value(&self, random: &mut Random, table: &Table) -> Value {
        let found = (0..20).find_map(|_| self.of(&table.rows[random.below(table.rows.len())]).cloned());
        let value = found.unwrap_or_else(|| match self {
            Self::Column(name) if TIMES.contains(name) => Value::Time(0),
            _ => Value::Text("q".to_owned()),
        });
        match value {
            Value::Text(text) if random.one_in(6) => Value::Text(format!("{text}x")),
            Value::Time(micros) if random.one_in(3) => Value::Time(micros + random.below(3) as i64 - 1),
            other => other,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => f.write_str(name),
            Self::Annotation(key) => write!(f, "annotations['{key}']"),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            // The minimum cannot be written as a literal, because its sign would be an operator.
            Self::Integer(i64::MIN) => write!(f, "CAST('{}' AS BIGINT)", i64::MIN),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Time(micros) => {
                let prefix = if micros % 2 == 0 { "TIMESTAMP " } else { "" };
                write!(f, "{prefix}'{}'", Timestamp::from_micros(*micros))
            }
        }
    }
}

const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// A condition with three-valued logic.
#[derive(Debug)]
enum Condition {
    Compare(Term, &'static str, Value),
    In(Term, Vec<Value>, bool),
    Between(Term, Value, Value),
    Like(Term, String, bool),
    StartsWith(Term, String),
    Contains(Term, String),
    IsNull(Term, bool),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Condition {
    fn random(random: &mut Random, table: &Table, depth: usize) -> Self {
        if depth > 0 && random.one_in(2) {
            let mut part = || Box::new(Self::random(random, table, depth - 1));
            let (left, right) = (part(), part());
            return match random.below(5) {
                0 => Self::Not(left),
                1 | 2 => Self::Or(left, right),
                _ => Self::And(left, right),
            };
        }
        match random.below(10) {
            0 => Self::IsNull(Term::any(random), random.one_in(2)),
            1 => {
                let term = Term::any(random);
                let (low, high) = (term.value(random, table), term.value(random, table));
                Self::Between(term, low, high)
            }
            2 | 3 => {
                let term = Term::any(random);
                let most = if random.one_in(4) { 40 } else { 4 };
                let count = 1 + random.below(most);
                let values = (0..count).map(|_| term.value(random, table)).collect();
                Self::In(term, values, random.one_in(4))
            }
            4..=6 => Self::of_text(random, table),
            _ => {
                let term = Term::any(random);
                let value = term.value(random, table);
                Self::Compare(term, random.pick(&COMPARISONS), value)
            }
        }
    }

    fn of_text(random: &mut Random, table: &Table) -> Self {
        let term = Term::text(random);
        let text = term.value(random, table).cell();
        let part = part(random, &text);
        match random.below(4) {
            0 => Self::StartsWith(term, part),
            1 => Self::Contains(term, part),
            _ => {
                let escaped = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
                let pattern = match random.below(6) {
                    0 => format!("%{escaped}%"),
                    1 => format!("%{escaped}"),
                    2 => escaped,
                    3 => format!("_{escaped}%"),
                    // A string whose wildcards are not escaped.
                    4 => format!("{}%", part.replace('\\', "")),
                    _ => format!("{escaped}%"),
                };
                Self::Like(term, pattern, random.one_in(4))
            }
        }
    }

    fn holds(&self, row: &JobRow) -> Option<bool> {
        match self {
            Self::Compare(term, operator, value) => compare(term.of(row)?, operator, value),
            Self::In(term, values, negated) => {
                let found = term.of(row)?;
                Some(values.contains(found) != *negated)
            }
            Self::Between(term, low, high) => {
                let found = term.of(row)?;
                Some(compare(found, ">=", low)? && compare(found, "<=", high)?)
            }
            Self::Like(term, pattern, negated) => Some(like(&term.of(row)?.cell(), pattern) != *negated),
            Self::StartsWith(term, part) => Some(term.of(row)?.cell().starts_with(part)),
            Self::Contains(term, part) => Some(term.of(row)?.cell().contains(part)),
            Self::IsNull(term, negated) => Some(term.of(row).is_none() != *negated),
            Self::Not(condition) => condition.holds(row).map(|holds| !holds),
            Self::And(left, right) => match (left.holds(row), right.holds(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (left, right) => Some(left? && right?),
            },
            Self::Or(left, right) => match (left.holds(row), right.holds(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (left, right) => Some(left? || right?),
            },
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::Compare(term, operator, value) => write!(f, "{term} {operator} {value}"),
            Self::In(term, values, negated) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                write!(f, "{term} {}IN ({})", not(negated), values.join(", "))
            }
            Self::Between(term, low, high) => write!(f, "{term} BETWEEN {low} AND {high}"),
            Self::Like(term, pattern, negated) => write!(f, "{term} {}LIKE {}", not(negated), quoted(pattern)),
            Self::StartsWith(term, part) => write!(f, "starts_with({term}, {})", quoted(part)),
            Self::Contains(term, part) => write!(f, "contains({term}, {})", quoted(part)),
            Self::IsNull(term, negated) => write!(f, "{term} IS {}NULL", not(negated)),
            Self::Not(condition) => write!(f, "NOT ({condition})"),
            Self::And(left, right) => write!(f, "({left}) AND ({right})"),
            Self::Or(left, right) => write!(f, "({left}) OR ({right})"),
        }
    }
}

fn compare(found: &Value, operator: &str, value: &Value) -> Option<bool> {
    Some(match operator {
        "=" => found == value,
        "<>" => found != value,
        "<" => found < value,
        "<=" => found <= value,
        ">" => found > value,
        _ => found >= value,
    })
}

/// Some consecutive characters of a string.
fn part(random: &mut Random, text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let start = if random.one_in(2) { 0 } else { random.below(characters.len() + 1) };
    let length = random.below(characters.len() - start + 1);
    characters[start..start + length].iter().collect()
}

/// Whether a string matches a pattern of LIKE.
fn like(text: &str, pattern: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('%') => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| like(&text[at..], rest.as_str()))
        }
        Some(first) => {
            let (wanted, is_any) = match first {
                '\\' => (rest.next().unwrap_or('\\'), false),
                '_' => ('_', true),
                other => (other, false),
            };
            let mut characters = text.chars();
            characters.next().is_some_and(|found| is_any || found == wanted) && like(characters.as_str(), rest.as_str())
        }
    }
}

/// The projection or aggregation of the rows for which the condition is true.
#[derive(Debug)]
enum Question {
    /// Some columns of all rows.
    Rows(Vec<Term>),
    /// The job ids of a page in a sort order.
    Page { by: Term, descending: bool, nulls_first: bool, limit: usize, offset: usize },
    /// Aggregates of a column, grouped by other columns.
    Groups { by: Vec<Term>, of: Term },
}

/// A statement.
#[derive(Debug)]
pub struct Statement {
    question: Question,
    condition: Option<Condition>,
}

impl Statement {
    pub fn random(random: &mut Random, table: &Table) -> Self {
        let condition = (!random.one_in(5)).then(|| Condition::random(random, table, 2));
        let question = match random.below(3) {
            0 => Question::Rows((0..=random.below(3)).map(|_| Term::any(random)).collect()),
            1 => Question::Page {
                by: Term::any(random),
                descending: random.one_in(2),
                nulls_first: random.one_in(2),
                limit: 1 + random.below(30),
                offset: if random.one_in(3) { random.below(40) } else { 0 },
            },
            _ => Question::Groups {
                by: (0..random.below(3)).map(|_| Term::any(random)).collect(),
                of: Term::any(random),
            },
        };
        Self { question, condition }
    }

    /// Compares a result with the evaluation on the rows.
    pub fn check(&self, table: &Table, answer: &[Row]) -> Result<(), String> {
        let holds = |row: &&JobRow| self.condition.as_ref().is_none_or(|condition| condition.holds(row) == Some(true));
        let rows: Vec<&JobRow> = table.rows.iter().filter(holds).collect();
        match &self.question {
            Question::Rows(terms) => {
                let expected = rows.iter().map(|row| terms.iter().map(|term| cell(term, row)).collect());
                same_rows(expected.collect(), answer.to_vec())
            }
            Question::Page { by, descending, nulls_first, limit, offset } => {
                let key = |row: &&JobRow| (by.of(row).is_none() != *nulls_first, by.of(row).cloned());
                let mut sorted = rows;
                sorted.sort_by(|a, b| {
                    let ((null_a, a), (null_b, b)) = (key(a), key(b));
                    null_a.cmp(&null_b).then(if *descending { b.cmp(&a) } else { a.cmp(&b) })
                });
                check_page(by, &sorted, *limit, *offset, answer)
            }
            Question::Groups { by, of } => {
                let mut groups: BTreeMap<Row, Vec<Option<&Value>>> = BTreeMap::new();
                if by.is_empty() {
                    groups.insert(Vec::new(), Vec::new());
                }
                for row in rows {
                    groups.entry(by.iter().map(|term| cell(term, row)).collect()).or_default().push(of.of(row));
                }
                let expected = groups.into_iter().map(|(name, values)| [name, aggregates(&values)].concat());
                same_rows(expected.collect(), answer.to_vec())
            }
        }
    }
}

fn cell(term: &Term, row: &JobRow) -> Cell {
    term.of(row).map(Value::cell)
}

/// count(*), count, count(DISTINCT), min and max.
fn aggregates(values: &[Option<&Value>]) -> Row {
    let present = || values.iter().copied().flatten();
    let distinct: BTreeSet<_> = present().collect();
    vec![
        Some(values.len().to_string()),
        Some(present().count().to_string()),
        Some(distinct.len().to_string()),
        present().min().map(Value::cell),
        present().max().map(Value::cell),
    ]
}

/// The order of ties is undefined, and ties at the ends of a page may be replaced by others.
fn check_page(by: &Term, sorted: &[&JobRow], limit: usize, offset: usize, answer: &[Row]) -> Result<(), String> {
    let page = sorted.iter().skip(offset).take(limit);
    let expected: Vec<Cell> = page.map(|row| cell(by, row)).collect();
    let got: Vec<Cell> = answer.iter().map(|row| row[1].clone()).collect();
    if expected != got {
        return Err(format!("expected the order {expected:?}\n  got {got:?}"));
    }
    let known: BTreeMap<Cell, Cell> =
        sorted.iter().map(|row| (row.column("job_id").map(Value::cell), cell(by, row))).collect();
    let mut seen = BTreeSet::new();
    for row in answer {
        if known.get(&row[0]) != Some(&row[1]) || !seen.insert(&row[0]) {
            return Err(format!("{row:?} is not selected by the condition, or is repeated"));
        }
    }
    Ok(())
}

fn same_rows(mut expected: Vec<Row>, mut got: Vec<Row>) -> Result<(), String> {
    expected.sort();
    got.sort();
    match expected.iter().zip(&got).find(|(expected, got)| expected != got) {
        Some((expected, got)) => Err(format!("expected {expected:?}\n  got {got:?}")),
        None if expected.len() != got.len() => Err(format!("expected {} rows, got {}", expected.len(), got.len())),
        None => Ok(()),
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |terms: &[Term]| terms.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (columns, end) = match &self.question {
            Question::Rows(terms) => {
                let terms = terms.iter().enumerate().map(|(at, term)| format!("{term} AS c{at}"));
                (terms.collect(), String::new())
            }
            Question::Page { by, descending, nulls_first, limit, offset } => {
                let direction = if *descending { "DESC" } else { "ASC" };
                let nulls = if *nulls_first { "FIRST" } else { "LAST" };
                let end = format!(" ORDER BY {by} {direction} NULLS {nulls} LIMIT {limit} OFFSET {offset}");
                (vec!["job_id".to_owned(), format!("{by} AS key")], end)
            }
            Question::Groups { by, of } => {
                let names = by.iter().enumerate().map(|(at, term)| format!("{term} AS c{at}"));
                let aggregates = ["count(*)".to_owned()].into_iter();
                let aggregates = aggregates
                    .chain(["count(", "count(DISTINCT ", "min(", "max("].map(|function| format!("{function}{of})")));
                let end = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", list(by).join(", ")) };
                (names.chain(aggregates).collect::<Vec<_>>(), end)
            }
        };
        write!(f, "SELECT {} FROM job", columns.join(", "))?;
        if let Some(condition) = &self.condition {
            write!(f, " WHERE {condition}")?;
        }
        f.write_str(&end)
    }
}
