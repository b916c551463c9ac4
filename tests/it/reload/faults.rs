//! States that do not load: fatal at start; later the last good one serves, one report says what is wrong and where,
//! and mending is noticed.

use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::Mutex,
};

use claimgate::policy::DataPath;

use super::*;

/// A way to spoil a good world.
struct Fault {
    name: &'static str,
    spoil: fn(&Tree),
    code: &'static str,
    /// Part of the location of one of the problems.
    at: &'static str,
    mend: fn(&Tree),
}

const FAULTS: &[Fault] = &[
    // Each fault and its end are one step of the file system: a test that is slow must not show a state between.
    Fault {
        name: "a syntax error",
        spoil: |tree| tree.write("b/policy.rego", "package t\n\nanswer := {\n"),
        code: "rego_parse_error",
        at: "b/policy.rego:4:",
        mend: rewrite,
    },
    Fault {
        name: "a recursion",
        spoil: |tree| tree.write("b/policy.rego", "package t\n\nanswer if other\n\nother if answer\n"),
        code: "rego_recursion_error",
        at: "b/policy.rego:3:",
        mend: rewrite,
    },
    Fault {
        name: "an unknown function",
        spoil: |tree| tree.write("b/policy.rego", "package t\n\nanswer := no_such_function(1)\n"),
        code: "rego_type_error",
        at: "b/policy.rego:3:",
        mend: rewrite,
    },
    Fault {
        name: "a binary file for a policy",
        spoil: |tree| tree.write("b/policy.rego", [0x7f, b'E', b'L', b'F', 0, 0xff, 0xfe, 0x80]),
        code: "rego_parse_error",
        at: "b/policy.rego",
        mend: rewrite,
    },
    Fault {
        name: "an empty policy",
        spoil: |tree| tree.write("b/policy.rego", ""),
        code: "rego_parse_error",
        at: "b/policy.rego",
        mend: rewrite,
    },
    Fault {
        name: "an empty data file",
        spoil: |tree| tree.write("b/data.json", ""),
        code: "bundle_error",
        at: "b/data.json",
        mend: without_data,
    },
    Fault {
        name: "half a data file",
        spoil: |tree| tree.write("b/data.json", "{\n  \"users\": {\"ann\": {\"role\"\n"),
        code: "bundle_error",
        at: "b/data.json:3:",
        mend: without_data,
    },
    Fault {
        name: "two files for one value",
        spoil: |tree| {
            tree.write("new/data.json", r#"{"x": {"y": 1}}"#);
            tree.write("new/x/data.json", r#"{"y": 2}"#);
            tree.rename("new", "b/sub");
        },
        code: "bundle_error",
        at: "b/sub/x/data.json",
        mend: |tree| {
            rewrite(tree);
            tree.rename("b/sub", "gone");
        },
    },
    Fault {
        name: "a policy and data for one value",
        spoil: |tree| tree.write("b/t/data.json", r#"{"answer": 2}"#),
        code: "rego_compile_error",
        at: "b/policy.rego:3:",
        mend: |tree| {
            rewrite(tree);
            tree.remove("b/t");
        },
    },
    Fault {
        name: "a broken manifest",
        spoil: |tree| tree.write("b/.manifest", "{\"roots\": 1}"),
        code: "bundle_error",
        at: "b/.manifest",
        mend: |tree| {
            rewrite(tree);
            tree.remove("b/.manifest");
        },
    },
    Fault {
        name: "a huge file",
        spoil: |tree| {
            fs::File::create(tree.path("huge")).unwrap().set_len(100 << 20).unwrap();
            tree.rename("huge", "b/data.json");
        },
        code: "file_too_large",
        at: "b/data.json",
        mend: without_data,
    },
    Fault {
        name: "an entrypoint that is gone",
        spoil: |tree| tree.write("b/policy.rego", "package t\n\nanswr := 1\n"),
        code: "entrypoint_error",
        at: "",
        mend: rewrite,
    },
    Fault {
        name: "a directory that is gone",
        spoil: |tree| tree.rename("b", "old"),
        code: "file_unreadable",
        at: "/b",
        mend: |tree| {
            tree.write("new/policy.rego", policy("2"));
            tree.rename("new", "b");
        },
    },
    Fault {
        name: "a link to nothing",
        spoil: |tree| tree.link("nothing", "b/data.json"),
        code: "file_unreadable",
        at: "b/data.json",
        mend: without_data,
    },
    Fault {
        name: "a file that the system does not let anybody read",
        spoil: |tree| tree.link("/proc/self/mem", "b/data.json"),
        code: "file_unreadable",
        at: "b/data.json",
        mend: without_data,
    },
    Fault {
        name: "a loop of directories",
        spoil: |tree| tree.link("..", "b/loop"),
        code: "symlink_loop",
        at: "b/loop",
        mend: |tree| {
            rewrite(tree);
            tree.remove_link("b/loop");
        },
    },
    Fault {
        name: "a pipe",
        spoil: |tree| assert!(Command::new("mkfifo").arg(tree.path("b/data.json")).status().unwrap().success()),
        code: "not_a_file",
        at: "b/data.json",
        mend: without_data,
    },
];

fn rewrite(tree: &Tree) {
    tree.write("b/policy.rego", policy("2"));
}

fn without_data(tree: &Tree) {
    rewrite(tree);
    tree.remove_link("b/data.json");
}

impl Tree {
    /// Removes a name, whatever it leads to.
    fn remove_link(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }
}

#[track_caller]
fn assert_names(fault: &Fault, tree: &Tree, problems: &[Problem]) {
    let found = problems.iter().any(|problem| {
        let location = problem.location.as_deref().unwrap_or_default();
        problem.code == fault.code && location.contains(fault.at) && !problem.message.is_empty()
    });
    assert!(found, "{}: not {} at {}: {problems:?}", fault.name, fault.code, fault.at);
    for location in problems.iter().filter_map(|problem| problem.location.as_deref()) {
        assert!(location.starts_with(tree.root.path().to_str().unwrap()), "{}: {location}", fault.name);
    }
}

fn settings(tree: &Tree, watching: Watching) -> Settings {
    Settings { entrypoint: Some(DataPath::from_slash(ANSWER)), ..tree.settings(watching) }
}

#[test]
fn no_bad_state_passes_at_start() {
    for fault in FAULTS {
        let tree = Tree::answering("1");
        (fault.spoil)(&tree);
        let problems = reload::load_once(&settings(&tree, Watching::Events)).unwrap_err();
        assert_names(fault, &tree, &problems);
    }
}

async fn check(fault: &Fault, watching: Watching) {
    let context = (fault.name, watching);
    let tree = Tree::answering("1");
    let mut world = World::start(settings(&tree, watching)).await;
    let before = world.revision();
    (fault.spoil)(&tree);
    let problems = world.until_problems(context).await;
    assert_names(fault, &tree, &problems);
    assert_eq!((world.answer(), world.revision()), ("1".to_owned(), before), "{context:?}: the last good state serves");

    // A second look at the same fault is not a second report.
    tree.write("unrelated", "");
    tree.write("b2/policy.rego", "");
    let health = world.handle.health();
    assert_eq!((health.reload_failures, health.reloads), (1, 1), "{context:?}");
    assert!(health.last_failure.is_some());

    (fault.mend)(&tree);
    world.until_answer(context, "2").await;
    let health = world.until_health(context, |health| health.errors.is_empty() && health.reloads > 1).await;
    assert_eq!((health.reload_failures, health.reloads), (1, 2), "{context:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_state_keeps_the_last_good_one_until_it_is_mended_by_events() {
    for fault in FAULTS {
        check(fault, Watching::Events).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_state_keeps_the_last_good_one_until_it_is_mended_by_polls() {
    for fault in FAULTS {
        check(fault, Watching::Polls).await;
    }
}

#[tokio::test]
async fn a_lasting_fault_is_told_once_and_another_one_again() {
    let tree = Tree::answering("1");
    let world = World::start(settings(&tree, Watching::Polls)).await;
    tree.write("b/policy.rego", "package t\n\nanswer := {\n");
    world.until_problems("the first").await;
    // Each write makes it look and fail anew; the fault is the same one.
    for n in 0..5 {
        tree.write("b/more.rego", format!("package more\n\nx := {n}\n"));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(world.handle.health().reload_failures, 1);
    tree.write("b/policy.rego", "package t\n\n\nanswer := {\n");
    world.until_health("another", |health| health.reload_failures == 2).await;
    world.force.notify_one();
    world.until_health("asked", |health| health.reload_failures == 3).await;
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn containing(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let all = String::from_utf8(bytes).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_log_has_one_line_for_a_fault_with_its_place_and_one_for_its_end() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // With a single subscriber in the process, `tracing` asks only the thread that first comes to a line of code whether
    // anybody listens; other tests run in threads where nobody does. With two, it asks both.
    let _other = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    // All tasks run on this thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let tree = Tree::answering("1");
    let mut world = World::start(settings(&tree, Watching::Polls)).await;
    tree.write("b/policy.rego", "package t\n\nanswer := {\n");
    world.until_problems("the fault").await;
    // Looked at again and again, with the same result.
    for n in 0..3 {
        tree.write("b/more.rego", format!("package more\n\nx := {n}\n"));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    rewrite(&tree);
    world.until_answer("mended", "2").await;
    world.until_health("mended", |health| health.errors.is_empty()).await;
    let errors = lines.containing("ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("rego_parse_error") && errors[0].contains("b/policy.rego:4:"), "{errors:?}");
    assert_eq!(lines.containing("all problems are mended").len(), 1);
    assert_eq!(lines.containing("snapshot activated").len(), 1);
}

#[tokio::test]
async fn problems_of_all_files_are_told_together() {
    let tree = Tree::answering("1");
    tree.write("b/one.rego", "package one\n\nx := {\n");
    tree.write("b/two.rego", "package two\n\ny := [\n");
    let problems = reload::load_once(&settings(&tree, Watching::Events)).unwrap_err();
    let names: Vec<&str> = problems
        .iter()
        .map(|problem| file_name(Path::new(problem.location.as_deref().unwrap())))
        .map(|name| name.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["one.rego", "two.rego"]);
}

#[tokio::test]
async fn stray_files_of_any_size_do_no_harm_in_a_bundle() {
    let tree = Tree::answering("1");
    tree.write("b/photo.jpg", [0xff, 0xd8, 0xff]);
    tree.write("b/dump.json", "{");
    tree.write("b/core", "");
    fs::File::options().write(true).open(tree.path("b/core")).unwrap().set_len(100 << 30).unwrap();
    assert_eq!(World::start(settings(&tree, Watching::Events)).await.answer(), "1");
}

#[tokio::test]
async fn a_file_made_readable_again_is_noticed() {
    let tree = Tree::answering("1");
    let mut world = World::start(settings(&tree, Watching::Events)).await;
    let path = tree.path("b/policy.rego");
    tree.write("b/policy.rego", policy("2"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Whoever runs as root reads it anyway.
    if fs::File::open(&path).is_err() {
        assert_eq!(world.until_problems("unreadable").await[0].code, "file_unreadable");
        assert_eq!(world.answer(), "1");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    world.until_answer("readable", "2").await;
    world.until_health("mended", |health| health.errors.is_empty()).await;
}
