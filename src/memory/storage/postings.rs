//! Posting lists: the rows of each code, for columns that are never updated.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::row_set::RowSet;

/// A list with this many rows is converted to a set, whose bitmaps are smaller and faster from this length on, also if
/// the rows are scattered over many windows.
const SET_FROM: usize = 2048;

/// Ascending rows. Most annotation values have few rows, for which a set would be larger.
#[derive(Debug, Clone, Default)]
pub(crate) enum PostingList {
    #[default]
    None,
    One(u32),
    Few(Arc<Vec<u32>>),
    Many(Arc<RowSet>),
}

impl PostingList {
    /// Adds a row, if it is not in the list.
    pub(crate) fn insert(&mut self, row: u32) {
        match self {
            Self::None => *self = Self::One(row),
            Self::One(only) if *only == row => {}
            Self::One(only) => *self = Self::Few(Arc::new(vec![row.min(*only), row.max(*only)])),
            Self::Few(rows) => {
                // Rows are usually appended.
                let at = if rows.last().is_some_and(|&last| last < row) {
                    Err(rows.len())
                } else {
                    rows.binary_search(&row)
                };
                match at {
                    Ok(_) => {}
                    Err(at) if rows.len() < SET_FROM => Arc::make_mut(rows).insert(at, row),
                    Err(_) => {
                        let mut set: RowSet = rows.iter().copied().collect();
                        set.insert(row);
                        *self = Self::Many(Arc::new(set));
                    }
                }
            }
            Self::Many(set) => Arc::make_mut(set).insert(row),
        }
    }

    fn insert_run(&mut self, rows: Range<u32>) {
        match self {
            Self::Many(set) => Arc::make_mut(set).insert_range(rows),
            few => rows.for_each(|row| few.insert(row)),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Few(rows) => rows.len() as u64,
            Self::Many(set) => set.len(),
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::One(row) => Box::new(std::iter::once(*row)),
            Self::Few(rows) => Box::new(rows.iter().copied()),
            Self::Many(set) => Box::new(set.iter()),
        }
    }

    /// Reads the first rows that are not less than `from`.
    pub(crate) fn read<'b>(&self, from: u32, buffer: &'b mut [u32]) -> &'b [u32] {
        let few = match self {
            Self::Many(set) => return set.read(from, buffer),
            few => few.as_slice(),
        };
        let rows = &few[few.partition_point(|&row| row < from)..];
        let len = rows.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rows[..len]);
        &buffer[..len]
    }

    /// The rows of a list that is not a set.
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::None | Self::Many(_) => &[],
            Self::One(row) => std::slice::from_ref(row),
            Self::Few(rows) => rows,
        }
    }

    /// Removes the rows that are not in the list from a bitmap, which has rows of one window.
    pub(crate) fn restrict(&self, rows: &mut RoaringBitmap) {
        match self {
            Self::Many(set) => set.restrict(rows),
            few => *rows &= few.as_slice().iter().copied().collect::<RoaringBitmap>(),
        }
    }

    pub(crate) fn insert_into(&self, set: &mut RowSet) {
        match self {
            Self::Many(rows) => set.insert_all(rows),
            few => few.as_slice().iter().for_each(|&row| set.insert(row)),
        }
    }

    pub(crate) fn remove_from(&self, set: &mut RowSet) {
        match self {
            Self::Many(rows) => set.remove_all(rows),
            few => few.as_slice().iter().for_each(|&row| set.remove(row)),
        }
    }

    /// The union of lists.
    pub(crate) fn union(lists: Vec<Self>) -> RowSet {
        // Inserting ascending rows is many times faster than inserting rows in random order.
        let mut few: Vec<u32> = lists.iter().flat_map(Self::as_slice).copied().collect();
        few.sort();
        few.dedup();
        let few: RowSet = few.into_iter().collect();
        let many = lists.iter().filter_map(|list| if let Self::Many(set) = list { Some(&**set) } else { None });
        RowSet::union(many.chain(Some(&few).filter(|few| few.len() > 0)))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        const ARC: usize = 2 * size_of::<usize>();
        match self {
            Self::None | Self::One(_) => 0,
            Self::Few(rows) => ARC + size_of::<Vec<u32>>() + rows.capacity() * size_of::<u32>(),
            Self::Many(set) => ARC + size_of::<RowSet>() + set.heap_bytes(),
        }
    }
}

/// The number of lists in a block.
const BLOCK: usize = 1024;

/// A posting list per code, in blocks, so that the addition of a code moves few lists.
#[derive(Debug, Default)]
pub(crate) struct Postings(Vec<Vec<PostingList>>);

impl Postings {
    /// Appends rows to the lists of their codes. The rows are ascending and greater than all earlier ones.
    pub(crate) fn post(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        let mut rows = rows.peekable();
        while let Some((code, first)) = rows.next() {
            let mut run = first..first + 1;
            while rows.next_if_eq(&(code, run.end)).is_some() {
                run.end += 1;
            }
            let list = self.list_mut(code);
            if run.len() == 1 { list.insert(first) } else { list.insert_run(run) }
        }
    }

    fn list_mut(&mut self, code: u32) -> &mut PostingList {
        let (block, at) = (code as usize / BLOCK, code as usize % BLOCK);
        if block >= self.0.len() {
            self.0.resize_with(block + 1, Vec::new);
        }
        let lists = &mut self.0[block];
        if at >= lists.len() {
            lists.resize(at + 1, PostingList::None);
        }
        &mut lists[at]
    }

    fn get(&self, code: u32) -> Option<&PostingList> {
        self.0.get(code as usize / BLOCK)?.get(code as usize % BLOCK)
    }

    pub(crate) fn list(&self, code: u32) -> PostingList {
        self.get(code).cloned().unwrap_or_default()
    }

    /// The lists of several codes. Codes without an entry are omitted.
    pub(crate) fn lists(&self, codes: &[u32]) -> Vec<PostingList> {
        codes.iter().filter_map(|&code| self.get(code)).cloned().collect()
    }

    pub(crate) fn list_len(&self, code: u32) -> u64 {
        self.get(code).map_or(0, PostingList::len)
    }

    /// The size of a block of lists, in bytes.
    pub(crate) fn block_bytes(&self, block: usize) -> Option<usize> {
        let lists = self.0.get(block)?;
        let heap = lists.iter().map(PostingList::heap_bytes).sum::<usize>();
        Some(size_of::<Vec<PostingList>>() + lists.capacity() * size_of::<PostingList>() + heap)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (0..).map_while(|block| self.block_bytes(block)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_ascending_and_distinct_for_any_insertion_order() {
        for len in [1, 2, 10, 5000u32] {
            let mut list = PostingList::default();
            for at in (0..len).chain(0..len) {
                list.insert(at * 7919 % len);
            }
            assert!(list.iter().eq(0..len));
        }
    }

    #[test]
    fn the_lists_of_codes_are_in_the_order_of_the_codes() {
        let mut postings = Postings::default();
        postings.post([(3, 0), (0, 1), (3, 2)].into_iter().chain((10..1000).map(|row| (1, row))));
        let lists = postings.lists(&[1, 9, 3, 2, 0]);
        let rows: Vec<Vec<u32>> = lists.iter().map(|list| list.iter().collect()).collect();
        assert_eq!(rows, [(10..1000).collect(), vec![0, 2], vec![], vec![1]]);
    }

    #[test]
    fn rows_are_read_from_any_row_on() {
        for len in [0, 1, 2, 100, 3000u32] {
            let mut list = PostingList::default();
            (0..len).for_each(|at| list.insert(at * 3));
            for from in [0, 1, 3, 150, 8997, 8998] {
                let expected: Vec<u32> = (0..len).map(|at| at * 3).filter(|&row| row >= from).take(7).collect();
                assert_eq!(list.read(from, &mut [0; 7]), expected, "{len} {from}");
            }
        }
    }

    #[test]
    fn the_rows_of_any_list_are_inserted_into_a_set_and_removed() {
        // No rows, one, some, and a set with an empty window and a whole one.
        let whole = (2 << 16)..(3 << 16);
        for rows in [vec![], vec![70_000], vec![5, 70_000, 200_000], (0..300).chain(whole).collect::<Vec<u32>>()] {
            let mut postings = Postings::default();
            postings.post(rows.iter().map(|&row| (0, row)));
            let (list, mut set) = (postings.list(0), RowSet::default());
            set.insert(7);
            let before = set.clone();
            list.insert_into(&mut set);
            let expected: std::collections::BTreeSet<u32> = rows.iter().copied().chain([7]).collect();
            assert!(set.iter().eq(expected.iter().copied()));
            assert_eq!(set.len(), expected.len() as u64);
            list.remove_from(&mut set);
            let left: Vec<u32> = expected.into_iter().filter(|row| !rows.contains(row)).collect();
            assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (left.clone(), left.len() as u64));
            assert_eq!(before.iter().collect::<Vec<_>>(), [7]);
        }
    }

    #[test]
    fn a_list_grows_to_a_set() {
        let mut postings = Postings::default();
        for row in 0..3000 {
            postings.post([(3, row * 7)].into_iter());
            let list = postings.list(3);
            assert_eq!(list.len(), u64::from(row) + 1);
            assert_eq!(list.read(row * 7, &mut [0; 2]), [row * 7]);
        }
        assert!(matches!(postings.list(3), PostingList::Many(_)));
        assert_eq!(postings.list(0).len(), 0);
        assert_eq!(postings.list(99).len(), 0);
    }

    #[test]
    fn a_union_has_the_rows_of_all_lists() {
        let mut postings = Postings::default();
        postings.post((0..9000).map(|row| (row % 3, row)).chain([(3, 9000), (4, 9001), (4, 70_000)]));
        let union = |codes: &[u32]| PostingList::union(postings.lists(codes)).iter().collect::<Vec<_>>();
        assert!(union(&[]).is_empty());
        assert_eq!(union(&[4, 3]), [9000, 9001, 70_000]);
        assert_eq!(union(&[2]), (2..9000).step_by(3).collect::<Vec<_>>());
        assert_eq!(union(&[2, 4, 0, 1, 3]), (0..9002).chain([70_000]).collect::<Vec<_>>());
    }

    #[test]
    fn consecutive_rows_are_added_as_a_range() {
        let mut postings = Postings::default();
        // Runs of 1, 2, 40 and 400 rows of code 0, separated by rows of codes 1 and 2.
        let mut rows = Vec::new();
        for (cut, len) in [(1, 1), (2, 2), (1, 40), (2, 400), (1, 0)] {
            rows.extend(std::iter::repeat_n(0, len).chain([cut]));
        }
        let numbered = || rows.iter().copied().zip(7..);
        postings.post(numbered());
        for code in [0, 1] {
            let expected: Vec<u32> = numbered().filter(|&(of, _)| of == code).map(|(_, row)| row).collect();
            assert_eq!(postings.list(code).iter().collect::<Vec<_>>(), expected);
        }
    }
}
