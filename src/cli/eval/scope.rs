//! Where a query stands: `--package` and `--import` as OPA reads them.

use crate::policy::QueryScope;

/// `a.b`.
#[derive(Debug, Clone)]
pub(super) struct Package(Vec<String>);

/// `data.a.b as c`; `None` for imports that change nothing here, such as `rego.v1`.
#[derive(Debug, Clone)]
pub(super) struct Import(Option<(String, bool, Vec<String>)>);

pub(super) fn package(text: &str) -> Result<Package, String> {
    names(text).map(Package).ok_or_else(|| format!("`{text}` is no package; write names with dots, such as `a.b`"))
}

pub(super) fn import(text: &str) -> Result<Import, String> {
    let wrong = || format!("`{text}` is no import; write `data.a.b`, `data.a.b as c` or `input.a as b`");
    let (path, alias) = match text.trim().split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim())),
        None => (text.trim(), None),
    };
    let mut steps = names(path.trim()).ok_or_else(wrong)?;
    let last = steps.last().cloned();
    let name = match alias.map(str::to_owned).or(last).map(|name| names(&name)) {
        Some(Some(name)) => name.concat(),
        _ => return Err(wrong()),
    };
    match steps.remove(0).as_str() {
        "future" | "rego" => Ok(Import(None)),
        "data" if alias.is_some() || !steps.is_empty() => Ok(Import(Some((name, false, steps)))),
        "input" if alias.is_some() || !steps.is_empty() => Ok(Import(Some((name, true, steps)))),
        _ => Err(wrong()),
    }
}

pub(super) fn of(package: Option<&Package>, imports: &[Import]) -> QueryScope {
    QueryScope {
        package: package.map(|Package(path)| path.clone()).unwrap_or_default(),
        imports: imports.iter().filter_map(|Import(import)| import.clone()).collect(),
    }
}

/// At least one.
fn names(text: &str) -> Option<Vec<String>> {
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let names: Vec<&str> = text.split('.').collect();
    names.iter().all(is_name).then(|| names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_imports_are_names_with_dots() {
        for (text, want) in [
            ("data.a.b", Some(("b", false, "a.b"))),
            ("data.a as c", Some(("c", false, "a"))),
            ("input.user", Some(("user", true, "user"))),
            ("input as i", Some(("i", true, ""))),
            ("rego.v1", None),
        ] {
            let want = want.map(|(name, from_input, path): (&str, bool, &str)| {
                let path = path.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect();
                (name.to_owned(), from_input, path)
            });
            assert_eq!(import(text).unwrap().0, want, "{text}");
        }
        for text in ["", "foo", "data", "input", "data.a as", "data.a as 1", "data[0]", "data..a"] {
            assert!(import(text).is_err(), "{text}");
        }
        assert_eq!(package("a.b").unwrap().0, ["a", "b"]);
        assert!(package("a b").is_err());
    }
}
