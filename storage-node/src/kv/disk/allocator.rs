//! Tells the C library's allocator, which the engine uses, to keep large blocks (batches of many small objects) for the next one.
//!
//! By itself it gives each of them back to the kernel, which hands out zeroed pages for the next, one fault for every 4 KiB:
//! measured with batches of 1 MiB, up to half of the CPU of a write. Rust's own allocations are not concerned.

/// The largest block that is kept, the most that the C library accepts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BLOCK_BYTES_MAX: libc::c_int = 32 * 1024 * 1024;

/// Free memory at the end of a heap that is kept: a batch being built and one that is written.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_BYTES_MAX: libc::c_int = 64 * 1024 * 1024;

/// Sets both bounds, for the whole process, however often it is called.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // mallopt has no safe wrapper
pub(super) fn keep_large_blocks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: mallopt takes the allocator's lock and changes numbers; it invalidates no block.
        let accepted = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK_BYTES_MAX) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_BYTES_MAX) == 1
        };
        if !accepted {
            tracing::warn!("the allocator refused its bounds; chunks cost more CPU");
        }
    });
}

/// Other allocators have no such bounds.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn keep_large_blocks() {}
