//! Sorts that can be stopped.

use crate::control::Control;
use crate::error::Result;

/// Values that are sorted in one piece: some tens of milliseconds.
const PIECE: usize = 1 << 20;

/// Sorts ascending; equal values cannot be told apart. Long lists are halved about their median until they are short
/// enough to be sorted in one piece, on the threads of the current pool, if there is one.
///
/// Complexity: O(n log n), in place.
pub fn sort<T: Ord + Copy + Send>(values: &mut [T], control: &Control) -> Result<()> {
    control.check()?;
    if values.len() <= PIECE {
        values.sort_unstable();
        return Ok(());
    }
    let (low, _, high) = values.select_nth_unstable(values.len() / 2);
    if rayon::current_thread_index().is_some() {
        let (low, high) = rayon::join(|| sort(low, control), || sort(high, control));
        low.and(high)
    } else {
        sort(low, control).and_then(|()| sort(high, control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn long_lists_are_sorted_on_any_number_of_threads_and_can_be_stopped() {
        let values: Vec<u32> =
            (0..2 * PIECE as u32 + 77).map(|i| i.wrapping_mul(2_654_435_761) >> 9).collect();
        let mut expected = values.clone();
        expected.sort_unstable();
        let control = Control::new();
        let pool = crate::threads::pool(Some(2)).unwrap();
        let (mut alone, mut shared) = (values.clone(), values.clone());
        sort(&mut alone, &control).unwrap();
        pool.install(|| sort(&mut shared, &control)).unwrap();
        assert!(alone == expected && shared == expected);
        control.interrupt();
        assert!(matches!(sort(&mut alone, &control), Err(Error::Interrupted)));
    }
}
