//! The kernels: the only place with `core::arch`.
//!
//! A folder is an operation; in it `mod.rs` holds the mathematics, the bounds and the choice of level,
//! `scalar.rs` the reference, and every other file one CPU level. Adding a level to an operation is one
//! new file and one line in that operation's table.

// Helpers that only the files of x86-64 levels use: elsewhere the scalar level is the only one.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        unused_variables,
        reason = "used by the levels of x86-64"
    )
)]

pub mod affine;
pub mod aligned;
pub mod consensus;
pub mod count;
pub mod dot_bf16;
pub mod dot_f16;
pub mod dot_f64;
pub mod dot_i8;
pub mod float_mode;
pub mod hamming;
pub mod inliers;
pub mod maxsim;
pub mod nearest;
pub mod peak;
pub mod prefetch;
pub mod tiles;
