//! Whose a folder is: the lock of its writer, and what lies in it.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

use super::{LOCK, PARTIAL, SHARDS};

/// Takes the write lock of the store in `folder`; it ends with the file returned, or with the process.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path, "open for writing"))?;
        match file.try_lock() {
            // A writer that committed nothing takes the file with it when it leaves: that one locks nothing any more.
            Ok(()) if is_at(&file, &path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(Error::io(&path, "lock")(cause)),
        }
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
