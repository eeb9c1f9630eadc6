//! The part of a load that one of several load generators makes.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// A share of a load: the part at an index of a number of equal parts, written as `2/4`.
///
/// Job and read `n` of the plan belong to share `n mod parts`, so that the shares together make the load of one
/// generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: u64,
    parts: NonZeroU64,
}

impl Default for Share {
    fn default() -> Self {
        Self { index: 0, parts: NonZeroU64::MIN }
    }
}

impl Share {
    /// Returns true if a job or read of the plan belongs to the share.
    pub(super) fn has(self, number: u64) -> bool {
        number % self.parts == self.index
    }

    /// The number of shares.
    pub const fn parts(self) -> u64 {
        self.parts.get()
    }

    /// The index of the share, starting at 0.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Returns true if the load has no share after this one. The last share creates the historical jobs, counts the jobs
    /// of the store after the load and tears it down.
    pub const fn is_last(self) -> bool {
        self.index + 1 == self.parts.get()
    }

    /// The last share of the load.
    pub(super) const fn last(self) -> Self {
        Self { index: self.parts.get() - 1, parts: self.parts }
    }

    /// The shares of the load before the last one.
    pub(super) fn others(self) -> impl Iterator<Item = Self> {
        (0..self.parts.get() - 1).map(move |index| Self { index, parts: self.parts })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.parts)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = || {
            let (position, parts) = text.split_once('/')?;
            let parts: NonZeroU64 = parts.parse().ok()?;
            let index = position.parse::<u64>().ok()?.checked_sub(1)?;
            (index < parts.get()).then_some(Self { index, parts })
        };
        share().ok_or_else(|| "must be the position of a share and the number of shares, such as 2/4".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_belongs_to_one_share() {
        let shares: Vec<Share> = ["1/3", "2/3", "3/3"].map(|text| text.parse().unwrap()).into();
        for number in 0..10 {
            assert_eq!(shares.iter().filter(|share| share.has(number)).count(), 1);
        }
        assert!((0..10).all(|number| Share::default().has(number)));
        assert_eq!(shares[1].to_string(), "2/3");
        for bad in ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3"] {
            assert!(bad.parse::<Share>().is_err(), "{bad:?}");
        }
    }
}
