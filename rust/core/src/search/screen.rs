//! The float32 screens: for many queries (panels of 32 against tiles of 12 rows) and for few (row by row).

use std::ops::Range;

use super::ahead::{Ahead, reading_ahead};
use super::bounds::{Screened, growth};
use super::database::{Chunks, Database, Matrix};
use super::element::{Element, norm};
use super::exact;
use super::planes;
use super::schedule::Scan;
use super::select::{Candidate, Candidates, Rank};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::{FEW, Kernels, Limits, PANEL, TILE, Tile};

/// Bytes of float32 rows in a block: they stay in the second-level cache while a panel passes over them.
const BLOCK_BYTES: usize = 1 << 20;

/// Bytes of float16 rows in a chunk for few queries.
const CHUNK_BYTES: usize = 1 << 18;

/// Rows screened at once for few queries,
const BATCH: usize = 64;

/// unless they are so long that this many bytes hold fewer: between chunks somebody may want to stop.
const MOST_BATCH_BYTES: usize = 16 << 20;

/// What both screens need: the queries, scaled and in float64, and where to look rows up.
#[derive(Debug)]
pub struct Problem<'a, T> {
    pub(super) kernels: &'static Kernels,
    pub(super) database: &'a Database<'a, T>,
    pub(super) k: usize,
    /// What each query has already found k rows of; rows behind it need not be found.
    floors: Vec<Rank>,
    scaled: Vec<f32>,
    exact: Vec<f64>,
    norms: Vec<f64>,
    /// Whether much of the database is on disk and not in memory.
    pub(super) cold: bool,
    pub(super) screened: Vec<Screened>,
}

impl<'a, T: Element> Problem<'a, T> {
    /// Checks and scales the queries.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for the first query that is not finite, [`Error::Interrupted`].
    pub fn new(
        queries: Matrix<'_, f32>,
        database: &'a Database<'a, T>,
        k: usize,
        control: &Control,
    ) -> Result<Self> {
        let (rows, columns) = (queries.rows(), queries.columns());
        let mut scaled = vec![0.0; rows * columns];
        let mut exact = Vec::with_capacity(rows * columns);
        let (mut screened, mut norms) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for number in 0..rows {
            control.check()?;
            let (query, range) = (queries.row(number), number * columns..(number + 1) * columns);
            screened.push(Screened::new(query, number, T::LARGEST, &mut scaled[range.clone()])?);
            exact.extend(query.iter().copied().map(f64::from));
            norms.push(exact::norm(&exact[range]));
        }
        Ok(Self {
            kernels: Kernels::active()?,
            database,
            k,
            floors: vec![Rank::LAST; screened.len()],
            scaled,
            exact,
            norms,
            cold: database.is_cold(),
            screened,
        })
    }

    /// The same problem, in which rows behind `floors`, one a query, need not be found.
    #[must_use]
    pub fn above(self, floors: Vec<Rank>) -> Self {
        assert_eq!(floors.len(), self.screened.len(), "one floor a query");
        Self { floors, ..self }
    }

    /// Rows of a query behind this need not be found.
    pub(super) fn floor(&self, query: usize) -> Rank {
        self.floors[query]
    }

    /// Whether every query has a floor.
    pub(super) fn has_floors(&self) -> bool {
        !self.floors.contains(&Rank::LAST)
    }

    /// The same problem for some of the queries.
    #[must_use]
    pub fn subset(&self, queries: &[usize]) -> Self {
        let columns = self.database.columns();
        Self {
            kernels: self.kernels,
            database: self.database,
            k: self.k,
            cold: self.cold,
            floors: queries.iter().map(|&query| self.floors[query]).collect(),
            scaled: queries.iter().flat_map(|&query| self.scaled(query)).copied().collect(),
            exact: queries
                .iter()
                .flat_map(|&query| &self.exact[query * columns..][..columns])
                .copied()
                .collect(),
            norms: queries.iter().map(|&query| self.norms[query]).collect(),
            screened: queries.iter().map(|&query| self.screened[query].clone()).collect(),
        }
    }

    /// The canonical score of a query and a row.
    pub fn score(&self, query: usize, row: usize) -> f32 {
        self.score_of(query, self.database.row(row))
    }

    /// The canonical score of a query and the values of a row.
    pub(super) fn score_of(&self, query: usize, row: &[T]) -> f32 {
        let columns = self.database.columns();
        let values = &self.exact[query * columns..][..columns];
        exact::score(self.kernels, row, exact::Query { values, norm: self.norms[query] })
    }

    /// Starts to read rows, or with `coarse` their planes, that lie far apart, if they are on disk: all are asked for before
    /// the first is waited for.
    pub(super) fn ask_for(&self, rows: impl Iterator<Item = usize>, coarse: bool) {
        if self.cold {
            rows.for_each(|row| self.database.will_need(row, coarse));
        }
    }

    /// Calls `read`, which reads vectors far apart: of a file, nothing else is then read around them.
    pub(super) fn here_and_there<R>(&self, read: impl FnOnce() -> R) -> R {
        if !self.cold {
            return read();
        }
        self.database.read_at_random(true);
        let found = read();
        self.database.read_at_random(false);
        found
    }

    pub(super) fn scaled(&self, query: usize) -> &[f32] {
        &self.scaled[query * self.database.columns()..][..self.database.columns()]
    }

    pub(super) fn non_finite(&self, row: usize) -> Error {
        non_finite(self.database, row)
    }

    /// The error for the first row that is not finite, whichever thread found which.
    pub fn first_non_finite(&self) -> Option<Error> {
        first_non_finite(self.database)
    }

    fn lane(&self, queries: Range<usize>) -> Lane {
        let mut limits = Limits { threshold: [f32::INFINITY; PANEL], slope: [0.0; PANEL] };
        for (at, query) in queries.clone().enumerate() {
            limits.slope[at] = self.screened[query].slope();
            limits.threshold[at] = match self.floors[query] {
                Rank::LAST => f32::NEG_INFINITY,
                floor => self.screened[query].limit(floor.score()),
            };
        }
        Lane {
            candidates: queries.clone().map(|query| Candidates::new(self.k, self.floors[query])).collect(),
            queries,
            limits,
            tile: Tile::default(),
            scores: vec![[0.0; FEW]; BATCH],
            squares: vec![0.0; BATCH],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.screened.len() * Candidates::capacity(self.k) * size_of::<Candidate>()
    }

    /// Adds a screened row to the candidates of one query of a lane.
    fn admit(&self, lane: &mut Lane, at: usize, row: usize, score: f32, norm: f32) {
        let query = lane.queries.start + at;
        let screened = &self.screened[query];
        let (lower, upper) = screened.bounds(score, norm);
        let candidates = &mut lane.candidates[at];
        if candidates.push(Candidate { lower, upper, row }, |row| self.score(query, row)) {
            lane.limits.threshold[at] = screened.limit(candidates.threshold());
        }
    }
}

/// The error for a row that is not finite.
pub(super) fn non_finite<T: Element>(database: &Database<'_, T>, row: usize) -> Error {
    planes::non_finite(row, database.row(row))
}

/// The error for the first row that is not finite, if there is one.
pub(super) fn first_non_finite<T: Element>(database: &Database<'_, T>) -> Option<Error> {
    let mut first = None;
    database.runs(0..database.rows(), |start, _, values| {
        if first.is_none() {
            first = values
                .iter()
                .position(|value| !value.to_f64().is_finite())
                .map(|at| non_finite(database, start + at / database.columns()));
        }
    });
    first
}

/// The selection state of a group of queries.
#[derive(Debug)]
pub struct Lane {
    /// Consecutive query numbers.
    pub(super) queries: Range<usize>,
    /// Their candidates, in that order.
    pub(super) candidates: Vec<Candidates>,
    limits: Limits,
    tile: Tile,
    scores: Vec<[f32; FEW]>,
    squares: Vec<f32>,
}

/// The screen for many queries.
#[derive(Debug)]
pub struct Panels<'a, T> {
    problem: &'a Problem<'a, T>,
    queries: Vec<Aligned>,
    stride: usize,
    growth: f64,
}

/// Float32 rows with their norms and numbers.
#[derive(Debug)]
pub struct Widened {
    values: Aligned,
    norms: Vec<f32>,
    rows: Vec<usize>,
}

impl<'a, T: Element> Panels<'a, T> {
    /// Transposes the queries into panels.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn new(problem: &'a Problem<'a, T>, control: &Control) -> Result<Self> {
        let columns = problem.database.columns();
        let queries: Result<Vec<Aligned>> = (0..problem.screened.len())
            .step_by(PANEL)
            .map(|first| {
                let mut panel = Aligned::zeros(columns * PANEL);
                let values = panel.as_mut_slice();
                for lane in 0..PANEL.min(problem.screened.len() - first) {
                    control.check()?;
                    for (column, &value) in problem.scaled(first + lane).iter().enumerate() {
                        values[column * PANEL + lane] = value;
                    }
                }
                Ok(panel)
            })
            .collect();
        // An odd number of cache lines: rows do not all fall into the same cache set.
        let stride = (columns.div_ceil(16) | 1) * 16;
        Ok(Self { problem, queries: queries?, stride, growth: growth(columns) })
    }

    /// Rows in a block.
    pub fn chunk(&self) -> usize {
        (BLOCK_BYTES / (self.stride * size_of::<f32>())).clamp(TILE, 256 * TILE) / TILE * TILE
    }
}

impl<T: Element> Scan for Panels<'_, T> {
    type Block = Widened;
    type Lane = Lane;

    fn block(&self) -> Widened {
        let rows = self.chunk();
        Widened {
            values: Aligned::zeros(rows * self.stride),
            norms: vec![0.0; rows],
            rows: Vec::with_capacity(rows),
        }
    }

    fn lanes(&self) -> Vec<Lane> {
        let queries = self.problem.screened.len();
        (0..queries)
            .step_by(PANEL)
            .map(|first| self.problem.lane(first..queries.min(first + PANEL)))
            .collect()
    }

    fn lane_bytes(&self) -> usize {
        self.problem.bytes()
    }

    fn reading_ahead<R>(&self, chunks: &Chunks, search: impl FnOnce(&Ahead) -> R) -> R {
        reading_ahead(self.problem.database, chunks, false, self.problem.cold, search)
    }

    fn release(&self, rows: Range<usize>) {
        if self.problem.cold {
            self.problem.database.release(rows);
        }
    }

    fn prepare(&self, rows: Range<usize>, block: &mut Widened) -> Result<()> {
        let Problem { kernels, database, .. } = *self.problem;
        block.rows.clear();
        let mut bad = None;
        database.runs(rows, |first, count, values| {
            for i in 0..count {
                let at = block.rows.len();
                let row = &values[i * database.columns()..][..database.columns()];
                let out = &mut block.values.as_mut_slice()[at * self.stride..][..self.stride];
                block.norms[at] = T::widen(kernels, row, self.growth, out);
                if block.norms[at].is_nan() {
                    bad.get_or_insert(first + i);
                }
                block.rows.push(first + i);
            }
        });
        bad.map_or(Ok(()), |row| Err(self.problem.non_finite(row)))
    }

    fn scan(&self, block: &Widened, lane: &mut Lane) -> Result<()> {
        let panel =
            &self.queries[lane.queries.start / PANEL].as_slice()[..self.problem.database.columns() * PANEL];
        let narrow = lane.queries.len() <= PANEL / 2;
        for first in (0..block.rows.len()).step_by(TILE) {
            let rows = &block.values.as_slice()[first * self.stride..];
            let norms = block.norms[first..].first_chunk().expect("blocks hold whole tiles");
            let kernels = self.problem.kernels;
            kernels.tile(rows, self.stride, panel, norms, &lane.limits, narrow, &mut lane.tile);
            if lane.tile.hits == [0; TILE] {
                continue;
            }
            for (i, &row) in block.rows[first..].iter().take(TILE).enumerate() {
                let mut hits = lane.tile.hits[i];
                while hits != 0 {
                    let at = hits.trailing_zeros() as usize;
                    hits &= hits - 1;
                    let score = lane.tile.scores[i][at];
                    self.problem.admit(lane, at, row, score, norms[i]);
                }
            }
        }
        Ok(())
    }
}

/// Rows in a chunk for few queries.
fn chunk_of_few(columns: usize) -> usize {
    let bytes = 2 * columns;
    (CHUNK_BYTES / bytes).max((MOST_BATCH_BYTES / bytes).clamp(1, BATCH))
}

/// The screen for up to 8 queries: bandwidth-bound, float16 rows are read once and never stored.
#[derive(Debug)]
pub struct Rows<'a, T> {
    problem: &'a Problem<'a, T>,
    queries: Aligned,
    stride: usize,
    growth: f64,
}

impl<'a, T: Element> Rows<'a, T> {
    /// Pads the queries to whole vectors; None if this screen does not fit the problem.
    pub fn new(problem: &'a Problem<'a, T>) -> Option<Self> {
        let columns = problem.database.columns();
        if T::halves(&[]).is_none() || columns == 0 || !(1..=FEW).contains(&problem.screened.len()) {
            return None;
        }
        let stride = columns.next_multiple_of(16);
        let mut queries = Aligned::zeros(FEW * stride);
        for query in 0..problem.screened.len() {
            queries.as_mut_slice()[query * stride..][..columns].copy_from_slice(problem.scaled(query));
        }
        Some(Self { problem, queries, stride, growth: growth(columns) })
    }

    /// Rows in a chunk.
    pub fn chunk(&self) -> usize {
        chunk_of_few(self.problem.database.columns())
    }

    fn batch(&self, first: usize, rows: &[half::f16], lane: &mut Lane) -> Result<()> {
        let (columns, queries) = (self.problem.database.columns(), lane.queries.len());
        let count = rows.len() / columns;
        let (scores, squares) = (&mut lane.scores[..count], &mut lane.squares[..count]);
        self.problem.kernels.few(
            rows,
            columns,
            self.queries.as_slice(),
            self.stride,
            queries,
            scores,
            squares,
        );
        for i in 0..count {
            let norm = norm(lane.squares[i], self.growth);
            if norm.is_nan() {
                return Err(self.problem.non_finite(first + i));
            }
            for at in 0..queries {
                let score = lane.scores[i][at];
                if score >= lane.limits.threshold[at] - lane.limits.slope[at] * norm {
                    self.problem.admit(lane, at, first + i, score, norm);
                }
            }
        }
        Ok(())
    }
}

impl<T: Element> Scan for Rows<'_, T> {
    type Block = Range<usize>;
    type Lane = Lane;

    fn block(&self) -> Range<usize> {
        0..0
    }

    fn lanes(&self) -> Vec<Lane> {
        vec![self.problem.lane(0..self.problem.screened.len())]
    }

    fn lane_bytes(&self) -> usize {
        self.problem.bytes()
    }

    fn reading_ahead<R>(&self, chunks: &Chunks, search: impl FnOnce(&Ahead) -> R) -> R {
        reading_ahead(self.problem.database, chunks, false, self.problem.cold, search)
    }

    fn release(&self, rows: Range<usize>) {
        if self.problem.cold {
            self.problem.database.release(rows);
        }
    }

    fn prepare(&self, rows: Range<usize>, block: &mut Range<usize>) -> Result<()> {
        *block = rows;
        Ok(())
    }

    fn scan(&self, block: &Range<usize>, lane: &mut Lane) -> Result<()> {
        let mut outcome = Ok(());
        self.problem.database.runs(block.clone(), |first, _, values| {
            let Some(halves) = T::halves(values) else { return };
            let size = BATCH * self.problem.database.columns();
            for (batch, rows) in halves.chunks(size).enumerate() {
                if outcome.is_ok() {
                    outcome = self.batch(first + batch * BATCH, rows, lane);
                }
            }
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_few_queries_are_never_long() {
        assert_eq!([64, 512, 2048, 4096, 1 << 17].map(chunk_of_few), [2048, 256, 64, 64, 64]);
        assert_eq!([1 << 20, 20_000_000, 1 << 40].map(chunk_of_few), [8, 1, 1]);
    }
}
