//! Work on many bytes, off the threads that serve connections.

use super::super::ObjectError;

/// More bytes than this are worked on elsewhere: encrypting as many takes a tenth of a millisecond.
const IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// Does work on so many bytes.
pub(in super::super) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ObjectError> {
    if bytes <= IN_PLACE_BYTES_MAX {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ObjectError::Internal(format!("work on a thread of its own ended: {error}")))
}
