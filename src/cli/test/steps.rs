//! Where a test fails: the first statement of each of its definitions that does not hold. Functions and rules that the
//! statement asks are not followed.

use std::fmt::Write as _;

use super::cases;
use crate::{
    cli::sources::Loading,
    policy::{Location, Outcome, PolicySet, Source, TestRule, Value},
};

/// The trace of a failed test in the form of OPA's, without the levels below the test itself.
pub(super) fn trace(files: &[Source], set: &PolicySet, rule: &TestRule, loading: &Loading) -> String {
    let name = format!("{}.{}", rule.package, rule.name);
    let mut lines = vec![("query:1".to_owned(), format!("Enter {name} = _"))];
    for (start, steps) in rule.locations.iter().zip(set.step_probes(rule)) {
        lines.push((place(start), format!("| Enter {name}")));
        let failed = steps.iter().find(|step| {
            let outcome = cases::ask(files, set, rule, &step.module, loading);
            !matches!(outcome, Some(Outcome::Value(Value::Set(members))) if !members.is_empty())
        });
        if let Some(step) = failed {
            lines.push((place(&step.location), format!("| | Fail {}", step.text)));
        }
    }
    lines.push(("query:1".to_owned(), format!("| Fail {name} = _")));
    // OPA's columns: seven spaces after the longest place.
    let width = lines.iter().map(|(place, _)| place.len()).max().unwrap_or_default() + 7;
    lines.iter().fold(String::new(), |mut text, (place, event)| {
        let _ = writeln!(text, "{place:width$}{event}");
        text
    })
}

fn place(location: &Location) -> String {
    format!("{}:{}", location.file, location.row)
}
