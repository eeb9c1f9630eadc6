//! Append-only values in blocks that are shared by clones.

use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

/// The number of values of a full block.
const BLOCK: usize = 1024;

/// Values by index. Clones share the blocks that neither of them changes.
#[derive(Debug, Clone)]
pub(crate) struct Arena<T> {
    /// The full blocks. A read follows one pointer, not two as with `Arc<Vec<T>>`.
    full: Vec<Arc<[T]>>,
    last: Arc<Vec<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { full: Vec::new(), last: Arc::default() }
    }
}

impl<T> Arena<T> {
    pub(crate) fn len(&self) -> usize {
        self.full.len() * BLOCK + self.last.len()
    }

    #[inline]
    pub(crate) fn get(&self, code: u32) -> &T {
        let at = code as usize;
        match self.full.get(at / BLOCK) {
            Some(block) => &block[at % BLOCK],
            None => &self.last[at % BLOCK],
        }
    }

    pub(crate) fn block_count(&self) -> usize {
        self.len().div_ceil(BLOCK)
    }

    /// The values of a block. All blocks but the last are full.
    pub(crate) fn block(&self, at: usize) -> &[T] {
        self.full.get(at).map_or(self.last.as_slice(), |block| block)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.full.iter().flat_map(|block| block.iter()).chain(self.last.iter())
    }

    /// The size of the blocks, in bytes, without the heap memory of the values.
    pub(crate) fn block_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(|block| size_of_val(&**block)).sum();
        let pointers = self.full.capacity() * size_of::<Arc<[T]>>() + size_of_val(&*self.last);
        full + self.last.capacity() * size_of::<T>() + pointers
    }
}

impl<T: Clone> Arena<T> {
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let code = self.len() as u32;
        let last = Arc::make_mut(&mut self.last);
        last.push(value);
        if last.len() == BLOCK {
            self.full.push(std::mem::take(last).into());
        }
        code
    }

    /// Stores a value at a free index, or appends it; returns its index.
    pub(crate) fn insert(&mut self, free: &mut Vec<u32>, value: T) -> u32 {
        match free.pop() {
            Some(code) => {
                self.set(code, value);
                code
            }
            None => self.push(value),
        }
    }

    pub(crate) fn set(&mut self, code: u32, value: T) {
        let at = code as usize;
        match self.full.get_mut(at / BLOCK) {
            Some(block) => Arc::make_mut(block)[at % BLOCK] = value,
            None => Arc::make_mut(&mut self.last)[at % BLOCK] = value,
        }
    }
}

/// The values of a dictionary, in the type of a job's fields, so that a decoded job shares them.
impl Arena<SmolStr> {
    pub(crate) fn heap_bytes(&self) -> usize {
        // A string on the heap has two reference counts.
        let long = self.iter().filter(|text| text.is_heap_allocated());
        long.map(|text| text.len() + 2 * size_of::<usize>()).sum::<usize>() + self.block_bytes()
    }
}

/// Messages of runs.
impl Arena<Bytes> {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.iter().map(Bytes::len).sum::<usize>() + self.block_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(texts: &[&str]) -> Arena<SmolStr> {
        let mut arena = Arena::default();
        for (code, text) in (0..).zip(texts) {
            assert_eq!(arena.push(SmolStr::new(text)), code);
        }
        arena
    }

    #[test]
    fn values_span_blocks_and_clones_are_independent() {
        let texts: Vec<String> = (0..3 * BLOCK).map(|at| format!("text {at}")).collect();
        let mut arena = arena(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(arena.get(2500), "text 2500");
        let snapshot = arena.clone();
        arena.set(2500, "other".into());
        arena.push("new".into());
        arena.set(3 * BLOCK as u32, "newer".into());
        assert_eq!((snapshot.get(2500).as_str(), snapshot.len()), ("text 2500", 3 * BLOCK));
        assert_eq!((arena.get(2500).as_str(), arena.get(3 * BLOCK as u32).as_str()), ("other", "newer"));
        let blocks: Vec<usize> = (0..arena.block_count()).map(|at| arena.block(at).len()).collect();
        assert_eq!((blocks, snapshot.block_count()), (vec![BLOCK, BLOCK, BLOCK, 1], 3));
        assert!(arena.iter().zip(0..).all(|(text, code)| text == arena.get(code)));
    }
}
