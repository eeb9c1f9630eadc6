//! Append-only values in blocks that are shared by clones.

use std::sync::Arc;

use bytes::Bytes;

use super::shared_list::SharedList;

const BLOCK: usize = 1024;

/// Values by index. Clones share the blocks that neither of them changes.
#[derive(Debug, Clone)]
pub(crate) struct Arena<T> {
    blocks: SharedList<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { blocks: SharedList::default(), len: 0 }
    }
}

impl<T: Clone> Arena<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, code: u32) -> &T {
        let at = code as usize;
        &self.blocks[at / BLOCK][at % BLOCK]
    }

    pub(crate) fn push(&mut self, value: T) -> u32 {
        let code = self.len;
        if code.is_multiple_of(BLOCK) {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(&mut self.blocks[code / BLOCK]);
        if block.len() == block.capacity() {
            // A copy of a block has no spare capacity, so that doubling it would exceed a full block.
            block.reserve_exact(block.len().max(4).min(BLOCK - block.len()));
        }
        block.push(value);
        self.len += 1;
        code as u32
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
        Arc::make_mut(&mut self.blocks[at / BLOCK])[at % BLOCK] = value;
    }

    /// The blocks. All but the last are full.
    pub(crate) fn blocks(&self) -> &SharedList<Arc<Vec<T>>> {
        &self.blocks
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// The size of each block, in bytes. `heap` is the size of the heap memory of values.
    pub(crate) fn block_sizes(&self, heap: impl Fn(&[T]) -> usize) -> impl Iterator<Item = usize> {
        const ARC: usize = 2 * size_of::<usize>();
        let block_bytes = |block: &Vec<T>| ARC + size_of_val(block) + block.capacity() * size_of::<T>();
        self.blocks.iter().map(move |block| block_bytes(block) + heap(block))
    }
}

/// Messages of runs.
impl Arena<Bytes> {
    /// The size of each block, in bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.block_sizes(|messages| shared_bytes(messages.iter()))
    }
}

/// The size of byte strings, in bytes. Historical jobs share a few strings, each of which is counted once per block.
pub(crate) fn shared_bytes<'a>(values: impl Iterator<Item = &'a Bytes>) -> usize {
    /// The reference count of a string.
    const SHARED: usize = 3 * size_of::<usize>();
    let mut recent = [std::ptr::null(); 4];
    let mut bytes = 0;
    for value in values.filter(|value| !value.is_empty()) {
        if !recent.contains(&value.as_ptr()) {
            recent.rotate_right(1);
            recent[0] = value.as_ptr();
            bytes += SHARED + value.len();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use smol_str::SmolStr;

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
        assert_eq!((snapshot.get(2500).as_str(), snapshot.len()), ("text 2500", 3 * BLOCK));
        assert_eq!((arena.get(2500).as_str(), arena.get(3 * BLOCK as u32).as_str()), ("other", "new"));
    }

    #[test]
    fn a_full_block_has_no_spare_capacity() {
        let mut arena = Arena::default();
        for at in 0..2 * BLOCK {
            // A copy of a block has the capacity of its values.
            let snapshot = (at % 341 == 0).then(|| arena.clone());
            arena.push(at as u64);
            drop(snapshot);
        }
        assert!(arena.iter().copied().eq(0..2 * BLOCK as u64));
        let full = BLOCK * size_of::<u64>() + size_of::<Arc<Vec<u64>>>() * 2 + size_of::<Vec<u64>>();
        assert!(arena.block_sizes(|_| 0).eq([full, full]));
    }
}
