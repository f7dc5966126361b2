//! Which ids a run names: the rows that occur, and ids that occur twice.

use std::hash::{BuildHasher, RandomState};

use rayon::prelude::*;
use twox_hash::XxHash3_64;

use super::Ids;
use crate::control::Control;
use crate::error::{Error, Result};

/// Entries or ids looked at between two looks at the control.
const BLOCK: usize = 1 << 16;

/// Rows for each entry from which on they are too many for a bit each.
const SPARSE: usize = 1 << 10;

/// The rows that occur, ascending, and for each entry its position among them; -1 for a negative entry.
///
/// O(entries + rows / 64) time, a bit and a half a row of memory, where `rows` is one past the largest row; where that
/// is far beyond the number of entries they are sorted instead.
pub fn vocabulary(entries: &[i64], control: &Control) -> Result<(Vec<i64>, Vec<i64>)> {
    let rows = entries.iter().max().map_or(0, |&row| row.saturating_add(1).max(0) as usize);
    if rows / SPARSE > entries.len().max(BLOCK) {
        return sorted(entries, control);
    }
    let mut words = vec![0_u64; rows.div_ceil(64)];
    for block in entries.chunks(BLOCK) {
        for &row in block.iter().filter(|row| **row >= 0) {
            words[row as usize / 64] |= 1 << (row % 64);
        }
        control.advance(0)?;
    }
    let (mut found, mut before) = (Vec::new(), Vec::with_capacity(words.len()));
    for (number, &word) in words.iter().enumerate() {
        before.push(found.len() as u32);
        let mut left = word;
        while left != 0 {
            found.push((number * 64) as i64 + i64::from(left.trailing_zeros()));
            left &= left - 1;
        }
    }
    if u32::try_from(found.len()).is_err() {
        return Err(Error::shape("indices", format!("at most {} different rows", u32::MAX), "more"));
    }
    let mut positions = vec![-1; entries.len()];
    positions.par_chunks_mut(BLOCK).zip(entries.par_chunks(BLOCK)).try_for_each(|(positions, entries)| {
        for (position, &row) in positions.iter_mut().zip(entries).filter(|(_, row)| **row >= 0) {
            let word = row as usize / 64;
            let lower = words[word] & ((1 << (row % 64)) - 1);
            *position = i64::from(before[word] + lower.count_ones());
        }
        control.advance(0)
    })?;
    Ok((found, positions))
}

/// The same by sorting.
fn sorted(entries: &[i64], control: &Control) -> Result<(Vec<i64>, Vec<i64>)> {
    let mut found: Vec<i64> = entries.iter().copied().filter(|row| *row >= 0).collect();
    found.par_sort_unstable();
    found.dedup();
    control.advance(0)?;
    let position = |row: &i64| found.binary_search(row).map_or(-1, |at| at as i64);
    let positions = entries.par_iter().map(position).collect();
    Ok((found, positions))
}

/// The first list and index that it has twice. List i is `indices[offsets[i]..offsets[i + 1]]`, of values below
/// `size`; the caller has checked both.
pub fn first_repeated_index(
    offsets: &[i64],
    indices: &[i64],
    size: usize,
    control: &Control,
) -> Result<Option<(usize, usize)>> {
    let lists = offsets.len().saturating_sub(1);
    let workers = rayon::current_num_threads().min(lists);
    let found: Vec<Option<(usize, usize)>> = (0..workers)
        .into_par_iter()
        .with_max_len(1)
        .map(|worker| {
            let mut last = vec![0_u32; size];
            for (turn, list) in (lists * worker / workers..lists * (worker + 1) / workers).enumerate() {
                // Turns wrap around after 2^32 - 1 lists.
                let mark = (turn % (u32::MAX as usize)) as u32 + 1;
                if turn > 0 && mark == 1 {
                    last.fill(0);
                }
                for &index in &indices[offsets[list] as usize..offsets[list + 1] as usize] {
                    if std::mem::replace(&mut last[index as usize], mark) == mark {
                        return Ok(Some((list, index as usize)));
                    }
                }
                control.advance(0)?;
            }
            Ok(None)
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().next())
}

/// The position of the first id that has occurred before.
///
/// Hashes find those that could: the hash of each id sets one bit of many, and only ids that meet at a bit are compared.
pub fn first_repeated_id(ids: &Ids, control: &Control) -> Result<Option<usize>> {
    let seed = RandomState::new().hash_one(0);
    let mut hashes = vec![0_u64; ids.len()];
    hashes.par_chunks_mut(BLOCK).enumerate().try_for_each(|(block, hashes)| {
        for (offset, hash) in hashes.iter_mut().enumerate() {
            *hash = XxHash3_64::oneshot_with_seed(seed, ids.bytes(block * BLOCK + offset));
        }
        control.advance(0)
    })?;
    let bits = (ids.len() * 16).next_power_of_two().max(64);
    let place = |hash: u64| {
        let bit = hash as usize & (bits - 1);
        (bit / 64, 1_u64 << (bit % 64))
    };
    let (mut once, mut twice) = (vec![0_u64; bits / 64], vec![0_u64; bits / 64]);
    let mut any = false;
    for &hash in &hashes {
        let (word, bit) = place(hash);
        twice[word] |= once[word] & bit;
        any |= once[word] & bit != 0;
        once[word] |= bit;
    }
    control.advance(0)?;
    if !any {
        return Ok(None);
    }
    let mut suspects: Vec<(u64, usize)> = hashes
        .iter()
        .enumerate()
        .filter(|&(_, &hash)| {
            let (word, bit) = place(hash);
            twice[word] & bit != 0
        })
        .map(|(position, &hash)| (hash, position))
        .collect();
    suspects.sort_unstable();
    let mut first = None;
    for group in suspects.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
        control.advance(0)?;
        // One hash is one id, but for freaks.
        let mut seen: Vec<&[u8]> = Vec::new();
        for &(_, position) in group {
            let id = ids.bytes(position);
            if seen.contains(&id) {
                first = Some(first.map_or(position, |first: usize| first.min(position)));
                break;
            }
            seen.push(id);
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_far_apart_take_no_memory() {
        let entries = [i64::MAX, 5, -1, 1 << 60, i64::MAX, i64::MIN];
        let expected = (vec![5, 1 << 60, i64::MAX], vec![2, 0, -1, 1, 2, -1]);
        assert_eq!(vocabulary(&entries, &Control::new()).unwrap(), expected);
        assert_eq!(vocabulary(&[], &Control::new()).unwrap(), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn a_vocabulary_is_the_sorted_set(entries in proptest::collection::vec(-3_i64..400, 0..500)) {
            let (found, positions) = vocabulary(&entries, &Control::new()).unwrap();
            prop_assert_eq!(&(found.clone(), positions.clone()), &sorted(&entries, &Control::new()).unwrap());
            let mut rows: Vec<i64> = entries.iter().copied().filter(|row| *row >= 0).collect();
            rows.sort_unstable();
            rows.dedup();
            prop_assert_eq!(&found, &rows);
            for (&row, position) in entries.iter().zip(positions) {
                prop_assert_eq!(position, rows.binary_search(&row).map_or(-1, |at| at as i64));
            }
        }

        #[test]
        fn repeated_indices_are_those_of_a_set(
            lists in proptest::collection::vec(proptest::collection::vec(0_i64..60, 0..8), 0..40),
        ) {
            let ends = lists.iter().scan(0, |end, list| {
                *end += list.len() as i64;
                Some(*end)
            });
            let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
            let expected = lists.iter().enumerate().find_map(|(number, list)| {
                let mut seen = HashSet::new();
                list.iter().find(|index| !seen.insert(**index)).map(|index| (number, *index as usize))
            });
            let found = first_repeated_index(&offsets, &lists.concat(), 60, &Control::new()).unwrap();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn repeated_ids_are_those_of_a_set(names in proptest::collection::vec("[a-f]{1,4}", 0..60)) {
            let mut ids = Ids::default();
            names.iter().for_each(|name| ids.push(name).unwrap());
            let mut seen = HashSet::new();
            let expected = names.iter().position(|name| !seen.insert(name));
            prop_assert_eq!(first_repeated_id(&ids, &Control::new()).unwrap(), expected);
        }
    }
}
