//! The reference: 64-bit population counts.

use super::{BLOCK, Distances};

pub fn seek(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> (usize, u64) {
    let blocks = planes.chunks_exact(query.len() * BLOCK);
    let count = blocks.len();
    for (block, planes) in blocks.enumerate() {
        *distances = [0; BLOCK];
        for (word, plane) in query.iter().zip(planes.chunks_exact(BLOCK)) {
            for (distance, code) in distances.iter_mut().zip(plane) {
                *distance += (word ^ code).count_ones();
            }
        }
        let hits = (0..BLOCK).fold(0, |hits, lane| hits | u64::from(distances[lane] < limit) << lane);
        if hits != 0 {
            return (block, hits);
        }
    }
    (count, 0)
}

/// Word `w` of code `i` goes to `planes[w * 64 + i]`.
pub fn pack(codes: &[u8], words: usize, planes: &mut [u64]) {
    for (lane, code) in codes.chunks_exact(words * 8).enumerate() {
        for (w, word) in code.as_chunks::<8>().0.iter().enumerate() {
            planes[w * BLOCK + lane] = u64::from_le_bytes(*word);
        }
    }
}
