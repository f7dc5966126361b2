//! Exact top-k over shards, threads and levels against exact sums and a full sort.

use half::f16;
use ilias_fast_core::search::exact::fsum;
use ilias_fast_core::search::{Database, Matrix, Planes, Screen, TopK, topk, topk_with};
use ilias_fast_core::{Control, Error, Level, level, threads};
use proptest::prelude::*;

const SCREENS: [Screen; 3] = [Screen::Float32, Screen::Bfloat16, Screen::Int8];

fn expected(
    queries: &[f32],
    rows: &[f16],
    d: usize,
    k: usize,
    selected: Option<&[bool]>,
) -> (Vec<f32>, Vec<i64>) {
    let (mut scores, mut indices) = (Vec::new(), Vec::new());
    for query in queries.chunks_exact(d) {
        let mut all: Vec<(f32, usize)> = rows
            .chunks_exact(d)
            .enumerate()
            .filter(|(row, _)| selected.is_none_or(|selected| selected[*row]))
            .map(|(row, x)| {
                let terms = query.iter().zip(x).map(|(q, x)| f64::from(*q) * x.to_f64());
                (fsum(terms) as f32 + 0.0, row)
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        scores.extend(all.iter().map(|entry| entry.0));
        indices.extend(all.iter().map(|entry| entry.1 as i64));
    }
    (scores, indices)
}

fn search(
    queries: &[f32],
    rows: &[f16],
    d: usize,
    k: usize,
    cuts: &[usize],
    selected: Option<&[bool]>,
    screen: Screen,
) -> Result<TopK, Error> {
    let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut % (rows.len() / d + 1)).collect();
    bounds.extend([0, rows.len() / d]);
    bounds.sort_unstable();
    let shards = bounds
        .windows(2)
        .map(|cut| Matrix::new("shard", cut[1] - cut[0], d, &rows[cut[0] * d..cut[1] * d]).unwrap())
        .collect();
    let database = Database::new(d, shards, selected).unwrap();
    let queries = Matrix::new("queries", queries.len() / d, d, queries).unwrap();
    topk_with(queries, &database, k, screen, &Control::new())
}

/// Finite float16 values over the whole range, with many ties.
fn half() -> impl Strategy<Value = f16> {
    prop_oneof![
        any::<u16>().prop_map(f16::from_bits).prop_filter("finite", |x| x.is_finite()),
        (-2_i8..3).prop_map(|x| f16::from_f32(f32::from(x))),
    ]
}

fn single() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite()),
        (-2_i8..3).prop_map(f32::from),
    ]
}

proptest! {
    // Levels are pinned for the process, so all of them are tried inside one test.
    #[test]
    fn equals_exact_sums(
        d in 1_usize..24,
        k in 1_usize..40,
        queries in prop::collection::vec(single(), 0..24 * 11),
        rows in prop::collection::vec(half(), 0..24 * 60),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
        mask in prop::option::of(any::<u64>()),
    ) {
        let (queries, rows) = (&queries[..queries.len() / d * d], &rows[..rows.len() / d * d]);
        let selected: Option<Vec<bool>> =
            mask.map(|mask| (0..rows.len() / d).map(|row| mask >> (row % 64) & 1 == 1).collect());
        let (scores, indices) = expected(queries, rows, d, k, selected.as_deref());
        for level in Level::available() {
            level::pin(Some(level)).unwrap();
            for (count, screen) in
                [1, 3].into_iter().flat_map(|count| SCREENS.map(|screen| (count, screen)))
            {
                let pool = threads::pool(Some(count)).unwrap();
                let found =
                    pool.install(|| search(queries, rows, d, k, &cuts, selected.as_deref(), screen)).unwrap();
                prop_assert_eq!(&found.indices, &indices, "{:?}, {} threads, {:?}", level, count, screen);
                let bits = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found.scores), bits(&scores), "{:?}, {:?}", level, screen);
            }
        }
        level::pin(None).unwrap();
    }
}

/// Rows that differ from the k-th best by less than int8 can tell.
#[test]
fn rows_closer_than_a_code() {
    for d in [16, 64, 200] {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let queries: Vec<f32> = (0..40 * d).map(|_| random()).collect();
        let rows: Vec<f16> = (0..2000)
            .flat_map(|row| (0..d).map(move |t| (row, t)))
            .map(|(row, t)| f16::from_f32(queries[row % 40 * d + t] + 0.004 * random()))
            .collect();
        let (scores, indices) = expected(&queries, &rows, d, 20, None);
        for level in Level::available() {
            level::pin(Some(level)).unwrap();
            for screen in SCREENS {
                let found = search(&queries, &rows, d, 20, &[], None, screen).unwrap();
                assert_eq!((&found.scores, &found.indices), (&scores, &indices), "{level:?} {screen:?}");
            }
        }
    }
    level::pin(None).unwrap();
}

/// A better row that bfloat16 rounds down behind many that it rounds up: it would be lost by half the bound.
#[test]
fn rounding_errors_that_add_up() {
    let (d, n) = (1024, 6144);
    let value = |x: f32| f16::from_f32(1.0 + x / 1024.0);
    let mut rows = vec![f16::ZERO; n * d];
    for (row, values) in rows.chunks_exact_mut(d).enumerate() {
        // 1 + 5/1024 becomes 1 + 8/1024, 1 + 3/1024 becomes 1.
        (values[0], values[1]) =
            if row == n - 1 { (value(3.0), value(3.0)) } else { (value(5.0), value(0.0)) };
    }
    let mut query = vec![0.0; d];
    query[..2].fill(1.0);
    let pool = threads::pool(Some(1)).unwrap();
    for screen in SCREENS {
        let found = pool.install(|| search(&query, &rows, d, 1, &[], None, screen)).unwrap();
        assert_eq!(found.indices, [n as i64 - 1], "{screen:?}");
    }
}

/// Longer rows than the screen is certified for: everything is settled canonically.
#[test]
fn rows_beyond_the_certified_length() {
    let d = (1 << 17) + 3;
    let rows: Vec<f16> = (0..6 * d).map(|i| f16::from_f32(((i * 7919) % 31) as f32 - 15.0)).collect();
    for count in [1, 10] {
        let queries: Vec<f32> = (0..count * d).map(|i| ((i * 104_729) % 17) as f32 - 8.0).collect();
        for screen in SCREENS {
            let found = search(&queries, &rows, d, 4, &[2], None, screen).unwrap();
            assert_eq!((found.scores, found.indices), expected(&queries, &rows, d, 4, None));
        }
    }
}

#[test]
fn interruption_is_an_error() {
    let (queries, rows) = (vec![1.0; 8], vec![f16::ONE; 80]);
    let control = Control::new();
    control.interrupt();
    let database = Database::new(8, vec![Matrix::new("rows", 10, 8, &rows).unwrap()], None).unwrap();
    let outcome = topk(Matrix::new("queries", 1, 8, &queries).unwrap(), &database, 1, &control);
    assert!(matches!(outcome, Err(Error::Interrupted)));
}

#[test]
fn planes_that_a_disk_has_damaged_lose_no_query_and_end_no_process() {
    let (d, rows, k) = (64, 500, 7);
    let vectors: Vec<f16> = (0..rows * d).map(|i| f16::from_f32((i * i % 97) as f32 - 48.0)).collect();
    let matrix = Matrix::new("rows", rows, d, &vectors).unwrap();
    let codes: Vec<i8> = (0..rows * d).map(|i| (i % 255) as u8 as i8).collect();
    let sums: Vec<i32> = codes.chunks(d).map(|row| row.iter().map(|&code| i32::from(code)).sum()).collect();
    let values: Vec<f32> = (0..40 * d).map(|i| (i * 7 % 31) as f32 - 15.0).collect();
    let centre = vec![0.0; d];
    for queries in [1, 8, 9, 32, 40] {
        let wanted = Matrix::new("queries", queries, d, &values[..queries * d]).unwrap();
        let expected = expected(&values[..queries * d], &vectors, d, k, None);
        for (scale, rest) in [(f32::INFINITY, 0.0), (f32::NAN, 0.0), (1.0, f32::NAN), (1e38, f32::INFINITY)] {
            for level in Level::available() {
                level::pin(Some(level)).unwrap();
                let facts: Vec<[f32; 5]> =
                    sums.iter().map(|&sum| [sum as f32, scale, rest, rest, rest]).collect();
                let planes = Planes::new(d, &codes, &facts, &centre).unwrap();
                let mut database = Database::new(d, vec![matrix], None).unwrap();
                database.attach(0, planes).unwrap();
                let found = topk_with(wanted, &database, k, Screen::Int8, &Control::new()).unwrap();
                assert_eq!(found.scores.len(), queries * k, "{queries}, {scale}, {rest}");
                if rest.is_nan() {
                    assert_eq!((found.scores, found.indices), expected, "{queries}: no row is known");
                }
            }
        }
    }
    level::pin(None).unwrap();
}
