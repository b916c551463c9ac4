//! JSON and YAML text → [`Value`], with a place for every complaint and a bound for every cost.
//!
//! The engine keeps numbers exactly, so `1e999999999` would become a number of a billion digits: numbers are measured
//! before they are parsed. Nothing here reads files or interprets what a document means.

use std::fmt;

use regorus::Value;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Most digits of one number, exponent applied.
const MAX_DIGITS: usize = 1_000;
/// Nesting of a YAML document (JSON: 128, by `serde_json`).
const MAX_YAML_DEPTH: usize = 128;
/// The member name by which `serde_json` hands over exact numbers; a document that spells it out would smuggle one in.
const NUMBER_TOKEN: &str = "$serde_json::private::Number";

/// Why a text is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DocumentError {
    /// Lower-case, without a place.
    pub message: String,
    /// 1-based; 0 when unknown.
    pub row: u32,
    /// 1-based; 0 when unknown.
    pub col: u32,
}

/// Parses one JSON value, exactly: numbers keep every digit.
///
/// Use this wherever JSON from outside becomes a [`Value`]: parsing directly would let one small number cost minutes.
///
/// # Errors
/// [`DocumentError`] on malformed text, text after the value, more than 128 levels, or a number of more than 1,000 digits.
pub fn parse_json(text: &str) -> Result<Value, DocumentError> {
    scan_json(text)?;
    Value::from_json_str(text).map_err(|error| match error.downcast_ref::<serde_json::Error>() {
        Some(json) => {
            let mut message = json.to_string();
            if let Some(cut) = message.rfind(" at line ") {
                message.truncate(cut);
            }
            DocumentError { message, row: narrow(json.line()), col: narrow(json.column()) }
        }
        None => DocumentError { message: error.to_string(), row: 0, col: 0 },
    })
}

/// Parses YAML as OPA does: member names become strings, and of several documents it is the first.
///
/// # Errors
/// [`DocumentError`] on malformed text, also in a document that is not used, too many levels, aliases or anchors, and
/// non-finite numbers.
pub fn parse_yaml(text: &str) -> Result<Value, DocumentError> {
    let mut options = serde_saphyr::Options::default();
    // As Go's reader has it: `no` is a country, `010` is eight.
    options.strict_booleans = true;
    options.legacy_octal_numbers = true;
    options.budget = Some({
        let mut budget = serde_saphyr::Budget::default();
        budget.max_depth = MAX_YAML_DEPTH;
        budget.flow_nesting_limit = MAX_YAML_DEPTH;
        budget.max_aliases = 10_000;
        budget.max_anchors = 10_000;
        budget.max_events = 20_000_000;
        budget.max_nodes = 10_000_000;
        budget.max_total_scalar_bytes = 1 << 30;
        budget
    });
    let (first, rest) = documents(text);
    let read = serde_saphyr::from_str_with_options::<Yaml>(first, options.clone());
    let read = match (read, rest) {
        (Ok(value), true) => {
            serde_saphyr::from_multiple_with_options::<serde::de::IgnoredAny>(text, options).map(|_| value)
        }
        (read, _) => read,
    };
    match read {
        Ok(Yaml(value)) => Ok(value),
        Err(error) => {
            let (row, col) = error.location().map_or((0, 0), |l| (clamp(l.line()), clamp(l.column())));
            let full = error.without_snippet().to_string();
            let message = full.lines().next().unwrap_or_default();
            let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
            Err(DocumentError { message: message.to_owned(), row, col })
        }
    }
}

/// The first of several documents, and whether there is more. The mark between two of them stands at the start of a line,
/// where it is no text.
fn documents(text: &str) -> (&str, bool) {
    let (mut at, mut has_content) = (0, false);
    for line in text.split_inclusive('\n') {
        if has_content && (line.starts_with("---") || line.starts_with("...")) {
            let (first, rest) = text.split_at_checked(at).unwrap_or((text, ""));
            return (first, !rest.is_empty());
        }
        has_content |= !line.trim().is_empty() && !line.starts_with(['#', '%']);
        at += line.len();
    }
    (text, false)
}

/// The text of a file, or why it is none.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError {
        message: format!("not UTF-8 text (byte {})", error.valid_up_to()),
        row: 0,
        col: 0,
    })?;
    if text.starts_with('\u{feff}') {
        return Err(DocumentError {
            message: "starts with a byte order mark; save it as UTF-8 without one".to_owned(),
            row: 1,
            col: 1,
        });
    }
    Ok(text)
}

/// Refuses numbers that are too long, before anything computes with them. Malformed JSON is left to the parser.
fn scan_json(text: &str) -> Result<(), DocumentError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let (end, escaped) = string_end(bytes, at + 1);
                if end - at > NUMBER_TOKEN.len() && is_number_token(text, at, end, escaped) {
                    return Err(place(text, at, format!("member name `{NUMBER_TOKEN}` is not allowed")));
                }
                at = end + 1;
            }
            b'0'..=b'9' => {
                let end = at + number_len(bytes.get(at..).unwrap_or_default());
                check_number(text.get(at..end).unwrap_or_default()).map_err(|message| place(text, at, message))?;
                at = end.max(at + 1);
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The index of the closing quote (or the end of text) and whether an escape was seen.
pub(super) fn string_end(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start;
    let mut escaped = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return (at, escaped),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    (bytes.len(), escaped)
}

fn is_number_token(text: &str, quote: usize, end: usize, escaped: bool) -> bool {
    if !escaped {
        return text.get(quote + 1..end) == Some(NUMBER_TOKEN);
    }
    let literal = text.get(quote..=end).unwrap_or_default();
    serde_json::from_str::<String>(literal).is_ok_and(|name| name == NUMBER_TOKEN)
}

pub(super) fn number_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).count()
}

/// A number literal (without sign) that is cheap to hold exactly.
pub(super) fn check_number(literal: &str) -> Result<(), String> {
    let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let exponent = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    let exponent = if exponent.is_empty() { Some(0) } else { exponent.parse::<usize>().ok() };
    match exponent {
        Some(e) if mantissa.len().saturating_add(e) <= MAX_DIGITS => Ok(()),
        _ => Err(format!("number has more than {MAX_DIGITS} digits")),
    }
}

pub(super) fn place(text: &str, offset: usize, message: String) -> DocumentError {
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let row = before.bytes().filter(|b| *b == b'\n').count() + 1;
    DocumentError { message, row: narrow(row), col: narrow(offset - line_start + 1) }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn clamp(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A YAML node as OPA's JSON-minded reader sees it.
struct Yaml(Value);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor).map(Self)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Yaml::deserialize(deserializer).map(|Yaml(value)| value)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_i128<E>(self, v: i128) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_u128<E>(self, v: u128) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        if v.is_finite() { Ok(Value::from(v)) } else { Err(E::custom(format!("{v} is not a number that JSON has"))) }
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Yaml(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::from(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = std::collections::BTreeMap::new();
        while let Some((Yaml(key), Yaml(value))) = members.next_entry()? {
            let key = match key {
                Value::String(_) => key,
                Value::Bool(_) | Value::Number(_) | Value::Null => Value::from(key.to_string()),
                _ => return Err(A::Error::custom("a member name must be a scalar")),
            };
            // As JSON it could not be read again.
            if key.as_string().is_ok_and(|name| &**name == NUMBER_TOKEN) {
                return Err(A::Error::custom(format!("member name `{NUMBER_TOKEN}` is not allowed")));
            }
            object.insert(key, value);
        }
        Ok(Value::from(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let value = parse_json(r#"{"a":123456789012345678901234567890,"b":[1,-2.5,1e3]}"#).unwrap();
        assert_eq!(value["a"].to_string(), "123456789012345678901234567890");
    }

    #[test]
    fn number_bombs_are_refused_in_every_spelling() {
        for text in [
            "1e999999999",
            "[1,\n -1E+99999999999999999999]",
            r#"{"$serde_json::private::Number":"1e999999999"}"#,
            r#"{"\u0024serde_json::private::Number":"1e999999999"}"#,
            &"9".repeat(1_001),
        ] {
            let error = parse_json(text).unwrap_err();
            assert!(error.message.contains("digits") || error.message.contains("not allowed"), "{text}: {error:?}");
        }
        assert_eq!(parse_json("[1,\n 1e9999]").unwrap_err().row, 2);
        assert!(parse_json(r#"["1e999999999", 1e300, -0.0000001]"#).is_ok());
    }

    #[test]
    fn json_errors_have_a_place() {
        let error = parse_json("{\n  \"a\": 1,\n  b\n}").unwrap_err();
        assert_eq!((error.row, error.col), (3, 3), "{error:?}");
        assert!(parse_json(&"[".repeat(10_000)).is_err());
        assert!(parse_json("").is_err());
        assert!(parse_json("1 2").is_err());
    }

    #[test]
    fn yaml_becomes_json_values() {
        let value = parse_yaml("a: no\nb: [on, True, 'true', 010, 0o10, 0x1f, 1_000, 1e3]\n").unwrap();
        assert_eq!(value, parse_json(r#"{"a":"no","b":["on",true,"true",8,8,31,1000,1000]}"#).unwrap());
        let value = parse_yaml("a: 1\n2: [x, 1.5, true, null]\n").unwrap();
        assert_eq!(value, parse_json(r#"{"a":1,"2":["x",1.5,true,null]}"#).unwrap());
    }

    #[test]
    fn yaml_bombs_and_several_documents_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let alias = format!("*a{},", i - 1).repeat(9);
            bomb.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
        }
        assert!(parse_yaml(&bomb).is_err());
        assert_eq!(parse_yaml("a: 1\n---\nb: 2\n").unwrap(), parse_yaml("---\na: 1\n...\n").unwrap());
        assert_eq!(parse_yaml("---\n---\na: 1\n").unwrap(), Value::Null);
        assert!(parse_yaml("a: 1\n---\nb: [\n").is_err());
        assert!(parse_yaml(&"[".repeat(10_000)).is_err());
        assert!(parse_yaml("a: .inf").is_err());
        assert!(parse_yaml("$serde_json::private::Number: '1'").is_err());
        let error = parse_yaml("a: 1\nb: [1,\nc: }").unwrap_err();
        assert!(error.row >= 2, "{error:?}");
    }

    #[test]
    fn a_byte_order_mark_and_binary_content_are_named() {
        assert!(utf8(b"\xef\xbb\xbf{}").unwrap_err().message.contains("byte order mark"));
        assert!(utf8(b"\x00\xff").unwrap_err().message.contains("not UTF-8"));
    }
}
