//! AVX2: 32 queries in the byte lanes of a register, one table look-up for each nibble of a database code.
//!
//! Plane `p` holds nibble `p` of 32 queries. For a database nibble `v` the table `T_v[x] = popcount(x ^ v)` is one
//! of sixteen, and `VPSHUFB(T_v, plane)` is the contribution of that nibble to 32 distances at once. Byte sums
//! hold 31 bytes (62 nibbles of at most 4); longer codes are widened to 16 bits every 31 bytes.
//!
//! For the index, sums become 16-bit keys `distance * 2^bits + j` by interleaving them with `j` (short codes, 256
//! database codes at a time) or by a shift (long codes, 64 at a time): the minimum of keys is the smallest distance
//! and, among equals, the lowest index.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores use these pointers")]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_min_epu8, _mm256_min_epu16,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_si256, _mm256_unpackhi_epi8,
    _mm256_unpacklo_epi8,
};

/// Queries a register.
pub const LANES: usize = 32;
/// Bytes of a code whose nibble counts fit a byte sum: 31 * 8 = 248.
const NARROW: usize = 31;
/// Groups of queries that share one table look-up address in the narrow kernel.
const BLOCK: usize = 4;

/// Query codes as nibble planes.
#[derive(Debug)]
pub struct Planes {
    bytes: usize,
    /// Nibble `p` of the 32 queries of group `g` is element `g * 2 * bytes + p`; missing queries are zero.
    nibbles: Vec<__m256i>,
    tables: [__m256i; 16],
}

/// Sixteen-bit distances of 32 queries: the first sixteen, the last sixteen.
type Wide = [__m256i; 2];

impl Planes {
    /// Lays the codes out.
    #[target_feature(enable = "avx2")]
    pub fn new(codes: &[u8], bytes: usize) -> Self {
        let mut planes = Vec::with_capacity((codes.len() / bytes).div_ceil(LANES) * 2 * bytes);
        for group in codes.chunks(LANES * bytes) {
            for byte in 0..bytes {
                let mut lane = [0_u8; LANES];
                for (lane, code) in lane.iter_mut().zip(group.chunks_exact(bytes)) {
                    *lane = code[byte];
                }
                let (both, nibble) = (load(&lane), _mm256_set1_epi8(15));
                planes.push(_mm256_and_si256(both, nibble));
                planes.push(_mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble));
            }
        }
        let mut tables = [_mm256_setzero_si256(); 16];
        for (value, table) in tables.iter_mut().enumerate() {
            *table = load(&std::array::from_fn(|lane| ((lane % 16) ^ value).count_ones() as u8));
        }
        Self { bytes, nibbles: planes, tables }
    }

    /// The nibbles of so many whole groups of queries from `first`.
    fn groups(&self, first: usize, queries: usize) -> &[__m256i] {
        let stride = 2 * self.bytes;
        &self.nibbles[first / LANES * stride..][..queries / LANES * stride]
    }

    /// The distances of the query codes from `first`, as many as `out` has places: whole groups of 32; `database` is not
    /// empty.
    #[target_feature(enable = "avx2")]
    pub fn distances(&self, first: usize, database: &[u8], out: &mut [u16]) {
        let nibbles = self.groups(first, out.len());
        if self.bytes <= NARROW {
            self.distances_narrow(nibbles, database, out);
        } else {
            self.distances_wide(nibbles, database, out);
        }
    }

    #[target_feature(enable = "avx2")]
    fn distances_narrow(&self, nibbles: &[__m256i], database: &[u8], out: &mut [u16]) {
        let stride = 2 * self.bytes;
        let blocks = nibbles.chunks(BLOCK * stride).zip(out.chunks_mut(BLOCK * LANES));
        for (block, out) in blocks {
            if block.len() == BLOCK * stride {
                self.minima_narrow::<BLOCK>(block, database, out);
            } else {
                for (group, out) in block.chunks_exact(stride).zip(out.chunks_exact_mut(LANES)) {
                    self.minima_narrow::<1>(group, database, out);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn minima_narrow<const G: usize>(&self, block: &[__m256i], database: &[u8], out: &mut [u16]) {
        let stride = 2 * self.bytes;
        let mut best = [_mm256_set1_epi8(-1); G];
        let mut groups: [&[__m256i]; G] = [&[]; G];
        for (g, group) in groups.iter_mut().enumerate() {
            *group = &block[g * stride..(g + 1) * stride];
        }
        for code in database.chunks_exact(self.bytes) {
            let sum = self.sums(&groups, code);
            for g in 0..G {
                best[g] = _mm256_min_epu8(best[g], sum[g]);
            }
        }
        for (best, out) in best.iter().zip(out.chunks_exact_mut(LANES)) {
            store(widen(*best), out);
        }
    }

    #[target_feature(enable = "avx2")]
    fn distances_wide(&self, nibbles: &[__m256i], database: &[u8], out: &mut [u16]) {
        for (group, out) in nibbles.chunks_exact(2 * self.bytes).zip(out.chunks_exact_mut(LANES)) {
            let mut best = [_mm256_set1_epi8(-1); 2];
            for code in database.chunks_exact(self.bytes) {
                let sum = self.count(group, code);
                best = [_mm256_min_epu16(best[0], sum[0]), _mm256_min_epu16(best[1], sum[1])];
            }
            store(best, out);
        }
    }

    /// [`Self::distances`] and the index of each.
    #[target_feature(enable = "avx2")]
    pub fn nearest(&self, first: usize, database: &[u8], distances: &mut [u16], indices: &mut [u32]) {
        let stride = 2 * self.bytes;
        let nibbles = self.groups(first, distances.len());
        let narrow = self.bytes <= NARROW;
        let bits = if narrow { 8 } else { 6 };
        for (part, codes) in database.chunks(self.bytes << bits).enumerate() {
            let base = (part << bits) as u32;
            let outputs = distances.chunks_mut(BLOCK * LANES).zip(indices.chunks_mut(BLOCK * LANES));
            for (block, (distances, indices)) in nibbles.chunks(BLOCK * stride).zip(outputs) {
                let mut keys = [[0_u16; LANES]; BLOCK];
                if narrow && block.len() == BLOCK * stride {
                    keys = self.keys_narrow::<BLOCK>(block, codes);
                } else {
                    for (group, keys) in block.chunks_exact(stride).zip(&mut keys) {
                        if narrow {
                            [*keys] = self.keys_narrow::<1>(group, codes);
                        } else {
                            *keys = self.keys_wide(group, codes);
                        }
                    }
                }
                let found = keys.as_flattened().iter().zip(distances.iter_mut().zip(indices));
                for (key, (distance, index)) in found {
                    // Strictly: earlier parts hold the lower indices.
                    if part == 0 || key >> bits < *distance {
                        *distance = key >> bits;
                        *index = base + u32::from(key & ((1 << bits) - 1));
                    }
                }
            }
        }
    }

    /// The smallest `distance * 256 + j` of each query of `G` groups over at most 256 codes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn keys_narrow<const G: usize>(&self, block: &[__m256i], codes: &[u8]) -> [[u16; LANES]; G] {
        let stride = 2 * self.bytes;
        let mut best = [[_mm256_set1_epi8(-1); 2]; G];
        let mut groups: [&[__m256i]; G] = [&[]; G];
        for (g, group) in groups.iter_mut().enumerate() {
            *group = &block[g * stride..(g + 1) * stride];
        }
        for (j, code) in codes.chunks_exact(self.bytes).enumerate() {
            let sum = self.sums(&groups, code);
            let index = _mm256_set1_epi8(j as i8);
            for g in 0..G {
                best[g][0] = _mm256_min_epu16(best[g][0], _mm256_unpacklo_epi8(index, sum[g]));
                best[g][1] = _mm256_min_epu16(best[g][1], _mm256_unpackhi_epi8(index, sum[g]));
            }
        }
        let mut keys = [[0; LANES]; G];
        for (best, keys) in best.iter().zip(&mut keys) {
            // Interleaving works within 128-bit halves; this puts the quarters back in order.
            let low = _mm256_permute2x128_si256::<0x20>(best[0], best[1]);
            let high = _mm256_permute2x128_si256::<0x31>(best[0], best[1]);
            store([low, high], keys);
        }
        keys
    }

    /// The smallest `distance * 64 + j` of each query of one group over at most 64 codes.
    #[target_feature(enable = "avx2")]
    fn keys_wide(&self, group: &[__m256i], codes: &[u8]) -> [u16; LANES] {
        let mut best = [_mm256_set1_epi8(-1); 2];
        for (j, code) in codes.chunks_exact(self.bytes).enumerate() {
            let index = _mm256_set1_epi16(j as i16);
            for (best, sum) in best.iter_mut().zip(self.count(group, code)) {
                *best = _mm256_min_epu16(*best, _mm256_or_si256(_mm256_slli_epi16::<6>(sum), index));
            }
        }
        let mut keys = [0; LANES];
        store(best, &mut keys);
        keys
    }

    /// The distances of the 32 queries of each of `G` groups to one database code of at most [`NARROW`] bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sums<const G: usize>(&self, groups: &[&[__m256i]; G], code: &[u8]) -> [__m256i; G] {
        let mut sum = [_mm256_setzero_si256(); G];
        for (i, &byte) in code.iter().enumerate() {
            let low = self.tables[usize::from(byte & 15)];
            let high = self.tables[usize::from(byte >> 4)];
            for g in 0..G {
                let a = _mm256_shuffle_epi8(low, groups[g][2 * i]);
                let b = _mm256_shuffle_epi8(high, groups[g][2 * i + 1]);
                sum[g] = _mm256_add_epi8(sum[g], _mm256_add_epi8(a, b));
            }
        }
        sum
    }

    /// The distances of one group's 32 queries to one database code.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn count(&self, group: &[__m256i], code: &[u8]) -> Wide {
        let mut total = [_mm256_setzero_si256(); 2];
        for (part, planes) in code.chunks(NARROW).zip(group.chunks(2 * NARROW)) {
            let mut sum = _mm256_setzero_si256();
            for (&byte, pair) in part.iter().zip(planes.chunks_exact(2)) {
                let low = _mm256_shuffle_epi8(self.tables[usize::from(byte & 15)], pair[0]);
                let high = _mm256_shuffle_epi8(self.tables[usize::from(byte >> 4)], pair[1]);
                sum = _mm256_add_epi8(sum, _mm256_add_epi8(low, high));
            }
            let wide = widen(sum);
            total = [_mm256_add_epi16(total[0], wide[0]), _mm256_add_epi16(total[1], wide[1])];
        }
        total
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen(bytes: __m256i) -> Wide {
    [
        _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes)),
        _mm256_cvtepu8_epi16(_mm256_extracti128_si256::<1>(bytes)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &[u8; LANES]) -> __m256i {
    // SAFETY: the array has the register's 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(distances: Wide, out: &mut [u16]) {
    let out: &mut [u16; LANES] = out.try_into().expect("distances are whole groups");
    // SAFETY: the array has 64 bytes, two registers; the stores need no alignment.
    unsafe {
        let first = out.as_mut_ptr().cast::<__m256i>();
        _mm256_storeu_si256(first, distances[0]);
        _mm256_storeu_si256(first.add(1), distances[1]);
    }
}
