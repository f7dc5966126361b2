//! What a sweep needs to know of coarse codes.

use std::ops::Range;

use super::bounds::Estimate;
use super::database::Database;
use crate::kernels::tiles::{Hit, Limits, PANEL};

/// How rows and queries are coded for a screen, in panels of 32 queries.
pub trait Codec<T>: Sync {
    /// Room for coded rows.
    type Block: Send + Sync;
    /// Coded rows.
    type Rows<'r>: Copy + Send + Sync;

    /// Bytes of a coded row.
    fn row_bytes(&self) -> usize;
    /// Values of scratch space that [`Self::set`] needs.
    fn scratch(&self) -> usize;
    /// Room for rows.
    fn block(&self, rows: usize) -> Self::Block;
    /// Codes a row; returns a bound of its norm, NaN if it is not finite.
    fn set(&self, at: usize, values: &[T], block: &mut Self::Block, scratch: &mut [f32]) -> f32;
    /// Copies coded rows.
    fn copy(&self, at: usize, rows: Self::Rows<'_>, block: &mut Self::Block);
    /// The first rows of a block.
    fn head<'r>(&self, block: &'r Self::Block, count: usize) -> Self::Rows<'r>;
    /// Some of the rows.
    fn slice<'r>(&self, rows: Self::Rows<'r>, range: Range<usize>) -> Self::Rows<'r>;
    /// The codes of a run of rows, if the database has them.
    fn ready<'r>(&self, database: &Database<'r, T>, first: usize, count: usize) -> Option<Self::Rows<'r>>;
    /// Asks for what will be read soon of a row: its codes, or else its vector.
    fn fetch(&self, database: &Database<'_, T>, row: usize);
    /// Whether it uses codes that the database has.
    fn reads_planes(&self) -> bool;
    /// Which rows around a centre pass the limits of a panel with so many queries; their number. The vectors `ahead` are
    /// needed next.
    #[expect(clippy::too_many_arguments, reason = "what is multiplied with what, and where the result goes")]
    fn hits(
        &self,
        centre: usize,
        panel: usize,
        queries: usize,
        rows: Self::Rows<'_>,
        limits: &Limits,
        hits: &mut [Hit],
        ahead: &[T],
    ) -> usize;
    /// The coarse scores of rows around a centre with the queries of a panel.
    fn scores(&self, centre: usize, panel: usize, rows: Self::Rows<'_>, scores: &mut [[f32; PANEL]]);
    /// Errors of a query per unit of residual norm and per unit of norm, and its product with the centre.
    fn slopes(&self, query: usize, centre: usize) -> [f32; 3];
    /// Which centre was subtracted from the rows of the shard in which row `first` is.
    fn centre(&self, database: &Database<'_, T>, first: usize) -> usize;
    /// The threshold of a query's coarse scores, of rows around a centre, that lets every row through whose canonical score
    /// could be at least `least`.
    fn limit(&self, query: usize, centre: usize, least: f32) -> f32;
    /// How canonical scores of a query are estimated from coarse ones, of rows around a centre.
    fn estimate(&self, query: usize, centre: usize) -> Estimate;
}
