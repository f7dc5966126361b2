//! What the system is told about pages that will be read: hints, without any effect on what is read. Windows gets none.

#[cfg(unix)]
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::mmap::Map;

/// The map of a store's file that values lie in.
#[derive(Debug, Clone, Copy)]
pub struct Backing<'a>(pub(super) &'a Map);

impl Backing<'_> {
    /// Says that values were read and will not be soon: their pages leave the process, not the page cache.
    pub fn release<T>(&self, values: &[T]) {
        self.0.release(values);
    }

    /// Whether both are the same map.
    pub(super) fn is(self, other: Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where in the file values lie, if they do.
    pub(super) fn place<T>(&self, values: &[T]) -> Option<Range<usize>> {
        self.0.place(values)
    }
}

/// The pages that hold a slice: first address and length.
#[cfg(unix)]
fn pages<T>(values: &[T]) -> (*mut c_void, usize) {
    const PAGE: usize = 4096;
    let address = values.as_ptr() as usize;
    let start = address / PAGE * PAGE;
    (start as *mut c_void, address + size_of_val(values) - start)
}

/// Starts to read the pages of a slice from its file; returns at once.
pub fn will_need<T>(values: &[T]) {
    #[cfg(unix)]
    if !values.is_empty() {
        let (start, length) = pages(values);
        // SAFETY: the range lies in memory the slice borrows, but for the beginning of its first page; the advice
        // changes no contents, and a failure is of no consequence.
        unsafe { libc::madvise(start, length, libc::MADV_WILLNEED) };
    }
    let _ = values;
}

/// Starts to write a part of a file to its disk, so that a later sync has less to wait for; returns at once.
pub fn write_back(file: &File, start: u64, length: u64) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open as long as `file` is borrowed; a failure is of no consequence.
        unsafe {
            libc::sync_file_range(
                file.as_raw_fd(),
                start.cast_signed(),
                length.cast_signed(),
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, start, length);
}

/// Sends bytes of a file to another, without a copy where the system can; how many it has sent.
pub(super) fn send(file: &File, at: u64, bytes: usize, to: &File) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let mut offset = at.cast_signed();
        // SAFETY: both descriptors are open as long as the files are borrowed, and the offset is ours.
        let sent = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), &raw mut offset, bytes) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, at, bytes, to);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Says whether the pages of a slice are read here and there, so that reading around a page is a waste, or in order.
pub fn at_random<T>(values: &[T], random: bool) {
    #[cfg(unix)]
    if !values.is_empty() {
        let (start, length) = pages(values);
        let advice = if random { libc::MADV_RANDOM } else { libc::MADV_NORMAL };
        // SAFETY: as above.
        unsafe { libc::madvise(start, length, advice) };
    }
    let _ = (values, random);
}

/// Whether the page that holds the first element is in memory; true if the system does not say.
pub fn is_resident<T>(values: &[T]) -> bool {
    #[cfg(target_os = "linux")]
    if !values.is_empty() {
        let mut state = 1_u8;
        // SAFETY: the page is mapped, as the slice borrows part of it, and its state is one byte.
        unsafe { libc::mincore(pages(values).0, 1, &raw mut state) };
        return state & 1 == 1;
    }
    let _ = values;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_change_nothing() {
        let values: Vec<u32> = (0..50_000).collect();
        for part in [&values[..], &values[3..4], &values[..0], &values[49_000..]] {
            will_need(part);
            at_random(part, true);
            at_random(part, false);
        }
        assert!(is_resident(&values[25_000..]) && is_resident::<u8>(&[]));
        assert!(values.iter().enumerate().all(|(i, &value)| i as u32 == value));
    }
}
