//! XXH3-64 of the 4 MiB blocks of a file: fast enough to disappear behind the disk, fine enough to name a place.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Bytes a block; the last one of a file may be shorter.
pub(super) const BLOCK: usize = 4 << 20;

/// XXH3-64 with seed 0.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash that names a file: of the hashes of its blocks.
pub(super) fn hash_of_blocks(blocks: &[u64]) -> u64 {
    hash(&blocks.iter().flat_map(|block| block.to_le_bytes()).collect::<Vec<u8>>())
}

/// Hashes a stream of bytes block by block.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    state: Xxh3Default,
    filled: usize,
    finished: Vec<u64>,
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
                self.state.update(now);
                self.filled += now.len();
                if self.filled == BLOCK {
                    self.close();
                }
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        self.finished.push(self.state.digest());
        self.state.reset();
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
