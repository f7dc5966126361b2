//! The performance-critical half of ilias-fast, free of Python.
//!
//! Data flows through the modules in this order, and a module may only use those before it:
//!
//! | module | holds |
//! |---|---|
//! | [`error`], [`level`], [`control`], `positioned` | what everything else shares: one error type, the CPU level, interruption, files |
//! | [`kernels`] | the only place with `core::arch`: a folder an operation, a file a CPU level |
//! | [`threads`] | thread pools |
//! | [`chunks`] | matrices in compressed chunks of HDF5 files, decoded in parallel |
//! | [`store`] | immutable safetensors shards under an atomically replaced manifest |
//! | [`adapt`] | affine maps of rows: linear layers, whitenings, binarisations |
//! | [`search`] | exact top-k by inner product and by Hamming distance |
//! | [`rerank`] | tentative correspondences, Chamfer similarity, spatial verification |
//! | [`run`] | runs as files: similarity JSON, TREC; ids as one text |
//! | [`evaluate`] | average precision, streaming mAP |
//! | [`calibrate`] | the peak of the machine, for benchmarks |

pub mod adapt;
pub mod calibrate;
pub mod chunks;
pub mod control;
pub mod error;
pub mod evaluate;
pub mod kernels;
pub mod level;
mod positioned;
pub mod rerank;
pub mod run;
pub mod search;
mod sorting;
pub mod store;
pub mod threads;

pub use control::Control;
pub use error::{Error, Result};
pub use level::Level;
