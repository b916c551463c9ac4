//! JSON (and YAML) ↔ policy values, as OPA's server reads and writes them.
//!
//! Reading goes straight from bytes to [`Value`] in one pass, bounded in depth, and says what is wrong in the words of
//! Go's decoder, which OPA's clients know ([`words`]). Writing is in [`mod@write`]. Nothing here gives meaning to a
//! document.

mod words;
mod write;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::words::malformed;
pub(super) use self::write::write;
use crate::policy::{self, Value};

/// The deepest nesting that can be asked for: `serde_json` itself stops here, which keeps the stack bounded.
const MAX_DEPTH: usize = 127;

/// The text of `serde_json`'s magic key for a number of arbitrary precision.
const NUMBER: &str = "$serde_json::private::Number";

/// A body that cannot be read. The message is meant for the client and quotes at most one character of the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// The body of `POST /v1/data`: everything but `input` is ignored. A `null` input counts as absent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct DataRequest {
    pub(super) input: Option<Value>,
}

/// The body of `POST /v1/batch/data`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct BatchRequest {
    pub(super) inputs: Option<BTreeMap<String, Value>>,
    pub(super) common_input: Option<Value>,
}

/// The body of `POST /v1/query` (and of `/v1/compile`, of which only `query` is looked at).
#[derive(Debug, Default, PartialEq)]
pub(super) struct QueryRequest {
    pub(super) query: String,
    pub(super) input: Option<Value>,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// The default, whatever the content type says.
    Json,
    /// The content type mentions `yaml`.
    Yaml,
}

/// Reads the body of `POST /v1/data`. An empty body is an empty request. Bytes after the first value are ignored.
pub(super) fn data_request(body: &[u8], syntax: Syntax, depth: usize) -> Result<DataRequest, Malformed> {
    Ok(read(body, syntax, DataRequestSeed(Document::new(depth)))?.unwrap_or_default())
}

/// Reads the body of `POST /v1/batch/data`.
pub(super) fn batch_request(body: &[u8], syntax: Syntax, depth: usize) -> Result<BatchRequest, Malformed> {
    Ok(read(body, syntax, BatchRequestSeed(Document::new(depth)))?.unwrap_or_default())
}

/// Reads the body of `POST /v1/query`.
pub(super) fn query_request(body: &[u8], depth: usize) -> Result<QueryRequest, Malformed> {
    Ok(read(body, Syntax::Json, QueryRequestSeed(Document::new(depth)))?.unwrap_or_default())
}

/// Reads a body that is itself the input. `None`: it is empty.
pub(super) fn document(body: &[u8], syntax: Syntax, depth: usize) -> Result<Option<Value>, Malformed> {
    read(body, syntax, Document::new(depth))
}

/// Reads a query parameter that is itself the input: exactly one JSON value.
pub(super) fn parameter(text: &str, depth: usize) -> Result<Value, Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Document::new(depth)
        .deserialize(&mut deserializer)
        .map_err(|error| malformed(text.as_bytes(), &error, "EOF"))?;
    deserializer.end().map_err(|error| malformed(text.as_bytes(), &error, "unexpected EOF"))?;
    Ok(value)
}

// === reading ===

fn read<'de, S: DeserializeSeed<'de>>(body: &'de [u8], syntax: Syntax, seed: S) -> Result<Option<S::Value>, Malformed> {
    match syntax {
        Syntax::Json => {
            if body.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
            let mut deserializer = serde_json::Deserializer::from_slice(body);
            seed.deserialize(&mut deserializer).map(Some).map_err(|error| malformed(body, &error, "unexpected EOF"))
        }
        Syntax::Yaml if body.is_empty() => Ok(None),
        // The parser has its own budgets for depth, nodes and aliases. Its messages quote the document, so the client
        // gets only the place.
        Syntax::Yaml => serde_saphyr::with_deserializer_from_slice(body, |deserializer| seed.deserialize(deserializer))
            .map(Some)
            .map_err(|error| match error.location() {
                Some(at) => Malformed(format!("invalid YAML at line {}, column {}", at.line(), at.column())),
                None => Malformed("invalid YAML".to_owned()),
            }),
    }
}

/// One value of any type, at most `depth` levels deep.
#[derive(Clone, Copy)]
struct Document {
    depth: usize,
}

impl Document {
    fn new(depth: usize) -> Self {
        Self { depth: depth.min(MAX_DEPTH) }
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom(TOO_DEEP)),
        }
    }
}

const TOO_DEEP: &str = "exceeded max depth";

impl<'de> DeserializeSeed<'de> for Document {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        if value.is_finite() { Ok(Value::from(value)) } else { Err(E::custom("number is not finite")) }
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::with_capacity(items.size_hint().unwrap_or(0).min(1024));
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::from(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Some(first) = members.next_key_seed(KeySeed)? else { return Ok(Value::from(BTreeMap::new())) };
        // This is how `serde_json` hands over every number when it keeps their text.
        if first == NUMBER {
            return number(&members.next_value::<Cow<'de, str>>()?);
        }
        let inner = self.deeper()?;
        let mut object = BTreeMap::from([(Value::from(&*first), members.next_value_seed(inner)?)]);
        while let Some(name) = members.next_key_seed(KeySeed)? {
            // As in OPA, the last of several equal names wins.
            object.insert(Value::from(&*name), members.next_value_seed(inner)?);
        }
        Ok(Value::from(object))
    }
}

fn number<E: de::Error>(text: &str) -> Result<Value, E> {
    if let Ok(integer) = text.parse::<i64>() {
        return Ok(Value::from(integer));
    }
    // Not straight to the engine, which would write out the billion digits of `1e999999999`.
    match policy::parse_json(text) {
        Ok(value @ Value::Number(_)) => Ok(value),
        _ => Err(E::custom("number cannot be represented")),
    }
}

/// A member name, borrowed from the document when it has no escapes.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

/// Makes a seed for a request object: its members are read by `$member`, `null` is the empty request, and every other
/// type is refused in Go's words.
macro_rules! request_seed {
    ($seed:ident, $request:ident, $go_type:literal, |$self:ident, $name:ident, $map:ident, $into:ident| $member:expr) => {
        struct $seed(Document);

        impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $request;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$request, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for $seed {
            type Value = $request;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E>(self) -> Result<$request, E> {
                Ok($request::default())
            }
            fn visit_map<A: MapAccess<'de>>($self, mut $map: A) -> Result<$request, A::Error> {
                let mut $into = $request::default();
                while let Some(name) = $map.next_key_seed(KeySeed)? {
                    let $name: &str = &name;
                    if $name == NUMBER {
                        return Err(unexpected("number", $go_type));
                    }
                    $member
                }
                Ok($into)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<$request, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Err(unexpected("array", $go_type))
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<$request, E> {
                Err(unexpected("string", $go_type))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<$request, E> {
                Err(unexpected("bool", $go_type))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<$request, E> {
                Err(unexpected("number", $go_type))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<$request, E> {
                Err(unexpected("number", $go_type))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<$request, E> {
                Err(unexpected("number", $go_type))
            }
        }
    };
}

request_seed!(DataRequestSeed, DataRequest, "types.DataRequestV1", |self, name, map, request| {
    // Go matches member names without case; the last one wins.
    if name.eq_ignore_ascii_case("input") {
        request.input = not_null(map.next_value_seed(self.0)?);
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

request_seed!(QueryRequestSeed, QueryRequest, "types.QueryRequestV1", |self, name, map, request| {
    if name.eq_ignore_ascii_case("query") {
        request.query = map.next_value::<Option<String>>()?.unwrap_or_default();
    } else if name.eq_ignore_ascii_case("input") {
        request.input = not_null(map.next_value_seed(self.0)?);
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

request_seed!(BatchRequestSeed, BatchRequest, "types.BatchDataRequestV1", |self, name, map, request| {
    if name.eq_ignore_ascii_case("inputs") {
        request.inputs = match map.next_value_seed(self.0)? {
            Value::Null => None,
            Value::Object(members) => Some(
                members
                    .iter()
                    .filter_map(|(name, input)| Some((name.as_string().ok()?.to_string(), input.clone())))
                    .collect(),
            ),
            _ => return Err(de::Error::custom("inputs is not an object")),
        };
    } else if name.eq_ignore_ascii_case("common_input") {
        request.common_input = not_null(map.next_value_seed(self.0)?);
    } else {
        map.next_value::<IgnoredAny>()?;
    }
});

fn not_null(value: Value) -> Option<Value> {
    Some(value).filter(|value| *value != Value::Null)
}

fn unexpected<E: de::Error>(what: &str, go_type: &str) -> E {
    E::custom(format_args!("json: cannot unmarshal {what} into Go value of type {go_type}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Value {
        Value::from_json_str(text).unwrap()
    }

    fn check(body: &str, want: Result<Option<&str>, &str>) {
        let got = data_request(body.as_bytes(), Syntax::Json, 32).map(|request| request.input);
        assert_eq!(got, want.map(|input| input.map(json)).map_err(|error| Malformed(error.to_owned())), "{body}");
    }

    #[test]
    fn the_input_of_a_data_request_is_found_and_the_rest_ignored() {
        check("", Ok(None));
        check(" \n", Ok(None));
        check("null", Ok(None));
        check("{}", Ok(None));
        check(r#"{"input":null}"#, Ok(None));
        check(r#"{"input":false}"#, Ok(Some("false")));
        check(r#"{"x":[{"y":[1,"z"]}],"input":{"a":1},"b":2}"#, Ok(Some(r#"{"a":1}"#)));
        check(r#"{"input":{"a":1}} trailing"#, Ok(Some(r#"{"a":1}"#)));
        check(r#"{"input":{"a":1,"a":2}}"#, Ok(Some(r#"{"a":2}"#)));
        check(r#"{"input":1,"input":2}"#, Ok(Some("2")));
        check(r#"{"INPUT":1}"#, Ok(Some("1")));
        check(r#"{"\u0069nput":{"\u0061":"\u00e9\n"}}"#, Ok(Some(r#"{"a":"é\n"}"#)));
        check(
            r#"{"input":[0,-1,1.5,1e3,123456789012345678901234567890]}"#,
            Ok(Some("[0,-1,1.5,1e3,123456789012345678901234567890]")),
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        let go = "json: cannot unmarshal";
        let type_ = "into Go value of type types.DataRequestV1";
        check("[1]", Err(&format!("{go} array {type_}")));
        check("\"x\"", Err(&format!("{go} string {type_}")));
        check("7", Err(&format!("{go} number {type_}")));
        check("true", Err(&format!("{go} bool {type_}")));
        check("{\"input\":", Err("unexpected EOF"));
        check("{", Err("unexpected EOF"));
        check("{\"input\":\"x", Err("unexpected EOF"));
        check("xx", Err("invalid character 'x' looking for beginning of value"));
        check("{\"input\": x}", Err("invalid character 'x' looking for beginning of value"));
        check("{x}", Err("invalid character 'x' looking for beginning of object key string"));
        check("{\"input\" 1}", Err("invalid character '1' after object key"));
        check("{\"input\":1 2}", Err("invalid character '2' after object key:value pair"));
        check("{\"input\":[1 2]}", Err("invalid character '2' after array element"));
        check("{\"input\":[1,]}", Err("invalid character ']' looking for beginning of value"));
        check("{\"input\":1,}", Err("invalid character '}' looking for beginning of object key string"));
        check("{\n\"input\":\n  'x'}", Err("invalid character '\\'' looking for beginning of value"));
        check("{\"input\":\"a\u{1}\"}", Err("invalid character '\\x01' in string literal"));
        check("{\"input\":\"\\q\"}", Err("invalid character 'q' in string escape code"));
    }

    #[test]
    fn nesting_is_bounded_without_using_the_stack() {
        let nested = |levels: usize| format!("{{\"input\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(data_request(nested(32).as_bytes(), Syntax::Json, 32).is_ok());
        for (levels, limit) in [(33, 32), (1_000, 1_000_000), (10_000, 32), (1_000_000, 32)] {
            check_too_deep(&nested(levels), limit);
            check_too_deep(&"{\"input\":{\"a\":".repeat(levels), limit);
        }
        // Values that nobody asked for are skipped without recursion.
        let ignored = format!("{{\"other\":{}{},\"input\":1}}", "[".repeat(10_000), "]".repeat(10_000));
        check(&ignored, Ok(Some("1")));
    }

    #[test]
    fn a_number_of_too_many_digits_is_refused_before_it_is_computed() {
        for number in ["1e999999999", "-1E+99999999", "[1,{\"a\":1e10000000}]", "1e-999999999", &"9".repeat(1_001)] {
            assert!(data_request(format!("{{\"input\":{number}}}").as_bytes(), Syntax::Json, 32).is_err(), "{number}");
            assert!(document(number.as_bytes(), Syntax::Json, 32).is_err(), "{number}");
            assert!(parameter(number, 32).is_err(), "{number}");
        }
        check("{\"input\":1e300}", Ok(Some("1e300")));
        // A number that nobody asked for costs nothing.
        check("{\"other\":1e999999999,\"input\":1}", Ok(Some("1")));
    }

    fn check_too_deep(body: &str, limit: usize) {
        assert_eq!(data_request(body.as_bytes(), Syntax::Json, limit), Err(Malformed(TOO_DEEP.to_owned())));
    }

    #[test]
    fn a_parameter_is_exactly_one_value() {
        assert_eq!(parameter("{\"a\":null}", 8), Ok(json("{\"a\":null}")));
        let refused = |text| parameter(text, 8).unwrap_err().to_string();
        assert_eq!(refused(""), "EOF");
        assert_eq!(refused("1 x"), "invalid character 'x' after top-level value");
        assert_eq!(refused("{\"a\""), "unexpected EOF");
    }

    #[test]
    fn yaml_bodies_are_read_and_bounded() {
        let read = |text: &str| data_request(text.as_bytes(), Syntax::Yaml, 8).map(|request| request.input);
        assert_eq!(read("input:\n  user: alice\n  n: 1.5\n"), Ok(Some(json(r#"{"user":"alice","n":1.5}"#))));
        assert_eq!(read(""), Ok(None));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
            d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e]\n\
            g: &g [*f,*f,*f,*f,*f,*f,*f]\ninput: [*g,*g,*g,*g,*g,*g,*g]\n";
        assert!(read(bomb).is_err());
        assert!(read(&format!("input: {}", "[".repeat(10_000))).is_err());
        assert!(read("input: {secret: [unclosed").unwrap_err().to_string().starts_with("invalid YAML"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
            for syntax in [Syntax::Json, Syntax::Yaml] {
                let _ = data_request(&body, syntax, 16);
            }
        }

        #[test]
        fn what_is_written_is_read_again(text in "\\PC*", number in any::<i64>(), flag in any::<bool>()) {
            let items = Value::from(vec![Value::from(number), Value::from(flag), Value::Null]);
            let input = Value::from(BTreeMap::from([(Value::from(text.as_str()), items)]));
            // The name by which `serde_json` hands over numbers means a number, wherever it stands.
            prop_assume!(text != NUMBER);
            let written = write(&input, false).unwrap();
            prop_assert_eq!(document(&written, Syntax::Json, 16), Ok(Some(input)));
        }
    }
}
