//! Work that blocks, each on a thread of its own that ends with it.
//!
//! Loading frees about as much memory as it keeps, and the allocator gives memory back to the system when threads end;
//! those of the runtime's pool last for as long as there is work. And compiling recurses, so the stack's size is chosen
//! here. A thread is not waited for when the program ends.

use std::thread;

use tokio::sync::oneshot;

use super::load::problem;
use crate::snapshot::Problem;

/// Policies are parsed and compiled by recursion; a test thread's 2 MiB would do for all but the deepest.
const STACK_BYTES: usize = 8 << 20;

/// What `work` returns, or an `internal_error` when it panicked or there is no thread to be had.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("claimgate-reload".to_owned()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Whoever asked may be gone.
        let _ = done.send(work());
    });
    if let Err(error) = started {
        return Err(problem("internal_error", &format!("no thread can be started for loading: {error}"), None));
    }
    result.await.map_err(|_| {
        problem("internal_error", "loading stopped unexpectedly; the log says where; please report this", None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_as_a_problem() {
        assert_eq!(run(|| 1).await, Ok(1));
        let ended: Result<(), Problem> = run(|| panic!("on purpose")).await;
        assert_eq!(ended.unwrap_err().code, "internal_error");
    }
}
