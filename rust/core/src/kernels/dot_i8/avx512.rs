//! AVX-512 with VNNI: 64 products an instruction, 24 accumulators a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use super::{Limits, PANEL, Quantised, Rows, TILE, Tile, scale};

/// Lane `i` of a butterfly of lanes `half` apart: `x + y` below, `y - x` above; the product with 1 or -1 is
/// exact, so that there is one rounding.
#[inline]
#[target_feature(enable = "avx512f")]
fn butterfly(x: __m512, partner: __m512, half: u32) -> __m512 {
    let upper: __mmask16 = match half {
        1 => 0xaaaa,
        2 => 0xcccc,
        4 => 0xf0f0,
        _ => 0xff00,
    };
    _mm512_fmadd_ps(x, _mm512_mask_blend_ps(upper, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0)), partner)
}

/// The four steps within 16 lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn within(x: __m512) -> __m512 {
    let x = butterfly(x, _mm512_permute_ps::<0xb1>(x), 1);
    let x = butterfly(x, _mm512_permute_ps::<0x4e>(x), 2);
    let x = butterfly(x, _mm512_shuffle_f32x4::<0xb1>(x, x), 4);
    butterfly(x, _mm512_shuffle_f32x4::<0x4e>(x, x), 8)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn rotate(values: &mut [f32], signs: &[f32], block: usize) {
    let length = values.len().min(signs.len());
    let (values, signs) = (values.as_mut_ptr(), signs.as_ptr());
    // SAFETY: the wrapper checked that values and signs are equally long, in whole blocks of at least 64;
    // every address is a multiple of 16 below that length.
    unsafe {
        for first in (0..length).step_by(64) {
            let mut x = [_mm512_setzero_ps(); 4];
            for (r, x) in x.iter_mut().enumerate() {
                let at = first + 16 * r;
                *x = within(_mm512_mul_ps(_mm512_loadu_ps(values.add(at)), _mm512_loadu_ps(signs.add(at))));
            }
            let y = [_mm512_add_ps(x[0], x[1]), _mm512_sub_ps(x[0], x[1])];
            let z = [_mm512_add_ps(x[2], x[3]), _mm512_sub_ps(x[2], x[3])];
            for r in 0..2 {
                _mm512_storeu_ps(values.add(first + 16 * r), _mm512_add_ps(y[r], z[r]));
                _mm512_storeu_ps(values.add(first + 16 * r + 32), _mm512_sub_ps(y[r], z[r]));
            }
        }
        for start in (0..length).step_by(block) {
            let values = values.add(start);
            let mut half = 64;
            while 4 * half <= block {
                for first in (0..block).step_by(4 * half) {
                    for at in (first..first + half).step_by(16) {
                        let place = |r: usize| values.add(at + r * half);
                        let x: [__m512; 4] = std::array::from_fn(|r| _mm512_loadu_ps(place(r)));
                        let y = [_mm512_add_ps(x[0], x[1]), _mm512_sub_ps(x[0], x[1])];
                        let z = [_mm512_add_ps(x[2], x[3]), _mm512_sub_ps(x[2], x[3])];
                        for r in 0..2 {
                            _mm512_storeu_ps(place(r), _mm512_add_ps(y[r], z[r]));
                            _mm512_storeu_ps(place(r + 2), _mm512_sub_ps(y[r], z[r]));
                        }
                    }
                }
                half *= 4;
            }
            if half < block {
                for at in (0..half).step_by(16) {
                    let (x, y) = (_mm512_loadu_ps(values.add(at)), _mm512_loadu_ps(values.add(at + half)));
                    _mm512_storeu_ps(values.add(at), _mm512_add_ps(x, y));
                    _mm512_storeu_ps(values.add(at + half), _mm512_sub_ps(x, y));
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn quantise(values: &[f32], limit: f32, codes: &mut [i8]) -> Quantised {
    let length = values.len().min(codes.len());
    let (values, codes) = (values.as_ptr(), codes.as_mut_ptr());
    let mut peaks = [_mm512_setzero_ps(); 2];
    for at in (0..length).step_by(32) {
        for (half, peak) in peaks.iter_mut().enumerate() {
            // SAFETY: the length is a multiple of 64.
            let x = unsafe { _mm512_loadu_ps(values.add(at + 16 * half)) };
            *peak = _mm512_max_ps(*peak, _mm512_abs_ps(x));
        }
    }
    let peak = _mm512_reduce_max_ps(_mm512_max_ps(peaks[0], peaks[1]));
    let scale = scale(peak, limit).unwrap_or(0.0);
    let inverse = _mm512_set1_ps(if scale == 0.0 { 0.0 } else { 1.0 / scale });
    let unit = _mm512_set1_ps(scale);
    let mut squares = [_mm512_setzero_ps(); 2];
    let mut sums = [_mm512_setzero_si512(); 2];
    for at in (0..length).step_by(32) {
        for half in 0..2 {
            // SAFETY: as above; there are as many codes as values.
            unsafe {
                let x = _mm512_loadu_ps(values.add(at + 16 * half));
                let code = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
                let rest = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(code), unit, x);
                squares[half] = _mm512_fmadd_ps(rest, rest, squares[half]);
                sums[half] = _mm512_add_epi32(sums[half], code);
                _mm_storeu_si128(codes.add(at + 16 * half).cast(), _mm512_cvtepi32_epi8(code));
            }
        }
    }
    Quantised {
        scale,
        square: _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1])),
        sum: _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn tile(rows: Rows<'_>, panel: &[u8], limits: &Limits, out: &mut Tile) {
    let steps = panel.len() / (4 * PANEL);
    let (codes, panel) = (rows.codes.as_ptr(), panel.as_ptr());
    let mut products = [[_mm512_setzero_si512(); 2]; TILE];
    for i in 0..TILE {
        products[i] = [_mm512_set1_epi32(rows.sums[i].wrapping_mul(-128)); 2];
    }
    for step in 0..steps {
        // SAFETY: the panel has 128 bytes at each of the `steps` positions.
        let queries = unsafe {
            let place = panel.add(step * 4 * PANEL);
            [_mm512_loadu_si512(place.cast()), _mm512_loadu_si512(place.add(64).cast())]
        };
        for i in 0..TILE {
            // SAFETY: the wrapper checked that there are 12 rows of `4 * steps` codes, `stride` apart.
            let x = _mm512_set1_epi32(unsafe {
                codes.add(i * rows.stride + 4 * step).cast::<i32>().read_unaligned()
            });
            products[i][0] = _mm512_dpbusd_epi32(products[i][0], queries[0], x);
            products[i][1] = _mm512_dpbusd_epi32(products[i][1], queries[1], x);
        }
    }
    for i in 0..TILE {
        let (scale, residual, norm) = (
            _mm512_set1_ps(rows.scales[i]),
            _mm512_set1_ps(rows.residuals[i]),
            _mm512_set1_ps(rows.norms[i]),
        );
        let mut hits = 0;
        for c in 0..2 {
            // SAFETY: limits and products hold 32 lanes, of which these are 16.
            unsafe {
                let limit = _mm512_loadu_ps(limits.threshold.as_ptr().add(16 * c));
                let limit =
                    _mm512_fnmadd_ps(_mm512_loadu_ps(limits.residual.as_ptr().add(16 * c)), residual, limit);
                let limit = _mm512_fnmadd_ps(_mm512_loadu_ps(limits.norm.as_ptr().add(16 * c)), norm, limit);
                let score = _mm512_mul_ps(_mm512_cvtepi32_ps(products[i][c]), scale);
                hits |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(score, limit)) << (16 * c);
                _mm512_storeu_si512(out.products[i].as_mut_ptr().add(16 * c).cast(), products[i][c]);
            }
        }
        out.hits[i] = hits;
    }
}
