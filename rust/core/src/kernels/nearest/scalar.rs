//! The reference: one pair of codes after the other.

use super::FAR;

/// The Hamming distance of two codes of equal length.
pub fn hamming(a: &[u8], b: &[u8]) -> u16 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let words =
        a.iter().zip(b).map(|(a, b)| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)).count_ones() as u16);
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| (a ^ b).count_ones() as u16);
    words.sum::<u16>() + rest.sum::<u16>()
}

/// The distance of every query code to its nearest database code.
pub fn distances(query: &[u8], bytes: usize, database: &[u8], out: &mut Vec<u16>) {
    out.clear();
    out.extend(
        query
            .chunks_exact(bytes)
            .map(|q| database.chunks_exact(bytes).map(|x| hamming(q, x)).min().unwrap_or(FAR)),
    );
}

/// The first database code at the distance found, for query codes within `limit`.
pub fn indices(query: &[u8], bytes: usize, database: &[u8], limit: u16, distances: &[u16], out: &mut [u32]) {
    for ((q, &distance), index) in query.chunks_exact(bytes).zip(distances).zip(out) {
        if distance <= limit {
            let first = database.chunks_exact(bytes).position(|x| hamming(q, x) == distance);
            *index = first.map_or(super::NONE, |j| j as u32);
        }
    }
}
