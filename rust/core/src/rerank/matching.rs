//! Tentative correspondences: every query descriptor's nearest database descriptor, if it is near enough.

use super::options::MatchOptions;
use crate::error::Result;
use crate::kernels::nearest::{QueryBlock, Scratch, hamming};

/// One tentative correspondence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Query descriptor.
    pub query: u32,
    /// Its nearest database descriptor, the lowest index among equals.
    pub database: u32,
    /// Their Hamming distance, in bits.
    pub distance: u16,
}

/// Finds the correspondences of `query` (its codes as given, and laid out) in `database`, in query order.
pub fn find(
    query: &[u8],
    block: &QueryBlock,
    database: &[u8],
    options: &MatchOptions,
    scratch: &mut Scratch,
    out: &mut Vec<Match>,
) -> Result<()> {
    out.clear();
    block.nearest(database, scratch)?;
    let nearest = scratch.distances().iter().zip(scratch.indices()).enumerate();
    out.extend(
        nearest
            .filter(|(_, (distance, _))| **distance <= options.max_distance)
            .filter(|_| !database.is_empty())
            .map(|(i, (&distance, &index))| Match { query: i as u32, database: index, distance }),
    );
    let bytes = block.bytes();
    if options.mutual {
        // Before the ratio: what it takes away would still be nearer.
        let all = out.len();
        for i in 0..all {
            if is_nearest_query(query, database, bytes, out[i], &out[..all]) {
                out.push(out[i]);
            }
        }
        out.drain(..all);
    }
    if options.ratio < 1.0 {
        out.retain(|found| {
            let second = second_distance(code(query, bytes, found.query), database, bytes, found.database);
            second.is_none_or(|second| f64::from(found.distance) <= options.ratio * f64::from(second))
        });
    }
    Ok(())
}

fn code(codes: &[u8], bytes: usize, index: u32) -> &[u8] {
    &codes[index as usize * bytes..][..bytes]
}

/// The distance of the nearest descriptor other than `nearest`; None if there is no other.
fn second_distance(query: &[u8], database: &[u8], bytes: usize, nearest: u32) -> Option<u16> {
    let others = database.chunks_exact(bytes).enumerate().filter(|(j, _)| *j != nearest as usize);
    others.map(|(_, x)| hamming(query, x)).min()
}

/// Whether no query descriptor is nearer to the database descriptor (the lowest index wins a tie here too).
///
/// A query descriptor at distance `d` of some database descriptor has its own nearest within `d`. So only the
/// correspondences in `all` can hold a nearer one, and of them only those of no larger distance.
fn is_nearest_query(query: &[u8], database: &[u8], bytes: usize, found: Match, all: &[Match]) -> bool {
    let target = code(database, bytes, found.database);
    all.iter().filter(|other| other.distance <= found.distance && other.query != found.query).all(|other| {
        let distance = hamming(code(query, bytes, other.query), target);
        distance > found.distance || (distance == found.distance && other.query > found.query)
    })
}
