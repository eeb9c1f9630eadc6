//! Columns of a chunk: Arrow arrays, which a batch of ingestion opens as builders.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, FixedSizeBinaryArray, PrimitiveArray,
    PrimitiveBuilder,
};
use datafusion::arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::bit_util;

use super::id::FixedId;
use super::located_rows::CHUNK_ROWS;

/// The type of a column: its Arrow array and its writer.
pub(crate) trait ColumnType {
    type Array: Array + Clone;
    /// The buffers of an array, from which single values are read.
    type Cells: Clone + Debug;
    type Writer: Default;
    const NULLABLE: bool;

    fn data_type() -> DataType;
    fn downcast(array: &ArrayRef) -> &Self::Array;
    fn cells(array: &Self::Array) -> Self::Cells;
    /// Opens an array for writes. The first write converts it to a builder.
    fn open(array: ArrayRef) -> Self::Writer;
    fn append(writer: &mut Self::Writer, array: &Self::Array);
    fn close(writer: Self::Writer) -> Result<ArrayRef, ArrowError>;
}

/// A primitive column without nulls.
#[derive(Debug)]
pub(crate) struct Required<T>(std::marker::PhantomData<T>);

/// A primitive column with a validity bitmap.
#[derive(Debug)]
pub(crate) struct Optional<T>(std::marker::PhantomData<T>);

macro_rules! primitive_column {
    ($($type:ident, $nullable:literal: $array:ident => $cells:expr, $cells_type:ident;)*) => {
        $(impl<T: ArrowPrimitiveType> ColumnType for $type<T> {
            type Array = PrimitiveArray<T>;
            type Cells = $cells_type<T::Native>;
            type Writer = PrimitiveWriter<T>;
            const NULLABLE: bool = $nullable;

            fn data_type() -> DataType {
                T::DATA_TYPE
            }

            fn downcast(array: &ArrayRef) -> &PrimitiveArray<T> {
                array.as_primitive()
            }

            fn cells($array: &PrimitiveArray<T>) -> Self::Cells {
                $cells
            }

            fn open(array: ArrayRef) -> PrimitiveWriter<T> {
                PrimitiveWriter::Array(array)
            }

            fn append(writer: &mut PrimitiveWriter<T>, array: &PrimitiveArray<T>) {
                writer.builder().append_array(array);
            }

            fn close(writer: PrimitiveWriter<T>) -> Result<ArrayRef, ArrowError> {
                Ok(writer.finish())
            }
        })*
    };
}

primitive_column! {
    Required, false: array => array.values().clone(), ScalarBuffer;
    Optional, true: array => OptionalCells::new(array), OptionalCells;
}

/// The buffers of a primitive column with a validity bitmap.
#[derive(Debug, Clone)]
pub(crate) struct OptionalCells<V: ArrowNativeType> {
    values: ScalarBuffer<V>,
    /// The validity bitmap, from the first bit of the buffer on.
    validity: Option<Buffer>,
}

impl<V: ArrowNativeType> OptionalCells<V> {
    pub(super) fn new<T: ArrowPrimitiveType<Native = V>>(array: &PrimitiveArray<T>) -> Self {
        Self { values: array.values().clone(), validity: array.nulls().map(|nulls| nulls.inner().sliced()) }
    }

    /// The value at an index. The values of null rows are not read, which saves a cache miss.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<V> {
        let valid = self.validity.as_deref().is_none_or(|bits| bit_util::get_bit(bits, at));
        valid.then(|| self.values[at])
    }
}

/// Ids, padded to a fixed width.
impl<const N: usize> ColumnType for FixedId<N> {
    type Array = FixedSizeBinaryArray;
    type Cells = Buffer;
    type Writer = IdWriter<N>;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::FixedSizeBinary(N as i32)
    }

    fn downcast(array: &ArrayRef) -> &FixedSizeBinaryArray {
        array.as_fixed_size_binary()
    }

    fn cells(array: &FixedSizeBinaryArray) -> Buffer {
        array.values().clone()
    }

    fn open(array: ArrayRef) -> IdWriter<N> {
        IdWriter::Array(array)
    }

    fn append(writer: &mut IdWriter<N>, array: &FixedSizeBinaryArray) {
        writer.bytes().extend_from_slice(array.value_data());
    }

    fn close(writer: IdWriter<N>) -> Result<ArrayRef, ArrowError> {
        writer.finish()
    }
}

/// Writes to a primitive column.
///
/// The first write of a batch converts the array to a builder, and `finish` converts it back: converting for each write
/// would cost many times the write. Values are changed in place if no snapshot refers to them, and copied otherwise.
#[derive(Debug)]
pub(crate) enum PrimitiveWriter<T: ArrowPrimitiveType> {
    Array(ArrayRef),
    Builder(PrimitiveBuilder<T>),
}

impl<T: ArrowPrimitiveType> Default for PrimitiveWriter<T> {
    fn default() -> Self {
        Self::Builder(PrimitiveBuilder::with_capacity(CHUNK_ROWS))
    }
}

impl<T: ArrowPrimitiveType> PrimitiveWriter<T> {
    pub(crate) fn values(&self) -> &[T::Native] {
        match self {
            Self::Array(array) => array.as_primitive::<T>().values(),
            Self::Builder(builder) => builder.values_slice(),
        }
    }

    /// The value at an index that is not null.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> T::Native {
        self.values()[at]
    }

    /// The value at an index.
    #[inline]
    pub(crate) fn optional(&self, at: usize) -> Option<T::Native> {
        let valid = match self {
            Self::Array(array) => array.is_valid(at),
            Self::Builder(builder) => builder.validity_slice().is_none_or(|bits| bit_util::get_bit(bits, at)),
        };
        valid.then(|| self.get(at))
    }

    #[inline]
    pub(crate) fn set(&mut self, at: usize, value: T::Native) {
        let (values, validity) = self.builder().slices_mut();
        values[at] = value;
        if let Some(validity) = validity {
            bit_util::set_bit(validity, at);
        }
    }

    pub(crate) fn set_optional(&mut self, at: usize, value: Option<T::Native>) {
        match value {
            Some(value) => self.set(at, value),
            None => self.set_null(at),
        }
    }

    fn set_null(&mut self, at: usize) {
        if let Some(validity) = self.builder().validity_slice_mut() {
            bit_util::unset_bit(validity, at);
            return;
        }
        // The builder has no validity bitmap, and allocates one only for appended nulls.
        let (_, values, _) = self.builder().finish().into_parts();
        let mut validity = BooleanBufferBuilder::new(CHUNK_ROWS);
        validity.append_n(values.len(), true);
        validity.set_bit(at, false);
        let nulls = NullBuffer::new(validity.finish());
        *self = Self::Array(Arc::new(PrimitiveArray::<T>::new(values, Some(nulls))));
    }

    fn builder(&mut self) -> &mut PrimitiveBuilder<T> {
        if let Self::Array(array) = self {
            let typed = array.as_primitive::<T>().clone();
            // The writer must drop its reference to the array: `into_builder` fails on shared values.
            *self = Self::Builder(PrimitiveBuilder::new());
            let builder = typed.into_builder().unwrap_or_else(|shared| {
                let mut copy = PrimitiveBuilder::with_capacity(CHUNK_ROWS);
                copy.append_array(&shared);
                copy
            });
            *self = Self::Builder(builder);
        }
        match self {
            Self::Builder(builder) => builder,
            Self::Array(_) => unreachable!("the array has become a builder"),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Array(array) => array,
            Self::Builder(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Appends to a column of ids. Ids are never updated.
#[derive(Debug)]
pub(crate) enum IdWriter<const N: usize> {
    Array(ArrayRef),
    Bytes(Vec<u8>),
}

impl<const N: usize> Default for IdWriter<N> {
    fn default() -> Self {
        Self::Bytes(Vec::with_capacity(CHUNK_ROWS * N))
    }
}

impl<const N: usize> IdWriter<N> {
    pub(crate) fn values(&self) -> &[[u8; N]] {
        let bytes = match self {
            Self::Array(array) => array.as_fixed_size_binary().value_data(),
            Self::Bytes(bytes) => bytes,
        };
        bytes.as_chunks().0
    }

    pub(crate) fn get(&self, at: usize) -> FixedId<N> {
        self.values()[at].into()
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        if let Self::Array(array) = self {
            let (_, buffer, _) = array.as_fixed_size_binary().clone().into_parts();
            *self = Self::Bytes(Vec::new());
            let bytes = buffer.into_vec().unwrap_or_else(|shared| {
                let mut copy = Vec::with_capacity(CHUNK_ROWS * N);
                copy.extend_from_slice(&shared);
                copy
            });
            *self = Self::Bytes(bytes);
        }
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Array(_) => unreachable!("the array has become bytes"),
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Array(array) => array,
            Self::Bytes(bytes) => Arc::new(FixedSizeBinaryArray::try_new(N as i32, Buffer::from_vec(bytes), None)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, UInt32Array};
    use datafusion::arrow::datatypes::{Int64Type, UInt32Type};

    use super::*;

    fn written<T: ArrowPrimitiveType>(array: ArrayRef, write: impl Fn(&mut PrimitiveWriter<T>)) -> PrimitiveArray<T> {
        let mut writer = PrimitiveWriter::Array(array);
        write(&mut writer);
        writer.finish().as_primitive().clone()
    }

    #[test]
    fn an_array_that_a_snapshot_holds_is_copied() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let snapshot = Arc::clone(&array);
        let after = written::<Int64Type>(array, |writer| {
            writer.set(1, 20);
            writer.builder().append_value(4);
        });
        assert_eq!(snapshot.as_primitive::<Int64Type>(), &Int64Array::from(vec![1, 2, 3]));
        assert_eq!(after, Int64Array::from(vec![1, 20, 3, 4]));
    }

    #[test]
    fn an_unshared_array_changes_in_place() {
        let mut writer = PrimitiveWriter::<Int64Type>::default();
        writer.builder().append_slice(&[1, 2]);
        let array = writer.finish();
        let before = array.as_primitive::<Int64Type>().values().as_ptr();
        let after = written::<Int64Type>(array, |writer| {
            writer.set(0, 7);
            writer.builder().append_value(3);
        });
        assert_eq!((after.values().as_ptr(), after.values().as_ref()), (before, [7, 2, 3].as_slice()));
    }

    #[test]
    fn values_and_nulls_are_set_with_and_without_a_validity_bitmap() {
        for before in [vec![Some(1), Some(2), Some(3)], vec![Some(1), None, Some(3)], vec![None, None, None]] {
            for at in 0..3 {
                for value in [None, Some(9)] {
                    let mut expected = before.clone();
                    expected[at] = value;
                    let after = written::<UInt32Type>(Arc::new(UInt32Array::from(before.clone())), |writer| {
                        writer.set_optional(at, value);
                        assert_eq!(writer.optional(at), value);
                    });
                    assert_eq!(after, UInt32Array::from(expected));
                }
            }
        }
    }

    #[test]
    fn ids_are_appended_in_place_or_to_a_copy() {
        let id = |text: &str| FixedId::<4>::column(FixedId::new(text).into_iter()).unwrap();
        let mut writer = IdWriter::<4>::default();
        FixedId::append(&mut writer, &id("a"));
        let array = writer.finish().unwrap();
        let before = array.as_fixed_size_binary().value_data().as_ptr();
        let mut writer = IdWriter::<4>::Array(array);
        FixedId::append(&mut writer, &id("bcde"));
        let array = writer.finish().unwrap();
        assert_eq!(array.as_fixed_size_binary().value_data().as_ptr(), before);
        let mut copied = IdWriter::<4>::Array(Arc::clone(&array));
        FixedId::append(&mut copied, &id("f"));
        assert_eq!(array.as_fixed_size_binary().value_data(), b"a\0\0\0bcde");
        assert_eq!(copied.values(), [*b"a\0\0\0", *b"bcde", *b"f\0\0\0"]);
    }
}
