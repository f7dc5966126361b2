//! AVX-512: 16 lanes, 24 accumulators a tile, masked tails.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use half::f16;

use super::{FEW, Limits, Operands, PANEL, TILE, Tile};

/// Loads `left` (at most 16) values of `row` from `at` on, zeros after them, as float32.
///
/// # Safety
/// `row` must have `at + min(left, 16)` values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load(row: *const f16, at: usize, left: usize) -> __m512 {
    // SAFETY: masked-off lanes are not read; the others exist by the caller's promise.
    unsafe {
        let bits = if left >= 16 {
            _mm256_loadu_si256(row.add(at).cast())
        } else {
            _mm256_maskz_loadu_epi16((1 << left) - 1, row.add(at).cast())
        };
        _mm512_cvtph_ps(bits)
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn widen(row: &[f16], out: &mut [f32]) -> f32 {
    let length = row.len().min(out.len());
    let mut squares = [_mm512_setzero_ps(); 2];
    let mut at = 0;
    while at + 32 <= length {
        for (half, square) in squares.iter_mut().enumerate() {
            // SAFETY: 32 values are left in both slices.
            unsafe {
                let x = load(row.as_ptr(), at + 16 * half, 16);
                _mm512_storeu_ps(out.as_mut_ptr().add(at + 16 * half), x);
                *square = _mm512_fmadd_ps(x, x, *square);
            }
        }
        at += 32;
    }
    while at < length {
        let left = (length - at).min(16);
        // SAFETY: `left` values are left in both slices, and only so many are read and written.
        unsafe {
            let x = load(row.as_ptr(), at, left);
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), ((1_u32 << left) - 1) as __mmask16, x);
            squares[0] = _mm512_fmadd_ps(x, x, squares[0]);
        }
        at += left;
    }
    _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]))
}

#[target_feature(enable = "avx512f")]
pub fn tile(operands: Operands<'_>, out: &mut Tile) {
    if operands.narrow { columns::<1>(operands, out) } else { columns::<2>(operands, out) }
}

/// The tile with `C` registers of 16 queries.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns<const C: usize>(operands: Operands<'_>, out: &mut Tile) {
    let Operands { rows, stride, panel, norms, limits, .. } = operands;
    let depth = panel.len() / PANEL;
    let mut sums = [[_mm512_setzero_ps(); C]; TILE];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for at in 0..depth {
        let mut queries = [_mm512_setzero_ps(); C];
        for (c, query) in queries.iter_mut().enumerate() {
            // SAFETY: the panel has 32 values at each of the `depth` positions.
            *query = unsafe { _mm512_loadu_ps(panel.add(at * PANEL + 16 * c)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the wrapper checked that there are 12 rows of `depth` values, `stride` apart.
            let x = _mm512_set1_ps(unsafe { *rows.add(i * stride + at) });
            for c in 0..C {
                sums[c] = _mm512_fmadd_ps(x, queries[c], sums[c]);
            }
        }
    }
    let Limits { threshold, slope } = limits;
    for i in 0..TILE {
        let norm = _mm512_set1_ps(norms[i]);
        let mut hits = 0;
        for c in 0..C {
            // SAFETY: limits and scores hold 32 lanes, of which these are 16.
            unsafe {
                let threshold = _mm512_loadu_ps(threshold.as_ptr().add(16 * c));
                let slope = _mm512_loadu_ps(slope.as_ptr().add(16 * c));
                let limit = _mm512_fnmadd_ps(slope, norm, threshold);
                hits |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sums[i][c], limit)) << (16 * c);
                _mm512_storeu_ps(out.scores[i].as_mut_ptr().add(16 * c), sums[i][c]);
            }
        }
        out.hits[i] = hits;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn few(
    rows: &[f16],
    depth: usize,
    queries: &[f32],
    stride: usize,
    count: usize,
    scores: &mut [[f32; FEW]],
    norms: &mut [f32],
) {
    match count {
        1 => lanes::<1, 4>(rows, depth, queries, stride, scores, norms),
        2 => lanes::<2, 4>(rows, depth, queries, stride, scores, norms),
        3 | 4 => lanes::<4, 2>(rows, depth, queries, stride, scores, norms),
        _ => lanes::<FEW, 1>(rows, depth, queries, stride, scores, norms),
    }
}

/// `N` queries, unrolled `U` times along the row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lanes<const N: usize, const U: usize>(
    rows: &[f16],
    depth: usize,
    queries: &[f32],
    stride: usize,
    scores: &mut [[f32; FEW]],
    norms: &mut [f32],
) {
    let queries = queries.as_ptr();
    for ((row, scores), norm) in rows.chunks_exact(depth).zip(scores).zip(norms) {
        let mut sums = [[_mm512_setzero_ps(); N]; U];
        let mut squares = [_mm512_setzero_ps(); U];
        let mut at = 0;
        while at + 16 * U <= depth {
            for u in 0..U {
                // SAFETY: 16 * U values are left in the row and in every query (`stride >= depth`).
                unsafe {
                    let x = load(row.as_ptr(), at + 16 * u, 16);
                    squares[u] = _mm512_fmadd_ps(x, x, squares[u]);
                    for n in 0..N {
                        let query = _mm512_loadu_ps(queries.add(n * stride + at + 16 * u));
                        sums[u][n] = _mm512_fmadd_ps(x, query, sums[u][n]);
                    }
                }
            }
            at += 16 * U;
        }
        while at < depth {
            // SAFETY: the row is masked; queries are padded to a multiple of 16, and `at` is one.
            unsafe {
                let x = load(row.as_ptr(), at, depth - at);
                squares[0] = _mm512_fmadd_ps(x, x, squares[0]);
                for n in 0..N {
                    sums[0][n] =
                        _mm512_fmadd_ps(x, _mm512_loadu_ps(queries.add(n * stride + at)), sums[0][n]);
                }
            }
            at += 16;
        }
        for u in 1..U {
            squares[0] = _mm512_add_ps(squares[0], squares[u]);
            for n in 0..N {
                sums[0][n] = _mm512_add_ps(sums[0][n], sums[u][n]);
            }
        }
        *norm = _mm512_reduce_add_ps(squares[0]);
        for n in 0..N {
            scores[n] = _mm512_reduce_add_ps(sums[0][n]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn dot(row: &[f16], query: &[f64]) -> (f64, f32) {
    let length = row.len().min(query.len());
    let mut sums = [_mm512_setzero_pd(); 4];
    let mut squares = [_mm512_setzero_ps(); 2];
    let (row, query) = (row.as_ptr(), query.as_ptr());
    let mut at = 0;
    while at + 32 <= length {
        for half in 0..2 {
            // SAFETY: 32 values are left in both slices.
            unsafe {
                let (x, query) = (load(row, at + 16 * half, 16), query.add(at + 16 * half));
                let [low, high] = widened(x);
                sums[2 * half] = _mm512_fmadd_pd(low, _mm512_loadu_pd(query), sums[2 * half]);
                sums[2 * half + 1] = _mm512_fmadd_pd(high, _mm512_loadu_pd(query.add(8)), sums[2 * half + 1]);
                squares[half] = _mm512_fmadd_ps(x, x, squares[half]);
            }
        }
        at += 32;
    }
    while at < length {
        let left = (length - at).min(16);
        // SAFETY: only the `left` values that exist are read; the other lanes are zero.
        let (x, queries) = unsafe {
            let mask = (1_u32 << left) - 1;
            let query = query.add(at);
            let low = _mm512_maskz_loadu_pd(mask as u8, query);
            let high = _mm512_maskz_loadu_pd((mask >> 8) as u8, query.wrapping_add(8));
            (load(row, at, left), [low, high])
        };
        let halves = widened(x);
        for h in 0..2 {
            sums[h] = _mm512_fmadd_pd(halves[h], queries[h], sums[h]);
        }
        squares[0] = _mm512_fmadd_ps(x, x, squares[0]);
        at += 16;
    }
    let sum = _mm512_add_pd(_mm512_add_pd(sums[0], sums[1]), _mm512_add_pd(sums[2], sums[3]));
    (_mm512_reduce_add_pd(sum), _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1])))
}

/// The lower and the upper 8 values in float64.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(x: __m512) -> [__m512d; 2] {
    [
        _mm512_cvtps_pd(_mm512_castps512_ps256(x)),
        _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)))),
    ]
}
