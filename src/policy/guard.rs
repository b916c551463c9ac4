//! Bounded versions of the engine's builtins that could run, or allocate, without end: the engine's deadline does not
//! interrupt a builtin, so what its arguments ask for is measured first. Within the bounds the engine's own code runs.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::builtins::Builtin;

/// Starts the message of an error that ends the evaluation for what it would cost.
pub(super) const LIMIT_MARK: &str = "\u{1}limit\u{1}";

thread_local! {
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Notes when the evaluation on this thread has to end, until dropped.
#[derive(Debug)]
pub(super) struct Deadline {
    before: Option<Instant>,
}

/// The guarded builtins.
pub(super) fn all() -> &'static [Builtin] {
    &[]
}

/// What is left of the current evaluation's time; zero when it is over, a second outside of an evaluation.
pub(super) fn time_left() -> Duration {
    END.with(Cell::get).map_or(Duration::from_secs(1), |end| end.saturating_duration_since(Instant::now()))
}

// === impl Deadline ===

impl Deadline {
    pub(super) fn start(limit: Duration) -> Self {
        let end = Instant::now().checked_add(limit);
        Self { before: END.with(|current| current.replace(end)) }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        END.with(|current| current.set(self.before));
    }
}
