//! The house's rules, held against its source text: layers, who may name which library, what stays pure, where token
//! bytes cannot go, and how files look. Text is looked at line by line with comments cut off; nothing is compiled.

#![expect(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use claimgate::token::RawToken;

/// Each module with those it may use: DESIGN's table. `cli` may use all.
const LAYERS: [(&str, &[&str]); 18] = [
    ("path", &[]),
    ("request", &["path"]),
    ("shutdown", &[]),
    ("state", &[]),
    ("token", &[]),
    ("policy", &[]),
    ("input", &["request", "token", "policy", "snapshot"]),
    ("snapshot", &["token", "policy"]),
    ("authorize", &["request", "path", "token", "policy", "input", "snapshot"]),
    ("revocation", &["shutdown", "state", "token", "snapshot"]),
    ("telemetry", &["revocation", "request", "path", "shutdown", "token", "policy", "input", "snapshot", "authorize"]),
    ("outbound", &["policy"]),
    ("fetch", &["state", "outbound"]),
    ("reload", &["shutdown", "state", "token", "policy", "snapshot", "outbound", "fetch"]),
    ("status_lists", &["token", "snapshot", "telemetry", "fetch"]),
    ("introspection", &["state", "token", "input", "snapshot", "telemetry", "fetch"]),
    (
        "serve",
        &[
            "revocation",
            "state",
            "request",
            "path",
            "shutdown",
            "token",
            "policy",
            "input",
            "snapshot",
            "authorize",
            "telemetry",
            "introspection",
            "status_lists",
        ],
    ),
    (
        "config",
        &[
            "revocation",
            "status_lists",
            "state",
            "token",
            "policy",
            "snapshot",
            "telemetry",
            "outbound",
            "fetch",
            "reload",
            "serve",
        ],
    ),
];

/// Libraries that one module owns.
const OWNED: [(&str, &str); 4] =
    [("regorus", "policy"), ("jsonwebtoken", "token"), ("axum", "serve"), ("notify", "reload")];

/// Modules that do no I/O, and what would be I/O or the process's surroundings.
const PURE: [&str; 7] = ["request", "path", "token", "policy", "input", "snapshot", "authorize"];
const IMPURE: [&str; 11] = [
    "std::fs",
    "TcpStream",
    "UdpSocket",
    "std::env",
    "std::process",
    "std::io::std",
    "tokio::fs",
    "tokio::net",
    "tokio::spawn",
    "SystemTime::now",
    "reqwest",
];

const LONGEST_FILE: usize = 500;
const LONGEST_MAIN: usize = 40;

/// One source file.
struct Source {
    path: PathBuf,
    /// The module of the house it belongs to: `token` for `src/token/keys.rs`.
    module: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers: comments cut off, unit tests left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate();
        let is_tests =
            self.path.ends_with("tests.rs") || self.path.components().any(|part| part.as_os_str() == "tests");
        lines.take(if is_tests { 0 } else { usize::MAX }).map(|(number, line)| {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            (number + 1, code)
        })
    }

    /// Names that follow `crate::`, alone or in a group.
    fn uses(&self) -> BTreeSet<String> {
        let code: String = self.code().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        let mut names = BTreeSet::new();
        for (start, _) in code.match_indices("crate::") {
            let rest = &code[start + "crate::".len()..];
            if !rest.starts_with('{') {
                names.insert(identifier(rest));
                continue;
            }
            let mut depth = 0;
            let mut expecting = false;
            for (at, c) in rest.char_indices() {
                match c {
                    '{' => {
                        depth += 1;
                        expecting = depth == 1;
                    }
                    '}' => depth -= 1,
                    ',' => expecting = depth == 1,
                    c if expecting && !c.is_whitespace() => {
                        names.insert(identifier(&rest[at..]));
                        expecting = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        names.remove("");
        names
    }
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    assert!(files.len() > 60, "only {} source files were found", files.len());
    files
        .into_iter()
        .map(|path| {
            let module = path.components().nth(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
            let module = module.unwrap_or_default().trim_end_matches(".rs").to_owned();
            Source { module, text: fs::read_to_string(&path).expect("readable"), path }
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with all complaints, so that one run shows what is to be mended.
fn nothing_of(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let mut complaints = Vec::new();
    for source in sources() {
        let allowed: &[&str] = match LAYERS.iter().find(|(module, _)| *module == source.module) {
            Some((_, allowed)) => allowed,
            None if ["cli", "main", "lib"].contains(&source.module.as_str()) => continue,
            None => panic!("{}: `{}` stands in no layer", source.path.display(), source.module),
        };
        for used in source.uses() {
            let is_module = used == "cli" || LAYERS.iter().any(|(module, _)| *module == used);
            if is_module && used != source.module && !allowed.contains(&used.as_str()) {
                complaints.push(format!("{}: `{}` may not use `{used}`", source.path.display(), source.module));
            }
        }
    }
    nothing_of(&complaints);
}

#[test]
fn doors_never_import_one_another() {
    const DOORS: [&str; 4] = ["opa", "forward_auth", "events", "admin"];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.module == "serve") {
        let door = source.path.components().nth(2).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let door = door.unwrap_or_default().trim_end_matches(".rs").to_owned();
        if !DOORS.contains(&door.as_str()) {
            continue;
        }
        for (number, line) in source.code() {
            for other in DOORS.iter().filter(|other| **other != door) {
                if line.contains(&format!("super::{other}::")) || line.contains(&format!("serve::{other}")) {
                    complaints.push(format!("{}:{number}: {door} uses {other}", source.path.display()));
                }
            }
        }
    }
    nothing_of(&complaints);
}

#[test]
fn a_library_is_named_by_its_module_only() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (library, owner) in OWNED.iter().filter(|(_, owner)| *owner != source.module) {
            for (number, line) in source.code() {
                let names_it = line.match_indices(library).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let is_start = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != '"');
                    is_start && line[at + library.len()..].starts_with("::")
                });
                if names_it {
                    complaints.push(format!("{}:{number}: `{library}` belongs to {owner}", source.path.display()));
                }
            }
        }
    }
    nothing_of(&complaints);
}

#[test]
fn the_core_does_no_input_or_output_and_reads_no_clock() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        for (number, line) in source.code() {
            for name in IMPURE.iter().filter(|name| line.contains(**name)) {
                complaints.push(format!("{}:{number}: `{name}`", source.path.display()));
            }
        }
    }
    nothing_of(&complaints);
}

#[test]
fn token_bytes_have_no_display_and_a_redacted_debug() {
    const SECRET: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJl";
    let token = RawToken::new(SECRET);
    for shown in [format!("{token:?}"), format!("{token:#?}"), format!("{:?}", Some(&token))] {
        for part in SECRET.split('.') {
            assert!(!shown.contains(part), "{shown}");
        }
    }
    for source in sources() {
        for (number, line) in source.code() {
            let shows = line.contains("Display for RawToken") || line.contains("Serialize for RawToken");
            assert!(!shows, "{}:{number}: {line}", source.path.display());
        }
    }
}

#[test]
fn each_file_says_what_it_is_and_is_short() {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    collect(Path::new("tests/it"), &mut files);
    collect(Path::new("tests/bench"), &mut files);
    let mut complaints = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("readable");
        if !text.starts_with("//! ") {
            complaints.push(format!("{}: the first line is no `//!` that says what the file does", path.display()));
        }
        let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!("{}: {lines} lines before its tests", path.display()));
        }
    }
    let main = fs::read_to_string("src/main.rs").expect("readable").lines().count();
    if main > LONGEST_MAIN {
        complaints.push(format!("src/main.rs: {main} lines"));
    }
    nothing_of(&complaints);
}

#[test]
fn the_map_names_every_room() {
    let map = fs::read_to_string("src/lib.rs").expect("readable");
    let rooms: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    for room in rooms.iter().filter(|room| !["lib", "main"].contains(&room.as_str())) {
        assert!(map.contains(&format!("[`{room}`]")), "src/lib.rs does not explain `{room}`");
        assert!(map.contains(&format!("pub mod {room};")), "src/lib.rs does not declare `{room}`");
    }
}
