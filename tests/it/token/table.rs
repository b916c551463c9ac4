//! The tokens of `tests/cases/token/*.yaml`: each is the good token with a few members changed, and an expected verdict.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CLAIMS, Draft, HEADER, NOW, WORLD, object_text, verdict, with_times};

/// One token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A sentence.
    name: String,
    /// The attack's number in `tests/cases/token/README.md`.
    #[serde(default)]
    attack: Option<String>,
    /// Header members instead or besides, as JSON text; null leaves a member out.
    #[serde(default)]
    header: BTreeMap<String, Option<String>>,
    /// Text put at the end of the header's object.
    #[serde(default)]
    header_end: String,
    /// The whole header.
    #[serde(default)]
    header_text: Option<String>,
    /// Claims instead or besides, as JSON text; null leaves a claim out.
    #[serde(default)]
    claims: BTreeMap<String, Option<String>>,
    /// Text put at the end of the claims' object.
    #[serde(default)]
    claims_end: String,
    /// The whole claims set.
    #[serde(default)]
    claims_text: Option<String>,
    /// Who signs.
    #[serde(default)]
    signer: Option<String>,
    /// Seconds from the usual time.
    #[serde(default)]
    later: i64,
    /// `accepted`, or the code.
    expect: String,
    /// The claims that are left, as JSON text, compared digit by digit.
    #[serde(default)]
    left: Option<String>,
}

fn cases() -> Vec<(PathBuf, Vec<Case>)> {
    let entries = fs::read_dir("tests/cases/token").expect("cases");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("readable");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

fn check(case: &Case) -> Result<(), String> {
    let changes = |of: &BTreeMap<String, Option<String>>| -> Vec<(String, Option<String>)> {
        of.iter().map(|(name, text)| (name.clone(), text.clone())).collect()
    };
    let whole = |text: &Option<String>, otherwise: String| text.as_deref().map_or(otherwise, with_times);
    let header = whole(&case.header_text, object_text(&HEADER, &changes(&case.header), &case.header_end));
    let claims = whole(&case.claims_text, object_text(&CLAIMS, &changes(&case.claims), &case.claims_end));
    let signer = case.signer.as_deref().unwrap_or("es256");
    let (signer, _) = WORLD.signers.get_key_value(signer).ok_or("no such signer")?;
    let (answer, result) = verdict(&Draft { header, claims, signer }.sign(), NOW + case.later);
    if answer != case.expect {
        return Err(format!("expected {}, got {answer}", case.expect));
    }
    let claims: Map<String, Value> = result.map(|claims| claims.claims().clone()).unwrap_or_default();
    let left = Value::Object(claims).to_string();
    match &case.left {
        Some(expected) if *expected != left => Err(format!("expected {expected} to be left, not {left}")),
        _ => Ok(()),
    }
}

#[test]
fn every_token_of_the_tables_gets_its_verdict() {
    let mut wrong = String::new();
    let mut count = 0;
    for (file, cases) in cases() {
        for case in &cases {
            count += 1;
            if let Err(what) = check(case) {
                wrong += &format!("{}: {}: {what}\n", file.display(), case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 150, "only {count} cases were found");
}

#[test]
fn every_attack_of_the_list_has_its_tests() {
    let list = fs::read_to_string("tests/cases/token/README.md").expect("the list");
    let sources: String = ["attacks", "keys", "properties"]
        .iter()
        .map(|name| fs::read_to_string(format!("tests/it/token/{name}.rs")).expect("readable"))
        .collect();
    let in_tables: Vec<String> =
        cases().into_iter().flat_map(|(_, cases)| cases).filter_map(|case| case.attack).collect();
    let rows: Vec<(&str, &str)> = list
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| M")?.split('|').map(str::trim);
            Some((cells.next()?, cells.nth(1)?))
        })
        .collect();
    assert_eq!(rows.len(), 40, "one row for each attack");
    for (number, tests) in rows {
        for test in tests.split(", ") {
            let exists = match test {
                "table" => in_tables.iter().any(|attack| *attack == format!("M{number}")),
                "everywhere" => true,
                name => {
                    sources.contains(&format!("fn {}(", name.trim_matches('`'))) || is_elsewhere(name.trim_matches('`'))
                }
            };
            assert!(exists, "M{number}: no test `{test}`");
        }
    }
    let known = |attack: &String| list.contains(&format!("| {attack} |"));
    assert_eq!(in_tables.iter().find(|attack| !known(attack)), None);
}

/// Tests that stand beside the code that they test.
fn is_elsewhere(name: &str) -> bool {
    name.split_once(": ").is_some_and(|(file, test)| {
        fs::read_to_string(file).is_ok_and(|source| source.contains(&format!("fn {test}()")))
    })
}
