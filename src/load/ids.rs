//! Ids of live jobs, and the workers that own them.

use crate::time::Timestamp;

/// Crockford's base 32.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const JOB_ID_BYTES: usize = 18;
const RUN_ID_BYTES: usize = 20;
/// The job numbers that an id tells apart: 4 digits.
const NUMBERS: u64 = 1 << 20;

const FNV_OFFSET: u64 = 14_695_981_039_346_656_037;
const FNV_PRIME: u64 = 1_099_511_628_211;

/// The id of a live job and of its run, without an allocation.
///
/// A job id has 18 characters of Crockford's base 32: 10 of the submission time in milliseconds, 2 of the
/// queue's index, 2 of the job set's and 4 of the job's number, which wraps at 1,048,576. The id of the run adds
/// 2 of the run's number, so that its first 18 bytes are the job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveId([u8; RUN_ID_BYTES]);

impl LiveId {
    /// The id of job `number` in a job set of a queue, by their indexes, and of its first run.
    pub fn new(submitted: Timestamp, queue: usize, job_set: usize, number: u64) -> Self {
        let mut digits = [0; RUN_ID_BYTES];
        let millis = submitted.as_micros().div_euclid(1000);
        encode(&mut digits[..10], millis as u64);
        encode(&mut digits[10..12], queue as u64);
        encode(&mut digits[12..14], job_set as u64);
        encode(&mut digits[14..JOB_ID_BYTES], number);
        encode(&mut digits[JOB_ID_BYTES..], 0);
        Self(digits)
    }

    /// The job's id.
    pub fn job(&self) -> &str {
        str::from_utf8(&self.0[..JOB_ID_BYTES]).unwrap_or_default()
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The worker that owns the job, of so many.
    pub fn worker(&self, workers: usize) -> usize {
        worker(self.job(), workers)
    }
}

/// The worker of a job by its id: FNV-1a of 64 bits modulo their number.
pub fn worker(job_id: &str, workers: usize) -> usize {
    let hash = job_id.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    (hash % workers.max(1) as u64) as usize
}

/// The number that a live job's id ends with, modulo 1,048,576; none if the id is no live job's.
pub(super) fn number_of(job_id: &str) -> Option<u64> {
    let digits = job_id.as_bytes();
    if digits.len() != JOB_ID_BYTES {
        return None;
    }
    digits[14..].iter().try_fold(0, |number, digit| {
        let value = DIGITS.iter().position(|other| other == digit)?;
        Some(number << 5 | value as u64)
    })
}

/// The part of a job's number that its id holds.
pub(super) const fn number_in_id(number: u64) -> u64 {
    number % NUMBERS
}

/// The last digits of a value.
fn encode(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value & 31) as usize];
        value >>= 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_back() {
        for number in [0, 1, 31, 32, 123_456, NUMBERS - 1, NUMBERS, NUMBERS + 7] {
            let id = LiveId::new(Timestamp::from_seconds(1_772_323_200), 3, 4, number);
            assert_eq!(number_of(id.job()), Some(number_in_id(number)));
            assert!(id.run().starts_with(id.job()));
        }
        assert_eq!(number_of("000000010000000007"), Some(7));
        assert_eq!(number_of("short"), None);
        assert_eq!(number_of("00000001000000000u"), None);
    }
}
