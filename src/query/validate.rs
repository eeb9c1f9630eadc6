//! Validation: the only constructor of queries.

use serde_json::Value;

use super::field::{ANNOTATION_MATCHES, Field, Match, find};
use super::request::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order};
use super::validated::*;
use crate::error::{Error, Operation, Result};
use crate::model::{JobState, StateSet};
use crate::time::Timestamp;

/// The number of characters of a value that an error shows.
const SHOWN_BYTES: usize = 80;

impl TryFrom<GetJobsRequest> for JobQuery {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument` naming the field, match and value of the first bad filter, or the bad
    /// order, skip or take.
    fn try_from(request: GetJobsRequest) -> Result<Self> {
        let validator = Validator(Operation::GetJobs);
        Ok(Self {
            selection: validator.selection(request.filters, request.active_job_sets)?,
            order: validator.job_order(&request.order)?,
            page: validator.page(request.skip, request.take)?,
        })
    }
}

impl TryFrom<GetJobGroupsRequest> for GroupQuery {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument` naming the field, match and value of the first bad filter, or the bad
    /// grouped field, aggregate, order, skip or take.
    fn try_from(request: GetJobGroupsRequest) -> Result<Self> {
        let validator = Validator(Operation::GetJobGroups);
        let selection = validator.selection(request.filters, request.active_job_sets)?;
        let aggregates = validator.aggregates(&request.aggregates, &request.grouped_field, selection.states())?;
        Ok(Self {
            group_by: validator.group_by(&request.grouped_field)?,
            order: validator.group_order(&request.order, &request.grouped_field, aggregates)?,
            page: validator.page(request.skip, request.take)?,
            selection,
            aggregates,
        })
    }
}

/// Validates the arguments of one call, which its errors name.
struct Validator(Operation);

impl Validator {
    fn invalid<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::invalid(self.0, message))
    }

    fn selection(&self, filters: Vec<Filter>, active_job_sets: bool) -> Result<Selection> {
        let mut predicates = Vec::with_capacity(filters.len());
        let mut states: Option<StateSet> = None;
        for (position, filter) in filters.into_iter().enumerate() {
            match predicate(&filter) {
                Ok(Predicate::State(set)) => states = Some(states.unwrap_or(StateSet::ALL).intersection(set)),
                Ok(predicate) => predicates.push(predicate),
                Err(problem) => {
                    return self.invalid(format!(
                        "filter {position} (field {:?}, match {:?}, value {}): {problem}",
                        filter.field,
                        filter.matcher,
                        shown(&filter.value),
                    ));
                }
            }
        }
        predicates.extend(states.map(Predicate::State));
        Ok(Selection { predicates, active_job_sets })
    }

    fn direction(&self, order: &Order) -> Result<Direction> {
        match order.direction.as_str() {
            "ASC" => Ok(Direction::Ascending),
            "DESC" => Ok(Direction::Descending),
            other => self.invalid(format!("order direction {other:?} is neither \"ASC\" nor \"DESC\"")),
        }
    }

    fn job_order(&self, order: &Order) -> Result<Option<JobOrder>> {
        if is_no_order(order) {
            return Ok(None);
        }
        let Some(key) = find(&order.field).and_then(|rule| rule.order) else {
            return self.invalid(format!("jobs cannot be ordered by field {:?}", order.field));
        };
        Ok(Some(JobOrder { key, direction: self.direction(order)? }))
    }

    fn group_order(&self, order: &Order, grouped: &GroupedField, aggregates: Aggregates) -> Result<Option<GroupOrder>> {
        if is_no_order(order) {
            return Ok(None);
        }
        // The words of the aggregates come first: an annotation key that is spelt like one of
        // them cannot be ordered by.
        let key = match order.field.as_str() {
            "count" => GroupOrderKey::Count,
            "submitted" if aggregates.submitted => GroupOrderKey::Submitted,
            "lastTransitionTime" if aggregates.last_transition_time.is_some() => GroupOrderKey::LastTransitionTime,
            word @ ("submitted" | "lastTransitionTime") => {
                return self
                    .invalid(format!("groups cannot be ordered by aggregate {word:?}, which was not requested"));
            }
            field if field == grouped.field => GroupOrderKey::Name,
            field => {
                return self.invalid(format!("groups of {:?} cannot be ordered by field {field:?}", grouped.field));
            }
        };
        Ok(Some(GroupOrder { key, direction: self.direction(order)? }))
    }

    fn page(&self, skip: i64, take: i64) -> Result<Page> {
        let count = |name: &str, value: i64| {
            u64::try_from(value).map_err(|_| Error::invalid(self.0, format!("{name} {value} must not be negative")))
        };
        let take = count("take", take)?;
        Ok(Page { skip: count("skip", skip)?, take: (take > 0).then_some(take) })
    }

    fn group_by(&self, grouped: &GroupedField) -> Result<GroupBy> {
        if grouped.is_annotation {
            return Ok(GroupBy::Annotation(grouped.field.clone()));
        }
        match find(&grouped.field).filter(|rule| rule.groups).map(|rule| rule.field) {
            Some(Field::Text(field)) => Ok(GroupBy::Text(field)),
            Some(Field::State) => Ok(GroupBy::State),
            _ => self.invalid(format!("jobs cannot be grouped by field {:?}", grouped.field)),
        }
    }

    fn aggregates(&self, names: &[String], grouped: &GroupedField, states: StateSet) -> Result<Aggregates> {
        let time_aggregate = match grouped.last_transition_time_aggregate.as_str() {
            "" | "average" => TimeAggregate::Average,
            "earliest" => TimeAggregate::Earliest,
            "latest" => TimeAggregate::Latest,
            other => {
                return self.invalid(format!(
                    "lastTransitionTimeAggregate {other:?} is none of \"average\", \"earliest\" and \"latest\""
                ));
            }
        };
        let mut aggregates = Aggregates::default();
        for name in names {
            match name.as_str() {
                "state" => aggregates.states = Some(states),
                "submitted" => aggregates.submitted = true,
                "lastTransitionTime" => aggregates.last_transition_time = Some(time_aggregate),
                other => return self.invalid(format!("unknown aggregate {other:?}")),
            }
        }
        Ok(aggregates)
    }
}

fn is_no_order(order: &Order) -> bool {
    order.field.is_empty() && order.direction.is_empty()
}

fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        text.push('…');
    }
    text
}

type Parsed<T> = Result<T, String>;

fn predicate(filter: &Filter) -> Parsed<Predicate> {
    let matcher = filter.matcher.parse::<Match>();
    if filter.is_annotation {
        let matcher = supported(matcher.ok(), ANNOTATION_MATCHES, "an annotation")?;
        let test = match matcher {
            Match::Exists => AnnotationTest::Exists,
            _ => AnnotationTest::Value(text_test(matcher, &filter.value)?),
        };
        return Ok(Predicate::Annotation(filter.field.clone(), test));
    }
    let rule = find(&filter.field).ok_or("unknown field")?;
    let matcher = supported(matcher.ok(), rule.field.matches(), "the field")?;
    Ok(match rule.field {
        Field::Text(field) => Predicate::Text(field, text_test(matcher, &filter.value)?),
        Field::State => Predicate::State(state_set(matcher, &filter.value)?),
        Field::Integer(field) => Predicate::Integer(field, integer_test(matcher, &filter.value)?),
        Field::Time(field) => Predicate::Time(field, comparison(matcher)?, time(&filter.value)?),
    })
}

fn supported(matcher: Option<Match>, matches: &[Match], of: &str) -> Parsed<Match> {
    matcher.filter(|matcher| matches.contains(matcher)).ok_or_else(|| {
        let names: Vec<_> = matches.iter().map(|matcher| matcher.name()).collect();
        format!("{of} supports the matches {} only", names.join(", "))
    })
}

fn comparison(matcher: Match) -> Parsed<Comparison> {
    match matcher {
        Match::Exact => Ok(Comparison::Equal),
        Match::GreaterThan => Ok(Comparison::Greater),
        Match::LessThan => Ok(Comparison::Less),
        Match::GreaterThanOrEqualTo => Ok(Comparison::GreaterOrEqual),
        Match::LessThanOrEqualTo => Ok(Comparison::LessOrEqual),
        Match::AnyOf | Match::StartsWith | Match::Contains | Match::Exists => {
            Err(format!("{matcher} is no comparison"))
        }
    }
}

fn text_test(matcher: Match, value: &Value) -> Parsed<TextTest> {
    match matcher {
        Match::Exact => Ok(TextTest::Exact(text(value)?)),
        Match::AnyOf => Ok(TextTest::AnyOf(list(value, "texts", text)?)),
        Match::StartsWith => Ok(TextTest::StartsWith(text(value)?)),
        Match::Contains => Ok(TextTest::Contains(text(value)?)),
        other => Err(format!("{other} is no match of texts")),
    }
}

fn integer_test(matcher: Match, value: &Value) -> Parsed<IntegerTest> {
    match matcher {
        Match::AnyOf => Ok(IntegerTest::AnyOf(list(value, "integers", integer)?)),
        other => Ok(IntegerTest::Compare(comparison(other)?, integer(value)?)),
    }
}

fn state_set(matcher: Match, value: &Value) -> Parsed<StateSet> {
    match matcher {
        Match::AnyOf => Ok(list(value, "state names", state)?.into_iter().collect()),
        _ => Ok(StateSet::EMPTY.with(state(value)?)),
    }
}

fn list<T>(value: &Value, of: &str, item: impl Fn(&Value) -> Parsed<T>) -> Parsed<Vec<T>> {
    let values = value.as_array().ok_or_else(|| format!("the value must be a list of {of}"))?;
    values.iter().map(item).collect()
}

fn text(value: &Value) -> Parsed<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "the value must be a text".to_owned())
}

fn integer(value: &Value) -> Parsed<i64> {
    value.as_i64().ok_or_else(|| "the value must be an integer of 64 bits".to_owned())
}

fn state(value: &Value) -> Parsed<JobState> {
    let name = value.as_str().ok_or("the value must be a state name")?;
    name.parse::<JobState>().map_err(|error| error.to_string())
}

fn time(value: &Value) -> Parsed<Timestamp> {
    let text = value.as_str().ok_or("the value must be an RFC 3339 time")?;
    text.parse::<Timestamp>().map_err(|error| error.to_string())
}
