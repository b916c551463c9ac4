//! What libFuzzer's programs share: the targets, and a stack to run them on.

use std::{sync::Once, thread};

mod targets;

/// The binary's 8 MiB, four times: the address sanitizer makes frames that much larger. `tests/it/fuzz.rs` runs the same
/// targets on 8 MiB.
const STACK_BYTES: usize = 32 << 20;

/// Runs a target on bytes. A panic that claimgate itself catches is none of libFuzzer's business; every other one ends
/// the process, and is a finding.
pub fn run(name: &str, data: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(claimgate::policy::install_panic_hook);
    let Some((_, target)) = targets::TARGETS.iter().find(|(target, _)| *target == name) else {
        panic!("no target `{name}`");
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || target(data));
        thread.expect("a thread").join().expect("no panic");
    });
}
