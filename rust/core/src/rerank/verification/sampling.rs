//! Which correspondences meet, in which order: a seeded shuffle, then distances along the circle it makes.

use crate::control::Control;
use crate::error::Result;

/// Steps of a shuffle between two looks at the control.
const PULSE: usize = 1 << 20;

/// A permutation of `0..count`, the same for the same count everywhere.
fn shuffle(count: usize, order: &mut Vec<u32>, control: &Control) -> Result<()> {
    order.clear();
    order.extend(0..count as u32);
    let mut random = SplitMix(0x1F83_D9AB_FB41_BD6B ^ count as u64);
    for i in (1..count).rev() {
        if i % PULSE == 0 {
            control.check()?;
        }
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    Ok(())
}

/// Orders and triples of as many correspondences as images mostly have are kept, up to this number.
const KEPT: usize = 256;

/// What depends on the number of correspondences alone, for the numbers seen so far.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Vec<Option<Sample>>,
    last: Sample,
}

/// The order of correspondences, and the triples once asked for.
#[derive(Debug, Default)]
pub struct Sample {
    /// See [`shuffle`].
    pub order: Vec<u32>,
    rounds: usize,
    triples: Vec<[u32; 2]>,
}

impl Samples {
    /// The sample of so many correspondences.
    pub fn of(&mut self, count: usize, control: &Control) -> Result<&mut Sample> {
        if count >= KEPT {
            if self.last.order.len() != count {
                self.last = Sample::new(count, control)?;
            }
            return Ok(&mut self.last);
        }
        if self.kept.len() <= count {
            self.kept.resize_with(count + 1, || None);
        }
        let kept = &mut self.kept[count];
        if kept.is_none() {
            *kept = Some(Sample::new(count, control)?);
        }
        Ok(kept.as_mut().expect("just made"))
    }
}

impl Sample {
    fn new(count: usize, control: &Control) -> Result<Self> {
        let mut order = Vec::new();
        shuffle(count, &mut order, control)?;
        Ok(Self { order, ..Self::default() })
    }

    /// See [`triples`]; `rounds`, above zero, is a function of the number of correspondences.
    pub fn triples(&mut self, rounds: usize) -> &[[u32; 2]] {
        if self.rounds != rounds {
            triples(self.order.len(), rounds, &mut self.triples);
            self.rounds = rounds;
        }
        &self.triples
    }
}

/// Distances `a < b` such that the triples `(i, i + a, i + b)` modulo `count`, for all `i`, are all triples of
/// correspondences, each once (or thrice, if the three lie evenly on the circle); at most `rounds` of them.
///
/// Of a triple's three gaps the first is the smallest; of two equal ones it is followed by the other.
fn triples(count: usize, rounds: usize, distances: &mut Vec<[u32; 2]>) {
    distances.clear();
    for first in 1..=count / 3 {
        // The last gap is at least the first, and longer if it would come before the first on the circle.
        for second in first..=count.saturating_sub(2 * first) {
            let last = count - first - second;
            if last > first || second == first {
                distances.push([first as u32, (first + second) as u32]);
                if distances.len() == rounds {
                    return;
                }
            }
        }
    }
}

/// splitmix64: small, seeded, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_triple_is_reached() {
        for count in 0..14_u32 {
            let mut distances = Vec::new();
            triples(count as usize, usize::MAX, &mut distances);
            let mut found: Vec<[u32; 3]> = (0..count)
                .flat_map(|i| distances.iter().map(move |[a, b]| [i, (i + a) % count, (i + b) % count]))
                .map(|mut triple| {
                    triple.sort_unstable();
                    triple
                })
                .collect();
            let tried = found.len();
            found.sort_unstable();
            found.dedup();
            let all =
                count as usize * (count as usize).saturating_sub(1) * (count as usize).saturating_sub(2) / 6;
            assert_eq!(found.len(), all, "{count}");
            assert!(tried <= all + 2 * count as usize / 3, "{count}: {tried} of {all}");
        }
        let mut distances = Vec::new();
        triples(1000, 7, &mut distances);
        assert_eq!(distances.len(), 7);
    }

    #[test]
    fn what_is_kept_equals_what_is_made() {
        let mut samples = Samples::default();
        for count in [20, 300, KEPT, 20, KEPT - 1, 1, 300, 301] {
            for rounds in [9, 4, 9] {
                let (mut order, mut distances) = (Vec::new(), Vec::new());
                shuffle(count, &mut order, &Control::new()).unwrap();
                triples(count, rounds, &mut distances);
                let sample = samples.of(count, &Control::new()).unwrap();
                assert_eq!(sample.order, order, "{count}");
                assert_eq!(sample.triples(rounds), distances, "{count}, {rounds}");
            }
        }
    }

    #[test]
    fn a_permutation_repeatable_and_not_the_identity() {
        for count in [0, 1, 2, 100] {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            shuffle(count, &mut first, &Control::new()).unwrap();
            shuffle(count, &mut second, &Control::new()).unwrap();
            assert_eq!(first, second);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..count as u32));
            assert!(count < 100 || sorted != first);
        }
    }
}
