//! What a sweep trusts until it is proven: thresholds estimated from a sample of the rows, and from those seen so far.

use std::ops::Range;

use rayon::prelude::*;

use super::bounds::Estimate;
use super::codec::Codec;
use super::element::Element;
use super::select::Rank;
use super::settle::{AHEAD, each};
use super::sweep::{Sweep, lanes};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::prefetch::prefetch;
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// Rows in the sample at least and at most, as far as there are so many.
const SAMPLE: Range<usize> = 1024..16384;
/// The same for few queries, for which reading rows is all the work.
const SMALL_SAMPLE: Range<usize> = 1024..2048;
/// Queries that are few.
const FEW: usize = 8;
/// How many rows of the sample lie side by side in a database on disk.
pub const TOGETHER: usize = 16;
/// Rows of the sample that are multiplied at once.
const SAMPLE_BLOCK: usize = 1024;
/// Rows that show which part comes through.
const PROBED: usize = 1024;

/// What the sample says of the k-th best of a query.
#[derive(Debug, Clone, Copy)]
pub struct Guess {
    /// More rows than k reach it, almost certainly: the threshold to start with.
    pub start: Rank,
    /// More rows than k reach it, probably: no guess that is made later, from rows that may lie in an order, goes beyond.
    pub ceiling: Rank,
    /// The part of the rows that is likely to come through at the best threshold that can be hoped for.
    pub passing: f32,
}

impl Guess {
    /// A threshold that is known, and not to be exceeded.
    pub const fn known(start: Rank) -> Self {
        Self { start, ceiling: Rank::LAST, passing: 0.0 }
    }
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
            // The rows lie far apart.
            if let Some(&soon) = rows.get(at + AHEAD) {
                self.codec.fetch(database, soon);
            }
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
            return Ok(vec![Guess::known(Rank::LAST); self.problem.screened.len()]);
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
        // Some of every part of the database.
        let probed = parts.iter().zip(&blocks).map(|(rows, block)| {
            let share = (rows.len() * PROBED).div_ceil(sampled.len()).min(rows.len());
            (self.codec.head(block, share), centre(rows[0]), share)
        });
        let probed: Vec<_> = probed.collect();
        let panels: Vec<Range<usize>> = self.panels().collect();
        let guesses = panels.into_par_iter().enumerate().with_max_len(1).map(|(number, queries)| {
            let lanes = queries.len();
            let mut block_scores = vec![[0.0; PANEL]; SAMPLE_BLOCK];
            let mut nearest = vec![Vec::new(); lanes];
            // The best of a part are not better than the best of all.
            let mut least = [f32::NEG_INFINITY; PANEL];
            for (part, (block, rows)) in blocks.iter().zip(&parts).enumerate() {
                control.advance(0)?;
                let centre = centre(rows[0]);
                self.codec.scores(centre, number, self.codec.head(block, rows.len()), &mut block_scores);
                let estimates = queries.clone().map(|query| self.codec.estimate(query, centre));
                let estimates: Vec<Estimate> = estimates.collect();
                for (scores, &row) in block_scores.iter().zip(*rows) {
                    let scores = scores.iter().zip(&estimates).zip(&least);
                    for (lane, ((&score, estimate), &least)) in scores.enumerate() {
                        let score = estimate.of(score);
                        if score >= least {
                            nearest[lane].push((score, row));
                        }
                    }
                }
                if part == blocks.len() / 8 || part + 1 == blocks.len() {
                    for (nearest, least) in nearest.iter_mut().zip(&mut least) {
                        if nearest.len() >= start {
                            *least =
                                nearest.select_nth_unstable_by(start - 1, |a, b| b.0.total_cmp(&a.0)).1.0;
                            nearest.truncate(start);
                        }
                    }
                }
            }
            let guesses = queries.clone().zip(&nearest).map(|(query, nearest)| {
                // Scores that are not a number are not among them.
                if nearest.len() < start {
                    return Guess::known(Rank::LAST);
                }
                let mut ranks = self.ranks(query, nearest);
                ranks.sort_unstable();
                Guess { start: ranks[start - 1], ceiling: ranks[ceiling - 1], passing: 0.0 }
            });
            let mut guesses: Vec<Guess> = guesses.collect();
            self.probe(number, queries, &probed, &mut guesses);
            Ok(guesses)
        });
        Ok(guesses.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The ranks of sampled rows, of which an estimate is known.
    fn ranks(&self, query: usize, rows: &[(f32, usize)]) -> Vec<Rank> {
        if self.problem.cold {
            // Their vectors would have to be read for this alone.
            return rows.iter().map(|&(score, _)| Rank::of(score)).collect();
        }
        let scored = rows.iter().enumerate().map(|(at, &(_, row))| {
            if let Some(&(_, soon)) = rows.get(at + AHEAD) {
                prefetch(self.problem.database.row(soon));
            }
            Rank::of(self.problem.score(query, row))
        });
        scored.collect()
    }

    /// Finds out which part of coded rows, each lot with its centre and number, comes through for the queries of a panel.
    fn probe(
        &self,
        panel: usize,
        queries: Range<usize>,
        probed: &[(C::Rows<'_>, usize, usize)],
        guesses: &mut [Guess],
    ) {
        let mut limits = Limits::CLOSED;
        let (mut passed, mut rows) = ([0_u32; PANEL], 0);
        for &(lot, centre, count) in probed {
            for (lane, (query, guess)) in queries.clone().zip(guesses.iter()).enumerate() {
                self.slopes(query, centre, &mut limits);
                let threshold = guess.start.min(guess.ceiling);
                limits.threshold[lane] = self.limit(query, centre, threshold);
            }
            let mut hits = vec![Hit::default(); count];
            let found = self.codec.hits(centre, panel, queries.len(), lot, &limits, &mut hits, &[]);
            for hit in &hits[..found] {
                each(hit.queries & lanes(queries.len()), |lane| passed[lane] += 1);
            }
            rows += count;
        }
        for (guess, &passed) in guesses.iter_mut().zip(&passed) {
            guess.passing = passed as f32 / rows.max(1) as f32;
        }
    }
}
