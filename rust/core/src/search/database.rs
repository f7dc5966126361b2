//! Matrices, and sequences of shards seen as one database.

use std::ops::Range;

use super::planes::Planes;
use crate::error::{Error, Result};
use crate::kernels::dot_i8;
use crate::store::advice::{Backing, at_random, is_resident, will_need};
use crate::store::ahead::ReadAhead;

/// Rows looked at to tell whether a database is in memory.
const PROBES: usize = 256;

/// A row-major matrix. The number of rows is given, as rows may be empty.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    rows: usize,
    columns: usize,
    values: &'a [T],
}

impl<'a, T> Matrix<'a, T> {
    /// `rows * columns` values; `what` names the matrix in the error if there are more or fewer.
    pub fn new(what: &str, rows: usize, columns: usize, values: &'a [T]) -> Result<Self> {
        if rows.checked_mul(columns) == Some(values.len()) {
            Ok(Self { rows, columns, values })
        } else {
            let expected = format!("{rows} rows of {columns}");
            Err(Error::shape(what, expected, format!("{} values", values.len())))
        }
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Consecutive rows.
    pub fn slice(&self, rows: Range<usize>) -> &'a [T] {
        &self.values[rows.start * self.columns..rows.end * self.columns]
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [T] {
        self.slice(row..row + 1)
    }
}

/// Shards, in order, numbered as one sequence of rows, of which some may be left out.
#[derive(Debug)]
pub struct Database<'a, T> {
    shards: Vec<Matrix<'a, T>>,
    /// First row of each shard, and at the end the number of rows.
    starts: Vec<usize>,
    columns: usize,
    selected: Option<&'a [bool]>,
    searched: usize,
    /// The int8 planes of each shard, as far as there are some.
    planes: Vec<Option<Planes<'a>>>,
    /// What was subtracted from rows before they were quantised; and which of them, for each shard.
    centres: Vec<&'a [f32]>,
    centre_of: Vec<usize>,
    /// The files that the rows and the planes of each shard are mapped from, as far as that is known.
    backings: Vec<[Option<Backing<'a>>; 2]>,
}

impl<'a, T> Database<'a, T> {
    /// Shards that all have `columns` columns; only the rows where `selected` is true are searched.
    pub fn new(columns: usize, shards: Vec<Matrix<'a, T>>, selected: Option<&'a [bool]>) -> Result<Self> {
        let mut starts = vec![0];
        for (number, shard) in shards.iter().enumerate() {
            if shard.columns != columns {
                return Err(Error::shape(
                    format!("database, shard {number}"),
                    format!("{columns} columns, as the queries have"),
                    format!("{} columns", shard.columns),
                ));
            }
            starts.push(starts[number] + shard.rows);
        }
        let rows = starts[shards.len()];
        if let Some(selected) = selected.filter(|selected| selected.len() != rows) {
            let expected = format!("one value for each of the {rows} database rows");
            return Err(Error::shape("selected", expected, format!("{} values", selected.len())));
        }
        let searched = selected.map_or(rows, |selected| selected.iter().filter(|&&kept| kept).count());
        let (planes, backings) = (vec![None; shards.len()], vec![[None; 2]; shards.len()]);
        let (centres, centre_of) = (Vec::new(), vec![0; shards.len()]);
        Ok(Self { shards, starts, columns, selected, searched, planes, centres, centre_of, backings })
    }

    /// Adds the int8 planes of a shard; it is then screened without a look at its vectors.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not of so many rows and columns.
    pub fn attach(&mut self, shard: usize, planes: Planes<'a>) -> Result<()> {
        let rows = self.shards[shard].rows;
        if (planes.rows(), planes.columns()) != (rows, self.columns) {
            return Err(Error::shape(
                format!("planes of shard {shard}"),
                format!("{rows} rows of {} columns, as the vectors", self.columns),
                format!("{} rows of {}", planes.rows(), planes.columns()),
            ));
        }
        let centre = planes.centre();
        // Runs of one shard have the very same one, shards of one store mostly an equal one.
        let known = self.centres.iter().rposition(|known| std::ptr::eq(*known, centre) || *known == centre);
        self.centre_of[shard] = known.unwrap_or(self.centres.len());
        if known.is_none() {
            self.centres.push(centre);
        }
        self.planes[shard] = Some(planes);
        Ok(())
    }

    /// The centres that rows with planes were quantised around.
    pub fn centres(&self) -> &[&'a [f32]] {
        &self.centres
    }

    /// Which of the centres the planes of the shard have in which a row is, if it has some.
    pub fn centre_of(&self, row: usize) -> Option<usize> {
        let shard = self.shard(row);
        self.planes[shard].is_some().then(|| self.centre_of[shard])
    }

    /// About `wanted` of the searched rows, in order, `together` side by side: some of each part of the database, always the same,
    /// but in no rhythm, since rows may have one.
    pub fn evenly(&self, wanted: usize, together: usize) -> Vec<usize> {
        let period = (self.searched / wanted.max(1)).max(1) * together;
        let (mut position, mut rows) = (0, Vec::new());
        self.runs(0..self.rows(), |first, count, _| {
            let end = position + count;
            for part in position / period..end.div_ceil(period) {
                let start = part * period + scattered(part) % (period - together + 1);
                let side_by_side = start.max(position)..(start + together).min(end);
                rows.extend(side_by_side.map(|at| first + at - position));
            }
            position = end;
        });
        rows
    }

    /// Says which files the rows and the planes of a shard are mapped from.
    pub fn back(&mut self, shard: usize, rows: Option<Backing<'a>>, planes: Option<Backing<'a>>) {
        self.backings[shard] = [rows, planes];
    }

    /// Whether rows are mapped from files.
    pub fn is_backed(&self) -> bool {
        self.backings.iter().any(|[rows, _]| rows.is_some())
    }

    /// Whether every shard has int8 planes.
    pub fn has_planes(&self) -> bool {
        self.planes.iter().all(Option::is_some)
    }

    /// The int8 planes of a run of rows within one shard, if there are some.
    pub fn quantised(&self, first: usize, count: usize) -> Option<dot_i8::Rows<'a>> {
        let shard = self.shard(first);
        let at = first - self.starts[shard];
        self.planes[shard].as_ref().map(|planes| planes.as_rows().slice(at..at + count))
    }

    /// Whether some of the rows are on disk and not in memory, by a sample of them. A percent is enough: where memory lacks
    /// just that, what is read next is what was taken back last.
    pub fn is_cold(&self) -> bool {
        let rows = self.rows();
        if rows == 0 || self.columns == 0 {
            return false;
        }
        let row = |probe| self.row((rows as u128 * probe as u128 / PROBES as u128) as usize);
        let missing = (0..PROBES).filter(|&probe| !is_resident(row(probe)));
        missing.count() > PROBES / 128
    }

    /// Starts to read a row from disk, or with `coarse` its planes if there are some; returns at once.
    pub fn will_need(&self, row: usize, coarse: bool) {
        match self.quantised(row, 1).filter(|_| coarse) {
            Some(planes) => will_need(&planes.codes[..planes.stride]),
            None => will_need(self.row(row)),
        }
    }

    /// Reads rows from disk, or with `coarse` their planes where there are some.
    pub fn read_ahead(&self, rows: Range<usize>, coarse: bool, reader: &mut ReadAhead<'a>) {
        self.runs(rows, |first, count, values| {
            let [rows, backing] = self.backings[self.shard(first)];
            match self.quantised(first, count).filter(|_| coarse) {
                Some(planes) => reader.read(backing, &planes.codes[..count * planes.stride]),
                None => reader.read(rows, values),
            }
        });
    }

    /// Says that rows, and their planes, were searched and will not be read again soon.
    pub fn release(&self, rows: Range<usize>) {
        self.runs(rows, |first, count, values| {
            let [rows, planes] = self.backings[self.shard(first)];
            if let Some(backing) = rows {
                backing.release(values);
            }
            if let Some((backing, planes)) = planes.zip(self.quantised(first, count)) {
                backing.release(&planes.codes[..count * planes.stride]);
            }
        });
    }

    /// Says whether vectors are read here and there, or in order.
    pub fn read_at_random(&self, random: bool) {
        self.shards.iter().for_each(|shard| at_random(shard.values, random));
    }

    /// The shard of a row.
    fn shard(&self, row: usize) -> usize {
        self.starts.partition_point(|&start| start <= row) - 1
    }

    /// Number of rows, selected or not.
    pub fn rows(&self) -> usize {
        self.starts[self.shards.len()]
    }

    /// Number of columns.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Number of selected rows.
    pub const fn searched(&self) -> usize {
        self.searched
    }

    /// One row of the sequence.
    pub fn row(&self, row: usize) -> &'a [T] {
        let shard = self.shard(row);
        self.shards[shard].row(row - self.starts[shard])
    }

    /// A way to look up rows that are mostly of the same shard as `row`.
    pub fn near(&self, row: usize) -> Near<'_, 'a, T> {
        let shard = self.shard(row);
        Near { database: self, first: self.starts[shard], shard: &self.shards[shard] }
    }

    /// Calls `visit(first row, number of rows, values)` for each maximal run of selected rows within one shard.
    pub fn runs(&self, rows: Range<usize>, mut visit: impl FnMut(usize, usize, &'a [T])) {
        let first = self.starts.partition_point(|&start| start <= rows.start).saturating_sub(1);
        for (shard, &start) in self.shards.iter().zip(&self.starts).skip(first) {
            if start >= rows.end {
                break;
            }
            let (mut at, end) = (rows.start.max(start), rows.end.min(start + shard.rows));
            while at < end {
                let run = match self.selected {
                    None => end - at,
                    Some(selected) => {
                        at += selected[at..end].iter().take_while(|&&kept| !kept).count();
                        selected[at..end].iter().take_while(|&&kept| kept).count()
                    }
                };
                if run > 0 {
                    visit(at, run, shard.slice(at - start..at - start + run));
                }
                at += run;
            }
        }
    }

    /// Cuts the rows into chunks with at most `size` selected rows each.
    pub fn chunks(&self, size: usize) -> Chunks {
        let Some(selected) = self.selected else { return Chunks::Even { rows: self.rows(), size } };
        let (mut cuts, mut kept) = (vec![0], 0);
        for (row, _) in selected.iter().enumerate().filter(|(_, kept)| **kept) {
            if kept == size {
                cuts.push(row);
                kept = 0;
            }
            kept += 1;
        }
        cuts.push(selected.len());
        Chunks::Cut(cuts)
    }
}

/// A number that looks random, always the same for a number (the finish of splitmix64).
const fn scattered(number: usize) -> usize {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 32) as usize
}

/// Rows, those of one shard without a look for their shard.
#[derive(Debug)]
pub struct Near<'d, 'a, T> {
    database: &'d Database<'a, T>,
    first: usize,
    shard: &'d Matrix<'a, T>,
}

impl<'a, T> Near<'_, 'a, T> {
    /// One row of the sequence.
    pub fn row(&self, row: usize) -> &'a [T] {
        let at = row.wrapping_sub(self.first);
        if at < self.shard.rows { self.shard.row(at) } else { self.database.row(row) }
    }
}

/// Consecutive ranges of rows.
#[derive(Debug)]
pub enum Chunks {
    /// All of one size, but the last.
    Even {
        /// Number of rows.
        rows: usize,
        /// Rows in a chunk.
        size: usize,
    },
    /// Between these rows.
    Cut(Vec<usize>),
}

impl Chunks {
    /// Number of chunks.
    pub const fn len(&self) -> usize {
        match self {
            Self::Even { rows, size } => rows.div_ceil(*size),
            Self::Cut(cuts) => cuts.len() - 1,
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of one chunk.
    pub fn get(&self, chunk: usize) -> Range<usize> {
        match self {
            Self::Even { rows, size } => chunk * size..(chunk * size + size).min(*rows),
            Self::Cut(cuts) => cuts[chunk]..cuts[chunk + 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_evenly_and_in_no_rhythm() {
        let values = vec![0_u8; 40_000];
        let shards = [0..7, 7..7, 7..20_000, 20_000..40_000]
            .map(|rows: Range<usize>| Matrix::new("shard", rows.len(), 1, &values[rows]).unwrap());
        let selected: Vec<bool> = (0..40_000).map(|row| row % 4 != 2).collect();
        for (together, selected) in
            [(1, None), (16, None), (1, Some(&selected[..])), (16, Some(&selected[..]))]
        {
            let database = Database::new(1, shards.to_vec(), selected).unwrap();
            let rows = database.evenly(2000, together);
            assert!(
                rows.is_sorted_by(|one, next| one < next) && rows.len().abs_diff(2000) < 30,
                "{}",
                rows.len()
            );
            assert!(rows.iter().all(|&row| selected.is_none_or(|selected| selected[row])));
            for tenth in 0..10 {
                let inside = rows.iter().filter(|&row| row / 4000 == tenth).count();
                assert!(inside.abs_diff(200) <= 2 * together, "{inside}");
            }
            for rest in 0..4 {
                let share = rows.iter().filter(|&row| row % 4 == rest).count();
                let expected = if selected.is_none() { 500 } else { 667 };
                assert!(share.abs_diff(expected) < 70 || selected.is_some() && rest == 2 && share == 0);
            }
        }
        assert_eq!(
            Database::new(1, vec![shards[0]], None).unwrap().evenly(2000, 16),
            (0..7).collect::<Vec<_>>()
        );
    }

    #[test]
    fn runs_cover_the_selected_rows_in_order() {
        let values: Vec<u8> = (0..20).collect();
        let shards = [0..3, 3..3, 3..10].map(|rows: Range<usize>| {
            Matrix::new("shard", rows.len(), 2, &values[rows.start * 2..rows.end * 2]).unwrap()
        });
        let selected = [true, false, true, true, true, false, false, true, true, true];
        let database = Database::new(2, shards.to_vec(), Some(&selected)).unwrap();
        assert_eq!((database.rows(), database.searched()), (10, 7));
        for size in 1..8 {
            let (mut seen, chunks) = (Vec::new(), database.chunks(size));
            for chunk in 0..chunks.len() {
                let before = seen.len();
                database.runs(chunks.get(chunk), |first, count, values| {
                    assert_eq!(values.len(), count * 2);
                    for row in first..first + count {
                        assert_eq!(values[(row - first) * 2] as usize, row * 2);
                        assert_eq!(database.row(row)[0] as usize, row * 2);
                        assert_eq!(database.near(first).row(row), database.row(row));
                        assert_eq!(database.near(9 - first).row(row), database.row(row));
                        seen.push(row);
                    }
                });
                assert!(seen.len() - before <= size);
            }
            assert_eq!(seen, [0, 2, 3, 4, 7, 8, 9]);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        assert!(Matrix::new("m", 2, 3, &[0_u8; 5]).is_err());
        assert!(Matrix::new("m", usize::MAX, 3, &[0_u8; 5]).is_err());
        let shard = Matrix::new("m", 2, 3, &[0_u8; 6]).unwrap();
        assert!(Database::new(4, vec![shard], None).is_err());
        assert!(Database::new(3, vec![shard], Some(&[true])).is_err());
    }
}
