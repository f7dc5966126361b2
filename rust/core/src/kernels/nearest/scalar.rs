//! The reference: one pair of codes after the other.

use std::mem::MaybeUninit;

use super::{FAR, NONE};

/// The Hamming distance of two codes of equal length.
pub fn hamming(a: &[u8], b: &[u8]) -> u16 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words =
        a.iter().zip(b).map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones() as u16);
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| (a ^ b).count_ones() as u16);
    words.sum::<u16>() + rest.sum::<u16>()
}

/// The distance of every query code to its nearest database code.
pub fn distances(query: &[u8], bytes: usize, database: &[u8], out: &mut [u16]) {
    for (q, out) in query.chunks_exact(bytes).zip(out) {
        *out = database.chunks_exact(bytes).map(|x| hamming(q, x)).min().unwrap_or(FAR);
    }
}

/// The distance and the index of every query code's nearest database code, the lowest among equals.
pub fn nearest(query: &[u8], bytes: usize, database: &[u8], distances: &mut [u16], indices: &mut [u32]) {
    for ((q, best), place) in query.chunks_exact(bytes).zip(distances).zip(indices) {
        (*best, *place) = (FAR, NONE);
        for (j, x) in database.chunks_exact(bytes).enumerate() {
            let found = hamming(q, x);
            if found < *best {
                (*best, *place) = (found, j as u32);
            }
        }
    }
}

/// See [`super::QueryBlock::within`]; returns how many there are, no more than places.
pub fn within(
    distances: &[u16],
    indices: &[u32],
    most: u16,
    [query, database, distance]: [&mut [MaybeUninit<i32>]; 3],
) -> usize {
    let near = distances.iter().zip(indices).enumerate().filter(|(_, (d, _))| **d <= most);
    let places = query.iter_mut().zip(database).zip(distance);
    near.zip(places)
        .map(|((i, (&d, &j)), ((query, database), distance))| {
            query.write(i as i32);
            database.write(j as i32);
            distance.write(i32::from(d));
        })
        .count()
}
