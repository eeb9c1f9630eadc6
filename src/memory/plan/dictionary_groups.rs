//! The groups of [`DictionaryAggregateExec`](super::dictionary_aggregate::DictionaryAggregateExec): rows are grouped by
//! dictionary codes, and only the distinct keys are hashed.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, UInt32Array, new_null_array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use hashbrown::HashMap;

#[cfg(feature = "sql")]
use super::date_trunc::TruncatedTime;
#[cfg(feature = "sql")]
use super::times::TIME;
use crate::memory::cost::DENSE_MAX_COMBINATIONS;

/// A grouped expression whose values have codes.
#[derive(Debug, Clone)]
pub(super) struct GroupExpr {
    expr: Arc<dyn PhysicalExpr>,
    codes: Codes,
}

#[derive(Debug, Clone)]
enum Codes {
    /// Those of a dictionary column, with the type of its values.
    Dictionary(usize, DataType),
    #[cfg(feature = "sql")]
    Truncated(TruncatedTime),
}

impl GroupExpr {
    /// The expression, if its values have codes. `schema` is the schema of the input.
    pub(super) fn new(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let of_column =
            expr.downcast_ref::<Column>().and_then(|column| match schema.field(column.index()).data_type() {
                DataType::Dictionary(codes, values) if **codes == DataType::UInt32 => {
                    Some(Codes::Dictionary(column.index(), values.as_ref().clone()))
                }
                _ => None,
            });
        #[cfg(feature = "sql")]
        let of_column = of_column.or_else(|| TruncatedTime::new(expr, schema).map(Codes::Truncated));
        Some(Self { expr: Arc::clone(expr), codes: of_column? })
    }

    pub(super) fn expr(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }

    fn values_type(&self) -> DataType {
        match &self.codes {
            Codes::Dictionary(_, values) => values.clone(),
            #[cfg(feature = "sql")]
            Codes::Truncated(_) => TIME,
        }
    }

    /// The values of a batch.
    fn evaluate(&self, batch: &RecordBatch) -> EngineResult<DictionaryArray<UInt32Type>> {
        match &self.codes {
            Codes::Dictionary(column, _) => Ok(batch.column(*column).as_dictionary().clone()),
            #[cfg(feature = "sql")]
            Codes::Truncated(truncated) => truncated.evaluate(batch),
        }
    }
}

/// The group of a combination that has not been looked up.
const UNKNOWN: u32 = u32::MAX;
/// The group of a combination that is being looked up.
const PENDING: u32 = u32::MAX - 1;

/// The group of each combination of codes.
enum Lookup {
    Places(Vec<u32>),
    Hashed(HashMap<usize, u32>),
}

impl Lookup {
    fn new(combinations: usize) -> Self {
        if combinations <= DENSE_MAX_COMBINATIONS {
            Self::Places(vec![UNKNOWN; combinations])
        } else {
            Self::Hashed(HashMap::new())
        }
    }

    /// The distinct combinations without a group. A group must be set for each.
    fn unknown(&mut self, combinations: &[usize]) -> Vec<usize> {
        let mut unknown = Vec::new();
        let mut mark = |combination: usize, group: &mut u32| {
            if *group == UNKNOWN {
                *group = PENDING;
                unknown.push(combination);
            }
        };
        match self {
            Self::Places(places) => combinations.iter().for_each(|&at| mark(at, &mut places[at])),
            Self::Hashed(groups) => combinations.iter().for_each(|&at| mark(at, groups.entry(at).or_insert(UNKNOWN))),
        }
        unknown
    }

    fn set(&mut self, combination: usize, group: usize) {
        match self {
            Self::Places(places) => places[combination] = group as u32,
            Self::Hashed(groups) => {
                groups.insert(combination, group as u32);
            }
        }
    }

    /// The group of each row.
    fn groups(&self, combinations: &[usize], groups: &mut Vec<usize>) {
        groups.clear();
        match self {
            Self::Places(places) => groups.extend(combinations.iter().map(|&at| places[at] as usize)),
            Self::Hashed(known) => {
                groups.extend(combinations.iter().map(|at| known.get(at).map_or(UNKNOWN, |&group| group) as usize));
            }
        }
    }
}

/// The groups of the rows of batches.
pub(super) struct DictionaryGroups {
    exprs: Vec<GroupExpr>,
    /// The dictionaries of the last batch.
    dictionaries: Vec<ArrayRef>,
    /// `None` if the number of combinations of these dictionaries overflows.
    lookup: Option<Lookup>,
    /// The groups of distinct keys, across dictionaries.
    of_values: Box<dyn GroupValues>,
    /// The combination of codes of each row of a batch; kept to reuse its allocation.
    combinations: Vec<usize>,
}

impl DictionaryGroups {
    pub(super) fn new(exprs: &[GroupExpr]) -> EngineResult<Self> {
        let fields: Vec<_> = exprs.iter().map(|expr| Field::new("key", expr.values_type(), true)).collect();
        Ok(Self {
            dictionaries: fields.iter().map(|field| new_null_array(field.data_type(), 0)).collect(),
            lookup: Some(Lookup::new(1)),
            of_values: new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?,
            exprs: exprs.to_vec(),
            combinations: Vec::new(),
        })
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.of_values.len()
    }

    /// Writes the group of each row of a batch to `groups`.
    pub(super) fn of_rows(&mut self, batch: &RecordBatch, groups: &mut Vec<usize>) -> EngineResult<()> {
        let keys = self.exprs.iter().map(|expr| expr.evaluate(batch)).collect::<EngineResult<Vec<_>>>()?;
        if !self.dictionaries.iter().zip(&keys).all(|(dictionary, keys)| is_same(dictionary, keys.values())) {
            self.dictionaries = keys.iter().map(|keys| Arc::clone(keys.values())).collect();
            let count = |count: usize, dictionary: &ArrayRef| count.checked_mul(dictionary.len() + 1);
            self.lookup = self.dictionaries.iter().try_fold(1, count).map(Lookup::new);
        }
        let Self { dictionaries, lookup, of_values, combinations, .. } = self;
        let Some(lookup) = lookup else {
            let values = keys.iter().map(|keys| take(keys.values(), keys.keys(), None));
            return of_values.intern(&values.collect::<Result<Vec<_>, _>>()?, groups);
        };
        combine(&keys, combinations);
        let unknown = lookup.unknown(combinations);
        if !unknown.is_empty() {
            of_values.intern(&values_of(dictionaries, &unknown)?, groups)?;
            unknown.iter().zip(&*groups).for_each(|(&combination, &group)| lookup.set(combination, group));
        }
        lookup.groups(combinations, groups);
        Ok(())
    }

    /// The key columns, a row per group. `schema` begins with their fields.
    pub(super) fn keys(&mut self, schema: &Schema) -> EngineResult<Vec<ArrayRef>> {
        let values = self.of_values.emit(EmitTo::All)?;
        values.into_iter().zip(schema.fields()).map(|(values, field)| with_type(values, field.data_type())).collect()
    }
}

/// Combines the codes of each row into one number. A null has the code after the last one.
fn combine(keys: &[DictionaryArray<UInt32Type>], combinations: &mut Vec<usize>) {
    combinations.clear();
    for (at, keys) in keys.iter().enumerate() {
        let none = keys.values().len();
        let codes = keys.keys();
        let code = |code: Option<u32>| code.map_or(none, |code| code as usize);
        if at == 0 {
            match codes.nulls() {
                None => combinations.extend(codes.values().iter().map(|&code| code as usize)),
                Some(_) => combinations.extend(codes.iter().map(code)),
            }
            continue;
        }
        let rows = combinations.iter_mut();
        match codes.nulls() {
            None => rows.zip(codes.values()).for_each(|(row, &code)| *row = *row * (none + 1) + code as usize),
            Some(_) => rows.zip(codes).for_each(|(row, of_row)| *row = *row * (none + 1) + code(of_row)),
        }
    }
}

/// The values of combinations, a column per dictionary.
fn values_of(dictionaries: &[ArrayRef], combinations: &[usize]) -> EngineResult<Vec<ArrayRef>> {
    let mut scale = 1;
    let mut values = Vec::with_capacity(dictionaries.len());
    for dictionary in dictionaries.iter().rev() {
        let none = dictionary.len();
        let code = |&combination: &usize| {
            let code = combination / scale % (none + 1);
            (code < none).then_some(code as u32)
        };
        let codes: UInt32Array = combinations.iter().map(code).collect();
        values.push(take(dictionary, &codes, None)?);
        scale *= none + 1;
    }
    values.reverse();
    Ok(values)
}

/// Whether two arrays share their buffers. An operator that rebuilds columns may have cloned one of them.
fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    Arc::ptr_eq(a, b) || (a.len() == b.len() && a.to_data().ptr_eq(&b.to_data()))
}

/// Converts distinct values to a dictionary array if the column has this type.
fn with_type(values: ArrayRef, data_type: &DataType) -> EngineResult<ArrayRef> {
    if !matches!(data_type, DataType::Dictionary(..)) {
        return Ok(values);
    }
    let codes = UInt32Array::from_iter((0..values.len()).map(|at| values.is_valid(at).then_some(at as u32)));
    Ok(Arc::new(DictionaryArray::try_new(codes, values)?))
}
