//! The int8 screen, for many queries on much data: four times the products of float32 an instruction.
//!
//! Rows and queries are rotated (random signs and a Walsh-Hadamard transform, which spreads large coordinates),
//! quantised block by block while the database streams by, and multiplied as integers. The int8 scores of
//! a sample give a threshold that about the best k of a query should exceed; it is trusted during the scan and
//! proven at the end by k rows that reach it. Rows the bound lets through are screened again, in float32,
//! after each round of blocks. A query whose threshold is refuted, or for which too many rows come through,
//! is returned without candidates and left to the float32 screen.

use std::ops::Range;

use rayon::prelude::*;

use super::bounds::{Quantised, growth, residual};
use super::database::{Element, norm};
use super::schedule::{Scan, run};
use super::screen::Problem;
use super::select::{Candidate, Candidates};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_f16::FEW;
use crate::kernels::dot_i8::{DEEPEST, Kernels, Limits, PANEL, Rows, STEP, TILE, Tile};
use crate::kernels::prefetch::prefetch;
use crate::level::{self, Level};

/// Bytes of codes in a block: with the blocks of a second thread they stay in the second-level cache.
const BLOCK_BYTES: usize = 3 << 17;

/// Seed of the random signs.
const SEED: u64 = 0x1a5_fa57;

/// Rows in the sample at least and at most, as far as there are so many.
const SAMPLE: Range<usize> = 1024..16384;

/// Fewer queries, or rows for each of the best k, are not worth quantising the database.
const LEAST_QUERIES: usize = 96;
const LEAST_ROWS: usize = 1 << 14;
const LEAST_ROWS_PER_K: usize = 32;

/// Screening a row again costs about as much as this many rows in the float32 screen.
const ROWS_PER_SCORE: usize = 16;

/// How many candidates ahead the rows are fetched.
const AHEAD: usize = 4;

/// Random signs, 1 or -1 (splitmix64).
fn signs(count: usize) -> Vec<f32> {
    let mut state = SEED;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if mixed >> 63 == 0 { 1.0 } else { -1.0 }
        })
        .collect()
}

/// The queries as int8 planes.
#[derive(Debug)]
pub struct Planes<'a, T> {
    problem: &'a Problem<'a, T>,
    kernels: &'static Kernels,
    panels: Vec<Aligned<u8>>,
    queries: Vec<Quantised>,
    /// The float32 queries, padded to `width`.
    scaled: Aligned,
    width: usize,
    signs: Vec<f32>,
    /// Length of a transform: the largest power of two that divides the padded length.
    transform: usize,
    stride: usize,
    growth: f64,
    /// Where the scan starts: thresholds taken on trust.
    starts: Vec<f32>,
    patient: bool,
}

/// Quantised rows.
#[derive(Debug)]
pub struct Block {
    rows: Vec<usize>,
    codes: Aligned<i8>,
    sums: Vec<i32>,
    scales: Vec<f32>,
    residuals: Vec<f32>,
    norms: Vec<f32>,
    scratch: Vec<f32>,
}

/// The selection state of a panel of queries.
#[derive(Debug)]
pub struct Lane {
    queries: Range<usize>,
    candidates: Vec<Candidates>,
    limits: Limits,
    tile: Tile,
    /// Rows that came through and have not been looked at yet, for each query.
    survivors: Vec<Vec<usize>>,
    /// How many came through so far; None for a query that was given up.
    admitted: Vec<Option<usize>>,
    seen: usize,
}

impl<'a, T: Element> Planes<'a, T> {
    /// Whether the screen is likely to be faster than that in float32.
    pub fn pays(problem: &Problem<'_, T>) -> bool {
        let (queries, rows) = (problem.screened.len(), problem.database.searched());
        queries >= LEAST_QUERIES
            && rows >= LEAST_ROWS
            && rows / LEAST_ROWS_PER_K >= problem.k
            && level::active().is_ok_and(|level| level != Level::Scalar)
    }

    /// Rotates and quantises the queries; None if rows are too long or empty. Unless it `may_give_up`, the screen
    /// goes on however many rows come through.
    pub fn new(problem: &'a Problem<'a, T>, may_give_up: bool) -> Result<Option<Self>> {
        let kernels = Kernels::active()?;
        let padded = problem.database.columns().next_multiple_of(STEP);
        if padded == 0 || padded > DEEPEST {
            return Ok(None);
        }
        let transform = 1 << padded.trailing_zeros();
        let signs = signs(padded);
        let (mut rotated, mut codes) = (vec![0.0; padded], vec![0; padded]);
        let width = problem.database.columns().next_multiple_of(16);
        let mut scaled = Aligned::zeros(problem.screened.len() * width);
        let mut panels = Vec::new();
        let mut queries = Vec::new();
        for (number, screened) in problem.screened.iter().enumerate() {
            rotated.fill(0.0);
            rotated[..problem.database.columns()].copy_from_slice(problem.scaled(number));
            scaled.as_mut_slice()[number * width..][..problem.database.columns()]
                .copy_from_slice(problem.scaled(number));
            kernels.rotate(&mut rotated, &signs, transform);
            queries.push(Quantised::new(screened, kernels, &rotated, transform, &mut codes));
            let lane = number % PANEL;
            if lane == 0 {
                panels.push(Aligned::zeros(padded * PANEL));
            }
            let panel: &mut Aligned<u8> = panels.last_mut().expect("just pushed");
            for (groups, codes) in panel.as_mut_slice().chunks_exact_mut(4 * PANEL).zip(codes.chunks_exact(4))
            {
                for (place, code) in groups[4 * lane..].iter_mut().zip(codes) {
                    *place = code.wrapping_add_unsigned(128).cast_unsigned();
                }
            }
        }
        Ok(Some(Self {
            problem,
            kernels,
            panels,
            queries,
            scaled,
            width,
            signs,
            transform,
            // An odd number of cache lines: rows do not all fall into the same cache set.
            stride: ((padded / STEP) | 1) * STEP,
            growth: growth(problem.database.columns()),
            starts: vec![f32::NEG_INFINITY; problem.screened.len()],
            patient: !may_give_up,
        }))
    }

    /// The candidates of each query; None where the screen did not do.
    pub fn search(&mut self, control: &Control) -> Result<Vec<Option<Candidates>>> {
        self.starts = self.sample(control)?;
        let mut found: Vec<Option<Candidates>> =
            self.queries.iter().map(|_| Some(Candidates::new(self.problem.k))).collect();
        let chunks = self.problem.database.chunks(self.rows());
        for lane in run(self, &chunks, true, control)?.into_iter().flatten() {
            for ((query, candidates), admitted) in lane.queries.zip(lane.candidates).zip(lane.admitted) {
                match (&mut found[query], admitted) {
                    (Some(found), Some(_)) => found.merge(candidates),
                    (place, _) => *place = None,
                }
            }
        }
        for place in &mut found {
            if !place.as_mut().is_some_and(Candidates::complete) {
                *place = None;
            }
        }
        Ok(found)
    }

    /// Rows in a block.
    fn rows(&self) -> usize {
        (BLOCK_BYTES / self.stride).clamp(TILE, 256 * TILE) / TILE * TILE
    }

    fn padded(&self) -> usize {
        self.signs.len()
    }

    /// For each query a threshold that a few more rows than k are likely to reach.
    fn sample(&self, control: &Control) -> Result<Vec<f32>> {
        let (database, k) = (self.problem.database, self.problem.k);
        let searched = database.searched();
        let wanted = (searched / 12).clamp(SAMPLE.start, SAMPLE.end).min(searched);
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
            return Ok(self.starts.clone());
        }
        let blocks = sampled
            .par_chunks(self.rows())
            .map(|rows| {
                control.advance(0)?;
                let mut block = self.block();
                for &row in rows {
                    self.quantise(row, database.row(row), &mut block)?;
                }
                Ok(block)
            })
            .collect::<Result<Vec<_>>>()?;
        let starts = self.lanes().into_par_iter().with_max_len(1).map(|mut lane| {
            let mut scores = vec![Vec::with_capacity(sampled.len()); lane.queries.len()];
            for block in &blocks {
                control.advance(0)?;
                for first in (0..block.rows.len()).step_by(TILE) {
                    self.tile(block, first, &mut lane);
                    let count = TILE.min(block.rows.len() - first);
                    for (products, scale) in lane.tile.products[..count].iter().zip(&block.scales[first..]) {
                        for (scores, &product) in scores.iter_mut().zip(products) {
                            scores.push(product as f32 * scale);
                        }
                    }
                }
            }
            Ok(scores
                .iter_mut()
                .zip(lane.queries)
                .map(|(scores, query)| {
                    let (_, &mut score, _) = scores.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a));
                    self.queries[query].estimate(score)
                })
                .collect::<Vec<_>>())
        });
        Ok(starts.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Appends a row to a block.
    fn quantise(&self, row: usize, values: &[T], block: &mut Block) -> Result<()> {
        let at = block.rows.len();
        let norm = T::widen(self.problem.kernels, values, self.growth, &mut block.scratch[..values.len()]);
        if norm.is_nan() {
            return Err(self.problem.non_finite(row));
        }
        block.scratch[values.len()..].fill(0.0);
        self.kernels.rotate(&mut block.scratch, &self.signs, self.transform);
        let codes = &mut block.codes.as_mut_slice()[at * self.stride..][..self.padded()];
        let quantised = self.kernels.quantise(&block.scratch, self.kernels.limit(), codes);
        block.sums[at] = quantised.sum;
        block.scales[at] = quantised.scale;
        block.residuals[at] = residual(quantised.square, self.padded());
        block.norms[at] = norm;
        block.rows.push(row);
        Ok(())
    }

    /// Bounds of a canonical score in float32; where there is no kernel for that, the score.
    fn screen_again(&self, query: usize, row: usize) -> Candidate {
        let values = self.problem.database.row(row);
        let (lower, upper) = if let Some(halves) = T::halves(values) {
            let width = self.width;
            let (mut scores, mut squares) = ([[0.0; FEW]], [0.0]);
            let queries = &self.scaled.as_slice()[query * width..][..width];
            self.problem.kernels.few(halves, values.len(), queries, width, 1, &mut scores, &mut squares);
            self.problem.screened[query].bounds(scores[0][0], norm(squares[0], self.growth))
        } else {
            let score = self.problem.score(query, row);
            (score, score)
        };
        Candidate { lower, upper, row }
    }

    /// Multiplies 12 rows with the queries of a lane.
    fn tile(&self, block: &Block, first: usize, lane: &mut Lane) {
        let rows = Rows {
            codes: &block.codes.as_slice()[first * self.stride..],
            stride: self.stride,
            sums: block.sums[first..].first_chunk().expect("blocks hold whole tiles"),
            scales: block.scales[first..].first_chunk().expect("blocks hold whole tiles"),
            residuals: block.residuals[first..].first_chunk().expect("blocks hold whole tiles"),
            norms: block.norms[first..].first_chunk().expect("blocks hold whole tiles"),
        };
        let panel = &self.panels[lane.queries.start / PANEL].as_slice()[..self.padded() * PANEL];
        self.kernels.tile(rows, panel, &lane.limits, &mut lane.tile);
    }

    /// Whether so many rows came through that the float32 screen will be faster.
    fn useless(&self, admitted: usize, seen: usize) -> bool {
        !self.patient && admitted > 4 * self.problem.k + 2048 + seen / ROWS_PER_SCORE
    }
}

impl<T: Element> Scan for Planes<'_, T> {
    type Block = Block;
    type Lane = Lane;

    fn block(&self) -> Block {
        let rows = self.rows();
        Block {
            rows: Vec::with_capacity(rows),
            codes: Aligned::zeros(rows * self.stride),
            sums: vec![0; rows],
            scales: vec![0.0; rows],
            residuals: vec![0.0; rows],
            norms: vec![0.0; rows],
            scratch: vec![0.0; self.padded()],
        }
    }

    fn lanes(&self) -> Vec<Lane> {
        let queries = self.queries.len();
        (0..queries)
            .step_by(PANEL)
            .map(|first| {
                let queries = first..queries.min(first + PANEL);
                let mut limits =
                    Limits { threshold: [f32::INFINITY; PANEL], residual: [0.0; PANEL], norm: [0.0; PANEL] };
                let mut candidates = Vec::new();
                for (at, query) in queries.clone().enumerate() {
                    let quantised = &self.queries[query];
                    limits.threshold[at] = quantised.limit(self.starts[query]);
                    limits.residual[at] = quantised.residual();
                    limits.norm[at] = quantised.norm();
                    candidates.push(Candidates::new(self.problem.k));
                    candidates[at].assume(self.starts[query]);
                }
                Lane {
                    survivors: vec![Vec::new(); queries.len()],
                    admitted: vec![Some(0); queries.len()],
                    queries,
                    candidates,
                    limits,
                    tile: Tile::default(),
                    seen: 0,
                }
            })
            .collect()
    }

    fn lane_bytes(&self) -> usize {
        self.problem.bytes()
    }

    fn prepare(&self, rows: Range<usize>, block: &mut Block) -> Result<()> {
        let columns = self.problem.database.columns();
        block.rows.clear();
        let mut outcome = Ok(());
        self.problem.database.runs(rows, |first, _, values| {
            for (i, values) in values.chunks_exact(columns).enumerate() {
                if outcome.is_ok() {
                    outcome = self.quantise(first + i, values, block);
                }
            }
        });
        outcome
    }

    fn scan(&self, block: &Block, lane: &mut Lane) -> Result<()> {
        lane.seen += block.rows.len();
        if lane.admitted.iter().all(Option::is_none) {
            return Ok(());
        }
        for first in (0..block.rows.len()).step_by(TILE) {
            self.tile(block, first, lane);
            if lane.tile.hits == [0; TILE] {
                continue;
            }
            for (&row, &hits) in block.rows[first..].iter().zip(&lane.tile.hits) {
                let mut hits = hits;
                while hits != 0 {
                    lane.survivors[hits.trailing_zeros() as usize].push(row);
                    hits &= hits - 1;
                }
            }
        }
        Ok(())
    }

    fn refine(&self, lane: &mut Lane) -> Result<()> {
        for at in 0..lane.queries.len() {
            let Some(admitted) = lane.admitted[at] else { continue };
            let query = lane.queries.start + at;
            let (survivors, candidates) = (&mut lane.survivors[at], &mut lane.candidates[at]);
            let admitted = admitted + survivors.len();
            if self.useless(admitted, lane.seen) {
                lane.admitted[at] = None;
                lane.limits.threshold[at] = f32::INFINITY;
                *survivors = Vec::new();
                *candidates = Candidates::new(self.problem.k);
                continue;
            }
            lane.admitted[at] = Some(admitted);
            let mut risen = false;
            for (i, &row) in survivors.iter().enumerate() {
                if let Some(&soon) = survivors.get(i + AHEAD) {
                    prefetch(self.problem.database.row(soon));
                }
                let candidate = self.screen_again(query, row);
                risen |= candidates.push(candidate, |row| self.problem.score(query, row));
            }
            survivors.clear();
            if risen {
                lane.limits.threshold[at] = self.queries[query].limit(candidates.threshold());
            }
        }
        Ok(())
    }
}
