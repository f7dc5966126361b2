//! Exact search.
//!
//! | module | holds |
//! |---|---|
//! | [`database`] | matrices and sequences of shards seen as one database |
//! | [`element`] | the types of their values |
//! | [`exact`] | the canonical score: the exact inner product, rounded |
//! | [`bounds`] | what the screens prove about a canonical score |
//! | [`select`] | the candidates of one query, never more than a few times k |
//! | [`schedule`] | how blocks of rows and groups of queries meet on the threads |
//! | [`screen`] | the float32 screens, for many queries and for few |
//! | [`planes`] | rows rotated and quantised to int8, once or on the way |
//! | [`stored`] | global stores as databases, with planes made once |
//! | `sample`, `settle` | what a sweep starts with, and what it makes of the rows that it let through |
//! | [`sweep`] | a pass with coarse codes, what comes through scored at once |
//! | [`codec`] | what a sweep needs to know of coarse codes: [`int8`], [`bfloat16`] |
//! | [`topk`](mod@topk), [`hamming`] | the two searches |
//! | [`small`] | databases of few rows |
//! | [`running`] | a search over parts of a database, one after the other |
//! | [`pairs`] | all distances, without a selection |
//! | [`score`] | canonical scores of given pairs, for screens that are not ours |
//!

pub mod ahead;
mod bfloat16;
pub mod bounds;
pub mod codec;
pub mod database;
pub mod element;
pub mod exact;
pub mod hamming;
pub mod int8;
mod nearest;
pub mod pairs;
pub mod planes;
pub mod running;
mod sample;
pub mod schedule;
pub mod score;
pub mod screen;
pub mod select;
mod settle;
pub mod small;
pub mod stored;
pub mod sweep;
pub mod topk;

pub use database::{Database, Matrix};
pub use hamming::{HammingTopK, hamming_topk};
pub use pairs::hamming_matrix;
pub use planes::{OwnedPlanes, Planes, Quantiser};
pub use running::Running;
pub use score::best_rows;
pub use topk::{Screen, TopK, topk, topk_with};
