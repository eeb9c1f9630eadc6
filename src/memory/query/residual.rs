//! What no index answers: a DataFusion physical expression, evaluated over selected rows alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, UInt32Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::functions::string;
use datafusion::logical_expr::{ColumnarValue, Operator, ScalarUDF};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, in_list};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::answer::{describe, passes};
use super::columns::InputColumn;
use crate::memory::storage::{Dictionary, JobChunk, Tables};
use crate::query::{Comparison, IntegerTest, Predicate, TextField, TextTest};

static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);

/// A condition on rows, with the columns that it reads.
#[derive(Debug)]
pub(in crate::memory) struct Residual {
    expression: Arc<dyn PhysicalExpr>,
    columns: Vec<InputColumn>,
    schema: SchemaRef,
    /// The conditions, for EXPLAIN.
    pub(in crate::memory) description: String,
}

impl Residual {
    /// Which of a chunk's rows pass, for all of them.
    pub(in crate::memory) fn whole(&self, chunk: &JobChunk) -> EngineResult<BooleanArray> {
        let columns = self.columns.iter().map(|column| column.whole(chunk)).collect();
        self.evaluate(columns, chunk.len())
    }

    /// Which of some places of a chunk pass.
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

/// Gathers conditions, and the columns that they read, into one.
#[derive(Default)]
pub(super) struct ResidualBuilder {
    conditions: Vec<Arc<dyn PhysicalExpr>>,
    columns: Vec<InputColumn>,
    descriptions: Vec<String>,
}

impl ResidualBuilder {
    /// Adds a test of the codes that a predicate is about.
    pub(super) fn codes(&mut self, tables: &Tables, predicate: &Predicate, test: CodeTest) {
        let input = match predicate {
            Predicate::Text(field, _) => InputColumn::Code(*field),
            Predicate::Annotation(key, _) => {
                InputColumn::AnnotationCode(tables.dictionaries.annotations.keys.code(key))
            }
            Predicate::State(_) | Predicate::Integer(..) | Predicate::Time(..) => return,
        };
        let column = self.column(input);
        self.descriptions.push(describe(predicate));
        self.conditions.push(Arc::new(CodeTestExpr { column, test: Arc::new(test) }));
    }

    /// Adds a predicate on an id, an integer or a time.
    pub(super) fn expression(&mut self, predicate: &Predicate) -> EngineResult<()> {
        let condition = match predicate {
            Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
                let column = self.column(InputColumn::Integer(*field));
                compare(column, *comparison, ScalarValue::from(*value))
            }
            Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
                let column = self.column(InputColumn::Integer(*field));
                let values = values.iter().map(|&value| literal(ScalarValue::from(value))).collect();
                in_list(column, values, &false, &self.schema())?
            }
            Predicate::Time(field, comparison, time) => {
                let column = self.column(InputColumn::Time(*field));
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

    /// The conjunction of the conditions; none without any.
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

/// A test of dictionary codes.
#[derive(Debug)]
pub(super) enum CodeTest {
    /// A bit for each code: the texts were tested once, before any row.
    Set(Vec<u64>),
    /// The texts of a long dictionary are tested as rows come up.
    Text(Dictionary, TextTest),
}

impl CodeTest {
    /// Passes some of `len` codes.
    pub(super) fn set(len: usize, codes: &[u32]) -> Self {
        let mut bits = vec![0; len.div_ceil(64)];
        for &code in codes {
            bits[code as usize / 64] |= 1 << (code % 64);
        }
        Self::Set(bits)
    }

    fn passes(&self, code: u32) -> bool {
        match self {
            Self::Set(bits) => bits.get(code as usize / 64).is_some_and(|word| word >> (code % 64) & 1 == 1),
            Self::Text(dictionary, test) => passes(test, dictionary.text(code)),
        }
    }
}

/// Whether a code passes a test.
#[derive(Debug)]
struct CodeTestExpr {
    column: Arc<dyn PhysicalExpr>,
    test: Arc<CodeTest>,
}

impl PartialEq for CodeTestExpr {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.test, &other.test) && self.column.eq(&other.column)
    }
}

impl Eq for CodeTestExpr {}

impl Hash for CodeTestExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.test).hash(state);
        self.column.hash(state);
    }
}

impl fmt::Display for CodeTestExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code_test({})", self.column)
    }
}

impl PhysicalExpr for CodeTestExpr {
    fn data_type(&self, _: &Schema) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> EngineResult<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> EngineResult<ColumnarValue> {
        let codes = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let codes = codes.as_primitive::<UInt32Type>();
        // A null never matches; what stands in its place need not be a code.
        let passes = match codes.nulls() {
            None => BooleanBuffer::collect_bool(codes.len(), |at| self.test.passes(codes.value(at))),
            Some(nulls) => {
                BooleanBuffer::collect_bool(codes.len(), |at| nulls.is_valid(at) && self.test.passes(codes.value(at)))
            }
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(passes, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> EngineResult<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(column), true) => Ok(Arc::new(Self { column, test: Arc::clone(&self.test) })),
            _ => internal_err!("a code test has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
