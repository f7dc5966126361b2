//! AVX-512 with VPOPCNTDQ: sixteen queries in the 64-bit lanes of two registers, a database word broadcast to all.
//!
//! A pair of 128-bit codes costs 1/8 of two XORs, two population counts, one addition and one minimum. Several
//! groups of queries share each broadcast. The minimum is taken on 16-bit lanes (one instruction, where the
//! 64-bit minimum is two on some CPUs): counts are below 2^16, so the other three are zero.
//!
//! The index comes almost free. Distances below 256 of two groups are packed into the 32 16-bit lanes of one register
//! (three packs that save three minima), and a double shift by eight bits puts the index below each: the minimum of
//! `distance * 2^8 + j` is the smallest distance and, among equals, the lowest index. Longer codes have 32-bit lanes,
//! a group each, and a multiply-accumulate that makes `distance * 2^14 + j`.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores use these pointers")]

use core::arch::x86_64::{
    __m512i, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_epi64, _mm512_and_si512,
    _mm512_castsi512_si256, _mm512_cmplt_epu16_mask, _mm512_cmplt_epu32_mask, _mm512_cvtepi32_epi16,
    _mm512_cvtepu16_epi32, _mm512_dpwssd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512,
    _mm512_mask_mov_epi16, _mm512_mask_mov_epi32, _mm512_mask_storeu_epi32, _mm512_min_epu16,
    _mm512_min_epu32, _mm512_packus_epi32, _mm512_permutexvar_epi64, _mm512_popcnt_epi64, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_shldi_epi16,
    _mm512_srli_epi16, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_xor_si512,
};

/// Queries a group: two registers of eight.
pub const GROUP: usize = 16;
/// Bytes a word.
const WORD: usize = 8;
/// Bits of a key below the distance: database codes searched at a time are 2 to this power.
const INDEX_BITS: u32 = 14;
/// The same of a 16-bit key.
const SHORT_BITS: u32 = 8;

/// Numbers below `2^SHORT_BITS`, twice, in the upper bits of 16: a double shift moves them below a distance. Broadcast
/// from memory, which costs no arithmetic.
static NUMBERS: [i32; 1 << SHORT_BITS] = {
    let mut numbers = [0; 1 << SHORT_BITS];
    let mut j = 0;
    while j < numbers.len() {
        numbers[j] = ((j << (16 - SHORT_BITS)) * 0x0001_0001) as i32;
        j += 1;
    }
    numbers
};

/// A word of sixteen queries, in the order of [`place`].
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Plane([u64; GROUP]);

/// Query codes as word planes.
#[derive(Debug)]
pub struct Lanes {
    bytes: usize,
    words: usize,
    /// Word `w` of the queries of group `g` is element `g * words + w`; missing queries are zero.
    planes: Vec<Plane>,
}

/// Calls `$self.$method::<words, groups a block>(...)` for the code length at hand. Blocks are as many groups
/// as leave room for their words in the 32 registers.
macro_rules! for_words {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self.words {
            1 => $self.$method::<1, 6>($($argument),*),
            2 => $self.$method::<2, 4>($($argument),*),
            3 => $self.$method::<3, 2>($($argument),*),
            4 => $self.$method::<4, 2>($($argument),*),
            5 => $self.$method::<5, 1>($($argument),*),
            6 => $self.$method::<6, 1>($($argument),*),
            7 => $self.$method::<7, 1>($($argument),*),
            8 => $self.$method::<8, 1>($($argument),*),
            words => unreachable!("{words} words; the length was checked"),
        }
    };
}

/// The lane of a plane that holds query `r` of its group: the one whose sum packing puts at place `r`.
///
/// `VPACKUSDW` works within 128-bit lanes: of each, two queries of the first register and two of the second.
const fn place(r: usize) -> usize {
    (r / 2 % 2) * 8 + r / 4 * 2 + r % 2
}

impl Lanes {
    /// Lays the codes out.
    pub fn new(codes: &[u8], bytes: usize) -> Self {
        let words = bytes.div_ceil(WORD);
        let groups = (codes.len() / bytes).div_ceil(GROUP);
        let mut planes = vec![Plane([0; GROUP]); groups * words];
        for (group, planes) in codes.chunks(GROUP * bytes).zip(planes.chunks_exact_mut(words)) {
            for (r, code) in group.chunks_exact(bytes).enumerate() {
                let (whole, rest) = code.as_chunks::<WORD>();
                for (plane, word) in planes.iter_mut().zip(whole) {
                    plane.0[place(r)] = u64::from_le_bytes(*word);
                }
                if !rest.is_empty() {
                    let mut padded = [0; WORD];
                    padded[..rest.len()].copy_from_slice(rest);
                    planes[words - 1].0[place(r)] = u64::from_le_bytes(padded);
                }
            }
        }
        Self { bytes, words, planes }
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

    /// Bytes of a database code after [`Self::pad`].
    pub fn width(&self) -> usize {
        self.words * WORD
    }

    /// The planes of so many whole groups of queries from `first`, one of a group.
    fn groups<const W: usize>(&self, first: usize, queries: usize) -> &[[Plane; W]] {
        &self.planes.as_chunks::<W>().0[first / GROUP..][..queries / GROUP]
    }

    /// The distances of the query codes from `first`, as many as `out` has places: whole groups of sixteen; `database`
    /// is not empty.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
    pub fn distances(&self, first: usize, database: &[u8], out: &mut [u16]) {
        for_words!(self.distances_of(first, database, out));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
    fn distances_of<const W: usize, const G: usize>(&self, first: usize, database: &[u8], out: &mut [u16]) {
        let (codes, _) = database.as_chunks::<WORD>().0.as_chunks::<W>();
        let (blocks, rest) = self.groups::<W>(first, out.len()).as_chunks::<G>();
        let (block_out, rest_out) = out.split_at_mut(blocks.len() * G * GROUP);
        for (block, out) in blocks.iter().zip(block_out.chunks_exact_mut(G * GROUP)) {
            minima(block, codes, out);
        }
        for (group, out) in rest.iter().zip(rest_out.chunks_exact_mut(GROUP)) {
            minima(&[*group], codes, out);
        }
    }

    /// [`Self::distances`] and the index of each.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx512vpopcntdq")]
    pub fn nearest(&self, first: usize, database: &[u8], distances: &mut [u16], indices: &mut [u32]) {
        match self.words {
            1 => self.nearest_short::<1, 3>(first, database, distances, indices),
            2 => self.nearest_short::<2, 2>(first, database, distances, indices),
            3 => self.nearest_short::<3, 1>(first, database, distances, indices),
            _ => for_words!(self.nearest_of(first, database, distances, indices)),
        }
    }

    /// [`Self::nearest_of`] where distances have eight bits; blocks of `P` pairs of groups.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx512vpopcntdq")]
    fn nearest_short<const W: usize, const P: usize>(
        &self,
        first: usize,
        database: &[u8],
        distances: &mut [u16],
        indices: &mut [u32],
    ) {
        let (codes, _) = database.as_chunks::<WORD>().0.as_chunks::<W>();
        let groups = self.groups::<W>(first, distances.len());
        let (pairs, last) = groups.as_chunks::<2>();
        let (blocks, rest) = pairs.as_chunks::<P>();
        for (part, codes) in codes.chunks(1 << SHORT_BITS).enumerate() {
            let base = (part << SHORT_BITS) as u32;
            let (distances, last_distances) = distances.as_chunks_mut::<{ 2 * GROUP }>();
            let (indices, last_indices) = indices.as_chunks_mut::<{ 2 * GROUP }>();
            for (b, block) in blocks.iter().enumerate() {
                for (p, keys) in short_keys(block, codes).into_iter().enumerate() {
                    keep_short(keys, base, &mut distances[b * P + p], &mut indices[b * P + p]);
                }
            }
            for (p, pair) in (blocks.len() * P..).zip(rest) {
                let [keys] = short_keys(&[*pair], codes);
                keep_short(keys, base, &mut distances[p], &mut indices[p]);
            }
            for group in last {
                let [key] = keys(&[*group], codes);
                let (distances, _) = last_distances.as_chunks_mut();
                let (indices, _) = last_indices.as_chunks_mut();
                keep(key, part == 0, base, &mut distances[0], &mut indices[0]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
    fn nearest_of<const W: usize, const G: usize>(
        &self,
        first: usize,
        database: &[u8],
        distances: &mut [u16],
        indices: &mut [u32],
    ) {
        let (codes, _) = database.as_chunks::<WORD>().0.as_chunks::<W>();
        let groups = self.groups::<W>(first, distances.len());
        for (part, codes) in codes.chunks(1 << INDEX_BITS).enumerate() {
            let base = (part << INDEX_BITS) as u32;
            let (distances, _) = distances.as_chunks_mut::<GROUP>();
            let (indices, _) = indices.as_chunks_mut::<GROUP>();
            let (blocks, rest) = groups.as_chunks::<G>();
            for (b, block) in blocks.iter().enumerate() {
                for (g, key) in keys(block, codes).into_iter().enumerate() {
                    keep(key, part == 0, base, &mut distances[b * G + g], &mut indices[b * G + g]);
                }
            }
            // Two at a time while there are: alone, each would wait for itself.
            let done = blocks.len() * G;
            let (pairs, last) = rest.as_chunks::<2>();
            for (p, pair) in pairs.iter().enumerate() {
                for (g, key) in keys(pair, codes).into_iter().enumerate() {
                    let place = done + 2 * p + g;
                    keep(key, part == 0, base, &mut distances[place], &mut indices[place]);
                }
            }
            for group in last {
                let [key] = keys(&[*group], codes);
                let place = groups.len() - 1;
                keep(key, part == 0, base, &mut distances[place], &mut indices[place]);
            }
        }
    }
}

/// The two registers of each word of each group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn load<const W: usize, const G: usize>(block: &[[Plane; W]; G]) -> [[[__m512i; W]; 2]; G] {
    let mut registers = [[[_mm512_setzero_si512(); W]; 2]; G];
    for g in 0..G {
        for w in 0..W {
            for (half, register) in registers[g].iter_mut().enumerate() {
                // SAFETY: a plane has sixteen words, the size of two registers.
                register[w] = unsafe { _mm512_loadu_si512(block[g][w].0.as_ptr().add(8 * half).cast()) };
            }
        }
    }
    registers
}

/// A database code's words, each in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn broadcast<const W: usize>(code: &[[u8; WORD]; W]) -> [__m512i; W] {
    let mut words = [_mm512_setzero_si512(); W];
    for w in 0..W {
        words[w] = _mm512_set1_epi64(i64::from_le_bytes(code[w]));
    }
    words
}

/// The distances of eight queries to one database code, in 64-bit lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn count<const W: usize>(group: &[__m512i; W], words: &[__m512i; W]) -> __m512i {
    let mut sum = _mm512_popcnt_epi64(_mm512_xor_si512(group[0], words[0]));
    for w in 1..W {
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(group[w], words[w])));
    }
    sum
}

/// The smallest distance of each of `G * 16` queries over all database codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn minima<const W: usize, const G: usize>(
    block: &[[Plane; W]; G],
    codes: &[[[u8; WORD]; W]],
    out: &mut [u16],
) {
    let block = load(block);
    let mut best = [[_mm512_set1_epi64(-1); 2]; G];
    for code in codes {
        let words = broadcast(code);
        for g in 0..G {
            for half in 0..2 {
                best[g][half] = _mm512_min_epu16(best[g][half], count(&block[g][half], &words));
            }
        }
    }
    for (best, out) in best.iter().zip(out.chunks_exact_mut(GROUP)) {
        let ordered = _mm512_cvtepi32_epi16(_mm512_packus_epi32(best[0], best[1]));
        // SAFETY: `out` holds sixteen 16-bit values, the size of the register; the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), ordered) };
    }
}

/// The smallest `distance * 2^INDEX_BITS + j` of each of `G * 16` queries over at most `2^INDEX_BITS` codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn keys<const W: usize, const G: usize>(block: &[[Plane; W]; G], codes: &[[[u8; WORD]; W]]) -> [__m512i; G] {
    let block = load(block);
    let unit = _mm512_set1_epi32(1 << INDEX_BITS);
    let one = _mm512_set1_epi32(1);
    let mut index = _mm512_setzero_si512();
    let mut best = [_mm512_set1_epi32(-1); G];
    for code in codes {
        let words = broadcast(code);
        for g in 0..G {
            let sums = _mm512_packus_epi32(count(&block[g][0], &words), count(&block[g][1], &words));
            best[g] = _mm512_min_epu32(best[g], _mm512_dpwssd_epi32(index, sums, unit));
        }
        index = _mm512_add_epi32(index, one);
    }
    best
}

/// Splits keys of indices from `base` into distances and indices; those of a later part count where they are
/// nearer: earlier parts hold the lower indices.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")]
fn keep(keys: __m512i, first: bool, base: u32, distances: &mut [u16; GROUP], indices: &mut [u32; GROUP]) {
    let found = _mm512_srli_epi32::<INDEX_BITS>(keys);
    let low = _mm512_and_si512(keys, _mm512_set1_epi32((1 << INDEX_BITS) - 1));
    let index = _mm512_add_epi32(low, _mm512_set1_epi32(base as i32));
    // SAFETY: sixteen values each, the size of the registers; nothing needs alignment.
    unsafe {
        let before = _mm512_cvtepu16_epi32(_mm256_loadu_si256(distances.as_ptr().cast()));
        let nearer = if first { !0 } else { _mm512_cmplt_epu32_mask(found, before) };
        _mm512_mask_storeu_epi32(indices.as_mut_ptr().cast(), nearer, index);
        let distance = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(before, nearer, found));
        _mm256_storeu_si256(distances.as_mut_ptr().cast(), distance);
    }
}

/// The smallest `distance * 2^SHORT_BITS + j` of each of `P * 32` queries over at most `2^SHORT_BITS` codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx512vpopcntdq")]
fn short_keys<const W: usize, const P: usize>(
    block: &[[[Plane; W]; 2]; P],
    codes: &[[[u8; WORD]; W]],
) -> [__m512i; P] {
    let mut pairs = [[[[_mm512_setzero_si512(); W]; 2]; 2]; P];
    for (pair, planes) in pairs.iter_mut().zip(block) {
        *pair = load(planes);
    }
    let mut best = [_mm512_set1_epi16(-1); P];
    for (code, number) in codes.iter().zip(&NUMBERS) {
        let (words, index) = (broadcast(code), _mm512_set1_epi32(*number));
        for p in 0..P {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (sums, group) in sums.iter_mut().zip(&pairs[p]) {
                *sums = _mm512_packus_epi32(count(&group[0], &words), count(&group[1], &words));
            }
            let sums = _mm512_packus_epi32(sums[0], sums[1]);
            best[p] = _mm512_min_epu16(best[p], _mm512_shldi_epi16::<{ SHORT_BITS as i32 }>(sums, index));
        }
    }
    // Packing works within 128-bit lanes: four queries of the first group, four of the second.
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    best.map(|best| _mm512_permutexvar_epi64(order, best))
}

/// [`keep`] of two groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx512vpopcntdq")]
fn keep_short(keys: __m512i, base: u32, distances: &mut [u16; 2 * GROUP], indices: &mut [u32; 2 * GROUP]) {
    let found = _mm512_srli_epi16::<SHORT_BITS>(keys);
    let low = _mm512_and_si512(keys, _mm512_set1_epi16((1 << SHORT_BITS) - 1));
    // SAFETY: 32 values each, one register and two; nothing needs alignment.
    unsafe {
        let before = _mm512_loadu_si512(distances.as_ptr().cast());
        let nearer = if base == 0 { !0 } else { _mm512_cmplt_epu16_mask(found, before) };
        _mm512_storeu_si512(distances.as_mut_ptr().cast(), _mm512_mask_mov_epi16(before, nearer, found));
        let halves = [_mm512_castsi512_si256(low), _mm512_extracti64x4_epi64::<1>(low)];
        for (half, low) in halves.into_iter().enumerate() {
            let index = _mm512_add_epi32(_mm512_cvtepu16_epi32(low), _mm512_set1_epi32(base as i32));
            let place = indices.as_mut_ptr().add(GROUP * half).cast();
            _mm512_mask_storeu_epi32(place, (nearer >> (GROUP * half)) as u16, index);
        }
    }
}
