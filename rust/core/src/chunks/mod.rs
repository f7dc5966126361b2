//! Matrices cut into compressed chunks, as HDF5 stores them, read in blocks of rows by many threads.
//!
//! A chunk covers some rows and some columns; chunks of the same rows form a strip. The caller (who can read the
//! file's index) says where each chunk lies; here they are read, inflated, unshuffled and put in row order,
//! without the library's global lock. Strips that fit [`Grid::whole_strips`] are decoded whole; of taller
//! ones, every chunk is inflated as a stream, so that memory stays bounded whatever the chunks' shape.

mod cursor;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};
use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::positioned::Positioned;

use cursor::Cursor;

/// Strips up to this many bytes are decoded whole.
const STRIP_BYTES: usize = 64 << 20;
/// Small strips are decoded together, up to about this many bytes, so that every thread has work.
const GROUP_BYTES: usize = 16 << 20;
/// Rows that one task puts in order.
const SLAB: usize = 64;
/// Streams that may be open at a time when strips are too tall to be decoded whole.
const MOST_STREAMS: usize = 4096;

/// What was done to a chunk before it was stored: deflated (zlib), shuffled (bytes of equal significance together).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters {
    /// Whether the chunk is a zlib stream.
    pub deflate: bool,
    /// Whether the bytes of its elements were separated first.
    pub shuffle: bool,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Its first byte in the file.
    pub offset: u64,
    /// Its bytes in the file; 0 if it was never written and holds the fill value.
    pub size: u64,
    /// What was done to it.
    pub filters: Filters,
}

/// The shape of a chunked matrix.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// Bytes of an element.
    pub item: usize,
    /// Rows of a chunk; the last one may reach beyond the matrix.
    pub chunk_rows: usize,
    /// Columns of a chunk; the last one may reach beyond the matrix.
    pub chunk_columns: usize,
}

impl Shape {
    const fn row_bytes(&self) -> usize {
        self.columns * self.item
    }

    const fn chunk_bytes(&self) -> usize {
        self.chunk_rows * self.chunk_columns * self.item
    }

    const fn strips(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Chunks of a strip.
    const fn across(&self) -> usize {
        self.columns.div_ceil(self.chunk_columns)
    }

    /// Bytes of row that chunk `number` of a strip holds.
    fn width(&self, number: usize) -> usize {
        (self.columns - number * self.chunk_columns).min(self.chunk_columns) * self.item
    }

    fn check(&self) -> Result<()> {
        let sides = [self.rows, self.columns, self.item, self.chunk_rows, self.chunk_columns];
        let fits = sides[1..].iter().all(|side| *side > 0)
            && sides.iter().try_fold(1_usize, |product, side| product.checked_mul((*side).max(1))).is_some()
            && self.rows.checked_add(self.chunk_rows).is_some()
            && self.across().checked_mul(self.chunk_bytes()).is_some();
        if !fits {
            return Err(Error::shape("chunks", "a matrix that memory can address", format!("{self:?}")));
        }
        // Rows are decoded with what the chunks hold beside them.
        if self.across() * self.chunk_columns * self.item > 2 * self.row_bytes() + STRIP_BYTES {
            return Err(Error::shape(
                "chunks",
                "chunks about as wide as the rows, or less",
                format!("{self:?}"),
            ));
        }
        Ok(())
    }
}

/// An open file with a chunked matrix in it.
#[derive(Debug)]
pub struct Grid {
    path: PathBuf,
    file: File,
    shape: Shape,
    chunks: Vec<Stored>,
    fill: Vec<u8>,
    tall: Mutex<Option<Tall>>,
}

/// The streams of one strip, all at the same row.
#[derive(Debug)]
struct Tall {
    strip: usize,
    row: usize,
    cursors: Vec<Cursor>,
}

impl Grid {
    /// Opens `path`, in which the chunks lie as said, in row-major order of the grid.
    ///
    /// `fill` is the element of chunks that were never written.
    pub fn open(path: &Path, shape: Shape, chunks: Vec<Stored>, fill: &[u8]) -> Result<Self> {
        shape.check()?;
        let expected = shape.strips() * shape.across();
        if chunks.len() != expected || fill.len() != shape.item {
            let found = format!("{} and a fill value of {} bytes", chunks.len(), fill.len());
            return Err(Error::shape(
                "chunks",
                format!("{expected} and a fill value of {} bytes", shape.item),
                found,
            ));
        }
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let length = file.metadata().map_err(Error::io(path, "read"))?.len();
        // Deflate expands by less than a thousandth; HDF5 stores a chunk raw rather than longer.
        let most = shape.chunk_bytes() as u64 + shape.chunk_bytes() as u64 / 64 + 4096;
        for (number, chunk) in chunks.iter().enumerate() {
            let raw = !chunk.filters.deflate && chunk.size != 0;
            if chunk.offset.checked_add(chunk.size).is_none_or(|end| end > length)
                || chunk.size > most
                || (raw && chunk.size != shape.chunk_bytes() as u64)
            {
                let detail = format!("chunk {number} at {chunk:?} does not fit the file of {length} bytes");
                return Err(Error::Format { detail });
            }
        }
        Ok(Self { path: path.to_owned(), file, shape, chunks, fill: fill.to_vec(), tall: Mutex::new(None) })
    }

    /// Rows that are best read at a time, about `bytes` bytes: whole strips if they are decoded whole.
    pub fn block_rows(&self, bytes: usize) -> usize {
        let rows = (bytes / self.shape.row_bytes()).max(1);
        if self.whole_strips() {
            return (rows / self.shape.chunk_rows).max(1) * self.shape.chunk_rows;
        }
        rows
    }

    /// Whether strips are decoded whole.
    pub fn whole_strips(&self) -> bool {
        self.shape.across() * self.shape.chunk_bytes() <= STRIP_BYTES
    }

    /// Reads rows into `out`, row by row, on the threads of the current pool.
    ///
    /// Fastest with blocks of [`Self::block_rows`] rows in order.
    pub fn read(&self, rows: Range<usize>, out: &mut [u8], control: &Control) -> Result<()> {
        if rows.end > self.shape.rows || rows.len() * self.shape.row_bytes() != out.len() {
            let expected = format!("rows within {} and as many bytes", self.shape.rows);
            return Err(Error::shape("out", expected, format!("{rows:?} and {} bytes", out.len())));
        }
        if self.whole_strips() {
            self.read_whole(rows, out, control)
        } else {
            self.read_tall(rows, out, control)
        }
    }

    fn read_whole(&self, rows: Range<usize>, out: &mut [u8], control: &Control) -> Result<()> {
        let shape = &self.shape;
        let (across, chunk_bytes) = (shape.across(), shape.chunk_bytes());
        let group = (GROUP_BYTES / (across * chunk_bytes)).max(1) * shape.chunk_rows;
        let mut decoded = Vec::new();
        let mut start = rows.start;
        while start < rows.end {
            let first = start / shape.chunk_rows;
            let end = (first * shape.chunk_rows + group).min(rows.end);
            let last = end.div_ceil(shape.chunk_rows);
            decoded.resize((last - first) * across * chunk_bytes, 0);
            decoded
                .par_chunks_mut(chunk_bytes)
                .zip(&self.chunks[first * across..last * across])
                .try_for_each_init(Decoder::default, |decoder, (raw, chunk)| {
                    control.advance(0)?;
                    self.decode(chunk, raw, decoder)
                })?;
            let done =
                &mut out[(start - rows.start) * shape.row_bytes()..(end - rows.start) * shape.row_bytes()];
            done.par_chunks_mut(SLAB * shape.row_bytes()).enumerate().for_each(|(slab, into)| {
                let row = start + slab * SLAB;
                self.put_in_order(&decoded, first * shape.chunk_rows, shape.chunk_rows, row, into);
            });
            control.advance((end - start) as u64)?;
            start = end;
        }
        Ok(())
    }

    /// Gathers the rows from `row` on, as many as `into` holds, from `decoded` chunks of `height` rows each, the
    /// first of which starts at row `top`.
    fn put_in_order(&self, decoded: &[u8], top: usize, height: usize, row: usize, into: &mut [u8]) {
        let shape = &self.shape;
        let stride = shape.chunk_columns * shape.item;
        let across = shape.across();
        for number in 0..across {
            let width = shape.width(number);
            for (index, line) in into.chunks_exact_mut(shape.row_bytes()).enumerate() {
                let (strip, inside) = ((row + index - top) / height, (row + index - top) % height);
                let from = ((strip * across + number) * height + inside) * stride;
                let to = number * stride;
                line[to..to + width].copy_from_slice(&decoded[from..from + width]);
            }
        }
    }

    fn decode(&self, chunk: &Stored, raw: &mut [u8], decoder: &mut Decoder) -> Result<()> {
        if chunk.size == 0 {
            raw.chunks_exact_mut(self.fill.len()).for_each(|element| element.copy_from_slice(&self.fill));
            return Ok(());
        }
        let Decoder { inflate, stored, planes } = decoder;
        let Filters { deflate, shuffle } = chunk.filters;
        let target: &mut [u8] = if shuffle {
            planes.resize(raw.len(), 0);
            planes
        } else {
            &mut *raw
        };
        if deflate {
            stored.resize(chunk.size as usize, 0);
            self.file.read_exact_at(stored, chunk.offset).map_err(Error::io(&self.path, "read"))?;
            inflate.reset(true);
            let status = inflate.decompress(stored, target, FlushDecompress::Finish);
            if !matches!(status, Ok(Status::StreamEnd)) || inflate.total_out() != raw.len() as u64 {
                return Err(self.damaged(chunk));
            }
        } else {
            self.file.read_exact_at(target, chunk.offset).map_err(Error::io(&self.path, "read"))?;
        }
        if shuffle {
            let elements = raw.len() / self.shape.item;
            for (plane, bytes) in planes.chunks_exact(elements).enumerate() {
                for (element, byte) in raw.chunks_exact_mut(self.shape.item).zip(bytes) {
                    element[plane] = *byte;
                }
            }
        }
        Ok(())
    }

    fn damaged(&self, chunk: &Stored) -> Error {
        let detail = format!(
            "expected a chunk of {} bytes, compressed, at byte {}, found damage",
            self.shape.chunk_bytes(),
            chunk.offset
        );
        Error::Format { detail }
    }

    fn read_tall(&self, rows: Range<usize>, out: &mut [u8], control: &Control) -> Result<()> {
        let shape = &self.shape;
        let mut kept = self.tall.lock().unwrap_or_else(PoisonError::into_inner);
        let stride = shape.chunk_columns * shape.item;
        let mut start = rows.start;
        while start < rows.end {
            let strip = start / shape.chunk_rows;
            let top = strip * shape.chunk_rows;
            let end = (top + shape.chunk_rows).min(rows.end);
            let mut tall = match kept.take() {
                Some(tall) if tall.strip == strip && top + tall.row <= start => tall,
                _ => self.streams(strip)?,
            };
            let skip = start - top - tall.row;
            let height = end - start;
            let mut decoded = vec![0; shape.across() * height * stride];
            let planes = tall.cursors.len() / shape.across();
            decoded.par_chunks_mut(height * stride).zip(tall.cursors.par_chunks_mut(planes)).try_for_each(
                |(raw, cursors)| {
                    let piece = cursor::Piece { skip, height, stride, item: shape.item };
                    cursor::read(cursors, &piece, (&self.file, &self.path), &self.fill, raw, control)?
                        .then_some(())
                        .ok_or_else(|| self.damaged(cursors[0].chunk()))
                },
            )?;
            let into =
                &mut out[(start - rows.start) * shape.row_bytes()..(end - rows.start) * shape.row_bytes()];
            into.par_chunks_mut(SLAB * shape.row_bytes()).enumerate().for_each(|(slab, into)| {
                self.put_in_order(&decoded, 0, height, slab * SLAB, into);
            });
            tall.row = end - top;
            *kept = Some(tall);
            control.advance(height as u64)?;
            start = end;
        }
        Ok(())
    }

    /// Opens the streams of a strip at its first row: one a chunk, or one for each byte of an element if shuffled.
    fn streams(&self, strip: usize) -> Result<Tall> {
        let across = self.shape.across();
        let chunks = &self.chunks[strip * across..(strip + 1) * across];
        let planes = if chunks.iter().any(|chunk| chunk.filters.shuffle) { self.shape.item } else { 1 };
        if planes * across > MOST_STREAMS {
            let expected =
                format!("chunks of which {MOST_STREAMS} streams make up the rows, or shorter ones");
            return Err(Error::parameter("chunks", expected, format!("{} streams", planes * across)));
        }
        let elements = self.shape.chunk_rows * self.shape.chunk_columns;
        let cursors = chunks
            .iter()
            .flat_map(|chunk| (0..planes).map(|plane| Cursor::new(*chunk, (plane * elements) as u64)))
            .collect();
        Ok(Tall { strip, row: 0, cursors })
    }
}

/// What one thread decodes with.
#[derive(Debug)]
struct Decoder {
    inflate: Decompress,
    stored: Vec<u8>,
    planes: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompress::new(true), stored: Vec::new(), planes: Vec::new() }
    }
}
