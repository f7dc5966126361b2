//! AVX2 and FMA: sixteen queries in two registers against six database descriptors.

#![cfg(target_arch = "x86_64")]

use core::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{LANES, Lane, ROWS};

/// See [`super::scalar::maxima`]; `rows` are a multiple of [`ROWS`].
#[target_feature(enable = "avx2,fma")]
pub fn maxima(panel: &[Lane], dimension: usize, rows: &[f32], out: &mut [f32]) {
    for (group, out) in panel.chunks_exact(dimension).zip(out.as_chunks_mut::<LANES>().0) {
        let mut best = [_mm256_set1_ps(f32::NEG_INFINITY); 2];
        for block in rows.chunks_exact(ROWS * dimension) {
            let row: [&[f32]; ROWS] = std::array::from_fn(|r| &block[r * dimension..][..group.len()]);
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for (k, lane) in group.iter().enumerate() {
                // SAFETY: a lane has sixteen values, the size of two registers; the loads need no alignment.
                let queries = unsafe {
                    [_mm256_loadu_ps(lane.0.as_ptr()), _mm256_loadu_ps(lane.0.as_ptr().add(LANES / 2))]
                };
                for r in 0..ROWS {
                    let value = _mm256_set1_ps(row[r][k]);
                    for h in 0..2 {
                        sums[r][h] = _mm256_fmadd_ps(queries[h], value, sums[r][h]);
                    }
                }
            }
            for sum in sums {
                for h in 0..2 {
                    best[h] = _mm256_max_ps(best[h], sum[h]);
                }
            }
        }
        // SAFETY: `out` has sixteen values, the size of two registers; the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), best[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(LANES / 2), best[1]);
        }
    }
}
