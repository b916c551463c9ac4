//! Calls foreign code that may panic, and turns the panic into a value. The panic of the engine is caught wherever it
//! happens; its report on stderr is silenced only if the binary installed [`install_panic_hook`].

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Wraps the current panic hook by one that stays silent while this thread runs the engine under [`catch`].
///
/// Panics elsewhere are reported as before. Call it once, at the start of the process.
pub fn install_panic_hook() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !GUARDED.with(Cell::get) {
            previous(info);
        }
    }));
}

/// Runs `f`; a panic becomes its message. What `f` touched must be thrown away when that happens.
pub(super) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.with(|guarded| guarded.replace(true));
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.with(|guarded| guarded.set(before));
    result.map_err(|payload| {
        payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| -> u8 { panic!("boom {}", 1) }), Err("boom 1".to_owned()));
    }
}
