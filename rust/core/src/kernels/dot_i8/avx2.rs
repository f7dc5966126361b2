//! AVX2: 32 products in three instructions, 8 accumulators a pass, six passes a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use super::{Limits, PANEL, Quantised, Rows, TILE, Tile, scale};

/// Rows in a pass.
const PASS: usize = 4;

/// The three steps within 8 lanes; the product with 1 or -1 is exact, so that there is one rounding a step.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn within(x: __m256) -> __m256 {
    let signs = _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0);
    let x = _mm256_fmadd_ps(x, signs, _mm256_permute_ps::<0xb1>(x));
    let signs = _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0);
    let x = _mm256_fmadd_ps(x, signs, _mm256_permute_ps::<0x4e>(x));
    let signs = _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0);
    _mm256_fmadd_ps(x, signs, _mm256_permute2f128_ps::<1>(x, x))
}

#[target_feature(enable = "avx2,fma")]
pub fn rotate(values: &mut [f32], signs: &[f32], block: usize) {
    let length = values.len().min(signs.len());
    let (values, signs) = (values.as_mut_ptr(), signs.as_ptr());
    // SAFETY: the wrapper checked that values and signs are equally long, in whole blocks of at least 64;
    // every address is a multiple of 8 below that length.
    unsafe {
        for at in (0..length).step_by(8) {
            let x = _mm256_mul_ps(_mm256_loadu_ps(values.add(at)), _mm256_loadu_ps(signs.add(at)));
            _mm256_storeu_ps(values.add(at), within(x));
        }
        let mut half = 8;
        while half < block {
            for first in (0..length).step_by(2 * half) {
                for at in (first..first + half).step_by(8) {
                    let (x, y) = (_mm256_loadu_ps(values.add(at)), _mm256_loadu_ps(values.add(at + half)));
                    _mm256_storeu_ps(values.add(at), _mm256_add_ps(x, y));
                    _mm256_storeu_ps(values.add(at + half), _mm256_sub_ps(x, y));
                }
            }
            half *= 2;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn quantise(values: &[f32], limit: f32, codes: &mut [i8]) -> Quantised {
    let length = values.len().min(codes.len());
    let mut lanes = [0.0_f32; 8];
    let mut peaks = _mm256_setzero_ps();
    let absolute = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    for values in values[..length].chunks_exact(8) {
        // SAFETY: the chunk has 8 values.
        let x = unsafe { _mm256_loadu_ps(values.as_ptr()) };
        peaks = _mm256_max_ps(peaks, _mm256_and_ps(absolute, x));
    }
    // SAFETY: 8 lanes are stored to 8 places.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), peaks) };
    let peak = lanes.iter().fold(0.0_f32, |peak, lane| peak.max(*lane));
    let scale = scale(peak, limit).unwrap_or(0.0);
    let inverse = _mm256_set1_ps(if scale == 0.0 { 0.0 } else { 1.0 / scale });
    let unit = _mm256_set1_ps(scale);
    let (mut squares, mut sums) = (_mm256_setzero_ps(), _mm256_setzero_si256());
    for (values, codes) in values[..length].chunks_exact(32).zip(codes.chunks_exact_mut(32)) {
        let mut quarters = [_mm256_setzero_si256(); 4];
        for (r, quarter) in quarters.iter_mut().enumerate() {
            // SAFETY: the chunk has 32 values.
            let x = unsafe { _mm256_loadu_ps(values.as_ptr().add(8 * r)) };
            let code = _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
            let rest = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(code), unit, x);
            squares = _mm256_fmadd_ps(rest, rest, squares);
            sums = _mm256_add_epi32(sums, code);
            *quarter = code;
        }
        // Packing works in halves of 128 bits: the permutation brings the groups of four back into order.
        let packed = _mm256_packs_epi16(
            _mm256_packs_epi32(quarters[0], quarters[1]),
            _mm256_packs_epi32(quarters[2], quarters[3]),
        );
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: the chunk has 32 codes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), packed) };
    }
    let mut counts = [0_i32; 8];
    // SAFETY: 8 lanes are stored to 8 places, twice.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), squares);
        _mm256_storeu_si256(counts.as_mut_ptr().cast(), sums);
    }
    Quantised { scale, square: lanes.iter().sum(), sum: counts.iter().sum() }
}

#[target_feature(enable = "avx2,fma")]
pub fn tile(rows: Rows<'_>, panel: &[u8], limits: &Limits, out: &mut Tile) {
    out.hits = [0; TILE];
    for column in (0..PANEL).step_by(16) {
        for first in (0..TILE).step_by(PASS) {
            pass(rows, panel, limits, first, column, out);
        }
    }
}

/// Rows `first..first + 4`, queries `column..column + 16`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pass(rows: Rows<'_>, panel: &[u8], limits: &Limits, first: usize, column: usize, out: &mut Tile) {
    let steps = panel.len() / (4 * PANEL);
    let codes = rows.codes[first * rows.stride..].as_ptr();
    let panel = panel[(4 * column).min(panel.len())..].as_ptr();
    let ones = _mm256_set1_epi16(1);
    let mut products = [[_mm256_setzero_si256(); 2]; PASS];
    for i in 0..PASS {
        products[i] = [_mm256_set1_epi32(rows.sums[first + i].wrapping_mul(-128)); 2];
    }
    for step in 0..steps {
        // SAFETY: the panel has 128 bytes at each of the `steps` positions, of which `column` leaves 64.
        let queries = unsafe {
            let place = panel.add(step * 4 * PANEL);
            [_mm256_loadu_si256(place.cast()), _mm256_loadu_si256(place.add(32).cast())]
        };
        for i in 0..PASS {
            // SAFETY: the wrapper checked that there are 12 rows of `4 * steps` codes, `stride` apart.
            let x = _mm256_set1_epi32(unsafe {
                codes.add(i * rows.stride + 4 * step).cast::<i32>().read_unaligned()
            });
            for c in 0..2 {
                // At most 2 * 255 * 63 = 32130: nothing saturates.
                let pairs = _mm256_maddubs_epi16(queries[c], x);
                products[i][c] = _mm256_add_epi32(products[i][c], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (i, products) in products.iter().enumerate() {
        let row = first + i;
        let (scale, residual, norm) = (
            _mm256_set1_ps(rows.scales[row]),
            _mm256_set1_ps(rows.residuals[row]),
            _mm256_set1_ps(rows.norms[row]),
        );
        for (c, &product) in products.iter().enumerate() {
            let lane = column + 8 * c;
            // SAFETY: `lane` is at most 24, and limits and products hold 32 lanes.
            unsafe {
                let limit = _mm256_loadu_ps(limits.threshold.as_ptr().add(lane));
                let limit =
                    _mm256_fnmadd_ps(_mm256_loadu_ps(limits.residual.as_ptr().add(lane)), residual, limit);
                let limit = _mm256_fnmadd_ps(_mm256_loadu_ps(limits.norm.as_ptr().add(lane)), norm, limit);
                let score = _mm256_mul_ps(_mm256_cvtepi32_ps(product), scale);
                let hits = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(score, limit));
                out.hits[row] |= (hits as u32) << lane;
                _mm256_storeu_si256(out.products[row].as_mut_ptr().add(lane).cast(), product);
            }
        }
    }
}
