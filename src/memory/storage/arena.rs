//! Values in the order in which they came, in blocks that clones share.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::Finder;
use smol_str::SmolStr;

/// Values in a full block.
const BLOCK: usize = 1024;

/// Values, known by their places. Clones share all blocks that do not change afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Arena<T> {
    blocks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0 }
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
        if self.len.is_multiple_of(BLOCK) {
            self.shrink_last();
            self.blocks.push(Arc::default());
        }
        if let Some(block) = self.blocks.last_mut().map(Arc::make_mut) {
            block.push(value);
        }
        let code = self.len as u32;
        self.len += 1;
        code
    }

    pub(crate) fn set(&mut self, code: u32, value: T) {
        let at = code as usize;
        Arc::make_mut(&mut self.blocks[at / BLOCK])[at % BLOCK] = value;
    }

    /// The blocks, all but the last of one length.
    pub(crate) fn blocks(&self) -> &[Arc<Vec<T>>] {
        &self.blocks
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// Gives back the spare capacity of a block that is full now.
    fn shrink_last(&mut self) {
        if let Some(block) = self.blocks.last_mut().and_then(Arc::get_mut) {
            block.shrink_to_fit();
        }
    }

    /// Bytes of the blocks, without what the values hold elsewhere.
    pub(crate) fn block_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.capacity() * size_of::<T>() + size_of_val(&**block)).sum()
    }
}

/// The texts of a dictionary. They are kept as jobs hold them, so that a decoded job shares them.
impl Arena<SmolStr> {
    /// The codes of the texts that contain a part, ascending.
    pub(crate) fn containing(&self, part: &str) -> Vec<u32> {
        // One searcher for all texts.
        let part = Finder::new(part);
        (0..).zip(self.iter()).filter(|(_, text)| part.find(text.as_bytes()).is_some()).map(|(code, _)| code).collect()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // A long text has two counts of references beside it.
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
    fn values_are_found_across_blocks_and_a_clone_keeps_its_own() {
        let texts: Vec<String> = (0..3 * BLOCK).map(|at| format!("text {at}")).collect();
        let mut arena = arena(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(arena.get(2500), "text 2500");
        let with =
            |part: &str| (0..).zip(&texts).filter(|(_, text)| text.contains(part)).map(|(code, _)| code).collect();
        for part in ["text", "99", "t 1", "text 2500", "0t", "x", "none", ""] {
            let expected: Vec<u32> = with(part);
            assert_eq!(arena.containing(part), expected, "{part:?}");
        }
        let snapshot = arena.clone();
        arena.set(2500, "other".into());
        arena.push("new".into());
        assert_eq!((snapshot.get(2500).as_str(), snapshot.len()), ("text 2500", 3 * BLOCK));
        assert_eq!((arena.get(2500).as_str(), arena.get(3 * BLOCK as u32).as_str()), ("other", "new"));
    }

    #[test]
    fn a_part_is_found_in_one_text_and_not_across_two() {
        let arena = arena(&["", "ab", "", "ab", "a", "b", "aab", "\u{e9}", ""]);
        assert_eq!(arena.containing("ab"), [1, 3, 6]);
        assert!(arena.containing("ba").is_empty());
        assert_eq!(arena.containing("a"), [1, 3, 4, 6]);
        assert_eq!(arena.containing("\u{e9}"), [7]);
        assert_eq!(arena.containing(""), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
