//! Canonical scores of all rows, for a small database of which much is wanted.
//!
//! For more than a few queries the rows are transposed in float64 once, and multiplied with blocks of queries.

use std::sync::Mutex;

use super::super::bounds::finite_peak;
use super::super::element::Element;
use super::super::exact;
use super::super::screen::non_finite;
use super::{Own, Scratch, Small, Team, inner, locked, packed, places, write};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f64::{LANES, Sums, TILE};

/// So few rows are all scored, for few queries and for many.
const FEW_ROWS: usize = 16;
const ROWS: usize = 32;

/// From so many queries on, rows are transposed.
const QUERIES: usize = 16;

/// More bytes of transposed rows are not made.
const MOST_BYTES: usize = 32 << 20;

/// Queries that meet a panel of rows one after the other, at most.
const TOGETHER: usize = 4 * TILE;

/// Whether to score all rows costs less than to find out which are needed.
pub const fn pays(queries: usize, rows: usize, columns: usize, k: usize) -> bool {
    if together(queries, rows, columns) {
        rows <= ROWS || 8 * k >= rows
    } else {
        rows <= FEW_ROWS || 2 * k >= rows
    }
}

/// Whether rows are transposed.
const fn together(queries: usize, rows: usize, columns: usize) -> bool {
    queries >= QUERIES && rows * columns * size_of::<f64>() <= MOST_BYTES
}

/// Transposed rows with bounds of their norms, and which rows they are.
#[derive(Debug)]
struct Rows<'r> {
    values: Aligned<f64>,
    norms: [f64; LANES],
    numbers: &'r [u32],
}

impl<T: Element> Small<'_, T> {
    /// Scores all rows for all queries.
    pub(super) fn score(
        &self,
        team: &Team<'_>,
        scores: &mut [f32],
        indices: &mut [i64],
        control: &Control,
    ) -> Result<()> {
        let (count, columns) = (self.queries.rows(), self.database.columns());
        if together(count, self.database.searched(), columns) {
            return self.score_together(team, scores, indices, control);
        }
        let size = count.div_ceil(4 * team.threads()).max(1);
        let places = places(scores, indices, size * self.k);
        team.share(places.len(), Own::take, |scratch, unit| {
            let queries = unit * size..count.min(unit * size + size);
            self.each(queries, &places[unit], |query, scores, indices| {
                control.advance(0)?;
                self.score_all(query, scratch, scores, indices)
            })
        })
    }

    /// Writes the best of all rows for a query.
    pub(super) fn score_all(
        &self,
        query: usize,
        scratch: &mut Scratch,
        scores: &mut [f32],
        indices: &mut [i64],
    ) -> Result<()> {
        let values = self.finite(query)?;
        let Scratch { exact, ranked, .. } = scratch;
        exact.resize(values.len(), 0.0);
        let query = exact::Query::widened(self.wide, values, exact);
        ranked.clear();
        let (columns, mut outcome) = (self.database.columns(), Ok(()));
        self.database.runs(0..self.database.rows(), |first, _, values| {
            for (row, values) in (first..).zip(values.chunks_exact(columns)) {
                let (score, finite) = exact::score_checked(self.kernels, values, query);
                if !finite && outcome.is_ok() {
                    outcome = Err(non_finite(self.database, row));
                }
                ranked.push(packed(score, row));
            }
        });
        outcome?;
        write(ranked, scores, indices);
        Ok(())
    }

    /// A query, if it is finite.
    pub(super) fn finite(&self, query: usize) -> Result<&[f32]> {
        let values = self.queries.row(query);
        finite_peak(self.wide, values, query).map(|_| values)
    }

    fn score_together(
        &self,
        team: &Team<'_>,
        scores: &mut [f32],
        indices: &mut [i64],
        control: &Control,
    ) -> Result<()> {
        let mut numbers = Vec::with_capacity(self.database.searched());
        self.database.runs(0..self.database.rows(), |first, count, _| {
            numbers.extend((first..first + count).map(|row| row as u32));
        });
        let parts: Vec<&[u32]> = numbers.chunks(LANES).collect();
        let transposed: Vec<Mutex<Option<Rows<'_>>>> = parts.iter().map(|_| Mutex::default()).collect();
        let helped = if self.database.searched() * self.database.columns() < super::BRIEF / 8 {
            &Team::Alone
        } else {
            team
        };
        helped.share(parts.len(), Vec::new, |widened, part| {
            control.advance(0)?;
            *locked(&transposed[part]) = Some(self.transposed(parts[part], widened)?);
            Ok(())
        })?;
        let rows: Vec<Rows<'_>> = transposed.into_iter().filter_map(inner).collect();
        let count = self.queries.rows();
        let size = count.div_ceil(team.threads()).next_multiple_of(TILE).min(TOGETHER);
        let places = places(scores, indices, size * self.k);
        let all = numbers.len();
        team.share(places.len(), Block::default, |block, unit| {
            control.advance(0)?;
            let (first, end) = (unit * size, count.min(unit * size + size));
            self.multiply_block(first..end, &rows, all, block)?;
            let mut ranked = block.ranked.chunks_exact_mut(all);
            self.each(first..end, &places[unit], |_, scores, indices| {
                write(ranked.next().expect("a list a query"), scores, indices);
                Ok(())
            })
        })
    }

    /// Rows across the lanes, in float64.
    fn transposed<'r>(&self, numbers: &'r [u32], widened: &mut Vec<f32>) -> Result<Rows<'r>> {
        let columns = self.database.columns();
        widened.resize(LANES * columns, 0.0);
        let mut norms = [0.0; LANES];
        for ((&row, place), bound) in numbers.iter().zip(widened.chunks_exact_mut(columns)).zip(&mut norms) {
            let norm = T::widen(self.kernels, self.database.row(row as usize), self.growth, place);
            if norm.is_nan() {
                return Err(non_finite(self.database, row as usize));
            }
            *bound = f64::from(norm);
        }
        let mut values = Aligned::<f64>::zeros(columns * LANES);
        for (column, places) in values.as_mut_slice().chunks_exact_mut(LANES).take(columns).enumerate() {
            for (lane, place) in places.iter_mut().enumerate() {
                *place = f64::from(widened[lane * columns + column]);
            }
        }
        Ok(Rows { values, norms, numbers })
    }

    /// The ranks of all rows for some queries, in `block.ranked`.
    fn multiply_block(
        &self,
        queries: std::ops::Range<usize>,
        rows: &[Rows<'_>],
        all: usize,
        block: &mut Block,
    ) -> Result<()> {
        let columns = self.database.columns();
        // An odd number of cache lines: queries do not all fall into the same cache set.
        let stride = (columns.div_ceil(8) | 1) * 8;
        let Block { exact, norms, ranked, sums } = block;
        exact.resize(queries.len().next_multiple_of(TILE) * stride, 0.0);
        norms.clear();
        for (query, place) in queries.clone().zip(exact.chunks_exact_mut(stride)) {
            let values = self.finite(query)?;
            norms.push(exact::Query::widened(self.wide, values, place).norm);
        }
        ranked.resize(queries.len() * all, 0);
        let mut before = 0;
        for rows in rows {
            let values = &rows.values.as_slice()[..columns * LANES];
            for tile in (0..queries.len()).step_by(TILE) {
                self.wide.tile(&exact[tile * stride..], stride, values, sums);
                for (at, sums) in (tile..queries.len()).zip(&sums.0) {
                    let mut scores = [0.0; LANES];
                    let certain =
                        exact::rounded(self.wide, sums, norms[at], &rows.norms, columns, &mut scores);
                    let places = ranked[at * all + before..].iter_mut().zip(rows.numbers).zip(scores);
                    for (lane, ((place, &row), mut score)) in places.enumerate() {
                        if certain >> lane & 1 == 0 {
                            let query =
                                exact::Query { values: &exact[at * stride..][..columns], norm: norms[at] };
                            score = exact::score(self.kernels, self.database.row(row as usize), query);
                        }
                        *place = packed(score, row as usize);
                    }
                }
            }
            before += rows.numbers.len();
        }
        Ok(())
    }
}

/// What a thread needs.
#[derive(Debug, Default)]
struct Block {
    exact: Vec<f64>,
    norms: Vec<f64>,
    ranked: Vec<u64>,
    sums: Sums,
}
