//! What builtins take and give: `builtins.txt` beside this file, a line for each builtin of OPA 1.22.2, written from its
//! `builtin_metadata.json` and `capabilities.json` (Apache-2.0, as the conformance cases). It says nothing about which of them exist here.

use std::{collections::HashMap, sync::LazyLock};

use super::{
    Ty, Type,
    notation::{Reader, elided, sprint},
};

/// Most columns of a line that spells types out.
const WIDE: usize = 80;

/// One builtin.
#[derive(Debug)]
pub(in crate::policy) struct Signature {
    /// Name (may be empty) and type.
    pub arguments: Vec<(&'static str, Ty)>,
    /// Name and type of the result; nothing for what has none.
    pub result: Option<(&'static str, Ty)>,
    /// Kept for old policies only.
    pub is_deprecated: bool,
    /// May have many results.
    pub is_relation: bool,
}

static SIGNATURES: LazyLock<HashMap<&'static str, Signature>> =
    LazyLock::new(|| include_str!("builtins.txt").lines().filter_map(read).collect());

/// The signature of a builtin.
pub(in crate::policy) fn signature(name: &str) -> Option<&'static Signature> {
    SIGNATURES.get(name)
}

impl Signature {
    /// The arguments, and the result as the last one.
    pub(in crate::policy) fn places(&self) -> Vec<Ty> {
        self.arguments.iter().chain(&self.result).map(|(_, ty)| ty.clone()).collect()
    }

    pub(in crate::policy) fn function(&self) -> Ty {
        let arguments = self.arguments.iter().map(|(_, ty)| ty.clone()).collect();
        super::plain(Type::Function { arguments, result: self.result.as_ref().and_then(|(_, ty)| ty.clone()) })
    }
}

/// The lines under a complaint about a call: what it has and what is wanted.
pub(in crate::policy) fn have_and_want(have: &[Ty], want: &[(&str, Ty)]) -> Vec<String> {
    let name = |(name, text): (&str, String)| if name.is_empty() { text } else { format!("{name}: {text}") };
    let lines = |write: fn(&Ty) -> String| {
        let have: Vec<String> = have.iter().map(write).collect();
        let want: Vec<String> = want.iter().map(|(own, ty)| name((own, write(ty)))).collect();
        vec![format!("have: ({})", have.join(", ")), format!("want: ({})", want.join(", "))]
    };
    let whole = lines(sprint);
    if whole.iter().all(|line| line.chars().count() <= WIDE) { whole } else { lines(elided) }
}

fn read(line: &'static str) -> Option<(&'static str, Signature)> {
    let (is_deprecated, line) = line.strip_prefix("deprecated ").map_or((false, line), |rest| (true, rest));
    let (is_relation, line) = line.strip_prefix("relation ").map_or((false, line), |rest| (true, rest));
    let (name, rest) = line.split_once('(')?;
    // Arguments are told apart by a reader of types, because types hold commas too.
    let mut reader = Reader { rest };
    let mut arguments = Vec::new();
    while !reader.take(")") {
        arguments.push(named(&mut reader));
        reader.take(", ");
    }
    reader.take(" => ");
    let result = Some(named(&mut reader)).filter(|(_, ty)| ty.is_some());
    Some((name, Signature { arguments, result, is_deprecated, is_relation }))
}

/// `name: type`, or a type.
fn named(reader: &mut Reader<'static>) -> (&'static str, Ty) {
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' '));
    let name = match reader.rest.split_once(": ") {
        Some((name, rest)) if is_name(name) => {
            reader.rest = rest;
            name
        }
        _ => "",
    };
    (name, reader.ty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_signature() {
        crate::policy::types::refuel(1_000_000);
        assert_eq!(SIGNATURES.len(), include_str!("builtins.txt").lines().count());
        for line in include_str!("builtins.txt").lines() {
            let (name, signature) = read(line).unwrap();
            let side = |(name, ty): &(&str, Ty)| {
                if name.is_empty() { sprint(ty) } else { format!("{name}: {}", sprint(ty)) }
            };
            let arguments: Vec<String> = signature.arguments.iter().map(side).collect();
            let mut text = String::new();
            text.push_str(if signature.is_deprecated { "deprecated " } else { "" });
            text.push_str(if signature.is_relation { "relation " } else { "" });
            text.push_str(&format!("{name}({}) => ", arguments.join(", ")));
            text.push_str(&signature.result.as_ref().map_or("void".to_owned(), side));
            assert_eq!(text, line);
        }
    }
}
