//! How surprising a number of inliers is: a count corrected for chance (a contrario; Moisan and Stival 2004).
//!
//! With `t` tentative correspondences, `n` of them inliers of a model `M` that was fitted to the data, suppose
//! that which query point goes with which database point were random. Then a correspondence agrees with `M` with
//! the probability
//!
//! ```text
//! p = share of pairs i != j with |M(q_i) - d_j| <= threshold
//! ```
//!
//! which already knows the threshold, the image area in use, clusters of keypoints, and maps that squeeze the
//! query onto a few of them. A model of six parameters agrees with three correspondences for free, and there were
//! `C(t, 3)` ways to choose them, so the expected number of models as good as this one among random
//! correspondences is
//!
//! ```text
//! NFA = C(t, 3) * P[Binomial(t - 3, p) >= n - 3]
//! ```
//!
//! The score is `max(0, -ln NFA)`: zero for what chance explains, then roughly `ln(1 / p)` for each inlier more.
//! Correspondences that share a position in either image are one observation: `t` and `n` count distinct positions.

/// Correspondences a model of six parameters agrees with for free.
pub const FREE: usize = 3;

/// The same for a homography, of eight parameters.
pub const FREE_PROJECTIVE: usize = 4;

/// `ln NFA` for `inliers` of `tentative` correspondences when one agrees by chance with probability `p`, and the
/// model agrees with `free` of them whatever they are.
///
/// Without a correspondence beyond the free ones it is the logarithm of the number of ways to choose them.
/// Complexity: O(tentative).
pub fn ln_expected(tentative: usize, inliers: usize, free: usize, p: f64) -> f64 {
    let t = tentative as f64;
    let choices: f64 = (0..free).map(|i| (t - i as f64) / (i + 1) as f64).product();
    let tests = choices.max(1.0).ln();
    if inliers <= free || tentative < inliers || p >= 1.0 {
        return tests;
    }
    tests + ln_binomial_tail(tentative - free, inliers - free, p.max(f64::MIN_POSITIVE))
}

/// Whether `ln NFA` of a map of six parameters is at most `limit`; cheap where it is far below.
pub fn expects_at_most(limit: f64, tentative: usize, inliers: usize, p: f64) -> bool {
    let (k, mean) = (inliers as f64 - FREE as f64, p * tentative as f64);
    // Chernoff's bound on the tail, and t^3 / 6 on the number of tests.
    let bound = 3.0 * (tentative as f64).ln() + k - mean - k * (k / mean).ln();
    (k > mean && bound <= limit) || ln_expected(tentative, inliers, FREE, p) <= limit
}

/// `max(0, -ln NFA)` of a map of six parameters.
#[cfg(test)]
fn score(tentative: usize, inliers: usize, p: f64) -> f64 {
    (-ln_expected(tentative, inliers, FREE, p)).max(0.0)
}

/// `ln P[Binomial(n, p) >= k]` for `0 < p < 1`, `1 <= k <= n`, accurate in the far tail.
fn ln_binomial_tail(n: usize, k: usize, p: f64) -> f64 {
    let odds = p / (1.0 - p);
    // The first term's logarithm, then the rest relative to it.
    let mut ln_choose = 0.0;
    for i in 0..k {
        ln_choose += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    let ln_first = ln_choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p();
    let (mut term, mut sum) = (1.0, 1.0);
    for i in k..n {
        term *= odds * (n - i) as f64 / (i + 1) as f64;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (ln_first + f64::ln(sum)).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_equals_the_sum_of_probabilities() {
        let choose = |n: usize, k: usize| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        for n in [1, 5, 30] {
            for k in 1..=n {
                for p in [1e-4, 0.03, 0.5, 0.97] {
                    let sum: f64 = (k..=n)
                        .map(|i| choose(n, i) * f64::powi(p, i as i32) * f64::powi(1.0 - p, (n - i) as i32))
                        .sum();
                    let found = ln_binomial_tail(n, k, p);
                    assert!((found - sum.ln()).abs() < 1e-9, "n {n}, k {k}, p {p}: {found} and {}", sum.ln());
                }
            }
        }
    }

    #[test]
    fn the_short_cut_agrees() {
        for (t, n) in [(1, 1), (4, 4), (50, 5), (100, 7), (300, 9), (300, 40), (5000, 3000)] {
            for p in [1e-6, 1e-3, 0.05, 0.5, 1.0] {
                for limit in [-5.0, 0.0, 4.6] {
                    assert_eq!(
                        expects_at_most(limit, t, n, p),
                        ln_expected(t, n, FREE, p) <= limit,
                        "{t} {n} {p}"
                    );
                }
            }
        }
    }

    #[test]
    fn chance_scores_zero_and_evidence_grows() {
        assert!(score(100, 4, 0.01) <= 0.0);
        assert!(score(10, 10, 1.0) <= 0.0);
        assert!(score(3, 3, 1e-9) <= 0.0);
        assert!(score(30, 12, 0.01) > score(30, 10, 0.01));
        assert!(score(30, 12, 0.01) > score(300, 12, 0.01));
        assert!(score(5000, 5000, 0.0) > 1e4);
    }
}
