//! Which pairs and triples of correspondences become hypotheses.

/// All samples `i < j` (`< k`) if they fit the budget, else that many drawn with a seed of their own.
pub fn choose<const N: usize>(count: usize, budget: usize, samples: &mut Vec<[u32; N]>) {
    samples.clear();
    let all = (0..N).fold(1, |product: usize, i| product.saturating_mul(count.saturating_sub(i)) / (i + 1));
    if all <= budget {
        let mut sample: [u32; N] = std::array::from_fn(|i| i as u32);
        for _ in 0..all {
            samples.push(sample);
            // The next combination in lexicographic order.
            let room = |i: usize| (count - N + i) as u32;
            if let Some(i) = (0..N).rev().find(|&i| sample[i] < room(i)) {
                sample[i] += 1;
                for j in i + 1..N {
                    sample[j] = sample[j - 1] + 1;
                }
            }
        }
        return;
    }
    let mut random = SplitMix(0x1F83_D9AB_FB41_BD6B ^ count as u64);
    while samples.len() < budget {
        let sample: [u32; N] = std::array::from_fn(|_| random.below(count as u64));
        if (1..N).all(|i| !sample[..i].contains(&sample[i])) {
            samples.push(sample);
        }
    }
}

/// splitmix64: small, seeded, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_samples_within_the_budget_each_once() {
        for (count, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 4), (9, 84)] {
            let mut triples = Vec::new();
            choose::<3>(count, 84, &mut triples);
            assert_eq!(triples.len(), expected, "{count}");
            assert!(triples.windows(2).all(|pair| pair[0] < pair[1]), "in order, no repeats");
            assert!(triples.iter().all(|[i, j, k]| i < j && j < k && (*k as usize) < count));
        }
    }

    #[test]
    fn beyond_the_budget_a_repeatable_sample_without_repeated_members() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        choose::<2>(300, 500, &mut first);
        choose::<2>(300, 500, &mut second);
        assert_eq!(first, second);
        assert_eq!(first.len(), 500);
        assert!(first.iter().all(|[i, j]| i != j && i.max(j) < &300));
    }
}
