//! Exact search.
//!
//! | module | holds |
//! |---|---|
//! | [`database`] | matrices and sequences of shards seen as one database |
//! | [`exact`] | the canonical score: the exact inner product, rounded |
//! | [`bounds`] | what the screens prove about a canonical score |
//! | [`select`] | the candidates of one query, never more than a few times k |
//! | [`schedule`] | how blocks of rows and groups of queries meet on the threads |
//! | [`screen`] | the float32 screens, for many queries and for few |
//! | [`int8`] | the int8 screen, for many queries on much data |
//! | [`topk`](mod@topk), [`hamming`] | the two searches |
//! | [`score`] | canonical scores of given pairs, for screens that are not ours |
//!
//! A screen is a [`schedule::Scan`]; another one adds a kernel, its bound in `bounds` and a `Scan`.

pub mod bounds;
pub mod database;
pub mod exact;
pub mod hamming;
pub mod int8;
pub mod schedule;
pub mod score;
pub mod screen;
pub mod select;
pub mod topk;

pub use database::{Database, Matrix};
pub use hamming::{HammingTopK, hamming_topk};
pub use score::score_rows;
pub use topk::{Screen, TopK, topk, topk_with};
