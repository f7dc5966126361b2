//! What a writer asks of rows before it takes them: values as the store wants them, ids that are new.

use crate::error::{Error, Result};

use super::batch::Batch;
use super::ids::{check_id, sorted_hashes};
use super::write_file::WORTH_A_THREAD;
use super::writer::Writer;

/// The error with the id of the image that a value which is not finite belongs to.
fn named<S: AsRef<str>>(error: Error, ids: &[S], batch: &Batch<'_>) -> Error {
    let Error::NonFinite { what, row, column, value } = error else { return error };
    // Numbers of rows and offsets fit the ids: that was checked before the values.
    let (what, row) = match batch {
        Batch::Global(_) | Batch::Binary(_) => (format!("{what} (of {:?})", ids[row].as_ref()), row),
        Batch::Local(batch) => {
            let image = batch.offsets.partition_point(|&first| first as usize <= row) - 1;
            let what = format!("{what} of image {image} ({:?})", ids[image].as_ref());
            (what, row - batch.offsets[image] as usize)
        }
    };
    Error::NonFinite { what, row, column, value }
}

impl Writer {
    /// Which of the ids are there already, committed or not.
    pub fn contains<S: AsRef<str>>(&self, ids: &[S]) -> Result<Vec<bool>> {
        let mut there = vec![false; ids.len()];
        self.mark_known(ids, &sorted_hashes(ids), &mut there)?;
        Ok(there)
    }

    /// Checks values and ids, of a large batch at the same time.
    pub(super) fn check<S: AsRef<str>>(&self, ids: &[S], batch: &Batch<'_>) -> Result<()> {
        let (rows, spec, path) = (ids.len(), &self.manifest.spec, &self.path);
        if batch.bytes() < WORTH_A_THREAD {
            batch.check(rows, spec, path).map_err(|error| named(error, ids, batch))?;
            return self.check_ids(ids);
        }
        std::thread::scope(|scope| {
            let values = std::thread::Builder::new().spawn_scoped(scope, || batch.check(rows, spec, path));
            let of_ids = self.check_ids(ids);
            match values {
                Ok(values) => values.join().expect("checking does not panic"),
                Err(_) => batch.check(rows, spec, path),
            }
            .map_err(|error| named(error, ids, batch))?;
            of_ids
        })
    }

    fn check_ids<S: AsRef<str>>(&self, ids: &[S]) -> Result<()> {
        if ids.len() > i32::MAX as usize {
            return Err(Error::parameter("ids", format!("at most {} a batch", i32::MAX), ids.len()));
        }
        for (position, id) in ids.iter().enumerate() {
            check_id(id.as_ref(), position)?;
        }
        let mut duplicate = vec![false; ids.len()];
        let hashes = sorted_hashes(ids);
        for equal in hashes.chunk_by(|one, other| one.0 == other.0) {
            for (index, (_, position)) in equal.iter().enumerate() {
                let id = ids[*position as usize].as_ref();
                duplicate[*position as usize] =
                    equal[..index].iter().any(|(_, earlier)| ids[*earlier as usize].as_ref() == id);
            }
        }
        self.mark_known(ids, &hashes, &mut duplicate)?;
        let Some(first) = duplicate.iter().position(|duplicate| *duplicate) else {
            return Ok(());
        };
        Err(Error::DuplicateId {
            path: self.path.clone(),
            id: ids[first].as_ref().to_owned(),
            more: duplicate.iter().filter(|duplicate| **duplicate).count() - 1,
        })
    }

    /// Marks the ids that are in the store or wait to be; `hashes` are their sorted hashes.
    fn mark_known<S: AsRef<str>>(&self, ids: &[S], hashes: &[(i64, u32)], known: &mut [bool]) -> Result<()> {
        for &(hash, position) in hashes {
            known[position as usize] |= self.buffer.contains(hash, ids[position as usize].as_ref());
        }
        for shard in &self.shards {
            shard.find(hashes, ids, |position, _| {
                known[position] = true;
                Ok(())
            })?;
        }
        Ok(())
    }
}
