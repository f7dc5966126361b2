//! Every level against float64.

use proptest::prelude::*;

use super::*;

/// Multiples of 1/8 from -4 to 4: exact in bfloat16, sums exact in float32.
fn eighths(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) % 65) as f32 / 8.0 - 4.0
        })
        .collect()
}

proptest! {
    #[test]
    fn rounding_is_to_nearest(values in prop::collection::vec(-1e30_f32..1e30, 32), small in prop::collection::vec(-1e-3_f32..1.0, 32)) {
        for level in Level::available() {
            for values in [&values, &small] {
                let mut rounded = vec![0; 32];
                Kernels::of(level).round(values, &mut rounded);
                for (&value, &bits) in values.iter().zip(&rounded) {
                    let found = f32::from_bits(u32::from(bits) << 16);
                    prop_assert!((found - value).abs() <= value.abs() / 256.0, "{:?}: {} {}", level, value, found);
                    prop_assert_eq!(bits, half::bf16::from_f32(value).to_bits());
                }
            }
        }
    }

    #[test]
    fn halves_are_rounded_as_floats(bits in prop::collection::vec(any::<u16>(), 32), steps in 0_usize..4) {
        // Values below 2, subnormal ones too.
        let halves: Vec<half::f16> = bits.iter().map(|bits| half::f16::from_bits(bits & 0xbbff)).collect();
        let halves = halves.repeat(steps);
        let floats: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
        let exact: f64 = floats.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let mut expected = vec![0; floats.len()];
        Kernels::of(Level::Scalar).round(&floats, &mut expected);
        for level in Level::available() {
            let mut rounded = vec![1; halves.len()];
            let square = f64::from(Kernels::of(level).round_halves(&halves, &mut rounded));
            prop_assert_eq!(&rounded, &expected);
            prop_assert!((square - exact).abs() <= exact * 1e-4);
            if let Some(strange) = halves.len().checked_sub(3) {
                for value in [half::f16::NAN, half::f16::NEG_INFINITY] {
                    let mut halves = halves.clone();
                    halves[strange] = value;
                    prop_assert!(!Kernels::of(level).round_halves(&halves, &mut rounded).is_finite());
                }
            }
        }
    }

    #[test]
    fn products_and_limits_hold(steps in 0_usize..4, count in 0_usize..40, seed: u64) {
        let depth = steps * STEP;
        let stride = depth + 3;
        let (queries, data) = (eighths(depth * PANEL, seed), eighths(count * stride, seed ^ 0x4d));
        let bits = |value: f32| (value.to_bits() >> 16) as u16;
        let mut panel = vec![0; depth * PANEL];
        for j in 0..PANEL {
            for t in 0..depth {
                panel[t / 2 * 2 * PANEL + 2 * j + t % 2] = bits(queries[j * depth + t]);
            }
        }
        // No more values than the rows have.
        let values: Vec<u16> = data[..(count * stride).saturating_sub(3)].iter().map(|&x| bits(x)).collect();
        let norms: Vec<f32> = (0..count).map(|i| (i % 7) as f32).collect();
        let rows = Rows { values: &values, stride, norms: &norms };
        let limits = Limits {
            threshold: std::array::from_fn(|j| 4.0 * j as f32),
            centre: [0.0; PANEL],
            residual: [f32::NAN; PANEL],
            norm: std::array::from_fn(|j| (j % 5) as f32),
        };
        for level in Level::available() {
            let kernels = Kernels::of(level);
            let mut scores = vec![[f32::NAN; PANEL]; count];
            kernels.scores(rows, &panel, &mut scores);
            let mut expected = vec![[0; 2]; count];
            for i in 0..count {
                for j in 0..PANEL {
                    let score: f32 = (0..depth).map(|t| data[i * stride + t] * queries[j * depth + t]).sum();
                    prop_assert_eq!(scores[i][j].to_bits(), (score + 0.0).to_bits(), "{:?} {} {}", level, i, j);
                    let passes = score >= limits.threshold[j] - limits.norm[j] * norms[i];
                    for (hits, lanes) in expected[i].iter_mut().zip([PANEL, PANEL / 2]) {
                        *hits |= u32::from(j < lanes && passes) << j;
                    }
                }
            }
            for (which, narrow) in [false, true].into_iter().enumerate() {
                let mut hits = vec![Hit::default(); count];
                let found = kernels.panel(rows, &panel, narrow, &limits, &mut hits, &panel);
                let listed: Vec<(usize, u32)> =
                    hits[..found].iter().map(|hit| (hit.row as usize, hit.queries)).collect();
                let all: Vec<(usize, u32)> =
                    (0..count).map(|i| (i, expected[i][which])).filter(|hit| hit.1 != 0).collect();
                prop_assert_eq!(listed, all, "{:?} {}", level, narrow);
            }
        }
    }
}
