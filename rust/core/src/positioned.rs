//! Reading and writing a file at a position, without moving a cursor that threads would share.

use std::fs::File;
use std::io;

/// What Unix has in its standard library and Windows has in another form.
pub trait Positioned {
    /// Fills the buffer from the bytes at a position on.
    fn read_exact_at(&self, buffer: &mut [u8], start: u64) -> io::Result<()>;
    /// Writes all bytes at a position.
    fn write_all_at(&self, bytes: &[u8], start: u64) -> io::Result<()>;
}

#[cfg(unix)]
impl Positioned for File {
    #[inline]
    fn read_exact_at(&self, buffer: &mut [u8], start: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, start)
    }

    #[inline]
    fn write_all_at(&self, bytes: &[u8], start: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, start)
    }
}

/// `seek_read` and `seek_write` take their position along in the call, so threads do not get in each other's way; that
/// they also move the file's cursor is of no consequence, as nothing else uses it.
#[cfg(windows)]
impl Positioned for File {
    fn read_exact_at(&self, mut buffer: &mut [u8], mut start: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buffer, start) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    start += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all_at(&self, mut bytes: &[u8], mut start: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(self, bytes, start) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    start += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_do_not_depend_on_a_cursor() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"world", 6).unwrap();
        file.write_all_at(b"hello ", 0).unwrap();
        let mut buffer = [0; 5];
        file.read_exact_at(&mut buffer, 6).unwrap();
        assert_eq!(&buffer, b"world");
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"hello");
        file.read_exact_at(&mut [], 99).unwrap();
        assert_eq!(file.read_exact_at(&mut buffer, 7).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
