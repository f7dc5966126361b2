//! Re-ranking a whole run: every query against every image of its shortlist.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::chamfer::{self, Direction, FloatQuery, FloatWorkspace};
use super::descriptors::{Descriptors, Source};
use super::matching::{self, Columns};
use super::options::{MatchOptions, SpatialOptions, Truncation};
use super::spatial::{self, SpatialResult};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::nearest::{QueryBlock, Scratch};

/// Images of a shortlist that one task handles.
const CHUNK: usize = 128;
/// Images that are matched by a thread before their correspondences are collected.
const MATCHED: usize = 32;
/// Pairs between two looks at the control.
const PULSE: usize = 16;

/// The shortlists of a run: for query `i`, the database rows `rows[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Shortlists<'a> {
    /// Row of each query in the query source.
    pub queries: &'a [i64],
    /// One more than queries, from 0, not decreasing.
    pub offsets: &'a [i64],
    /// Database rows.
    pub rows: &'a [i64],
}

/// One query and a part of its shortlist.
struct Task {
    query: usize,
    part: Range<usize>,
}

impl Shortlists<'_> {
    fn tasks(&self, queries: usize, database: usize) -> Result<Vec<Task>> {
        check_offsets(self.offsets, self.queries.len(), self.rows.len())?;
        check_rows("query rows", self.queries, queries)?;
        check_rows("database rows", self.rows, database)?;
        let mut tasks = Vec::new();
        for (query, window) in self.queries.iter().zip(self.offsets.windows(2)) {
            let (mut start, end) = (window[0] as usize, window[1] as usize);
            while start < end {
                let stop = end.min(start + CHUNK);
                tasks.push(Task { query: *query as usize, part: start..stop });
                start = stop;
            }
        }
        Ok(tasks)
    }
}

/// Checks that offsets start at 0, do not decrease, and end at `total`.
pub fn check_offsets(offsets: &[i64], images: usize, total: usize) -> Result<()> {
    if offsets.len() != images + 1 {
        return Err(Error::shape(
            "offsets",
            format!("{} values", images + 1),
            format!("{} values", offsets.len()),
        ));
    }
    if offsets[0] != 0 {
        return Err(Error::parameter("offsets[0]", "0", offsets[0]));
    }
    if let Some(i) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        let found = format!("{} after {}", offsets[i + 1], offsets[i]);
        return Err(Error::parameter(format!("offsets[{}]", i + 1), "offsets that do not decrease", found));
    }
    let last = offsets[images];
    if usize::try_from(last).ok() != Some(total) {
        return Err(Error::shape(
            "offsets",
            format!("the last one to be the number of rows, {total}"),
            last.to_string(),
        ));
    }
    Ok(())
}

fn check_rows(what: &str, rows: &[i64], len: usize) -> Result<()> {
    match rows.iter().position(|&row| !usize::try_from(row).is_ok_and(|row| row < len)) {
        None => Ok(()),
        Some(i) => {
            Err(Error::parameter(format!("{what}[{i}]"), format!("a row from 0 to below {len}"), rows[i]))
        }
    }
}

/// Runs `pair` on every pair of the shortlists, in the current thread pool; results in shortlist order.
fn over_pairs<W, T: Send>(
    shortlists: &Shortlists<'_>,
    (queries, database): (&impl Source, &impl Source),
    truncation: Truncation,
    control: &Control,
    workspace: impl Fn() -> W + Sync + Send,
    pair: impl Fn(&Descriptors<'_>, &QueryBlock, &Descriptors<'_>, &mut W) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    let tasks = shortlists.tasks(queries.len(), database.len())?;
    let parts: Vec<Vec<T>> = tasks
        .par_iter()
        .map_init(workspace, |workspace, task| {
            let query = queries.descriptors(task.query)?.check("query")?.truncate(truncation.query);
            let block = QueryBlock::new(query.codes, query.bytes)?;
            let mut results = Vec::with_capacity(task.part.len());
            for rows in shortlists.rows[task.part.clone()].chunks(PULSE) {
                for &row in rows {
                    let image = database.descriptors(row as usize)?.check("database image")?;
                    if image.bytes != query.bytes {
                        return Err(Error::shape(
                            "database codes",
                            format!("{} bytes, as the query's", query.bytes),
                            format!("{} bytes", image.bytes),
                        ));
                    }
                    let image = image.truncate(truncation.database);
                    let found = pair(&query, &block, &image, workspace).map_err(|error| match error {
                        // Of the correspondences: the images are what somebody can repair.
                        Error::NonFinite { what, row: of, column, value } => {
                            let (query, image) = (queries.name(task.query), database.name(row as usize));
                            let what = format!("{what} of the correspondences of {query} and {image}");
                            Error::NonFinite { what, row: of, column, value }
                        }
                        other => other,
                    });
                    results.push(found?);
                }
                control.advance(rows.len() as u64)?;
            }
            Ok(results)
        })
        .collect::<Result<_>>()?;
    Ok(parts.into_iter().flatten().collect())
}

/// The Chamfer similarity of every pair of the shortlists. Each pair is one unit of progress.
pub fn chamfer(
    shortlists: &Shortlists<'_>,
    queries: &impl Source,
    database: &impl Source,
    truncation: Truncation,
    control: &Control,
) -> Result<Vec<f32>> {
    over_pairs(
        shortlists,
        (queries, database),
        truncation,
        control,
        Scratch::default,
        |_, block, image, scratch| chamfer::similarity(block, image.codes, scratch, control),
    )
}

/// The spatial verification of every pair of the shortlists. Each pair is one unit of progress.
pub fn spatial(
    shortlists: &Shortlists<'_>,
    queries: &impl Source,
    database: &impl Source,
    options: &SpatialOptions,
    control: &Control,
) -> Result<Vec<SpatialResult>> {
    options.check()?;
    let new = spatial::Workspace::default;
    over_pairs(
        shortlists,
        (queries, database),
        options.truncation,
        control,
        new,
        |query, block, image, workspace| {
            spatial::verify_pair(query, block, image, options, workspace, control)
        },
    )
}

/// The Chamfer similarity of the first `summed` query descriptors, and [`spatial`], in one pass over the codes. The
/// descriptors are those of `options`. Each pair is one unit of progress.
pub fn both(
    shortlists: &Shortlists<'_>,
    queries: &impl Source,
    database: &impl Source,
    options: &SpatialOptions,
    summed: usize,
    control: &Control,
) -> Result<Vec<(f32, SpatialResult)>> {
    options.check()?;
    over_pairs(
        shortlists,
        (queries, database),
        options.truncation,
        control,
        spatial::Workspace::default,
        |query, block, image, workspace| {
            spatial::compare_pair(query, block, image, options, summed, workspace, control)
        },
    )
}

/// One query's codes laid out, and images given as one array of codes: image `i` owns the codes
/// `offsets[i]..offsets[i + 1]`.
struct Images<'a> {
    block: QueryBlock,
    codes: &'a [u8],
    offsets: &'a [i64],
}

impl<'a> Images<'a> {
    fn new(query: &[u8], bytes: usize, codes: &'a [u8], offsets: &'a [i64]) -> Result<Self> {
        let block = QueryBlock::new(query, bytes)?;
        if offsets.is_empty() {
            return Err(Error::shape("offsets", "at least one value", "none"));
        }
        check_offsets(offsets, offsets.len() - 1, codes.len() / bytes)?;
        Ok(Self { block, codes, offsets })
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn get(&self, image: usize) -> &'a [u8] {
        let bytes = self.block.bytes();
        &self.codes[self.offsets[image] as usize * bytes..self.offsets[image + 1] as usize * bytes]
    }
}

/// The Chamfer similarity of one query to images given as one array of codes: image `i` owns the codes
/// `offsets[i]..offsets[i + 1]`. Each image is one unit of progress.
pub fn chamfer_arrays(
    query: &[u8],
    bytes: usize,
    codes: &[u8],
    offsets: &[i64],
    direction: Direction,
    control: &Control,
) -> Result<Vec<f32>> {
    let images = Images::new(query, bytes, codes, offsets)?;
    let mut scores = vec![0.0; images.len()];
    scores.par_chunks_mut(CHUNK).enumerate().try_for_each_init(
        Scratch::default,
        |scratch, (chunk, scores)| {
            for (i, score) in scores.iter_mut().enumerate() {
                let image = images.get(chunk * CHUNK + i);
                *score = chamfer::directed(query, &images.block, image, direction, scratch, control)?;
            }
            control.advance(scores.len() as u64)
        },
    )?;
    Ok(scores)
}

/// The tentative correspondences of one query in images given as in [`chamfer_arrays`]: image `i` owns the
/// correspondences `offsets[i]..offsets[i + 1]` of the offsets returned. Each image is one unit of progress.
pub fn match_arrays(
    query: &[u8],
    bytes: usize,
    codes: &[u8],
    offsets: &[i64],
    options: &MatchOptions,
    control: &Control,
) -> Result<(Vec<i64>, Columns)> {
    let images = Images::new(query, bytes, codes, offsets)?;
    // As many chunks at a time as there are threads, in buffers that stay in their caches.
    let width = rayon::current_num_threads().min(images.len().div_ceil(MATCHED)).max(1);
    let mut buffers: Vec<(matching::Workspace, Vec<usize>, Columns)> = Vec::new();
    buffers.resize_with(width, Default::default);
    let (mut ends, mut all) = (Vec::with_capacity(offsets.len()), Columns::default());
    ends.push(0);
    for first in (0..images.len()).step_by(width * MATCHED) {
        buffers.par_iter_mut().enumerate().try_for_each(|(chunk, (workspace, ends, columns))| {
            let start = images.len().min(first + chunk * MATCHED);
            ends.clear();
            columns.clear();
            for image in start..images.len().min(start + MATCHED) {
                let database = images.get(image);
                matching::find_columns(query, &images.block, database, options, workspace, columns, control)?;
                ends.push(columns.len());
            }
            control.advance(ends.len() as u64)
        })?;
        if first == 0 {
            // As many as the first images suggest, and some room: growing would copy them again and again.
            let done = images.len().min(width * MATCHED).max(1);
            let found: usize = buffers.iter().map(|(.., columns)| columns.len()).sum();
            all.reserve((found as f64 * 1.05 * images.len() as f64 / done as f64) as usize);
        }
        for (_, chunk_ends, columns) in &buffers {
            let total = all.len();
            ends.extend(chunk_ends.iter().map(|&end| (total + end) as i64));
            all.append(columns);
        }
    }
    Ok((ends, all))
}

/// The Chamfer similarity of one query of float descriptors to images given as one array of float16 descriptors, as
/// [`chamfer_arrays`]. Each image is one unit of progress.
pub fn chamfer_float_arrays(
    query: &FloatQuery<'_>,
    descriptors: &[f16],
    offsets: &[i64],
    direction: Direction,
    control: &Control,
) -> Result<Vec<f32>> {
    let dimension = query.dimension();
    if offsets.is_empty() {
        return Err(Error::shape("offsets", "at least one value", "none"));
    }
    check_offsets(offsets, offsets.len() - 1, descriptors.len() / dimension)?;
    let mut scores = vec![0.0; offsets.len() - 1];
    scores.par_chunks_mut(PULSE).enumerate().try_for_each_init(
        FloatWorkspace::default,
        |workspace, (chunk, scores)| {
            for (i, score) in scores.iter_mut().enumerate() {
                let [start, end] = [0, 1].map(|next| offsets[chunk * PULSE + i + next] as usize);
                let image = &descriptors[start * dimension..end * dimension];
                *score = chamfer::float(query, image, start, direction, workspace, control)?;
            }
            control.advance(scores.len() as u64)
        },
    )?;
    Ok(scores)
}
