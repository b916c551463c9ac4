//! Tests of the same name: `opa test` runs each definition as a test of its own and calls the second one `test_x#01`.
//! Here the second one gets a name of its own in the text before it is compiled. Positions of what stands on the same
//! line after the name move; nothing else changes.

use std::collections::BTreeMap;

use crate::policy::{Source, TestRule};

/// Between the name and the number, in the text that is compiled.
const MARK: &str = "__claimgate_twin_";

/// Renames all definitions but the first of every test that has several. Did it change anything?
pub(super) fn part(sources: &mut [Source], rules: &[TestRule]) -> bool {
    // By file, and from the end of each, so that positions stay true.
    let mut changes: BTreeMap<&str, Vec<(u32, u32, &str, usize)>> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| !rule.has_cases) {
        for (index, location) in rule.locations.iter().enumerate().skip(1) {
            let change = (location.row, location.col, rule.name.as_str(), index);
            changes.entry(location.file.as_str()).or_default().push(change);
        }
    }
    let mut changed = false;
    for source in sources {
        let displays: Vec<String> = source.files.iter().map(|file| source.display(&file.path)).collect();
        for (file, display) in source.files.iter_mut().zip(displays) {
            let Some(places) = changes.get_mut(display.as_str()) else { continue };
            places.sort_unstable_by(|a, b| b.cmp(a));
            let Ok(mut text) = String::from_utf8(file.bytes.clone()) else { continue };
            for (row, col, name, index) in places.iter() {
                let Some(end) = end_of_name(&text, *row, *col, name) else { continue };
                text.insert_str(end, &format!("{MARK}{index:02}"));
                changed = true;
            }
            file.bytes = text.into_bytes();
        }
    }
    changed
}

/// The name as the report shows it.
pub(super) fn shown(name: &str) -> String {
    name.replacen(MARK, "#", 1)
}

/// Where the name that starts at a place ends, as an offset.
fn end_of_name(text: &str, row: u32, col: u32, name: &str) -> Option<usize> {
    let line = usize::try_from(row.checked_sub(1)?).ok()?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = usize::try_from(col.checked_sub(1)?).ok()?;
    let offset = text.get(start..)?.char_indices().nth(column)?.0;
    let start = start + offset;
    text.get(start..)?.starts_with(name).then_some(start + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_row_and_column() {
        let text = "package a\n\n\té test_x if true";
        assert_eq!(end_of_name(text, 3, 4, "test_x"), Some(text.find(" if").unwrap()));
        assert_eq!(end_of_name(text, 3, 5, "test_x"), None);
        assert_eq!(end_of_name(text, 9, 1, "test_x"), None);
        assert_eq!(end_of_name(text, 0, 0, "test_x"), None);
        assert_eq!(shown(&format!("test_x{MARK}01")), "test_x#01");
    }
}
