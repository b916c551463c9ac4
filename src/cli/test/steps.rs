//! Where a test fails: the first statement of each of its definitions that does not hold, and the values of what it is
//! made of. Functions and rules that the
//! statement asks are not followed.

use std::fmt::Write as _;

use super::cases;
use crate::{
    cli::sources::Loading,
    policy::{Location, Outcome, PolicySet, Source, TermProbe, TestRule, Value, to_opa_json},
};

/// Characters of a value that are shown.
const MOST_SHOWN: usize = 64;

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

/// The statement that fails, with the values of its variables below it, as `opa test --var-values` shows them.
pub(super) fn values(files: &[Source], set: &PolicySet, rule: &TestRule, loading: &Loading) -> String {
    let probes = set.step_probes(rule);
    let failed = probes.iter().flatten().find(|step| {
        let outcome = cases::ask(files, set, rule, &step.module, loading);
        !matches!(outcome, Some(Outcome::Value(Value::Set(members))) if !members.is_empty())
    });
    let Some(step) = failed else { return String::new() };
    let mut known: Vec<(usize, &str, String)> = Vec::new();
    for TermProbe { text, before, module } in &step.terms {
        // A rule that is undefined, and a name that is no variable, have no value to show.
        if let Some(Outcome::Value(Value::Set(found))) = cases::ask(files, set, rule, module, loading)
            && let Some(value) = found.iter().next_back()
        {
            known.push((*before, text, shortened(&to_rego(value))));
        }
    }
    known.sort();
    let mut text = format!("{}:\n", place(&step.location));
    let line = line_before(files, &step.location);
    let _ = writeln!(text, "  {}{}", padding(&line, line.chars().count()), step.text);
    let columns: Vec<usize> = known.iter().map(|(column, ..)| *column).collect();
    if !known.is_empty() {
        let _ = writeln!(text, "  {}", arrows(&line, &columns));
    }
    for (index, (column, title, value)) in known.iter().enumerate().rev() {
        let before: Vec<usize> = columns.iter().take(index).copied().filter(|known| known < column).collect();
        let shared = columns.iter().filter(|known| *known == column).count() > 1;
        let arrows = arrows(&line, &before);
        let pad = padding(&line, *column);
        let rest: String = pad.chars().skip(arrows.chars().count()).collect();
        let title = if shared { format!("{title}: ") } else { String::new() };
        let _ = writeln!(text, "  {arrows}{rest}{title}{value}");
    }
    text
}

/// A bar below each column.
fn arrows(line: &str, columns: &[usize]) -> String {
    let mut text = String::new();
    for column in columns {
        let pad = padding(line, *column);
        let written = text.chars().count();
        if written <= *column {
            text.extend(pad.chars().skip(written));
            text.push('|');
        }
    }
    text
}

/// What moves to a column: tabs as the line has them, and spaces.
fn padding(line: &str, column: usize) -> String {
    line.chars().chain(std::iter::repeat(' ')).take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect()
}

/// The text of a line before a place.
fn line_before(files: &[Source], location: &Location) -> String {
    let found = files.iter().find_map(|source| {
        let file = source.files.iter().find(|file| source.display(&file.path) == location.file)?;
        let text = std::str::from_utf8(&file.bytes).ok()?;
        let line = text.lines().nth(usize::try_from(location.row.checked_sub(1)?).ok()?)?;
        // The engine takes a tab for four columns.
        let mut column = 1;
        let is_before = |c: &char| {
            let before = column < location.col;
            column += if *c == '\t' { 4 } else { 1 };
            before
        };
        Some(line.chars().take_while(is_before).collect())
    });
    found.unwrap_or_default()
}

/// A value as Rego.
fn to_rego(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(to_rego).collect())),
        Value::Set(items) if items.is_empty() => "set()".to_owned(),
        Value::Set(items) => format!("{{{}}}", list(items.iter().map(to_rego).collect())),
        Value::Object(members) => {
            let member = |(name, value): (&Value, &Value)| format!("{}: {}", to_rego(name), to_rego(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        other => to_opa_json(other),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some(_) => text.chars().take(MOST_SHOWN - 3).collect::<String>() + "...",
        None => text.to_owned(),
    }
}

fn place(location: &Location) -> String {
    format!("{}:{}", location.file, location.row)
}
