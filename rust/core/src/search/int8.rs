//! The int8 codec: four times the products of float32 an instruction, half the bytes of float16 a row.
//!
//! Rows come as int8 planes, ready or made block by block while the database streams by, and are multiplied with
//! the rotated and quantised queries as integers.

use std::iter::once;
use std::ops::Range;

use super::bounds::{Quantised, Shift};
use super::codec::Codec;
use super::database::Database;
use super::element::Element;
use super::planes::{CENTRED, OwnedPlanes, Quantiser};
use super::sample::TOGETHER;
use super::screen::Problem;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_i8::{FEW, Rows};
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// Up to so many queries, planes on disk are worth reading: more look closer at so many rows that reading the
/// vectors alone is faster.
const ON_DISK: usize = 8;

/// The queries as int8, and how rows become so.
#[derive(Debug)]
pub struct Int8 {
    quantiser: Quantiser,
    queries: Vec<Quantised>,
    /// What scores lack: of rows quantised on the way, and of those with each centre that planes of the database have.
    shifts: Vec<Vec<Shift>>,
    /// Panels of 32 queries across the lanes.
    panels: Vec<Aligned<u8>>,
    /// Whether the planes of the database are used.
    planes: bool,
    /// Up to 8 queries, one after the other.
    few: Option<Aligned<u8>>,
}

impl Int8 {
    /// Rotates and quantises the queries; None if rows are too long or empty.
    pub fn new<T: Element>(problem: &Problem<'_, T>) -> Result<Option<Self>> {
        let columns = problem.database.columns();
        let Some(mut quantiser) = Quantiser::new(columns)? else { return Ok(None) };
        let planes = Self::reads_planes_of(problem);
        if !(planes && problem.database.has_planes()) {
            let rows = problem.database.evenly(CENTRED, if problem.cold { TOGETHER } else { 1 });
            let mean = || quantiser.around_mean(rows.iter().map(|&row| problem.database.row(row)));
            quantiser = problem.here_and_there(mean);
        }
        let centres = || once(quantiser.centre()).chain(problem.database.centres().iter().copied());
        let mut shifts: Vec<Vec<Shift>> = centres().map(|_| Vec::new()).collect();
        let (padded, offset) = (quantiser.padded(), quantiser.kernels.offset());
        let count = problem.screened.len();
        let mut few = (count <= FEW).then(|| Aligned::zeros(count * padded));
        let (mut rotated, mut codes) = (vec![0.0; padded], vec![0; padded]);
        let (mut panels, mut queries) = (Vec::<Aligned<u8>>::new(), Vec::new());
        for (number, screened) in problem.screened.iter().enumerate() {
            rotated.fill(0.0);
            rotated[..columns].copy_from_slice(problem.scaled(number));
            quantiser.rotate(&mut rotated);
            let quantised = Quantised::new(screened, &quantiser, &rotated, &mut codes);
            for (shifts, centre) in shifts.iter_mut().zip(centres()) {
                shifts.push(quantised.shift(&rotated, centre));
            }
            queries.push(quantised);
            let unsigned = |code: i8| (i32::from(code) + offset) as u8;
            let lane = number % PANEL;
            if lane == 0 {
                panels.push(Aligned::zeros(padded * PANEL));
            }
            let panel = panels.last_mut().expect("just pushed").as_mut_slice();
            for (groups, codes) in panel.chunks_exact_mut(4 * PANEL).zip(codes.chunks_exact(4)) {
                for (place, &code) in groups[4 * lane..].iter_mut().zip(codes) {
                    *place = unsigned(code);
                }
            }
            if let Some(few) = &mut few {
                for (place, &code) in few.as_mut_slice()[number * padded..].iter_mut().zip(&codes) {
                    *place = unsigned(code);
                }
            }
        }
        Ok(Some(Self { quantiser, queries, shifts, panels, planes, few }))
    }

    /// Whether planes that a database has are used.
    pub fn reads_planes_of<T: Element>(problem: &Problem<'_, T>) -> bool {
        !problem.cold || problem.screened.len() <= ON_DISK
    }

    fn panel(&self, panel: usize) -> &[u8] {
        &self.panels[panel].as_slice()[..self.quantiser.padded() * PANEL]
    }
}

impl<T: Element> Codec<T> for Int8 {
    type Block = OwnedPlanes;
    type Rows<'r> = Rows<'r>;

    fn row_bytes(&self) -> usize {
        self.quantiser.padded()
    }

    fn scratch(&self) -> usize {
        self.quantiser.padded()
    }

    fn block(&self, rows: usize) -> OwnedPlanes {
        OwnedPlanes::zeros(rows, self.quantiser.columns())
    }

    fn set(&self, at: usize, values: &[T], block: &mut OwnedPlanes, scratch: &mut [f32]) -> f32 {
        block.set(at, &self.quantiser, values, scratch).norm
    }

    fn copy(&self, at: usize, rows: Rows<'_>, block: &mut OwnedPlanes) {
        block.copy(at, rows);
    }

    fn head<'r>(&self, block: &'r OwnedPlanes, count: usize) -> Rows<'r> {
        block.head(count)
    }

    fn slice<'r>(
        &self,
        rows: <Self as Codec<T>>::Rows<'r>,
        range: Range<usize>,
    ) -> <Self as Codec<T>>::Rows<'r> {
        rows.slice(range)
    }

    fn ready<'r>(&self, database: &Database<'r, T>, first: usize, count: usize) -> Option<Rows<'r>> {
        database.quantised(first, count).filter(|_| self.planes)
    }

    fn reads_planes(&self) -> bool {
        self.planes
    }

    fn hits(
        &self,
        panel: usize,
        queries: usize,
        rows: Rows<'_>,
        limits: &Limits,
        hits: &mut [Hit],
        _: &[T],
    ) -> usize {
        let kernels = self.quantiser.kernels;
        if let Some(few) = &self.few {
            let codes = &few.as_slice()[..queries * self.quantiser.padded()];
            kernels.few(rows, codes, queries, limits, hits)
        } else {
            kernels.panel(rows, self.panel(panel), queries <= PANEL / 2, limits, hits)
        }
    }

    fn scores(&self, panel: usize, rows: Rows<'_>, scores: &mut [[f32; PANEL]]) {
        self.quantiser.kernels.scores(rows, self.panel(panel), scores);
    }

    fn slopes(&self, query: usize) -> (f32, f32) {
        (self.queries[query].residual(), self.queries[query].norm())
    }

    fn centre(&self, database: &Database<'_, T>, first: usize) -> usize {
        database.centre_of(first).filter(|_| self.planes).map_or(0, |centre| centre + 1)
    }

    fn shift(&self, query: usize, centre: usize) -> f32 {
        self.shifts[centre][query].amount()
    }

    fn limit(&self, query: usize, centre: usize, least: f32) -> f32 {
        self.queries[query].limit(self.shifts[centre][query], least)
    }

    fn estimate(&self, query: usize, score: f32) -> f32 {
        self.queries[query].estimate(score)
    }
}
