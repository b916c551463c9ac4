//! "Did you mean": names near to one that was written, as OPA's library lists them. What is too far apart by its length
//! is not compared.

use super::{Context, Fault};

/// Names within OPA's distance, the nearest first.
pub(super) fn near<'n, I: IntoIterator<Item = &'n str>>(
    context: &Context<'_>,
    written: &str,
    names: I,
) -> Result<Vec<&'n str>, Fault> {
    // Two fifths of the length, and one.
    let most = written.len().saturating_mul(2) / 5 + 1;
    let lower = written.to_lowercase();
    let length = lower.chars().count();
    let mut found = Vec::new();
    for name in names {
        let own = name.to_lowercase();
        let own_length = own.chars().count();
        context.charge(1)?;
        if own_length.abs_diff(length) > most {
            continue;
        }
        context.charge(own_length.saturating_mul(length) / 8)?;
        let distance = match () {
            () if name == written => 0,
            () if own == lower => 1,
            () => strsim::levenshtein(&lower, &own),
        };
        if distance <= most {
            found.push((distance, name));
        }
    }
    found.sort_by_key(|(distance, _)| *distance);
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// ` Did you mean "a", "b", or "c"?`; empty when there is nothing to name.
pub(super) fn question(prefix: &str, names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(" {prefix} {}?", or_list(names)) }
}

/// The first five, in quotes.
pub(super) fn or_list(names: &[&str]) -> String {
    let names = names.iter().take(5);
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    match names.as_slice() {
        [one, other] => format!("{one} or {other}"),
        [first @ .., last] if !first.is_empty() => format!("{}, or {last}", first.join(", ")),
        rest => rest.concat(),
    }
}
