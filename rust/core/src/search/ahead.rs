//! A thread that reads a database ahead of those who search it, if it lies on disk.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::database::{Chunks, Database};
use crate::control::Control;
use crate::error::Result;

/// Bytes that are read at once, and that may have been read and not searched.
const STEP_BYTES: usize = 4 << 20;
const WINDOW_BYTES: usize = 32 << 20;

/// How often who waits for the disk looks at the control.
const PULSE: Duration = Duration::from_millis(20);

/// How far a database has been read, and searched.
#[derive(Debug, Default)]
pub struct Ahead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Chunks that have been read.
    read: usize,
    /// Chunks that somebody has asked for.
    wanted: usize,
    /// Nobody searches any more.
    ended: bool,
}

/// Calls `search`, which goes over the chunks front to back and waits for each, while another thread reads ahead of it;
/// with `coarse` planes instead of rows, where there are some. A database that is not `cold` needs no such thread.
pub fn reading_ahead<T: Sync, R>(
    database: &Database<'_, T>,
    chunks: &Chunks,
    coarse: bool,
    cold: bool,
    search: impl FnOnce(&Ahead) -> R,
) -> R {
    let ahead = Ahead::default();
    if !cold || chunks.is_empty() {
        ahead.locked().read = usize::MAX;
        return search(&ahead);
    }
    std::thread::scope(|scope| {
        // Ends the reader, however the search ends.
        let end = End(&ahead);
        let reader = std::thread::Builder::new().name("ilias-fast-reader".into());
        if reader.spawn_scoped(scope, || ahead.read(database, chunks, coarse)).is_err() {
            // No thread to be had: the maps are read without help.
            ahead.locked().read = usize::MAX;
        }
        let found = search(&ahead);
        drop(end);
        found
    })
}

impl Ahead {
    /// Waits until a chunk has been read.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn wait(&self, chunk: usize, control: &Control) -> Result<()> {
        let mut state = self.locked();
        if state.read == usize::MAX {
            return Ok(());
        }
        state.wanted = state.wanted.max(chunk + 1);
        self.changed.notify_all();
        while state.read <= chunk {
            state = self.changed.wait_timeout(state, PULSE).unwrap_or_else(PoisonError::into_inner).0;
            control.advance(0)?;
        }
        Ok(())
    }

    fn read<T>(&self, database: &Database<'_, T>, chunks: &Chunks, coarse: bool) {
        let rows = chunks.get(0).len().max(1);
        let bytes = (rows * database.columns() * size_of::<T>()).max(1);
        let (step, window) = (STEP_BYTES.div_ceil(bytes), WINDOW_BYTES.div_ceil(bytes));
        let mut reader = Default::default();
        for first in (0..chunks.len()).step_by(step) {
            let end = chunks.len().min(first + step);
            {
                let mut state = self.locked();
                while !state.ended && end > state.wanted + window {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.ended {
                    return;
                }
            }
            database.read_ahead(chunks.get(first).start..chunks.get(end - 1).end, coarse, &mut reader);
            self.locked().read = end;
            self.changed.notify_all();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the reader to stop when it is dropped.
struct End<'a>(&'a Ahead);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.locked();
        (state.ended, state.read) = (true, usize::MAX);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::Matrix;
    use super::*;
    use crate::error::Error;

    #[test]
    fn chunks_come_in_order_and_an_early_end_ends_the_reader() {
        let values = vec![1_u16; 100_000 * 64];
        let matrix = Matrix::new("rows", 100_000, 64, &values).unwrap();
        let database = Database::new(64, vec![matrix], None).unwrap();
        let chunks = database.chunks(1000);
        let control = Control::new();
        for (cold, last) in [(true, chunks.len()), (false, chunks.len()), (true, 3), (true, 0)] {
            reading_ahead(&database, &chunks, false, cold, |ahead| {
                (0..last).for_each(|chunk| ahead.wait(chunk, &control).unwrap());
            });
        }
        control.interrupt();
        let waited = reading_ahead(&database, &chunks, false, true, |ahead| {
            (0..chunks.len()).try_for_each(|chunk| {
                ahead.wait(chunk, &control)?;
                control.advance(0)
            })
        });
        assert!(matches!(waited, Err(Error::Interrupted)));
    }
}
