//! Writing JSON as Go does: `<`, `>`, `&`, U+2028 and U+2029 are escaped, so that a document may stand in HTML.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Writes a document as OPA does: `\n` at the end, two spaces of indentation when `pretty`.
///
/// # Errors
/// Only when the document refuses to be serialized.
pub(in crate::serve) fn write(document: &impl Serialize, pretty: bool) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    if pretty {
        let formatter = GoPretty(PrettyFormatter::new());
        document.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    } else {
        document.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoCompact))?;
    }
    out.push(b'\n');
    Ok(out)
}

/// Compact JSON with Go's HTML-safe escapes.
struct GoCompact;

/// Indented JSON with the same escapes.
struct GoPretty(PrettyFormatter<'static>);

impl Formatter for GoCompact {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_escaped(writer, fragment)
    }
}

impl Formatter for GoPretty {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_escaped(writer, fragment)
    }
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

fn write_escaped<W: ?Sized + io::Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some((at, character)) =
        rest.char_indices().find(|(_, c)| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'))
    {
        let (plain, tail) = rest.split_at(at);
        CompactFormatter.write_string_fragment(writer, plain)?;
        write!(writer, "\\u{:04x}", u32::from(character))?;
        rest = tail.get(character.len_utf8()..).unwrap_or_default();
    }
    CompactFormatter.write_string_fragment(writer, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Value;

    fn json(text: &str) -> Value {
        Value::from_json_str(text).unwrap()
    }

    #[test]
    fn output_is_escaped_and_ordered_as_go_does() {
        let value = json("{\"b\":\"<a>&\u{2028}\u{2029}\\b\\u001fé\",\"a\":[],\"c\":{}}");
        let compact = String::from_utf8(write(&value, false).unwrap()).unwrap();
        assert_eq!(compact, "{\"a\":[],\"b\":\"\\u003ca\\u003e\\u0026\\u2028\\u2029\\b\\u001fé\",\"c\":{}}\n");
        let pretty = String::from_utf8(write(&json("{\"a\":[1,{\"<\":null}],\"c\":{}}"), true).unwrap()).unwrap();
        assert_eq!(pretty, "{\n  \"a\": [\n    1,\n    {\n      \"\\u003c\": null\n    }\n  ],\n  \"c\": {}\n}\n");
    }
}
