//! Which ids are certainly not in a shard: a blocked Bloom filter (Putze, Sanders and Singler, Cache-, hash- and
//! space-efficient Bloom filters, 2009) of their hashes.
//!
//! A writer asks every shard about every id. The index of a shard answers with some cache misses; the filter with
//! one, in a hundredth of the memory, and is wrong about one id in forty, about which the index is asked then.

/// Bits an id, rounded up to whole blocks.
const BITS: usize = 8;
/// Bits of the block that an id sets.
const SET: u32 = 4;

/// One block, of 64 bits, an id.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<u64>,
}

impl Filter {
    /// Of these hashes, as [`super::ids::id_hash`] makes them.
    pub fn new(hashes: &[i64]) -> Self {
        let mut filter = Self { blocks: vec![0; (hashes.len() * BITS).div_ceil(64).max(1)] };
        for &hash in hashes {
            let (block, bits) = filter.place(hash);
            filter.blocks[block] |= bits;
        }
        filter
    }

    /// False only if the hash is not among them.
    pub fn may_contain(&self, hash: i64) -> bool {
        let (block, bits) = self.place(hash);
        self.blocks[block] & bits == bits
    }

    /// The block of a hash, from its high bits, and the bits it sets there, from its low ones.
    fn place(&self, hash: i64) -> (usize, u64) {
        // Hashes have 63 bits.
        let block = (u128::from((hash as u64) << 1) * self.blocks.len() as u128) >> 64;
        let bits = (0..SET).fold(0, |bits, number| bits | 1 << (hash >> (6 * number) & 63));
        (block as usize, bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ids::id_hash;

    #[test]
    fn finds_all_and_little_else() {
        for count in [0, 1, 9, 50_000] {
            let hashes: Vec<i64> = (0..100_000).map(|id: u32| id_hash(&id.to_le_bytes())).collect();
            let filter = Filter::new(&hashes[..count]);
            assert!(hashes[..count].iter().all(|&hash| filter.may_contain(hash)));
            let wrong = hashes[count..].iter().filter(|&&hash| filter.may_contain(hash)).count();
            assert!(wrong < 5_000, "{wrong} with {count}");
        }
        assert!(Filter::new(&[i64::MAX, 0]).may_contain(i64::MAX));
        // Of a damaged index: any answer, but no panic.
        let _ = Filter::new(&[-1, i64::MIN]).may_contain(-7);
    }
}
