//! Ids of live jobs, and their assignment to workers.

use smol_str::SmolStr;

use crate::time::Timestamp;

/// Crockford's base 32.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const JOB_ID_BYTES: usize = 18;
const RUN_ID_BYTES: usize = 20;
/// The number of distinct job numbers in an id, which has 4 digits for them.
const NUMBERS: u64 = 1 << 20;

const FNV_OFFSET: u64 = 14_695_981_039_346_656_037;
const FNV_PRIME: u64 = 1_099_511_628_211;

/// The ids of a live job and of its run, stored inline.
///
/// A job id has 18 characters of Crockford's base 32: 10 for the submission time in milliseconds, 2 for the index of
/// the queue, 2 for the index of the job set and 4 for the job number modulo 1,048,576. The run id appends 2 characters
/// for the run number, so that its first 18 bytes are the job id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveId(SmolStr);

impl LiveId {
    /// The ids of job `number` and its first run. `queue` and `job_set` are indexes.
    pub(super) fn new(submitted: Timestamp, queue: usize, job_set: usize, number: u64) -> Self {
        let mut digits = [0; RUN_ID_BYTES];
        let millis = submitted.as_micros().div_euclid(1000);
        encode(&mut digits[..10], millis as u64);
        encode(&mut digits[10..12], queue as u64);
        encode(&mut digits[12..14], job_set as u64);
        encode(&mut digits[14..JOB_ID_BYTES], number);
        encode(&mut digits[JOB_ID_BYTES..], 0);
        Self(SmolStr::new(str::from_utf8(&digits).unwrap_or_default()))
    }

    /// The job id.
    pub(super) fn job(&self) -> &str {
        self.0.get(..JOB_ID_BYTES).unwrap_or_default()
    }

    /// The run id.
    pub(super) fn run(&self) -> &str {
        &self.0
    }

    /// The index of the worker that owns the job.
    pub(super) fn worker(&self, workers: usize) -> usize {
        worker(self.job(), workers)
    }
}

/// The index of the worker that owns a job: the 64-bit FNV-1a hash of the job id modulo the number of workers.
pub(super) fn worker(job_id: &str, workers: usize) -> usize {
    (hash(job_id) % workers.max(1) as u64) as usize
}

/// The 64-bit FNV-1a hash of a text.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// The job number in the id of a live job, modulo 1,048,576; `None` if the id does not have the format of a live job.
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

/// The part of a job number that the job id contains.
pub(super) const fn number_in_id(number: u64) -> u64 {
    number % NUMBERS
}

/// Writes the lowest digits of a value in base 32.
fn encode(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value & 31) as usize];
        value >>= 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds, queue, job set, number, id, and worker of 7 and of 64 workers, computed by another program.
    const GOLDEN_IDS: [(i64, usize, usize, u64, &str, usize, usize); 4] = [
        (0, 0, 0, 0, "000000000000000000", 6, 45),
        (1_772_323_200_123, 1, 2, 3, "01KJKB3Q3V01020003", 5, 63),
        (1_772_323_200_000, 31, 33, 1_048_575, "01KJKB3Q000Z11ZZZZ", 5, 10),
        (1_772_323_201_000, 1023, 1023, 1_048_611, "01KJKB3QZ8ZZZZ0013", 0, 16),
    ];

    #[test]
    fn the_job_number_is_decoded() {
        for number in [0, 1, 31, 32, 123_456, NUMBERS - 1, NUMBERS, NUMBERS + 7] {
            let id = LiveId::new(Timestamp::from_seconds(1_772_323_200), 3, 4, number);
            assert_eq!(number_of(id.job()), Some(number_in_id(number)));
            assert!(id.run().starts_with(id.job()));
        }
        assert_eq!(number_of("000000010000000007"), Some(7));
        assert_eq!(number_of("short"), None);
        assert_eq!(number_of("00000001000000000u"), None);
    }

    #[test]
    fn ids_and_workers_have_known_values() {
        for (millis, queue, job_set, number, id, of_7, of_64) in GOLDEN_IDS {
            let live = LiveId::new(Timestamp::from_micros(millis * 1000 + 999), queue, job_set, number);
            assert_eq!(live.job(), id);
            assert_eq!(live.run(), format!("{id}00"));
            assert_eq!((worker(id, 7), live.worker(7), worker(id, 64), worker(id, 1)), (of_7, of_7, of_64, 0));
        }
    }

    #[test]
    fn a_job_id_is_a_base_32_number() {
        for number in 0..1000_u64 {
            let (millis, queue, job_set) = (1_772_323_200_000 + number * 977, number % 1024, number * 7 % 1024);
            let mut bits = (u128::from(millis) << 40) | u128::from(queue << 30 | job_set << 20 | number);
            let mut digits = Vec::new();
            for _ in 0..18 {
                digits.push(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(bits % 32) as usize]);
                bits /= 32;
            }
            digits.reverse();
            let id =
                LiveId::new(Timestamp::from_micros(millis as i64 * 1000), queue as usize, job_set as usize, number);
            assert_eq!(id.job().as_bytes(), digits);
        }
    }
}
