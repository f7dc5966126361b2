//! The floating-point mode of a thread: results are rounded to the nearest, and subnormal numbers count.
//!
//! Other libraries of the process may have told the thread otherwise (`torch.set_flush_denormal`, whatever was linked with
//! `-ffast-math`), and the threads it starts inherit that. What is proven about scores holds for IEEE 754 as it is.

/// What a process starts with: all exceptions masked, rounding to nearest, no flushing to zero.
#[cfg(target_arch = "x86_64")]
const STANDARD: u32 = 0x1F80;

/// The register of the mode.
#[cfg(target_arch = "x86_64")]
fn get() -> u32 {
    let mut mode = 0_u32;
    // SAFETY: SSE is part of x86-64, and the instruction writes the four bytes of `mode`.
    unsafe {
        core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags));
    }
    mode
}

#[cfg(target_arch = "x86_64")]
fn set(mode: u32) {
    // SAFETY: as above; `mode` is the standard one or has been read from the register, so no bit of it is reserved. The
    // standard mode is what compiled code takes for granted; another one is only put back where it was found.
    unsafe {
        core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags));
    }
}

/// Sets the standard mode for the rest of the thread's life.
pub fn standardise() {
    #[cfg(target_arch = "x86_64")]
    set(STANDARD);
}

/// Runs `work` in the standard mode on a thread of somebody else's, whose own mode comes back however it ends.
pub fn in_standard<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        struct Restore(u32);
        impl Drop for Restore {
            fn drop(&mut self) {
                set(self.0);
            }
        }
        let found = get();
        // Bits 0 to 5 tell what happened so far, and change nothing.
        if (found ^ STANDARD) & !0x3F != 0 {
            let _restore = Restore(found);
            standardise();
            return apart(work);
        }
    }
    apart(work)
}

/// A call that no computation is moved out of.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// Flush to zero, and denormals are zero.
    const FAST: u32 = STANDARD | 1 << 15 | 1 << 6;

    fn counts_subnormals() -> bool {
        f64::from(black_box(f32::from_bits(3))) > 0.0 && black_box(f32::MIN_POSITIVE) * black_box(0.25) > 0.0
    }

    #[test]
    fn subnormal_numbers_count_whatever_the_thread_was_told() {
        // On a thread of its own: tests that run later on this one are not to be disturbed.
        let outcome = std::thread::spawn(|| {
            set(FAST);
            let told = apart(counts_subnormals);
            let inside = in_standard(counts_subnormals);
            let unwound = std::panic::catch_unwind(|| in_standard(|| panic!("on purpose"))).is_err();
            let after = get() & !0x3F == FAST;
            let pool = crate::threads::pool(Some(7)).unwrap();
            let pooled = pool.broadcast(|_| counts_subnormals());
            set(STANDARD);
            (told, inside, unwound, after, pooled)
        });
        assert_eq!(outcome.join().unwrap(), (false, true, true, true, vec![true; 7]));
    }
}
