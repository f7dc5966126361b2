//! Properties of the kernels of re-ranking, at every CPU level, on any number and length of descriptors.

#![expect(clippy::float_cmp, reason = "scores are exact before their one rounding")]

use half::f16;
use ilias_fast_core::Control;
use ilias_fast_core::kernels::maxsim::{FloatQueries, FloatScratch, Precision};
use ilias_fast_core::kernels::nearest::{QueryBlock, Scratch};
use ilias_fast_core::level::{self, Level};
use ilias_fast_core::rerank::chamfer::{self, Direction, FloatQuery, FloatWorkspace};
use ilias_fast_core::rerank::matching::{self, Match};
use ilias_fast_core::rerank::options::MatchOptions;
use ilias_fast_core::rerank::verification::models::Family;
use ilias_fast_core::rerank::verification::models::homography::Homography;
use ilias_fast_core::rerank::verification::{Geometry, Hypotheses, Options, Workspace, verify};
use proptest::prelude::*;
use std::sync::Mutex;

/// The pin belongs to the process, and tests run beside each other.
static PIN: Mutex<()> = Mutex::new(());

fn at_every_level(check: impl Fn(Level) -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
    let _guard = PIN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outcome = Level::available().into_iter().try_for_each(|level| {
        level::pin(Some(level)).unwrap();
        check(level)
    });
    level::pin(None).unwrap();
    outcome
}

fn configuration(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The lengths of descriptors in use and odd ones, in bytes; none and one descriptor are as likely as many.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(8), Just(16), Just(32), Just(64), 1_usize..=64]
}

fn counts(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), 0..most]
}

/// Codes of few bits set: small distances and ties are common.
fn codes(count: usize, bytes: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![4 => Just(0_u8), 1 => prop_oneof![Just(1_u8), Just(128), Just(255)], 1 => any::<u8>()];
    prop::collection::vec(byte, count * bytes)
}

fn image_pair() -> impl Strategy<Value = (usize, Vec<u8>, Vec<u8>)> {
    (lengths(), counts(70), counts(40))
        .prop_flat_map(|(bytes, m, n)| (Just(bytes), codes(m, bytes), codes(n, bytes)))
}

fn distance(a: &[u8], b: &[u8]) -> u16 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones() as u16).sum()
}

/// The distances of every pair, a row for each descriptor of `from`.
fn table(from: &[u8], to: &[u8], bytes: usize) -> Vec<Vec<u16>> {
    from.chunks(bytes).map(|a| to.chunks(bytes).map(|b| distance(a, b)).collect()).collect()
}

/// The lowest index of the smallest value.
fn lowest(row: &[u16]) -> Option<usize> {
    (0..row.len()).min_by_key(|&j| (row[j], j))
}

fn expected_matches(query: &[u8], database: &[u8], bytes: usize, options: &MatchOptions) -> Vec<Match> {
    let (rows, columns) = (table(query, database, bytes), table(database, query, bytes));
    let mut found = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let Some(j) = lowest(row) else { continue };
        let second = (0..row.len()).filter(|&other| other != j).map(|other| row[other]).min();
        let distinct = options.ratio >= 1.0
            || second.is_none_or(|second| f64::from(row[j]) <= options.ratio * f64::from(second));
        let mutual = !options.mutual || lowest(&columns[j]) == Some(i);
        if row[j] <= options.max_distance && distinct && mutual {
            found.push(Match { query: i as u32, database: j as u32, distance: row[j] });
        }
    }
    found
}

fn expected_chamfer(from: &[u8], to: &[u8], bytes: usize) -> f64 {
    let bits = 8 * bytes as i64;
    if to.is_empty() {
        return 0.0;
    }
    let sum: i64 =
        table(from, to, bytes).iter().map(|row| bits - 2 * i64::from(*row.iter().min().unwrap())).sum();
    sum as f64 / bits as f64
}

/// Values whose products and sums are exact in float32, so that no order of additions matters.
fn floats(count: usize, dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-8_i8..=8).prop_map(|value| f32::from(value) / 8.0), count * dimension)
}

fn expected_maxima(from: &[f32], to: &[f32], dimension: usize) -> Vec<f32> {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    from.chunks(dimension)
        .map(|a| to.chunks(dimension).map(|b| product(a, b)).fold(f32::NEG_INFINITY, f32::max))
        .collect()
}

/// Correspondences, some explained by one map, some at one point, on one line, or anywhere.
fn correspondences() -> impl Strategy<Value = Vec<[f32; 4]>> {
    let one = (0_u8..4, -400.0_f32..400.0, -400.0_f32..400.0, -400.0_f32..400.0, -400.0_f32..400.0);
    let count = prop_oneof![0_usize..2, 0_usize..40, 40_usize..150];
    count.prop_flat_map(move |count| prop::collection::vec(one.clone(), count)).prop_map(|rows| {
        let place = |(kind, x, y, u, v): (u8, f32, f32, f32, f32)| match kind {
            0 => [x, y, 0.6 * x - 0.3 * y + 20.0, 0.3 * x + 0.6 * y - 10.0],
            1 => [x, 2.0 * x + 5.0, u, u],
            2 => [7.0, 7.0, -3.0, 4.0],
            _ => [x, y, u, v],
        };
        rows.into_iter().map(place).collect()
    })
}

proptest! {
    #![proptest_config(configuration(120))]

    #[test]
    fn matching_equals_the_table_of_all_distances(
        (bytes, query, database) in image_pair(),
        max_distance in 0_u16..=520,
        ratio in prop_oneof![Just(1.0), Just(0.9), Just(0.5)],
        mutual in any::<bool>(),
    ) {
        let options = MatchOptions { max_distance, ratio, mutual };
        let expected = expected_matches(&query, &database, bytes, &options);
        at_every_level(|level| {
            let block = QueryBlock::new(&query, bytes).unwrap();
            let (mut workspace, mut found) = (matching::Workspace::default(), Vec::new());
            // Twice: buffers are kept between images.
            for _ in 0..2 {
                matching::find(&query, &block, &database, &options, &mut workspace, &mut found, &Control::new()).unwrap();
                prop_assert_eq!(&found, &expected, "{:?}", level);
            }
            Ok(())
        })?;
    }

    #[test]
    fn chamfer_equals_the_table_of_all_distances((bytes, query, database) in image_pair()) {
        let forward = expected_chamfer(&query, &database, bytes);
        let backward = expected_chamfer(&database, &query, bytes);
        let counts = [query.len() / bytes, database.len() / bytes].map(|count| count.max(1) as f64);
        at_every_level(|level| {
            let block = QueryBlock::new(&query, bytes).unwrap();
            let mut scratch = Scratch::default();
            let mut score = |direction| {
                chamfer::directed(&query, &block, &database, direction, &mut scratch, &Control::new()).unwrap()
            };
            prop_assert_eq!(score(Direction::Query), forward as f32, "{:?}", level);
            prop_assert_eq!(score(Direction::Database), backward as f32, "{:?}", level);
            let both = 0.5 * (forward / counts[0] + backward / counts[1]);
            prop_assert!((f64::from(score(Direction::Symmetric)) - both).abs() < 1e-6, "{:?}", level);
            Ok(())
        })?;
    }

    #[test]
    fn maxsim_equals_all_inner_products(
        (dimension, query, database) in (1_usize..=70, counts(40), counts(25))
            .prop_flat_map(|(dimension, m, n)| (Just(dimension), floats(m, dimension), floats(n, dimension))),
    ) {
        let expected = expected_maxima(&query, &database, dimension);
        let halves: Vec<f16> = database.iter().map(|&value| f16::from_f32(value)).collect();
        let sum = |maxima: Vec<f32>| maxima.iter().map(|&value| f64::from(value)).sum::<f64>();
        let total = if database.is_empty() { 0.0 } else { sum(expected.clone()) };
        at_every_level(|level| {
            // Eighths up to 1 are exact in bfloat16 as well.
            for precision in [Precision::Float32, Precision::Bfloat16] {
                let queries = FloatQueries::new(&query, dimension, precision).unwrap();
                let mut scratch = FloatScratch::default();
                queries.maxima(&database, &mut scratch, &Control::new()).unwrap();
                prop_assert_eq!(scratch.maxima(), &expected, "{:?} {:?}", level, precision);
                let laid_out = FloatQuery::new(&query, dimension, precision).unwrap();
                let mut workspace = FloatWorkspace::default();
                let score = chamfer::float(&laid_out, &halves, 0, Direction::Query, &mut workspace, &Control::new())
                    .unwrap();
                prop_assert_eq!(score, total as f32, "{:?} {:?}", level, precision);
            }
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(configuration(40))]

    #[test]
    fn verification_says_what_its_model_does_at_every_level(
        points in correspondences(),
        threshold in 0.5_f64..20.0,
        family in prop_oneof![
            Just(Family::Translation), Just(Family::Similarity), Just(Family::Affine), Just(Family::Homography)
        ],
        translation in any::<bool>(),
        keypoints in any::<bool>(),
    ) {
        let hypotheses = if translation { Hypotheses::Translation } else { Hypotheses::Similarity };
        let options = Options { family, hypotheses, ..Options::within(threshold) };
        let ratios: Vec<[f64; 2]> = points.iter().map(|_| [0.67, 0.46]).collect();
        let geometry = keypoints.then_some(Geometry { ratios: &ratios });
        let first = std::cell::RefCell::new(None);
        at_every_level(|level| {
            let mut workspace = Workspace::default();
            let found = verify(&points, geometry, &options, &mut workspace, &Control::new()).unwrap();
            prop_assert_eq!(found.model.is_some(), !points.is_empty());
            let mask = workspace.mask.clone();
            prop_assert_eq!(mask.iter().filter(|&&inside| inside).count(), found.inliers);
            prop_assert_eq!(mask.len(), points.len());
            if let Some(affine) = &found.model {
                prop_assert!(found.inliers >= 1);
                let map = found.homography.unwrap_or_else(|| Homography::from_affine(affine));
                for (&inside, point) in mask.iter().zip(&points) {
                    let residual = map.squared_residual(point.map(f64::from)).sqrt();
                    // Homographies divide, so a residual at the very threshold may round to either side.
                    let sure = (residual - threshold).abs() > 1e-9 * threshold;
                    prop_assert!(!sure || inside == (residual <= threshold), "{:?}: {}", level, residual);
                }
            }
            prop_assert!(family == Family::Homography || found.homography.is_none());
            let outcome = (found, mask);
            let expected = first.borrow_mut().get_or_insert_with(|| outcome.clone()).clone();
            prop_assert_eq!(outcome, expected, "{:?}", level);
            Ok(())
        })?;
    }
}
