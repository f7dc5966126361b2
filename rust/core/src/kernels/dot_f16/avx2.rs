//! AVX2 with FMA and F16C: 8 lanes, 12 accumulators a pass, four passes a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use half::f16;

use super::{FEW, Operands, PANEL, TILE, Tile};

/// Loads `left` (at most 8) values of `row` from `at` on, zeros after them, as float32.
///
/// # Safety
/// `row` must have `at + min(left, 8)` values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(row: *const f16, at: usize, left: usize) -> __m256 {
    // SAFETY: whole vectors exist by the caller's promise; a tail is copied to a padded place first.
    unsafe {
        let bits = if left >= 8 {
            _mm_loadu_si128(row.add(at).cast())
        } else {
            let mut padded = [f16::ZERO; 8];
            std::ptr::copy_nonoverlapping(row.add(at), padded.as_mut_ptr(), left);
            _mm_loadu_si128(padded.as_ptr().cast())
        };
        _mm256_cvtph_ps(bits)
    }
}

/// The sum of the 8 lanes, in three steps.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The sum of the 4 lanes, in two steps.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_f64(x: __m256d) -> f64 {
    let two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn widen(row: &[f16], out: &mut [f32]) -> f32 {
    let length = row.len().min(out.len());
    let mut squares = [_mm256_setzero_ps(); 2];
    let mut at = 0;
    while at + 16 <= length {
        for (half, square) in squares.iter_mut().enumerate() {
            // SAFETY: 16 values are left in both slices.
            unsafe {
                let x = load(row.as_ptr(), at + 8 * half, 8);
                _mm256_storeu_ps(out.as_mut_ptr().add(at + 8 * half), x);
                *square = _mm256_fmadd_ps(x, x, *square);
            }
        }
        at += 16;
    }
    while at < length {
        let left = (length - at).min(8);
        let mut values = [0.0_f32; 8];
        // SAFETY: `left` values are left in the row.
        unsafe {
            let x = load(row.as_ptr(), at, left);
            _mm256_storeu_ps(values.as_mut_ptr(), x);
            squares[0] = _mm256_fmadd_ps(x, x, squares[0]);
        }
        out[at..at + left].copy_from_slice(&values[..left]);
        at += left;
    }
    sum(_mm256_add_ps(squares[0], squares[1]))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn tile(operands: Operands<'_>, out: &mut Tile) {
    out.hits = [0; TILE];
    let width = if operands.narrow { PANEL / 2 } else { PANEL };
    for column in (0..width).step_by(16) {
        for first in (0..TILE).step_by(6) {
            six_by_sixteen(operands, first, column, out);
        }
    }
}

/// Rows `first..first + 6`, queries `column..column + 16`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn six_by_sixteen(operands: Operands<'_>, first: usize, column: usize, out: &mut Tile) {
    let Operands { rows, stride, panel, norms, limits, .. } = operands;
    let depth = panel.len() / PANEL;
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    let (rows, panel) = (rows[first * stride..].as_ptr(), panel[column.min(panel.len())..].as_ptr());
    for at in 0..depth {
        // SAFETY: the panel has 32 values at each of the `depth` positions, `column` is 0 or 16.
        let queries =
            unsafe { [_mm256_loadu_ps(panel.add(at * PANEL)), _mm256_loadu_ps(panel.add(at * PANEL + 8))] };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the wrapper checked that there are 12 rows of `depth` values, `stride` apart.
            let x = unsafe { _mm256_broadcast_ss(&*rows.add(i * stride + at)) };
            sums[0] = _mm256_fmadd_ps(x, queries[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(x, queries[1], sums[1]);
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let norm = _mm256_set1_ps(norms[first + i]);
        for (c, &score) in sums.iter().enumerate() {
            let lane = column + 8 * c;
            // SAFETY: `lane` is at most 24, and limits and scores hold 32 lanes.
            unsafe {
                let threshold = _mm256_loadu_ps(limits.threshold.as_ptr().add(lane));
                let slope = _mm256_loadu_ps(limits.slope.as_ptr().add(lane));
                let limit = _mm256_fnmadd_ps(slope, norm, threshold);
                let hits = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(score, limit));
                out.hits[first + i] |= (hits as u32) << lane;
                _mm256_storeu_ps(out.scores[first + i].as_mut_ptr().add(lane), score);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
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
        let mut sums = [[_mm256_setzero_ps(); N]; U];
        let mut squares = [_mm256_setzero_ps(); U];
        let mut at = 0;
        while at + 8 * U <= depth {
            for u in 0..U {
                // SAFETY: 8 * U values are left in the row and in every query (`stride >= depth`).
                unsafe {
                    let x = load(row.as_ptr(), at + 8 * u, 8);
                    squares[u] = _mm256_fmadd_ps(x, x, squares[u]);
                    for n in 0..N {
                        let query = _mm256_loadu_ps(queries.add(n * stride + at + 8 * u));
                        sums[u][n] = _mm256_fmadd_ps(x, query, sums[u][n]);
                    }
                }
            }
            at += 8 * U;
        }
        while at < depth {
            // SAFETY: the tail of the row is padded; queries are padded to a multiple of 16, `at` is one of 8.
            unsafe {
                let x = load(row.as_ptr(), at, depth - at);
                squares[0] = _mm256_fmadd_ps(x, x, squares[0]);
                for n in 0..N {
                    sums[0][n] =
                        _mm256_fmadd_ps(x, _mm256_loadu_ps(queries.add(n * stride + at)), sums[0][n]);
                }
            }
            at += 8;
        }
        for u in 1..U {
            squares[0] = _mm256_add_ps(squares[0], squares[u]);
            for n in 0..N {
                sums[0][n] = _mm256_add_ps(sums[0][n], sums[u][n]);
            }
        }
        *norm = sum(squares[0]);
        for n in 0..N {
            scores[n] = sum(sums[0][n]);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn dot(row: &[f16], query: &[f64]) -> (f64, f32) {
    let length = row.len().min(query.len());
    let mut sums = [_mm256_setzero_pd(); 2];
    let mut squares = _mm256_setzero_ps();
    let mut at = 0;
    while at < length {
        let left = (length - at).min(8);
        let mut padded = [0.0_f64; 8];
        // SAFETY: only the `left` values that exist are read; the other lanes are zero.
        let (x, queries) = unsafe {
            let place = if left == 8 {
                query.as_ptr().add(at)
            } else {
                padded[..left].copy_from_slice(&query[at..at + left]);
                padded.as_ptr()
            };
            (load(row.as_ptr(), at, left), [_mm256_loadu_pd(place), _mm256_loadu_pd(place.add(4))])
        };
        let halves =
            [_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x))];
        for h in 0..2 {
            sums[h] = _mm256_fmadd_pd(halves[h], queries[h], sums[h]);
        }
        squares = _mm256_fmadd_ps(x, x, squares);
        at += 8;
    }
    let mut lanes = [0.0_f32; 8];
    // SAFETY: 8 lanes are stored to 8 places.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), squares) };
    (sum_f64(_mm256_add_pd(sums[0], sums[1])), lanes.iter().sum())
}
