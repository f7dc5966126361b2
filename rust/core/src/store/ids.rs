//! Rules for ids, and the hash by which they are found.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::error::{Error, Result};

use super::checksum::hash;

/// Longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 4096;

/// Checks that `id`, the one at `position`, can be stored: 1 to [`MAX_ID_BYTES`] bytes, no NUL and no line break (id lists are text files).
pub fn check_id(id: &str, position: usize) -> Result<()> {
    let fault = if id.is_empty() {
        "an empty id".to_owned()
    } else if id.len() > MAX_ID_BYTES {
        let start: String = id.chars().take(40).collect();
        format!("an id of {} bytes, starting with {start:?}", id.len())
    } else if id.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
        format!("{id:?}")
    } else {
        return Ok(());
    };
    Err(Error::parameter(
        "ids",
        format!("1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL or line breaks"),
        format!("{fault} at position {position}"),
    ))
}

/// The hash that orders the id index: XXH3-64 of the UTF-8 bytes without its lowest bit, so that it fits an i64
/// and sorts the same signed and unsigned.
pub(super) fn id_hash(id: &[u8]) -> i64 {
    (hash(id) >> 1) as i64
}

/// A set of id hashes. They are hashes already, so one multiplication with a secret spreads them; the secret keeps
/// ids that somebody chose from falling into few slots.
pub(super) type HashesOfIds = HashSet<i64, Spread>;

/// Chosen anew for every set.
#[derive(Debug, Clone)]
pub(super) struct Spread(u64);

impl Default for Spread {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Spread {
    type Hasher = Spreading;

    fn build_hasher(&self) -> Spreading {
        Spreading(self.0)
    }
}

#[derive(Debug)]
pub(super) struct Spreading(u64);

impl Hasher for Spreading {
    fn write_i64(&mut self, hash: i64) {
        let product = u128::from(self.0 ^ hash as u64) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes of ids are put into the set");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The hashes of a batch with their positions, ascending.
pub(super) fn sorted_hashes<S: AsRef<str>>(ids: &[S]) -> Vec<(i64, u32)> {
    let mut hashes: Vec<(i64, u32)> = ids
        .iter()
        .enumerate()
        .map(|(position, id)| (id_hash(id.as_ref().as_bytes()), position as u32))
        .collect();
    hashes.sort_unstable();
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for good in ["a", "ć a/ü😀.jpg", &"x".repeat(MAX_ID_BYTES), "tab\there"] {
            check_id(good, 0).unwrap();
        }
        for bad in ["", "a\nb", "a\rb", "nul\0", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(matches!(check_id(bad, 7), Err(Error::Parameter { .. })), "{bad:?}");
        }
    }
}
