//! Some queries of a search in a small database, and what came through for each.

use std::ops::Range;

use super::super::bounds::Screened;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::{Limits, PANEL};

/// A row that came through for a query.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    pub score: f32,
    pub norm: f32,
    pub row: u32,
}

/// What came through for each query.
pub type Hits = Vec<Vec<Hit>>;

/// Up to 32 queries.
#[derive(Debug)]
pub struct Panel {
    /// Consecutive query numbers.
    pub queries: Range<usize>,
    /// Transposed, or for few queries one after the other.
    pub values: Aligned,
    pub screened: Vec<Screened>,
    pub limits: Limits,
    /// Canonical scores that k rows of each query are trusted to reach.
    pub guesses: Vec<f32>,
    pub hits: Hits,
}

impl Panel {
    /// Everything comes through.
    pub fn new(queries: Range<usize>, values: Aligned, screened: Vec<Screened>) -> Self {
        let mut limits = Limits { threshold: [f32::INFINITY; PANEL], slope: [0.0; PANEL] };
        for (lane, screened) in screened.iter().enumerate() {
            (limits.threshold[lane], limits.slope[lane]) = (f32::NEG_INFINITY, screened.slope());
        }
        let (guesses, hits) = (vec![f32::NEG_INFINITY; queries.len()], vec![Vec::new(); queries.len()]);
        Self { queries, values, screened, limits, guesses, hits }
    }

    /// Sets the threshold of a query so that `needed` of the sampled rows are sure to reach it. Of each of them the score is
    /// given, less its error as the limits have it.
    pub fn trust(&mut self, lane: usize, lowered: &mut [f32], needed: usize) {
        let (_, &mut least, _) = lowered.select_nth_unstable_by(needed - 1, |a, b| b.total_cmp(a));
        // Any number would do.
        let guess = self.screened[lane].bounds(least, 0.0).0 + 0.0;
        self.guesses[lane] = guess;
        self.limits.threshold[lane] = self.screened[lane].limit(guess);
    }

    /// The threshold of a query for rows with a norm.
    pub fn limit(&self, lane: usize, norm: f32) -> f32 {
        self.limits.threshold[lane] - self.limits.slope[lane] * norm
    }

    /// Adds what was found elsewhere for each query.
    pub fn gather(&mut self, found: Hits) {
        self.hits.iter_mut().zip(found).for_each(|(hits, found)| hits.extend(found));
    }
}
