//! The bfloat16 codec: twice the products of float32 an instruction, and rows need no rotation.
//!
//! For middling numbers of queries, for which quantising rows to int8 on the way would be most of the work.

use std::ops::Range;

use super::bounds::{Estimate, Rounded, growth};
use super::codec::Codec;
use super::database::Database;
use super::element::{Element, norm};
use super::screen::Problem;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_bf16::{Kernels, Rows, STEP};
use crate::kernels::dot_f16;
use crate::kernels::prefetch::prefetch;
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// The queries as bfloat16, and how rows become so.
#[derive(Debug)]
pub struct Bfloat16 {
    kernels: &'static Kernels,
    floats: &'static dot_f16::Kernels,
    depth: usize,
    growth: f64,
    queries: Vec<Rounded>,
    /// Panels of 32 queries across the lanes.
    panels: Vec<Aligned<u16>>,
}

/// Rounded rows.
#[derive(Debug)]
pub struct Block {
    values: Aligned<u16>,
    norms: Vec<f32>,
}

impl Bfloat16 {
    /// Whether this machine has instructions for it.
    pub fn is_fast() -> bool {
        Kernels::active().is_ok_and(Kernels::is_fast)
    }

    /// Rounds the queries; None if rows are empty, or too long for a bound.
    pub fn new<T: Element>(problem: &Problem<'_, T>) -> Result<Option<Self>> {
        let columns = problem.database.columns();
        let depth = columns.next_multiple_of(STEP);
        let kernels = Kernels::active()?;
        let (mut padded, mut rounded) = (vec![0.0; depth], vec![0; depth]);
        let (mut panels, mut queries) = (Vec::<Aligned<u16>>::new(), Vec::new());
        for (number, screened) in problem.screened.iter().enumerate() {
            padded[..columns].copy_from_slice(problem.scaled(number));
            kernels.round(&padded, &mut rounded);
            let Some(query) = Rounded::new(screened, &padded, &rounded, T::LARGEST) else { return Ok(None) };
            queries.push(query);
            let lane = number % PANEL;
            if lane == 0 {
                panels.push(Aligned::zeros(depth * PANEL));
            }
            let panel = panels.last_mut().expect("just pushed").as_mut_slice();
            for (groups, pair) in panel.chunks_exact_mut(2 * PANEL).zip(rounded.chunks_exact(2)) {
                groups[2 * lane..][..2].copy_from_slice(pair);
            }
        }
        let floats = dot_f16::Kernels::active()?;
        Ok((depth > 0).then(|| Self { kernels, floats, depth, growth: growth(columns), queries, panels }))
    }

    fn panel(&self, panel: usize) -> &[u16] {
        &self.panels[panel].as_slice()[..self.depth * PANEL]
    }
}

impl<T: Element> Codec<T> for Bfloat16 {
    type Block = Block;
    type Rows<'r> = Rows<'r>;

    fn row_bytes(&self) -> usize {
        self.depth * size_of::<u16>()
    }

    fn scratch(&self) -> usize {
        self.depth
    }

    fn block(&self, rows: usize) -> Block {
        Block { values: Aligned::zeros(rows * self.depth), norms: vec![0.0; rows] }
    }

    fn set(&self, at: usize, values: &[T], block: &mut Block, scratch: &mut [f32]) -> f32 {
        let place = &mut block.values.as_mut_slice()[at * self.depth..][..self.depth];
        if let Some(halves) = T::halves(values).filter(|halves| halves.len() == self.depth) {
            block.norms[at] = norm(self.kernels.round_halves(halves, place), self.growth);
            return block.norms[at];
        }
        // Beyond the row, the scratch space stays zero.
        let norm = T::widen(self.floats, values, self.growth, &mut scratch[..values.len()]);
        self.kernels.round(scratch, place);
        block.norms[at] = norm;
        norm
    }

    fn copy(&self, at: usize, rows: Rows<'_>, block: &mut Block) {
        block.values.as_mut_slice()[at * self.depth..][..rows.count() * self.depth]
            .copy_from_slice(&rows.values[..rows.count() * self.depth]);
        block.norms[at..at + rows.count()].copy_from_slice(rows.norms);
    }

    fn head<'r>(&self, block: &'r Block, count: usize) -> Rows<'r> {
        Rows { values: block.values.as_slice(), stride: self.depth, norms: &block.norms[..count] }
    }

    fn slice<'r>(
        &self,
        rows: <Self as Codec<T>>::Rows<'r>,
        range: Range<usize>,
    ) -> <Self as Codec<T>>::Rows<'r> {
        Rows {
            values: &rows.values[range.start * rows.stride..],
            stride: rows.stride,
            norms: &rows.norms[range],
        }
    }

    fn ready<'r>(&self, _: &Database<'r, T>, _: usize, _: usize) -> Option<Rows<'r>> {
        None
    }

    fn fetch(&self, database: &Database<'_, T>, row: usize) {
        prefetch(database.row(row));
    }

    fn reads_planes(&self) -> bool {
        false
    }

    fn hits(
        &self,
        _: usize,
        panel: usize,
        queries: usize,
        rows: Rows<'_>,
        limits: &Limits,
        hits: &mut [Hit],
        ahead: &[T],
    ) -> usize {
        self.kernels.panel(rows, self.panel(panel), queries <= PANEL / 2, limits, hits, ahead)
    }

    fn scores(&self, _: usize, panel: usize, rows: Rows<'_>, scores: &mut [[f32; PANEL]]) {
        self.kernels.scores(rows, self.panel(panel), scores);
    }

    fn slopes(&self, query: usize, _: usize) -> [f32; 3] {
        [0.0, self.queries[query].norm(), 0.0]
    }

    fn centre(&self, _: &Database<'_, T>, _: usize) -> usize {
        0
    }

    fn limit(&self, query: usize, _: usize, least: f32) -> f32 {
        self.queries[query].limit(least)
    }

    fn estimate(&self, query: usize, _: usize) -> Estimate {
        self.queries[query].estimate()
    }
}
