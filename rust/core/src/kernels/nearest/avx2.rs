//! AVX2: 32 queries in the byte lanes of a register, one table look-up for each nibble of a database code.
//!
//! Plane `p` holds nibble `p` of 32 queries. For a database nibble `v` the table `T_v[x] = popcount(x ^ v)` is one
//! of sixteen, and `VPSHUFB(T_v, plane)` is the contribution of that nibble to 32 distances at once. Byte sums
//! hold 31 bytes (62 nibbles of at most 4); longer codes are widened to 16 bits every 31 bytes.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores use these pointers")]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_add_epi16, _mm256_castsi256_si128, _mm256_cmpeq_epi16,
    _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_min_epu8, _mm256_min_epu16,
    _mm256_movemask_epi8, _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_storeu_si256,
};

use super::FAR;

/// Queries a register.
const LANES: usize = 32;
/// Bytes of a code whose nibble counts fit a byte sum: 31 * 8 = 248.
const NARROW: usize = 31;
/// Groups of queries that share one table look-up address in the narrow kernel.
const BLOCK: usize = 4;

/// Query codes as nibble planes.
#[derive(Debug)]
pub struct Planes {
    bytes: usize,
    groups: usize,
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
        let groups = (codes.len() / bytes).div_ceil(LANES);
        let mut planes = Vec::with_capacity(groups * 2 * bytes);
        for group in codes.chunks(LANES * bytes) {
            for nibble in 0..2 * bytes {
                let mut lane = [0_u8; LANES];
                for (lane, code) in lane.iter_mut().zip(group.chunks_exact(bytes)) {
                    *lane = nibble_of(code, nibble);
                }
                planes.push(load(&lane));
            }
        }
        let mut tables = [_mm256_setzero_si256(); 16];
        for (value, table) in tables.iter_mut().enumerate() {
            *table = load(&std::array::from_fn(|lane| ((lane % 16) ^ value).count_ones() as u8));
        }
        Self { bytes, groups, nibbles: planes, tables }
    }

    /// The distance of every query code, whole groups of 32.
    #[target_feature(enable = "avx2")]
    pub fn distances(&self, database: &[u8], out: &mut Vec<u16>) {
        out.resize(self.groups * LANES, 0);
        if database.is_empty() {
            out.fill(FAR);
        } else if self.bytes <= NARROW {
            self.distances_narrow(database, out);
        } else {
            self.distances_wide(database, out);
        }
    }

    #[target_feature(enable = "avx2")]
    fn distances_narrow(&self, database: &[u8], out: &mut [u16]) {
        let stride = 2 * self.bytes;
        let blocks = self.nibbles.chunks(BLOCK * stride).zip(out.chunks_mut(BLOCK * LANES));
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
            for g in 0..G {
                best[g] = _mm256_min_epu8(best[g], sum[g]);
            }
        }
        for (best, out) in best.iter().zip(out.chunks_exact_mut(LANES)) {
            store(widen(*best), out);
        }
    }

    #[target_feature(enable = "avx2")]
    fn distances_wide(&self, database: &[u8], out: &mut [u16]) {
        for (group, out) in self.nibbles.chunks_exact(2 * self.bytes).zip(out.chunks_exact_mut(LANES)) {
            let mut best = [_mm256_set1_epi8(-1); 2];
            for code in database.chunks_exact(self.bytes) {
                let sum = self.count(group, code);
                best = [_mm256_min_epu16(best[0], sum[0]), _mm256_min_epu16(best[1], sum[1])];
            }
            store(best, out);
        }
    }

    /// The indices of the first `len` queries whose distance is within `limit`.
    #[target_feature(enable = "avx2")]
    pub fn indices(&self, len: usize, database: &[u8], limit: u16, distances: &[u16], out: &mut [u32]) {
        for (g, group) in self.nibbles.chunks_exact(2 * self.bytes).enumerate() {
            let first = g * LANES;
            let distances: &[u16; LANES] =
                distances[first..].first_chunk().expect("distances are whole groups");
            let mut pending = 0_u32;
            for (lane, &distance) in distances.iter().enumerate() {
                pending |= u32::from(first + lane < len && distance <= limit) << lane;
            }
            if pending == 0 {
                continue;
            }
            let wanted = load_wide(distances);
            for (j, code) in database.chunks_exact(self.bytes).enumerate() {
                let sum = self.count(group, code);
                let equal = _mm256_packs_epi16(
                    _mm256_cmpeq_epi16(sum[0], wanted[0]),
                    _mm256_cmpeq_epi16(sum[1], wanted[1]),
                );
                // Packing works within 128-bit halves; this puts the quarters back in order.
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(equal);
                let mut hits = _mm256_movemask_epi8(ordered).cast_unsigned() & pending;
                pending &= !hits;
                while hits != 0 {
                    out[first + hits.trailing_zeros() as usize] = j as u32;
                    hits &= hits - 1;
                }
                if pending == 0 {
                    break;
                }
            }
        }
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

fn nibble_of(code: &[u8], nibble: usize) -> u8 {
    (code[nibble / 2] >> (4 * (nibble % 2))) & 15
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
fn load_wide(distances: &[u16; LANES]) -> Wide {
    // SAFETY: the array has 64 bytes, two registers; the loads need no alignment.
    unsafe {
        let first = distances.as_ptr().cast::<__m256i>();
        [_mm256_loadu_si256(first), _mm256_loadu_si256(first.add(1))]
    }
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
