//! Every level against exact arithmetic: f64 is exact on these small integers and halves.

use proptest::prelude::*;

use super::*;

fn halves(length: usize, seed: u64) -> Vec<f16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f16::from_f32(((state >> 40) as i32 % 17 - 8) as f32 * 0.25)
        })
        .collect()
}

/// Sums of these values are exact in float32, so every order gives the same bits.
fn exact(row: &[f16], query: &[f32]) -> f32 {
    row.iter().zip(query).map(|(x, q)| x.to_f64() * f64::from(*q)).sum::<f64>() as f32
}

fn widened(row: &[f16]) -> Vec<f32> {
    row.iter().map(|x| x.to_f32()).collect()
}

#[test]
fn conversion_is_exact_for_all_65536_values() {
    for bits in 0..=u16::MAX {
        let value = f16::from_bits(bits);
        let (ours, theirs) = (to_f32(value), value.to_f32());
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
    }
}

proptest! {
    #[test]
    fn widen_converts_and_measures(length in 0_usize..100, seed: u64) {
        let row = halves(length, seed);
        for level in Level::available() {
            let mut out = vec![7.0; length + 3];
            let square = Kernels::of(level).unwrap().widen(&row, &mut out);
            prop_assert_eq!(&out[..length], &widened(&row)[..], "{:?}", level);
            prop_assert_eq!(&out[length..], &[7.0; 3], "{:?} wrote past the row", level);
            prop_assert_eq!(square, exact(&row, &widened(&row)), "{:?}", level);
        }
    }

    #[test]
    fn tile_scores_and_limits(depth in 0_usize..70, narrow: bool, seed: u64) {
        let stride = depth + 3;
        let rows: Vec<f32> = widened(&halves(stride * TILE, seed));
        let panel: Vec<f32> = widened(&halves(depth * PANEL, seed ^ 5));
        let norms = std::array::from_fn(|i| i as f32);
        let limits = Limits {
            threshold: std::array::from_fn(|j| j as f32 - 16.0),
            slope: std::array::from_fn(|j| (j % 5) as f32),
        };
        let width = if narrow { PANEL / 2 } else { PANEL };
        for level in Level::available() {
            let mut out = Tile::default();
            Kernels::of(level).unwrap().tile(&rows, stride, &panel, &norms, &limits, narrow, &mut out);
            for i in 0..TILE {
                for j in 0..PANEL {
                    let score: f64 = (0..depth)
                        .map(|t| f64::from(rows[i * stride + t]) * f64::from(panel[t * PANEL + j]))
                        .sum();
                    let passes = j < width && score as f32 >= limits.threshold[j] - limits.slope[j] * norms[i];
                    prop_assert!(j >= width || out.scores[i][j] == score as f32, "{level:?} {i} {j}");
                    prop_assert_eq!(out.hits[i] >> j & 1 == 1, passes, "{:?} {} {}", level, i, j);
                }
            }
        }
    }

    #[test]
    fn few_scores_and_norms(depth in 1_usize..150, count in 1_usize..=FEW, rows in 0_usize..5, seed: u64) {
        let stride = depth.next_multiple_of(16);
        let data = halves(depth * rows, seed);
        let mut queries = vec![0.0; FEW * stride];
        for j in 0..count {
            queries[j * stride..][..depth].copy_from_slice(&widened(&halves(depth, seed ^ j as u64)));
        }
        for level in Level::available() {
            let (mut scores, mut norms) = (vec![[0.0; FEW]; rows], vec![0.0; rows]);
            Kernels::of(level).unwrap().few(&data, depth, &queries, stride, count, &mut scores, &mut norms);
            for (i, row) in data.chunks_exact(depth).enumerate() {
                prop_assert_eq!(norms[i], exact(row, &widened(row)), "{:?}", level);
                for j in 0..count {
                    prop_assert_eq!(scores[i][j], exact(row, &queries[j * stride..][..depth]), "{:?}", level);
                }
            }
        }
    }

    #[test]
    fn dot_sums_terms_and_squares(length in 0_usize..100, seed: u64) {
        let row = halves(length, seed);
        let query: Vec<f64> = halves(length, seed ^ 9).iter().map(|x| x.to_f64()).collect();
        let terms: Vec<f64> = row.iter().zip(&query).map(|(x, q)| x.to_f64() * q).collect();
        for level in Level::available() {
            let (sum, square) = Kernels::of(level).unwrap().dot(&row, &query);
            prop_assert_eq!(sum, terms.iter().sum::<f64>(), "{:?}", level);
            prop_assert_eq!(square, exact(&row, &widened(&row)), "{:?}", level);
        }
    }
}

#[test]
fn norms_show_every_non_finite_value_and_nothing_else() {
    for level in Level::available() {
        let kernels = Kernels::of(level).unwrap();
        for length in [1, 7, 8, 15, 16, 17, 33, 64, 65] {
            let mut out = vec![0.0; length];
            assert!(kernels.widen(&vec![f16::MAX; length], &mut out).is_finite(), "{level:?}");
            for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
                for place in 0..length {
                    let mut row = vec![f16::ONE; length];
                    row[place] = bad;
                    assert!(
                        !kernels.widen(&row, &mut out).is_finite(),
                        "{level:?} {bad} at {place} of {length}"
                    );
                    let queries = vec![0.0; FEW * length.next_multiple_of(16)];
                    let (mut scores, mut norms) = ([[0.0; FEW]], [0.0]);
                    kernels.few(&row, length, &queries, queries.len() / FEW, 3, &mut scores, &mut norms);
                    assert!(!norms[0].is_finite(), "{level:?} {bad} at {place} of {length}");
                }
            }
        }
    }
}
