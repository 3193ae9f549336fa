//! Tasks that a process cannot do without: one that panics must not die unnoticed, while everything that waits for its work
//! waits on. What a panic means is the caller's to say.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::task::JoinHandle;

/// Ends the process, or what of it cannot go on, with the reason.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Runs a task; if it panics, `fatal` is told. One that is aborted, or comes to its end, is not missed. To be called inside a
/// runtime.
pub fn spawn_or_end(
    fatal: &Fatal,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let fatal = Arc::clone(fatal);
    tokio::spawn(async move {
        // Nobody uses what the task leaves behind: whoever is told ends.
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            fatal(&format!("{name} panicked: {}", panic_text(&*panic)));
        }
    })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("for a reason of an unknown kind")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::{Fatal, spawn_or_end};

    /// What ended, and how the task did.
    async fn told(task: impl Future<Output = ()> + Send + 'static, abort: bool) -> Vec<String> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let fatal: Fatal = Arc::new(move |reason| tell.lock().push(reason.to_owned()));
        let running = spawn_or_end(&fatal, "worker", task);
        if abort {
            running.abort();
        }
        let _ = running.await;
        told.lock().clone()
    }

    #[tokio::test]
    async fn a_panic_is_told_of_and_nothing_else() {
        assert_eq!(told(async { panic!("no {}", 7) }, false).await, ["worker panicked: no 7"]);
        assert_eq!(told(async { panic!("none") }, false).await, ["worker panicked: none"]);
        assert_eq!(told(async {}, false).await, [""; 0]);
        assert_eq!(told(std::future::pending(), true).await, [""; 0]);
    }
}
