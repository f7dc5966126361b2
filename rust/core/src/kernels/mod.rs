//! The kernels: the only place with `core::arch`.
//!
//! A folder is an operation; in it `mod.rs` holds the mathematics, the bounds and the choice of level,
//! `scalar.rs` the reference, and every other file one CPU level. Adding a level to an operation is one
//! new file and one line in that operation's table.

pub mod affine;
pub mod aligned;
pub mod consensus;
pub mod count;
pub mod dot_bf16;
pub mod dot_f16;
pub mod dot_i8;
pub mod hamming;
pub mod inliers;
pub mod maxsim;
pub mod nearest;
pub mod peak;
pub mod prefetch;
pub mod tiles;
