//! Where a sweep starts: thresholds estimated from a sample of the rows.

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
/// Rows of the sample that are multiplied at once.
const SAMPLE_BLOCK: usize = 1024;

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

    /// For each query a threshold that a few more rows than k are likely to reach.
    pub(super) fn sample(&self, control: &Control) -> Result<Vec<Rank>> {
        let (database, k) = (self.problem.database, self.problem.k);
        let searched = database.searched();
        // What lies on disk is read for the sample alone.
        let small = self.problem.screened.len() <= FEW || self.problem.cold;
        let sizes = if small { SMALL_SAMPLE } else { SAMPLE };
        let wanted = (searched / 12).clamp(sizes.start, sizes.end).min(searched);
        let (stride, mut position, mut sampled) = (searched / wanted.max(1), 0, Vec::new());
        database.runs(0..database.rows(), |first, count, _| {
            sampled
                .extend((first..first + count).skip((stride - position % stride) % stride).step_by(stride));
            position += count;
        });
        // The number of sampled rows among the best k has about the spread of its root.
        let expected = k as f64 * sampled.len() as f64 / searched as f64;
        let rank = (expected + 4.0 * expected.sqrt() + 8.0) as usize;
        if rank > sampled.len() {
            return Ok(vec![Rank::LAST; self.problem.screened.len()]);
        }
        let blocks = self.problem.here_and_there(|| {
            let sampled = sampled.par_chunks(SAMPLE_BLOCK);
            sampled
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
            for (part, (block, rows)) in blocks.iter().zip(sampled.chunks(SAMPLE_BLOCK)).enumerate() {
                control.advance(0)?;
                self.codec.scores(number, self.codec.head(block, rows.len()), &mut block_scores);
                for row in &block_scores[..rows.len()] {
                    for (lane, (&score, &least)) in row.iter().zip(&least).take(lanes).enumerate() {
                        if score >= least {
                            scores[lane].push(score);
                        }
                    }
                }
                if part == blocks.len() / 8 || part + 1 == blocks.len() {
                    for (scores, least) in scores.iter_mut().zip(&mut least) {
                        if scores.len() >= rank {
                            *least = *scores.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a)).1;
                            scores.truncate(rank);
                        }
                    }
                }
            }
            let estimates = queries.zip(least);
            Ok(estimates
                .map(|(query, least)| Rank::of(self.codec.estimate(query, least)))
                .collect::<Vec<_>>())
        });
        Ok(starts.collect::<Result<Vec<_>>>()?.concat())
    }
}
