//! Every level against the scalar one, and that one against definitions.

use super::*;

const AS_GIVEN: Scaling = Scaling { centre: [0.0; 4], inverse: 1.0 };

/// The points of these correspondences, in their order.
fn as_given(correspondences: impl Iterator<Item = [f32; 4]>) -> Points {
    let correspondences: Vec<_> = correspondences.collect();
    let order: Vec<u32> = (0..correspondences.len() as u32).collect();
    let mut points = Points::default();
    Consensus::new().unwrap().fill(&mut points, &correspondences, &order, &AS_GIVEN);
    points
}

fn points(count: usize) -> Points {
    let mut points = as_given((0..count).map(|j| {
        let j = j as f32;
        [(j * 7.3) % 41.0, (j * 3.1) % 29.0, (j * 7.4 + 1.0) % 43.0, (j * 2.9 - 2.0) % 31.0]
    }));
    points.fill_keypoints((0..count).map(|j| [1.0 + j as f32 / 40.0, 0.3 - j as f32 / 50.0]));
    points
}

/// The first step looks at a sample.
fn steps(squared_radii: &[f32]) -> Vec<Scoring> {
    let most = |step: usize| if step == 0 { 50 } else { usize::MAX };
    squared_radii
        .iter()
        .enumerate()
        .map(|(step, &squared_radius)| Scoring { most: most(step), squared_radius })
        .collect()
}

fn maps(some: &[[f32; 6]]) -> Maps {
    let mut maps = [[f32::NAN; LANES]; 6];
    for (l, map) in some.iter().enumerate() {
        for (lanes, &value) in maps.iter_mut().zip(map) {
            lanes[l] = value;
        }
    }
    maps
}

#[test]
fn levels_agree_bit_for_bit() {
    let maps = maps(&[
        [1.0, 0.0, 1.0, 0.0, 1.0, -2.0],
        [1.1, 0.2, -3.0, -0.1, 0.9, 4.0],
        [f32::NAN; 6],
        [f32::INFINITY, 0.0, 0.0, 0.0, 1.0, 0.0],
    ]);
    let bits = |lanes: &[Lanes]| lanes.iter().map(|lanes| lanes.map(f32::to_bits)).collect::<Vec<_>>();
    let same = |a: &[Lanes], b: &[Lanes]| {
        // All that is not a number is alike.
        let clean = |lanes: &[Lanes]| {
            bits(&lanes.iter().map(|l| l.map(|v| if v.is_nan() { f32::NAN } else { v })).collect::<Vec<_>>())
        };
        clean(a) == clean(b)
    };
    for count in [1, 2, 15, 16, 17, 100, 301] {
        let points = points(count);
        let reference = Consensus { level: Level::Scalar };
        for level in Level::available() {
            let other = Consensus { level };
            for radius in [1.0, 9.0, 400.0] {
                let (a, b) = (reference.supports(&points, &maps), other.supports(&points, &maps));
                assert!(same(&[a], &[b]), "{level:?}");
                for (similarity, affine) in [(true, true), (true, false), (false, false)] {
                    let fit = Fit { similarity, affine, area: 100.0, spread: 4.25 };
                    let (mut a, mut b) = (maps, maps);
                    reference.refine(&points, 250, &mut a, radius, &fit);
                    other.refine(&points, 250, &mut b, radius, &fit);
                    assert!(same(&a, &b), "{level:?}");
                }
                assert_eq!(reference.near(&points, 3.0, 4.0, radius), other.near(&points, 3.0, 4.0, radius));
            }
            assert_eq!(reference.extent(&points).map(f32::to_bits), other.extent(&points).map(f32::to_bits));
            let one = [1.1, 0.2, -3.0, -0.1, 0.9, 4.0];
            let polished = |consensus: Consensus| {
                let (mut map, fit) = (one, Fit { similarity: true, affine: true, area: 100.0, spread: 4.25 });
                let support = consensus.polish(&points, &mut map, &steps(&[400.0, 9.0]), &fit);
                (support.to_bits(), map.map(f32::to_bits))
            };
            assert_eq!(polished(reference), polished(other), "{level:?}");
            let samples =
                [[1 % count as u32, count as u32 / 2], [0, 0], [count as u32 / 3, count as u32 - 1]];
            for source in [
                Source::Keypoints,
                Source::Pairs { area: 100.0 },
                Source::Triples { samples: &samples, area: 100.0, spread: 5.0 },
            ] {
                for (most, bar) in [(99, 0.0), (usize::MAX, 2.5)] {
                    let (a, b) = (
                        offered(reference, &points, &source, most, bar),
                        offered(other, &points, &source, most, bar),
                    );
                    assert_eq!(a, b, "{level:?}, {source:?}");
                }
            }
        }
    }
}

#[test]
fn points_are_scaled_rows_in_order_and_repeat() {
    let scaling = Scaling { centre: [1.0, -2.0, 3.0, 1e-3], inverse: 0.37 };
    for count in [0, 1, 2, 15, 16, 17, 40] {
        let rows: Vec<[f32; 4]> = (0..count)
            .map(|j| [j as f32 * 1.7, 3.0 - j as f32, if j == 1 { f32::MAX } else { 0.25 }, (j * j) as f32])
            .collect();
        let order: Vec<u32> = (0..count as u32).rev().collect();
        for level in Level::available() {
            let consensus = Consensus { level };
            let mut points = points(23);
            consensus.fill(&mut points, &rows, &order, &scaling);
            assert_eq!((points.len(), points.p.len()), (count, 0));
            let columns = [&points.x, &points.y, &points.u, &points.v];
            for (i, column) in columns.into_iter().enumerate() {
                assert!(count == 0 || column.len() >= 2 * count + 2 * LANES);
                for (j, value) in column.iter().enumerate() {
                    let row = rows[order[j % count] as usize];
                    let scaled = ((f64::from(row[i]) - scaling.centre[i]) * scaling.inverse) as f32;
                    let expected = scaled.min(FARTHEST);
                    assert_eq!(value.to_bits(), expected.to_bits(), "{level:?} {count} {j}");
                }
            }
            let extent = consensus.extent(&points);
            for (extent, column) in extent.into_iter().zip([&points.u, &points.v]) {
                let of = |pick: fn(f32, f32) -> f32| column.iter().copied().reduce(pick).unwrap_or(0.0);
                assert!((extent - (of(f32::max) - of(f32::min))).abs() <= 0.0, "{level:?} {count}");
            }
        }
    }
}

/// Everything offered, as bits, with a bar that rises to what was offered but for the first ten.
fn offered(
    consensus: Consensus,
    points: &Points,
    source: &Source<'_>,
    most: usize,
    mut bar: f32,
) -> Vec<(u32, [u32; 6])> {
    let mut found = Vec::new();
    let rounds = points.len().min(3);
    let batches = if matches!(source, Source::Keypoints) { 1 } else { rounds } * points.batches();
    let scoring = Scoring { most, squared_radius: 30.0 };
    consensus.scan(points, source, 0..batches, &scoring, bar, &mut |gain, maps, lane| {
        assert!(gain > bar);
        found.push((gain.to_bits(), maps.map(|row| row[lane].to_bits())));
        if found.len() > 10 {
            bar = gain;
        }
        bar
    });
    found
}

#[test]
fn scan_offers_every_believed_map_that_something_agrees_with() {
    let samples = [[3, 11], [5, 6], [1, 2]];
    for count in [13, 16, 37] {
        let points = points(count);
        let consensus = Consensus::new().unwrap();
        for (source, rounds) in [
            (Source::Keypoints, 1),
            (Source::Pairs { area: 100.0 }, 3),
            (Source::Triples { samples: &samples, area: 100.0, spread: 9.0 }, 3),
        ] {
            let mut expected = Vec::new();
            for batch in 0..rounds * points.batches() {
                let (round, start) = (batch / points.batches(), batch % points.batches() * LANES);
                let maps = match source {
                    Source::Keypoints => scalar::keypoints(&points, start),
                    Source::Pairs { area } => scalar::pairs(&points, start, round + 1, area),
                    Source::Triples { samples, area, spread } => {
                        let offsets = samples[round].map(|offset| offset as usize);
                        scalar::triples(&points, start, offsets, area, spread)
                    }
                };
                let gains = scalar::gains(&points, usize::MAX, &maps, 30.0);
                for l in (0..LANES.min(count - start)).filter(|&l| gains[l] > 0.0) {
                    expected.push((gains[l].to_bits(), maps.map(|row| row[l].to_bits())));
                }
            }
            let mut found = Vec::new();
            let scoring = Scoring { most: usize::MAX, squared_radius: 30.0 };
            // In two calls, split anywhere.
            for batches in [0..rounds, rounds..rounds * points.batches()] {
                consensus.scan(&points, &source, batches, &scoring, 0.0, &mut |gain, maps, lane| {
                    found.push((gain.to_bits(), maps.map(|row| row[lane].to_bits())));
                    0.0
                });
            }
            assert!(expected.len() > 2 * rounds, "{source:?}");
            assert_eq!(found, expected, "{source:?}");
        }
    }
}

#[test]
fn gain_equals_the_definition() {
    let points = points(37);
    let map = [1.0, 0.02, 0.5, -0.03, 1.0, -1.0];
    let mut expected = 0.0_f64;
    for j in 0..points.len() {
        let [x, y, u, v] = points.get(j).map(f64::from);
        let (p, q) = (x + 0.02 * y + 0.5 - u, -0.03 * x + y - 1.0 - v);
        let weight = (1.0 - (p * p + q * q) / 25.0).max(0.0);
        expected += weight;
    }
    let consensus = Consensus::new().unwrap();
    let maps = maps(&[map]);
    let gains = scalar::gains(&points, 37, &maps, 25.0);
    assert!((f64::from(gains[0]) - expected).abs() < 1e-3);
    assert!(gains[1..].iter().all(|gain| *gain <= 0.0), "what is not a number agrees with nothing");
    let supports = consensus.supports(&points, &maps);
    assert!(
        (supports[0].floor() - points.first(37).filter(|&point| near(map, point)).count() as f32).abs() < 0.5
    );
}

fn near(map: [f32; 6], [x, y, u, v]: [f32; 4]) -> bool {
    let (p, q) = (map[0] * x + map[1] * y + map[2] - u, map[3] * x + map[4] * y + map[5] - v);
    p * p + q * q < 1.0
}

#[test]
fn refinement_recovers_the_map_of_exact_correspondences() {
    let truth = [0.8, 0.3, 2.0, -0.2, 1.1, -1.0];
    let points = as_given((0..40).map(|j| {
        let (x, y) = ((j * 7 % 41) as f32 - 20.0, (j * 11 % 29) as f32 - 14.0);
        let spoilt = if j % 4 == 0 { 1e3 } else { 0.0 };
        let u = truth[0] * x + truth[1] * y + truth[2] + spoilt;
        [x, y, u, truth[3] * x + truth[4] * y + truth[5]]
    }));
    let consensus = Consensus::new().unwrap();
    let fit = Fit { similarity: true, affine: true, area: 100.0, spread: 4.25 };
    let mut maps = maps(&[[0.82, 0.3, 2.1, -0.2, 1.05, -1.1]]);
    consensus.refine(&points, 40, &mut maps, 9.0, &fit);
    for (value, expected) in maps.iter().zip(truth) {
        assert!((value[0] - expected).abs() < 1e-4, "{value:?}");
        assert!(value[1].is_nan(), "what nothing agrees with stays");
    }
    let mut one = [0.82, 0.3, 2.1, -0.2, 1.05, -1.1];
    let support = consensus.polish(&points, &mut one, &steps(&[9.0, 1.0]), &fit);
    assert!(one.iter().zip(truth).all(|(value, expected)| (value - expected).abs() < 1e-4), "{one:?}");
    assert!((support - 30.0 * (1.0 + GAIN_SHARE)).abs() < 1e-3, "{support}");
    let mut lost = [f32::NAN; 6];
    assert!(consensus.polish(&points, &mut lost, &steps(&[9.0]), &fit) <= 0.0 && lost[0].is_nan());
}

#[test]
fn maps_pass_through_their_correspondences() {
    let points = points(21);
    for (maps, offset) in [(scalar::pairs(&points, 9, 4, 1e6), 4), (scalar::keypoints(&points, 9), 0)] {
        let lanes = maps[0].iter().enumerate();
        for (l, _) in lanes {
            for j in [(9 + l) % 21, (9 + l + offset) % 21] {
                let [x, y, u, v] = points.get(j);
                let image = [0, 3].map(|row| maps[row][l] * x + maps[row + 1][l] * y + maps[row + 2][l]);
                assert!((image[0] - u).abs() < 1e-3 && (image[1] - v).abs() < 1e-3, "{l} {j}");
            }
        }
    }
    let maps = scalar::triples(&points, 9, [4, 11], 1e6, 1e6);
    let believed: Vec<_> = (0..LANES).filter(|&l| maps[0][l].is_finite()).collect();
    assert!(believed.len() > 3);
    for l in believed {
        for j in [(9 + l) % 21, (13 + l) % 21, (20 + l) % 21] {
            let [x, y, u, v] = points.get(j);
            let image = [0, 3].map(|row| maps[row][l] * x + maps[row + 1][l] * y + maps[row + 2][l]);
            assert!((image[0] - u).abs() < 1e-2 && (image[1] - v).abs() < 1e-2, "{l} {j}");
        }
    }
}
