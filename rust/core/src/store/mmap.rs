//! Read-only memory maps, and looking at their bytes as numbers: all the unsafe code of the stores.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;

mod sealed {
    /// Types for which every bit pattern is a value and which have no padding.
    ///
    /// # Safety
    /// Implement it only for such types.
    pub unsafe trait Plain: Copy + Send + Sync + 'static {}
    // SAFETY: integers and IEEE floats have no padding and no invalid bit patterns; f16 wraps a u16.
    unsafe impl Plain for u8 {}
    // SAFETY: as above.
    unsafe impl Plain for i8 {}
    // SAFETY: as above.
    unsafe impl Plain for i32 {}
    // SAFETY: as above.
    unsafe impl Plain for i64 {}
    // SAFETY: as above.
    unsafe impl Plain for f32 {}
    // SAFETY: as above.
    unsafe impl Plain for half::f16 {}
}
pub(super) use sealed::Plain;

/// The map of a whole file.
#[derive(Debug)]
pub(super) struct Map {
    map: memmap2::Mmap,
    path: PathBuf,
}

impl Map {
    /// Maps a file that holds at least one byte.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only. Files under a listed shard name are never written again by this crate:
        // they are created under another name, renamed once complete, and only ever unlinked, which leaves the
        // map whole. A foreign process that changes a shard in place can change what readers see (no reference
        // handed out relies on the bytes for memory safety: every offset is checked where it is used) or, by
        // truncating it, raise SIGBUS; the module documentation forbids both.
        unsafe { memmap2::Mmap::map(&file) }.map(|map| Self { map, path: path.to_owned() })
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The file, under the name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file values lie; `None` if they lie elsewhere.
    pub fn place<T>(&self, values: &[T]) -> Option<Range<usize>> {
        let (whole, part) = (self.map.as_ptr_range(), values.as_ptr_range());
        let (first, last) = (part.start.cast::<u8>(), part.end.cast::<u8>());
        let start = whole.start as usize;
        (first >= whole.start && last <= whole.end).then(|| first as usize - start..last as usize - start)
    }

    /// Takes the pages that hold some of the values out of the process; they stay in the system's page cache as long
    /// as it has room, and are mapped again when they are read. Values that lie elsewhere are left alone.
    ///
    /// Mapped pages are costly to take back when memory runs out: each has to be looked up in the page tables.
    pub fn release<T>(&self, values: &[T]) {
        #[cfg(unix)]
        if let Some(place) = self.place(values).filter(|place| !place.is_empty()) {
            const PAGE: usize = 4096;
            let start = place.start / PAGE * PAGE;
            // SAFETY: the range lies within the map, which begins with a page, and ends with values or their last page.
            // The map is of a file and read-only, so its pages hold nothing that the file does not, and reading them
            // brings them back.
            unsafe {
                let first = self.map.as_ptr().add(start).cast_mut();
                libc::madvise(first.cast(), place.end - start, libc::MADV_DONTNEED)
            };
        }
        #[cfg(not(unix))]
        let _ = values;
    }

    /// The bytes of `range` as numbers; `None` if it is out of bounds, misaligned or not a whole number of them.
    pub fn view<T: Plain>(&self, range: Range<usize>) -> Option<&[T]> {
        let bytes = self.map.get(range)?;
        // SAFETY: T is Plain, so any bytes are valid values of it.
        let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
        (before.is_empty() && after.is_empty()).then_some(numbers)
    }
}

/// Numbers as their little-endian bytes.
pub(super) fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: T is Plain, so it has no padding; u8 has alignment 1; the length is that of the same memory.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The first value that is infinite or NaN, as its position.
pub(super) fn first_non_finite(values: &[f16]) -> Option<usize> {
    // Exponent bits all ones. Whole blocks are tested without branches, so that the compiler vectorises them.
    let bad = |value: &f16| value.to_bits() & 0x7C00 == 0x7C00;
    let block =
        values.chunks(4096).position(|block| block.iter().fold(false, |any, value| any | bad(value)))? * 4096;
    values[block..].iter().position(bad).map(|position| block + position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_check_bounds_and_alignment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [1_u8, 0, 0, 0, 2, 0, 0, 0, 9]).unwrap();
        let map = Map::open(&path).unwrap();
        assert_eq!(map.view::<i32>(0..8).unwrap(), [1, 2]);
        assert!(map.view::<i32>(1..5).is_none());
        assert!(map.view::<i32>(0..7).is_none());
        assert!(map.view::<u8>(0..10).is_none());
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = map.view::<u8>(3..2);
        assert!(reversed.is_none());
        assert_eq!(bytes_of(&[1_i32, 2]), &map.bytes()[..8]);
    }

    #[test]
    fn non_finite_values_are_found_wherever_they_are() {
        let mut values = vec![f16::MAX; 10_000];
        assert_eq!(first_non_finite(&values), None);
        for (position, bad) in [(9_999, f16::NEG_INFINITY), (4_096, f16::NAN), (0, f16::INFINITY)] {
            values[position] = bad;
            assert_eq!(first_non_finite(&values), Some(position));
        }
    }
}
