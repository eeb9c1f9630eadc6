//! The compression of specs, errors and debug messages.
//!
//! Lookout stores each as a zlib stream (RFC 1950), and reads nothing else. Armada's Broadside stores raw bytes. Both
//! are read: bytes that are not a whole stream are the value.

use std::error::Error as StdError;
use std::io::Write;

use bytes::{BufMut, BytesMut};
use flate2::Compression as Level;
use flate2::write::ZlibEncoder;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use serde::Deserialize;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

use super::error::{Attempt, Failure};

/// The length up to which Lookout does not compress a value: the default of its `minJobSpecCompressionSize`, which also
/// holds for errors and debug messages. The streams of shorter values have stored blocks.
const MIN_COMPRESSED_BYTES: usize = 1024;
/// The maximum length of a value that is read. A small stream can have a value of gigabytes.
const MAX_BYTES: usize = 64 << 20;

/// The form in which values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    /// As a zlib stream, as Lookout does.
    #[default]
    Zlib,
    /// As they are, except for a value that would be read as a stream.
    None,
}

impl Compression {
    /// The stored form of a value.
    pub(super) fn compress(self, value: &[u8]) -> Vec<u8> {
        // A stream of a longer value would not be read.
        let is_plain = self == Self::None || value.len() > MAX_BYTES;
        if is_plain && matches!(inflated(value), Inflated::NoStream) {
            return value.to_vec();
        }
        let level = if value.len() > MIN_COMPRESSED_BYTES { Level::fast() } else { Level::none() };
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        // Writes to memory do not fail.
        let written = encoder.write_all(value).and_then(|()| encoder.finish());
        written.unwrap_or_else(|_| value.to_vec())
    }
}

/// The value of its stored form.
pub(super) fn decompress(stored: Vec<u8>) -> Attempt<Vec<u8>> {
    match inflated(&stored) {
        Inflated::Value(value) => Ok(value),
        Inflated::NoStream => Ok(stored),
        Inflated::TooLong => Err(Failure::TooLong(MAX_BYTES as u64)),
    }
}

enum Inflated {
    Value(Vec<u8>),
    NoStream,
    TooLong,
}

fn inflated(stored: &[u8]) -> Inflated {
    // Unlike the reader of `flate2`, it needs no window besides the value.
    match decompress_to_vec_zlib_with_limit(stored, MAX_BYTES + 1) {
        Ok(value) if value.len() <= MAX_BYTES => Inflated::Value(value),
        Err(error) if error.status != TINFLStatus::HasMoreOutput => Inflated::NoStream,
        _ => Inflated::TooLong,
    }
}

/// A value that is compressed when it is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressed<'a>(pub &'a [u8], pub Compression);

impl ToSql for Compressed<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.1.compress(self.0));
        Ok(IsNull::No)
    }

    accepts!(BYTEA);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams of Go's `compress/zlib`, as Lookout's compressor makes them.
    const GO_STORED: &[u8] = b"\x78\x01\x00\x05\x00\xfa\xffhello\x01\x00\x00\xff\xff\x06\x2c\x02\x15";
    const GO_EMPTY: &[u8] = b"\x78\x01\x01\x00\x00\xff\xff\x00\x00\x00\x01";

    #[test]
    fn streams_of_go_are_read() {
        assert_eq!(decompress(GO_STORED.to_vec()).unwrap(), b"hello");
        assert_eq!(decompress(GO_EMPTY.to_vec()).unwrap(), b"");
    }

    #[test]
    fn values_survive_both_forms() {
        let stream = Compression::Zlib.compress(b"a value that is a stream");
        let values = [&b""[..], b"hello", &[b'x'; MIN_COMPRESSED_BYTES + 1], &stream, GO_STORED, &GO_STORED[..9]];
        for value in values {
            for compression in [Compression::Zlib, Compression::None] {
                assert_eq!(decompress(compression.compress(value)).unwrap(), value, "{compression:?}");
            }
        }
    }

    /// Lookout's form: the header of both levels, and stored blocks up to the limit.
    #[test]
    fn streams_are_those_of_lookout() {
        for (length, is_compressed) in [(0, false), (MIN_COMPRESSED_BYTES, false), (MIN_COMPRESSED_BYTES + 1, true)] {
            let stream = Compression::Zlib.compress(&vec![b'x'; length]);
            assert_eq!(stream[..2], [0x78, 0x01], "{length}");
            assert_eq!(stream.len() < length, is_compressed, "{length}");
        }
        assert_eq!(Compression::None.compress(b"hello"), b"hello");
    }

    #[test]
    fn what_is_not_a_whole_stream_is_the_value() {
        let truncated = &GO_STORED[..GO_STORED.len() - 1];
        for value in [&b""[..], b"\x78\x01", b"\x0a\x03abc", truncated] {
            assert_eq!(decompress(value.to_vec()).unwrap(), value);
        }
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused() {
        let compress = |length| Compression::Zlib.compress(&vec![0; length]);
        // Our own values are read whatever their length.
        for length in [MAX_BYTES, MAX_BYTES + 1] {
            assert_eq!(decompress(compress(length)).unwrap().len(), length);
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(&vec![0; MAX_BYTES + 1]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(decompress(bomb), Err(Failure::TooLong(_))));
    }
}
