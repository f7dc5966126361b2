//! Local descriptors on their way into a store: what is checked, and how they are laid out.

use std::ops::Range;

use crate::error::{Error, Result};

use super::batch::{LocalBatch, check_halves, check_length, check_padding};
use super::buffer::Buffer;
use super::mmap::bytes_of;
use super::spec::{Column, Spec};

/// Checks a batch of `rows` images against the store.
pub(super) fn check(batch: &LocalBatch<'_>, rows: usize, spec: &Spec) -> Result<()> {
    check_length("offsets", batch.offsets.len(), rows + 1, 1)?;
    if batch.offsets[0] != 0 {
        return Err(Error::parameter("offsets", "a first offset of 0", batch.offsets[0]));
    }
    if let Some(image) = batch.offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        let found = format!("{} then {} at image {image}", batch.offsets[image], batch.offsets[image + 1]);
        return Err(Error::parameter("offsets", "offsets that never decrease", found));
    }
    let descriptors = batch.offsets[rows] as usize;
    check_length("codes", batch.codes.len(), descriptors, spec.code_bytes())?;
    check_length("descriptors", batch.descriptors.len(), descriptors, spec.dim())?;
    check_halves("descriptors", batch.descriptors, spec.dim())?;
    check_padding(batch.codes, spec)?;
    check_length("xy", batch.xy.len(), descriptors, 2)?;
    check_length("size", batch.size.len(), rows, 2)?;
    check_finite("xy", batch.xy, 2)?;
    if let Some(position) = batch.xy.iter().position(|value| !(0.0..=1.0).contains(value)) {
        return Err(Error::parameter(
            "xy",
            "positions in [0, 1] (divide x by the width and y by the height of the image)",
            format!("{} at row {}, column {}", batch.xy[position], position / 2, position % 2),
        ));
    }
    if let Some(position) = batch.size.iter().position(|side| *side <= 0) {
        let found = format!("{} at image {}", batch.size[position], position / 2);
        return Err(Error::parameter("size", "positive width and height", found));
    }
    let has = spec.optional();
    for (what, values, expected) in [
        ("scale", batch.scale, has.scale),
        ("angle", batch.angle, has.angle),
        ("weight", batch.weight, has.weight),
    ] {
        match (values, expected) {
            (Some(values), true) => {
                check_length(what, values.len(), descriptors, 1)?;
                check_finite(what, values, 1)?;
            }
            (None, false) => {}
            (Some(_), false) => {
                return Err(Error::parameter(what, "none (the store was created without)", "an array"));
            }
            (None, true) => {
                return Err(Error::parameter(what, "an array (the store was created with it)", "none"));
            }
        }
    }
    let not_positive = |value: &f32| *value <= 0.0;
    if let Some(position) = batch.scale.and_then(|scale| scale.iter().position(not_positive)) {
        let found = format!("{} at row {position}", batch.scale.map_or(0.0, |scale| scale[position]));
        return Err(Error::parameter("scale", "positive scales", found));
    }
    Ok(())
}

fn check_finite(what: &str, values: &[f32], columns: usize) -> Result<()> {
    values.iter().position(|value| !value.is_finite()).map_or(Ok(()), |position| {
        Err(Error::NonFinite {
            what: what.to_owned(),
            row: position / columns,
            column: position % columns,
            value: values[position],
        })
    })
}

/// Moves the images `images` of a checked batch to the buffer.
pub(super) fn extend(buffer: &mut Buffer, batch: &LocalBatch<'_>, images: Range<usize>, spec: &Spec) {
    let (code_bytes, dim) = (spec.code_bytes(), spec.dim());
    let rows = batch.offsets[images.start] as usize..batch.offsets[images.end] as usize;
    buffer.extend(Column::Codes, &batch.codes[rows.start * code_bytes..rows.end * code_bytes]);
    buffer.extend(Column::Descriptors, bytes_of(&batch.descriptors[rows.start * dim..rows.end * dim]));
    buffer.extend(Column::Xy, bytes_of(&batch.xy[2 * rows.start..2 * rows.end]));
    for (column, values) in
        [(Column::Scale, batch.scale), (Column::Angle, batch.angle), (Column::Weight, batch.weight)]
    {
        if let Some(values) = values {
            buffer.extend(column, bytes_of(&values[rows.clone()]));
        }
    }
    buffer.extend(Column::Size, bytes_of(&batch.size[2 * images.start..2 * images.end]));
    for image in images {
        buffer.extend_descriptors((batch.offsets[image + 1] - batch.offsets[image]) as usize);
    }
}
