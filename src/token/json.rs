//! The one JSON reader of this module: no member twice at any depth, bounded depth, member count
//! and number size, every number kept exactly as written. It refuses what a lenient reader would quietly choose from.

use std::{cell::Cell, fmt, str::FromStr};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry};

/// Why a JSON text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON in UTF-8, or something follows it.
    #[error("is not valid JSON in UTF-8")]
    Invalid,
    /// An array, a string, a number, `true`, `false` or `null`.
    #[error("is not a JSON object")]
    NotAnObject,
    /// One member name twice in one object, at whatever depth.
    #[error("has a member twice in one object")]
    DuplicateMember,
    /// Nested too deeply.
    #[error("is nested more than {0} deep")]
    TooDeep(usize),
    /// Too many members and elements in all.
    #[error("has more than {0} members and elements")]
    TooManyMembers(usize),
    /// A number that no finite double is near to, or one written with more than 64 characters.
    #[error("has a number outside the range of a double, or of more than 64 characters")]
    BadNumber,
}

/// Depth of nesting; the outermost object has depth 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) depth: usize,
    pub(super) members: usize,
}

/// `serde_json` with `arbitrary_precision` hands a number that is no 64-bit integer to a visitor as a map whose only key is this. See [`Key`].
const NUMBER_KEY: &str = "$serde_json::private::Number";

const NUMBER_MAX_CHARACTERS: usize = 64;

/// Reads one JSON object and nothing after it.
pub(super) fn parse_object(bytes: &[u8], bounds: Bounds) -> Result<Map<String, Value>, JsonFault> {
    match parse(bytes, bounds)? {
        Value::Object(object) => Ok(object),
        _ => Err(JsonFault::NotAnObject),
    }
}

/// Reads one JSON value and nothing after it.
pub(super) fn parse(bytes: &[u8], bounds: Bounds) -> Result<Value, JsonFault> {
    let state = State { bounds, members: Cell::new(0), fault: Cell::new(None) };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { state: &state, depth: 0 }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|_| state.fault.take().unwrap_or(JsonFault::Invalid))
}

/// What one parse counts, and the fault that ended it: `serde_json` errors carry only text.
struct State {
    bounds: Bounds,
    members: Cell<usize>,
    fault: Cell<Option<JsonFault>>,
}

/// Reads one value whose container has depth `depth`.
#[derive(Clone, Copy)]
struct Strict<'s> {
    state: &'s State,
    depth: usize,
}

/// The key of a map entry, told apart from the pseudo-key of a number.
///
/// A member of the text may be named like the pseudo-key, and must not become a number. The two arrive differently:
/// asked for an option, `serde_json` answers `some` for a key of the text and a bare string for the pseudo-key.
enum Key {
    Member(String),
    Number,
}

struct KeySeed;

// === impl State ===

impl State {
    fn refuse<E: serde::de::Error>(&self, fault: JsonFault) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }

    fn count_member<E: serde::de::Error>(&self) -> Result<(), E> {
        let members = self.members.get().saturating_add(1);
        self.members.set(members);
        if members > self.bounds.members {
            Err(self.refuse(JsonFault::TooManyMembers(self.bounds.members)))
        } else {
            Ok(())
        }
    }

    fn number<E: serde::de::Error>(&self, text: &str) -> Result<Value, E> {
        let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
        match Number::from_str(text) {
            Ok(number) if finite && text.len() <= NUMBER_MAX_CHARACTERS => Ok(Value::Number(number)),
            _ => Err(self.refuse(JsonFault::BadNumber)),
        }
    }
}

// === impl Strict ===

impl Strict<'_> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > self.state.bounds.depth {
            return Err(self.state.refuse(JsonFault::TooDeep(self.state.bounds.depth)));
        }
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inside)? {
            self.state.count_member()?;
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut inside = None;
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            let name = match key {
                Key::Member(name) => name,
                Key::Number => return self.state.number(&entries.next_value::<String>()?),
            };
            self.state.count_member()?;
            let Entry::Vacant(place) = object.entry(name) else {
                return Err(self.state.refuse(JsonFault::DuplicateMember));
            };
            let seed = match inside {
                Some(seed) => seed,
                None => *inside.insert(self.inside()?),
            };
            place.insert(entries.next_value_seed(seed)?);
        }
        if object.is_empty() {
            let _: Self = self.inside()?;
        }
        Ok(Value::Object(object))
    }
}

// === impl KeySeed ===

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Key::Member)
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
        if key == NUMBER_KEY { Ok(Key::Number) } else { Err(E::custom("unexpected key")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Bounds, JsonFault, parse_object};

    const BOUNDS: Bounds = Bounds { depth: 4, members: 10 };

    fn check(text: &str, expected: Result<&str, JsonFault>) {
        let parsed = parse_object(text.as_bytes(), BOUNDS).map(|object| Value::Object(object).to_string());
        assert_eq!(parsed.as_deref().map_err(|fault| *fault), expected, "{text}");
    }

    #[test]
    fn an_object_is_read_as_written() {
        check("{}", Ok("{}"));
        check(" { \"a\" : [ 1 , null , true , \"\\u00e9\" ] }\n", Ok("{\"a\":[1,null,true,\"é\"]}"));
        check(r#"{"id":123456789012345678901234567890}"#, Ok(r#"{"id":123456789012345678901234567890}"#));
        check(r#"{"id":9007199254740993,"x":1.10}"#, Ok(r#"{"id":9007199254740993,"x":1.10}"#));
    }

    #[test]
    fn a_member_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"iss":"a","\u0069ss":"b"}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            check(text, Err(JsonFault::DuplicateMember));
        }
        check(r#"{"a":{"b":1},"c":{"b":1}}"#, Ok(r#"{"a":{"b":1},"c":{"b":1}}"#));
    }

    #[test]
    fn anything_but_an_object_is_refused() {
        for text in ["[]", "[9999999999,0,\"s\"]", "\"a\"", "1", "-1.5", "true", "null"] {
            check(text, Err(JsonFault::NotAnObject));
        }
    }

    #[test]
    fn anything_but_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "{}x",
            "{}{}",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":\"\\ud800\"}",
            "\u{feff}{}",
            "{\"a\":\"\u{0}\"}",
            "{\"a\":\"\n\"}",
            "{\"a\"}",
            "{1:2}",
            "{\"a\":Infinity}",
            "{\"a\":1}\0",
            "// c\n{}",
        ] {
            check(text, Err(JsonFault::Invalid));
        }
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\xff\xfe{\0}\0", b"{\"\xc3\x28\":1}"] {
            assert_eq!(parse_object(bytes, BOUNDS), Err(JsonFault::Invalid));
        }
    }

    #[test]
    fn depth_and_members_are_bounded() {
        check(r#"{"a":{"a":{"a":{}}}}"#, Ok(r#"{"a":{"a":{"a":{}}}}"#));
        check(r#"{"a":{"a":{"a":{"a":{}}}}}"#, Err(JsonFault::TooDeep(4)));
        check(r#"{"a":[[[]]]}"#, Ok(r#"{"a":[[[]]]}"#));
        check(r#"{"a":[[[[]]]]}"#, Err(JsonFault::TooDeep(4)));
        check(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), Err(JsonFault::TooDeep(4)));
        check(r#"{"a":[1,2,3,4,5,6,7,8,9]}"#, Ok(r#"{"a":[1,2,3,4,5,6,7,8,9]}"#));
        check(r#"{"a":[1,2,3,4,5,6,7,8,9,10]}"#, Err(JsonFault::TooManyMembers(10)));
    }

    #[test]
    fn numbers_are_finite_and_short() {
        for text in [r#"{"a":1e400}"#, r#"{"a":-1e400}"#, &format!("{{\"a\":{}}}", "9".repeat(65))] {
            check(text, Err(JsonFault::BadNumber));
        }
        check(r#"{"a":1e-400}"#, Ok(r#"{"a":1e-400}"#));
    }

    #[test]
    fn a_member_named_like_the_number_marker_stays_a_member() {
        let text = r#"{"a":{"$serde_json::private::Number":"7"}}"#;
        let object = parse_object(text.as_bytes(), BOUNDS).unwrap();
        assert!(object["a"].is_object());
        let text = r#"{"a":{"$serde_json::private::RawValue":"7"}}"#;
        assert!(parse_object(text.as_bytes(), BOUNDS).unwrap()["a"].is_object());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_passes_is_what_serde_json_reads(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(object) = parse_object(&bytes, BOUNDS) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), Value::Object(object));
            }
        }
    }
}
