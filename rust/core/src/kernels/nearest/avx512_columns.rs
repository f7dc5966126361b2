//! AVX-512: what a search found within a distance, compressed into columns.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores use these pointers")]

use std::mem::MaybeUninit;

use core::arch::x86_64::{
    _mm256_loadu_si256, _mm512_add_epi32, _mm512_cmple_epi32_mask, _mm512_cvtepu16_epi32, _mm512_loadu_si512,
    _mm512_mask_storeu_epi32, _mm512_maskz_compress_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
};

use super::avx512::GROUP;

/// See [`super::QueryBlock::within`]; `distances` and `indices` of `len` queries, in whole groups of sixteen. Returns
/// how many were written.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
pub fn within(
    len: usize,
    distances: &[u16],
    indices: &[u32],
    most: u16,
    [query, database, distance]: [&mut [MaybeUninit<i32>]; 3],
) -> usize {
    let (limit, step) = (_mm512_set1_epi32(i32::from(most)), _mm512_set1_epi32(GROUP as i32));
    let mut numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut end = 0;
    let groups = distances.as_chunks::<GROUP>().0.iter().zip(indices.as_chunks::<GROUP>().0);
    for (group, (distances, indices)) in groups.enumerate() {
        // SAFETY: sixteen values each, the size of the registers; loads need no alignment.
        let (distances, indices) = unsafe {
            let distances = _mm256_loadu_si256(distances.as_ptr().cast());
            (_mm512_cvtepu16_epi32(distances), _mm512_loadu_si512(indices.as_ptr().cast()))
        };
        let filled = (1_u32 << (len - group * GROUP).min(GROUP)) - 1;
        let near = _mm512_cmple_epi32_mask(distances, limit) & filled as u16;
        let found = near.count_ones() as usize;
        let queries = numbers;
        numbers = _mm512_add_epi32(numbers, step);
        // A store of nothing is slow where there may be no memory.
        if found == 0 {
            continue;
        }
        let places = [&mut *query, &mut *database, &mut *distance];
        for (column, values) in places.into_iter().zip([queries, indices, distances]) {
            let place = column[end..][..found].as_mut_ptr();
            let values = _mm512_maskz_compress_epi32(near, values);
            // SAFETY: as many places as are stored; they need no alignment. Compressed in a register: storing
            // compressed is slow on some CPUs.
            unsafe { _mm512_mask_storeu_epi32(place.cast(), ((1_u32 << found) - 1) as u16, values) };
        }
        end += found;
    }
    end
}
