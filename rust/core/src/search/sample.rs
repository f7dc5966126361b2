//! What a sweep trusts until it is proven: thresholds estimated from a sample of the rows, and from those seen so far.

use std::ops::Range;

use rayon::prelude::*;

use super::codec::Codec;
use super::database::Element;
use super::select::Rank;
use super::sweep::Sweep;
use crate::control::Control;
use crate::error::Result;
use crate::kernels::tiles::PANEL;

/// Rows in the sample at least and at most, as far as there are so many.
const SAMPLE: Range<usize> = 1024..16384;
/// The same for few queries, for which reading rows is all the work.
const SMALL_SAMPLE: Range<usize> = 1024..4096;
/// Queries that are few.
const FEW: usize = 8;
/// How many rows of the sample lie side by side in a database on disk.
pub const TOGETHER: usize = 16;
/// Rows of the sample that are multiplied at once.
const SAMPLE_BLOCK: usize = 1024;

/// What the sample says of the k-th best of a query.
#[derive(Debug, Clone, Copy)]
pub struct Guess {
    /// More rows than k reach it, almost certainly: the threshold to start with.
    pub start: Rank,
    /// More rows than k reach it, probably: no guess that is made later, from rows that may lie in an order, goes beyond.
    pub ceiling: Rank,
}

/// The rank among a part of the rows that the k-th of all is not behind: the number of the best k in a random part has
/// about the spread of its root.
pub fn rank(k: usize, part: usize, whole: usize, spreads: f64, more: f64) -> usize {
    let expected = k as f64 * part as f64 / whole as f64;
    (expected + spreads * expected.sqrt() + more) as usize
}

impl<T: Element, C: Codec<T>> Sweep<'_, T, C> {
    /// Sampled rows, coded.
    fn sampled(&self, rows: &[usize]) -> Result<C::Block> {
        let database = self.problem.database;
        let mut block = self.codec.block(rows.len());
        let mut scratch = vec![0.0; self.codec.scratch()];
        for (at, &row) in rows.iter().enumerate() {
            if let Some(codes) = self.codec.ready(database, row, 1) {
                self.codec.copy(at, codes, &mut block);
            } else if self.codec.set(at, database.row(row), &mut block, &mut scratch).is_nan() {
                return Err(self.problem.non_finite(row));
            }
        }
        Ok(block)
    }

    /// For each query thresholds that a few more rows than k are likely to reach.
    pub(super) fn sample(&self, control: &Control) -> Result<Vec<Guess>> {
        let (database, k) = (self.problem.database, self.problem.k);
        let searched = database.searched();
        // What lies on disk is read for the sample alone.
        let small = self.problem.screened.len() <= FEW || self.problem.cold;
        let sizes = if small { SMALL_SAMPLE } else { SAMPLE };
        let wanted = (searched / 12).clamp(sizes.start, sizes.end).min(searched);
        // From disk a few rows cost as much as one, and every hole in what is read later costs as well.
        let together = if self.problem.cold { TOGETHER } else { 1 };
        let sampled = database.evenly(wanted, together);
        let rank = |spreads, more| rank(k, sampled.len(), searched, spreads, more);
        let (start, ceiling) = (rank(4.0, 8.0), rank(1.5, 2.0));
        if start > sampled.len() {
            let nothing = Guess { start: Rank::LAST, ceiling: Rank::LAST };
            return Ok(vec![nothing; self.problem.screened.len()]);
        }
        // Of one centre each.
        let centre = |row: usize| self.codec.centre(database, row);
        let parts = sampled.chunk_by(|&one, &next| centre(one) == centre(next));
        let parts: Vec<&[usize]> = parts.flat_map(|rows| rows.chunks(SAMPLE_BLOCK)).collect();
        let blocks = self.problem.here_and_there(|| {
            parts
                .par_iter()
                .map(|rows| {
                    control.advance(0)?;
                    self.problem.ask_for(rows.iter().copied(), self.codec.reads_planes());
                    self.sampled(rows)
                })
                .collect::<Result<Vec<_>>>()
        })?;
        let panels: Vec<Range<usize>> = self.panels().collect();
        let starts = panels.into_par_iter().enumerate().with_max_len(1).map(|(number, queries)| {
            let lanes = queries.len();
            let mut block_scores = vec![[0.0; PANEL]; SAMPLE_BLOCK];
            let mut scores = vec![Vec::new(); lanes];
            // The best of a part are not better than the best of all.
            let mut least = [f32::NEG_INFINITY; PANEL];
            for (part, (block, rows)) in blocks.iter().zip(&parts).enumerate() {
                control.advance(0)?;
                self.codec.scores(number, self.codec.head(block, rows.len()), &mut block_scores);
                let mut shifts = [0.0; PANEL];
                for (shift, query) in shifts.iter_mut().zip(queries.clone()) {
                    *shift = self.codec.shift(query, centre(rows[0]));
                }
                for row in &block_scores[..rows.len()] {
                    let scores_and_shifts = row.iter().zip(&shifts).zip(&least).take(lanes);
                    for (lane, ((&score, shift), &least)) in scores_and_shifts.enumerate() {
                        let score = score + shift;
                        if score >= least {
                            scores[lane].push(score);
                        }
                    }
                }
                if part == blocks.len() / 8 || part + 1 == blocks.len() {
                    for (scores, least) in scores.iter_mut().zip(&mut least) {
                        if scores.len() >= start {
                            *least = *scores.select_nth_unstable_by(start - 1, |a, b| b.total_cmp(a)).1;
                            scores.truncate(start);
                        }
                    }
                }
            }
            let guesses = queries.zip(&mut scores).zip(least).map(|((query, scores), least)| {
                let estimate = |score| Rank::of(self.codec.estimate(query, score));
                // Scores that are not a number are not among them.
                let enough = scores.len() >= start;
                let nearer =
                    enough.then(|| *scores.select_nth_unstable_by(ceiling - 1, |a, b| b.total_cmp(a)).1);
                Guess { start: estimate(least), ceiling: nearer.map_or(Rank::LAST, estimate) }
            });
            Ok(guesses.collect::<Vec<_>>())
        });
        Ok(starts.collect::<Result<Vec<_>>>()?.concat())
    }
}
