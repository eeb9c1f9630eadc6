//! Predicates on dictionary codes, as physical expressions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Schema, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use crate::memory::storage::Dictionary;
use crate::query::TextTest;

/// A predicate on dictionary codes.
#[derive(Debug)]
pub(super) enum CodeTest {
    /// A bitmap of the codes whose values pass.
    Set(Vec<u64>),
    /// Tests the value of each visited row, for large dictionaries.
    Text(Dictionary, TextTest),
}

impl CodeTest {
    /// A test that the given codes pass, out of `len` codes.
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

/// A physical expression that tests codes.
#[derive(Debug)]
pub(super) struct CodeTestExpr {
    pub(super) column: Arc<dyn PhysicalExpr>,
    pub(super) test: Arc<CodeTest>,
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
        // A null never passes, and its slot may contain an invalid code.
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

/// Whether a string passes a test.
pub(super) fn passes(test: &TextTest, text: &str) -> bool {
    match test {
        TextTest::Exact(value) => text == value,
        TextTest::AnyOf(values) => values.iter().any(|value| value == text),
        TextTest::StartsWith(start) => text.starts_with(start.as_str()),
        TextTest::Contains(part) => text.contains(part.as_str()),
    }
}
