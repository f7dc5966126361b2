//! Every level against plain integers, and against the scalar transform, bit for bit.

use proptest::prelude::*;

use super::*;

fn random(length: usize, seed: u64) -> impl Iterator<Item = i32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as i32
    })
}

proptest! {
    #[test]
    fn products_are_exact_and_limits_hold(
        steps in 0_usize..5, count in 0_usize..40, few in 1_usize..=FEW, extreme: bool, seed: u64,
    ) {
        let (depth, row_limit) = (steps * STEP, i32::from(ROW_LIMIT));
        let stride = depth + 5;
        for level in Level::available() {
            let kernels = Kernels::of(level).unwrap();
            let limit = i32::from(kernels.query_limit());
            let code = |x: i32, limit: i32| {
                if extreme { [-limit, limit][x as usize % 2] } else { x % (2 * limit + 1) - limit }
            };
            let queries: Vec<i32> = random(depth * PANEL, seed).map(|x| code(x, limit)).collect();
            let unsigned = |j: usize, t: usize| (queries[j * depth + t] + kernels.offset()) as u8;
            let mut panel = vec![0; depth * PANEL];
            for j in 0..PANEL {
                for t in 0..depth {
                    panel[t / 4 * 4 * PANEL + j * 4 + t % 4] = unsigned(j, t);
                }
            }
            let along: Vec<u8> = (0..few * depth).map(|at| unsigned(at / depth, at % depth)).collect();
            // No more codes than the rows have: reading beyond them would be reading beyond a mapped file.
            let length = (count * stride).saturating_sub(5);
            let codes: Vec<i8> = random(length, seed ^ 3).map(|x| code(x, row_limit) as i8).collect();
            let facts = (0..count).map(|i| {
                let sum: i32 = codes[i * stride..][..depth].iter().map(|&x| i32::from(x)).sum();
                let [scale, residual, norm, excess] = [0.25, 8.0, 64.0, -4.0].map(|unit| unit * (i % 12) as f32);
                [sum as f32, scale, residual, norm, excess]
            });
            let facts: Vec<Facts> = facts.collect();
            let rows = Rows { codes: &codes, stride, facts: &facts };
            let limits = Limits {
                threshold: std::array::from_fn(|j| 512.0 * j as f32),
                residual: std::array::from_fn(|j| (j % 3) as f32),
                norm: std::array::from_fn(|j| (j % 5) as f32),
                centre: std::array::from_fn(|j| 32.0 * (j % 7) as f32 - 64.0),
            };
            let mut hits: Vec<[u32; 3]> = Vec::new();
            let mut scores = vec![[f32::NAN; PANEL]; count];
            let mut room = vec![Hit::default(); count];
            let mut listed = |number: &dyn Fn(&mut [Hit]) -> usize| {
                let found = number(&mut room);
                room[..found].iter().map(|hit| (hit.row as usize, hit.queries)).collect::<Vec<_>>()
            };
            let found = [
                listed(&|hits| kernels.panel(rows, &panel, false, &limits, hits)),
                listed(&|hits| kernels.panel(rows, &panel, true, &limits, hits)),
                listed(&|hits| kernels.few(rows, &along, few, &limits, hits)),
            ];
            kernels.scores(rows, &panel, &limits.centre, &mut scores);
            for i in 0..count {
                hits.push([0; 3]);
                let [_, scale, residual, norm, excess] = facts[i];
                for j in 0..PANEL {
                    let product: i32 =
                        (0..depth).map(|t| i32::from(codes[i * stride + t]) * queries[j * depth + t]).sum();
                    let score = product as f32 * scale;
                    let more = limits.centre[j] * excess;
                    prop_assert_eq!(scores[i][j].to_bits(), (score + more).to_bits(), "{:?} {} {}", level, i, j);
                    let slack = limits.residual[j] * residual + limits.norm[j] * norm;
                    let bound = limits.threshold[j] - slack - more;
                    for (hits, lanes) in hits[i].iter_mut().zip([PANEL, PANEL / 2, few]) {
                        *hits |= u32::from(j < lanes && score >= bound) << j;
                    }
                }
            }
            for (which, found) in found.iter().enumerate() {
                let expected: Vec<(usize, u32)> =
                    (0..count).map(|i| (i, hits[i][which])).filter(|hit| hit.1 != 0).collect();
                prop_assert_eq!(found, &expected, "{:?} {}", level, which);
            }
            let (from, to) = (count / 3, count - count / 4);
            let part = listed(&|hits| kernels.panel(rows.slice(from..to), &panel, false, &limits, hits));
            let inside = found[0].iter().filter(|hit| (from..to).contains(&hit.0));
            prop_assert_eq!(part, inside.map(|hit| (hit.0 - from, hit.1)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rotation_and_codes_have_the_same_bits(blocks in 1_usize..4, power in 6_u32..12, size in -60_i32..80, seed: u64) {
        let block = 1 << power;
        let unit = 2.0_f32.powi(size);
        let values: Vec<f32> = random(blocks * block, seed).map(|x| (x - (1 << 23)) as f32 * unit).collect();
        let signs: Vec<f32> = random(blocks * block, seed ^ 1).map(|x| (x % 2 * 2 - 1) as f32).collect();
        let mut expected = values.clone();
        scalar::rotate(&mut expected, &signs, block);
        let before: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let after: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
        prop_assert!((after / (before * block as f64) - 1.0).abs() < 1e-5, "a rotation keeps norms");
        for level in Level::available() {
            let kernels = Kernels::of(level).unwrap();
            let mut found = values.clone();
            kernels.rotate(&mut found, &signs, block);
            prop_assert_eq!(&found, &expected, "{:?}", level);
            for limit in [63, ROW_LIMIT] {
                let (mut codes, mut reference) = (vec![1; found.len()], vec![2; found.len()]);
                let ours = kernels.quantise(&found, limit, &mut codes);
                let theirs = scalar::quantise(&found, f32::from(limit), &mut reference);
                prop_assert_eq!(&codes, &reference, "{:?}", level);
                prop_assert_eq!((ours.scale, ours.sum), (theirs.scale, theirs.sum), "{:?}", level);
                prop_assert!(codes.iter().all(|code| code.unsigned_abs() <= limit.unsigned_abs()));
                let square: f64 = found
                    .iter()
                    .zip(&codes)
                    .map(|(&x, &code)| (f64::from(x) - f64::from(ours.scale) * f64::from(code)).powi(2))
                    .sum();
                let tolerance = square * 1e-3 + 1e-36;
                prop_assert!(ours.square.is_infinite() && square > 1e38 || (f64::from(ours.square) - square).abs() <= tolerance);
            }
        }
    }
}

#[test]
fn what_is_left_of_a_row_is_perpendicular_to_the_centre() {
    for (steps, far, unit) in
        [(1, 1.0, 1.0), (3, 1e-4, 1.0), (8, 30.0, 1e-12), (8, 1e3, 1e9), (64, 1.0, 1e-8)]
    {
        let numbers =
            |seed| random(steps * STEP, seed).map(|x| (x - (1 << 23)) as f32 / (1 << 23) as f32 * unit);
        let centre: Vec<f32> = numbers(1).map(|x| x * far).collect();
        let row: Vec<f32> = numbers(2).zip(&centre).map(|(x, centre)| x + 1.25 * centre).collect();
        let square: f64 = centre.iter().map(|&x| f64::from(x).powi(2)).sum();
        for level in Level::available() {
            let mut left = row.clone();
            let found = Kernels::of(level).unwrap().subtract(&mut left, &centre, square);
            let whole = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let mut norm = 0.0;
            let mut product = 0.0;
            for ((&left, &centre), &row) in left.iter().zip(&centre).zip(&row) {
                let exact = f64::from(row) - (1.0 + f64::from(found.excess)) * f64::from(centre);
                assert!(
                    (f64::from(left) - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * whole,
                    "{level:?}"
                );
                norm += f64::from(left).powi(2);
                product += f64::from(left) * f64::from(centre);
            }
            let sums = (steps + 4) as f64 * f64::from(f32::EPSILON);
            assert!(
                product.abs() <= sums * square.sqrt() * (whole + square.sqrt()),
                "{level:?} {steps} {far}"
            );
            assert!((f64::from(found.square) - norm).abs() <= 1e-4 * norm + 1e-38, "{level:?} {steps} {far}");
        }
    }
}

#[test]
fn scales_have_17_bits_and_are_not_too_small() {
    for peak in [1.0_f32, 127.0, 1.999_999_9, 3e-12, 6.5e4, 1e25] {
        for limit in [63.0_f32, 127.0] {
            let scale = scale(peak, limit).unwrap();
            assert_eq!(scale.to_bits() & 0x7f, 0);
            assert!(f64::from(scale) * f64::from(limit) >= f64::from(peak) * (1.0 - 1e-7));
            assert!(f64::from(scale) * f64::from(limit) <= f64::from(peak) * 1.0001);
        }
    }
    assert_eq!(scale(0.0, 127.0), None);
    assert_eq!(scale(f32::INFINITY, 127.0), None);
}
