//! Hamming distances between packed binary codes of any length.
//!
//! Codes are compared 64 at a time, as *planes*: word `w` of all 64 codes, then word `w + 1`. A vector
//! register then holds the same word of several codes, the query's word is broadcast, and no sum across lanes
//! is needed. [`pack`] makes planes from row-major codes once, for all queries; a ragged last word is padded
//! with zeros on both sides, which adds nothing to a distance.
//!
//! All arithmetic is on integers: every level returns the same numbers. A distance is at most 8 times the
//! code length in bytes, which must stay below 2^31.

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

type Seek = unsafe fn(&[u64], &[u64], u32, &mut Distances) -> (usize, u64);

/// The kernels of one level. Having one proves that the machine can run it.
#[derive(Debug)]
pub struct Kernels {
    level: Level,
    seek: Seek,
    pack: unsafe fn(&[u8], usize, &mut [u64]),
}

/// One line a level.
static TABLE: &[Kernels] = &[
    Kernels { level: Level::Scalar, seek: scalar::seek, pack: scalar::pack },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx2, seek: avx2::seek, pack: scalar::pack },
    #[cfg(target_arch = "x86_64")]
    Kernels { level: Level::Avx512, seek: avx512::seek, pack: avx512::pack },
];

/// 64-bit words that hold a code of `bytes` bytes; at least one, of zeros, for codes without bits.
pub const fn words(bytes: usize) -> usize {
    if bytes == 0 { 1 } else { bytes.div_ceil(8) }
}

/// Turns one code into its little-endian words, the last padded with zeros.
pub fn to_words(code: &[u8]) -> Vec<u64> {
    let mut all: Vec<u64> = padded(code).collect();
    all.resize(words(code.len()), 0);
    all
}

fn padded(code: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (whole, ragged) = code.as_chunks::<8>();
    let last = (!ragged.is_empty()).then(|| {
        let mut padded = [0; 8];
        padded[..ragged.len()].copy_from_slice(ragged);
        u64::from_le_bytes(padded)
    });
    whole.iter().map(|word| u64::from_le_bytes(*word)).chain(last)
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

    /// Packs row-major codes of `bytes` bytes into the lanes of a block from `first` on; other lanes stay as they
    /// are.
    ///
    /// # Panics
    /// If the codes reach beyond lane 63, or `planes` is not `words(bytes) * 64` long.
    pub fn pack(&self, codes: &[u8], bytes: usize, first: usize, planes: &mut [u64]) {
        assert_eq!(planes.len(), words(bytes) * BLOCK, "a plane a word");
        assert!(first <= BLOCK && codes.len() <= bytes * (BLOCK - first), "at most 64 codes");
        if bytes == 0 {
            planes.fill(0);
        } else if bytes.is_multiple_of(8) && codes.len() == bytes * BLOCK {
            // SAFETY: a `Kernels` is only handed out where its level is available; the block is whole.
            unsafe { (self.pack)(codes, bytes / 8, planes) };
        } else {
            for (lane, code) in (first..).zip(codes.chunks_exact(bytes)) {
                for (plane, word) in planes.chunks_exact_mut(BLOCK).zip(padded(code)) {
                    plane[lane] = word;
                }
            }
        }
    }

    /// The first block with a code nearer than `limit`, and which of its codes are: bit `i` for code `i`. The
    /// distances of all its codes are then in `distances`. Without such a block, the number of blocks and 0.
    ///
    /// # Panics
    /// If the query is empty, or `planes` is not whole blocks of one plane for each of its words.
    pub fn seek(&self, query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> (usize, u64) {
        assert!(!query.is_empty(), "a query has at least one word");
        assert!(planes.len().is_multiple_of(query.len() * BLOCK), "a plane for each word of the query");
        // SAFETY: a `Kernels` is only handed out where its level is available, and the lengths fit.
        unsafe { (self.seek)(query, planes, limit, distances) }
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

    /// The distances of one code to each of `count` row-major codes.
    fn distances(kernels: &Kernels, query: &[u8], codes: &[u8], count: usize) -> Vec<u32> {
        let mut found = Vec::new();
        for start in (0..count).step_by(BLOCK) {
            let part = BLOCK.min(count - start);
            let mut planes = vec![0; words(query.len()) * BLOCK];
            let codes = &codes[start * query.len()..][..part * query.len()];
            kernels.pack(codes, query.len(), 0, &mut planes);
            let mut block = [0; BLOCK];
            assert_eq!(kernels.seek(&to_words(query), &planes, u32::MAX, &mut block), (0, u64::MAX));
            found.extend(&block[..part]);
        }
        found
    }

    proptest! {
        #[test]
        fn every_level_counts_like_the_bytes(length in 0_usize..300, count in 0_usize..200, seed: u64) {
            let (query, codes) = (bytes(length, seed), bytes(length * count, seed ^ 1));
            let expected: Vec<u32> =
                (0..count).map(|i| naive(&query, &codes[i * length..][..length])).collect();
            for level in Level::available() {
                let found = distances(Kernels::of(level).unwrap(), &query, &codes, count);
                prop_assert_eq!(&found, &expected, "{:?}", level);
            }
        }

        #[test]
        fn the_first_block_below_the_limit_is_found(
            length in 1_usize..80, blocks in 0_usize..6, limit in 0_u32..400, seed: u64,
        ) {
            let (query, codes) = (bytes(length, seed), bytes(length * BLOCK * blocks, seed ^ 2));
            let size = words(length) * BLOCK;
            for level in Level::available() {
                let kernels = Kernels::of(level).unwrap();
                let mut planes = vec![0; size * blocks];
                for (block, planes) in planes.chunks_exact_mut(size).enumerate() {
                    let codes = &codes[block * length * BLOCK..][..length * BLOCK];
                    // In two parts: a block need not be packed at once.
                    let cut = if block % 2 == 0 { 0 } else { seed as usize % BLOCK };
                    kernels.pack(&codes[..cut * length], length, 0, planes);
                    kernels.pack(&codes[cut * length..], length, cut, planes);
                }
                let expected: Vec<u32> = codes.chunks_exact(length).map(|code| naive(&query, code)).collect();
                let first = expected.iter().position(|&distance| distance < limit);
                let mut found = [0; BLOCK];
                let (block, hits) = kernels.seek(&to_words(&query), &planes, limit, &mut found);
                prop_assert_eq!(block, first.map_or(blocks, |first| first / BLOCK), "{:?}", level);
                prop_assert_eq!(hits != 0, first.is_some());
                if hits != 0 {
                    let expected = &expected[block * BLOCK..][..BLOCK];
                    prop_assert_eq!(&found[..], expected, "{:?}", level);
                    for (i, &distance) in expected.iter().enumerate() {
                        prop_assert_eq!(hits >> i & 1 == 1, distance < limit, "{:?} code {}", level, i);
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_of_long_codes_do_not_overflow() {
        // 65,535 bits and less fit in 16-bit lanes, more do not.
        for length in [8184, 8191, 8192, 8200, 20_000] {
            let (zeros, ones) = (vec![0_u8; length], vec![255_u8; length]);
            for level in Level::available() {
                let kernels = Kernels::of(level).unwrap();
                let bits = length as u32 * 8;
                assert_eq!(distances(kernels, &zeros, &ones, 1), [bits], "{level:?}");
                let (mut planes, mut block) = (vec![0; words(length) * BLOCK], [0; BLOCK]);
                for lane in 0..BLOCK {
                    kernels.pack(&ones, length, lane, &mut planes);
                }
                let query = to_words(&zeros);
                assert_eq!(kernels.seek(&query, &planes, bits, &mut block), (1, 0), "{level:?}");
                assert_eq!(kernels.seek(&query, &planes, bits + 1, &mut block), (0, u64::MAX), "{level:?}");
            }
        }
    }
}
