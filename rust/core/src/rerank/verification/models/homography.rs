//! Homographies: eight parameters, by the normalised direct linear transform (Hartley 1997).

use super::{Affine, Limits};

/// The map `(x, y) -> ((h0 x + h1 y + h2) / w, (h3 x + h4 y + h5) / w)` with `w = h6 x + h7 y + h8`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Homography(pub [f64; 9]);

/// Rank of a 9 x 9 system below which it does not determine eight parameters: the smallest eigenvalue but one, as
/// a share of the largest.
const DETERMINED: f64 = 1e-7;

impl Homography {
    /// An affine map as what it is a case of.
    pub fn from_affine(&Affine([a, b, c, d, e, f]): &Affine) -> Self {
        Self([a, b, c, d, e, f, 0.0, 0.0, 1.0])
    }

    /// The denominator at a point.
    pub fn depth(&self, x: f64, y: f64) -> f64 {
        self.0[6] * x + self.0[7] * y + self.0[8]
    }

    /// The image of a point; not finite on the line that is mapped to infinity.
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f, ..] = self.0;
        let inverse = 1.0 / self.depth(x, y);
        ((a * x + b * y + c) * inverse, (d * x + e * y + f) * inverse)
    }

    /// Square of the distance between the image of `(x, y)` and `(u, v)`; not a number behind the camera.
    pub fn squared_residual(&self, [x, y, u, v]: [f64; 4]) -> f64 {
        let (p, q) = self.apply(x, y);
        if self.depth(x, y) > 0.0 { (p - u) * (p - u) + (q - v) * (q - v) } else { f64::NAN }
    }

    /// The affine map that touches it at a point.
    pub fn tangent(&self, x: f64, y: f64) -> Affine {
        let [a, b, _, d, e, _, g, h, _] = self.0;
        let inverse = 1.0 / self.depth(x, y);
        let (u, v) = self.apply(x, y);
        let (a, b) = ((a - u * g) * inverse, (b - u * h) * inverse);
        let (d, e) = ((d - v * g) * inverse, (e - v * h) * inverse);
        Affine([a, b, u - (a * x + b * y), d, e, v - (d * x + e * y)])
    }

    /// Whether it is believable on a box of query points: in front of the camera, neither mirrored nor collapsed.
    ///
    /// The denominator is linear and the tangent's determinant is `det H / w^3`, so both reach their extremes at
    /// the corners, where the tangents must be within the limits of affine maps.
    pub fn believable(&self, [left, top, right, bottom]: [f64; 4], limits: &Limits) -> bool {
        let corners = [(left, top), (right, top), (left, bottom), (right, bottom)];
        corners.iter().all(|&(x, y)| self.depth(x, y) > 0.0 && limits.allow(&self.tangent(x, y)))
    }
}

/// The weighted least squares homography of correspondences `([x, y, u, v], weight)`: the algebraic error is
/// smallest, on coordinates of either side moved to mean 0 and mean square 2. Its last entry is 1, or -1 where that
/// makes the denominator positive at the query points' mean.
///
/// None for fewer than four correspondences of positive weight, and for those that do not determine it: all but
/// one of the query points on a line.
pub fn least_squares(weighted: impl Iterator<Item = ([f64; 4], f64)> + Clone) -> Option<Homography> {
    let (mut count, mut total, mut mean) = (0, 0.0, [0.0; 4]);
    for (point, weight) in weighted.clone().filter(|&(_, weight)| weight > 0.0) {
        count += 1;
        total += weight;
        for i in 0..4 {
            mean[i] += weight * point[i];
        }
    }
    if count < 4 {
        return None;
    }
    let mean = mean.map(|sum| sum / total);
    let mut squares = [0.0; 2];
    for (point, weight) in weighted.clone() {
        for i in 0..4 {
            squares[i / 2] += weight * (point[i] - mean[i]) * (point[i] - mean[i]);
        }
    }
    // Coinciding points have no scale; negated, so that what is not a number is refused.
    if !squares.iter().all(|&square| square > 0.0 && square.is_finite()) {
        return None;
    }
    let scale = squares.map(|square| (2.0 * total / square).sqrt());
    let mut system = [[0.0; 9]; 9];
    for (point, weight) in weighted {
        let [x, y, u, v] = std::array::from_fn(|i| (point[i] - mean[i]) * scale[i / 2]);
        for row in
            [[x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, -u], [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, -v]]
        {
            for i in 0..9 {
                for j in i..9 {
                    system[i][j] += weight * row[i] * row[j];
                }
            }
        }
    }
    let [a, b, c, d, e, f, g, h, i] = null_vector(system)?;
    // Undo the normalisation: T_database^-1 H T_query.
    let ([s, t], [x, y, u, v]) = (scale, mean);
    let last = i - s * (g * x + h * y);
    let row = |p: f64, q: f64, r: f64, centre: f64| {
        let (p, q, r) = (p * s, q * s, r - s * (p * x + q * y));
        [p / t + centre * g * s, q / t + centre * h * s, r / t + centre * last]
    };
    let ([a, b, c], [d, e, f]) = (row(a, b, c, u), row(d, e, f, v));
    // The query's mean is seen, so its denominator is positive; that of the origin may be anything.
    let sign = if i < 0.0 { -1.0 } else { 1.0 };
    let norm = sign / last.abs().max(f64::MIN_POSITIVE);
    let found = [a, b, c, d, e, f, g * s, h * s, last].map(|value| value * norm);
    found.iter().all(|value| value.is_finite()).then_some(Homography(found))
}

/// The eigenvector of the smallest eigenvalue of a symmetric matrix, of which the upper half is given, by cyclic
/// Jacobi rotations; None if there is more than one.
#[expect(clippy::needless_range_loop, reason = "indices of a matrix, as in the formulas")]
fn null_vector(mut m: [[f64; 9]; 9]) -> Option<[f64; 9]> {
    for i in 0..9 {
        for j in 0..i {
            m[i][j] = m[j][i];
        }
    }
    let mut vectors: [[f64; 9]; 9] =
        std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    for _ in 0..30 {
        let off: f64 = (0..9).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| m[i][j] * m[i][j]).sum();
        let diagonal: f64 = (0..9).map(|i| m[i][i] * m[i][i]).sum();
        if off <= 1e-30 * diagonal {
            break;
        }
        for i in 0..8 {
            for j in i + 1..9 {
                if m[i][j] == 0.0 {
                    continue;
                }
                let theta = (m[j][j] - m[i][i]) / (2.0 * m[i][j]);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                for row in &mut m {
                    (row[i], row[j]) = (cosine * row[i] - sine * row[j], sine * row[i] + cosine * row[j]);
                }
                for k in 0..9 {
                    (m[i][k], m[j][k]) =
                        (cosine * m[i][k] - sine * m[j][k], sine * m[i][k] + cosine * m[j][k]);
                }
                for row in &mut vectors {
                    (row[i], row[j]) = (cosine * row[i] - sine * row[j], sine * row[i] + cosine * row[j]);
                }
            }
        }
    }
    let mut order: [usize; 9] = std::array::from_fn(|i| i);
    order.sort_by(|&i, &j| m[i][i].total_cmp(&m[j][j]));
    // What is not a number is refused.
    let determined = m[order[1]][order[1]] > DETERMINED * m[order[8]][order[8]];
    determined.then(|| std::array::from_fn(|row| vectors[row][order[0]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: [f64; 9] = [0.9, -0.2, 30.0, 0.15, 1.1, -12.0, 4e-4, -2e-4, 1.0];

    fn seen(points: &[(f64, f64)]) -> Vec<([f64; 4], f64)> {
        let map = Homography(TRUE);
        points
            .iter()
            .map(|&(x, y)| {
                let (u, v) = map.apply(x, y);
                ([x, y, u, v], 1.0)
            })
            .collect()
    }

    #[test]
    fn exact_correspondences_give_the_homography_back() {
        let square = [(0.0, 0.0), (500.0, 10.0), (480.0, 300.0), (20.0, 310.0)];
        let more = [square.as_slice(), &[(100.0, 100.0), (250.0, 40.0), (333.0, 222.0)]].concat();
        for points in [square.as_slice(), &more] {
            let found = least_squares(seen(points).into_iter()).unwrap();
            for (found, expected) in found.0.iter().zip(TRUE) {
                assert!((found - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{found} {expected}");
            }
        }
    }

    #[test]
    fn what_the_points_do_not_determine_is_not_guessed() {
        let line = [(0.0, 0.0), (10.0, 5.0), (20.0, 10.0), (30.0, 15.0), (40.0, 20.0)];
        assert_eq!(least_squares(seen(&line).into_iter()), None);
        let but_one = [line.as_slice(), &[(7.0, 90.0)]].concat();
        assert_eq!(least_squares(seen(&but_one).into_iter()), None);
        assert_eq!(least_squares(seen(&[(1.0, 1.0); 9]).into_iter()), None);
        assert_eq!(least_squares(seen(&line[..3]).into_iter()), None);
        assert_eq!(least_squares(std::iter::repeat_n(([f64::NAN; 4], 1.0), 5)), None);
        let square = [(0.0, 0.0), (500.0, 10.0), (480.0, 300.0), (20.0, 310.0)];
        let weightless = seen(&square).into_iter().map(|(point, _)| (point, 0.0));
        assert_eq!(least_squares(weightless), None);
    }

    #[test]
    fn reflection_collapse_and_what_lies_behind_the_camera_are_not_believed() {
        let frame = [0.0, 0.0, 500.0, 300.0];
        let allow = |map: [f64; 9]| Homography(map).believable(frame, &Limits::DEFAULT);
        assert!(allow(TRUE) && allow([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]));
        assert!(!allow([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]), "reflection");
        assert!(!allow([0.01, 0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.0, 1.0]), "collapse");
        assert!(!allow([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -4e-3, 0.0, 1.0]), "behind the camera");
        assert!(!allow([f64::NAN; 9]));
    }

    #[test]
    fn the_tangent_touches() {
        let map = Homography(TRUE);
        let tangent = map.tangent(120.0, 80.0);
        for (dx, dy) in [(0.0, 0.0), (1e-4, 0.0), (0.0, 1e-4)] {
            let (p, q) = map.apply(120.0 + dx, 80.0 + dy);
            let (u, v) = tangent.apply(120.0 + dx, 80.0 + dy);
            assert!((p - u).abs() < 1e-9 && (q - v).abs() < 1e-9);
        }
    }
}
