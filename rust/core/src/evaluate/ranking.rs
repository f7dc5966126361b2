//! One ranked list in which some results are positives, each in some groups.

use std::cmp::Ordering;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::sorting::sort;

/// A positive of the list.
#[derive(Clone, Copy, Debug)]
pub struct Positive {
    /// Its position in rank order.
    pub rank: usize,
    /// Bit g is set if it belongs to group g.
    pub groups: u32,
}

/// The order by score descending, equal scores by position; `None` if the list is in it already.
///
/// An error names the first score that is not finite; `row` is the query it is reported for.
pub fn order(what: &str, row: usize, scores: &[f64], control: &Control) -> Result<Option<Vec<u32>>> {
    if let Some(column) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::NonFinite { what: what.into(), row, column, value: scores[column] as f32 });
    }
    if scores.is_sorted_by(|a, b| a >= b) {
        return Ok(None);
    }
    let count = u32::try_from(scores.len())
        .map_err(|_| Error::shape(what, format!("at most {} results", u32::MAX), scores.len().to_string()))?;
    // The scores along with their positions: a sort of positions alone would look them up here and there.
    let mut keyed: Vec<(u64, u32)> = scores.iter().map(|&score| descending(score)).zip(0..count).collect();
    sort(&mut keyed, control)?;
    Ok(Some(keyed.into_iter().map(|(_, position)| position).collect()))
}

/// A number that rises as a finite score falls; the same for 0 and -0.
fn descending(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 0 { !bits ^ 1 << 63 } else { bits }
}

/// A list in rank order, reduced to what average precision depends on.
pub struct Ranking<'a> {
    /// The score at a rank.
    pub score: &'a dyn Fn(usize) -> f64,
    /// Number of results.
    pub length: usize,
    /// The positives, by rank.
    pub positives: &'a [Positive],
}

/// What a list holds for one group: AP@k and the positives inside the cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// AP@k in [0, 1].
    pub ap: f64,
    /// Positives among the first k results.
    pub found: usize,
}

impl Ranking<'_> {
    /// AP@k where only the positives of `group` (a mask of one bit, or all bits) count and the other
    /// positives are removed from the list before it is cut.
    ///
    /// Time grows with the number of positives and the lengths of their blocks of equal scores.
    pub fn outcome(&self, group: u32, positives: usize, k: usize) -> Outcome {
        let (mut sum, mut found, mut removed) = (0.0, 0, 0);
        let mut next = 0;
        while next < self.positives.len() {
            let (begin, end) = self.block(self.positives[next].rank);
            let before = begin - removed;
            if before >= k {
                break;
            }
            let (mut block_removed, mut block_found) = (0, 0);
            while let Some(positive) = self.positives.get(next).filter(|positive| positive.rank < end) {
                if positive.groups & group == 0 {
                    block_removed += 1;
                } else if before + (positive.rank - begin) - block_removed < k {
                    block_found += 1;
                }
                next += 1;
            }
            removed += block_removed;
            found += block_found;
            let seen = k.min(end - removed);
            if block_found > 0 {
                sum += (block_found * found) as f64 / seen as f64;
            }
        }
        let ap = if found == 0 { 0.0 } else { sum / k.min(positives) as f64 };
        Outcome { ap, found }
    }

    /// The ranks `begin..end` that have the same score as `rank`.
    fn block(&self, rank: usize) -> (usize, usize) {
        let score = (self.score)(rank);
        // Finite numbers always compare, and 0 equals -0.
        let same = |other: &usize| (self.score)(*other).partial_cmp(&score) == Some(Ordering::Equal);
        let begin = (0..rank).rev().take_while(same).last().unwrap_or(rank);
        let end = (rank + 1..self.length).take_while(same).last().unwrap_or(rank) + 1;
        (begin, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_fall_as_scores_rise() {
        let rising = [f64::MIN, -1.0, -f64::MIN_POSITIVE, -5e-324, 0.0, 5e-324, 1e-300, 1.0, f64::MAX];
        assert!(rising.windows(2).all(|pair| descending(pair[0]) > descending(pair[1])));
        assert_eq!(descending(-0.0), descending(0.0));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort(scores in prop::collection::vec(
            prop_oneof![any::<f64>(), (-2_i8..3).prop_map(f64::from), Just(-0.0)], 0..60,
        )) {
            let scores: Vec<f64> = scores.into_iter().filter(|score| score.is_finite()).collect();
            let mut expected: Vec<u32> = (0..scores.len() as u32).collect();
            let score = |position: u32| scores[position as usize];
            expected.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap());
            let sorted = expected.iter().copied().eq(0..scores.len() as u32);
            let found = order("scores", 0, &scores, &Control::new()).unwrap();
            prop_assert_eq!(found, (!sorted).then_some(expected));
        }
    }
}
