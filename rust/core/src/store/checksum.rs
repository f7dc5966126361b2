//! XXH3-64 of the 4 MiB blocks of a file: fast enough to disappear behind the disk, fine enough to name a place.

use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::ops::Range;

use twox_hash::XxHash3_64;

use crate::positioned::Positioned;

/// Bytes a block; the last one of a file may be shorter.
pub(super) const BLOCK: usize = 4 << 20;

/// Bytes read at a time: they are hashed while they are still in the second-level cache.
const PIECE: usize = 256 << 10;

/// XXH3-64 with seed 0.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The hash that names a file: of the hashes of its blocks.
pub(super) fn hash_of_blocks(blocks: &[u64]) -> u64 {
    hash(&blocks.iter().flat_map(|block| block.to_le_bytes()).collect::<Vec<u8>>())
}

/// The hash of a stretch of a file, which is read piece by piece into `buffer`.
pub(super) fn hash_of_file(file: &File, stretch: Range<u64>, buffer: &mut Vec<u8>) -> io::Result<u64> {
    buffer.resize(PIECE, 0);
    let mut state = XxHash3_64::new();
    for start in stretch.clone().step_by(PIECE) {
        let piece = &mut buffer[..(stretch.end - start).min(PIECE as u64) as usize];
        file.read_exact_at(piece, start)?;
        state.write(piece);
    }
    Ok(state.finish())
}

/// Hashes a stream of bytes block by block.
#[derive(Clone)]
pub(super) struct Blocks {
    state: XxHash3_64,
    filled: usize,
    finished: Vec<u64>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { state: XxHash3_64::new(), filled: 0, finished: Vec::new() }
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blocks").field("finished", &self.finished.len()).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            if now.len() == BLOCK {
                self.finished.push(hash(now));
            } else {
                self.state.write(now);
                self.filled += now.len();
                if self.filled == BLOCK {
                    self.close();
                }
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        self.finished.push(self.state.finish());
        self.state = XxHash3_64::new();
        self.filled = 0;
    }

    /// The hashes of all blocks.
    pub fn finish(mut self) -> Vec<u64> {
        if self.filled > 0 {
            self.close();
        }
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_implementation_agrees() {
        let bytes: Vec<u8> =
            (0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for length in (0..1100).chain([4096, 65_537, 99_999]) {
            let bytes = &bytes[..length];
            assert_eq!(hash(bytes), xxhash_rust::xxh3::xxh3_64(bytes), "{length} bytes");
        }
    }

    #[test]
    fn pieces_do_not_change_the_hashes() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 777).map(|index| (index * 31 % 251) as u8).collect();
        let expected: Vec<u64> = bytes.chunks(BLOCK).map(hash).collect();
        for piece in [1 << 16, 1_000_003, BLOCK, bytes.len()] {
            let mut blocks = Blocks::default();
            bytes.chunks(piece).for_each(|piece| blocks.update(piece));
            assert_eq!(blocks.finish(), expected, "pieces of {piece}");
        }
        assert!(Blocks::default().finish().is_empty());
    }
}
