//! Reading files into the system's page cache, ahead of who reads their maps.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::advice::{Backing, send, will_need};

/// Bytes read at once: the system asks the disk for as much in one go as a reader asks for.
const PIECE_BYTES: usize = 4 << 20;

/// Reads what lies behind slices of maps, so that it is in memory when the slices are looked at.
///
/// What is read is thrown away. Yet this is several times faster than advice about the map, which brings pages in one
/// by one, where a reader of a file gets large ones that are cheap to map, and cheap to take back.
#[derive(Debug, Default)]
pub struct ReadAhead<'a> {
    open: Option<(Backing<'a>, File)>,
    sink: Option<Sink>,
}

impl<'a> ReadAhead<'a> {
    /// Brings the values into memory, as far as there is some; without a backing the system is asked to.
    pub fn read<T>(&mut self, backing: Option<Backing<'a>>, values: &[T]) {
        let place = backing.and_then(|backing| Some((backing, backing.place(values)?)));
        let Some((backing, place)) = place else {
            will_need(values);
            return;
        };
        if self.open.as_ref().is_none_or(|(open, _)| !open.is(backing)) {
            // The file may be gone, or another by now: its map is not, and is read without help.
            self.open = File::open(backing.path()).ok().map(|file| (backing, file));
        }
        let Some((_, file)) = &self.open else { return };
        let sink = self.sink.get_or_insert_with(Sink::new);
        let mut at = place.start;
        while at < place.end {
            match sink.take(file, at as u64, (place.end - at).min(PIECE_BYTES)) {
                Ok(0) | Err(_) => break,
                Ok(read) => at += read,
            }
        }
    }
}

/// Where bytes go that nobody wants.
#[derive(Debug)]
enum Sink {
    /// The null device, to which a file's pages go without a copy.
    Null(File),
    Buffer(Vec<u8>),
}

impl Sink {
    fn new() -> Self {
        let null = File::options().write(true).open("/dev/null").ok().filter(|_| cfg!(target_os = "linux"));
        null.map_or_else(|| Self::Buffer(vec![0; PIECE_BYTES]), Self::Null)
    }

    /// Reads up to so many bytes; how many it has read.
    fn take(&mut self, file: &File, at: u64, bytes: usize) -> io::Result<usize> {
        if let Self::Null(null) = self {
            match send(file, at, bytes, null) {
                Ok(sent) => return Ok(sent),
                Err(_) => *self = Self::Buffer(vec![0; PIECE_BYTES]),
            }
        }
        match self {
            Self::Null(_) => Ok(0),
            Self::Buffer(buffer) => {
                let mut file = file;
                file.seek(SeekFrom::Start(at))?;
                file.read(&mut buffer[..bytes])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mmap::Map;
    use super::*;

    #[test]
    fn values_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (map, other) = (Map::open(&path).unwrap(), vec![7_u8; 10_000]);
        let mut ahead = ReadAhead::default();
        for (gone, sink) in [(false, None), (false, Some(Sink::Buffer(vec![0; PIECE_BYTES]))), (true, None)] {
            ahead.sink = sink;
            if gone {
                std::fs::remove_file(&path).unwrap();
                ahead = ReadAhead::default();
            }
            for range in [0..3_000_000, 5..4_097, 2_999_999..3_000_000, 8..8] {
                let values = &map.bytes()[range.clone()];
                ahead.read(Some(Backing(&map)), values);
                Backing(&map).release(values);
                assert_eq!(values, &content[range]);
            }
            // What lies elsewhere is left alone.
            ahead.read(Some(Backing(&map)), &other);
            ahead.read(None, &other);
            Backing(&map).release(&other);
            assert_eq!(other, [7_u8; 10_000]);
        }
    }
}
