//! Prefetches of cache lines.

use smol_str::SmolStr;

use super::arena::Arena;

/// Requests the cache line of a value's first byte, without waiting for it.
///
/// Sparse rows of a page are seldom in the caches of the processor. A load that misses them blocks the instructions
/// after it once the reorder buffer is full, but a prefetch retires at once, so that more cache misses overlap. Stable
/// Rust has no safe prefetch, and `safe_arch` has one only for x86; on other architectures, this does nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(value);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// The values of dictionaries with fewer values are not prefetched: they stay in the caches of the processor.
const MIN_VALUES: usize = 256;

/// Prefetches values of dictionaries.
///
/// The clone of a long value increments a reference count, and an x86 processor starts no load before the increment has
/// completed. So cache misses overlap only if the values are prefetched before the first clone.
#[derive(Debug, Default)]
pub(crate) struct TextPrefetch<'a>(Vec<&'a SmolStr>);

impl<'a> TextPrefetch<'a> {
    /// Prefetches values, except the bytes of those on the heap.
    pub(crate) fn extend(&mut self, values: &'a Arena<SmolStr>, codes: impl Iterator<Item = u32>) {
        if values.len() >= MIN_VALUES {
            self.0.extend(codes.map(|code| values.get(code)).inspect(|&value| prefetch(value)));
        }
    }

    /// Prefetches the first bytes of the values.
    pub(crate) fn finish(self) {
        self.0.into_iter().filter_map(|value| value.as_bytes().first()).for_each(prefetch);
    }
}
