//! The options of re-ranking, one struct a method; the Python dataclasses mirror them.

use super::verification::Hypotheses;
use super::verification::models::Family;
use crate::error::{Error, Result};

/// How many descriptors of an image are used, the first ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Of a query.
    pub query: usize,
    /// Of a database image.
    pub database: usize,
}

impl Default for Truncation {
    fn default() -> Self {
        Self { query: usize::MAX, database: usize::MAX }
    }
}

/// Which nearest neighbours are tentative correspondences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchOptions {
    /// Largest Hamming distance kept, in bits.
    pub max_distance: u16,
    /// Largest ratio of the distance to the second nearest descriptor's; 1 or more keeps all.
    pub ratio: f64,
    /// Keep only pairs that are each other's nearest.
    pub mutual: bool,
}

impl MatchOptions {
    /// Nearest neighbours within `max_distance` bits, no other filter.
    pub const fn within(max_distance: u16) -> Self {
        Self { max_distance, ratio: 1.0, mutual: false }
    }

    /// Whether a match depends on more than its distance.
    pub fn filters(&self) -> bool {
        self.mutual || self.ratio < 1.0
    }

    /// An error if a value is out of range.
    pub fn check(&self) -> Result<()> {
        if self.ratio > 0.0 { Ok(()) } else { Err(Error::parameter("ratio", "a number above 0", self.ratio)) }
    }
}

/// What spatial verification scores an image by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpatialScore {
    /// The number of inliers at distinct positions.
    Inliers,
    /// The same corrected for what chance explains, see [`super::verification::chance`].
    Significance,
}

/// Options of spatial verification over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpatialOptions {
    /// The tentative correspondences.
    pub matching: MatchOptions,
    /// Largest distance of an inlier, in units of the database image's longer side.
    pub threshold: f64,
    /// Fewer inliers (at distinct positions) score 0.
    pub min_inliers: usize,
    /// The score.
    pub score: SpatialScore,
    /// Whether keypoint scale and angle are used where both images have them.
    pub geometry: bool,
    /// Which hypotheses are tried.
    pub hypotheses: Hypotheses,
    /// The richest family of maps that is fitted.
    pub family: Family,
    /// Descriptors used.
    pub truncation: Truncation,
}

impl SpatialOptions {
    /// An error if a value is out of range.
    pub fn check(&self) -> Result<()> {
        self.matching.check()?;
        if self.threshold.is_finite() && self.threshold > 0.0 {
            Ok(())
        } else {
            Err(Error::parameter("threshold", "a positive finite number", self.threshold))
        }
    }
}
