//! Local stores as sources of descriptors: mapped rows, read in place.

use super::descriptors::{Descriptors, Source};
use crate::error::{Error, Result};
use crate::store::{Kind, Store};

impl Source for Store {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn descriptors(&self, row: usize) -> Result<Descriptors<'_>> {
        let view = self.local(row)?;
        Ok(Descriptors {
            codes: view.codes,
            bytes: self.code_bytes(),
            xy: view.xy,
            scale: view.scale,
            angle: view.angle,
            size: view.size,
        })
    }

    fn name(&self, row: usize) -> String {
        self.id(row).map_or_else(|_| format!("row {row}"), |id| format!("{id:?}"))
    }
}

/// An error unless both are local stores with codes of the same length.
pub fn check_compatible(queries: &Store, database: &Store) -> Result<()> {
    queries.expect_kind(Kind::Local)?;
    database.expect_kind(Kind::Local)?;
    if queries.bits() == database.bits() && queries.bits() > 0 {
        return Ok(());
    }
    Err(Error::Incompatible {
        path: database.path().to_path_buf(),
        expected: format!("packed codes as in {}, {}", queries.path().display(), queries.spec().describe()),
        found: database.spec().describe(),
    })
}
