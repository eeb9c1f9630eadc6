//! Texts side by side in blocks.

use std::sync::Arc;

use memchr::memmem::Finder;

/// Texts in a full block of a [`TextArena`].
const BLOCK_TEXTS: usize = 1024;

#[derive(Debug, Clone, Default)]
struct Block {
    text: String,
    ends: Vec<u32>,
}

impl Block {
    fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The places of the texts that hold a part.
    fn containing<'a>(&'a self, part: &'a Finder<'_>) -> impl Iterator<Item = u32> + 'a {
        let text = self.text.as_bytes();
        let mut from = 0;
        std::iter::from_fn(move || {
            loop {
                let begin = from + part.find(text.get(from..)?)?;
                let at = self.ends.partition_point(|&end| end as usize <= begin);
                let end = *self.ends.get(at)? as usize;
                if begin + part.needle().len() <= end {
                    from = end;
                    return Some(at as u32);
                }
                // It reaches into the next text.
                from = begin + 1;
            }
        })
    }
}

/// Texts in the order in which they came. Clones share all but what is added later.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextArena {
    blocks: Vec<Arc<Block>>,
    len: usize,
}

impl TextArena {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, code: u32) -> &str {
        let at = code as usize;
        self.blocks[at / BLOCK_TEXTS].get(at % BLOCK_TEXTS)
    }

    pub(crate) fn push(&mut self, text: &str) -> u32 {
        if self.len.is_multiple_of(BLOCK_TEXTS) {
            self.seal();
            self.blocks.push(Arc::default());
        }
        if let Some(block) = self.blocks.last_mut().map(Arc::make_mut) {
            block.text.push_str(text);
            block.ends.push(block.text.len() as u32);
        }
        let code = self.len as u32;
        self.len += 1;
        code
    }

    /// The codes of the texts that hold a part, ascending.
    ///
    /// All texts of a block are searched at once: to begin a search takes longer than to search
    /// one short text.
    pub(crate) fn containing(&self, part: &str) -> Vec<u32> {
        if part.is_empty() {
            return (0..self.len as u32).collect();
        }
        let part = Finder::new(part);
        let blocks = (0..).step_by(BLOCK_TEXTS).zip(&self.blocks);
        blocks.flat_map(|(first, block)| block.containing(&part).map(move |at| first + at)).collect()
    }

    /// Gives back the room that growing left in a block that is full now.
    fn seal(&mut self) {
        if let Some(block) = self.blocks.last_mut().and_then(Arc::get_mut) {
            block.text.shrink_to_fit();
            block.ends.shrink_to_fit();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| block.text.capacity() + block.ends.capacity() * size_of::<u32>() + size_of::<Block>())
            .sum()
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
