//! Descriptor stores: immutable safetensors shards under an atomically replaced manifest.
//!
//! A store is a directory:
//!
//! ```text
//! store/
//!   manifest.json                          what the store holds; replaced by rename, never edited
//!   shards/000000-<hash>.safetensors       rows, never changed once listed in the manifest
//!   lock                                   empty; the writer holds an advisory lock on it
//! ```
//!
//! [`Writer`] appends rows and commits; a commit writes and syncs the shards first and replaces the manifest
//! last, so at every instant the manifest on disk describes a complete state. [`Store`] reads one such state
//! through memory maps; it keeps that state for as long as it lives, whatever is committed, overwritten or
//! collected meanwhile (an unlinked file lives as long as its map). Changing a shard *in place* is the one
//! thing nobody may do: truncating a mapped file makes the operating system kill its readers.
//!
//! `docs/format.md` specifies every byte.

pub mod advice;
pub mod ahead;
mod attach;
mod attached;
mod batch;
mod buffer;
mod change;
mod checksum;
mod compact;
mod disk;
mod entry;
#[cfg(test)]
mod faults;
mod filling;
mod filter;
mod ids;
mod incoming;
mod layout;
mod local;
mod lock;
mod manifest;
mod mmap;
mod reader;
mod rows;
mod shard;
mod spec;
mod tombstones;
mod verify;
mod views;
mod write_file;
mod writer;

pub use attach::{TensorSink, TensorSpec};
pub use attached::{Attached, Element};
pub use batch::{Batch, LocalBatch};
pub use compact::{Compacted, compact, compactable_rows};
pub use ids::{MAX_ID_BYTES, check_id};
pub use reader::{Run, Store};
pub use spec::{Kind, Optional, Spec};
pub use verify::{Damage, Report, committed_bytes, gc, verify};
pub use views::{LocalView, ShardView};
pub use writer::Writer;

/// Name of the manifest inside the directory.
pub const MANIFEST: &str = "manifest.json";
/// Name of the folder of shards inside the directory.
pub const SHARDS: &str = "shards";
/// Name of the lock file inside the directory.
pub const LOCK: &str = "lock";
/// Suffix of files that are being written.
pub(crate) const PARTIAL: &str = ".partial";
/// Rows are cut into shards of about this many bytes unless the writer is told otherwise.
pub const SHARD_BYTES: usize = 128 << 20;

#[cfg(target_endian = "big")]
compile_error!("shards are little-endian and are read in place");
