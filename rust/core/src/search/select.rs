//! The candidates of one query: a bounded buffer that never loses one of the best k.
//!
//! The total order is (score descending, row ascending) on canonical scores. A candidate is known by bounds of
//! its canonical score; the threshold is the k-th largest lower bound seen, and whatever has an upper bound
//! below it is beaten by k others. If too many candidates are too close to be told apart, their canonical
//! scores are computed and the best k kept.

use std::cmp::Ordering;

/// A row whose canonical score lies in `[lower, upper]`; it is known if the two are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Lower bound of the canonical score.
    pub lower: f32,
    /// Upper bound of the canonical score.
    pub upper: f32,
    /// The database row.
    pub row: usize,
}

impl Candidate {
    /// Replaces the bounds by the canonical score.
    pub fn settle(&mut self, score: impl FnOnce(usize) -> f32) {
        if self.lower.to_bits() != self.upper.to_bits() || self.lower == 0.0 {
            self.lower = score(self.row);
            self.upper = self.lower;
        }
    }

    /// Best first, for settled candidates.
    pub fn order(&self, other: &Self) -> Ordering {
        other.lower.total_cmp(&self.lower).then(self.row.cmp(&other.row))
    }
}

/// The candidates for the best `k` rows.
#[derive(Debug)]
pub struct Candidates {
    k: usize,
    entries: Vec<Candidate>,
    threshold: f32,
}

impl Candidates {
    /// Room for `k` (at least 1) and as many again. Rows behind `floor` are not wanted.
    pub fn new(k: usize, floor: Rank) -> Self {
        let threshold = if floor == Rank::LAST { f32::NEG_INFINITY } else { floor.score() };
        Self { k, entries: Vec::new(), threshold }
    }

    /// Entries held at most, for `k`.
    pub const fn capacity(k: usize) -> usize {
        2 * k + 256
    }

    /// Rows whose canonical score is below this are not among the best k.
    pub const fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Adds a row; true if the threshold rose. `score` computes the canonical score of a row.
    pub fn push(&mut self, candidate: Candidate, score: impl FnMut(usize) -> f32) -> bool {
        if candidate.upper < self.threshold {
            return false;
        }
        self.entries.push(candidate);
        self.entries.len() >= Self::capacity(self.k) && self.compact(score)
    }

    /// Adds the candidates of another part of the database.
    pub fn merge(&mut self, other: Self) {
        self.threshold = self.threshold.max(other.threshold);
        self.entries.extend(other.entries);
    }

    fn compact(&mut self, mut score: impl FnMut(usize) -> f32) -> bool {
        let before = self.threshold;
        self.prune();
        if self.entries.len() > self.k + self.k / 2 + 128 {
            for entry in &mut self.entries {
                entry.settle(&mut score);
            }
            self.entries.select_nth_unstable_by(self.k - 1, Candidate::order);
            self.threshold = self.threshold.max(self.entries[self.k - 1].lower);
            self.entries.truncate(self.k);
        }
        self.threshold > before
    }

    /// Raises the threshold to the k-th largest lower bound and drops what lies below it.
    fn prune(&mut self) {
        if self.entries.len() > self.k {
            let (_, least, _) =
                self.entries.select_nth_unstable_by(self.k - 1, |a, b| b.lower.total_cmp(&a.lower));
            self.threshold = self.threshold.max(least.lower);
        }
        let threshold = self.threshold;
        self.entries.retain(|entry| entry.upper >= threshold);
    }

    /// The candidates that are left, in the order of their rows.
    pub fn finish(mut self) -> Vec<Candidate> {
        self.prune();
        self.entries.sort_unstable_by_key(|entry| entry.row);
        self.entries
    }
}

/// The place of a canonical score in the order of the results: the smaller, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u32);

impl Rank {
    /// Behind every score.
    pub const LAST: Self = Self(u32::MAX);

    /// Of a score that is not NaN.
    pub fn of(score: f32) -> Self {
        let bits = score.to_bits();
        Self(if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits })
    }

    /// The score; NaN for [`Self::LAST`].
    pub fn score(self) -> f32 {
        f32::from_bits(if self.0 >> 31 == 0 { !self.0 & !(1 << 31) } else { self.0 })
    }
}

/// The best rows of a query, best first.
pub type Ranked = Vec<(Rank, usize)>;

/// The best k rows by canonical score, of which a bounded number of others is kept for a while.
#[derive(Debug)]
pub struct Best {
    k: usize,
    /// Ranks and rows; none is behind the threshold.
    entries: Vec<(Rank, usize)>,
    threshold: Rank,
    /// Whether rows were dropped on trust while the search went on.
    guessed: bool,
}

impl Best {
    /// Rows behind `start` are dropped on trust.
    pub const fn new(k: usize, start: Rank) -> Self {
        Self { k, entries: Vec::new(), threshold: start, guessed: false }
    }

    /// Rows behind this are not among the best k.
    pub const fn threshold(&self) -> Rank {
        self.threshold
    }

    /// Adds rows.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = (Rank, usize)>) {
        for entry in rows {
            if entry.0 <= self.threshold {
                self.entries.push(entry);
                if self.entries.len() >= Candidates::capacity(self.k) {
                    self.compact();
                }
            }
        }
        // Earlier than need be: the threshold is what makes the screen fast.
        if self.entries.len() > self.k + self.k / 4 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        if self.entries.len() >= self.k {
            let (_, &mut (rank, _), _) = self.entries.select_nth_unstable(self.k - 1);
            self.threshold = rank;
            self.entries.truncate(self.k);
        }
    }

    /// Drops rows behind the `count`-th of those that were added, on trust, but none that is not behind `ceiling`.
    pub fn guess(&mut self, count: usize, ceiling: Rank) {
        if (1..self.entries.len()).contains(&count) {
            let rank = self.entries.select_nth_unstable(count - 1).1.0.max(ceiling);
            if rank < self.threshold {
                self.threshold = rank;
                self.entries.retain(|entry| entry.0 <= rank);
                self.guessed = true;
            }
        }
    }

    /// Whether k rows are not behind what was trusted, so that dropping all others was right.
    pub const fn is_complete(&self) -> bool {
        self.entries.len() >= self.k
    }

    /// Whether [`Self::guess`] dropped rows.
    pub const fn has_guessed(&self) -> bool {
        self.guessed
    }

    /// The best k rows, best first.
    pub fn finish(mut self) -> Ranked {
        self.compact();
        self.entries.sort_unstable();
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn best(scores: &[f32], k: usize) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..scores.len()).collect();
        rows.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        rows.truncate(k);
        rows
    }

    #[test]
    fn ranks_are_ordered_as_scores() {
        let scores =
            [f32::INFINITY, f32::MAX, 1.0, f32::MIN_POSITIVE, 1e-45, 0.0, -1e-45, -1.0, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| Rank::of(pair[0]) < Rank::of(pair[1])));
        assert!(scores.iter().all(|&score| Rank::of(score).score().to_bits() == score.to_bits()));
        assert!(Rank::of(f32::NEG_INFINITY) < Rank::LAST && Rank::LAST.score().is_nan());
    }

    proptest! {
        #[test]
        fn best_are_the_best(
            scores in prop::collection::vec(0_u8..40, 0..3000), k in 1_usize..400, start in 0_u8..60, part in 1_usize..500,
            guesses in prop::collection::vec((0_usize..600, 0_u8..60), 0..4),
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let start = if start < 40 { Rank::of(f32::from(start)) } else { Rank::LAST };
            let (mut found, mut trusted) = (Best::new(k, start), start);
            for (part, rows) in (0..scores.len()).collect::<Vec<_>>().chunks(part).rev().enumerate() {
                found.extend(rows.iter().map(|&row| (Rank::of(scores[row]), row)));
                if let Some(&(count, ceiling)) = guesses.get(part) {
                    let (before, ceiling) = (found.threshold(), Rank::of(f32::from(ceiling)));
                    let had = found.has_guessed();
                    found.guess(count, ceiling);
                    prop_assert!(found.threshold() <= before);
                    if found.threshold() < before {
                        prop_assert!(found.has_guessed() && ceiling <= found.threshold());
                        trusted = found.threshold();
                    } else {
                        prop_assert_eq!(found.has_guessed(), had);
                    }
                }
            }
            let enough = scores.iter().filter(|&&score| Rank::of(score) <= trusted).count() >= k;
            prop_assert_eq!(found.is_complete(), enough);
            if enough {
                let rows: Vec<usize> = found.finish().into_iter().map(|entry| entry.1).collect();
                prop_assert_eq!(rows, best(&scores, k));
            }
        }

        #[test]
        fn keeps_the_best_whatever_the_bounds(
            scores in prop::collection::vec(0_u8..40, 1..3000),
            widths in prop::collection::vec(0_u8..4, 1..9),
            k in 1_usize..400,
            parts in 1_usize..4,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut lanes: Vec<Candidates> = (0..parts).map(|_| Candidates::new(k, Rank::LAST)).collect();
            for (row, &score) in scores.iter().enumerate() {
                let width = f32::from(widths[row % widths.len()]);
                let candidate = Candidate { lower: score - width, upper: score + width, row };
                let lane = &mut lanes[row * parts / scores.len()];
                lane.push(candidate, |row| scores[row]);
                prop_assert!(lane.entries.len() < Candidates::capacity(k));
            }
            let mut all = lanes.pop().unwrap();
            for lane in lanes { all.merge(lane); }
            let mut left = all.finish();
            for entry in &mut left { entry.settle(|row| scores[row]); }
            left.sort_by(Candidate::order);
            let rows: Vec<usize> = left.iter().take(k).map(|entry| entry.row).collect();
            prop_assert_eq!(rows, best(&scores, k));
        }
    }
}
