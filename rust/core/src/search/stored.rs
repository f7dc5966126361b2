//! Int8 planes beside the shards of a store.

use std::ops::Range;
use std::path::Path;

use half::f16;
use rayon::prelude::*;

use super::database::{Database, Matrix};
use super::planes::{CENTRED, OwnedPlanes, Planes, Quantiser, SEED, quantiser};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::dot_i8::{FACTS, ROW_LIMIT};
use crate::run::Ids;
use crate::store::{Attached, Kind, Run, Store, TensorSpec, Writer};

/// Under which kind of derived tensors the planes are kept.
pub const KIND: &str = "planes";

/// Bytes of codes that are quantised between two writes.
const PIECE_BYTES: usize = 16 << 20;

/// Ids gathered between two looks at the control.
const IDS: usize = 1 << 14;

/// How planes of vectors of `columns` values are made; others are not used, and made again by [`build_planes`].
fn parameters(columns: usize) -> String {
    format!(r#"{{"version":3,"columns":{columns},"limit":{ROW_LIMIT},"seed":{SEED}}}"#)
}

/// Whether the parameters of derived tensors say that they are planes as they are made today.
fn are_current(found: &str, columns: usize) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    parse(found).is_some_and(|found| Some(found) == parse(&parameters(columns)))
}

/// Makes the planes of all shards of a global store that lack them, one commit a shard, and returns how many it made.
///
/// Killed, it goes on where it stopped when it is called again. Memory is bounded; rows done are counted on `control`.
///
/// # Errors
/// [`Error::Incompatible`] for another kind of store, [`Error::Parameter`] for rows too long for int8, whatever
/// [`Writer::open_append`] and [`Writer::attach`] return.
pub fn build_planes(path: &Path, control: &Control) -> Result<usize> {
    let mut writer = Writer::open_append(path)?;
    if writer.spec().kind() != Kind::Global {
        return Err(Error::Incompatible {
            path: path.to_owned(),
            expected: "a global store".into(),
            found: writer.spec().describe(),
        });
    }
    let columns = writer.spec().dim();
    let quantiser = centred(&writer, columns)?;
    let depth = quantiser.padded();
    let mut made = 0;
    for shard in 0..writer.shards() {
        let view = writer.shard(shard)?;
        let (rows, attached) = (view.rows(), view.attached(KIND));
        // Damaged ones are made again.
        if attached.is_ok_and(|found| found.is_some_and(|found| are_current(found.parameters(), columns))) {
            control.advance(rows as u64)?;
            continue;
        }
        let tensors = [
            TensorSpec::new::<i8>("codes", &[rows, depth]),
            TensorSpec::new::<f32>("facts", &[rows, FACTS]),
            TensorSpec::new::<f32>("centre", &[1, depth]),
        ];
        writer.attach(shard, KIND, &parameters(columns), &tensors, |view, sink| {
            let vectors = view.vectors().unwrap_or_default();
            let piece = (PIECE_BYTES / depth).max(1);
            for (number, vectors) in vectors.chunks(piece * columns).enumerate() {
                let matrix = Matrix::new("shard", vectors.len() / columns, columns, vectors)?;
                let planes = OwnedPlanes::of(matrix, number * piece, &quantiser, control)?;
                let rows = planes.as_planes().as_rows();
                sink.write("codes", rows.codes)?;
                sink.write("facts", rows.facts.as_flattened())?;
            }
            sink.write("centre", quantiser.centre())
        })?;
        made += 1;
    }
    Ok(made)
}

/// How the rows of a store are quantised: around the centre that planes of it already have, or else about their mean.
fn centred(writer: &Writer, columns: usize) -> Result<Quantiser> {
    let quantiser = quantiser(columns)?;
    let (mut vectors, mut rows) = (Vec::new(), 0);
    for shard in 0..writer.shards() {
        let view = writer.shard(shard)?;
        if let Ok(Some(attached)) = view.attached(KIND)
            && are_current(attached.parameters(), columns)
            && let Ok((_, centre)) = attached.tensor::<f32>("centre")
            && centre.len() == quantiser.padded()
            && centre.iter().all(|value| value.is_finite())
        {
            return Ok(quantiser.around(centre));
        }
        rows += view.rows();
        vectors.extend(view.vectors());
    }
    let step = (rows / CENTRED).max(1);
    Ok(quantiser.around_mean(vectors.iter().flat_map(|rows| rows.chunks_exact(columns)).step_by(step)))
}

/// The planes of some runs of rows of a store, where there are some that can be used.
///
/// Damaged ones are passed over: the answer is the same without them, and `verify` tells.
fn planes(store: &Store, runs: Range<usize>) -> Vec<Option<Planes<'_>>> {
    let columns = store.dim();
    let depth = Quantiser::depth(columns);
    let of_shard = |shard: usize| {
        let attached = store.attached(shard, KIND).ok()??;
        if !are_current(attached.parameters(), columns) {
            return None;
        }
        let codes = attached.tensor::<i8>("codes").ok()?.1;
        let numbers = |name| Some(attached.tensor::<f32>(name).ok()?.1);
        Some((codes, numbers("facts")?.as_chunks().0, numbers("centre")?))
    };
    // Deleted rows cut a shard into many runs, so what all of them need is looked up once.
    let of_runs = |runs: &[Run]| {
        let tensors = of_shard(runs[0].shard);
        let of_run = |run: &Run| {
            let (codes, facts, centre) = tensors?;
            let range = run.first..run.first + run.rows;
            let codes = codes.get(range.start * depth..range.end * depth)?;
            Planes::new(columns, codes, facts.get(range)?, centre).ok()
        };
        runs.iter().map(of_run).collect::<Vec<_>>()
    };
    store.runs()[runs].chunk_by(|one, next| one.shard == next.shard).flat_map(of_runs).collect()
}

/// A global store as a database, with its planes.
///
/// # Errors
/// [`Error::Incompatible`] for another kind of store, [`Error::Shape`] for a selection of another length.
pub fn database<'a>(store: &'a Store, selected: Option<&'a [bool]>) -> Result<Database<'a, f16>> {
    sequence(&[(store, 0..store.runs().len())], selected)
}

/// Runs of rows of several global stores as one database, with their planes.
///
/// # Errors
/// As [`database`]; [`Error::Shape`] also if the stores differ in their columns, [`Error::Parameter`] for runs that a
/// store has not.
pub fn sequence<'a>(
    parts: &[(&'a Store, Range<usize>)],
    selected: Option<&'a [bool]>,
) -> Result<Database<'a, f16>> {
    let (mut shards, mut all_planes, mut backings) = (Vec::new(), Vec::new(), Vec::new());
    for (store, runs) in parts {
        if runs.start > runs.end || runs.end > store.runs().len() {
            return Err(Error::parameter(
                "runs",
                format!("some of {}", store.runs().len()),
                format!("{runs:?}"),
            ));
        }
        for values in &store.vectors()?[runs.clone()] {
            let columns = store.dim();
            shards.push(Matrix::new("shard", values.len() / columns.max(1), columns, values)?);
        }
        all_planes.extend(planes(store, runs.clone()));
        for run in &store.runs()[runs.clone()] {
            let shard = store.shard(run.shard)?;
            let planes = shard.attached(KIND).ok().flatten().map(Attached::backing);
            backings.push((Some(shard.backing()), planes));
        }
    }
    let columns = parts.first().map_or(0, |(store, _)| store.dim());
    let mut database = Database::new(columns, shards, selected)?;
    for (run, planes) in all_planes.into_iter().enumerate() {
        if let Some(planes) = planes {
            database.attach(run, planes)?;
        }
    }
    for (run, (rows, planes)) in backings.into_iter().enumerate() {
        database.back(run, rows, planes);
    }
    Ok(database)
}

/// A binary store as a database of codes.
///
/// # Errors
/// As [`database()`].
pub fn codes<'a>(store: &'a Store, selected: Option<&'a [bool]>) -> Result<Database<'a, u8>> {
    let columns = store.code_bytes();
    let shards = store.codes()?.into_iter().zip(store.runs());
    let shards = shards.map(|(codes, run)| Matrix::new("shard", run.rows, columns, codes));
    let mut database = Database::new(columns, shards.collect::<Result<_>>()?, selected)?;
    for (number, run) in store.runs().iter().enumerate() {
        database.back(number, Some(store.shard(run.shard)?.backing()), None);
    }
    Ok(database)
}

/// The ids of rows of stores, which make one sequence in the order given.
///
/// # Errors
/// [`Error::Parameter`] for a row beyond the sequence or an id that cannot be one, [`Error::Corrupt`] for a damaged store.
pub fn ids_of(stores: &[&Store], rows: &[i64], control: &Control) -> Result<Ids> {
    let mut starts = vec![0];
    for store in stores {
        starts.push(starts[starts.len() - 1] + store.len());
    }
    let most = starts[stores.len()];
    let parts: Vec<Ids> = rows
        .par_chunks(IDS)
        .map(|rows| {
            let mut ids = Ids::default();
            for &wanted in rows {
                let row = usize::try_from(wanted).ok().filter(|row| *row < most).ok_or_else(|| {
                    Error::parameter("rows", format!("rows from 0 to below {most}"), wanted)
                })?;
                let store = starts.partition_point(|start| *start <= row) - 1;
                ids.push(stores[store].id(row - starts[store])?)?;
            }
            control.advance(0)?;
            Ok(ids)
        })
        .collect::<Result<_>>()?;
    let mut all = Ids::default();
    for part in &parts {
        all.extend(part);
    }
    Ok(all)
}
