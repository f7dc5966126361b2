//! Tentative correspondences: every query descriptor's nearest database descriptor, if it is near enough.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::options::MatchOptions;
use crate::control::Control;
use crate::error::Result;
use crate::kernels::nearest::{QueryBlock, Scratch, hamming};

/// Pairs of codes whose comparison is worth sharing among threads.
const LONG: usize = 1 << 20;

/// One tentative correspondence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Query descriptor.
    pub query: u32,
    /// Its nearest database descriptor, the lowest index among equals.
    pub database: u32,
    /// Their Hamming distance, in bits.
    pub distance: u16,
}

/// Correspondences as columns, as they are handed to callers.
#[derive(Debug, Default, Clone)]
pub struct Columns {
    /// Query descriptors.
    pub query: Vec<i32>,
    /// Their nearest database descriptors.
    pub database: Vec<i32>,
    /// Their Hamming distances, in bits.
    pub distance: Vec<i32>,
}

impl Columns {
    /// Number of correspondences.
    pub fn len(&self) -> usize {
        self.query.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.query.is_empty()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.query.clear();
        self.database.clear();
        self.distance.clear();
    }

    /// Appends others.
    pub fn append(&mut self, other: &Self) {
        self.query.extend_from_slice(&other.query);
        self.database.extend_from_slice(&other.database);
        self.distance.extend_from_slice(&other.distance);
    }

    /// Room for so many more, if there is memory.
    pub fn reserve(&mut self, more: usize) {
        for column in [&mut self.query, &mut self.database, &mut self.distance] {
            // A guess: columns grow as they must.
            let _ = column.try_reserve_exact(more);
        }
    }
}

/// Buffers kept between pairs of images.
#[derive(Debug, Default)]
pub struct Workspace {
    scratch: Scratch,
    columns: Columns,
    matches: Vec<Match>,
    mutual: Mutual,
}

impl Workspace {
    /// Finds the correspondences of `query` (its codes as given, and laid out) in `database`, to be written by
    /// [`Self::write`]; returns how many there are.
    pub fn search(
        &mut self,
        query: &[u8],
        block: &QueryBlock,
        database: &[u8],
        options: &MatchOptions,
        control: &Control,
    ) -> Result<usize> {
        if options.filters() {
            let mut matches = std::mem::take(&mut self.matches);
            let found = find(query, block, database, options, self, &mut matches, control);
            self.matches = matches;
            found?;
            return Ok(self.matches.len());
        }
        block.nearest(database, &mut self.scratch, control)?;
        Ok(block.count(&self.scratch, options.max_distance))
    }

    /// Writes all places of columns as long as what the last [`Self::search`] with the same block and options found:
    /// query descriptors, database descriptors, distances.
    ///
    /// # Panics
    /// If there was no such search, or a column has another length.
    pub fn write(&self, block: &QueryBlock, options: &MatchOptions, columns: [&mut [MaybeUninit<i32>]; 3]) {
        if options.filters() {
            let [query, database, distance] = columns;
            assert!(
                [query.len(), database.len(), distance.len()] == [self.matches.len(); 3],
                "one place each"
            );
            for (i, found) in self.matches.iter().enumerate() {
                query[i].write(found.query as i32);
                database[i].write(found.database as i32);
                distance[i].write(i32::from(found.distance));
            }
        } else {
            block.within(&self.scratch, options.max_distance, columns);
        }
    }
}

/// [`find`], appended to columns.
pub fn find_columns(
    query: &[u8],
    block: &QueryBlock,
    database: &[u8],
    options: &MatchOptions,
    workspace: &mut Workspace,
    out: &mut Columns,
    control: &Control,
) -> Result<()> {
    let columns = [&mut out.query, &mut out.database, &mut out.distance];
    workspace.search(query, block, database, options, control)?;
    if options.filters() {
        let [query, database, distance] = columns;
        query.extend(workspace.matches.iter().map(|found| found.query as i32));
        database.extend(workspace.matches.iter().map(|found| found.database as i32));
        distance.extend(workspace.matches.iter().map(|found| i32::from(found.distance)));
    } else {
        block.append(&workspace.scratch, options.max_distance, columns);
    }
    Ok(())
}

/// Finds the correspondences of `query` (its codes as given, and laid out) in `database`, in query order.
pub fn find(
    query: &[u8],
    block: &QueryBlock,
    database: &[u8],
    options: &MatchOptions,
    workspace: &mut Workspace,
    out: &mut Vec<Match>,
    control: &Control,
) -> Result<()> {
    block.nearest(database, &mut workspace.scratch, control)?;
    choose(query, block, database, options, workspace, out, control)
}

/// The distance of every query descriptor to its nearest database descriptor, to be followed by [`choose`].
pub fn nearest<'a>(
    block: &QueryBlock,
    database: &[u8],
    workspace: &'a mut Workspace,
    control: &Control,
) -> Result<&'a [u16]> {
    block.nearest(database, &mut workspace.scratch, control)?;
    Ok(workspace.scratch.distances())
}

/// The part of [`find`] after [`nearest`], with the same arguments.
pub fn choose(
    query: &[u8],
    block: &QueryBlock,
    database: &[u8],
    options: &MatchOptions,
    workspace: &mut Workspace,
    out: &mut Vec<Match>,
    control: &Control,
) -> Result<()> {
    let Workspace { scratch, mutual, columns, .. } = workspace;
    out.clear();
    if database.is_empty() {
        return Ok(());
    }
    columns.clear();
    let Columns { query: queries, database: indices, distance: distances } = columns;
    block.append(scratch, options.max_distance, [queries, indices, distances]);
    let found = queries.iter().zip(indices).zip(distances);
    out.extend(found.map(|((&query, &mut index), &mut distance)| Match {
        query: query as u32,
        database: index as u32,
        distance: distance as u16,
    }));
    let bytes = block.bytes();
    if options.mutual {
        // Before the ratio: what it takes away would still be nearer.
        mutual.filter(query, database, bytes, scratch, out, control)?;
    }
    if options.ratio < 1.0 {
        let passes = |found: &Match| {
            control.check()?;
            let second = second_distance(code(query, bytes, found.query), database, bytes, found.database);
            Ok(second.is_none_or(|second| f64::from(found.distance) <= options.ratio * f64::from(second)))
        };
        let long = out.len().saturating_mul(database.len() / bytes) > LONG;
        let kept: Vec<bool> = if long && rayon::current_thread_index().is_some() {
            out.par_iter().map(passes).collect::<Result<_>>()?
        } else {
            out.iter().map(passes).collect::<Result<_>>()?
        };
        let mut kept = kept.into_iter();
        out.retain(|_| kept.next().unwrap_or(false));
    }
    Ok(())
}

/// Buffers of the search in the other direction.
#[derive(Debug, Default)]
struct Mutual {
    /// Codes of the database descriptors that are somebody's nearest, and of the query descriptors they are it of.
    targets: Vec<u8>,
    candidates: Vec<u8>,
    /// Where the code of a database descriptor is among the targets.
    places: Vec<u32>,
}

impl Mutual {
    /// Keeps the correspondences whose query descriptor is the nearest of its database descriptor, the lowest index
    /// among equals.
    ///
    /// A query descriptor at distance `d` of some database descriptor has its own nearest within `d`. So what is
    /// nearer than a correspondence is one itself, and only correspondences are searched.
    fn filter(
        &mut self,
        query: &[u8],
        database: &[u8],
        bytes: usize,
        scratch: &mut Scratch,
        found: &mut Vec<Match>,
        control: &Control,
    ) -> Result<()> {
        const NOWHERE: u32 = u32::MAX;
        let Self { targets, candidates, places } = self;
        targets.clear();
        candidates.clear();
        places.clear();
        places.resize(database.len() / bytes, NOWHERE);
        for pair in found.iter() {
            append(candidates, code(query, bytes, pair.query));
            let place = &mut places[pair.database as usize];
            if *place == NOWHERE {
                *place = (targets.len() / bytes) as u32;
                append(targets, code(database, bytes, pair.database));
            }
        }
        QueryBlock::new(targets, bytes)?.nearest(candidates, scratch, control)?;
        let mut index = 0..;
        found.retain(|pair| {
            scratch.indices().get(places[pair.database as usize] as usize).copied() == index.next()
        });
        Ok(())
    }
}

/// Appends a code; those of usual lengths without a call of `memcpy`.
#[inline]
fn append(codes: &mut Vec<u8>, code: &[u8]) {
    if let Ok(code) = <&[u8; 16]>::try_from(code) {
        codes.extend_from_slice(code);
    } else if let Ok(code) = <&[u8; 32]>::try_from(code) {
        codes.extend_from_slice(code);
    } else {
        codes.extend_from_slice(code);
    }
}

fn code(codes: &[u8], bytes: usize, index: u32) -> &[u8] {
    &codes[index as usize * bytes..][..bytes]
}

/// The distance of the nearest descriptor other than `nearest`; None if there is no other.
fn second_distance(query: &[u8], database: &[u8], bytes: usize, nearest: u32) -> Option<u16> {
    let others = database.chunks_exact(bytes).enumerate().filter(|(j, _)| *j != nearest as usize);
    others.map(|(_, x)| hamming(query, x)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes with many equal distances.
    fn codes(count: usize, seed: usize) -> Vec<u8> {
        (0..4 * count).map(|i| ((i * i + 7 * i * seed) % 11) as u8).collect()
    }

    #[test]
    fn mutual_neighbours_equal_a_search_in_both_directions_and_columns_the_matches() {
        let mut workspace = Workspace::default();
        for (m, n, max_distance) in [(0, 5, 9), (5, 0, 9), (1, 1, 32), (40, 17, 32), (90, 60, 4), (90, 60, 0)]
        {
            let (query, database) = (codes(m, 1), codes(n, 3));
            let block = QueryBlock::new(&query, 4).unwrap();
            let distance =
                |i: usize, j: usize| hamming(code(&query, 4, i as u32), code(&database, 4, j as u32));
            let nearest = |i: usize| (0..n).min_by_key(|&j| (distance(i, j), j));
            let within: Vec<_> = (0..m)
                .filter_map(|i| nearest(i).map(|j| (i, j, distance(i, j))))
                .filter(|&(.., distance)| distance <= max_distance)
                .collect();
            for mutual in [false, true] {
                let expected: Vec<_> = within
                    .iter()
                    .filter(|&&(i, j, _)| !mutual || (0..m).min_by_key(|&i| (distance(i, j), i)) == Some(i))
                    .map(|&(i, j, distance)| Match { query: i as u32, database: j as u32, distance })
                    .collect();
                let options = MatchOptions { mutual, ..MatchOptions::within(max_distance) };
                let mut found = Vec::new();
                find(&query, &block, &database, &options, &mut workspace, &mut found, &Control::new())
                    .unwrap();
                assert_eq!(found, expected, "{m} x {n}, {max_distance}, {mutual}");
                let mut columns = Columns::default();
                for _ in 0..2 {
                    find_columns(
                        &query,
                        &block,
                        &database,
                        &options,
                        &mut workspace,
                        &mut columns,
                        &Control::new(),
                    )
                    .unwrap();
                }
                let twice: Vec<_> = found.iter().chain(&found).copied().collect();
                assert_eq!(columns.query, twice.iter().map(|pair| pair.query as i32).collect::<Vec<_>>());
                assert_eq!(
                    columns.database,
                    twice.iter().map(|pair| pair.database as i32).collect::<Vec<_>>()
                );
                assert_eq!(
                    columns.distance,
                    twice.iter().map(|pair| i32::from(pair.distance)).collect::<Vec<_>>()
                );
            }
        }
    }
}
