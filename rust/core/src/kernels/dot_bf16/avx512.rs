//! AVX512-BF16: 32 products an instruction, 24 accumulators a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;

use half::f16;

use super::{Ahead, Rows};
use crate::kernels::tiles::{Hit, Limits, PANEL, sweep, unrolled};

#[target_feature(enable = "avx512f,avx512bf16")]
pub fn round(values: &[f32], rounded: &mut [u16]) {
    for (values, rounded) in values.chunks_exact(32).zip(rounded.chunks_exact_mut(32)) {
        // SAFETY: both chunks have 32 elements; a __m512bh is 32 bit patterns.
        unsafe {
            let [low, high] = [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16))];
            rounded.as_mut_ptr().cast::<__m512bh>().write_unaligned(_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round_halves(values: &[f16], rounded: &mut [u16]) -> f32 {
    let mut squares = [_mm512_setzero_ps(); 2];
    for (values, rounded) in values.chunks_exact(32).zip(rounded.chunks_exact_mut(32)) {
        // SAFETY: both chunks have 32 elements; a __m512bh is 32 bit patterns.
        unsafe {
            let low = _mm512_cvtph_ps(_mm256_loadu_epi16(values.as_ptr().cast()));
            let high = _mm512_cvtph_ps(_mm256_loadu_epi16(values.as_ptr().add(16).cast()));
            squares = [_mm512_fmadd_ps(low, low, squares[0]), _mm512_fmadd_ps(high, high, squares[1])];
            rounded.as_mut_ptr().cast::<__m512bh>().write_unaligned(_mm512_cvtne2ps_pbh(high, low));
        }
    }
    _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]))
}

/// The products of the rows from `$first` on, one a listed index, with `$columns` registers of 16 queries. What `$ahead`
/// says of a step is done along with it.
macro_rules! products {
    ($rows:ident, $first:expr, $panel:expr, $columns:literal, [$($i:literal)*], $ahead:expr) => {{
        let steps = $panel.len() / (2 * PANEL);
        // SAFETY: the caller checked that the rows from `first` on are there.
        let values = unsafe { $rows.values.as_ptr().add($first * $rows.stride) };
        let panel = $panel.as_ptr();
        let mut sums = [[_mm512_setzero_ps(); $columns]; [$($i),*].len()];
        for step in 0..steps {
            $ahead(step);
            // SAFETY: the panel has 64 patterns at each of the `steps` positions.
            let queries: [__m512bh; $columns] = std::array::from_fn(|c| unsafe {
                panel.add(step * 2 * PANEL + 32 * c).cast::<__m512bh>().read_unaligned()
            });
            unrolled!(I in [$($i)*] {
                // SAFETY: the caller checked that there are so many rows of `2 * steps` values, `stride` apart; a
                // register of 16 pairs is as good as one of 32 patterns.
                let x: __m512bh = unsafe {
                    let pair = values.add(I * $rows.stride + 2 * step).cast::<i32>().read_unaligned();
                    std::mem::transmute(_mm512_set1_epi32(pair))
                };
                for c in 0..$columns {
                    sums[I][c] = _mm512_dpbf16_ps(sums[I][c], x, queries[c]);
                }
            });
        }
        sums
    }};
}

/// Appends those of the rows from `$first` on that pass the limits, but none before `$from`, to the `found` hits.
macro_rules! hits {
    ($name:ident, $columns:literal, [$($i:literal)*]) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        #[expect(clippy::too_many_arguments, reason = "kept in registers")]
        fn $name(
            rows: Rows<'_>,
            first: usize,
            from: usize,
            panel: &[u16],
            limits: &Limits,
            hits: &mut [Hit],
            mut found: usize,
            fetched: Steps,
        ) -> usize {
            let ahead = |step: usize| {
                // Nothing is read, whatever the address.
                _mm_prefetch::<_MM_HINT_T1>(fetched.first.wrapping_add(step * fetched.stride));
            };
            let sums = products!(rows, first, panel, $columns, [$($i)*], ahead);
            unrolled!(I in [$($i)*] {
                let row = first + I;
                let norm = _mm512_set1_ps(rows.norms[row]);
                let mut queries = 0;
                for c in 0..$columns {
                    // SAFETY: limits hold 32 lanes, of which these are 16.
                    let limit = unsafe {
                        let limit = _mm512_loadu_ps(limits.threshold.as_ptr().add(16 * c));
                        _mm512_fnmadd_ps(_mm512_loadu_ps(limits.norm.as_ptr().add(16 * c)), norm, limit)
                    };
                    queries |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sums[I][c], limit)) << (16 * c);
                }
                // Written without a branch: one row in a few has a hit.
                hits[found] = Hit { row: row as u32, queries };
                found += usize::from(queries != 0 && row >= from);
            });
            found
        }
    };
}

/// Where the memory lies that is fetched along with the steps of a tile.
#[derive(Clone, Copy)]
struct Steps {
    first: *const i8,
    stride: usize,
}

impl Ahead {
    /// The part of one of so many tiles of `steps` steps.
    fn part(self, tile: usize, tiles: usize, steps: usize) -> Steps {
        let stride = (self.bytes / (tiles * steps).max(1)).min(64);
        Steps { first: self.first.wrapping_add(tile * steps * stride), stride }
    }
}

hits!(wide, 2, [0 1 2 3 4 5 6 7 8 9 10 11]);
hits!(wide_row, 2, [0]);
hits!(narrow, 1, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23]);
hits!(narrow_row, 1, [0]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn panel(
    rows: Rows<'_>,
    panel: &[u16],
    is_narrow: bool,
    limits: &Limits,
    hits: &mut [Hit],
    ahead: Ahead,
) -> usize {
    let (count, steps) = (rows.count(), panel.len() / (2 * PANEL));
    let size = if is_narrow { 24 } else { 12 };
    let size = if count < size { 1 } else { size };
    let part = |start: usize| ahead.part(start / size, count.div_ceil(size), steps);
    let mut found = 0;
    if is_narrow {
        sweep!(count, 24, (first, start) =>
            found = narrow(rows, first, start, panel, limits, hits, found, part(start)),
            found = narrow_row(rows, first, start, panel, limits, hits, found, part(start)));
    } else {
        sweep!(count, 12, (first, start) =>
            found = wide(rows, first, start, panel, limits, hits, found, part(start)),
            found = wide_row(rows, first, start, panel, limits, hits, found, part(start)));
    }
    found
}

/// The screened scores of the rows from `first` on.
macro_rules! scores {
    ($name:ident, [$($i:literal)*]) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn $name(rows: Rows<'_>, first: usize, panel: &[u16], scores: &mut [[f32; PANEL]]) {
            let sums = products!(rows, first, panel, 2, [$($i)*], |_| {});
            unrolled!(I in [$($i)*] {
                for c in 0..2 {
                    // SAFETY: there is room for 32 scores a row.
                    unsafe { _mm512_storeu_ps(scores[first + I].as_mut_ptr().add(16 * c), sums[I][c]) };
                }
            });
        }
    };
}

scores!(tile_scores, [0 1 2 3 4 5 6 7 8 9 10 11]);
scores!(row_scores, [0]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn scores(rows: Rows<'_>, panel: &[u16], scores: &mut [[f32; PANEL]]) {
    sweep!(rows.count(), 12, (first, _start) =>
        tile_scores(rows, first, panel, scores), row_scores(rows, first, panel, scores));
}
