//! Whose a folder is: the lock of its writer, and what lies in it.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

use super::{LOCK, PARTIAL, SHARDS};

/// The write lock of a store; it ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    process: u32,
}

impl Lock {
    /// Whether this is the process that took it, and not a forked child.
    pub fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would leave the lock with the children forked meanwhile, which have it open too; of those, none
        // may end it.
        if self.is_ours() {
            let _ = self.file.unlock();
        }
    }
}

/// Takes the write lock of the store in `folder`.
pub(super) fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK);
    check_regular(&path)?;
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path, "open for writing"))?;
        match file.try_lock() {
            // A writer that committed nothing takes the file with it when it leaves: that one locks nothing any more.
            Ok(()) if is_at(&file, &path) => return Ok(Lock { file, process: std::process::id() }),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(Error::io(&path, "lock")(cause)),
        }
    }
}

/// An error if something of that name would keep who opens it waiting, or never end: a pipe, a device.
pub(super) fn check_regular(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            Err(Error::corrupt(path, "expected a file, found a pipe, a socket or a device"))
        }
        // What else is wrong is told by who opens it.
        _ => Ok(()),
    }
}

/// Whether the open file is the one of that name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(place).ok() == std::fs::metadata(path).map(place).ok()
}

/// It always is: Windows does not let go of a name as long as the file is open, by whomever.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Whether a folder without manifest holds anything but what a killed writer leaves.
pub(super) fn holds_foreign_files(path: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(path).map_err(Error::io(path, "list"))? {
        let name = entry.map_err(Error::io(path, "list"))?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && name != SHARDS && !name.ends_with(PARTIAL) {
            return Ok(true);
        }
    }
    Ok(false)
}
