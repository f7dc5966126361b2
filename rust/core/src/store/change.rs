//! Changing what a store holds: deleting rows, and appending rows of other stores.

use crate::control::Control;
use crate::error::{Error, Result};

use super::Writer;
use super::ids::sorted_hashes;
use super::reader::Store;
use super::rows::{BATCH_BYTES, Rows, step};

impl Writer {
    /// Deletes rows by id and commits; returns how many.
    ///
    /// The rows vanish from what is opened from now on: later rows move up, and their ids may be appended again.
    /// They take room until [`super::compact()`].
    ///
    /// # Errors
    /// [`Error::UnknownId`] if the store lacks one of them: then nothing is deleted. [`Error::Parameter`] if rows
    /// wait for a commit; [`Error::Io`].
    pub fn delete<S: AsRef<str>>(&mut self, ids: &[S]) -> Result<usize> {
        self.check_nothing_waits("delete")?;
        let hashes = sorted_hashes(ids);
        let mut seen = vec![false; ids.len()];
        let mut manifest = self.manifest.clone();
        let mut count = 0;
        for (shard, entry) in self.shards.iter().zip(&mut manifest.shards) {
            let mut rows = Vec::new();
            shard.find(&hashes, ids, |position, row| {
                seen[position] = true;
                rows.push(row as u32);
                Ok(())
            })?;
            rows.sort_unstable();
            rows.dedup();
            count += rows.len();
            if !rows.is_empty() {
                entry.deleted = entry.deleted.with(&rows);
            }
        }
        if let Some(unknown) = seen.iter().position(|seen| !seen) {
            let id = ids[unknown].as_ref().to_owned();
            return Err(Error::UnknownId { path: self.path.clone(), id });
        }
        if count > 0 {
            self.publish(manifest)?;
        }
        Ok(count)
    }

    /// Appends rows of another store of the same spec, in the order given; as [`Self::append`].
    ///
    /// Advances `control` by the rows.
    ///
    /// # Errors
    /// As [`Self::append`]; if some of the rows have been taken by then, the writer accepts nothing more.
    pub fn append_rows(&mut self, store: &Store, rows: &[usize], control: &Control) -> Result<()> {
        if store.spec() != self.spec() {
            return Err(Error::Incompatible {
                path: store.path().to_owned(),
                expected: format!("rows for {}", self.spec().describe()),
                found: store.spec().describe(),
            });
        }
        let before = self.len();
        let outcome = self.append_in_batches(store, rows, control);
        if outcome.is_err() && self.len() > before {
            self.failed = true;
        }
        outcome
    }

    fn append_in_batches(&mut self, store: &Store, rows: &[usize], control: &Control) -> Result<()> {
        let (mut copied, step) = (Rows::new(), step(self.spec()));
        let mut at = 0;
        while at < rows.len() {
            let (shard, first) = store.locate(rows[at])?;
            let most = step.min(rows.len() - at).min(store.left_in_run(rows[at]));
            let together =
                rows[at..at + most].windows(2).take_while(|pair| pair[0] + 1 == pair[1]).count() + 1;
            copied.extend(self.spec(), shard, first..first + together)?;
            at += together;
            if at == rows.len() || copied.bytes() >= BATCH_BYTES {
                let spec = self.spec().clone();
                let count = copied.ids.len();
                self.append(&copied.ids, &copied.batch(&spec), &Control::new())?;
                copied.clear();
                control.advance(count as u64)?;
            }
        }
        Ok(())
    }
}
