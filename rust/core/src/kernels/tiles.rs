//! What the kernels share that multiply tiles of rows with panels of queries.

/// Queries in a panel.
pub const PANEL: usize = 32;

/// A row of which at least one product passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hit {
    /// The row.
    pub row: u32,
    /// Bit `j`: the product with query `j` passed.
    pub queries: u32,
}

/// Per query of a panel, which screened scores are let through:
/// `score >= threshold - residual * residual norm - norm * norm - centre * excess`.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Limits {
    /// `-inf` lets everything through, `+inf` nothing (unused lanes).
    pub threshold: [f32; PANEL],
    /// Error per unit of the norm of a row's residual.
    pub residual: [f32; PANEL],
    /// Error per unit of a row's norm.
    pub norm: [f32; PANEL],
    /// The product with the centre that was subtracted from the rows.
    pub centre: [f32; PANEL],
}

impl Limits {
    /// What lets nothing through.
    pub const CLOSED: Self = Self {
        threshold: [f32::INFINITY; PANEL],
        residual: [0.0; PANEL],
        norm: [0.0; PANEL],
        centre: [0.0; PANEL],
    };
}

/// A place that the compiler knows nothing of: what is read there is read each time. Kept in registers, it would send
/// accumulators to the stack.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is no instruction")]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read there before it ends")]
pub(super) fn read_each_time(values: &[f32; PANEL]) -> *const f32 {
    let mut place = values.as_ptr();
    // SAFETY: no instruction, and nothing changes.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) place, options(nomem, nostack, preserves_flags)) };
    place
}

/// Writes the rows for which `queries` is not 0, in order, and returns their number.
pub(super) fn collect(rows: usize, hits: &mut [Hit], mut queries: impl FnMut(usize) -> u32) -> usize {
    let mut found = 0;
    for row in 0..rows {
        let queries = queries(row);
        if queries != 0 {
            hits[found] = Hit { row: row as u32, queries };
            found += 1;
        }
    }
    found
}

/// Runs `$body` for each index as a constant: unrolled in the source, because an array that a loop indexes may
/// end up in memory, which costs a third of the speed.
macro_rules! unrolled {
    ($index:ident in [$($i:literal)*] $body:block) => { $({ const $index: usize = $i; $body })* };
}
pub(super) use unrolled;

/// Whole tiles of `$size` rows, the last of which may overlap the one before; fewer rows are taken one by one. `$start` is
/// the first row that no tile has had.
macro_rules! sweep {
    ($count:expr, $size:literal, ($first:ident, $start:ident) => $tile:expr, $row:expr) => {
        let (count, size) = ($count, if $count < $size { 1 } else { $size });
        for $start in (0..count).step_by(size) {
            let $first = $start.min(count - size);
            if size == 1 { $row } else { $tile }
        }
    };
}
pub(super) use sweep;
