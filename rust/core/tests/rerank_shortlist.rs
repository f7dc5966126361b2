//! Re-ranking over a source in memory: the same as pair by pair, for any pool, and bad shortlists are refused.

use ilias_fast_core::kernels::nearest::{QueryBlock, Scratch};
use ilias_fast_core::rerank::descriptors::{Descriptors, Source};
use ilias_fast_core::rerank::options::{MatchOptions, SpatialOptions, SpatialScore, Truncation};
use ilias_fast_core::rerank::shortlist::{Shortlists, chamfer, spatial};
use ilias_fast_core::rerank::verification::Hypotheses;
use ilias_fast_core::rerank::verification::models::Family;
use ilias_fast_core::rerank::{chamfer as pair_chamfer, spatial as pair_spatial};
use ilias_fast_core::{Control, Error, Result, threads};

const BYTES: usize = 16;

struct Image {
    codes: Vec<u8>,
    xy: Vec<f32>,
}

struct Images(Vec<Image>);

impl Source for Images {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn descriptors(&self, row: usize) -> Result<Descriptors<'_>> {
        let Image { codes, xy } = &self.0[row];
        Ok(Descriptors { codes, bytes: BYTES, xy, scale: None, angle: None, size: [640, 480] })
    }
}

/// Images of 0 to 60 descriptors drawn from a small vocabulary, so that many match.
fn images(count: usize, seed: u64) -> Images {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut image = |len: usize| Image {
        codes: (0..len).flat_map(|_| [(next() % 40) as u8 * 3; BYTES]).collect(),
        xy: (0..2 * len).map(|_| (next() % 1000) as f32 / 1000.0).collect(),
    };
    Images((0..count).map(|row| image(row * 7 % 61)).collect())
}

const OPTIONS: SpatialOptions = SpatialOptions {
    matching: MatchOptions::within(4),
    threshold: 0.05,
    min_inliers: 5,
    score: SpatialScore::Significance,
    geometry: true,
    hypotheses: Hypotheses::Similarity,
    family: Family::Affine,
    truncation: Truncation { query: usize::MAX, database: usize::MAX },
};

#[test]
fn shortlists_equal_pairs_for_any_pool() {
    let (queries, database) = (images(9, 1), images(150, 2));
    let rows: Vec<i64> = (0..350).map(|i| i * 13 % 150).collect();
    let shortlists = Shortlists { queries: &[3, 8, 0], offsets: &[0, 150, 330, 350], rows: &rows };
    let mut expected = (Vec::new(), Vec::new());
    let (mut scratch, mut workspace) = (Scratch::default(), pair_spatial::Workspace::default());
    for (query, window) in shortlists.queries.iter().zip(shortlists.offsets.windows(2)) {
        let query = queries.descriptors(*query as usize).unwrap();
        let block = QueryBlock::new(query.codes, BYTES).unwrap();
        for &row in &rows[window[0] as usize..window[1] as usize] {
            let image = database.descriptors(row as usize).unwrap();
            expected
                .0
                .push(pair_chamfer::similarity(&block, image.codes, &mut scratch, &Control::new()).unwrap());
            expected.1.push(
                pair_spatial::verify_pair(&query, &block, &image, &OPTIONS, &mut workspace, &Control::new())
                    .unwrap(),
            );
        }
    }
    assert!(expected.1.iter().any(|result| result.verification.inliers > 3));
    for size in [1, 2, 7] {
        let control = Control::new();
        let pool = threads::pool(Some(size)).unwrap();
        let (scores, results) = pool.install(|| {
            (
                chamfer(&shortlists, &queries, &database, Truncation::default(), &control).unwrap(),
                spatial(&shortlists, &queries, &database, &OPTIONS, &control).unwrap(),
            )
        });
        assert_eq!((scores, results), expected);
        assert_eq!(control.done(), 2 * rows.len() as u64);
    }
}

#[test]
fn an_interrupted_run_stops() {
    let (queries, database) = (images(2, 1), images(50, 2));
    let control = Control::new();
    control.interrupt();
    let shortlists = Shortlists { queries: &[1], offsets: &[0, 3], rows: &[1, 2, 3] };
    let found = chamfer(&shortlists, &queries, &database, Truncation::default(), &control);
    assert!(matches!(found, Err(Error::Interrupted)));
}

#[test]
fn bad_shortlists_are_refused() {
    let (queries, database) = (images(2, 1), images(5, 2));
    let run = |queries_rows: &[i64], offsets: &[i64], rows: &[i64]| {
        let shortlists = Shortlists { queries: queries_rows, offsets, rows };
        chamfer(&shortlists, &queries, &database, Truncation::default(), &Control::new())
    };
    assert!(run(&[0, 1], &[0, 1, 2], &[4, 0]).is_ok());
    assert!(matches!(run(&[2], &[0, 1], &[0]), Err(Error::Parameter { .. })), "query row");
    assert!(matches!(run(&[0], &[0, 1], &[5]), Err(Error::Parameter { .. })), "database row");
    assert!(matches!(run(&[0], &[0, 1], &[-1]), Err(Error::Parameter { .. })), "negative row");
    assert!(matches!(run(&[0], &[0], &[]), Err(Error::Shape { .. })), "too few offsets");
    assert!(matches!(run(&[0], &[0, 2], &[0]), Err(Error::Shape { .. })), "last offset");
    assert!(matches!(run(&[0], &[1, 1], &[0]), Err(Error::Parameter { .. })), "first offset");
    assert!(matches!(run(&[0, 1], &[0, 2, 1], &[0, 1]), Err(Error::Parameter { .. })), "decreasing");
}
