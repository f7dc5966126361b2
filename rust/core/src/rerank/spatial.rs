//! Spatial verification of a pair of images: match, verify, score.

use super::chamfer;
use super::descriptors::Descriptors;
use super::matching::{self, Match};
use super::options::{SpatialOptions, SpatialScore};
use super::verification::{self, Geometry, Verification};
use crate::control::Control;
use crate::error::Result;
use crate::kernels::nearest::QueryBlock;

/// Buffers kept between pairs; after a call, the pair's correspondences and inlier mask.
#[derive(Debug, Default)]
pub struct Workspace {
    matching: matching::Workspace,
    /// The tentative correspondences of the last pair.
    pub matches: Vec<Match>,
    correspondences: Vec<[f32; 4]>,
    ratios: Vec<[f64; 2]>,
    /// Masks and buffers of the verification.
    pub verification: verification::Workspace,
}

/// The outcome for one pair of images.
#[derive(Debug, Clone, PartialEq)]
pub struct SpatialResult {
    /// The score, 0 for unverified.
    pub score: f32,
    /// Tentative correspondences.
    pub tentative: usize,
    /// The map, in units of either image's longer side, its inliers and hypotheses.
    pub verification: Verification,
}

/// Verifies one pair; `block` is `query`'s codes laid out.
pub fn verify_pair(
    query: &Descriptors<'_>,
    block: &QueryBlock,
    database: &Descriptors<'_>,
    options: &SpatialOptions,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<SpatialResult> {
    compare_pair(query, block, database, options, 0, workspace, control).map(|(_, verified)| verified)
}

/// The Chamfer similarity of the first `summed` query descriptors, and [`verify_pair`], in one pass over the codes.
pub fn compare_pair(
    query: &Descriptors<'_>,
    block: &QueryBlock,
    database: &Descriptors<'_>,
    options: &SpatialOptions,
    summed: usize,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<(f32, SpatialResult)> {
    let Workspace { matching: buffers, matches, correspondences, ratios, verification } = workspace;
    let distances = matching::nearest(block, database.codes, buffers, control)?;
    let similarity = chamfer::of_distances(&distances[..summed.min(distances.len())], block.bytes());
    matching::choose(query.codes, block, database.codes, &options.matching, buffers, matches, control)?;
    correspondences.clear();
    ratios.clear();
    for found in matches.iter() {
        let (i, j) = (found.query as usize, found.database as usize);
        let ([x, y], [u, v]) = (query.position(i), database.position(j));
        correspondences.push([x, y, u, v]);
        if let (true, Some(from), Some(to)) = (options.geometry, query.geometry(i), database.geometry(j)) {
            ratios.push([f64::from(to[0]) / f64::from(from[0]), f64::from(to[1]) - f64::from(from[1])]);
        }
    }
    let geometry = (ratios.len() == correspondences.len()).then_some(Geometry { ratios });
    let within = verification::Options {
        hypotheses: options.hypotheses,
        family: options.family,
        // Significance is zero from 1 on; some room, since it counts distinct positions.
        tolerated: if options.score == SpatialScore::Significance { 10.0 } else { verification::TOLERATED },
        // What stands in for it hardly ever has inliers enough to score, and costs as much as the search.
        plausible: false,
        ..verification::Options::within(options.threshold)
    };
    let found = verification::verify(correspondences, geometry, &within, verification, control)?;
    let enough = found.inliers >= options.min_inliers;
    let distinct =
        if enough { verification::distinct_inliers(correspondences, verification, control)? } else { 0 };
    let score = if !enough || distinct < options.min_inliers {
        0.0
    } else {
        match options.score {
            SpatialScore::Inliers => distinct as f64,
            SpatialScore::Significance => {
                verification::significance(&found, distinct, correspondences, verification, control)?
            }
        }
    };
    Ok((similarity, SpatialResult { score: score as f32, tentative: matches.len(), verification: found }))
}
