//! Filter pushdown to the scan of jobs.
//!
//! A condition is converted to the equivalent predicate of the API. A condition without an equivalent is evaluated by
//! DataFusion.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};

use crate::model::JobState;
use crate::query::{Annotation, Comparison, IntegerField, Predicate, StateField, TextField, TimeField};
use crate::time::Timestamp;

/// The predicate that is equivalent to a condition, if there is one.
pub(super) fn predicate(condition: &Expr) -> Option<Predicate> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let (column, values) = one_of(condition)?;
            column.any_of(values)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => binary(left, *op, right),
        Expr::InList(InList { expr, list, negated: false }) => {
            column(expr)?.any_of(list.iter().map(literal).collect::<Option<_>>()?)
        }
        Expr::Like(like) => prefix_or_substring(like),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let [text, part] = args.as_slice() else { return None };
            let (column, part) = (column(text)?, literal(part)?.text()?);
            match func.name() {
                "starts_with" => column.starts_with(&part),
                "contains" => column.contains(&part),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A disjunction of equalities on one column: DataFusion converts a short IN list to it.
fn one_of(condition: &Expr) -> Option<(Column, Vec<Literal>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((left, mut values), (right, more)) = (one_of(left)?, one_of(right)?);
            values.extend(more);
            (left == right).then_some((left, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((column(left)?, vec![literal(right)?])),
        _ => None,
    }
}

/// A column of the table `job`, or an annotation, by type.
#[derive(PartialEq, Eq)]
enum Column {
    Text(TextField),
    State,
    Integer(IntegerField),
    Time(TimeField),
    Annotation(String),
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        let text = TextField::ALL.into_iter().find(|field| field.column() == name).map(Self::Text);
        let integer = || IntegerField::ALL.into_iter().find(|field| field.column() == name).map(Self::Integer);
        let time = || TimeField::ALL.into_iter().find(|field| field.column() == name).map(Self::Time);
        text.or_else(integer).or_else(time).or_else(|| (name == "state").then_some(Self::State))
    }

    fn compare(self, comparison: Comparison, value: Literal) -> Option<Predicate> {
        match (self, value) {
            (Self::Integer(field), Literal::Integer(value)) => Some(field.compare(comparison, value)),
            (Self::Time(field), Literal::Time(value)) => Some(field.compare(comparison, value)),
            (column, value) if comparison == Comparison::Equal => column.equals(value),
            _ => None,
        }
    }

    fn equals(self, value: Literal) -> Option<Predicate> {
        match self {
            Self::Text(field) => Some(field.equals(value.text()?)),
            Self::Annotation(key) => Some(Annotation(key).equals(value.text()?)),
            column => column.any_of(vec![value]),
        }
    }

    fn any_of(self, values: Vec<Literal>) -> Option<Predicate> {
        let texts = |values: Vec<Literal>| values.into_iter().map(Literal::text).collect::<Option<Vec<_>>>();
        match self {
            Self::Text(field) => Some(field.any_of(texts(values)?)),
            Self::Annotation(key) => Some(Annotation(key).any_of(texts(values)?)),
            Self::Integer(field) => {
                Some(field.any_of(values.into_iter().map(Literal::integer).collect::<Option<Vec<_>>>()?))
            }
            Self::State => {
                let states = texts(values)?.into_iter().map(|name| name.parse::<JobState>().ok());
                Some(StateField.any_of(states.collect::<Option<Vec<_>>>()?))
            }
            Self::Time(_) => None,
        }
    }

    fn starts_with(self, prefix: &str) -> Option<Predicate> {
        match self {
            Self::Text(field) => Some(field.starts_with(prefix)),
            Self::Annotation(key) => Some(Annotation(key).starts_with(prefix)),
            _ => None,
        }
    }

    fn contains(self, part: &str) -> Option<Predicate> {
        match self {
            Self::Text(field) => Some(field.contains(part)),
            Self::Annotation(key) => Some(Annotation(key).contains(part)),
            _ => None,
        }
    }
}

fn column(expr: &Expr) -> Option<Column> {
    match expr {
        // DataFusion compares a dictionary column by its values.
        Expr::Cast(cast) if is_text(cast.field.data_type()) => {
            column(&cast.expr).filter(|column| !matches!(column, Column::Integer(_) | Column::Time(_)))
        }
        Expr::Column(column) => Column::named(&column.name),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "get_field" => match args.as_slice() {
            [Expr::Column(column), key] if column.name == "annotations" => {
                Some(Column::Annotation(literal(key)?.text()?))
            }
            _ => None,
        },
        _ => None,
    }
}

fn binary(left: &Expr, operator: Operator, right: &Expr) -> Option<Predicate> {
    let (column, operator, value) = match (column(left), column(right)) {
        (Some(column), None) => (column, operator, literal(right)?),
        (None, Some(column)) => (column, operator.swap()?, literal(left)?),
        _ => return None,
    };
    let comparison = match operator {
        Operator::Eq => Comparison::Equal,
        Operator::Gt => Comparison::Greater,
        Operator::Lt => Comparison::Less,
        Operator::GtEq => Comparison::GreaterOrEqual,
        Operator::LtEq => Comparison::LessOrEqual,
        _ => return None,
    };
    column.compare(comparison, value)
}

/// `LIKE 'text%'` and `LIKE '%text%'`, where the text contains no wildcard and no escape character.
fn prefix_or_substring(like: &Like) -> Option<Predicate> {
    let Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false } = like else { return None };
    let pattern = literal(pattern)?.text()?;
    let start = pattern.strip_suffix('%')?;
    let (part, text) = match start.strip_prefix('%') {
        Some(part) => (true, part),
        None => (false, start),
    };
    if text.contains(['%', '_', '\\']) {
        return None;
    }
    let column = column(expr)?;
    if part { column.contains(text) } else { column.starts_with(text) }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A literal of a type that predicates compare with.
enum Literal {
    Text(String),
    Integer(i64),
    Time(Timestamp),
}

impl Literal {
    fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn integer(self) -> Option<i64> {
        if let Self::Integer(integer) = self { Some(integer) } else { None }
    }
}

fn literal(expr: &Expr) -> Option<Literal> {
    let Expr::Literal(value, _) = expr else { return None };
    scalar(value)
}

fn scalar(value: &ScalarValue) -> Option<Literal> {
    match value {
        ScalarValue::Dictionary(_, value) => scalar(value),
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.clone().map(Literal::Text)
        }
        ScalarValue::Int64(value) => value.map(Literal::Integer),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(Literal::Time(Timestamp::from_micros(*micros))),
        _ => None,
    }
}
