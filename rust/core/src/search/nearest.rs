//! The nearest codes of one query, by counting.
//!
//! A selection sees its rows in increasing order, so a code enters only if it is strictly nearer than the k-th
//! nearest so far: on equal distance the earlier row wins. A histogram of the distances in the buffer gives
//! the k-th distance at any time.

/// The first `k` of the entries by (distance, row); by counting, as there are few distances.
pub fn in_order(mut entries: Vec<(u32, usize)>, bits: usize, k: usize) -> Vec<(u32, usize)> {
    if entries.len() < bits {
        entries.sort_unstable();
        entries.truncate(k);
        return entries;
    }
    // The parts of the workers, each in order: a stable sort merges them.
    entries.sort_by_key(|entry| entry.1);
    let mut places = vec![0; bits + 2];
    for entry in &entries {
        places[entry.0 as usize + 1] += 1;
    }
    for distance in 0..=bits {
        places[distance + 1] += places[distance];
    }
    let mut ordered = vec![(0, 0); k.min(entries.len())];
    for entry in entries {
        let place = &mut places[entry.0 as usize];
        if let Some(slot) = ordered.get_mut(*place) {
            *slot = entry;
        }
        *place += 1;
    }
    ordered
}

/// The nearest codes of one query so far.
#[derive(Debug)]
pub struct Nearest {
    k: usize,
    /// (distance, row), in the order of the rows.
    pub(super) entries: Vec<(u32, usize)>,
    /// How many entries have each distance.
    histogram: Vec<usize>,
    /// Only codes nearer than this can enter: the k-th distance, once there are k.
    pub(super) limit: u32,
    /// Entries nearer than `limit`.
    nearer: usize,
}

impl Nearest {
    /// Room for the best `k` of codes of `bits` bits; only those nearer than `limit`, if there is one, are wanted.
    pub fn new(k: usize, bits: usize, limit: Option<u32>) -> Self {
        let limit = limit.unwrap_or(bits as u32 + 1);
        Self { k, entries: Vec::new(), histogram: vec![0; limit as usize + 1], limit, nearer: 0 }
    }

    /// Entries held at most, for `k`.
    pub const fn capacity(k: usize) -> usize {
        2 * k + 256
    }

    /// Adds a code with `distance < self.limit`.
    pub fn push(&mut self, distance: u32, row: usize) {
        self.entries.push((distance, row));
        self.histogram[distance as usize] += 1;
        self.nearer += 1;
        while self.nearer >= self.k {
            self.limit -= 1;
            self.nearer -= self.histogram[self.limit as usize];
        }
        if self.entries.len() >= Self::capacity(self.k) {
            self.compact();
        }
    }

    /// Drops what is beaten: farther codes, and later ones at the k-th distance.
    fn compact(&mut self) {
        let (limit, mut room) = (self.limit, self.k - self.nearer);
        self.entries.retain(|entry| {
            let tie = entry.0 == limit && room > 0;
            room -= usize::from(tie);
            entry.0 < limit || tie
        });
        self.histogram[limit as usize] = self.k - self.nearer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that repeats late and has many ties.
    fn distances(count: usize, bits: usize) -> impl Iterator<Item = u32> {
        let steps =
            std::iter::successors(Some(7_u64), |x| Some(x.wrapping_mul(6_364_136_223_846_793_005) + 9));
        steps.take(count).map(move |x| (x >> 40) as u32 % (bits as u32 + 1))
    }

    #[test]
    fn the_first_by_distance_and_row() {
        for (count, bits, k) in [(5, 8, 9), (900, 8, 40), (900, 64, 300), (3000, 16, 1), (3000, 1, 700)] {
            let all: Vec<(u32, usize)> =
                distances(count, bits).enumerate().map(|(row, d)| (d, row)).collect();
            let mut expected = all.clone();
            expected.sort_unstable();
            let (first, second) = all.split_at(count / 3);
            let parts = [second, first].map(|part| {
                let mut nearest = Nearest::new(k, bits, None);
                for &(distance, row) in part {
                    if distance < nearest.limit {
                        nearest.push(distance, row);
                    }
                }
                assert!(nearest.entries.len() < 2 * k + 256);
                nearest.entries
            });
            let found = in_order(parts.concat(), bits, k);
            assert_eq!(found, expected[..k.min(count)], "{count} {bits} {k}");
        }
    }
}
