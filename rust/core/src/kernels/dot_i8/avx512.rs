//! AVX-512 with VNNI: 64 products an instruction, 24 accumulators a tile.

#![allow(clippy::wildcard_imports, reason = "a level is its intrinsics")]

use core::arch::x86_64::*;
use core::hint::black_box;

use super::{FEW, Facts, Quantised, Rows, STEP, Subtracted, scale};
use crate::kernels::tiles::{Hit, Limits, PANEL, read_each_time, sweep, unrolled};

/// What is added to the codes of queries to make them unsigned.
pub const OFFSET: i32 = 128;

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
pub fn subtract(values: &mut [f32], centre: &[f32], square: f64) -> Subtracted {
    let length = values.len().min(centre.len());
    let (values, centre) = (values.as_mut_ptr(), centre.as_ptr());
    let mut products = [_mm512_setzero_ps(); 4];
    for at in (0..length).step_by(STEP) {
        for (lanes, product) in products.iter_mut().enumerate() {
            let at = at + 16 * lanes;
            // SAFETY: the wrapper checked that both are equally long, a multiple of 64.
            unsafe {
                let centre = _mm512_loadu_ps(centre.add(at));
                let left = _mm512_sub_ps(_mm512_loadu_ps(values.add(at)), centre);
                *product = _mm512_fmadd_ps(left, centre, *product);
                _mm512_storeu_ps(values.add(at), left);
            }
        }
    }
    let excess = (products.into_iter().map(|product| sum(product)).sum::<f64>() / square) as f32;
    let mut squares = [_mm512_setzero_ps(); 4];
    for at in (0..length).step_by(STEP) {
        for (lanes, square) in squares.iter_mut().enumerate() {
            let at = at + 16 * lanes;
            // SAFETY: as above.
            unsafe {
                let centre = _mm512_loadu_ps(centre.add(at));
                let left = _mm512_fnmadd_ps(_mm512_set1_ps(excess), centre, _mm512_loadu_ps(values.add(at)));
                *square = _mm512_fmadd_ps(left, left, *square);
                _mm512_storeu_ps(values.add(at), left);
            }
        }
    }
    let squares = _mm512_add_ps(_mm512_add_ps(squares[0], squares[1]), _mm512_add_ps(squares[2], squares[3]));
    Subtracted { excess, square: _mm512_reduce_add_ps(squares) }
}

/// The sum of the lanes in float64.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum(x: __m512) -> f64 {
    let upper = _mm512_shuffle_f32x4::<0x4e>(x, x);
    let halves = [x, upper].map(|half| _mm512_cvtps_pd(_mm512_castps512_ps256(half)));
    _mm512_reduce_add_pd(_mm512_add_pd(halves[0], halves[1]))
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

/// How many bytes ahead of a row for few queries memory is asked for.
const FETCHED: usize = 1 << 12;

/// How many rows ahead what is known about them is asked for.
const FACTS_FETCHED: usize = 64;

/// Asks for a cache line. The rows of a tile are read side by side, which the hardware does not foresee.
#[inline]
#[target_feature(enable = "avx512f")]
fn fetch<T>(place: *const T) {
    _mm_prefetch::<_MM_HINT_T0>(place.cast());
}

/// The products of the rows from `$first` on, one a listed index, with `$columns` registers of 16 queries.
macro_rules! products {
    ($rows:ident, $first:expr, $panel:expr, $columns:literal, [$($i:literal)*]) => {{
        let steps = $panel.len() / (4 * PANEL);
        // SAFETY: the caller checked that the rows from `first` on are there.
        let codes = unsafe { $rows.codes.as_ptr().add($first * $rows.stride) };
        let panel = $panel.as_ptr();
        let mut products = [[_mm512_setzero_si512(); $columns]; [$($i),*].len()];
        unrolled!(I in [$($i)*] {
            products[I] = [_mm512_set1_epi32($rows.correction($first + I, OFFSET)); $columns];
        });
        let ahead = codes.wrapping_add([$($i),*].len() * $rows.stride);
        for step in 0..steps {
            fetch(ahead.wrapping_add(4 * step * [$($i),*].len()));
            let mut queries = [_mm512_setzero_si512(); $columns];
            for c in 0..$columns {
                // SAFETY: the panel has 128 bytes at each of the `steps` positions.
                queries[c] = unsafe { _mm512_loadu_si512(panel.add(step * 4 * PANEL + 64 * c).cast()) };
            }
            unrolled!(I in [$($i)*] {
                // SAFETY: the caller checked that there are so many rows of `4 * steps` codes, `stride` apart.
                let x = _mm512_set1_epi32(unsafe {
                    codes.add(I * $rows.stride + 4 * step).cast::<i32>().read_unaligned()
                });
                for c in 0..$columns {
                    products[I][c] = _mm512_dpbusd_epi32(products[I][c], queries[c], x);
                }
            });
        }
        products
    }};
}

/// Appends those of the rows from `$first` on that pass the limits, but none before `$from`, to the `found` hits.
macro_rules! hits {
    ($name:ident, $columns:literal, [$($i:literal)*]) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        fn $name(
            rows: Rows<'_>,
            first: usize,
            from: usize,
            panel: &[u8],
            limits: &Limits,
            hits: &mut [Hit],
            mut found: usize,
        ) -> usize {
            let products = products!(rows, first, panel, $columns, [$($i)*]);
            unrolled!(I in [$($i)*] {
                let row = first + I;
                let [_, scale, residual, norm, excess] = rows.facts[row];
                let (scale, residual) = (_mm512_set1_ps(scale), _mm512_set1_ps(residual));
                let (norm, excess) = (_mm512_set1_ps(norm), _mm512_set1_ps(excess));
                let mut queries = 0;
                for c in 0..$columns {
                    let limit = limit(limits, c, residual, norm, excess);
                    let score = _mm512_mul_ps(_mm512_cvtepi32_ps(products[I][c]), scale);
                    queries |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(score, limit)) << (16 * c);
                }
                // Written without a branch: one row in a few has a hit.
                hits[found] = Hit { row: row as u32, queries };
                found += usize::from(queries != 0 && row >= from);
            });
            found
        }
    };
}

hits!(wide, 2, [0 1 2 3 4 5 6 7 8 9 10 11]);
hits!(wide_row, 2, [0]);
hits!(narrow, 1, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23]);
hits!(narrow_row, 1, [0]);

/// The least scores of 16 queries that pass, for a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn limit(limits: &Limits, column: usize, residual: __m512, norm: __m512, excess: __m512) -> __m512 {
    let at = 16 * column;
    // SAFETY: limits hold 32 lanes; columns are 0 and 1.
    unsafe {
        let limit = _mm512_loadu_ps(limits.threshold.as_ptr().add(at));
        let limit = _mm512_fnmadd_ps(_mm512_loadu_ps(limits.residual.as_ptr().add(at)), residual, limit);
        let limit = _mm512_fnmadd_ps(_mm512_loadu_ps(read_each_time(&limits.norm).add(at)), norm, limit);
        _mm512_fnmadd_ps(_mm512_loadu_ps(read_each_time(&limits.centre).add(at)), excess, limit)
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn panel(rows: Rows<'_>, panel: &[u8], is_narrow: bool, limits: &Limits, hits: &mut [Hit]) -> usize {
    let mut found = 0;
    if is_narrow {
        sweep!(rows.count(), 24, (first, start) =>
            found = narrow(rows, first, start, panel, limits, hits, found),
            found = narrow_row(rows, first, start, panel, limits, hits, found));
    } else {
        sweep!(rows.count(), 12, (first, start) =>
            found = wide(rows, first, start, panel, limits, hits, found),
            found = wide_row(rows, first, start, panel, limits, hits, found));
    }
    found
}

/// The screened scores of the rows from `first` on.
macro_rules! scores {
    ($name:ident, [$($i:literal)*]) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        fn $name(
            rows: Rows<'_>,
            first: usize,
            panel: &[u8],
            centre: &[f32; PANEL],
            scores: &mut [[f32; PANEL]],
        ) {
            let products = products!(rows, first, panel, 2, [$($i)*]);
            unrolled!(I in [$($i)*] {
                let [_, scale, _, _, excess] = rows.facts[first + I].map(|fact| _mm512_set1_ps(fact));
                for c in 0..2 {
                    let score = _mm512_mul_ps(_mm512_cvtepi32_ps(products[I][c]), scale);
                    // SAFETY: there are 32 products with the centre, and room for 32 scores a row.
                    unsafe {
                        let score = _mm512_fmadd_ps(_mm512_loadu_ps(centre.as_ptr().add(16 * c)), excess, score);
                        _mm512_storeu_ps(scores[first + I].as_mut_ptr().add(16 * c), score);
                    }
                }
            });
        }
    };
}

scores!(tile_scores, [0 1 2 3 4 5 6 7 8 9 10 11]);
scores!(row_scores, [0]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn scores(rows: Rows<'_>, panel: &[u8], centre: &[f32; PANEL], scores: &mut [[f32; PANEL]]) {
    sweep!(rows.count(), 12, (first, _start) =>
        tile_scores(rows, first, panel, centre, scores), row_scores(rows, first, panel, centre, scores));
}

/// The sums of the lanes of 16 registers, in order.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums(x: &[__m512i; 16]) -> __m512i {
    // After the two rounds, 128-bit lane l of w[g] holds the sums over lane l of registers 4g to 4g + 3.
    let mut w = [_mm512_setzero_si512(); 4];
    for g in 0..4 {
        let pairs = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (a, b) = (pairs(x[4 * g], x[4 * g + 1]), pairs(x[4 * g + 2], x[4 * g + 3]));
        w[g] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    let halves =
        |a, b| _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
    halves(halves(w[0], w[1]), halves(w[2], w[3]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn few(rows: Rows<'_>, queries: &[u8], count: usize, limits: &Limits, hits: &mut [Hit]) -> usize {
    match count {
        1 => few_of::<1>(rows, queries, limits, hits),
        2 => few_of::<2>(rows, queries, limits, hits),
        3 => few_of::<3>(rows, queries, limits, hits),
        4 => few_of::<4>(rows, queries, limits, hits),
        5 => few_of::<5>(rows, queries, limits, hits),
        6 => few_of::<6>(rows, queries, limits, hits),
        7 => few_of::<7>(rows, queries, limits, hits),
        _ => few_of::<FEW>(rows, queries, limits, hits),
    }
}

/// Where the facts about 16 rows lie in five registers: of each fact and row the place in registers 0 and 1, 2 and 3, and 4,
/// and the rows whose fact is there.
const PLACES: [[([i32; 16], __mmask16); 3]; 5] = {
    let mut places = [[([0; 16], 0); 3]; 5];
    let mut place = 0;
    while place < 80 {
        let (row, part) = (place / 5, &mut places[place % 5][place / 32]);
        part.0[row] = place as i32 % 32;
        part.1 |= 1 << row;
        place += 1;
    }
    places
};

/// Each fact about 16 rows in a register; zeros beyond the first `left` rows, which are there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn columns(facts: *const Facts, left: usize) -> [__m512; 5] {
    let x: [__m512; 5] = std::array::from_fn(|register| {
        let values = (5 * left).saturating_sub(16 * register).min(16);
        let mask = ((1_u32 << values) - 1) as __mmask16;
        // SAFETY: there are `5 * left` values; masked ones are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, facts.cast::<f32>().wrapping_add(16 * register)) }
    });
    PLACES.map(|places| {
        let pairs = [[x[0], x[1]], [x[2], x[3]], [x[4], x[4]]];
        let mut column = _mm512_setzero_ps();
        for ((places, rows), [low, high]) in places.into_iter().zip(pairs) {
            // SAFETY: 16 places are read from 16.
            let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
            column = _mm512_mask_mov_ps(column, rows, _mm512_permutex2var_ps(low, places, high));
        }
        column
    })
}

/// Two rows at once and one pair after the other, since memory is fastest in order; registers of rows are multiplied with
/// all queries while they are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn few_of<const COUNT: usize>(rows: Rows<'_>, queries: &[u8], limits: &Limits, hits: &mut [Hit]) -> usize {
    let depth = queries.len() / COUNT;
    let mut found = 0;
    for first in (0..rows.count()).step_by(16) {
        // Hidden, so that the loop over pairs stays one: eight copies of it, one after the other, were slower by up to a tenth.
        let left = black_box((rows.count() - first).min(16));
        let mask = ((1_u32 << left) - 1) as __mmask16;
        let codes = rows.codes.as_ptr().wrapping_add(first * rows.stride);
        let facts = rows.facts.as_ptr().wrapping_add(first);
        for line in 0..size_of::<[Facts; 16]>() / 64 {
            fetch(facts.wrapping_add(FACTS_FETCHED).cast::<u8>().wrapping_add(64 * line));
        }
        // SAFETY: there are `left` rows from `first` on.
        let [offsets, scale, residual, norm, excess] = unsafe { columns(facts, left) };
        let mut products = [[_mm512_setzero_si512(); 16]; COUNT];
        for i in (0..left).step_by(2) {
            let row = codes.wrapping_add(i * rows.stride);
            // Past the end the last row again, whose lane is masked.
            let next = codes.wrapping_add((i + 1).min(left - 1) * rows.stride);
            let mut sums = [[_mm512_setzero_si512(); 2]; COUNT];
            for at in (0..depth).step_by(64) {
                // In the order of memory, not in that of use: a sixth less time.
                fetch(row.wrapping_add(FETCHED + 2 * at));
                fetch(row.wrapping_add(FETCHED + 2 * at + 64));
                // SAFETY: the depth, of rows and of queries, is a multiple of 64.
                unsafe {
                    let row = _mm512_loadu_si512(row.add(at).cast());
                    let next = _mm512_loadu_si512(next.add(at).cast());
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let query = _mm512_loadu_si512(queries.as_ptr().add(j * depth + at).cast());
                        sum[0] = _mm512_dpbusd_epi32(sum[0], query, row);
                        sum[1] = _mm512_dpbusd_epi32(sum[1], query, next);
                    }
                }
            }
            for (products, sum) in products.iter_mut().zip(sums) {
                products[i] = sum[0];
                products[i + 1] = sum[1];
            }
        }
        let offsets = _mm512_mullo_epi32(_mm512_cvtps_epi32(offsets), _mm512_set1_epi32(OFFSET));
        let (mut passed, mut any) = ([0; COUNT], 0);
        for (j, (products, passed)) in products.iter().zip(&mut passed).enumerate() {
            let products = _mm512_sub_epi32(sums(products), offsets);
            let limit = _mm512_fnmadd_ps(
                _mm512_set1_ps(limits.residual[j]),
                residual,
                _mm512_set1_ps(limits.threshold[j]),
            );
            let limit = _mm512_fnmadd_ps(_mm512_set1_ps(limits.norm[j]), norm, limit);
            let limit = _mm512_fnmadd_ps(_mm512_set1_ps(limits.centre[j]), excess, limit);
            let score = _mm512_mul_ps(_mm512_cvtepi32_ps(products), scale);
            *passed = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(mask, score, limit);
            any |= *passed;
        }
        while any != 0 {
            let lane = any.trailing_zeros();
            let queries =
                passed.iter().rev().fold(0, |queries, passed| queries << 1 | u32::from(passed >> lane & 1));
            hits[found] = Hit { row: first as u32 + lane, queries };
            found += 1;
            any &= any - 1;
        }
    }
    found
}
