//! Re-ranking with local descriptors.
//!
//! | file | holds |
//! |---|---|
//! | [`descriptors`] | the view of an image, and where views come from |
//! | [`options`] | the options, one struct a method |
//! | [`chamfer`] | asymmetric Chamfer similarity |
//! | [`matching`] | tentative correspondences |
//! | [`verification`] | the map that explains most of them: estimator, loop, models |
//! | [`spatial`] | match, verify and score a pair |
//! | [`shortlist`] | each method over a whole run |
//! | [`stores`] | mapped local stores as sources |

pub mod chamfer;
pub mod descriptors;
pub mod matching;
pub mod options;
pub mod shortlist;
pub mod spatial;
pub mod stores;
pub mod verification;
