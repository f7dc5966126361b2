//! A chunk read as a stream: for chunks too tall to be held in memory.

use std::fs::File;
use std::io;
use std::path::Path;

use flate2::{Decompress, FlushDecompress};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::positioned::Positioned;

use super::Stored;

/// Bytes read from the file at a time.
const INPUT: usize = 64 << 10;
/// Bytes skipped at a time.
const SKIP: usize = 64 << 10;

/// A position in the bytes of one chunk before it was compressed.
#[derive(Debug)]
pub struct Cursor {
    chunk: Stored,
    /// Present once a compressed chunk is read.
    inflate: Option<Box<Decompress>>,
    input: Vec<u8>,
    /// How much of `input` is used up.
    used: usize,
    /// How much of the stored chunk was read.
    read: u64,
    /// Bytes before the first one wanted, of a chunk that is opened in the middle.
    start: u64,
    /// Bytes of the chunk passed so far.
    position: u64,
}

/// Which rows of a chunk to read, and its geometry.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Rows to skip.
    pub skip: usize,
    /// Rows to read.
    pub height: usize,
    /// Bytes of a row of the chunk.
    pub stride: usize,
    /// Bytes of an element.
    pub item: usize,
}

impl Cursor {
    /// A cursor at byte `start` of a chunk.
    pub const fn new(chunk: Stored, start: u64) -> Self {
        Self { chunk, inflate: None, input: Vec::new(), used: 0, read: 0, start, position: 0 }
    }

    /// The chunk.
    pub const fn chunk(&self) -> &Stored {
        &self.chunk
    }

    /// Fills `out` with the next bytes; false if the chunk is damaged or too short.
    fn fill(&mut self, file: &File, out: &mut [u8], control: &Control) -> io::Result<Option<bool>> {
        if !self.chunk.filters.deflate {
            file.read_exact_at(out, self.chunk.offset + self.position)?;
            self.position += out.len() as u64;
            return Ok(Some(true));
        }
        let inflate = self.inflate.get_or_insert_with(|| Box::new(Decompress::new(true)));
        let mut filled = 0;
        while filled < out.len() {
            if control.advance(0).is_err() {
                return Ok(None);
            }
            if self.used == self.input.len() {
                let more = (self.chunk.size - self.read).min(INPUT as u64) as usize;
                self.input.resize(more, 0);
                file.read_exact_at(&mut self.input, self.chunk.offset + self.read)?;
                self.read += more as u64;
                self.used = 0;
            }
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            if inflate
                .decompress(&self.input[self.used..], &mut out[filled..], FlushDecompress::None)
                .is_err()
            {
                return Ok(Some(false));
            }
            let taken = (inflate.total_in() - before_in) as usize;
            let given = (inflate.total_out() - before_out) as usize;
            self.used += taken;
            filled += given;
            if taken == 0 && given == 0 {
                return Ok(Some(false));
            }
        }
        self.position += out.len() as u64;
        Ok(Some(true))
    }

    fn skip(&mut self, file: &File, bytes: u64, control: &Control) -> io::Result<Option<bool>> {
        if !self.chunk.filters.deflate {
            self.position += bytes;
            return Ok(Some(true));
        }
        let mut thrown_away = vec![0; SKIP.min(bytes as usize)];
        let mut left = bytes;
        while left > 0 {
            let step = left.min(SKIP as u64) as usize;
            match self.fill(file, &mut thrown_away[..step], control)? {
                Some(true) => left -= step as u64,
                other => return Ok(other),
            }
        }
        Ok(Some(true))
    }

    /// Skips to the first byte wanted, then `skip` bytes more, and fills `out`.
    fn next(
        &mut self,
        (file, path): (&File, &Path),
        skip: u64,
        out: &mut [u8],
        control: &Control,
    ) -> Result<bool> {
        let ahead = std::mem::take(&mut self.start) + skip;
        let outcome = match self.skip(file, ahead, control) {
            Ok(Some(true)) => self.fill(file, out, control),
            other => other,
        };
        match outcome {
            Ok(Some(whole)) => Ok(whole),
            Ok(None) => Err(Error::Interrupted),
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(cause) => Err(Error::io(path, "read")(cause)),
        }
    }
}

/// Reads the next rows of a chunk through its cursors: one, or one for each byte of an element.
///
/// `file` is the open file, and its name for errors. Returns false if the chunk is damaged.
pub fn read(
    cursors: &mut [Cursor],
    piece: &Piece,
    file: (&File, &Path),
    fill: &[u8],
    out: &mut [u8],
    control: &Control,
) -> Result<bool> {
    let Piece { skip, height, stride, item } = *piece;
    let chunk = cursors[0].chunk;
    if chunk.size == 0 {
        out.chunks_exact_mut(fill.len()).for_each(|element| element.copy_from_slice(fill));
        return Ok(true);
    }
    if !chunk.filters.shuffle {
        return cursors[0].next(file, (skip * stride) as u64, out, control);
    }
    let mut bytes = vec![0; height * stride / item];
    for (plane, cursor) in cursors.iter_mut().enumerate() {
        if !cursor.next(file, (skip * stride / item) as u64, &mut bytes, control)? {
            return Ok(false);
        }
        for (element, byte) in out.chunks_exact_mut(item).zip(&bytes) {
            element[plane] = *byte;
        }
    }
    Ok(true)
}
