//! The reference: 64-bit population counts.

use super::{BLOCK, Distances};

pub fn below(query: &[u64], planes: &[u64], limit: u32, distances: &mut Distances) -> u64 {
    *distances = [0; BLOCK];
    for (word, plane) in query.iter().zip(planes.chunks_exact(BLOCK)) {
        for (distance, code) in distances.iter_mut().zip(plane) {
            *distance += (word ^ code).count_ones();
        }
    }
    distances.iter().enumerate().fold(0, |hits, (lane, &distance)| hits | u64::from(distance < limit) << lane)
}
