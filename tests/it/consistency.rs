//! Reloads under load: every answer is made from one snapshot. Rules and data carry the same number, which changes a
//! hundred times; an answer in which the two differ is a mixture.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::support::{eventually, http::Client, setup::Setup};

const RELOADS: u64 = 100;
const REQUESTS: u64 = 3_000;

/// One rename changes rules and data together, as a Kubernetes volume does.
fn publish(bundle: &Path, number: u64) {
    let real = bundle.join(format!("..rev{number}"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("p.rego"), format!("package p\n\nanswer := [{number}, data.number]\n")).unwrap();
    fs::write(real.join("data.json"), format!("{{\"number\": {number}}}")).unwrap();
    symlink(real.file_name().unwrap(), bundle.join("..new")).unwrap();
    fs::rename(bundle.join("..new"), bundle.join("..data")).unwrap();
    if let Some(before) = number.checked_sub(1) {
        fs::remove_dir_all(bundle.join(format!("..rev{before}"))).unwrap();
    }
}

#[test]
fn no_answer_mixes_two_states_and_none_fails() {
    let setup = Setup::new(
        "opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: bundle}]}\n\
         reload: {debounce: 5ms, max_debounce: 50ms}\n",
    );
    let bundle = setup.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    publish(&bundle, 0);
    for name in ["p.rego", "data.json"] {
        symlink(Path::new("..data").join(name), bundle.join(name)).unwrap();
    }
    let server = setup.serve();

    let newest = Arc::new(AtomicU64::new(0));
    let asked = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::connect(&server.address);
            let (newest, asked, done) = (Arc::clone(&newest), Arc::clone(&asked), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut before = 0;
                while !done.load(Ordering::Relaxed) || asked.load(Ordering::Relaxed) < REQUESTS {
                    let answer = client.get("/v1/data/p/answer");
                    let pair: [u64; 2] = serde_json::from_value(answer.result()).unwrap();
                    assert_eq!(pair[0], pair[1], "an answer from a mixture");
                    assert!(pair[0] >= before, "an older state came back: {} after {before}", pair[0]);
                    before = pair[0];
                    newest.fetch_max(before, Ordering::Relaxed);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=RELOADS {
        publish(&bundle, number);
        eventually("the new state answers", || (newest.load(Ordering::Relaxed) >= number).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) >= REQUESTS);
    // A reload is counted after its state is there.
    let health = eventually("every reload is counted", || {
        Some(server.snapshots.health()).filter(|health| health.reloads > RELOADS)
    });
    assert!(health.errors.is_empty(), "{health:?}");
}
