//! The configuration through its one door, [`config::load`]: the reference file, the defaults, and a table of broken
//! files with the exact words that a person reads.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use claimgate::{
    config::{self, Code, Findings, Origin, Override, Settings},
    reload::KeySource,
    serve::{Listen, TokenSource},
    telemetry::Destination,
};

const EXAMPLE: &str = "examples/claimgate.yaml";

fn environment(name: &str) -> Option<String> {
    match name {
        "ISSUER" => Some("https://idp.example".to_owned()),
        "CONNECTIONS" => Some("77".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn load(file: Option<&Path>, overrides: &[&str]) -> Result<Settings, String> {
    let overrides = overrides.iter().map(|one| Override::Set((*one).to_owned())).collect();
    config::load(&Origin { file: file.map(Path::to_path_buf), overrides }, &environment).map_err(|problems| {
        problems.iter().fold(String::new(), |mut text, problem| {
            let _ = writeln!(text, "{problem}");
            text
        })
    })
}

/// Loads `text` as a file of its own directory.
fn load_text(text: &str, overrides: &[&str]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("claimgate.yaml");
    fs::write(&file, text).expect("writable");
    load(Some(&file), overrides).map_err(|text| text.replace(&format!("{}/", directory.path().display()), ""))
}

const MINIMAL: &str = "issuers: [{issuer: 'https://a', audiences: [x], jwks: {inline: '{\"keys\":[]}'}}]";

#[test]
fn broken_files_are_explained_in_the_words_beside_them() {
    // `UPDATE=1` writes the expected texts anew; read them before committing.
    let update = std::env::var_os("UPDATE").is_some();
    let mut cases = 0;
    let mut wrong = String::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir("tests/cases/config").expect("cases").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "yaml")) {
        cases += 1;
        let found = match load(Some(file), &[]) {
            Ok(_) => "loads\n".to_owned(),
            Err(text) => text.replace("tests/cases/config/", ""),
        };
        let expected_file = file.with_extension("txt");
        if update {
            fs::write(&expected_file, &found).expect("writable");
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if found != expected {
            let _ = writeln!(wrong, "{}:\n--- expected\n{expected}--- found\n{found}", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases >= 20, "only {cases} cases were found");
}

#[test]
fn the_reference_file_loads_and_its_settings_arrive() {
    let settings = load(Some(Path::new(EXAMPLE)), &[]).unwrap_or_else(|text| panic!("{text}"));
    let issuers: Vec<_> = settings.reload.profiles.iter().map(|(profile, _)| profile.issuer()).collect();
    assert_eq!(
        issuers,
        [
            "https://idp.example.com",
            "https://login.example.org",
            "https://ci.example.com",
            "https://batch.example.com",
            "https://signals.example.net",
            "https://risk.example.net",
            "https://audit.example.net",
            "https://lab.example.net"
        ]
    );
    assert!(settings.reload.profiles[4].0.is_transmitter());
    let transmitters = &settings.reload.transmitters;
    let speaks_of: Vec<_> = transmitters.iter().map(|one| (&*one.issuer, &*one.tokens_of)).collect();
    let idp = "https://idp.example.com";
    assert_eq!(speaks_of[..2], [(idp, idp), ("https://signals.example.net", idp)]);
    assert_eq!(transmitters[0].audiences, ["https://gate.example.com"]);
    let events = settings.serve.events.expect("a listener for issuers");
    assert_eq!(events.listen, Listen::Tcp("127.0.0.1:8383".parse().expect("address")));
    let logout = settings.reload.profiles[0].0.logout().expect("logout tokens");
    assert_eq!(logout.audiences, ["web"]);

    assert!(matches!(&settings.reload.profiles[0].1, KeySource::Url { url, .. } if url.ends_with("/jwks.json")));
    assert!(matches!(&settings.reload.profiles[1].1, KeySource::Discovery { url: None, .. }));
    assert!(matches!(&settings.reload.profiles[2].1, KeySource::File(path) if path == Path::new("examples/jwks.json")));
    assert!(matches!(&settings.reload.profiles[3].1, KeySource::Inline(text) if text.contains("batch-1")));
    assert_eq!(settings.reload.bundles[0].path, Path::new("examples/../rego"));
    assert_eq!(settings.reload.data[0].path, Path::new("examples/../data"));
    assert_eq!(settings.reload.entrypoint.map(|path| path.to_string()).as_deref(), Some("authz/decision"));
    assert_eq!(settings.reload.subject.map(|subject| subject.from), Some(vec!["users".to_owned()]));
    assert_eq!(settings.serve.listen, [Listen::Tcp("127.0.0.1:8181".parse().expect("address"))]);
    assert_eq!(settings.serve.trusted_peers.len(), 3);
    assert_eq!(settings.serve.forwarded_headers, ["x-request-id"]);
    assert_eq!(settings.serve.identity_headers, ["x-user"]);
    assert_eq!(settings.decision_log.destination, Destination::File("examples/decisions.log".into()));
    assert_eq!(settings.decision_log.mask, ["/input/request/query"]);
}

#[test]
fn every_line_of_the_reference_file_that_is_not_an_example_shows_the_default() {
    let text = fs::read_to_string(EXAMPLE).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    // Its relative paths must lead somewhere.
    let home = tempfile::tempdir().expect("a directory");
    for directory in ["examples", "rego", "data"] {
        fs::create_dir(home.path().join(directory)).expect("writable");
    }
    fs::create_dir_all(home.path().join("tests/fixtures/tls")).expect("writable");
    let tls = ["ca", "client", "client-key"].map(|name| format!("tests/fixtures/tls/{name}.pem"));
    for copied in tls.iter().map(String::as_str).chain([
        "examples/jwks.json",
        "examples/introspection-secret",
        "examples/revocation-credential",
        "examples/revoked.jsonl",
        "examples/events-credential",
    ]) {
        fs::copy(copied, home.path().join(copied)).expect("copied");
    }
    let file = home.path().join(EXAMPLE);
    let load = |lines: &[&str]| {
        fs::write(&file, lines.join("\n")).expect("writable");
        load(Some(&file), &[]).map(|settings| format!("{settings:#?}"))
    };
    let whole = load(&lines).unwrap_or_else(|text| panic!("{text}"));
    let mut checked = 0;
    for (index, line) in lines.iter().enumerate() {
        let leaf = line.split_once(": ").is_some_and(|(_, value)| !value.is_empty());
        if line.trim_start().starts_with('#') || line.ends_with("# example") || !leaf {
            continue;
        }
        checked += 1;
        let mut without = lines.clone();
        // Blank, so that all others keep their places.
        without[index] = "";
        let without = load(&without).unwrap_or_else(|text| panic!("without `{line}`: {text}"));
        assert_eq!(whole, without, "line {}: `{line}` is not the default", index + 1);
    }
    assert!(checked > 35, "only {checked} lines were checked");
}

#[test]
fn every_key_of_the_schema_stands_in_the_reference_file() {
    let origin = Origin { file: Some(EXAMPLE.into()), overrides: Vec::new() };
    let Findings { keys, problems, .. } = config::examine(&origin, &environment);
    assert_eq!(problems, []);
    let text = fs::read_to_string(EXAMPLE).expect("readable");
    let written = keys_of(&text);
    let missing: Vec<_> = keys.difference(&written).collect();
    assert!(missing.is_empty(), "not in {EXAMPLE}: {missing:?}");
    assert!(keys.len() > 60, "only {} keys are known", keys.len());
}

/// Full names of the keys in a block-style YAML text (`issuers[].jwks.url`), good enough for the reference file.
fn keys_of(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        let content = line.trim_start();
        let item = content.starts_with("- ");
        let content = content.strip_prefix("- ").unwrap_or(content);
        let indent = line.len() - line.trim_start().len() + if item { 2 } else { 0 };
        open.retain(|(depth, _)| *depth < indent);
        let mut path: String = open.last().map(|(_, path)| path.clone()).unwrap_or_default();
        if item || path.ends_with("issuers") || path.ends_with("transmitters") {
            path.push_str("[]");
        }
        let flow = content.strip_prefix('{').unwrap_or(content);
        for member in if flow.len() < content.len() { flow.split(", ").collect::<Vec<_>>() } else { vec![content] } {
            if let Some((key, _)) = member.split_once(':') {
                let full = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                keys.insert(full.clone());
                if flow.len() == content.len() {
                    open.push((indent, full));
                }
            }
        }
    }
    keys
}

#[test]
fn a_minimal_file_gets_safe_defaults() {
    let settings = load_text(MINIMAL, &[]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(settings.serve.listen, [Listen::Tcp("127.0.0.1:8181".parse().expect("address"))]);
    assert_eq!(settings.serve.admin, Some(Listen::Tcp("127.0.0.1:8282".parse().expect("address"))));
    assert_eq!(
        settings.serve.token_sources,
        [TokenSource::Header { name: "authorization".to_owned(), scheme: "Bearer".to_owned() }]
    );
    assert_eq!(settings.reload.anonymous, claimgate::snapshot::Anonymous::Deny);
    assert!(settings.serve.trusted_peers.is_empty());
    assert_eq!(settings.decision_log.destination, Destination::None);
}

#[test]
fn json_is_accepted_too() {
    let text = r#"{"issuers": [{"issuer": "https://a", "audiences": ["x"], "jwks": {"inline": {"keys": []}}}],
                   "listen": ["127.0.0.1:1", "unix:/tmp/x.sock"]}"#;
    let settings = load_text(text, &[]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(settings.serve.listen.len(), 2);
    assert!(matches!(&settings.reload.profiles[0].1, KeySource::Inline(text) if text == r#"{"keys":[]}"#));
}

#[test]
fn variables_stand_for_strings_numbers_and_flags() {
    let text =
        format!("{MINIMAL}\nlimits: {{connections: \"${{CONNECTIONS}}\"}}\ntoken: {{realm: 'a $$ b ${{EMPTY}}'}}\n");
    let settings = load_text(&text, &[]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(settings.serve.limits.connections, 77);
    assert_eq!(settings.serve.realm, "a $ b ");
}

#[test]
fn a_variable_cannot_bring_structure_into_the_file() {
    let text = "issuers: [{issuer: '${EVIL}', audiences: [x], jwks: {inline: '{\"keys\":[]}'}}]";
    let origin = |file: PathBuf| Origin { file: Some(file), overrides: Vec::new() };
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("writable");
    let evil = |_: &str| Some("x',audiences:[y]},{issuer:'z".to_owned());
    let settings = config::load(&origin(file.path().to_path_buf()), &evil).expect("it is one string");
    assert_eq!(settings.reload.profiles.len(), 1);
    assert_eq!(settings.reload.profiles[0].0.issuer(), "x',audiences:[y]},{issuer:'z");
}

#[test]
fn an_override_replaces_appends_and_creates() {
    let settings = load_text(
        MINIMAL,
        &[
            "limits.body_bytes=2MiB",
            "issuers[0].leeway=10s",
            "issuers[0].claims.keep=[role, org_id]",
            "listen[0]=127.0.0.1:1",
            "listen[1]=unix:/tmp/x.sock",
            "decision_log.labels.zone=a",
            "limits.connections=${CONNECTIONS}",
            "shutdown.grace=1s",
            "shutdown.grace=2s",
        ],
    )
    .unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(settings.serve.limits.body_bytes, 2 << 20);
    assert_eq!(settings.serve.limits.connections, 77);
    assert_eq!(settings.serve.listen.len(), 2);
    assert_eq!(settings.serve.shutdown_grace, Duration::from_secs(2), "the last one wins");
    assert_eq!(settings.decision_log.labels["zone"], "a");
    let (profile, _) = &settings.reload.profiles[0];
    assert_eq!(profile.projected_names().into_iter().collect::<Vec<_>>(), ["org_id", "role"]);
}

#[test]
fn a_problem_of_an_override_shows_the_argument() {
    for (argument, expected) in [
        ("limits.body_bytes", "--set limits.body_bytes: it has no `=`; write `--set key=value`\n"),
        (
            "limits.body_byte=1MiB",
            "--set limits.body_byte=1MiB: limits.body_byte: there is no such key; did you mean `body_bytes`?\n",
        ),
        (
            "limits.body_bytes=lots",
            "--set limits.body_bytes=lots: limits.body_bytes: `lots` is not a size; write one such as `512B`, `8KiB` or `1MiB`\n",
        ),
        (
            "issuers[3].leeway=10s",
            "--set issuers[3].leeway=10s: there is no item [3]; the list has 1, and [1] appends one\n",
        ),
        ("token.realm.x=1", "--set token.realm.x=1: token.realm: expected a string, found a mapping\n"),
        ("..=1", "--set ..=1: `..` is not a key; write one such as `limits.body_bytes` or `issuers[0].leeway`\n"),
    ] {
        assert_eq!(load_text(MINIMAL, &[argument]).map(|_| ()), Err(expected.to_owned()), "{argument}");
    }
}

#[test]
fn paths_start_at_the_file_or_at_the_working_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("policies")).expect("writable");
    let file = directory.path().join("claimgate.yaml");
    fs::write(&file, format!("{MINIMAL}\npolicy: {{bundles: [policies]}}\n")).expect("writable");
    let origin = Origin {
        file: Some(file),
        overrides: vec![Override::Append {
            shown: "--bundle tests".to_owned(),
            key: "policy.bundles",
            value: "tests".to_owned(),
        }],
    };
    let settings = config::load(&origin, &environment).expect("both exist");
    let paths: Vec<_> = settings.reload.bundles.into_iter().map(|bundle| bundle.path).collect();
    assert_eq!(paths, [directory.path().join("policies"), PathBuf::from("tests")]);
}

#[test]
fn a_file_that_cannot_be_a_configuration_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c.yaml");
    let check = |expected: &str| {
        let text = load(Some(&path), &[]).expect_err("refused");
        assert_eq!(text, format!("{}: {expected}\n", path.display()));
    };
    check("cannot be read: there is no such file or directory");
    fs::write(&path, [0xff, 0xfe, 0x00]).expect("writable");
    check("it is not UTF-8 text; this cannot be a configuration");
    fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("writable");
    check("it is longer than 1MiB; this cannot be a configuration");
    fs::remove_file(&path).expect("removable");
    fs::create_dir(&path).expect("writable");
    check("cannot be read: it is a directory");
}

#[test]
fn deep_and_huge_documents_end_as_a_problem() {
    for text in [
        "[".repeat(100_000),
        format!("a: &a [1]\n{}", "b: [*a, *a]\n".repeat(10)),
        format!("{}1", "a: {".repeat(5_000)),
        "\u{feff}".to_owned(),
        "a: b: c".to_owned(),
        "- 1\n- 2".to_owned(),
        "---\na: 1\n---\nb: 2\n".to_owned(),
        "%YAML 9.9\n---\n".to_owned(),
        "{".to_owned(),
        "*x".to_owned(),
        "!!binary x".to_owned(),
        "\t".to_owned(),
        "? [a]\n: b".to_owned(),
    ] {
        let shown: String = text.chars().take(30).collect();
        assert!(load_text(&text, &[]).is_err(), "{shown}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_file_loads_or_is_explained(
        cut in 0usize..8_000,
        length in 0usize..40,
        junk in r#"[ -~\n\t{}\[\]:&*!|>'"$-]{0,12}"#,
        argument in r#"[a-z.\[\]0-9+=${}:, -]{0,30}"#,
    ) {
        let text = fs::read_to_string(EXAMPLE).expect("readable");
        let cut = cut.min(text.len());
        let (before, after) = (text.get(..cut).unwrap_or(""), text.get((cut + length).min(text.len())..).unwrap_or(""));
        match load_text(&format!("{before}{junk}{after}"), &[&argument]) {
            Ok(_) => {}
            Err(problems) => assert!(!problems.trim().is_empty() && !problems.contains("panicked")),
        }
    }
}

#[test]
fn codes_are_unique_and_stable() {
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    assert!(codes.iter().all(|code| code.starts_with("config_")), "{codes:?}");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("claimgate.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
    let (sender, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(load(Some(&file), &[]).map(|_| ())));
    let result = result.recv_timeout(Duration::from_secs(20)).expect("the pipe is not opened");
    assert!(result.expect_err("refused").contains("it is not a regular file"));
}
