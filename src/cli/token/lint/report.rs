//! A lint report as text, as JSON and as SARIF 2.1.0 (OASIS). Only rules, places and counts are in it.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::super::pretty;
use crate::token::{Finding, Report, Rule, Severity};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A paragraph for each finding, and a last line that counts them.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for Finding { rule, place, detail } in &report.findings {
        let Rule { id, severity, why, instead } = rule;
        let _ = writeln!(text, "{severity}: {id}: {place}: {detail}\n    why: {why}\n    instead: {instead}");
    }
    if report.left_out > 0 {
        let _ = writeln!(text, "{} more findings are left out", report.left_out);
    }
    let [errors, warnings, notes] = counts(report);
    if report.findings.is_empty() {
        text.push_str("ok: no rule objects\n");
    } else {
        let _ = writeln!(text, "errors {errors}, warnings {warnings}, notes {notes}");
    }
    text
}

pub(super) fn json(report: &Report) -> String {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|Finding { rule, place, detail }| {
            json!({
                "rule": rule.id,
                "severity": rule.severity.name(),
                "place": place,
                "detail": detail,
                "why": rule.why,
                "instead": rule.instead,
            })
        })
        .collect();
    let [errors, warnings, notes] = counts(report);
    pretty(&json!({
        "findings": findings,
        "errors": errors,
        "warnings": warnings,
        "notes": notes,
        "left_out": report.left_out,
    }))
}

/// One run of one tool; a place is a logical location, since a token is no file. `file` is the configuration, where that
/// was looked at: services that show results beside files want one.
pub(super) fn sarif(report: &Report, file: Option<&Path>) -> String {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.why },
                "fullDescription": { "text": format!("{}. Instead: {}.", rule.why, rule.instead) },
                "help": { "text": rule.instead },
                "defaultConfiguration": { "level": rule.severity.name() },
            })
        })
        .collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|Finding { rule, place, detail }| {
            let mut location = json!({ "logicalLocations": [{ "fullyQualifiedName": place, "kind": "property" }] });
            if let (Some(file), Value::Object(members)) = (file, &mut location) {
                let uri = file.to_string_lossy().replace('\\', "/");
                members.insert("physicalLocation".to_owned(), json!({ "artifactLocation": { "uri": uri } }));
            }
            json!({
                "ruleId": rule.id,
                "ruleIndex": Rule::ALL.iter().position(|known| known.id == rule.id),
                "level": rule.severity.name(),
                "message": { "text": format!("{place}: {detail}. Instead: {}.", rule.instead) },
                "locations": [location],
                "partialFingerprints": { "place/v1": format!("{}:{place}", rule.id) },
            })
        })
        .collect();
    pretty(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "claimgate", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
            "properties": { "leftOut": report.left_out },
        }],
    }))
}

/// Every rule, as text.
pub(super) fn rules() -> String {
    let mut text = String::new();
    for Rule { id, severity, why, instead } in Rule::ALL {
        let _ = writeln!(text, "{id} ({severity})\n    why: {why}\n    instead: {instead}");
    }
    text
}

/// Every rule, as JSON.
pub(super) fn rules_json() -> String {
    let rules = Rule::ALL.iter().map(|Rule { id, severity, why, instead }| {
        json!({ "rule": id, "severity": severity.name(), "why": why, "instead": instead })
    });
    pretty(&json!({ "rules": rules.collect::<Vec<_>>() }))
}

fn counts(report: &Report) -> [usize; 3] {
    [Severity::Error, Severity::Warning, Severity::Note]
        .map(|severity| report.findings.iter().filter(|finding| finding.rule.severity == severity).count())
}
