//! Fewer queries than keep all threads busy: they share out the rows.

use std::ops::Range;
use std::sync::Mutex;

use super::super::element::{Element, norm};
use super::super::screen::non_finite;
use super::panel::{Hit, Hits, Panel};
use super::{Own, Scratch, Screened, Small, Team, inner, locked, places};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::{FEW, PANEL, TILE};

/// Rows in the sample at least and at most, and of how many one is in it: for so few queries, reading rows is the work.
const SAMPLE: Range<usize> = 64..1024;
const SAMPLED: usize = 32;

/// Rows that a thread takes at a time, and rows that the screen takes at a time.
const CHUNK: usize = 512;
const BATCH: usize = 64;

/// Results that one thread settles.
const SETTLED: usize = 1024;

impl<T: Element> Small<'_, T> {
    /// Each thread takes some rows and all queries.
    pub(super) fn search_few(
        &self,
        team: &Team<'_>,
        scores: &mut [f32],
        indices: &mut [i64],
        control: &Control,
    ) -> Result<()> {
        let count = self.queries.rows();
        let panels = if count <= FEW && T::halves(&[]).is_some() {
            vec![self.by_lines(team, control)?]
        } else {
            self.by_panels(team, control)?
        };
        let size = if self.k * count < SETTLED { count } else { 1 };
        let places = places(scores, indices, size * self.k);
        team.share(places.len(), Own::take, |scratch, unit| {
            control.advance(0)?;
            self.each(unit * size..unit * size + size, &places[unit], |query, scores, indices| {
                let (panel, lane) = (&panels[query / PANEL], query % PANEL);
                let (screened, guess) = (&panel.screened[lane], panel.guesses[lane]);
                self.settle(query, screened, guess, &panel.hits[lane], scratch, scores, indices)
            })
        })
    }

    fn by_panels(&self, team: &Team<'_>, control: &Control) -> Result<Vec<Panel>> {
        let (count, rows) = (self.queries.rows(), self.divided());
        let sampled: Vec<Mutex<Panel>> =
            self.panels(0..count, &mut Own::take())?.into_iter().map(Mutex::new).collect();
        team.share(sampled.len(), Own::take, |scratch, unit| {
            let panel = &mut *locked(&sampled[unit]);
            self.sample(std::slice::from_mut(panel), &rows.sample, scratch, control)
        })?;
        let mut panels: Vec<Panel> = sampled.into_iter().map(inner).collect();
        let chunk = rows.rest.len().div_ceil(4 * team.threads()).next_multiple_of(TILE).max(TILE);
        let chunks: Vec<&[u32]> = rows.rest.chunks(chunk).collect();
        let found: Vec<Mutex<Vec<Hits>>> = chunks.iter().map(|_| Mutex::default()).collect();
        team.share(chunks.len(), Own::take, |scratch, unit| {
            let mut hits: Vec<Hits> =
                panels.iter().map(|panel| vec![Vec::new(); panel.queries.len()]).collect();
            self.scan(&panels, chunks[unit], &mut hits, scratch, control)?;
            *locked(&found[unit]) = hits;
            Ok(())
        })?;
        for found in found {
            panels.iter_mut().zip(inner(found)).for_each(|(panel, found)| panel.gather(found));
        }
        Ok(panels)
    }

    /// By the screen that reads float16 rows and stores nothing.
    fn by_lines(&self, team: &Team<'_>, control: &Control) -> Result<Panel> {
        let (rows, mut panel) = (self.database.rows(), self.lines()?);
        self.sample_lines(&mut panel, &mut Own::take())?;
        if team.threads() == 1 {
            panel.hits = self.scan_lines(&panel, 0..rows, &mut Own::take(), control)?;
            return Ok(panel);
        }
        let found: Vec<Mutex<Hits>> = (0..rows.div_ceil(CHUNK)).map(|_| Mutex::default()).collect();
        team.share(found.len(), Own::take, |scratch, unit| {
            let rows = unit * CHUNK..rows.min(unit * CHUNK + CHUNK);
            *locked(&found[unit]) = self.scan_lines(&panel, rows, scratch, control)?;
            Ok(())
        })?;
        for found in found {
            panel.gather(inner(found));
        }
        Ok(panel)
    }

    /// Queries one after the other, padded to whole vectors.
    fn lines(&self) -> Result<Panel> {
        let (count, columns) = (self.queries.rows(), self.queries.columns());
        let stride = columns.next_multiple_of(16);
        let mut values = Aligned::zeros(count.next_power_of_two() * stride);
        let mut screened = Vec::with_capacity(count);
        for (query, place) in values.as_mut_slice().chunks_exact_mut(stride).take(count).enumerate() {
            screened.push(Screened::new(self.queries.row(query), query, T::LARGEST, &mut place[..columns])?);
        }
        Ok(Panel::new(0..count, values, screened))
    }

    /// The scores of consecutive rows, in `scratch.few`, and their norms, in `scratch.squares`; how many there are.
    fn multiply_lines(
        &self,
        panel: &Panel,
        values: &[T],
        first: usize,
        scratch: &mut Scratch,
    ) -> Result<usize> {
        let (depth, stride) = (self.database.columns(), self.queries.columns().next_multiple_of(16));
        let (count, halves) = (values.len() / depth, T::halves(values).expect("float16"));
        scratch.few.resize(BATCH, [0.0; FEW]);
        scratch.squares.resize(BATCH, 0.0);
        let (scores, squares) = (&mut scratch.few[..count], &mut scratch.squares[..count]);
        self.kernels.few(
            halves,
            depth,
            panel.values.as_slice(),
            stride,
            panel.queries.len(),
            scores,
            squares,
        );
        for (at, square) in squares.iter_mut().enumerate() {
            *square = norm(*square, self.growth);
            if square.is_nan() {
                return Err(non_finite(self.database, first + at));
            }
        }
        Ok(count)
    }

    /// Finds thresholds. The rows of the sample are met again in [`Self::scan_lines`].
    fn sample_lines(&self, panel: &mut Panel, scratch: &mut Scratch) -> Result<()> {
        let searched = self.database.searched();
        let wanted = (searched / SAMPLED).clamp(SAMPLE.start, SAMPLE.end).min(searched);
        let sample = self.database.evenly(wanted, 1);
        let Some(needed) = self.needed(sample.len()) else { return Ok(()) };
        let count = panel.queries.len();
        let mut lowered = vec![0.0; count * sample.len()];
        for (at, &row) in sample.iter().enumerate() {
            self.multiply_lines(panel, self.database.row(row), row, scratch)?;
            for (lane, score) in scratch.few[0][..count].iter().enumerate() {
                lowered[lane * sample.len() + at] = score - panel.limits.slope[lane] * scratch.squares[0];
            }
        }
        for (lane, lowered) in lowered.chunks_exact_mut(sample.len()).enumerate() {
            panel.trust(lane, lowered, needed);
        }
        Ok(())
    }

    /// Finds what comes through of some rows.
    fn scan_lines(
        &self,
        panel: &Panel,
        rows: Range<usize>,
        scratch: &mut Scratch,
        control: &Control,
    ) -> Result<Hits> {
        let (columns, count) = (self.database.columns(), panel.queries.len());
        let (mut hits, mut outcome) = (vec![Vec::new(); count], Ok(()));
        self.database.runs(rows, |first, _, values| {
            for (batch, values) in values.chunks(BATCH * columns).enumerate() {
                if outcome.is_err() {
                    return;
                }
                let first = first + batch * BATCH;
                let found = self.multiply_lines(panel, values, first, scratch);
                let rows = *found.as_ref().unwrap_or(&0);
                for (at, (scores, &norm)) in scratch.few[..rows].iter().zip(&scratch.squares).enumerate() {
                    for (lane, &score) in scores[..count].iter().enumerate() {
                        if score >= panel.limit(lane, norm) {
                            hits[lane].push(Hit { score, norm, row: (first + at) as u32 });
                        }
                    }
                }
                outcome = found.and_then(|_| control.advance(0));
            }
        });
        outcome.map(|()| hits)
    }
}
