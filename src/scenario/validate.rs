//! Validation of requests in JSON and their conversion to queries.

use serde_json::Value;

use super::matcher::Match;
use super::request::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order};
use crate::error::{Error, Operation, Result};
use crate::model::JobState;
use crate::query::{
    Annotation, Comparison, Direction, GroupField, GroupOrderKey, GroupQuery, IntegerField, JobOrderKey, JobQuery,
    Predicate, StateField, TextField, TimeAggregate, TimeField,
};
use crate::time::Timestamp;

/// The maximum number of bytes of a value in an error message.
const SHOWN_BYTES: usize = 80;

impl TryFrom<GetJobsRequest> for JobQuery {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument`, naming the field, match operator and value of the first invalid filter, or the invalid order,
    /// skip or take.
    fn try_from(request: GetJobsRequest) -> Result<Self> {
        let validator = Validator(Operation::GetJobs);
        let mut query = Self::new().filters(validator.predicates(&request.filters)?);
        if request.active_job_sets {
            query = query.in_active_job_sets();
        }
        if let Some((key, direction)) = validator.job_order(&request.order)? {
            query = query.order_by(key, direction);
        }
        let (offset, limit) = validator.page(request.skip, request.take)?;
        Ok(query.offset(offset).limit(limit))
    }
}

impl TryFrom<GetJobGroupsRequest> for GroupQuery {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument`, naming the field, match operator and value of the first invalid filter, or the invalid
    /// grouped field, aggregate, order, skip or take.
    fn try_from(request: GetJobGroupsRequest) -> Result<Self> {
        let validator = Validator(Operation::GetJobGroups);
        let predicates = validator.predicates(&request.filters)?;
        let aggregates = validator.aggregates(&request.aggregates, &request.grouped_field)?;
        let mut query = validator.group_by(&request.grouped_field)?.filters(predicates);
        if request.active_job_sets {
            query = query.in_active_job_sets();
        }
        if aggregates.states {
            query = query.count_states();
        }
        if aggregates.submitted {
            query = query.submitted();
        }
        if let Some(aggregate) = aggregates.last_transition_time {
            query = query.last_transition_time(aggregate);
        }
        if let Some((key, direction)) = validator.group_order(&request.order, &request.grouped_field, &aggregates)? {
            query = query.order_by(key, direction);
        }
        let (offset, limit) = validator.page(request.skip, request.take)?;
        Ok(query.offset(offset).limit(limit))
    }
}

/// The aggregates that a request names.
#[derive(Default)]
struct Requested {
    states: bool,
    submitted: bool,
    last_transition_time: Option<TimeAggregate>,
}

/// Validates the arguments of a call. Errors name the call.
struct Validator(Operation);

impl Validator {
    fn invalid<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::invalid(self.0, message))
    }

    fn predicates(&self, filters: &[Filter]) -> Result<Vec<Predicate>> {
        let checked = filters.iter().enumerate().map(|(position, filter)| {
            predicate(filter).or_else(|problem| {
                self.invalid(format!(
                    "filter {position} (field {:?}, match {:?}, value {}): {problem}",
                    filter.field,
                    filter.matcher,
                    shown(&filter.value),
                ))
            })
        });
        checked.collect()
    }

    fn direction(&self, order: &Order) -> Result<Direction> {
        match order.direction.as_str() {
            "ASC" => Ok(Direction::Ascending),
            "DESC" => Ok(Direction::Descending),
            other => self.invalid(format!("order direction {other:?} is neither \"ASC\" nor \"DESC\"")),
        }
    }

    fn job_order(&self, order: &Order) -> Result<Option<(JobOrderKey, Direction)>> {
        if is_no_order(order) {
            return Ok(None);
        }
        let Some(key) = JobOrderKey::ALL.into_iter().find(|key| key.name() == order.field) else {
            return self.invalid(format!("jobs cannot be ordered by field {:?}", order.field));
        };
        Ok(Some((key, self.direction(order)?)))
    }

    fn group_order(
        &self,
        order: &Order,
        grouped: &GroupedField,
        aggregates: &Requested,
    ) -> Result<Option<(GroupOrderKey, Direction)>> {
        if is_no_order(order) {
            return Ok(None);
        }
        // The names of the aggregates take precedence: groups cannot be ordered by an annotation with the name of an
        // aggregate.
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
        Ok(Some((key, self.direction(order)?)))
    }

    /// Offset and limit.
    fn page(&self, skip: i64, take: i64) -> Result<(u64, u64)> {
        let count = |name: &str, value: i64| {
            u64::try_from(value).map_err(|_| Error::invalid(self.0, format!("{name} {value} must not be negative")))
        };
        let limit = count("take", take)?;
        Ok((count("skip", skip)?, limit))
    }

    fn group_by(&self, grouped: &GroupedField) -> Result<GroupQuery> {
        if grouped.is_annotation {
            return Ok(GroupQuery::by_annotation(&grouped.field));
        }
        match GroupField::ALL.into_iter().find(|field| field.name() == grouped.field) {
            Some(field) => Ok(GroupQuery::by(field)),
            None => self.invalid(format!("jobs cannot be grouped by field {:?}", grouped.field)),
        }
    }

    fn aggregates(&self, names: &[String], grouped: &GroupedField) -> Result<Requested> {
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
        let mut aggregates = Requested::default();
        for name in names {
            match name.as_str() {
                "state" => aggregates.states = true,
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

/// A field of filters, by type.
enum Field {
    Text(TextField),
    State,
    Integer(IntegerField),
    Time(TimeField),
}

impl Field {
    fn find(name: &str) -> Option<Self> {
        let text = TextField::ALL.into_iter().find(|field| field.name() == name).map(Self::Text);
        let integer = || IntegerField::ALL.into_iter().find(|field| field.name() == name).map(Self::Integer);
        let time = || TimeField::ALL.into_iter().find(|field| field.name() == name).map(Self::Time);
        text.or_else(|| (name == "state").then_some(Self::State)).or_else(integer).or_else(time)
    }

    /// The match operators of the field.
    const fn matches(&self) -> &'static [Match] {
        match self {
            Self::Text(_) => &[Match::Exact, Match::AnyOf, Match::StartsWith, Match::Contains],
            Self::State => &[Match::Exact, Match::AnyOf],
            Self::Integer(_) => &[
                Match::Exact,
                Match::AnyOf,
                Match::GreaterThan,
                Match::LessThan,
                Match::GreaterThanOrEqualTo,
                Match::LessThanOrEqualTo,
            ],
            Self::Time(_) => &[
                Match::Exact,
                Match::GreaterThan,
                Match::LessThan,
                Match::GreaterThanOrEqualTo,
                Match::LessThanOrEqualTo,
            ],
        }
    }
}

/// The match operators of annotations.
const ANNOTATION_MATCHES: &[Match] = &[Match::Exact, Match::AnyOf, Match::StartsWith, Match::Contains, Match::Exists];

fn predicate(filter: &Filter) -> Parsed<Predicate> {
    let Filter { field, matcher, value, is_annotation } = filter;
    if *is_annotation {
        return annotation_predicate(field, supported(matcher, ANNOTATION_MATCHES, "an annotation")?, value);
    }
    let field = Field::find(field).ok_or("unknown field")?;
    let matcher = supported(matcher, field.matches(), "the field")?;
    match field {
        Field::Text(field) => text_predicate(field, matcher, value),
        Field::State if matcher == Match::AnyOf => Ok(StateField.any_of(list(value, "state names", state)?)),
        Field::State => Ok(StateField.equals(state(value)?)),
        Field::Integer(field) if matcher == Match::AnyOf => Ok(field.any_of(list(value, "integers", integer)?)),
        Field::Integer(field) => Ok(field.compare(comparison(matcher)?, integer(value)?)),
        Field::Time(field) => Ok(field.compare(comparison(matcher)?, time(value)?)),
    }
}

fn annotation_predicate(key: &str, matcher: Match, value: &Value) -> Parsed<Predicate> {
    match matcher {
        Match::Exists => Ok(Annotation(key).exists()),
        Match::Exact => Ok(Annotation(key).equals(text(value)?)),
        Match::AnyOf => Ok(Annotation(key).any_of(list(value, "texts", text)?)),
        Match::StartsWith => Ok(Annotation(key).starts_with(text(value)?)),
        Match::Contains => Ok(Annotation(key).contains(text(value)?)),
        other => Err(format!("{other} is not a match of texts")),
    }
}

fn text_predicate(field: TextField, matcher: Match, value: &Value) -> Parsed<Predicate> {
    match matcher {
        Match::Exact => Ok(field.equals(text(value)?)),
        Match::AnyOf => Ok(field.any_of(list(value, "texts", text)?)),
        Match::StartsWith => Ok(field.starts_with(text(value)?)),
        Match::Contains => Ok(field.contains(text(value)?)),
        other => Err(format!("{other} is not a match of texts")),
    }
}

fn supported(name: &str, matches: &[Match], of: &str) -> Parsed<Match> {
    let matcher = name.parse().ok().filter(|matcher| matches.contains(matcher));
    matcher.ok_or_else(|| {
        let names: Vec<_> = matches.iter().map(|matcher| matcher.name()).collect();
        format!("{of} supports the matches {} only", names.join(", "))
    })
}

fn comparison(matcher: Match) -> Parsed<Comparison> {
    matcher.comparison().ok_or_else(|| format!("{matcher} is not a comparison"))
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
