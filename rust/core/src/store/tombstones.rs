//! Which rows of a shard are deleted.

use std::fmt::Write as _;
use std::ops::Range;

/// Deleted rows of a shard, as runs that ascend and do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tombstones {
    runs: Vec<Range<u32>>,
    rows: usize,
}

impl Tombstones {
    /// Of a list `[first, count, first, count, ...]` in a shard of `rows` rows.
    pub fn check(list: &[u32], rows: usize) -> Result<Self, String> {
        let (pairs, rest) = list.as_chunks::<2>();
        let mut runs: Vec<Range<u32>> = Vec::with_capacity(pairs.len());
        for &[first, count] in pairs {
            let end = first.checked_add(count).filter(|end| count > 0 && *end as usize <= rows);
            let apart = runs.last().is_none_or(|last| last.end < first);
            match end {
                Some(end) if apart => runs.push(first..end),
                _ => {
                    return Err(format!(
                        "deleted: expected rising runs below {rows}, found {first}, {count}"
                    ));
                }
            }
        }
        if !rest.is_empty() {
            return Err("deleted: expected pairs of a row and a count, found an odd list".to_owned());
        }
        Ok(Self::of_runs(runs))
    }

    fn of_runs(runs: Vec<Range<u32>>) -> Self {
        let rows = runs.iter().map(ExactSizeIterator::len).sum();
        Self { runs, rows }
    }

    /// Number of deleted rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a row is deleted. O(log runs).
    pub fn contains(&self, row: usize) -> bool {
        let after = self.runs.partition_point(|run| run.start as usize <= row);
        after > 0 && row < self.runs[after - 1].end as usize
    }

    /// The rows of a shard of `rows` rows that are not deleted.
    pub fn live(&self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|run| run.end as usize));
        let ends = self.runs.iter().map(|run| run.start as usize).chain(std::iter::once(rows));
        starts.zip(ends).map(|(start, end)| start..end).filter(|run| !run.is_empty())
    }

    /// These and more rows, which ascend.
    pub fn with(&self, more: &[u32]) -> Self {
        let mut all: Vec<Range<u32>> = self.runs.clone();
        all.extend(more.iter().map(|row| *row..row + 1));
        all.sort_unstable_by_key(|run| run.start);
        let mut runs: Vec<Range<u32>> = Vec::new();
        for run in all {
            match runs.last_mut() {
                Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
                _ => runs.push(run),
            }
        }
        Self::of_runs(runs)
    }

    /// Writes the key of the manifest, if anything is deleted.
    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        for (index, run) in self.runs.iter().enumerate() {
            text.push_str(if index == 0 { ",\"deleted\":[" } else { "," });
            write!(text, "{},{}", run.start, run.len())?;
        }
        text.push_str(if self.runs.is_empty() { "" } else { "]" });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(batches in prop::collection::vec(prop::collection::btree_set(0_u32..40, 0..9), 0..6)) {
            let (mut found, mut expected) = (Tombstones::default(), BTreeSet::new());
            for batch in batches {
                found = found.with(&batch.iter().copied().collect::<Vec<_>>());
                expected.extend(batch);
            }
            prop_assert_eq!(found.rows(), expected.len());
            let live: Vec<usize> = found.live(40).flatten().collect();
            let left: Vec<usize> = (0..40).filter(|row| !expected.contains(&(*row as u32))).collect();
            prop_assert_eq!(&live, &left);
            prop_assert!((0..40).all(|row| found.contains(row) == expected.contains(&(row as u32))));
            let mut text = String::new();
            found.write(&mut text).unwrap();
            let list: Vec<u32> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
            prop_assert_eq!(Tombstones::check(&list, 40).unwrap(), found);
        }
    }

    #[test]
    fn lists_that_lie() {
        for list in
            [&[0, 0][..], &[3, 1, 4, 1], &[5, 1, 2, 1], &[39, 2], &[u32::MAX, u32::MAX], &[1], &[40, 1]]
        {
            assert!(Tombstones::check(list, 40).is_err(), "{list:?}");
        }
    }
}
