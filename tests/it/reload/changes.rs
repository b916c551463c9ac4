//! The ways in which files change, each by events and by polls alone; and what must not count as a change.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use claimgate::{reload::DataSpec, snapshot::Handle};

use super::*;

/// A world that answers 1, and what makes it answer 2.
struct Case {
    name: &'static str,
    begin: fn(&Tree),
    edit: fn(&Tree),
    /// What comes a moment later.
    then: fn(&Tree),
}

const CASES: &[Case] = &[
    Case {
        name: "a file is written in place",
        begin: |tree| tree.write("b/policy.rego", policy("1")),
        edit: |tree| tree.write_in_place("b/policy.rego", policy("2")),
        then: nothing,
    },
    Case {
        name: "an editor writes beside and renames",
        begin: |tree| tree.write("b/policy.rego", policy("1")),
        edit: |tree| {
            tree.write_in_place("b/.policy.rego.tmp", policy("2"));
            tree.rename("b/.policy.rego.tmp", "b/policy.rego");
        },
        then: nothing,
    },
    Case {
        name: "an editor renames to a backup and writes anew",
        begin: |tree| tree.write("b/policy.rego", policy("1")),
        edit: |tree| {
            tree.write("b/4913", "");
            tree.remove("b/4913");
            tree.rename("b/policy.rego", "b/policy.rego~");
            tree.write_in_place("b/policy.rego", policy("2"));
            tree.remove("b/policy.rego~");
        },
        then: nothing,
    },
    Case {
        name: "a file is deleted and written again",
        begin: |tree| tree.write("b/policy.rego", policy("1")),
        edit: |tree| {
            tree.remove("b/policy.rego");
            tree.write_in_place("b/policy.rego", policy("2"));
        },
        then: nothing,
    },
    Case {
        name: "only data changes",
        begin: |tree| {
            tree.write("b/policy.rego", FROM_DATA);
            tree.write("b/data.json", r#"{"version": "1"}"#);
        },
        edit: |tree| tree.write_in_place("b/data.json", r#"{"version": "2"}"#),
        then: nothing,
    },
    Case {
        name: "a new sub-directory brings data",
        begin: |tree| {
            let policy = "package t\n\ndefault answer := \"1\"\n\nanswer := data.new.deep.version\n";
            tree.write("b/policy.rego", policy);
        },
        edit: |tree| tree.write("b/new/deep/data.json", r#"{"version": "2"}"#),
        then: nothing,
    },
    Case {
        name: "a sub-directory is moved in",
        begin: |tree| {
            let policy = "package t\n\ndefault answer := \"1\"\n\nanswer := data.new.deep.version\n";
            tree.write("b/policy.rego", policy);
            tree.write("beside/deep/data.json", r#"{"version": "2"}"#);
        },
        edit: |tree| tree.rename("beside", "b/new"),
        then: nothing,
    },
    Case {
        name: "a file is removed",
        begin: |tree| {
            let policy = "package t\n\ndefault answer := \"2\"\n\nanswer := data.sub.version\n";
            tree.write("b/policy.rego", policy);
            tree.write("b/sub/data.yaml", "version: \"1\"\n");
        },
        edit: |tree| tree.remove("b/sub/data.yaml"),
        then: nothing,
    },
    Case {
        name: "the whole directory is deleted and made again",
        begin: |tree| tree.write("b/policy.rego", policy("1")),
        edit: |tree| {
            tree.remove("b");
        },
        then: |tree| tree.write("b/policy.rego", policy("2")),
    },
    Case {
        name: "a directory is swapped for another of its name",
        begin: |tree| {
            tree.write("b/sub/policy.rego", policy("1"));
            tree.write("new/sub/policy.rego", policy("2"));
        },
        edit: |tree| {
            tree.rename("b", "old");
            tree.rename("new", "b");
        },
        then: nothing,
    },
    Case {
        name: "Kubernetes swaps `..data`",
        begin: |tree| {
            tree.write("b/..1/policy.rego", policy("1"));
            tree.link("..1", "b/..data");
            tree.link("..data/policy.rego", "b/policy.rego");
        },
        edit: |tree| {
            tree.write("b/..2/policy.rego", policy("2"));
            tree.link("..2", "b/..data_tmp");
            tree.rename("b/..data_tmp", "b/..data");
            tree.remove("b/..1");
        },
        then: nothing,
    },
    Case {
        name: "a release link is pointed elsewhere",
        begin: |tree| {
            tree.write("releases/1/policy.rego", policy("1"));
            tree.write("releases/2/policy.rego", policy("2"));
            tree.link("releases/1", "b");
        },
        edit: |tree| {
            tree.link("releases/2", "b.new");
            tree.rename("b.new", "b");
        },
        then: nothing,
    },
];

/// A pause after which a change is used.
const BRIEF: Duration = Duration::from_millis(40);

fn nothing(_: &Tree) {}

/// Many files, replaced one by one: no state between may be used.
const CHECKOUT: Case = Case {
    name: "a checkout replaces many files one by one",
    begin: |tree| checkout(tree, "1"),
    edit: |tree| checkout(tree, "2"),
    then: nothing,
};

/// As `git checkout` does: unlink, create, write; file after file, in the order of names.
fn checkout(tree: &Tree, version: &str) {
    for n in 0..200 {
        let name = format!("b/d{}/f{n}.rego", n % 7);
        if tree.path(&name).exists() {
            tree.remove(&name);
        }
        tree.write_in_place(&name, format!("package f{n}\n\nversion := \"{version}\"\n"));
    }
    let all = "package t\n\nversions := {v | some n in numbers.range(0, 199); v := data[sprintf(\"f%d\", [n])].version}\n\n\
               answer := v if {\n\tsome v in versions\n\tcount(versions) == 1\n}\n";
    tree.write("b/policy.rego", all);
}

async fn check(watching: Watching, debounce: Duration, case: &Case) {
    let context = (case.name, watching);
    let tree = Tree::new();
    (case.begin)(&tree);
    let mut settings = tree.settings(watching);
    settings.watch.debounce = debounce;
    // What stands there between two steps has no such rule, and so is never used.
    settings.entrypoint = Some(DataPath::from_slash(ANSWER));
    let mut world = World::start(settings).await;
    world.until_answer(context, "1").await;
    let before = world.revision();
    (case.edit)(&tree);
    tokio::time::sleep(Duration::from_millis(100)).await;
    (case.then)(&tree);
    world.until_answer(context, "2").await;
    assert_ne!(world.revision(), before, "{context:?}");
    let health = world.until_health(context, |health| health.errors.is_empty() && health.reloads > 1).await;
    assert_eq!(health.reloads, 2, "{context:?}: one change, one new snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_changing_files_is_seen_by_events() {
    for case in CASES {
        check(Watching::Events, BRIEF, case).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_changing_files_is_seen_by_polls() {
    for case in CASES {
        check(Watching::Polls, BRIEF, case).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_is_one_change() {
    for watching in [Watching::Events, Watching::Polls] {
        check(watching, Duration::from_millis(500), &CHECKOUT).await;
    }
}

#[tokio::test]
async fn a_directory_far_above_may_be_swapped() {
    let tree = Tree::new();
    tree.write("a/b/c/d/policy.rego", policy("1"));
    tree.write("new/b/c/d/policy.rego", policy("2"));
    let mut settings = tree.settings(Watching::Events);
    settings.bundles[0].path = tree.path("a/b/c/d");
    let mut world = World::start(settings).await;
    tree.rename("a", "old");
    tree.rename("new", "a");
    world.until_answer("events alone", "2").await;
}

#[tokio::test]
async fn plain_files_and_archives_are_watched_by_name() {
    let tree = Tree::new();
    tree.write("policy.rego", FROM_DATA);
    tree.write("v.json", r#"{"version": "1"}"#);
    let data = |name: &str| DataSpec { prefix: Vec::new(), path: tree.path(name) };
    let settings = Settings {
        data: vec![data("policy.rego"), data("v.json")],
        watch: Watching::Events.settings(),
        ..Settings::default()
    };
    let mut world = World::start(settings).await;
    assert_eq!(world.answer(), "1");
    tree.write("v.new", r#"{"version": "2"}"#);
    tree.rename("v.new", "v.json");
    world.until_answer("a plain file", "2").await;

    let tree = Tree::new();
    tree.write("b.tar.gz", archive(&policy("1")));
    let mut settings = tree.settings(Watching::Events);
    settings.bundles[0].path = tree.path("b.tar.gz");
    let mut world = World::start(settings).await;
    assert_eq!(world.answer(), "1");
    tree.write("b.tar.gz", archive(&policy("2")));
    world.until_answer("an archive", "2").await;
}

fn archive(policy: &str) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(policy.len()).unwrap());
    header.set_mode(0o644);
    archive.append_data(&mut header, "policy.rego", policy.as_bytes()).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn without_events_and_polls_only_a_signal_makes_it_look() {
    let tree = Tree::answering("1");
    let mut settings = tree.settings(Watching::Polls);
    settings.watch.poll_interval = None;
    let mut world = World::start(settings).await;
    // The start ends with a look of its own, which may see this or not.
    tree.write("b/policy.rego", policy("2"));
    is_quiet(&mut world.handle, Duration::from_secs(1)).await;
    tree.write("b/policy.rego", policy("3"));
    assert!(is_quiet(&mut world.handle, Duration::from_millis(300)).await);
    world.force.notify_one();
    world.until_answer("after the signal", "3").await;
}

/// Does the snapshot stay what it is for `time`?
async fn is_quiet(handle: &mut Handle, time: Duration) -> bool {
    let before = handle.current().revision.clone();
    let other = async {
        while handle.current().revision == before {
            assert!(handle.changed().await, "reload runs");
        }
    };
    tokio::time::timeout(time, other).await.is_err()
}

#[tokio::test]
async fn the_revision_is_that_of_the_content() {
    let tree = Tree::answering("1");
    let mut world = World::start(tree.settings(Watching::Events)).await;
    let first = world.revision();

    tree.write("b/policy.rego", policy("1"));
    tree.write("b/README.md", "not read");
    tree.write("b/other.json", "not read in a bundle");
    world.force.notify_one();
    assert!(is_quiet(&mut world.handle, Duration::from_millis(400)).await, "nothing that counts has changed");
    assert_eq!((world.revision(), world.handle.health().reloads), (first.clone(), 1));

    tree.write("b/policy.rego", policy("2"));
    world.until_answer("changed", "2").await;
    assert_ne!(world.revision(), first);
    tree.write("b/policy.rego", policy("1"));
    world.until_answer("put back", "1").await;
    assert_eq!(world.revision(), first);

    let other = World::start(Tree::answering("1").settings(Watching::Polls)).await;
    assert_eq!(other.revision().len(), 16);
    assert!(other.revision().bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
}

/// Collects the answers of all snapshots until `stop`.
async fn observe(mut handle: Handle, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut answers = vec![answer(&handle.current())];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(true) = tokio::time::timeout(Duration::from_millis(50), handle.changed()).await {
            answers.push(answer(&handle.current()));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_its_writer_has_open_is_not_read() {
    let tree = Tree::answering("1");
    let mut world = World::start(tree.settings(Watching::Events)).await;
    tree.write("b/policy.rego", policy("2"));
    world.until_answer("everything is watched", "2").await;
    world.until_health("counted", |health| health.reloads == 2).await;
    let mut file = fs::File::create(tree.path("b/policy.rego")).unwrap();
    // What stands there now is a whole policy, but not the one that is being written.
    file.write_all(policy("half").as_bytes()).unwrap();
    file.flush().unwrap();
    assert!(is_quiet(&mut world.handle, Duration::from_millis(800)).await, "{}", world.answer());
    file.write_all(b"\nother := 1\n").unwrap();
    drop(file);
    world.until_answer("closed", "half").await;
    world.until_health("counted", |health| health.reloads == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_wait_for_a_file_that_grows() {
    let tree = Tree::answering("1");
    let mut settings = tree.settings(Watching::Polls);
    settings.watch.debounce = Duration::from_millis(600);
    let mut world = World::start(settings).await;
    let path = tree.path("b/policy.rego");
    let writer = tokio::spawn(async move {
        let mut file = fs::File::create(path).unwrap();
        file.write_all(policy("2").as_bytes()).unwrap();
        for n in 0..60 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            file.write_all(format!("\nrule_{n} := {n}\n").as_bytes()).unwrap();
        }
    });
    world.until_answer("grown", "2").await;
    assert!(writer.is_finished(), "the file was used before it was whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_mixes_two_states() {
    let tree = Tree::new();
    let state = |n: u32| {
        let version = format!("{n}");
        let policy = format!("package t\n\nanswer := sprintf(\"%s {version}\", [data.version])\n");
        tree.write(&format!("b/..{n}/policy.rego"), policy);
        tree.write(&format!("b/..{n}/data.json"), format!(r#"{{"version": "{version}"}}"#));
        tree.link(&format!("..{n}"), "b/..tmp");
        tree.rename("b/..tmp", "b/..data");
    };
    state(0);
    tree.link("..data/policy.rego", "b/policy.rego");
    tree.link("..data/data.json", "b/data.json");
    let mut settings = tree.settings(Watching::Events);
    // No pause between changes: what is read must be one state all the same.
    settings.watch.debounce = Duration::from_millis(1);
    settings.watch.max_debounce = Duration::from_millis(5);
    settings.watch.settle = PATIENCE;
    let mut world = World::start(settings).await;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = tokio::spawn(observe(world.handle.clone(), Arc::clone(&stop)));
    for n in 1..=300 {
        state(n);
        tokio::time::sleep(Duration::from_millis(u64::from(n % 5))).await;
    }
    world.until_answer("the last state", "300 300").await;
    stop.store(true, Ordering::Relaxed);
    let seen = seen.await.unwrap();
    assert!(seen.len() > 3, "{seen:?}");
    for answer in seen {
        let (data, rules) = answer.split_once(' ').unwrap();
        assert_eq!(data, rules);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_never_rests_is_followed() {
    let tree = Tree::answering("0");
    let mut settings = tree.settings(Watching::Events);
    settings.watch.debounce = Duration::from_millis(200);
    settings.watch.max_debounce = Duration::from_millis(400);
    let mut world = World::start(settings).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, directory) = (Arc::clone(&stop), tree.path("b"));
    let writer = tokio::spawn(async move {
        for n in 1.. {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let beside = directory.join(".new");
            fs::write(&beside, policy(&n.to_string())).unwrap();
            fs::rename(&beside, directory.join("policy.rego")).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for _ in 0..2 {
        assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    }
    assert!(!writer.is_finished());
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_events_files_that_never_rest_are_a_problem_until_they_do() {
    let tree = Tree::answering("0");
    let mut settings = tree.settings(Watching::Polls);
    settings.watch.debounce = Duration::from_millis(300);
    settings.watch.max_debounce = Duration::from_millis(300);
    let mut world = World::start(settings).await;
    let (stop, path) = (Arc::new(AtomicBool::new(false)), tree.path("b/policy.rego"));
    let done = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        while !done.load(Ordering::Relaxed) {
            fs::write(&path, policy("1")).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(world.until_problems("never rests").await[0].code, "files_unstable");
    assert_eq!(world.answer(), "0");
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    world.until_answer("rests", "1").await;
    world.until_health("rests", |health| health.errors.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_takes_effect_within_half_a_second() {
    let tree = Tree::answering("0");
    let mut settings = tree.settings(Watching::Events);
    settings.watch = WatchSettings::default();
    let mut world = World::start(settings).await;
    let mut times = Vec::new();
    for n in 1..=21 {
        let version = n.to_string();
        tree.write("b/policy.rego", policy(&version));
        let begin = Instant::now();
        world.until_answer("next", &version).await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median <= Duration::from_millis(500), "median {median:?} of {times:?}");
    assert!(median >= WatchSettings::default().debounce / 2, "{median:?} is less than the pause that is waited for");
}
