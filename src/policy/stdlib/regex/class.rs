//! Classes of characters and escapes, from RE2's notation to that of the `regex` crate. Everything is written out: no
//! character of a pattern gets a meaning there that it does not have in RE2.

use super::pattern::{Fault, until};

/// A class that nothing matches: a surrogate is a character for Go, and in no text.
pub(super) const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r ";
const WORD: &str = "0-9A-Za-z_";

/// The ranges of `[:name:]`.
const NAMED: &[(&str, &str)] = &[
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("ascii", r"\x00-\x7F"),
    ("blank", r"\t "),
    ("cntrl", r"\x00-\x1F\x7F"),
    ("digit", DIGIT),
    ("graph", r"\x21-\x7E"),
    ("lower", "a-z"),
    ("print", r"\x20-\x7E"),
    ("punct", r"\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E"),
    ("space", r"\t\n\x0B\x0C\r "),
    ("upper", "A-Z"),
    ("word", WORD),
    ("xdigit", "0-9A-Fa-f"),
];

/// Names of general categories, without what Go ignores in them; other names are scripts.
const CATEGORIES: &str = " any assigned ascii c cc cf cn co l lc ll lm lo lt lu m mc me mn n nd nl no p pc pd pe pf pi po \
     ps s sc sk sm so z zl zp zs casedletter closepunctuation combiningmark connectorpunctuation control currencysymbol \
     dashpunctuation decimalnumber enclosingmark finalpunctuation format initialpunctuation letter letternumber \
     lineseparator lowercaseletter mark mathsymbol modifierletter modifiersymbol nonspacingmark number openpunctuation \
     other otherletter othernumber otherpunctuation othersymbol paragraphseparator privateuse punctuation separator \
     spaceseparator spacingmark symbol titlecaseletter unassigned uppercaseletter cntrl digit punct ";

/// Writes a character that stands for itself, within a class or not.
pub(super) fn literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation()
        && !matches!(c, '<' | '>' | '_' | '"' | '\'' | '`' | '/' | ',' | ':' | ';' | '=' | '@' | '%' | '!')
    {
        out.push('\\');
    }
    out.push(c);
}

/// The class that `text` starts with, written, and what follows it.
pub(super) fn bracketed<'p>(text: &'p str, out: &mut String) -> Result<&'p str, Fault<'p>> {
    let mut rest = text.strip_prefix('[').unwrap_or(text);
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let start = out.len();
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(after) = named(rest, out)? {
            rest = after;
        } else if let Some(after) = property(rest, out)? {
            rest = after;
        } else if let Some((class, after)) = perl(rest) {
            out.push_str(&class);
            rest = after;
        } else {
            let from = rest;
            let (low, after) = member(rest, text)?;
            rest = after;
            let mut high = low;
            if let Some(after) = rest.strip_prefix('-').filter(|after| !after.is_empty() && !after.starts_with(']')) {
                (high, rest) = member(after, text)?;
                if high < low {
                    return Err(Fault("invalid character class range", until(from, rest)));
                }
            }
            range(low, high, out);
        }
    }
    // Only surrogates, and the crate has no way to write an empty class.
    if out.len() == start {
        out.push_str(NOTHING);
    }
    out.push(']');
    Ok(rest.strip_prefix(']').unwrap_or(rest))
}

/// `\d`, `\s`, `\w` and their negations as a class.
pub(super) fn perl(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix('\\')?;
    let letter = rest.chars().next()?;
    let ranges = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    let negated = if letter.is_ascii_uppercase() { "^" } else { "" };
    Some((format!("[{negated}{ranges}]"), rest.get(1..)?))
}

/// `\p{…}` and the like, written, and what follows.
pub(super) fn property<'p>(text: &'p str, out: &mut String) -> Result<Option<&'p str>, Fault<'p>> {
    let Some((mut negated, after)) = text
        .strip_prefix("\\p")
        .map(|after| (false, after))
        .or_else(|| text.strip_prefix("\\P").map(|after| (true, after)))
    else {
        return Ok(None);
    };
    let (name, rest) = if let Some(braced) = after.strip_prefix('{') {
        braced.split_once('}').ok_or(Fault("invalid character class range", text))?
    } else {
        let end = after.chars().next().map_or(0, char::len_utf8);
        after.split_at_checked(end).unwrap_or_default()
    };
    let unknown = Fault("invalid character class range", until(text, rest));
    let name = name.strip_prefix('^').map_or(name, |name| {
        negated = !negated;
        name
    });
    if name.is_empty() || name.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-'))) {
        return Err(unknown);
    }
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let surrogates = matches!(&*bare, "cs" | "surrogate");
    let class = match (surrogates, negated) {
        (true, false) => NOTHING.to_owned(),
        (true, true) => r"[\x{0}-\x{10FFFF}]".to_owned(),
        (false, _) => {
            let kind = if CATEGORIES.contains(&format!(" {bare} ")) { "gc" } else { "sc" };
            format!("\\{}{{{kind}={bare}}}", if negated { 'P' } else { 'p' })
        }
    };
    // The crate's parser knows the names; what it would compile is cut short.
    let probe = || regex::RegexBuilder::new(&class).size_limit(1).build();
    if !surrogates && matches!(probe(), Err(regex::Error::Syntax(_))) {
        return Err(unknown);
    }
    out.push_str(&class);
    Ok(Some(rest))
}

/// The character that an escape stands for, which may be a surrogate, and what follows it.
pub(super) fn escape(text: &str) -> Result<(u32, &str), Fault<'_>> {
    let mut chars = text.strip_prefix('\\').unwrap_or(text).chars();
    let Some(letter) = chars.next() else { return Err(Fault("trailing backslash at end of expression", "")) };
    let code = match letter {
        '0'..='7' if letter == '0' || chars.as_str().starts_with(|c| matches!(c, '0'..='7')) => {
            let mut code = letter.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(8)) else { break };
                code = code * 8 + digit;
                chars.next();
            }
            Some(code)
        }
        'x' => hex(&mut chars),
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        c => Some(u32::from(c)).filter(|_| c.is_ascii() && !c.is_ascii_alphanumeric()),
    };
    let rest = chars.as_str();
    code.map(|code| (code, rest)).ok_or(Fault("invalid escape sequence", until(text, rest)))
}

/// Two digits, or any number of them in braces.
fn hex(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let first = chars.next()?;
    if first != '{' {
        let second = chars.next()?;
        return Some(first.to_digit(16)? * 16 + second.to_digit(16)?);
    }
    let mut code = None;
    loop {
        match chars.next()? {
            '}' => return code,
            digit => {
                let next = code.unwrap_or_default() * 16 + digit.to_digit(16)?;
                code = Some(next).filter(|code| *code <= u32::from(char::MAX));
                code?;
            }
        }
    }
}

/// One character of a class.
fn member<'p>(text: &'p str, class: &'p str) -> Result<(u32, &'p str), Fault<'p>> {
    if text.starts_with('\\') {
        return escape(text);
    }
    let mut chars = text.chars();
    let c = chars.next().ok_or(Fault("missing closing ]", class))?;
    Ok((u32::from(c), chars.as_str()))
}

fn range(low: u32, high: u32, out: &mut String) {
    // The ends of what is left without surrogates.
    let low = (low..).find_map(char::from_u32);
    let high = (0..=high).rev().find_map(char::from_u32);
    if let (Some(low), Some(high)) = (low, high)
        && low <= high
    {
        literal(out, low);
        out.push('-');
        literal(out, high);
    }
}

/// `[:name:]`, written, and what follows.
fn named<'p>(text: &'p str, out: &mut String) -> Result<Option<&'p str>, Fault<'p>> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inner| inner.split_once(":]")) else { return Ok(None) };
    let (negated, name) = name.strip_prefix('^').map_or(("", name), |name| ("^", name));
    let Some((_, ranges)) = NAMED.iter().find(|(known, _)| *known == name) else {
        return Err(Fault("invalid character class range", until(text, rest)));
    };
    out.push_str(&format!("[{negated}{ranges}]"));
    Ok(Some(rest))
}
