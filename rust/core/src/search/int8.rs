//! The int8 codec: four times the products of float32 an instruction, half the bytes of float16 a row.
//!
//! Rows come as int8 planes, ready or made block by block while the database streams by, and are multiplied with
//! the rotated and quantised queries as integers.

use std::ops::Range;

use super::bounds::{Estimate, Quantised, Screened};
use super::codec::Codec;
use super::database::Database;
use super::element::Element;
use super::planes::{CENTRED, OwnedPlanes, Quantiser};
use super::sample::TOGETHER;
use super::screen::Problem;
use crate::error::Result;
use crate::kernels::aligned::Aligned;
use crate::kernels::dot_i8::{FEW, Rows};
use crate::kernels::prefetch::prefetch;
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// Up to so many queries, planes on disk are worth reading: more look closer at so many rows that reading the
/// vectors alone is faster.
const ON_DISK: usize = 8;

/// The queries as int8, and how rows become so.
#[derive(Debug)]
pub struct Int8 {
    quantiser: Quantiser,
    /// The queries for rows quantised on the way, and for those with each centre that planes of the database have.
    around: Vec<Around>,
    /// Whether the planes of the database are used.
    planes: bool,
}

/// Queries for rows around one centre.
#[derive(Debug, Default)]
struct Around {
    queries: Vec<Quantised>,
    /// Their products with the centre, in panels.
    centre: Vec<[f32; PANEL]>,
    /// Panels of 32 queries across the lanes.
    panels: Vec<Aligned<u8>>,
    /// Up to 8 queries, one after the other.
    few: Option<Aligned<u8>>,
}

impl Int8 {
    /// Rotates and quantises the queries; None if rows are too long or empty.
    pub fn new<T: Element>(problem: &Problem<'_, T>) -> Result<Option<Self>> {
        let columns = problem.database.columns();
        let Some(mut quantiser) = Quantiser::new(columns)? else { return Ok(None) };
        let planes = Self::reads_planes_of(problem);
        let ready = planes && problem.database.has_planes();
        if !ready {
            let rows = problem.database.evenly(CENTRED, if problem.cold { TOGETHER } else { 1 });
            let mean = || quantiser.around_mean(rows.iter().map(|&row| problem.database.row(row)));
            quantiser = problem.here_and_there(mean);
        }
        let (padded, count) = (quantiser.padded(), problem.screened.len());
        let mut rotated = vec![0.0; count * padded];
        for (number, rotated) in rotated.chunks_exact_mut(padded).enumerate() {
            rotated[..columns].copy_from_slice(problem.scaled(number));
            quantiser.rotate(rotated);
        }
        let of = |centre: &[f32]| Around::new(&problem.screened, &quantiser, centre, &rotated);
        let mut around = vec![if ready { Around::default() } else { of(quantiser.centre()) }];
        if planes {
            around.extend(problem.database.centres().iter().map(|centre| of(centre)));
        }
        Ok(Some(Self { quantiser, around, planes }))
    }

    /// Whether planes that a database has are used.
    pub fn reads_planes_of<T: Element>(problem: &Problem<'_, T>) -> bool {
        !problem.cold || problem.screened.len() <= ON_DISK
    }
}

impl Around {
    /// Quantises queries, `rotated` one after the other.
    fn new(screened: &[Screened], quantiser: &Quantiser, centre: &[f32], rotated: &[f32]) -> Self {
        let (padded, offset) = (quantiser.padded(), quantiser.kernels.offset());
        let few = (screened.len() <= FEW).then(|| Aligned::zeros(screened.len() * padded));
        let mut around = Self { few, ..Self::default() };
        let (mut scratch, mut codes) = (vec![0.0; padded], vec![0; padded]);
        for (number, (screened, rotated)) in screened.iter().zip(rotated.chunks_exact(padded)).enumerate() {
            let quantised = Quantised::new(screened, quantiser, centre, rotated, &mut scratch, &mut codes);
            let unsigned = |code: i8| (i32::from(code) + offset) as u8;
            let (panel, lane) = (number / PANEL, number % PANEL);
            if lane == 0 {
                around.panels.push(Aligned::zeros(padded * PANEL));
                around.centre.push([0.0; PANEL]);
            }
            around.centre[panel][lane] = quantised.centre();
            around.queries.push(quantised);
            let groups = around.panels[panel].as_mut_slice().chunks_exact_mut(4 * PANEL);
            for (group, codes) in groups.zip(codes.chunks_exact(4)) {
                for (place, &code) in group[4 * lane..].iter_mut().zip(codes) {
                    *place = unsigned(code);
                }
            }
            if let Some(few) = &mut around.few {
                for (place, &code) in few.as_mut_slice()[number * padded..].iter_mut().zip(&codes) {
                    *place = unsigned(code);
                }
            }
        }
        around
    }

    /// The codes of a panel of queries.
    fn panel(&self, panel: usize, padded: usize) -> &[u8] {
        &self.panels[panel].as_slice()[..padded * PANEL]
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
        block.set(at, &self.quantiser, values, scratch)
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

    fn fetch(&self, database: &Database<'_, T>, row: usize) {
        if let Some(rows) = <Self as Codec<T>>::ready(self, database, row, 1) {
            prefetch(&rows.codes[..self.quantiser.padded()]);
            prefetch(rows.facts);
        } else {
            prefetch(database.row(row));
        }
    }

    fn reads_planes(&self) -> bool {
        self.planes
    }

    fn hits(
        &self,
        centre: usize,
        panel: usize,
        queries: usize,
        rows: Rows<'_>,
        limits: &Limits,
        hits: &mut [Hit],
        _: &[T],
    ) -> usize {
        let (kernels, padded) = (self.quantiser.kernels, self.quantiser.padded());
        let around = &self.around[centre];
        if let Some(few) = &around.few {
            kernels.few(rows, &few.as_slice()[..queries * padded], queries, limits, hits)
        } else {
            kernels.panel(rows, around.panel(panel, padded), queries <= PANEL / 2, limits, hits)
        }
    }

    fn scores(&self, centre: usize, panel: usize, rows: Rows<'_>, scores: &mut [[f32; PANEL]]) {
        let around = &self.around[centre];
        let codes = around.panel(panel, self.quantiser.padded());
        self.quantiser.kernels.scores(rows, codes, &around.centre[panel], scores);
    }

    fn slopes(&self, query: usize, centre: usize) -> [f32; 3] {
        let query = &self.around[centre].queries[query];
        [query.residual(), query.norm(), query.centre()]
    }

    fn centre(&self, database: &Database<'_, T>, first: usize) -> usize {
        database.centre_of(first).filter(|_| self.planes).map_or(0, |centre| centre + 1)
    }

    fn limit(&self, query: usize, centre: usize, least: f32) -> f32 {
        self.around[centre].queries[query].limit(least)
    }

    fn estimate(&self, query: usize, centre: usize) -> Estimate {
        self.around[centre].queries[query].estimate()
    }
}
