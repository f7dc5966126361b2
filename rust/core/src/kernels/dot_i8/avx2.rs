//! AVX2: 32 products in three instructions, 8 accumulators a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]
#![expect(clippy::needless_range_loop, reason = "the index is a register, the loop is unrolled")]

use core::arch::x86_64::*;

use super::{Quantised, Rows, STEP, Subtracted, scale};
use crate::kernels::tiles::{Hit, Limits, PANEL, read_each_time, unrolled};

/// What is added to the codes of queries to make them unsigned.
pub const OFFSET: i32 = 64;

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
pub fn subtract(values: &mut [f32], centre: &[f32], square: f64) -> Subtracted {
    let length = values.len().min(centre.len());
    let (values, centre) = (values.as_mut_ptr(), centre.as_ptr());
    let mut lanes = [0.0_f32; STEP];
    let mut sums = [_mm256_setzero_ps(); 8];
    for at in (0..length).step_by(STEP) {
        for (r, product) in sums.iter_mut().enumerate() {
            let at = at + 8 * r;
            // SAFETY: the wrapper checked that both are equally long, a multiple of 64.
            unsafe {
                let centre = _mm256_loadu_ps(centre.add(at));
                let left = _mm256_sub_ps(_mm256_loadu_ps(values.add(at)), centre);
                *product = _mm256_fmadd_ps(left, centre, *product);
                _mm256_storeu_ps(values.add(at), left);
            }
        }
    }
    // SAFETY: 8 times 8 lanes are stored to 64 places.
    sums.iter()
        .enumerate()
        .for_each(|(r, &sum)| unsafe { _mm256_storeu_ps(lanes.as_mut_ptr().add(8 * r), sum) });
    let excess = (lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() / square) as f32;
    sums = [_mm256_setzero_ps(); 8];
    for at in (0..length).step_by(STEP) {
        for (r, square) in sums.iter_mut().enumerate() {
            let at = at + 8 * r;
            // SAFETY: as above.
            unsafe {
                let centre = _mm256_loadu_ps(centre.add(at));
                let left = _mm256_fnmadd_ps(_mm256_set1_ps(excess), centre, _mm256_loadu_ps(values.add(at)));
                *square = _mm256_fmadd_ps(left, left, *square);
                _mm256_storeu_ps(values.add(at), left);
            }
        }
    }
    let square = sums.iter().fold(_mm256_setzero_ps(), |total, &sum| _mm256_add_ps(total, sum));
    // SAFETY: 8 lanes are stored to 64 places.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), square) };
    Subtracted { excess, square: lanes[..8].iter().sum() }
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

/// Four products of bytes, unsigned with signed, added to each of 8 sums. At most 2 * 127 * 127 = 32258 in 16 bits:
/// nothing saturates.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_add(sums: __m256i, queries: __m256i, rows: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(queries, rows);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The products of rows with the queries of half a panel, from query `$lane` on, in two registers a row.
macro_rules! products {
    ($rows:ident, $first:expr, $panel:expr, $lane:expr, [$($i:literal)*]) => {{
        let steps = $panel.len() / (4 * PANEL);
        // SAFETY: the caller checked that the rows from `first` on are there; lanes are 0 and 16.
        let (codes, panel) = unsafe {
            ($rows.codes.as_ptr().add($first * $rows.stride), $panel.as_ptr().add(4 * $lane))
        };
        let mut products = [[_mm256_setzero_si256(); 2]; [$($i),*].len()];
        unrolled!(I in [$($i)*] {
            products[I] = [_mm256_set1_epi32($rows.correction($first + I, OFFSET)); 2];
        });
        for step in 0..steps {
            // SAFETY: the panel has 128 bytes at each of the `steps` positions, of which the lane leaves 64.
            let queries = unsafe {
                let place = panel.add(step * 4 * PANEL);
                [_mm256_loadu_si256(place.cast()), _mm256_loadu_si256(place.add(32).cast())]
            };
            unrolled!(I in [$($i)*] {
                // SAFETY: the caller checked that there are so many rows of `4 * steps` codes, `stride` apart.
                let x = _mm256_set1_epi32(unsafe {
                    codes.add(I * $rows.stride + 4 * step).cast::<i32>().read_unaligned()
                });
                products[I][0] = multiply_add(products[I][0], queries[0], x);
                products[I][1] = multiply_add(products[I][1], queries[1], x);
            });
        }
        products
    }};
}

/// The least scores of 8 queries that pass, for a row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn limit(limits: &Limits, lane: usize, residual: __m256, norm: __m256, excess: __m256) -> __m256 {
    // SAFETY: limits hold 32 lanes, and `lane` is at most 24.
    unsafe {
        let limit = _mm256_loadu_ps(limits.threshold.as_ptr().add(lane));
        let limit = _mm256_fnmadd_ps(_mm256_loadu_ps(limits.residual.as_ptr().add(lane)), residual, limit);
        let limit = _mm256_fnmadd_ps(_mm256_loadu_ps(read_each_time(&limits.norm).add(lane)), norm, limit);
        _mm256_fnmadd_ps(_mm256_loadu_ps(read_each_time(&limits.centre).add(lane)), excess, limit)
    }
}

/// Which of the 16 queries from `lane` on the rows from `first` on pass, added to `queries`.
macro_rules! hits {
    ($name:ident, $rows:literal, [$($i:literal)*]) => {
        // Inlined twice, for both halves of a panel, what they share would go to the stack.
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn $name(
            rows: Rows<'_>,
            first: usize,
            panel: &[u8],
            lane: usize,
            limits: &Limits,
            queries: &mut [u32; $rows],
        ) {
            let products = products!(rows, first, panel, lane, [$($i)*]);
            unrolled!(I in [$($i)*] {
                let row = first + I;
                let [_, scale, residual, norm, excess] = rows.facts[row];
                let (scale, residual) = (_mm256_set1_ps(scale), _mm256_set1_ps(residual));
                let (norm, excess) = (_mm256_set1_ps(norm), _mm256_set1_ps(excess));
                for c in 0..2 {
                    let limit = limit(limits, lane + 8 * c, residual, norm, excess);
                    let score = _mm256_mul_ps(_mm256_cvtepi32_ps(products[I][c]), scale);
                    let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(score, limit));
                    queries[I] |= (mask as u32) << (lane + 8 * c);
                }
            });
        }
    };
}

hits!(tile, 4, [0 1 2 3]);
hits!(row, 1, [0]);

/// Four rows a tile, of which the last may overlap the one before.
#[target_feature(enable = "avx2,fma")]
pub fn panel(rows: Rows<'_>, panel: &[u8], narrow: bool, limits: &Limits, hits: &mut [Hit]) -> usize {
    let (count, size) = (rows.count(), if rows.count() < 4 { 1 } else { 4 });
    let mut found = 0;
    for start in (0..count).step_by(size) {
        let first = start.min(count - size);
        let mut queries = [0; 4];
        for lane in (0..if narrow { 16 } else { 32 }).step_by(16) {
            if size == 1 {
                row(rows, first, panel, lane, limits, queries.first_chunk_mut().expect("one of four"));
            } else {
                tile(rows, first, panel, lane, limits, &mut queries);
            }
        }
        for (i, &queries) in queries[..size].iter().enumerate().skip(start - first) {
            if queries != 0 {
                hits[found] = Hit { row: (first + i) as u32, queries };
                found += 1;
            }
        }
    }
    found
}

#[target_feature(enable = "avx2,fma")]
pub fn scores(rows: Rows<'_>, panel: &[u8], centre: &[f32; PANEL], scores: &mut [[f32; PANEL]]) {
    for (i, scores) in scores[..rows.count()].iter_mut().enumerate() {
        let [_, scale, _, _, excess] = rows.facts[i].map(|fact| _mm256_set1_ps(fact));
        for lane in [0, 16] {
            let products = products!(rows, i, panel, lane, [0]);
            for c in 0..2 {
                let score = _mm256_mul_ps(_mm256_cvtepi32_ps(products[0][c]), scale);
                let lane = lane + 8 * c;
                // SAFETY: there are 32 products with the centre, and room for 32 scores a row.
                unsafe {
                    let score = _mm256_fmadd_ps(_mm256_loadu_ps(centre.as_ptr().add(lane)), excess, score);
                    _mm256_storeu_ps(scores.as_mut_ptr().add(lane), score);
                }
            }
        }
    }
}

/// The sums of the lanes of 8 registers, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn totals(x: [__m256i; 8]) -> __m256i {
    let low = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
    let high = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
    // Each half of `low` holds the sums of registers 0 to 3 over that half.
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

#[target_feature(enable = "avx2,fma")]
pub fn few(rows: Rows<'_>, queries: &[u8], count: usize, limits: &Limits, hits: &mut [Hit]) -> usize {
    let depth = queries.len() / count;
    let mut found = 0;
    for first in (0..rows.count()).step_by(8) {
        let left = (rows.count() - first).min(8);
        let mut lanes = [[0.0; 8]; 5];
        for (lane, facts) in rows.facts[first..first + left].iter().enumerate() {
            facts.iter().zip(&mut lanes).for_each(|(&fact, lanes)| lanes[lane] = fact);
        }
        // SAFETY: 8 values are read from 8.
        let [sums, scale, residual, norm, excess] =
            lanes.map(|lanes| unsafe { _mm256_loadu_ps(lanes.as_ptr()) });
        let offsets = _mm256_mullo_epi32(_mm256_cvtps_epi32(sums), _mm256_set1_epi32(OFFSET));
        let mut queries_of = [0; 8];
        for j in 0..count {
            let query = queries[j * depth..].as_ptr();
            let mut products = [_mm256_setzero_si256(); 8];
            for at in (0..depth).step_by(32) {
                // SAFETY: the depth is a multiple of 64; rows beyond the last are replaced by the last.
                unsafe {
                    let query = _mm256_loadu_si256(query.add(at).cast());
                    for i in 0..8 {
                        let at = (first + i.min(left - 1)) * rows.stride + at;
                        let row = _mm256_loadu_si256(rows.codes.as_ptr().add(at).cast());
                        products[i] = multiply_add(products[i], query, row);
                    }
                }
            }
            let products = _mm256_sub_epi32(totals(products), offsets);
            let limit = _mm256_fnmadd_ps(
                _mm256_set1_ps(limits.residual[j]),
                residual,
                _mm256_set1_ps(limits.threshold[j]),
            );
            let limit = _mm256_fnmadd_ps(_mm256_set1_ps(limits.norm[j]), norm, limit);
            let limit = _mm256_fnmadd_ps(_mm256_set1_ps(limits.centre[j]), excess, limit);
            let score = _mm256_mul_ps(_mm256_cvtepi32_ps(products), scale);
            let passed = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(score, limit)) as u32;
            for (i, queries) in queries_of[..left].iter_mut().enumerate() {
                *queries |= (passed >> i & 1) << j;
            }
        }
        for (i, &queries) in queries_of[..left].iter().enumerate() {
            if queries != 0 {
                hits[found] = Hit { row: (first + i) as u32, queries };
                found += 1;
            }
        }
    }
    found
}
