//! SQL conditions that the scan of jobs answers by itself.
//!
//! A condition becomes the same filter that a call of the API would send, and goes through the
//! same validation; what has no such filter stays with DataFusion.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use serde_json::Value;

use crate::query::{Filter, GetJobsRequest, JobQuery, Match};
use crate::time::Timestamp;

/// The filter that says exactly what a condition does, if there is one.
pub(super) fn filter(condition: &Expr) -> Option<Filter> {
    let filter = match condition {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let (subject, values) = one_of(condition)?;
            subject.filter(Match::AnyOf, Value::from(values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => binary(left, *op, right)?,
        Expr::InList(InList { expr, list, negated: false }) => {
            let values: Option<Vec<Value>> = list.iter().map(literal).collect();
            subject(expr)?.filter(Match::AnyOf, Value::from(values?))
        }
        Expr::Like(like) => prefix_or_part(like)?,
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let [text, part] = args.as_slice() else { return None };
            let matcher = match func.name() {
                "starts_with" => Match::StartsWith,
                "contains" => Match::Contains,
                _ => return None,
            };
            subject(text)?.filter(matcher, literal(part)?)
        }
        _ => return None,
    };
    // What validation refuses (a state of another name, say) has no filter.
    let request = GetJobsRequest { filters: vec![filter.clone()], ..GetJobsRequest::default() };
    JobQuery::try_from(request).ok().map(|_| filter)
}

/// Equalities of one subject joined by OR, which is what DataFusion makes of a short IN.
fn one_of(condition: &Expr) -> Option<(Subject, Vec<Value>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((left, mut values), (right, more)) = (one_of(left)?, one_of(right)?);
            values.extend(more);
            (left == right).then_some((left, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((subject(left)?, vec![literal(right)?])),
        _ => None,
    }
}

/// What a condition is about: a column, or an annotation.
#[derive(PartialEq, Eq)]
struct Subject {
    field: String,
    is_annotation: bool,
}

impl Subject {
    fn filter(self, matcher: Match, value: Value) -> Filter {
        Filter { is_annotation: self.is_annotation, ..Filter::new(self.field, matcher, value) }
    }
}

fn subject(expr: &Expr) -> Option<Subject> {
    match expr {
        // DataFusion compares a dictionary as the texts that it has.
        Expr::Cast(cast) if is_text(cast.field.data_type()) => {
            subject(&cast.expr).filter(|subject| subject.is_annotation || has_texts(&subject.field))
        }
        Expr::Column(column) => {
            let field = match column.name.as_str() {
                "job_id" => "jobId",
                "job_set" => "jobSet",
                "priority_class" => "priorityClass",
                "ephemeral_storage" => "ephemeralStorage",
                "last_transition_time" => "lastTransitionTime",
                name => name,
            };
            Some(Subject { field: field.to_owned(), is_annotation: false })
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "get_field" => match args.as_slice() {
            [Expr::Column(column), key] if column.name == "annotations" => {
                Some(Subject { field: literal(key)?.as_str()?.to_owned(), is_annotation: true })
            }
            _ => None,
        },
        _ => None,
    }
}

fn binary(left: &Expr, operator: Operator, right: &Expr) -> Option<Filter> {
    let (subject, operator, value) = match (subject(left), subject(right)) {
        (Some(subject), None) => (subject, operator, literal(right)?),
        (None, Some(subject)) => (subject, operator.swap()?, literal(left)?),
        _ => return None,
    };
    let matcher = match operator {
        Operator::Eq => Match::Exact,
        Operator::Gt => Match::GreaterThan,
        Operator::Lt => Match::LessThan,
        Operator::GtEq => Match::GreaterThanOrEqualTo,
        Operator::LtEq => Match::LessThanOrEqualTo,
        _ => return None,
    };
    Some(subject.filter(matcher, value))
}

/// `LIKE 'text%'` and `LIKE '%text%'`, where the text has no wildcard and nothing to escape.
fn prefix_or_part(like: &Like) -> Option<Filter> {
    let Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false } = like else { return None };
    let pattern = literal(pattern)?;
    let start = pattern.as_str()?.strip_suffix('%')?;
    let (matcher, text) = match start.strip_prefix('%') {
        Some(part) => (Match::Contains, part),
        None => (Match::StartsWith, start),
    };
    if text.contains(['%', '_', '\\']) {
        return None;
    }
    Some(subject(expr)?.filter(matcher, Value::from(text)))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Whether a field of jobs is a text as it is, and not only when it is cast to one.
fn has_texts(field: &str) -> bool {
    !matches!(field, "cpu" | "memory" | "ephemeralStorage" | "gpu" | "priority" | "submitted" | "lastTransitionTime")
}

/// A literal as a filter's value.
fn literal(expr: &Expr) -> Option<Value> {
    let Expr::Literal(value, _) = expr else { return None };
    scalar(value)
}

fn scalar(value: &ScalarValue) -> Option<Value> {
    match value {
        ScalarValue::Dictionary(_, value) => scalar(value),
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_deref().map(Value::from)
        }
        ScalarValue::Int64(value) => value.map(Value::from),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(Timestamp::from_micros(*micros).into()),
        _ => None,
    }
}
