//! Rules for ids, and the hash by which they are found.

use crate::error::{Error, Result};

use super::checksum::hash;

/// Longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 4096;

/// Checks that `id` can be stored: 1 to [`MAX_ID_BYTES`] bytes, no NUL and no line break (id lists are text files).
pub fn check_id(id: &str) -> Result<()> {
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
        fault,
    ))
}

/// The hash that orders the id index: XXH3-64 of the UTF-8 bytes without its lowest bit, so that it fits an i64
/// and sorts the same signed and unsigned.
pub(super) fn id_hash(id: &[u8]) -> i64 {
    (hash(id) >> 1) as i64
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
            check_id(good).unwrap();
        }
        for bad in ["", "a\nb", "a\rb", "nul\0", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(matches!(check_id(bad), Err(Error::Parameter { .. })), "{bad:?}");
        }
    }
}
