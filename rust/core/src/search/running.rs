//! A search that goes on: parts of a database, one after the other, against the same queries.

use super::database::{Database, Matrix};
use super::element::Element;
use super::select::{Rank, Ranked};
use super::topk::{Screen, TopK, checked, ranked};
use crate::control::Control;
use crate::error::{Error, Result};

/// The best k rows of each query among the rows added so far, numbered from the first row of the first part.
///
/// The answer is that of one search over all parts. What is known already makes the later parts cheap: only rows
/// that beat the k-th best are looked at closely. Memory: O(queries (d + k)).
#[derive(Debug, Clone)]
pub struct Running {
    columns: usize,
    queries: Vec<f32>,
    k: usize,
    best: Vec<Ranked>,
    /// Rows of all parts, and how many of them were selected.
    rows: usize,
    searched: usize,
}

impl Running {
    /// Before the first part.
    ///
    /// # Errors
    /// [`Error::Parameter`] for `k = 0`.
    pub fn new(queries: Matrix<'_, f32>, k: usize) -> Result<Self> {
        Ok(Self {
            columns: queries.columns(),
            queries: queries.slice(0..queries.rows()).to_vec(),
            k: checked(queries, queries.columns(), k)?,
            best: vec![Ranked::new(); queries.rows()],
            rows: 0,
            searched: 0,
        })
    }

    /// After parts of `rows` rows, in which `found` was found; so many of a query as there are best rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more than k a query, not as many for each, or rows that are none of those.
    pub fn resume(mut self, rows: usize, found: &TopK) -> Result<Self> {
        let (k, queries) = (found.k, self.best.len());
        let fits = k <= self.k.min(rows)
            && found.scores.len() == queries * k
            && found.indices.len() == queries * k
            && found.indices.iter().all(|&row| usize::try_from(row).is_ok_and(|row| row < rows))
            && !found.scores.iter().any(|score| score.is_nan());
        if !fits {
            let expected = format!("at most {} rows of {rows} for each of {queries} queries", self.k);
            return Err(Error::shape("state", expected, format!("{} scores", found.scores.len())));
        }
        for (query, best) in self.best.iter_mut().enumerate() {
            let entries = query * k..query * k + k;
            let scores = found.scores[entries.clone()].iter();
            *best = scores
                .zip(&found.indices[entries])
                .map(|(&score, &row)| (Rank::of(score), row as usize))
                .collect();
            best.sort_unstable();
        }
        // Fewer than k are all there were.
        (self.rows, self.searched) = (rows, k);
        Ok(self)
    }

    /// Searches the next part. Rows done are counted on `control`.
    ///
    /// # Errors
    /// As [`topk`](super::topk()), with rows numbered from the first part on; what was found before is kept.
    pub fn add<T: Element>(
        &mut self,
        part: &Database<'_, T>,
        screen: Screen,
        control: &Control,
    ) -> Result<()> {
        let queries = Matrix::new("queries", self.best.len(), self.columns, &self.queries)?;
        checked(queries, part.columns(), self.k)?;
        let floor = |best: &Ranked| if best.len() < self.k { Rank::LAST } else { best[self.k - 1].0 };
        let floors = self.best.iter().map(floor).collect();
        let found = ranked(queries, part, self.k.min(part.searched()), floors, screen, control);
        let found = found.map_err(|error| match error {
            Error::NonFinite { what, row, column, value } if what == "database" => {
                Error::NonFinite { what, row: self.rows + row, column, value }
            }
            other => other,
        })?;
        for (best, found) in self.best.iter_mut().zip(found) {
            merge(best, &found, self.rows, self.k);
        }
        self.rows += part.rows();
        self.searched += part.searched();
        Ok(())
    }

    /// Rows of all parts.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// What is best so far: k rows a query, or all that were selected if they are fewer.
    pub fn found(&self) -> TopK {
        TopK::new(self.k.min(self.searched), &self.best)
    }
}

/// Adds rows of a part that starts with row `start`; of equal scores, those of the earlier part come first.
fn merge(best: &mut Ranked, found: &Ranked, start: usize, k: usize) {
    if best.len() == k && found.first().is_none_or(|first| first.0 >= best[k - 1].0) {
        return;
    }
    let mut merged = Ranked::with_capacity(k.min(best.len() + found.len()));
    let (mut old, mut new) = (best.iter().peekable(), found.iter().peekable());
    while merged.len() < k {
        let newer = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => new.0 < old.0,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => break,
        };
        let entry =
            if newer { new.next().map(|&(rank, row)| (rank, start + row)) } else { old.next().copied() };
        merged.extend(entry);
    }
    *best = merged;
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::super::topk_with;
    use super::*;

    /// Values with many ties.
    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % 7) as f32 - 3.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    proptest! {
        #[test]
        fn parts_give_the_answer_of_the_whole(
            rows in 1_usize..300, queries in 1_usize..40, k in 1_usize..60, cuts in prop::collection::vec(0_usize..300, 0..5),
            seed: u64, chosen in 0_u8..3, masked: bool,
        ) {
            let columns = 3;
            let screen = [Screen::Auto, Screen::Int8, Screen::Bfloat16][usize::from(chosen)];
            let database: Vec<f16> = values(rows * columns, seed).into_iter().map(f16::from_f32).collect();
            let wanted = values(queries * columns, seed ^ 1);
            let wanted = Matrix::new("queries", queries, columns, &wanted).unwrap();
            let mask: Vec<bool> = values(rows, seed ^ 2).into_iter().map(|value| value < 2.0).collect();
            let part = |from: usize, to: usize| {
                let matrix = Matrix::new("part", to - from, columns, &database[from * columns..to * columns]).unwrap();
                Database::new(columns, vec![matrix], masked.then_some(&mask[from..to])).unwrap()
            };
            let control = Control::new();
            let whole = topk_with(wanted, &part(0, rows), k, Screen::Float32, &control).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows)).collect();
            cuts.extend([0, rows]);
            cuts.sort_unstable();
            let mut running = Running::new(wanted, k).unwrap();
            for ends in cuts.windows(2) {
                running.add(&part(ends[0], ends[1]), screen, &control).unwrap();
                let again = Running::new(wanted, k).unwrap().resume(running.rows(), &running.found());
                running = again.unwrap();
            }
            prop_assert_eq!(running.found(), whole);
        }
    }

    #[test]
    fn states_that_do_not_fit_are_errors() {
        let queries = [1.0_f32; 2];
        let fresh = || Running::new(Matrix::new("queries", 1, 2, &queries).unwrap(), 2).unwrap();
        let state = |scores: &[f32], indices: &[i64]| TopK {
            k: scores.len(),
            scores: scores.to_vec(),
            indices: indices.to_vec(),
        };
        assert!(fresh().resume(3, &state(&[2.0, 1.0], &[0, 2])).is_ok());
        assert!(fresh().resume(3, &state(&[2.0, 1.0], &[0, 3])).is_err());
        assert!(fresh().resume(3, &state(&[2.0, 1.0], &[0, -1])).is_err());
        assert!(fresh().resume(1, &state(&[2.0, 1.0], &[0, 0])).is_err());
        assert!(fresh().resume(9, &state(&[3.0, 2.0, 1.0], &[0, 1, 2])).is_err());
        assert!(fresh().resume(3, &state(&[f32::NAN], &[0])).is_err());
        assert!(Running::new(Matrix::new("queries", 1, 2, &queries).unwrap(), 0).is_err());
    }
}
