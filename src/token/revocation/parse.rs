//! Entries as text, read strictly: one JSON object, an array of them, or one object on each line. Every member is known,
//! of its type and inside its bounds, or the whole text is refused with the place of the first fault; a text is never
//! half taken.

use chrono::DateTime;
use serde_json::{Map, Value};

use super::{Revocation, RevocationKind, Target};
use crate::token::{
    json::{self, Bounds, JsonFault},
    time::UnixTime,
};

/// Entries that one array may have.
pub const MOST_ENTRIES: usize = 10_000;

/// Why a text was refused, and where: `[3].valid_after`, `line 17: sub`, or nothing for the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if place.is_empty() { String::new() } else { format!("{place}: ") })]
pub struct RevocationFault {
    /// Where.
    pub place: String,
    /// What is wrong and what to do. Nothing of the text is in it but member names, escaped.
    pub message: String,
}

/// Longest name: `iss`, `sub`, … are far shorter.
const LONGEST_NAME: usize = 1024;
/// An epoch further ahead is a mistake, such as milliseconds, and could never be taken back.
const FURTHEST_EPOCH: i64 = 366 * 24 * 3600;
/// Where 32 bits of seconds end.
const LAST_TIME: i64 = u32::MAX as i64 - 1;
/// An entry has at most five members.
const MEMBERS: usize = 16;

/// One entry or an array of them, as `POST /v1/revocations` takes it.
///
/// # Errors
/// The first fault; nothing is taken then.
pub fn parse_revocations(text: &[u8], now: UnixTime) -> Result<Vec<Revocation>, RevocationFault> {
    match json(text, MOST_ENTRIES, "")? {
        Value::Array(items) if items.len() > MOST_ENTRIES => {
            Err(fault("", format!("it has {} entries; send at most {MOST_ENTRIES} at a time", items.len())))
        }
        Value::Array(items) => array(items, now),
        Value::Object(entry) => Ok(vec![read(entry, now).map_err(|(member, message)| fault(&member, message))?]),
        _ => Err(fault("", "it is neither an object nor an array of objects")),
    }
}

/// A whole file: an array, or one object on each line. An empty file has no entries.
///
/// # Errors
/// As [`parse_revocations`].
pub fn parse_revocation_file(text: &[u8], now: UnixTime) -> Result<Vec<Revocation>, RevocationFault> {
    if text.trim_ascii_start().starts_with(b"[") {
        // The file's size is bounded by whoever reads it.
        return match json(text, usize::MAX / MEMBERS, "")? {
            Value::Array(items) => array(items, now),
            _ => Err(fault("", "it is not an array")),
        };
    }
    let mut entries = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = |member: &str| {
            let separator = if member.is_empty() { "" } else { ": " };
            format!("line {}{separator}{member}", index + 1)
        };
        let Value::Object(entry) = json(line, 1, &place(""))? else {
            return Err(fault(&place(""), "it is not an object"));
        };
        entries.push(read(entry, now).map_err(|(member, message)| fault(&place(&member), message))?);
    }
    Ok(entries)
}

fn array(items: Vec<Value>, now: UnixTime) -> Result<Vec<Revocation>, RevocationFault> {
    let entry = |(index, item)| match item {
        Value::Object(entry) => {
            let place = |member: &str| if member.is_empty() { String::new() } else { format!(".{member}") };
            read(entry, now).map_err(|(member, message)| fault(&format!("[{index}]{}", place(&member)), message))
        }
        _ => Err(fault(&format!("[{index}]"), "it is not an object")),
    };
    items.into_iter().enumerate().map(entry).collect()
}

fn json(text: &[u8], entries: usize, place: &str) -> Result<Value, RevocationFault> {
    // One more than allowed, so that the caller can say how many there are.
    let bounds = Bounds { depth: 3, members: entries.saturating_add(1).saturating_mul(MEMBERS) };
    json::parse(text, bounds).map_err(|error| match error {
        JsonFault::TooManyMembers(_) => fault(place, format!("it has too much in it; send at most {entries} entries")),
        other => fault(place, format!("it {other}")),
    })
}

/// One entry, or the member that is wrong (empty: the entry itself) and why.
fn read(mut entry: Map<String, Value>, now: UnixTime) -> Result<Revocation, (String, String)> {
    let word = text(&mut entry, "revoke")
        .map_err(|(member, message)| (member, format!("{message}; write what is revoked: {}", words())))?;
    let Some(kind) = RevocationKind::ALL.into_iter().find(|kind| kind.as_str() == word) else {
        return Err(at("revoke", format!("it is none of the things that can be revoked: {}", words())));
    };
    let issuer = if kind == RevocationKind::Tenant { String::new() } else { text(&mut entry, "iss")? };
    let value = member_of(kind).map(|member| text(&mut entry, member)).transpose()?.unwrap_or_default();
    let valid_after = time(&mut entry, "valid_after")?;
    let expires_at = time(&mut entry, "expires_at")?;
    if let Some(member) = entry.keys().next() {
        let shown: String = member.chars().take(64).flat_map(char::escape_default).collect();
        let known = ["iss"].into_iter().filter(|_| kind != RevocationKind::Tenant).chain(member_of(kind));
        let known = known.chain((kind != RevocationKind::Token).then_some("valid_after")).chain(["expires_at"]);
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        let message = format!("a `{word}` has no such member; beside `revoke` it has {}", known.join(", "));
        return Err((shown, message));
    }
    match (kind, valid_after) {
        (RevocationKind::Token, Some(_)) => {
            return Err(at("valid_after", "a token is revoked whenever it was issued; remove it"));
        }
        (RevocationKind::Token | RevocationKind::Key, None) | (_, Some(_)) => {}
        (_, None) => {
            let message = "it is missing; give the time up to which tokens are revoked, so that saying it again later \
                           means the same";
            return Err(at("valid_after", message));
        }
    }
    if valid_after.is_some_and(|epoch| epoch > now.0.saturating_add(FURTHEST_EPOCH)) {
        let message = "it lies more than a year ahead and could not be taken back; write seconds, not milliseconds";
        return Err(at("valid_after", message));
    }
    Ok(Revocation { target: Target::from_parts(kind, issuer, value), valid_after, expires_at })
}

/// The member that names the target beside `iss`.
fn member_of(kind: RevocationKind) -> Option<&'static str> {
    match kind {
        RevocationKind::Token => Some("jti"),
        RevocationKind::Subject => Some("sub"),
        RevocationKind::Session => Some("sid"),
        RevocationKind::Client => Some("client_id"),
        RevocationKind::Tenant => Some("tenant"),
        RevocationKind::Issuer => None,
        RevocationKind::Key => Some("kid"),
    }
}

fn words() -> String {
    RevocationKind::ALL.map(|kind| format!("`{}`", kind.as_str())).join(", ")
}

fn text(entry: &mut Map<String, Value>, member: &str) -> Result<String, (String, String)> {
    match entry.remove(member) {
        Some(Value::String(text)) if text.is_empty() => Err(at(member, "it is empty")),
        Some(Value::String(text)) if text.len() > LONGEST_NAME => {
            Err(at(member, format!("it has {} bytes; the limit is {LONGEST_NAME}", text.len())))
        }
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(at(member, "it is not a string")),
        None => Err(at(member, "it is missing")),
    }
}

/// Whole seconds since the epoch, or RFC 3339.
fn time(entry: &mut Map<String, Value>, member: &str) -> Result<Option<i64>, (String, String)> {
    let seconds = match entry.remove(member) {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp()),
        Some(_) => None,
    };
    match seconds {
        Some(seconds) if (1..=LAST_TIME).contains(&seconds) => Ok(Some(seconds)),
        Some(seconds) if seconds > LAST_TIME => Err(at(member, "it lies after 2106; write seconds, not milliseconds")),
        _ => Err(at(member, "it is not a time; write whole seconds since 1970, or `2026-01-31T12:00:00Z`")),
    }
}

fn at(member: &str, message: impl Into<String>) -> (String, String) {
    (member.to_owned(), message.into())
}

fn fault(place: &str, message: impl Into<String>) -> RevocationFault {
    RevocationFault { place: place.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_790_000_000);

    fn check(text: &str, want: Result<usize, &str>) {
        let got =
            parse_revocations(text.as_bytes(), NOW).map(|entries| entries.len()).map_err(|fault| fault.to_string());
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
            (Err(got), Err(want)) => assert!(got.starts_with(want), "{text}\n got: {got}\nwant: {want}"),
            (got, want) => panic!("{text}\n got: {got:?}\nwant: {want:?}"),
        }
    }

    #[test]
    fn one_entry_or_an_array_is_read() {
        check(r#"{"revoke":"token","iss":"i","jti":"j"}"#, Ok(1));
        check(r#"{"revoke":"token","iss":"i","jti":"j","expires_at":1790000300}"#, Ok(1));
        check(r#"{"revoke":"subject","iss":"i","sub":"s","valid_after":1790000000}"#, Ok(1));
        check(r#"{"revoke":"session","iss":"i","sid":"s","valid_after":"2026-09-21T14:13:20Z"}"#, Ok(1));
        check(r#"{"revoke":"client","iss":"i","client_id":"c","valid_after":1790000000}"#, Ok(1));
        check(r#"{"revoke":"tenant","tenant":"t","valid_after":1790000000,"expires_at":1790000001}"#, Ok(1));
        check(r#"{"revoke":"issuer","iss":"i","valid_after":1790000000}"#, Ok(1));
        check(r#"{"revoke":"key","iss":"i","kid":"k"}"#, Ok(1));
        check(r#"{"revoke":"key","iss":"i","kid":"k","valid_after":1790000000}"#, Ok(1));
        check(r#"[{"revoke":"token","iss":"i","jti":"j"},{"revoke":"issuer","iss":"i","valid_after":1}]"#, Ok(2));
        check("[]", Ok(0));
    }

    #[test]
    fn what_is_not_exactly_an_entry_is_refused_with_its_place() {
        check("", Err("it is not valid JSON"));
        check("null", Err("it is neither an object nor an array"));
        check("[1]", Err("[0]: it is not an object"));
        check("{}", Err("revoke: it is missing; write what is revoked: `token`"));
        check(r#"{"revoke":"all","iss":"i"}"#, Err("revoke: it is none of the things"));
        check(r#"{"revoke":"Token","iss":"i","jti":"j"}"#, Err("revoke: it is none of the things"));
        check(r#"{"revoke":"token","jti":"j"}"#, Err("iss: it is missing"));
        check(r#"{"revoke":"token","iss":"i"}"#, Err("jti: it is missing"));
        check(r#"{"revoke":"token","iss":"i","jti":""}"#, Err("jti: it is empty"));
        check(r#"{"revoke":"token","iss":"i","jti":1}"#, Err("jti: it is not a string"));
        check(r#"{"revoke":"token","iss":["i"],"jti":"j"}"#, Err("iss: it is not a string"));
        check(r#"{"revoke":"token","iss":"i","jti":"j","valid_after":1}"#, Err("valid_after: a token is revoked"));
        check(r#"{"revoke":"token","iss":"i","jti":"j","sub":"s"}"#, Err("sub: a `token` has no such member; beside"));
        check(r#"{"revoke":"issuer","iss":"i","sub":"s","valid_after":1}"#, Err("sub: a `issuer` has no such member"));
        check(
            r#"{"revoke":"tenant","iss":"i","tenant":"t","valid_after":1}"#,
            Err("iss: a `tenant` has no such member"),
        );
        check(r#"{"revoke":"subject","iss":"i","sub":"s"}"#, Err("valid_after: it is missing"));
        check(r#"{"revoke":"issuer","iss":"i"}"#, Err("valid_after: it is missing"));
        check(r#"{"revoke":"token","iss":"i","jti":"j","jti":"k"}"#, Err("it has a member twice"));
        check(r#"[{"revoke":"token","iss":"i","jti":"j"},{"revoke":"key"}]"#, Err("[1].iss: it is missing"));
        check(r#"{"revoke":"token","iss":"i","jti":"j","expires_at":[[[1]]]}"#, Err("it is nested more than 3 deep"));
        let long = "x".repeat(1025);
        check(&format!(r#"{{"revoke":"token","iss":"i","jti":"{long}"}}"#), Err("jti: it has 1025 bytes"));
        let many = vec![r#"{"revoke":"key","iss":"i","kid":"k"}"#; MOST_ENTRIES + 1].join(",");
        check(&format!("[{many}]"), Err("it has 10001 entries; send at most 10000"));
        check(&format!("[{}]", vec!["1"; 200_000].join(",")), Err("it has too much in it"));
    }

    #[test]
    fn a_time_is_whole_seconds_or_rfc_3339_and_never_milliseconds() {
        for (time, want) in [
            ("1", Ok(1)),
            ("0", Err("valid_after: it is not a time")),
            ("-1", Err("valid_after: it is not a time")),
            ("1.5", Err("valid_after: it is not a time")),
            ("1e9", Err("valid_after: it is not a time")),
            ("\"1790000000\"", Err("valid_after: it is not a time")),
            ("\"2026-09-21\"", Err("valid_after: it is not a time")),
            ("null", Err("valid_after: it is not a time")),
            ("true", Err("valid_after: it is not a time")),
            ("1790000000000", Err("valid_after: it lies after 2106")),
            ("1821536000", Ok(1)),
            ("1821636000", Err("valid_after: it lies more than a year ahead")),
        ] {
            check(&format!(r#"{{"revoke":"issuer","iss":"i","valid_after":{time}}}"#), want);
        }
    }

    #[test]
    fn a_file_is_an_array_or_lines() {
        let check = |text: &str, want: Result<usize, &str>| {
            let got = parse_revocation_file(text.as_bytes(), NOW).map(|entries| entries.len());
            assert_eq!(got.map_err(|fault| fault.to_string()), want.map_err(str::to_owned), "{text}");
        };
        let entry = r#"{"revoke":"key","iss":"i","kid":"k"}"#;
        check("", Ok(0));
        check("\n \r\n", Ok(0));
        check(entry, Ok(1));
        check(&format!("{entry}\r\n\n{entry}\n"), Ok(2));
        check(&format!(" [{entry},\n{entry}] \n"), Ok(2));
        check(&format!("{entry}\n{{\"revoke\":\"key\",\"iss\":\"i\"}}\n"), Err("line 2: kid: it is missing"));
        check(&format!("{entry}\n{entry},\n"), Err("line 2: it is not valid JSON in UTF-8"));
        check("7", Err("line 1: it is not an object"));
        check(&format!("[{entry}"), Err("it is not valid JSON in UTF-8"));
    }
}
