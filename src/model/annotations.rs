//! The annotations of a job.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// The annotations of a job, ordered by key (by bytes). In JSON they are an object.
///
/// They are a sorted slice of keys and a vector of their values, which need fewer allocations than a tree, and no
/// comparisons if the store returns the keys in order. Jobs share the keys, because most jobs of a page have the same.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Annotations {
    keys: Arc<[SmolStr]>,
    values: Vec<SmolStr>,
}

impl Annotations {
    /// Creates annotations from keys in strictly ascending order and a value per key.
    pub(crate) fn from_sorted(keys: Arc<[SmolStr]>, values: Vec<SmolStr>) -> Self {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "the keys must ascend");
        debug_assert_eq!(keys.len(), values.len());
        Self { keys, values }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&SmolStr> {
        let at = self.keys.binary_search_by(|other| other.as_str().cmp(key)).ok()?;
        Some(&self.values[at])
    }

    /// The number of annotations.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no annotations.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys with their values, in order of keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &SmolStr)> {
        self.keys.iter().zip(&self.values)
    }
}

impl fmt::Debug for Annotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The last value of a repeated key is kept.
impl<K: Into<SmolStr>, V: Into<SmolStr>> FromIterator<(K, V)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        pairs.reverse();
        pairs.sort_by(|(a, _): &(SmolStr, SmolStr), (b, _)| a.cmp(b));
        pairs.dedup_by(|(a, _), (b, _)| a == b);
        let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        Self::from_sorted(keys.into(), values)
    }
}

impl Index<&str> for Annotations {
    type Output = SmolStr;

    /// # Panics
    ///
    /// If there is no such key.
    fn index(&self, key: &str) -> &SmolStr {
        self.get(key).unwrap_or_else(|| panic!("there is no annotation {key:?}"))
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                std::iter::from_fn(|| map.next_entry::<SmolStr, SmolStr>().transpose()).collect()
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_order_of_insertion() {
        let annotations: Annotations = [("b", "1"), ("", "2"), ("a", "3"), ("b", "4")].into_iter().collect();
        assert!(annotations.iter().map(|(key, _)| key.as_str()).eq(["", "a", "b"]));
        assert_eq!((annotations.get("b").unwrap(), annotations.get("c")), (&SmolStr::new("4"), None));
        assert_eq!(annotations["a"], "3");
    }

    #[test]
    fn json_is_an_object_in_the_order_of_keys() {
        for (json, sorted) in [("{}", "{}"), (r#"{"b":"1","a":"2"}"#, r#"{"a":"2","b":"1"}"#)] {
            let annotations: Annotations = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&annotations).unwrap(), sorted);
        }
        assert!(serde_json::from_str::<Annotations>("[]").is_err());
    }
}
