//! Rows copied out of a store, on their way into another.

use std::ops::Range;

use half::f16;

use crate::error::Result;

use super::batch::{Batch, LocalBatch};
use super::shard::Shard;
use super::spec::{Column, Kind, Spec};

/// Rows are copied in batches of about this many bytes.
pub(super) const BATCH_BYTES: usize = 8 << 20;
/// Rows copied at most between two looks at how many bytes there are.
const STEP: usize = 1024;

/// Rows of a store that are copied at once: few of long rows, so that these do not make a batch many times too large.
pub(super) fn step(spec: &Spec) -> usize {
    (BATCH_BYTES / (2 * spec.dim() + spec.code_bytes())).clamp(1, STEP)
}

/// Copies of rows, in columns.
#[derive(Debug)]
pub(super) struct Rows {
    pub ids: Vec<String>,
    offsets: Vec<i64>,
    codes: Vec<u8>,
    halves: Vec<f16>,
    xy: Vec<f32>,
    scale: Vec<f32>,
    angle: Vec<f32>,
    weight: Vec<f32>,
    size: Vec<i32>,
}

impl Rows {
    pub fn new() -> Self {
        Self {
            ids: Vec::new(),
            offsets: vec![0],
            codes: Vec::new(),
            halves: Vec::new(),
            xy: Vec::new(),
            scale: Vec::new(),
            angle: Vec::new(),
            weight: Vec::new(),
            size: Vec::new(),
        }
    }

    /// About how much memory the rows take.
    pub fn bytes(&self) -> usize {
        self.codes.len() + 2 * self.halves.len() + 4 * self.xy.len() + 40 * self.ids.len()
    }

    pub fn clear(&mut self) {
        let Self { ids, offsets, codes, halves, xy, scale, angle, weight, size } = self;
        ids.clear();
        offsets.truncate(1);
        codes.clear();
        halves.clear();
        [xy, scale, angle, weight].into_iter().for_each(Vec::clear);
        size.clear();
    }

    /// Copies consecutive rows of a shard.
    pub fn extend(&mut self, spec: &Spec, shard: &Shard, rows: Range<usize>) -> Result<()> {
        for row in rows.clone() {
            self.ids.push(shard.id(row)?.to_owned());
        }
        // Of the main tensor: one element a row, or those of the local descriptors of the rows.
        let mut elements = rows.clone();
        if spec.kind() == Kind::Local {
            let first = shard.descriptors_of(rows.start)?;
            elements = first.start..first.start;
            let moved = self.offsets[self.offsets.len() - 1] - elements.start as i64;
            // Each image's end is the next one's start, so they only rise.
            for row in rows.clone() {
                elements.end = shard.descriptors_of(row)?.end;
                self.offsets.push(elements.end as i64 + moved);
            }
            let pairs = |range: &Range<usize>| 2 * range.start..2 * range.end;
            self.xy.extend_from_slice(&shard.column(Column::Xy)[pairs(&elements)]);
            self.size.extend_from_slice(&shard.column(Column::Size)[pairs(&rows)]);
            for (column, values) in [
                (Column::Scale, &mut self.scale),
                (Column::Angle, &mut self.angle),
                (Column::Weight, &mut self.weight),
            ] {
                values.extend(shard.optional::<f32>(column).map_or(&[][..], |all| &all[elements.clone()]));
            }
        }
        if spec.dim() > 0 {
            let (main, dim) = (shard.column::<f16>(spec.main()), spec.dim());
            self.halves.extend_from_slice(&main[elements.start * dim..elements.end * dim]);
        } else {
            let (main, bytes) = (shard.column::<u8>(spec.main()), spec.code_bytes());
            self.codes.extend_from_slice(&main[elements.start * bytes..elements.end * bytes]);
        }
        Ok(())
    }

    /// The rows as a batch for a store of this spec.
    pub fn batch(&self, spec: &Spec) -> Batch<'_> {
        let has = spec.optional();
        match spec.kind() {
            Kind::Global => Batch::Global(&self.halves),
            Kind::Binary => Batch::Binary(&self.codes),
            Kind::Local => Batch::Local(LocalBatch {
                offsets: &self.offsets,
                codes: &self.codes,
                descriptors: &self.halves,
                xy: &self.xy,
                scale: has.scale.then_some(&self.scale),
                angle: has.angle.then_some(&self.angle),
                weight: has.weight.then_some(&self.weight),
                size: &self.size,
            }),
        }
    }
}
