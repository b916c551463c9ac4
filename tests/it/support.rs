//! What the tests over real sockets share: a place on disk, a server of the library, the real program, a plain HTTP
//! client, and an issuer of tokens. Nothing here knows what is tested, and nothing waits without a bound.

pub(crate) mod holder;
pub(crate) mod http;
pub(crate) mod program;
pub(crate) mod provider;
pub(crate) mod setup;
pub(crate) mod tokens;
pub(crate) mod tools;
pub(crate) mod upstream;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Only a broken build or a stuck machine gets here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer is there. Panics with `what` when patience ends.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
