//! The nearest database code of every query code, by Hamming distance.
//!
//! For query codes `q_i` and database codes `x_j` of `b` bytes each:
//!
//! ```text
//! distance(i) = min over j of popcount(q_i xor x_j)
//! index(i)    = the smallest j that attains it
//! ```
//!
//! The two uses are Chamfer similarity (distances only) and tentative correspondences (distance and index); both
//! are one pass over the pairs. The index rides in the low bits of the value whose minimum is taken.
//!
//! All levels work on integers and agree bit for bit. Codes have 1 to 64 bytes, so a distance is at most 512 and
//! fits `u16`; [`FAR`] stands for "no database code".
//!
//! | level | layout of the queries | a database code is |
//! |---|---|---|
//! | scalar | as given | compared byte by byte |
//! | avx2 | nibble planes: byte lane = one of 32 queries | one table look-up a nibble for 32 queries |
//! | avx512 | word planes: 64-bit lane = one of 8 queries | broadcast word by word, VPOPCNTQ |

mod avx2;
mod avx512;
mod avx512_columns;
mod parts;
mod scalar;

use std::mem::MaybeUninit;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::level::{self, Level};

/// The distance of a query code when there is no database code.
pub const FAR: u16 = u16::MAX;

/// The index of a query code's nearest database code when there is no database code.
pub const NONE: u32 = u32::MAX;

/// The longest code, in bytes.
pub const MOST_BYTES: usize = 64;

/// Query codes, laid out once for the CPU level in use and then searched for in any number of images.
#[derive(Debug)]
pub struct QueryBlock {
    bytes: usize,
    len: usize,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    Scalar(Vec<u8>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Box<avx2::Planes>),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Lanes),
}

impl Layout {
    /// Lays out codes for a level that this machine can run.
    fn new(codes: &[u8], bytes: usize, level: Level) -> Self {
        assert!(level.is_available(), "{level:?} on this machine");
        match level {
            Level::Scalar => Self::Scalar(codes.to_vec()),
            // SAFETY: the level is available.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self::Avx2(Box::new(unsafe { avx2::Planes::new(codes, bytes) })),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self::Avx512(avx512::Lanes::new(codes, bytes)),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("not available on this architecture"),
        }
    }
}

/// The result of the last search, and buffers that are kept between searches.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Padded to whole groups of queries; the first `len` are the result.
    distances: Vec<u16>,
    indices: Vec<u32>,
    padded: Vec<u8>,
    len: usize,
}

impl Scratch {
    /// The distance of every query code to its nearest database code, [`FAR`] if there is none.
    pub fn distances(&self) -> &[u16] {
        &self.distances[..self.len]
    }

    /// The index of every query code's nearest database code, [`NONE`] if there is none.
    ///
    /// Only meaningful after [`QueryBlock::nearest`].
    pub fn indices(&self) -> &[u32] {
        &self.indices[..self.len]
    }
}

impl QueryBlock {
    /// Lays out `codes`, `bytes` bytes each, for the active CPU level.
    pub fn new(codes: &[u8], bytes: usize) -> Result<Self> {
        let len = check("query codes", codes, bytes)?;
        Ok(Self { bytes, len, layout: Layout::new(codes, bytes, level::active()?) })
    }

    /// Number of query codes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no query codes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes a code.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Finds the distance of every query code to its nearest code of `database`; on the threads of the current pool, if
    /// there is one and much to do.
    pub fn distances(&self, database: &[u8], scratch: &mut Scratch, control: &Control) -> Result<()> {
        check("database codes", database, self.bytes)?;
        scratch.len = self.len;
        let Scratch { distances, padded, .. } = scratch;
        distances.resize(self.padded_len(), FAR);
        if database.is_empty() {
            distances.fill(FAR);
            return Ok(());
        }
        let (database, width) = self.pad(database, padded);
        parts::distances(self, database, width, distances, control)
    }

    /// Finds the nearest code of `database` for every query code, the lowest index among equals; on the threads of the
    /// current pool, if there is one and much to do.
    pub fn nearest(&self, database: &[u8], scratch: &mut Scratch, control: &Control) -> Result<()> {
        check("database codes", database, self.bytes)?;
        scratch.len = self.len;
        let Scratch { distances, indices, padded, .. } = scratch;
        distances.resize(self.padded_len(), FAR);
        indices.resize(self.padded_len(), NONE);
        if database.is_empty() {
            distances.fill(FAR);
            indices.fill(NONE);
            return Ok(());
        }
        let (database, width) = self.pad(database, padded);
        parts::nearest(self, database, width, distances, indices, control)
    }

    /// The number of queries in whole groups of the level.
    fn padded_len(&self) -> usize {
        match &self.layout {
            Layout::Scalar(_) => self.len,
            #[cfg(target_arch = "x86_64")]
            Layout::Avx2(_) => self.len.next_multiple_of(avx2::LANES),
            #[cfg(target_arch = "x86_64")]
            Layout::Avx512(_) => self.len.next_multiple_of(avx512::GROUP),
        }
    }

    /// Database codes as the level reads them, and the bytes of each.
    fn pad<'a>(&self, database: &'a [u8], buffer: &'a mut Vec<u8>) -> (&'a [u8], usize) {
        match &self.layout {
            Layout::Scalar(_) => (database, self.bytes),
            #[cfg(target_arch = "x86_64")]
            Layout::Avx2(_) => (database, self.bytes),
            #[cfg(target_arch = "x86_64")]
            Layout::Avx512(lanes) => (lanes.pad(database, buffer), lanes.width()),
        }
    }

    /// The distances of the query codes from `first`, as many as there are places: whole groups of the level.
    fn part_distances(&self, first: usize, database: &[u8], out: &mut [u16]) {
        match &self.layout {
            Layout::Scalar(codes) => {
                scalar::distances(&codes[first * self.bytes..], self.bytes, database, out);
            }
            // SAFETY: the layout was made at this level, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            Layout::Avx2(planes) => unsafe { planes.distances(first, database, out) },
            // SAFETY: the layout was made at this level, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            Layout::Avx512(lanes) => unsafe { lanes.distances(first, database, out) },
        }
    }

    /// [`Self::part_distances`] and the index of each.
    fn part_nearest(&self, first: usize, database: &[u8], distances: &mut [u16], indices: &mut [u32]) {
        match &self.layout {
            Layout::Scalar(codes) => {
                scalar::nearest(&codes[first * self.bytes..], self.bytes, database, distances, indices);
            }
            // SAFETY: the layout was made at this level, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            Layout::Avx2(planes) => unsafe { planes.nearest(first, database, distances, indices) },
            // SAFETY: the layout was made at this level, so this machine can run it.
            #[cfg(target_arch = "x86_64")]
            Layout::Avx512(lanes) => unsafe { lanes.nearest(first, database, distances, indices) },
        }
    }
}

impl QueryBlock {
    /// How many of the query codes have a database code within `most` bits, after [`Self::nearest`].
    pub fn count(&self, scratch: &Scratch, most: u16) -> usize {
        let most = most.min(FAR - 1);
        // In 16 bits, which vectorises, as many at a time as cannot overflow.
        let near = |part: &[u16]| part.iter().map(|&distance| u16::from(distance <= most)).sum::<u16>();
        scratch.distances().chunks(usize::from(u16::MAX)).map(|part| usize::from(near(part))).sum()
    }

    /// Writes into `[query, database, distance]` what the last search by [`Self::nearest`] of this block found within
    /// `most` bits, in the order of the queries; the columns have as many places as [`Self::count`] says, and all are
    /// written.
    ///
    /// # Panics
    /// If `scratch` is not that of a search of as many queries, or a column has another length.
    pub fn within(&self, scratch: &Scratch, most: u16, columns: [&mut [MaybeUninit<i32>]; 3]) {
        assert_eq!(scratch.len, self.len, "the search of these queries");
        let places = columns[0].len();
        assert!(columns.iter().all(|column| column.len() == places), "columns of one length");
        // The farthest is "nothing found".
        let most = most.min(FAR - 1);
        let written = match &self.layout {
            #[cfg(target_arch = "x86_64")]
            // Without a database code there are no whole groups.
            Layout::Avx512(_) if scratch.distances.len() >= self.len.next_multiple_of(16) => {
                // SAFETY: the layout was made at this level, so this machine can run it.
                unsafe {
                    avx512_columns::within(self.len, &scratch.distances, &scratch.indices, most, columns)
                }
            }
            _ => scalar::within(scratch.distances(), scratch.indices(), most, columns),
        };
        assert_eq!(written, places, "as many places as there are");
    }

    /// [`Self::within`], appended.
    pub fn append(&self, scratch: &Scratch, most: u16, columns: [&mut Vec<i32>; 3]) {
        let count = self.count(scratch, most);
        let [query, database, distance] = columns;
        for column in [&mut *query, &mut *database, &mut *distance] {
            column.reserve(count);
        }
        let places = [
            &mut query.spare_capacity_mut()[..count],
            &mut database.spare_capacity_mut()[..count],
            &mut distance.spare_capacity_mut()[..count],
        ];
        self.within(scratch, most, places);
        for column in [query, database, distance] {
            // SAFETY: that many places were reserved and have been written.
            unsafe { column.set_len(column.len() + count) };
        }
    }
}

/// The number of codes in `codes`, or an error if they are not whole codes of a length that is supported.
fn check(what: &str, codes: &[u8], bytes: usize) -> Result<usize> {
    if !(1..=MOST_BYTES).contains(&bytes) {
        return Err(Error::shape(
            what,
            format!("codes of 1 to {MOST_BYTES} bytes"),
            format!("{bytes} bytes"),
        ));
    }
    if !codes.len().is_multiple_of(bytes) {
        return Err(Error::shape(
            what,
            format!("a multiple of {bytes} bytes"),
            format!("{} bytes", codes.len()),
        ));
    }
    Ok(codes.len() / bytes)
}

/// Asks the caches for places that will be written soon, after a search: fetching them takes as long as a third of one.
pub fn prefetch(places: &mut [MaybeUninit<i32>]) {
    #[cfg(target_arch = "x86_64")]
    for line in places.chunks_mut(64 / size_of::<i32>()) {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a hint, of an address that is one of ours; machines that do not know it do nothing.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = places;
}

/// The Hamming distance of two codes of equal length.
pub fn hamming(a: &[u8], b: &[u8]) -> u16 {
    scalar::hamming(a, b)
}

#[cfg(test)]
mod tests;
