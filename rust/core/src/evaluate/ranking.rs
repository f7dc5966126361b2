//! One ranked list in which some results are positives, each in some groups.

use std::cmp::Ordering;

use crate::error::{Error, Result};

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
pub fn order(what: &str, row: usize, scores: &[f64]) -> Result<Option<Vec<u32>>> {
    if let Some(column) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::NonFinite { what: what.into(), row, column, value: scores[column] as f32 });
    }
    if scores.is_sorted_by(|a, b| a >= b) {
        return Ok(None);
    }
    let count = u32::try_from(scores.len())
        .map_err(|_| Error::shape(what, format!("at most {} results", u32::MAX), scores.len().to_string()))?;
    let mut order: Vec<u32> = (0..count).collect();
    // The sort is stable, and finite numbers always compare.
    order.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap_or(Ordering::Equal));
    Ok(Some(order))
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
