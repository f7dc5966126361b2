//! Hamming distances between packed binary codes of any length.
//!
//! Codes are compared 64 at a time, as *planes*: word `w` of all 64 codes, then word `w + 1`. A vector
//! register then holds the same word of several codes, the query's word is broadcast, and no sum across lanes
//! is needed. [`pack`] makes planes from row-major codes once, for all queries; a ragged last word is padded
//! with zeros on both sides, which adds nothing to a distance.
//!
//! All arithmetic is on integers: every level returns the same numbers. A distance is at most 8 times the
//! code length in bytes, far below `u32::MAX` for any code that fits in memory's address space of planes.

use crate::error::Result;
use crate::level::{self, Level};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

/// Codes in a block of planes.
pub const BLOCK: usize = 64;

/// Distances of one query to the codes of a block.
pub type Distances = [u32; BLOCK];

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    below: unsafe fn(&[u64], &[u64], u32, &mut Distances) -> u64,
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels { level: Level::Scalar, below: scalar::below },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx2, below: avx2::below },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx512, below: avx512::below },
];

/// 64-bit words that hold a code of `bytes` bytes.
pub const fn words(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Turns one code into little-endian words, the last padded with zeros.
pub fn to_words(code: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (whole, ragged) = code.as_chunks::<8>();
    let last = (!ragged.is_empty()).then(|| {
        let mut padded = [0; 8];
        padded[..ragged.len()].copy_from_slice(ragged);
        u64::from_le_bytes(padded)
    });
    whole.iter().map(|word| u64::from_le_bytes(*word)).chain(last)
}

/// Packs row-major codes of `bytes` bytes into the lanes of a block from `first` on; other lanes stay as they are.
///
/// # Panics
/// If the codes reach beyond lane 63, or `planes` is not `words(bytes) * 64` long.
pub fn pack(codes: &[u8], bytes: usize, first: usize, planes: &mut [u64]) {
    assert_eq!(planes.len(), words(bytes) * BLOCK, "a plane a word");
    assert!(first <= BLOCK && codes.len() <= bytes * (BLOCK - first), "at most 64 codes");
    if bytes == 0 {
        return;
    }
    for (lane, code) in (first..).zip(codes.chunks_exact(bytes)) {
        for (plane, word) in planes.chunks_exact_mut(BLOCK).zip(to_words(code)) {
            plane[lane] = word;
        }
    }
}

impl Kernels {
    /// The kernels of the active level.
    pub fn active() -> Result<&'static Self> {
        Ok(Self::of(level::active()?).unwrap_or(&TABLE[0]))
    }

    /// The kernels of `level`, if this machine can run them.
    pub fn of(level: Level) -> Option<&'static Self> {
        TABLE.iter().find(|kernels| kernels.level == level && level.is_available())
    }

    /// The codes of a block that are nearer than `limit`: bit `i` for code `i`, whose distance is then in
    /// `distances[i]` (the others are undefined).
    ///
    /// # Panics
    /// If `planes` does not hold one plane of 64 codes for each word of the query.
    pub fn below(&self, query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> u64 {
        assert_eq!(planes.len(), query.len() * BLOCK, "a plane for each word of the query");
        // SAFETY: a `Kernels` is only handed out where its level is available, and the lengths fit.
        unsafe { (self.below)(query, planes, limit, distances) }
    }

    /// The distances of one code to each of the row-major `codes`.
    ///
    /// # Panics
    /// If `codes` is not `distances.len()` codes as long as `query`.
    pub fn distances(&self, query: &[u8], codes: &[u8], distances: &mut [u32]) {
        assert_eq!(codes.len(), query.len() * distances.len(), "one code a distance");
        let query_words: Vec<u64> = to_words(query).collect();
        let mut planes = vec![0; query_words.len() * BLOCK];
        let mut block = [0; BLOCK];
        for (start, out) in (0..).step_by(BLOCK).zip(distances.chunks_mut(BLOCK)) {
            pack(&codes[start * query.len()..][..out.len() * query.len()], query.len(), 0, &mut planes);
            self.below(&query_words, &planes, u32::MAX, &mut block);
            out.copy_from_slice(&block[..out.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(a: &[u8], b: &[u8]) -> u32 {
        a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum()
    }

    fn bytes(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_level_counts_like_the_bytes(length in 0_usize..300, count in 0_usize..200, seed: u64) {
            let (query, codes) = (bytes(length, seed), bytes(length * count, seed ^ 1));
            let expected: Vec<u32> =
                (0..count).map(|i| naive(&query, &codes[i * length..][..length])).collect();
            for level in Level::available() {
                let mut found = vec![0; count];
                Kernels::of(level).unwrap().distances(&query, &codes, &mut found);
                prop_assert_eq!(&found, &expected, "{:?}", level);
            }
        }

        #[test]
        fn the_limit_is_strict(length in 1_usize..80, limit in 0_u32..700, seed: u64) {
            let (query, codes) = (bytes(length, seed), bytes(length * BLOCK, seed ^ 2));
            let query_words: Vec<u64> = to_words(&query).collect();
            let mut planes = vec![0; words(length) * BLOCK];
            pack(&codes, length, 0, &mut planes);
            for level in Level::available() {
                let mut found = [0; BLOCK];
                let hits = Kernels::of(level).unwrap().below(&query_words, &planes, limit, &mut found);
                for i in 0..BLOCK {
                    let expected = naive(&query, &codes[i * length..][..length]);
                    prop_assert_eq!(hits >> i & 1 == 1, expected < limit, "{:?} code {}", level, i);
                    prop_assert!(expected >= limit || found[i] == expected, "{:?} code {}", level, i);
                }
            }
        }
    }

    #[test]
    fn extremes_of_long_codes_do_not_overflow() {
        let (zeros, ones) = (vec![0_u8; 8191], vec![255_u8; 8191]);
        for level in Level::available() {
            let mut found = [0];
            Kernels::of(level).unwrap().distances(&zeros, &ones, &mut found);
            assert_eq!(found, [8191 * 8], "{level:?}");
        }
    }
}
