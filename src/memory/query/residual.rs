//! The residual predicate: the conditions without an index, as a physical expression over the candidate rows.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::functions::string;
use datafusion::logical_expr::{Operator, ScalarUDF};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, in_list};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::code_test::{CodeTest, CodeTestExpr};
use super::columns::InputColumn;
use super::describe::describe;
use crate::memory::storage::{JobChunk, JobColumnIndex, Tables};
use crate::query::{Comparison, IntegerTest, Predicate, TextField, TextTest};

static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);

/// A predicate with its input columns.
#[derive(Debug)]
pub(in crate::memory) struct Residual {
    expression: Arc<dyn PhysicalExpr>,
    columns: Vec<InputColumn>,
    schema: SchemaRef,
    /// The conditions, for EXPLAIN.
    pub(in crate::memory) description: String,
}

impl Residual {
    /// Evaluates the predicate on all rows of a chunk.
    pub(in crate::memory) fn whole(&self, chunk: &JobChunk) -> EngineResult<BooleanArray> {
        let columns = self.columns.iter().map(|column| column.whole(chunk)).collect();
        self.evaluate(columns, chunk.len())
    }

    /// Evaluates the predicate on some rows of a chunk.
    pub(in crate::memory) fn gather(&self, chunk: &JobChunk, places: &UInt32Array) -> EngineResult<BooleanArray> {
        let columns = self.columns.iter().map(|column| column.gather(chunk, places)).collect::<Result<_, _>>()?;
        self.evaluate(columns, places.len())
    }

    fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> EngineResult<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let answer = self.expression.evaluate(&batch)?.into_array(rows)?;
        Ok(answer.as_boolean().clone())
    }
}

/// Builds the conjunction of conditions over a shared list of input columns.
#[derive(Default)]
pub(super) struct ResidualBuilder {
    conditions: Vec<Arc<dyn PhysicalExpr>>,
    columns: Vec<InputColumn>,
    descriptions: Vec<String>,
}

impl ResidualBuilder {
    /// Adds a test of dictionary codes.
    pub(super) fn codes(&mut self, tables: &Tables, predicate: &Predicate, test: CodeTest) -> EngineResult<()> {
        let column = match predicate {
            Predicate::Annotation(key, _) => {
                self.column(InputColumn::AnnotationCode(tables.dictionaries.annotations.keys.code(key)))
            }
            Predicate::Text(field, _) => self.stored(field.column())?,
            Predicate::State(_) | Predicate::Integer(..) | Predicate::Time(..) => return Ok(()),
        };
        self.descriptions.push(describe(predicate));
        self.conditions.push(Arc::new(CodeTestExpr { column, test: Arc::new(test) }));
        Ok(())
    }

    /// Adds a predicate on an id, an integer or a time.
    pub(super) fn expression(&mut self, predicate: &Predicate) -> EngineResult<()> {
        let condition = match predicate {
            Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
                let column = self.stored(field.column())?;
                compare(column, *comparison, ScalarValue::from(*value))
            }
            Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
                let column = self.stored(field.column())?;
                let values = values.iter().map(|&value| literal(ScalarValue::from(value))).collect();
                in_list(column, values, &false, &self.schema())?
            }
            Predicate::Time(field, comparison, time) => {
                let column = self.stored(field.column())?;
                let value = ScalarValue::TimestampMicrosecond(Some(time.as_micros()), None);
                compare(column, *comparison, value)
            }
            Predicate::Text(TextField::JobId, TextTest::StartsWith(start)) => {
                self.call(string::starts_with(), start)?
            }
            Predicate::Text(TextField::JobId, TextTest::Contains(part)) => self.call(string::contains(), part)?,
            other => return internal_err!("an index answers {}", describe(other)),
        };
        self.descriptions.push(describe(predicate));
        self.conditions.push(condition);
        Ok(())
    }

    fn call(&mut self, function: Arc<ScalarUDF>, text: &str) -> EngineResult<Arc<dyn PhysicalExpr>> {
        let arguments = vec![self.column(InputColumn::JobId), literal(ScalarValue::from(text))];
        let call = ScalarFunctionExpr::try_new(function, arguments, &self.schema(), Arc::clone(&CONFIG))?;
        Ok(Arc::new(call))
    }

    fn stored(&mut self, name: &str) -> EngineResult<Arc<dyn PhysicalExpr>> {
        let Some(column) = JobColumnIndex::named(name) else { return internal_err!("no column {name:?}") };
        Ok(self.column(InputColumn::Stored(column)))
    }

    fn column(&mut self, input: InputColumn) -> Arc<dyn PhysicalExpr> {
        let at = self.columns.iter().position(|column| *column == input).unwrap_or_else(|| {
            self.columns.push(input);
            self.columns.len() - 1
        });
        Arc::new(Column::new(self.columns[at].field().name(), at))
    }

    fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(InputColumn::field).collect::<Vec<_>>())
    }

    /// The conjunction of the conditions; `None` without conditions.
    pub(super) fn build(self) -> EngineResult<Option<Residual>> {
        let schema = Arc::new(self.schema());
        let conjunction = self
            .conditions
            .into_iter()
            .reduce(|a, b| Arc::new(BinaryExpr::new(a, Operator::And, b)) as Arc<dyn PhysicalExpr>);
        let description = self.descriptions.join(" and ");
        Ok(conjunction.map(|expression| Residual { expression, columns: self.columns, schema, description }))
    }
}

fn literal(value: ScalarValue) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(value))
}

fn compare(column: Arc<dyn PhysicalExpr>, comparison: Comparison, value: ScalarValue) -> Arc<dyn PhysicalExpr> {
    let operator = match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::Greater => Operator::Gt,
        Comparison::Less => Operator::Lt,
        Comparison::GreaterOrEqual => Operator::GtEq,
        Comparison::LessOrEqual => Operator::LtEq,
    };
    Arc::new(BinaryExpr::new(column, operator, literal(value)))
}
