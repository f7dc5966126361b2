//! AVX-512: 64 queries in four registers against six database descriptors, 24 sums in registers.

#![cfg(target_arch = "x86_64")]

use core::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_max_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};
use core::mem::transmute;

use super::{LANES, Lane, ROWS};

/// A pair of bfloat16 values of sixteen queries.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct PairLane(pub [u32; LANES]);

/// Groups of queries a tile.
const GROUPS: usize = 4;

/// Defines a function over tiles: for all tiles of four groups of a panel, then the rest one by one.
macro_rules! over_tiles {
    ($name:ident, $tile:ident, $lane:ty, $row:ty, $features:literal) => {
        /// See [`super::scalar::maxima`]; `rows` are a multiple of [`ROWS`].
        #[target_feature(enable = $features)]
        pub fn $name(panel: &[$lane], length: usize, rows: &[$row], out: &mut [f32]) {
            let tiles = panel.chunks(GROUPS * length).zip(out.chunks_mut(GROUPS * LANES));
            for (panel, out) in tiles {
                match out.len() / LANES {
                    4 => $tile::<4>(panel, length, rows, out),
                    3 => $tile::<3>(panel, length, rows, out),
                    2 => $tile::<2>(panel, length, rows, out),
                    _ => $tile::<1>(panel, length, rows, out),
                }
            }
        }
    };
}

over_tiles!(maxima, tile, Lane, f32, "avx512f");
over_tiles!(maxima_of_pairs, tile_of_pairs, PairLane, u32, "avx512f,avx512bf16");

#[target_feature(enable = "avx512f")]
fn tile<const G: usize>(panel: &[Lane], length: usize, rows: &[f32], out: &mut [f32]) {
    let groups: [&[Lane]; G] = std::array::from_fn(|g| &panel[g * length..][..length]);
    let mut best = [_mm512_set1_ps(f32::NEG_INFINITY); G];
    for block in rows.chunks_exact(ROWS * length) {
        let row: [&[f32]; ROWS] = std::array::from_fn(|r| &block[r * length..][..length]);
        let mut sums = [[_mm512_setzero_ps(); G]; ROWS];
        for k in 0..length {
            let mut queries = [_mm512_setzero_ps(); G];
            for g in 0..G {
                // SAFETY: a lane has sixteen values, the size of the register; the load needs no alignment.
                queries[g] = unsafe { _mm512_loadu_ps(groups[g][k].0.as_ptr()) };
            }
            for r in 0..ROWS {
                let value = _mm512_set1_ps(row[r][k]);
                for g in 0..G {
                    sums[r][g] = _mm512_fmadd_ps(queries[g], value, sums[r][g]);
                }
            }
        }
        take_maxima(&mut best, &sums);
    }
    store(&best, out);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn tile_of_pairs<const G: usize>(panel: &[PairLane], length: usize, rows: &[u32], out: &mut [f32]) {
    let groups: [&[PairLane]; G] = std::array::from_fn(|g| &panel[g * length..][..length]);
    let mut best = [_mm512_set1_ps(f32::NEG_INFINITY); G];
    for block in rows.chunks_exact(ROWS * length) {
        let row: [&[u32]; ROWS] = std::array::from_fn(|r| &block[r * length..][..length]);
        let mut sums = [[_mm512_setzero_ps(); G]; ROWS];
        for k in 0..length {
            let mut queries = [as_pairs(_mm512_set1_epi32(0)); G];
            for g in 0..G {
                // SAFETY: a lane has sixteen words, the size of the register; the load needs no alignment.
                queries[g] = as_pairs(unsafe { _mm512_loadu_si512(groups[g][k].0.as_ptr().cast()) });
            }
            for r in 0..ROWS {
                let value = as_pairs(_mm512_set1_epi32(row[r][k].cast_signed()));
                for g in 0..G {
                    sums[r][g] = _mm512_dpbf16_ps(sums[r][g], queries[g], value);
                }
            }
        }
        take_maxima(&mut best, &sums);
    }
    store(&best, out);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes that may hold any bits.
    unsafe { transmute(words) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn take_maxima<const G: usize>(best: &mut [__m512; G], sums: &[[__m512; G]; ROWS]) {
    for sum in sums {
        for g in 0..G {
            best[g] = _mm512_max_ps(best[g], sum[g]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const G: usize>(best: &[__m512; G], out: &mut [f32]) {
    for (best, out) in best.iter().zip(out.as_chunks_mut::<LANES>().0) {
        // SAFETY: `out` has sixteen values, the size of the register; the store needs no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *best) };
    }
}
