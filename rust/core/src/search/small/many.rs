//! Panels of queries across the lanes, rows widened to float32 block by block.

use std::ops::Range;

use super::super::element::Element;
use super::super::screen::non_finite;
use super::super::sweep::lanes;
use super::panel::{Hit, Hits, Panel};
use super::{Own, Scratch, Screened, Small, Team, places};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::{PANEL, TILE};

/// Rows in the sample at least and at most, and of how many one is in it.
const SAMPLE: Range<usize> = 96..2048;
const SAMPLED: usize = 8;

/// Panels that are searched together: a block of rows is widened once for them.
const PANELS: usize = 8;

/// Bytes of float32 rows in a block: they stay in the second-level cache while panels pass over them.
const BLOCK_BYTES: usize = 1 << 19;

/// Columns that are transposed at a time: the lines they are written to stay in the first-level cache.
const COLUMNS: usize = 16;

/// The rows of a search: a sample, and all others.
#[derive(Debug)]
pub struct Divided {
    pub sample: Vec<u32>,
    pub rest: Vec<u32>,
}

impl<T: Element> Small<'_, T> {
    /// Each thread takes some panels and all rows.
    pub(super) fn search_many(
        &self,
        team: &Team<'_>,
        scores: &mut [f32],
        indices: &mut [i64],
        control: &Control,
    ) -> Result<()> {
        let count = self.queries.rows();
        let together = count.div_ceil(PANEL).div_ceil(4 * team.threads()).clamp(1, PANELS);
        let size = together * PANEL;
        let places = places(scores, indices, size * self.k);
        let rows = self.divided();
        team.share(places.len(), Own::take, |scratch, unit| {
            let first = unit * size;
            let mut panels = self.panels(first..count.min(first + size), scratch)?;
            self.sample(&mut panels, &rows.sample, scratch, control)?;
            self.scan_own(&mut panels, &rows.rest, scratch, control)?;
            self.each(first..count.min(first + size), &places[unit], |query, scores, indices| {
                let (panel, lane) = (&panels[(query - first) / PANEL], query % PANEL);
                let (screened, guess) = (&panel.screened[lane], panel.guesses[lane]);
                self.settle(query, screened, guess, &panel.hits[lane], scratch, scores, indices)
            })
        })
    }

    /// The sample, and all other rows.
    pub(super) fn divided(&self) -> Divided {
        let searched = self.database.searched();
        let wanted = (searched / SAMPLED).clamp(SAMPLE.start, SAMPLE.end).min(searched);
        let sample = self.database.evenly(wanted, 1);
        let mut rest = Vec::with_capacity(searched - sample.len());
        let mut next = sample.iter().copied().peekable();
        self.database.runs(0..self.database.rows(), |first, count, _| {
            rest.extend(
                (first..first + count).filter(|row| next.next_if_eq(row).is_none()).map(|row| row as u32),
            );
        });
        Divided { sample: sample.into_iter().map(|row| row as u32).collect(), rest }
    }

    /// Queries across the lanes of panels.
    pub(super) fn panels(&self, queries: Range<usize>, scratch: &mut Scratch) -> Result<Vec<Panel>> {
        let end = queries.end;
        queries.step_by(PANEL).map(|first| self.panel(first..end.min(first + PANEL), scratch)).collect()
    }

    fn panel(&self, queries: Range<usize>, scratch: &mut Scratch) -> Result<Panel> {
        let columns = self.queries.columns();
        let scaled = &mut scratch.scaled;
        scaled.resize(queries.len() * columns, 0.0);
        let screened = queries.clone().zip(scaled.chunks_exact_mut(columns));
        let screened: Vec<Screened> = screened
            .map(|(query, scaled)| Screened::new(self.queries.row(query), query, T::LARGEST, scaled))
            .collect::<Result<_>>()?;
        let mut values = Aligned::zeros(columns * PANEL);
        for (part, places) in values.as_mut_slice().chunks_mut(COLUMNS * PANEL).enumerate() {
            for (lane, scaled) in scaled.chunks_exact(columns).enumerate() {
                for (column, &value) in places.chunks_exact_mut(PANEL).zip(&scaled[part * COLUMNS..]) {
                    column[lane] = value;
                }
            }
        }
        Ok(Panel::new(queries, values, screened))
    }

    /// Widens as many rows as fit into a block, at most.
    fn widen(&self, rows: &[u32], scratch: &mut Scratch) -> Result<()> {
        let stride = self.stride();
        if scratch.widened.as_slice().len() < self.block() * stride {
            scratch.widened = Aligned::zeros(self.block() * stride);
        }
        scratch.norms.resize(self.block(), 0.0);
        let places = scratch.widened.as_mut_slice().chunks_exact_mut(stride).zip(&mut scratch.norms);
        for (&row, (place, norm)) in rows.iter().zip(places) {
            *norm = T::widen(self.kernels, self.database.row(row as usize), self.growth, place);
            if norm.is_nan() {
                return Err(non_finite(self.database, row as usize));
            }
        }
        Ok(())
    }

    /// Floats from row to row: an odd number of cache lines, so that rows do not all fall into the same cache set.
    fn stride(&self) -> usize {
        (self.database.columns().div_ceil(16) | 1) * 16
    }

    /// Rows in a block.
    fn block(&self) -> usize {
        let rows = self.database.searched().next_multiple_of(TILE);
        (BLOCK_BYTES / (self.stride() * size_of::<f32>()) / TILE * TILE).clamp(TILE, rows)
    }

    /// Multiplies a block of widened rows with a panel and visits rows of which something comes through: their number in the
    /// block, their norm, for which queries, and the scores.
    fn multiply(
        &self,
        panel: &Panel,
        rows: usize,
        scratch: &mut Scratch,
        mut visit: impl FnMut(usize, f32, u32, &[f32; PANEL]),
    ) {
        let depth = self.database.columns();
        let Scratch { widened, norms, tile, .. } = scratch;
        let Panel { queries, values, limits, .. } = panel;
        let (narrow, stride) = (queries.len() <= PANEL / 2, self.stride());
        for first in (0..rows).step_by(TILE) {
            let block = &widened.as_slice()[first * stride..];
            let tiled = norms[first..].first_chunk().expect("blocks hold whole tiles");
            let values = &values.as_slice()[..depth * PANEL];
            self.kernels.tile(block, stride, values, tiled, limits, narrow, tile);
            for (i, scores) in tile.scores.iter().take(rows - first).enumerate() {
                let found = tile.hits[i] & lanes(queries.len());
                if found != 0 {
                    visit(first + i, tiled[i], found, scores);
                }
            }
        }
    }

    /// Finds thresholds, and what comes through of the sample.
    pub(super) fn sample(
        &self,
        panels: &mut [Panel],
        rows: &[u32],
        scratch: &mut Scratch,
        control: &Control,
    ) -> Result<()> {
        let Some(needed) = self.needed(rows.len()) else {
            return self.scan_own(panels, rows, scratch, control);
        };
        let everything = |panel: &mut Panel| panel.limits.threshold.fill(f32::NEG_INFINITY);
        panels.iter_mut().for_each(everything);
        let mut norms = Vec::with_capacity(rows.len());
        let mut sampled: Vec<Vec<[f32; PANEL]>> =
            panels.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for block in rows.chunks(self.block()) {
            control.advance(0)?;
            self.widen(block, scratch)?;
            norms.extend_from_slice(&scratch.norms[..block.len()]);
            for (panel, sampled) in panels.iter().zip(&mut sampled) {
                self.multiply(panel, block.len(), scratch, |_, _, _, scores| sampled.push(*scores));
            }
        }
        for (panel, sampled) in panels.iter_mut().zip(&sampled) {
            let lowered = &mut scratch.keys;
            lowered.resize(PANEL * rows.len(), 0.0);
            for (at, (scores, &norm)) in sampled.iter().zip(&norms).enumerate() {
                for (lane, score) in scores.iter().enumerate() {
                    lowered[lane * rows.len() + at] = score - panel.limits.slope[lane] * norm;
                }
            }
            for (lane, lowered) in lowered.chunks_exact_mut(rows.len()).take(panel.queries.len()).enumerate()
            {
                panel.trust(lane, lowered, needed);
            }
            for ((scores, &norm), &row) in sampled.iter().zip(&norms).zip(rows) {
                for (lane, &score) in scores.iter().enumerate().take(panel.queries.len()) {
                    if score >= panel.limit(lane, norm) {
                        panel.hits[lane].push(Hit { score, norm, row });
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds what comes through of some rows, for the panels themselves.
    fn scan_own(
        &self,
        panels: &mut [Panel],
        rows: &[u32],
        scratch: &mut Scratch,
        control: &Control,
    ) -> Result<()> {
        let mut hits: Vec<Hits> = panels.iter_mut().map(|panel| std::mem::take(&mut panel.hits)).collect();
        let outcome = self.scan(panels, rows, &mut hits, scratch, control);
        panels.iter_mut().zip(hits).for_each(|(panel, hits)| panel.hits = hits);
        outcome
    }

    /// Finds what comes through of some rows for each panel.
    pub(super) fn scan(
        &self,
        panels: &[Panel],
        rows: &[u32],
        hits: &mut [Hits],
        scratch: &mut Scratch,
        control: &Control,
    ) -> Result<()> {
        for rows in rows.chunks(self.block()) {
            self.widen(rows, scratch)?;
            for (panel, hits) in panels.iter().zip(&mut *hits) {
                control.advance(0)?;
                self.multiply(panel, rows.len(), scratch, |at, norm, mut found, scores| {
                    while found != 0 {
                        let lane = found.trailing_zeros() as usize;
                        found &= found - 1;
                        hits[lane].push(Hit { score: scores[lane], norm, row: rows[at] });
                    }
                });
            }
        }
        Ok(())
    }
}
