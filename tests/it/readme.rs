//! The README held against the program: its configuration and its policy do what it says, its tables name every key and
//! every verb, and its links lead somewhere.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use claimgate::config::{self, Origin};
use serde_json::json;

use crate::support::{setup::Setup, tokens::Issuer};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).expect("readable")
}

/// The first block of a language.
fn block(language: &str) -> String {
    let text = readme();
    let rest = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language}")).1;
    rest.split_once("\n```").expect("an end").0.to_owned()
}

/// The rows of the table in a section, without its head.
fn rows(section: &str) -> Vec<String> {
    let text = readme();
    let rest = text.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}")).1;
    let section = rest.split("\n## ").next().unwrap_or_default();
    section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

#[test]
fn the_policy_of_the_readme_decides_as_it_says() {
    let issuer = Issuer::new();
    let config = format!(
        "{}policy: {{bundles: [policy], data: [data], entrypoint: authz/decision}}\n\
         subject: {{from: data.users, key: sub}}\n",
        issuer.section()
    );
    let server = Setup::new(&config).copy("data", "data").file("policy/p.rego", &block("rego")).serve();
    for (subject, org, folder, allow) in [
        ("carl", "acme", "campaign-2026", true),
        ("carl", "globex", "campaign-2026", false),
        ("carl", "acme", "forecast-q3", false),
        ("victor", "acme", "campaign-2026", false),
    ] {
        let token = issuer.token_with(json!({"sub": subject, "org_id": org}));
        let question = json!({"input": {"resource": {"id": folder}}}).to_string();
        let fields = [("authorization", &*format!("Bearer {token}"))];
        let answer = server.post("/v1/data/authz/decision", &fields, &question);
        assert_eq!(answer.result()["allow"], allow, "{subject} {org} {folder}: {answer:?}");
    }
}

#[test]
fn the_configuration_of_the_readme_loads() {
    let directory = Setup::new(&block("yaml")).copy("rego", "rego").copy("data", "data").into_directory();
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(["check", "-c", "claimgate.yaml"])
        .current_dir(directory.path())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_table_of_keys_names_all_keys_and_no_others() {
    let origin = Origin { file: Some(Path::new(ROOT).join("examples/claimgate.yaml")), ..Origin::default() };
    let known: BTreeSet<String> =
        config::examine(&origin, &|_| None).keys.into_iter().map(|key| key.replace("[0]", "[]")).collect();
    assert!(known.contains("limits.body_bytes"), "{known:?}");
    let mut named = BTreeSet::new();
    for row in rows("Configure") {
        let keys = row.split('|').nth(1).expect("a cell");
        let mut base = String::new();
        for key in keys.split('`').skip(1).step_by(2) {
            let key = match key.strip_prefix('.') {
                Some(last) => format!("{base}.{last}"),
                None => key.to_owned(),
            };
            base = key.rsplit_once('.').map_or_else(String::new, |(base, _)| base.to_owned());
            named.insert(key);
        }
    }
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no such keys: {unknown:?}; there are {known:?}");
    let is_inner = |key: &str| {
        known.iter().any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[")))
    };
    let missing: Vec<_> = known.difference(&named).filter(|key| !is_inner(key)).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

#[test]
fn the_table_of_commands_names_every_verb() {
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate")).arg("--help").output().expect("runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let commands = help.split_once("Commands:\n").and_then(|(_, rest)| rest.split_once("\n\n")).expect("commands").0;
    let table = rows("Commands").join("\n");
    for line in commands.lines() {
        let verb = line.split_whitespace().next().expect("a verb");
        assert!(table.contains(&format!("`{verb}")), "{verb} is not in {table}");
    }
}

#[test]
fn every_link_into_the_repository_leads_somewhere() {
    let text = readme();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: Vec<_> = targets.filter(|target| !target.contains("://")).collect();
    assert!(local.len() > 5, "{local:?}");
    for target in local {
        assert!(Path::new(ROOT).join(target).exists(), "{target}");
    }
}
