//! The texts of a dictionary, in blocks.

use std::sync::Arc;

use memchr::memmem::Finder;
use smol_str::SmolStr;

/// Texts in a full block of a [`TextArena`].
const BLOCK_TEXTS: usize = 1024;

/// Texts in the order in which they came. Clones share all but what is added later.
///
/// They are kept as jobs hold them, so that giving a job its texts copies a few bytes, and no
/// long text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextArena {
    blocks: Vec<Arc<Vec<SmolStr>>>,
    len: usize,
}

impl TextArena {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, code: u32) -> &SmolStr {
        let at = code as usize;
        &self.blocks[at / BLOCK_TEXTS][at % BLOCK_TEXTS]
    }

    pub(crate) fn push(&mut self, text: &str) -> u32 {
        if self.len.is_multiple_of(BLOCK_TEXTS) {
            self.seal();
            self.blocks.push(Arc::default());
        }
        if let Some(block) = self.blocks.last_mut().map(Arc::make_mut) {
            block.push(text.into());
        }
        let code = self.len as u32;
        self.len += 1;
        code
    }

    /// The codes of the texts that hold a part, ascending.
    pub(crate) fn containing(&self, part: &str) -> Vec<u32> {
        // What there is to prepare for a search is prepared once for all texts.
        let part = Finder::new(part);
        let texts = self.blocks.iter().flat_map(|block| block.iter());
        (0..).zip(texts).filter(|(_, text)| part.find(text.as_bytes()).is_some()).map(|(code, _)| code).collect()
    }

    /// Gives back the room that growing left in a block that is full now.
    fn seal(&mut self) {
        if let Some(block) = self.blocks.last_mut().and_then(Arc::get_mut) {
            block.shrink_to_fit();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let long = self.blocks.iter().flat_map(|block| block.iter()).filter(|text| text.is_heap_allocated());
        // Each has its two counts of references beside it.
        let long: usize = long.map(|text| text.len() + 2 * size_of::<usize>()).sum();
        let blocks = self.blocks.iter().map(|block| block.capacity() * size_of::<SmolStr>() + size_of_val(&**block));
        long + blocks.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(texts: &[&str]) -> TextArena {
        let mut arena = TextArena::default();
        for (code, text) in (0..).zip(texts) {
            assert_eq!(arena.push(text), code);
        }
        arena
    }

    #[test]
    fn blocks_hold_their_texts_apart() {
        let texts: Vec<String> = (0..3 * BLOCK_TEXTS).map(|at| format!("text {at}")).collect();
        let arena = arena(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(arena.get(2500), "text 2500");
        let with =
            |part: &str| (0..).zip(&texts).filter(|(_, text)| text.contains(part)).map(|(code, _)| code).collect();
        for part in ["text", "99", "t 1", "text 2500", "0t", "x", "none", ""] {
            let expected: Vec<u32> = with(part);
            assert_eq!(arena.containing(part), expected, "{part:?}");
        }
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
