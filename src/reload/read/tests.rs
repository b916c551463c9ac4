//! Trees on disk → what is read of them.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

const LIMITS: Limits = Limits { file: 1000, total: 3000 };

/// One step of building a tree.
enum Make<'a> {
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    Directory(&'a str),
    Sized(&'a str, u64),
}
use Make::{Directory, File, Link, Sized};

fn build(steps: &[Make<'_>]) -> TempDir {
    let root = TempDir::new().unwrap();
    for step in steps {
        let (File(name, _) | Link(name, _) | Directory(name) | Sized(name, _)) = step;
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match step {
            File(_, text) => fs::write(path, text).unwrap(),
            Link(_, target) => symlink(target, path).unwrap(),
            Directory(_) => fs::create_dir_all(path).unwrap(),
            Sized(_, size) => fs::File::create(path).unwrap().set_len(*size).unwrap(),
        }
    }
    root
}

fn read_place(root: &TempDir, name: &str, kind: PlaceKind) -> Result<Vec<String>, Vec<ReadError>> {
    let place = Place { path: root.path().join(name), kind };
    let picture = Picture::take([place.clone()], LIMITS, &mut Watched::default());
    let Reading::Done(result) = picture.read(&place, LIMITS) else { return Err(Vec::new()) };
    result.map(|content| content.files.into_iter().map(|file| file.0).collect())
}

#[track_caller]
fn check(kind: PlaceKind, steps: &[Make<'_>], expected: &[&str]) {
    let root = build(steps);
    assert_eq!(read_place(&root, "", kind).unwrap(), expected);
}

#[track_caller]
fn check_fails(kind: PlaceKind, name: &str, steps: &[Make<'_>], code: &str, says: &str) {
    let root = build(steps);
    let errors = read_place(&root, name, kind).unwrap_err();
    let problem = errors[0].problem();
    assert_eq!(problem.code, code);
    assert!(problem.message.contains(says), "{}", problem.message);
    assert!(problem.location.unwrap().starts_with(root.path().to_str().unwrap()));
}

#[test]
fn a_bundle_is_read_by_the_names_that_bundles_honour() {
    check(
        PlaceKind::Bundle,
        &[
            File("a.rego", "x"),
            File("data.json", "{}"),
            File("sub/data.yaml", ""),
            File("sub/data.yml", ""),
            File("sub/b_test.rego", ""),
            File(".manifest", "{}"),
            File("sub/.manifest", "{}"),
            File("other.json", "{}"),
            File("README.md", ""),
            Sized("stray.bin", 1 << 40),
        ],
        &[".manifest", "a.rego", "data.json", "sub/b_test.rego", "sub/data.yaml", "sub/data.yml"],
    );
}

#[test]
fn plain_data_is_read_by_extension_and_has_no_manifest() {
    check(
        PlaceKind::Data,
        &[
            File("users.json", "{}"),
            File("x/y.yaml", ""),
            File("p.rego", ""),
            File(".manifest", "{}"),
            File("n.txt", ""),
        ],
        &["p.rego", "users.json", "x/y.yaml"],
    );
}

#[test]
fn editors_leftovers_and_hidden_directories_are_not_read() {
    check(
        PlaceKind::Data,
        &[
            File("a.rego", ""),
            File("a.rego~", ""),
            File(".a.rego.swp", ""),
            File("4913", ""),
            File("#a.rego", ""),
            Link(".#a.rego", "somebody@host.1:2"),
            File(".git/config.json", "{}"),
            File("backup~/b.rego", ""),
        ],
        &["a.rego"],
    );
}

#[test]
fn a_kubernetes_volume_is_read_once() {
    check(
        PlaceKind::Bundle,
        &[
            File("..2026_01/policy.rego", ""),
            File("..2026_01/data.json", "{}"),
            Link("..data", "..2026_01"),
            Link("policy.rego", "..data/policy.rego"),
            Link("data.json", "..data/data.json"),
        ],
        &["data.json", "policy.rego"],
    );
}

#[test]
fn linked_directories_are_followed() {
    check(PlaceKind::Bundle, &[File("real/a.rego", ""), Link("linked", "real")], &["linked/a.rego", "real/a.rego"]);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    check_fails(PlaceKind::Bundle, "missing", &[], "file_unreadable", "there is no such file or directory");
    check_fails(PlaceKind::Bundle, "", &[Link("data.json", "missing")], "file_unreadable", "data.json");
    check_fails(PlaceKind::Bundle, "", &[Link("sub", "missing")], "file_unreadable", "sub");
    check_fails(PlaceKind::Bundle, "", &[Link("a", "b"), Link("b", "a")], "file_unreadable", "symbolic links");
    check_fails(PlaceKind::Bundle, "", &[Link("sub/up", "..")], "symlink_loop", "sub/up");
    check_fails(
        PlaceKind::Bundle,
        "",
        &[Directory("data.json"), Sized("data.json/data.json", 1001)],
        "file_too_large",
        "1001",
    );
    check_fails(PlaceKind::Bundle, "", &[Sized("data.json", 1001)], "file_too_large", "1001 bytes");
    check_fails(
        PlaceKind::Bundle,
        "",
        &[Sized("a.rego", 1000), Sized("b.rego", 1000), Sized("c.rego", 1000), Sized("d.rego", 1000)],
        "bundle_too_large",
        "3000 bytes",
    );
    check_fails(PlaceKind::Bundle, "b.tar.gz", &[Sized("b.tar.gz", 3001)], "file_too_large", "3001");
    check_fails(PlaceKind::Data, "b.tar.gz", &[File("b.tar.gz", "")], "unknown_file_kind", "archive");
    check_fails(PlaceKind::Data, "n.txt", &[File("n.txt", "")], "unknown_file_kind", ".rego");
    check_fails(PlaceKind::Keys, "keys", &[Directory("keys")], "not_a_file", "keys");
    check_fails(PlaceKind::Keys, "k.json", &[Sized("k.json", MAX_KEY_FILE + 1)], "file_too_large", "k.json");
}

#[test]
fn directories_may_not_nest_without_end() {
    let deep = format!("{}/a.rego", vec!["d"; MAX_DEPTH + 1].join("/"));
    check_fails(PlaceKind::Bundle, "", &[File(&deep, "")], "too_many_files", "nested directories");
}

#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let root = build(&[]);
    let path = root.path().join("data.json");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let errors = read_place(&root, "", PlaceKind::Bundle).unwrap_err();
    assert_eq!(errors[0].code(), "not_a_file");
}

#[test]
fn one_bad_file_does_not_hide_another() {
    let root = build(&[Sized("data.json", 1001), Sized("sub/data.json", 1002), File("a.rego", "")]);
    assert_eq!(read_place(&root, "", PlaceKind::Bundle).unwrap_err().len(), 2);
}

/// Changes that must show in a picture, each made to `data.json` next to `other.json`, both of two bytes.
#[test]
fn every_kind_of_change_shows_in_the_picture() {
    type Edit = fn(&Path);
    let edits: &[(&str, Edit)] = &[
        ("same size, modification time put back", |path| {
            let before = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "[]").unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
        }),
        ("replaced by rename", |path| {
            let other = path.with_file_name("other.json");
            fs::rename(other, path).unwrap();
        }),
        ("permissions", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("a new file beside it", |path| fs::write(path.with_file_name("n.rego"), "").unwrap()),
    ];
    for (name, edit) in edits {
        let root = build(&[File("data.json", "{}"), File("other.json", "{}")]);
        let place = Place { path: root.path().to_owned(), kind: PlaceKind::Bundle };
        let take = || Picture::take([place.clone()], LIMITS, &mut Watched::default());
        let before = take();
        assert_eq!(before, take(), "a picture of the same state is the same");
        edit(&root.path().join("data.json"));
        assert_ne!(before, take(), "{name}");
    }
}

#[test]
fn a_file_that_changed_after_the_picture_is_not_read() {
    let root = build(&[File("data.json", "{}")]);
    let place = Place { path: root.path().to_owned(), kind: PlaceKind::Bundle };
    let picture = Picture::take([place.clone()], LIMITS, &mut Watched::default());
    fs::write(root.path().join("data.json"), "{\"longer\": 1}").unwrap();
    assert!(matches!(picture.read(&place, LIMITS), Reading::Moved));
    fs::remove_file(root.path().join("data.json")).unwrap();
    assert!(matches!(picture.read(&place, LIMITS), Reading::Moved));
}

#[test]
fn a_fresh_change_is_too_fresh_until_it_is_old_enough() {
    let root = build(&[File("data.json", "{}")]);
    let place = Place { path: root.path().to_owned(), kind: PlaceKind::Bundle };
    let picture = Picture::take([place], LIMITS, &mut Watched::default());
    let changed = fs::metadata(root.path().join("data.json")).unwrap().modified().unwrap();
    let quiet = Duration::from_secs(2);
    assert!(picture.too_fresh(quiet, changed + Duration::from_secs(1)).is_some());
    assert_eq!(picture.too_fresh(quiet, changed + Duration::from_secs(3)), None);
    assert_eq!(
        picture.too_fresh(quiet, changed - Duration::from_secs(9)),
        None,
        "a clock that was set back says nothing"
    );
}
