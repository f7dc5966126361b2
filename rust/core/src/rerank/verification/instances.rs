//! Several instances of an object in one image: verify, take the inliers away, verify again.

use super::{Geometry, Options, Verification, Workspace, distinct_inliers, significance, verify};
use crate::control::Control;
use crate::error::Result;

/// One instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its map, number of inliers, and hypotheses tried.
    pub verification: Verification,
    /// Its inliers among all correspondences.
    pub mask: Vec<bool>,
    /// Its chance-corrected score among the correspondences no earlier instance explains.
    pub score: f64,
}

/// Finds instances, best first, until `most` are found or chance explains the next.
///
/// Each is sought among the correspondences no earlier one explains. The first is returned whatever its score, as
/// long as there is a correspondence. Each found is one unit of progress.
pub fn instances(
    correspondences: &[[f32; 4]],
    geometry: Option<Geometry<'_>>,
    options: &Options,
    most: usize,
    workspace: &mut Workspace,
    control: &Control,
) -> Result<Vec<Instance>> {
    let mut found: Vec<Instance> = Vec::new();
    let mut left: Vec<usize> = (0..correspondences.len()).collect();
    let (mut points, mut ratios) = (Vec::new(), Vec::new());
    while found.len() < most {
        points.clear();
        points.extend(left.iter().map(|&j| correspondences[j]));
        ratios.clear();
        ratios.extend(geometry.iter().flat_map(|geometry| left.iter().map(|&j| geometry.ratios[j])));
        let geometry = geometry.map(|_| Geometry { ratios: &ratios });
        let verification = verify(&points, geometry, options, workspace, control)?;
        let distinct = distinct_inliers(&points, workspace, control)?;
        let score = significance(&verification, distinct, &points, workspace, control)?;
        if verification.model.is_none() || (score <= 0.0 && !found.is_empty()) {
            break;
        }
        let mut mask = vec![false; correspondences.len()];
        let inside: Vec<bool> = workspace.mask.clone();
        for (&j, &inside) in left.iter().zip(&inside) {
            mask[j] = inside;
        }
        let mut inside = inside.into_iter();
        left.retain(|_| !inside.next().unwrap_or(false));
        found.push(Instance { verification, mask, score });
        control.advance(1)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_are_found_and_chance_is_not() {
        let mut points: Vec<[f32; 4]> = Vec::new();
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 * 400.0
        };
        for i in 0..60_u16 {
            let (x, y) = (random(), random());
            let (u, v) = match i {
                0..25 => (0.5 * x + 10.0, 0.5 * y + 20.0),
                25..45 => (300.0 - y * 0.6, 100.0 + x * 0.6),
                _ => (random(), random()),
            };
            points.push([x, y, u, v]);
        }
        let mut workspace = Workspace::default();
        let found =
            instances(&points, None, &Options::within(3.0), 10, &mut workspace, &Control::new()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].mask[..25].iter().all(|&inside| inside) && found[0].verification.inliers >= 25);
        assert!(found[1].mask[25..45].iter().all(|&inside| inside));
        assert!(found.iter().all(|instance| instance.score > 10.0));
        let overlap = found[0].mask.iter().zip(&found[1].mask).any(|(a, b)| *a && *b);
        assert!(!overlap);
        let one =
            instances(&points, None, &Options::within(3.0), 1, &mut workspace, &Control::new()).unwrap();
        assert_eq!(one, found[..1]);
        assert_eq!(
            instances(&[], None, &Options::within(3.0), 5, &mut workspace, &Control::new()).unwrap(),
            []
        );
        assert_eq!(
            instances(&points[45..47], None, &Options::within(3.0), 5, &mut workspace, &Control::new())
                .unwrap()
                .len(),
            1
        );
    }
}
