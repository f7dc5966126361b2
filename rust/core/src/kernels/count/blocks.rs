//! What the vector levels share: blocks of scores, and groups of limits that are looked at together.
#![expect(
    clippy::inline_always,
    reason = "what is called has the features of the function it is called from"
)]

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::{BLOCK, scalar};

/// For each of `N` limits, the scores above it and those of at least its lower end.
pub type Counts<const N: usize> = [[u64; 2]; N];

/// The extremes of scores nobody looked at.
const EVERYTHING: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// [`super::Count::above`] for registers of `LANES` scores and up to `GROUP` limits at a time.
///
/// `extremes` finds the smallest and the largest score of a block, `count` the scores above each of a group of limits, of
/// which it gets the number; both tell whether all scores are finite, and get whole registers.
#[inline(always)]
pub fn in_blocks<const LANES: usize, const GROUP: usize>(
    scores: &[f32],
    limits: &[[f32; 2]],
    counts: &mut [[u64; 2]],
    extremes: impl Fn(&[f32]) -> ([f32; 2], bool),
    count: impl Fn(&[f32], [[f32; 2]; GROUP], usize) -> (Counts<GROUP>, bool),
) -> bool {
    let (body, tail) = scores.split_at(scores.len() / LANES * LANES);
    let mut finite = scalar::above(tail, limits, counts);
    let together = (1..=GROUP).contains(&limits.len());
    for block in body.chunks(BLOCK) {
        let (range, good) = if together { (EVERYTHING, true) } else { extremes(block) };
        let count = |group, filled| count(block, group, filled);
        finite &= good & in_groups(block.len(), range, limits, counts, count);
    }
    finite
}

/// Asks for what lies a block behind `part`: while one block is compared, the next is on its way.
#[inline(always)]
pub fn fetch_ahead(part: &[f32]) {
    // SAFETY: a hint, which no address makes fail: it may point behind the scores. SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(BLOCK).cast()) };
}

/// Counts a block of `length` scores between `low` and `high` for all limits: those that have all the scores on
/// one side at once, the others by `count`, which gets up to `GROUP` and their number. Returns whether all scores
/// that `count` looked at are finite.
#[inline(always)]
fn in_groups<const GROUP: usize>(
    length: usize,
    [low, high]: [f32; 2],
    limits: &[[f32; 2]],
    counts: &mut [[u64; 2]],
    count: impl Fn([[f32; 2]; GROUP], usize) -> (Counts<GROUP>, bool),
) -> bool {
    let (mut group, mut places, mut filled) = ([[0.0; 2]; GROUP], [0; GROUP], 0);
    let mut finite = true;
    for place in 0..=limits.len() {
        if filled == GROUP || place == limits.len() && filled > 0 {
            let (all, good) = count(group, filled);
            finite &= good;
            for (&place, found) in places[..filled].iter().zip(all) {
                counts[place][0] += found[0];
                counts[place][1] += found[1];
            }
            filled = 0;
        }
        let Some(&limit) = limits.get(place) else { break };
        if low > limit[1] {
            counts[place][0] += length as u64;
            counts[place][1] += length as u64;
        } else if high >= limit[0] {
            (group[filled], places[filled]) = (limit, place);
            filled += 1;
        }
    }
    finite
}

/// The first `N` of a group, and their counts in a whole one.
#[inline(always)]
pub fn first<const N: usize, const GROUP: usize>(
    group: [[f32; 2]; GROUP],
    count: impl Fn([[f32; 2]; N]) -> (Counts<N>, bool),
) -> (Counts<GROUP>, bool) {
    let (mut some, mut all) = ([[0.0; 2]; N], [[0; 2]; GROUP]);
    some.copy_from_slice(&group[..N]);
    let (counts, finite) = count(some);
    all[..N].copy_from_slice(&counts);
    (all, finite)
}
