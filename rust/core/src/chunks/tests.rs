//! Any geometry, any filters, read whole and as streams, against the matrix the chunks were cut from.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

/// How the chunks of a file are stored.
#[derive(Debug, Clone, Copy)]
struct How {
    filters: Filters,
    level: u32,
    /// Every chunk whose number is a multiple was never written.
    missing: usize,
}

fn stored(raw: &[u8], item: usize, how: How) -> Vec<u8> {
    let mut bytes = raw.to_vec();
    if how.filters.shuffle {
        let elements = raw.len() / item;
        for (index, byte) in raw.iter().enumerate() {
            bytes[index % item * elements + index / item] = *byte;
        }
    }
    if how.filters.deflate {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(how.level));
        encoder.write_all(&bytes).unwrap();
        bytes = encoder.finish().unwrap();
    }
    bytes
}

/// Writes a matrix as chunks, and returns the grid and the matrix with the fill value where nothing was written.
fn make(shape: Shape, how: How, seed: u64) -> (NamedTempFile, Vec<Stored>, Vec<u8>) {
    let mut state = seed | 1;
    let mut matrix: Vec<u8> = (0..shape.rows * shape.row_bytes())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 60) as u8
        })
        .collect();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"before").unwrap();
    let mut offset = 6;
    let mut chunks = Vec::new();
    for strip in 0..shape.strips() {
        for number in 0..shape.across() {
            let mut raw = vec![0xEE; shape.chunk_bytes()];
            let missing = how.missing > 0 && chunks.len() % how.missing == 0;
            for inside in 0..shape.chunk_rows.min(shape.rows - strip * shape.chunk_rows) {
                let row = strip * shape.chunk_rows + inside;
                let from = row * shape.row_bytes() + number * shape.chunk_columns * shape.item;
                let line = &mut matrix[from..from + shape.width(number)];
                if missing {
                    line.fill(7);
                }
                let to = inside * shape.chunk_columns * shape.item;
                raw[to..to + line.len()].copy_from_slice(line);
            }
            if missing {
                chunks.push(Stored { offset: 0, size: 0, filters: how.filters });
                continue;
            }
            let bytes = stored(&raw, shape.item, how);
            file.write_all(&bytes).unwrap();
            chunks.push(Stored { offset, size: bytes.len() as u64, filters: how.filters });
            offset += bytes.len() as u64;
        }
    }
    file.flush().unwrap();
    (file, chunks, matrix)
}

fn shapes() -> impl Strategy<Value = Shape> {
    (0..60_usize, 1..20_usize, 1..5_usize, 1..70_usize, 1..25_usize).prop_map(
        |(rows, columns, item, chunk_rows, chunk_columns)| Shape {
            rows,
            columns,
            item,
            chunk_rows,
            chunk_columns,
        },
    )
}

fn ways() -> impl Strategy<Value = How> {
    (any::<bool>(), any::<bool>(), 0..10_u32, 0..4_usize).prop_map(|(deflate, shuffle, level, missing)| How {
        filters: Filters { deflate, shuffle },
        level,
        missing,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_row_is_read(shape in shapes(), how in ways(), seed: u64, step in 1..30_usize, skipped in 0..10_usize) {
        let (file, chunks, matrix) = make(shape, how, seed);
        let grid = Grid::open(file.path(), shape, chunks, &vec![7; shape.item]).unwrap();
        let control = Control::new();
        for tall in [false, true] {
            let mut start = 0;
            while start < shape.rows {
                let end = (start + step).min(shape.rows);
                let mut out = vec![0; (end - start) * shape.row_bytes()];
                if tall {
                    grid.read_tall(start..end, &mut out, &control).unwrap();
                } else {
                    grid.read_whole(start..end, &mut out, &control).unwrap();
                }
                prop_assert_eq!(&out, &matrix[start * shape.row_bytes()..end * shape.row_bytes()]);
                // Streams may skip ahead, and start again for rows behind them.
                start = end + skipped;
            }
        }
    }

    #[test]
    fn damage_is_an_error_or_other_bytes(
        shape in shapes(), how in ways(), seed: u64,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..255_u8), 1..4),
        cut: prop::sample::Index,
    ) {
        let (file, chunks, _) = make(shape, how, seed);
        let good = std::fs::read(file.path()).unwrap();
        let mut bad = good.clone();
        for (place, flip) in flips {
            let place = place.index(bad.len());
            bad[place] ^= flip;
        }
        let fill = vec![0; shape.item];
        for content in [&bad, &good[..cut.index(good.len())].to_vec()] {
            std::fs::write(file.path(), content).unwrap();
            let Ok(grid) = Grid::open(file.path(), shape, chunks.clone(), &fill) else { continue };
            let mut out = vec![0; shape.rows * shape.row_bytes()];
            for result in [
                grid.read_whole(0..shape.rows, &mut out, &Control::new()),
                grid.read_tall(0..shape.rows, &mut out, &Control::new()),
            ] {
                let typed = matches!(result, Ok(()) | Err(Error::Format { .. } | Error::Io { .. }));
                prop_assert!(typed, "{:?}", result);
            }
        }
    }
}

fn small() -> Shape {
    Shape { rows: 10, columns: 4, item: 2, chunk_rows: 5, chunk_columns: 4 }
}

const PLAIN: How = How { filters: Filters { deflate: true, shuffle: false }, level: 4, missing: 0 };

#[test]
fn what_does_not_fit_is_refused() {
    let (file, chunks, _) = make(small(), PLAIN, 1);
    let open = |shape, chunks, fill: &[u8]| Grid::open(file.path(), shape, chunks, fill);
    assert!(matches!(open(small(), chunks[1..].to_vec(), &[0; 2]), Err(Error::Shape { .. })));
    assert!(matches!(open(small(), chunks.clone(), &[0; 3]), Err(Error::Shape { .. })));
    for side in [0, usize::MAX] {
        let shape = Shape { chunk_rows: side, ..small() };
        assert!(matches!(open(shape, chunks.clone(), &[0; 2]), Err(Error::Shape { .. })), "{side}");
    }
    for (offset, size) in [(1 << 40, 8), (u64::MAX, 8), (0, u64::MAX), (0, 1 << 30)] {
        let beyond = vec![Stored { offset, size, ..chunks[0] }; 2];
        assert!(matches!(open(small(), beyond, &[0; 2]), Err(Error::Format { .. })), "{offset} {size}");
    }
    let grid = open(small(), chunks, &[0; 2]).unwrap();
    let mut out = vec![0; 80];
    assert!(matches!(grid.read(1..11, &mut out, &Control::new()), Err(Error::Shape { .. })));
    assert!(matches!(grid.read(0..9, &mut out, &Control::new()), Err(Error::Shape { .. })));
    assert_eq!((grid.block_rows(1), grid.block_rows(80), grid.block_rows(1 << 20)), (5, 10, 131_070));
}

#[test]
fn a_chunk_that_inflates_to_more_or_less_is_damage() {
    for rows in [4, 6] {
        let other = Shape { rows, chunk_rows: rows, ..small() };
        let (file, chunks, _) = make(other, PLAIN, 1);
        let shape = Shape { rows: 5, ..small() };
        let grid = Grid::open(file.path(), shape, chunks, &[0; 2]).unwrap();
        let mut out = vec![0; 5 * 8];
        let whole = grid.read(0..5, &mut out, &Control::new());
        assert!(matches!(whole, Err(Error::Format { .. })), "{whole:?}");
    }
}

#[test]
fn reading_stops_when_asked_to() {
    let (file, chunks, _) = make(small(), PLAIN, 1);
    let grid = Grid::open(file.path(), small(), chunks, &[0; 2]).unwrap();
    let control = Control::new();
    control.interrupt();
    let mut out = vec![0; 80];
    assert!(matches!(grid.read_whole(0..10, &mut out, &control), Err(Error::Interrupted)));
    assert!(matches!(grid.read_tall(0..10, &mut out, &control), Err(Error::Interrupted)));
}

#[test]
fn chunks_far_wider_than_the_rows_are_refused() {
    let shape = |chunk_columns| Shape { rows: 10, columns: 4, item: 4, chunk_rows: 1, chunk_columns };
    assert!(shape(4).check().is_ok() && shape(64).check().is_ok());
    let message = shape(1 << 30).check().unwrap_err().to_string();
    assert!(message.contains("as wide as the rows"), "{message}");
}
