//! What the system is told about pages that will be read: hints, without any effect on what is read. Windows gets none.

#[cfg(unix)]
use std::ffi::c_void;

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
