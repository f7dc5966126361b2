//! AVX-512 with VPOPCNTDQ: eight queries in the 64-bit lanes of a register, a database word broadcast to all.
//!
//! A pair of 128-bit codes costs 1/8 of two XORs, two population counts, one addition and one minimum. Several
//! registers of queries share each broadcast. The minimum is taken on 16-bit lanes (one instruction, where the
//! 64-bit minimum is two on some CPUs): counts are below 2^16, so the other three are zero.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores use these pointers")]

use core::arch::x86_64::{
    __m512i, _mm_storeu_si128, _mm512_add_epi64, _mm512_cmpeq_epi64_mask, _mm512_cvtepi64_epi16,
    _mm512_min_epu16, _mm512_popcnt_epi64, _mm512_set_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_xor_si512,
};

/// Queries a register.
const LANES: usize = 8;
/// Bytes a word.
const WORD: usize = 8;

/// Query codes as word planes.
#[derive(Debug)]
pub struct Lanes {
    bytes: usize,
    words: usize,
    groups: usize,
    /// Word `w` of the eight queries of group `g` is element `g * words + w`; missing queries are zero.
    planes: Vec<__m512i>,
}

/// Calls `$self.$method::<words, groups a block>(...)` for the code length at hand. Blocks are as many groups
/// as leave room for their words in the 32 registers.
macro_rules! for_words {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self.words {
            1 => $self.$method::<1, 8>($($argument),*),
            2 => $self.$method::<2, 6>($($argument),*),
            3 => $self.$method::<3, 4>($($argument),*),
            4 => $self.$method::<4, 4>($($argument),*),
            5 => $self.$method::<5, 2>($($argument),*),
            6 => $self.$method::<6, 2>($($argument),*),
            7 => $self.$method::<7, 2>($($argument),*),
            8 => $self.$method::<8, 2>($($argument),*),
            words => unreachable!("{words} words; the length was checked"),
        }
    };
}

impl Lanes {
    /// Lays the codes out.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn new(codes: &[u8], bytes: usize) -> Self {
        let words = bytes.div_ceil(WORD);
        let len = codes.len() / bytes;
        let groups = len.div_ceil(LANES);
        let mut planes = Vec::with_capacity(groups * words);
        for group in codes.chunks(LANES * bytes) {
            for word in 0..words {
                let mut lane = [0_i64; LANES];
                for (lane, code) in lane.iter_mut().zip(group.chunks_exact(bytes)) {
                    let part = &code[word * WORD..bytes.min((word + 1) * WORD)];
                    let mut padded = [0; WORD];
                    padded[..part.len()].copy_from_slice(part);
                    *lane = i64::from_le_bytes(padded);
                }
                let [a, b, c, d, e, f, g, h] = lane;
                planes.push(_mm512_set_epi64(h, g, f, e, d, c, b, a));
            }
        }
        Self { bytes, words, groups, planes }
    }

    /// Database codes padded with zero bytes to whole words; codes of whole words are used in place.
    pub fn pad<'a>(&self, database: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let width = self.words * WORD;
        if self.bytes == width {
            return database;
        }
        buffer.clear();
        buffer.resize(database.len() / self.bytes * width, 0);
        for (padded, code) in buffer.chunks_exact_mut(width).zip(database.chunks_exact(self.bytes)) {
            padded[..self.bytes].copy_from_slice(code);
        }
        buffer
    }

    /// The distance of every query code, whole groups of eight.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn distances(&self, database: &[u8], out: &mut Vec<u16>) {
        out.resize(self.groups * LANES, 0);
        for_words!(self.distances_of(database, out));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn distances_of<const W: usize, const G: usize>(&self, database: &[u8], out: &mut [u16]) {
        let (codes, _) = database.as_chunks::<WORD>().0.as_chunks::<W>();
        let (groups, _) = self.planes.as_chunks::<W>();
        let (blocks, rest) = groups.as_chunks::<G>();
        let (block_out, rest_out) = out.split_at_mut(blocks.len() * G * LANES);
        for (block, out) in blocks.iter().zip(block_out.chunks_exact_mut(G * LANES)) {
            minima(block, codes, out);
        }
        for (group, out) in rest.iter().zip(rest_out.chunks_exact_mut(LANES)) {
            minima(&[*group], codes, out);
        }
    }

    /// The indices of the first `len` queries whose distance is within `limit`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn indices(&self, len: usize, database: &[u8], limit: u16, distances: &[u16], out: &mut [u32]) {
        for_words!(self.indices_of(len, database, limit, distances, out));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn indices_of<const W: usize, const G: usize>(
        &self,
        len: usize,
        database: &[u8],
        limit: u16,
        distances: &[u16],
        out: &mut [u32],
    ) {
        let (codes, _) = database.as_chunks::<WORD>().0.as_chunks::<W>();
        let (groups, _) = self.planes.as_chunks::<W>();
        for (g, group) in groups.iter().enumerate() {
            let first = g * LANES;
            let distances = &distances[first..first + LANES];
            let mut pending = 0_u8;
            for (lane, &distance) in distances.iter().enumerate() {
                pending |= u8::from(first + lane < len && distance <= limit) << lane;
            }
            if pending == 0 {
                continue;
            }
            let [a, b, c, d, e, f, g, h]: [i64; LANES] =
                std::array::from_fn(|lane| i64::from(distances[lane]));
            let wanted = _mm512_set_epi64(h, g, f, e, d, c, b, a);
            for (j, code) in codes.iter().enumerate() {
                let mut hits = _mm512_cmpeq_epi64_mask(count(group, &broadcast(code)), wanted) & pending;
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
}

/// A database code's words, each in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn broadcast<const W: usize>(code: &[[u8; WORD]; W]) -> [__m512i; W] {
    let mut words = [_mm512_setzero_si512(); W];
    for w in 0..W {
        words[w] = _mm512_set1_epi64(i64::from_le_bytes(code[w]));
    }
    words
}

/// The distances of eight queries to one database code, in 64-bit lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn count<const W: usize>(group: &[__m512i; W], words: &[__m512i; W]) -> __m512i {
    let mut sum = _mm512_popcnt_epi64(_mm512_xor_si512(group[0], words[0]));
    for w in 1..W {
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(group[w], words[w])));
    }
    sum
}

/// The smallest distance of each of `G * 8` queries over all database codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn minima<const W: usize, const G: usize>(
    block: &[[__m512i; W]; G],
    codes: &[[[u8; WORD]; W]],
    out: &mut [u16],
) {
    let block = *block;
    let mut best = [_mm512_set1_epi64(-1); G];
    for code in codes {
        let words = broadcast(code);
        for g in 0..G {
            best[g] = _mm512_min_epu16(best[g], count(&block[g], &words));
        }
    }
    for (best, out) in best.iter().zip(out.chunks_exact_mut(LANES)) {
        // SAFETY: `out` holds eight 16-bit values, the size of the register; the store needs no alignment.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(*best)) };
    }
}
