//! Exact search.
//!
//! | module | holds |
//! |---|---|
//! | [`database`] | matrices and sequences of shards seen as one database |
//! | [`exact`] | the canonical score: the exact inner product, rounded |
//! | [`bounds`] | what the float32 screen proves about a canonical score |
//! | [`select`] | the candidates of one query, never more than a few times k |
//! | [`schedule`] | how blocks of rows and groups of queries meet on the threads |
//! | [`screen`] | the float32 screens, for many queries and for few |
//! | [`topk`](mod@topk), [`hamming`] | the two searches |
//!
//! A screen is a [`schedule::Scan`]; another one (int8, say) adds a kernel, its bound in `bounds` and a `Scan`.

pub mod bounds;
pub mod database;
pub mod exact;
pub mod hamming;
pub mod schedule;
pub mod screen;
pub mod select;
pub mod topk;

pub use database::{Database, Matrix};
pub use hamming::{HammingTopK, hamming_topk};
pub use topk::{TopK, topk};
