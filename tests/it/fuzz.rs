//! The fuzz targets (`tests/fuzz/targets.rs`) without a fuzzer: every seed, and some hundred mutations that are the same in
//! every run. It finds little that is new, and holds what fuzzing has found. Everything runs on a thread with the stack of
//! the binary's workers.

use std::{fs, path::Path, time::Duration};

use claimgate::policy::install_panic_hook;

#[path = "../fuzz/targets.rs"]
mod targets;

use targets::TARGETS;

/// The stack of the binary's worker threads.
const STACK_BYTES: usize = 8 << 20;
/// What one input may take on a slow and busy machine. Evaluations have a deadline of a fraction of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing grows longer by mutation.
const LONGEST: usize = 16 << 10;

#[test]
fn token_inspect_holds_what_it_promises() {
    check("token_inspect", 600);
}

#[test]
fn token_verify_holds_what_it_promises() {
    check("token_verify", 400);
}

#[test]
fn introspection_holds_what_it_promises() {
    check("introspection", 600);
}

#[test]
fn jwks_holds_what_it_promises() {
    check("jwks", 400);
}

#[test]
fn revocations_holds_what_it_promises() {
    check("revocations", 800);
}

#[test]
fn logout_token_holds_what_it_promises() {
    check("logout_token", 600);
}

#[test]
fn security_event_holds_what_it_promises() {
    check("security_event", 600);
}

#[test]
fn status_list_holds_what_it_promises() {
    check("status_list", 600);
}

#[test]
fn dpop_proof_holds_what_it_promises() {
    check("dpop_proof", 400);
}

#[test]
fn client_certificate_holds_what_it_promises() {
    check("client_certificate", 2_000);
}

#[test]
fn path_holds_what_it_promises() {
    check("path", 2_000);
}

#[test]
fn opa_body_holds_what_it_promises() {
    check("opa_body", 600);
}

#[test]
fn config_holds_what_it_promises() {
    check("config", 150);
}

#[test]
fn policy_text_holds_what_it_promises() {
    check("policy_text", 300);
}

#[test]
fn policy_input_holds_what_it_promises() {
    check("policy_input", 400);
}

#[test]
fn bundle_holds_what_it_promises() {
    check("bundle", 300);
}

#[test]
fn every_target_has_seeds_and_a_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |below: &str| {
        let entries = fs::read_dir(folder.join(below)).unwrap();
        let name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    };
    let mut targets = TARGETS.map(|(name, _)| name.to_owned());
    targets.sort();
    assert_eq!(names("seeds"), targets);
    assert_eq!(names("fuzz_targets"), targets);
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

/// Runs a target on its seeds and on `count` mutations of them.
fn check(name: &str, count: usize) {
    install_panic_hook();
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let seeds = seeds(name);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mutations: Vec<Vec<u8>> = (0..count).map(|turn| mutation(&seeds, turn, &mut dice)).collect();
    let (send, receive) = std::sync::mpsc::channel();
    let run = move || {
        for (turn, input) in seeds.iter().chain(&mutations).enumerate() {
            // Said before: a thread that is gone cannot say what it was doing.
            send.send(Some((turn, input.clone()))).unwrap();
            target(input);
        }
        send.send(None).unwrap();
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap();
    let mut last = None;
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(None) => break,
            Ok(next) => last = next,
            Err(error) => {
                let (turn, input) = last.unwrap();
                panic!("{name}: input {turn}: {error}: {:?}", String::from_utf8_lossy(&input));
            }
        }
    }
    thread.join().unwrap();
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(seeds.len() >= 4, "{name} has hardly any seeds");
    seeds
}

/// One of the seeds with one to four changes.
fn mutation(seeds: &[Vec<u8>], turn: usize, dice: &mut Dice) -> Vec<u8> {
    const PIECES: [&[u8]; 24] = [
        b"\0",
        b"..",
        b"//",
        b"%2e",
        b"%2f",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b"-",
        b"1e9",
        b"\n",
        b" if ",
        b":=",
        b"\\u0000",
        b"null",
        b",",
        b":",
        b"&a *a",
        b"\xff",
        b"\xc3\xa9",
    ];
    let mut bytes = seeds[turn % seeds.len()].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let end = at + dice.below(bytes.len() - at + 1).min(64);
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].repeat(1 + dice.below(8));
                bytes.splice(at..at, again);
            }
            3 => drop(bytes.splice(at..at, PIECES[dice.below(PIECES.len())].iter().copied())),
            4 => bytes.truncate(at),
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Numbers that look random and are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}
