//! Every level against the table of all distances.

use super::*;

/// Small and fixed, so that failures repeat: splitmix64.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) as u8
        })
        .collect()
}

fn naive(query: &[u8], database: &[u8], bytes: usize) -> Vec<(u16, u32)> {
    query
        .chunks(bytes)
        .map(|q| {
            let mut best = (FAR, NONE);
            for (j, x) in database.chunks(bytes).enumerate() {
                let distance = q.iter().zip(x).map(|(a, b)| (a ^ b).count_ones() as u16).sum();
                if distance < best.0 {
                    best = (distance, j as u32);
                }
            }
            best
        })
        .collect()
}

/// Layouts are built for each level directly: the pin is process-wide and tests run side by side.
fn blocks(codes: &[u8], bytes: usize) -> Vec<QueryBlock> {
    Level::available()
        .into_iter()
        .map(|level| QueryBlock { bytes, len: codes.len() / bytes, layout: Layout::new(codes, bytes, level) })
        .collect()
}

#[test]
fn every_level_agrees_for_every_code_length_and_awkward_counts() {
    let mut scratch = Scratch::default();
    for bytes in 1..=MOST_BYTES {
        for (m, n) in [(0, 3), (1, 1), (7, 2), (9, 40), (33, 0), (70, 17), (130, 5)] {
            let query = random_bytes((bytes * 1000 + m) as u64, m * bytes);
            let database = random_bytes((bytes * 77 + n) as u64, n * bytes);
            let expected = naive(&query, &database, bytes);
            for block in blocks(&query, bytes) {
                block.nearest(&database, &mut scratch, &Control::new()).unwrap();
                let indices = scratch.indices().iter().copied();
                let found: Vec<_> = scratch.distances().iter().copied().zip(indices).collect();
                assert_eq!(found, expected, "{bytes} bytes, {m} x {n}");
                for most in [0, 3, bytes as u16 * 3, bytes as u16 * 4, FAR] {
                    let near =
                        |&(_, &(distance, _)): &(usize, &(u16, u32))| distance <= most && distance != FAR;
                    let rows: Vec<_> = expected
                        .iter()
                        .enumerate()
                        .filter(near)
                        .map(|(i, &(distance, index))| [i as i32, index as i32, i32::from(distance)])
                        .collect();
                    assert_eq!(block.count(&scratch, most), rows.len(), "{bytes} bytes, {m} x {n}");
                    let mut columns = [vec![7], vec![8], vec![9]];
                    block.append(&scratch, most, columns.each_mut());
                    let columns = columns.map(|column| column[1..].to_vec());
                    let [query, database, distance] = &columns;
                    let zipped = query.iter().zip(database).zip(distance);
                    assert!(zipped.map(|((&i, &j), &d)| [i, j, d]).eq(rows), "{bytes} bytes, {m} x {n}");
                }
                block.distances(&database, &mut scratch, &Control::new()).unwrap();
                assert!(scratch.distances().iter().eq(expected.iter().map(|(distance, _)| distance)));
            }
        }
    }
}

#[test]
fn images_longer_than_the_index_bits_of_a_key() {
    let mut scratch = Scratch::default();
    for (bytes, n, m) in [(1, 40_000, 3), (16, 33_000, 3), (40, 200, 3), (16, 600, 70), (24, 257, 49)] {
        let query = random_bytes(5, m * bytes);
        let mut database = random_bytes(6, n * bytes);
        for (q, j) in [(0, n - 1), (1, n / 2), (1, n - 2)] {
            database[j * bytes..(j + 1) * bytes].copy_from_slice(&query[q * bytes..(q + 1) * bytes]);
        }
        let expected = naive(&query, &database, bytes);
        for block in blocks(&query, bytes) {
            block.nearest(&database, &mut scratch, &Control::new()).unwrap();
            let indices = scratch.indices().iter().copied();
            let found: Vec<_> = scratch.distances().iter().copied().zip(indices).collect();
            assert_eq!(found, expected, "{bytes} bytes");
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    let mut scratch = Scratch::default();
    for bytes in [1, 16, 24, 31, 32, 33, 64] {
        let (zeros, ones) = (vec![0; 40 * bytes], vec![255; 300 * bytes]);
        for block in blocks(&zeros, bytes) {
            block.nearest(&ones, &mut scratch, &Control::new()).unwrap();
            assert!(scratch.distances().iter().all(|&d| usize::from(d) == 8 * bytes));
            assert!(scratch.indices().iter().all(|&j| j == 0), "ties go to the lowest index");
        }
    }
}

#[test]
fn ragged_and_oversized_codes_are_refused() {
    assert!(QueryBlock::new(&[0; 17], 16).is_err());
    assert!(QueryBlock::new(&[0; 65], 65).is_err());
    assert!(QueryBlock::new(&[], 0).is_err());
    let block = QueryBlock::new(&[0; 16], 16).unwrap();
    assert!(block.distances(&[0; 15], &mut Scratch::default(), &Control::new()).is_err());
}
