//! Runs as files and as ids: the official similarity JSON and TREC run files, read in one pass.
//!
//! | type | is |
//! |---|---|
//! | [`Ids`] | a list of ids, one text, decoded only where somebody looks |
//! | [`Interner`] | distinct ids and the position of each |
//! | [`Search`] | which ids of a set a streamed list holds |
//! | [`Lists`], [`Ranked`] | the ranked lists of a file that was read, and of one to write |
//!
//! [`vocabulary()`] says which rows the lists of a search name, [`first_repeated_index`] and [`first_repeated_id`] what
//! occurs twice.

mod ids;
mod json;
mod trec;
mod vocabulary;
mod writing;

pub use ids::{Ids, Interner, Search};
pub use json::read_json;
pub use trec::read_trec;
pub use vocabulary::{first_repeated_id, first_repeated_index, vocabulary};
pub use writing::{Ranked, write_json};

/// What a file of results holds, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    /// Q query ids.
    pub queries: Ids,
    /// [Q + 1]; query q owns entries `offsets[q]..offsets[q + 1]`.
    pub offsets: Vec<i64>,
    /// The distinct database ids, in the order they first came.
    pub ids: Ids,
    /// Per entry: a position in `ids`.
    pub indices: Vec<i64>,
    /// Per entry: its score, possibly not finite.
    pub scores: Vec<f64>,
}
