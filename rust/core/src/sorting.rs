//! Sorts that can be stopped.

use std::cmp::Ordering;

use crate::control::Control;
use crate::error::Result;

/// Values that are sorted in one piece: some tens of milliseconds.
const PIECE: usize = 1 << 20;

/// [`sort_by`] ascending.
pub fn sort<T: Ord + Copy + Send>(values: &mut [T], control: &Control) -> Result<()> {
    sort_by(values, T::cmp, control)
}

/// Sorts; equal values may change places. Long lists are halved about their median until they are short
/// enough to be sorted in one piece, on the threads of the current pool, if there is one.
///
/// Complexity: O(n log n), in place.
pub fn sort_by<T: Send>(
    values: &mut [T],
    order: impl Fn(&T, &T) -> Ordering + Copy + Send + Sync,
    control: &Control,
) -> Result<()> {
    control.check()?;
    if values.len() <= PIECE {
        values.sort_unstable_by(order);
        return Ok(());
    }
    let (low, _, high) = values.select_nth_unstable_by(values.len() / 2, order);
    if rayon::current_thread_index().is_some() {
        let (low, high) = rayon::join(|| sort_by(low, order, control), || sort_by(high, order, control));
        low.and(high)
    } else {
        sort_by(low, order, control).and_then(|()| sort_by(high, order, control))
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
