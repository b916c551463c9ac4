//! What patterns match, as OPA 1.22.2 says.

use crate::policy::{DataPath, EvalOptions, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, parse_json};

/// What OPA 1.22.2 says where `input` is `{"o": {"k": 1, "x": 2}, "one": {"k": 1}}`.
#[test]
fn an_object_with_more_members_than_its_pattern_does_not_match() {
    for (body, want) in [
        ("r := z if {\"k\": z} = input.one", "1"),
        ("r := z if {\"k\": z} = input.o", "undefined"),
        ("r := z if { {\"k\": z} := input.one }", "1"),
        ("r := z if { {\"k\": z} := input.o }", "undefined"),
        ("r if { {\"k\": _} = input.o }", "undefined"),
        ("r if { q := input.o; {\"k\": _} = q }", "undefined"),
        ("r if { q := input.o; q = {\"x\": 2, \"k\": _} }", "true"),
        ("r := z if { {\"k\": z, \"x\": 2} = input.o }", "1"),
        ("r := z if { {\"k\": z, # one\n \"x\": 2} = input.o }", "1"),
        ("r := x if { x = {\"k\": z}; z = 3 }", "{\"k\":3}"),
        ("r := [z | some {\"k\": z} in input]", "[1]"),
        ("r := [z | some _, {\"k\": z} in input]", "[1]"),
        ("r := [z | some i, {\"k\": z} in input with input as [{\"k\": i2, \"x\": 1} | some i2 in [1]]]", "[]"),
        ("f({\"k\": z}) := z\nr := f(input.o)", "undefined"),
        ("f({\"k\": z}) := z\nr := f(input.one)", "1"),
        ("f({\"k\": z}) := z if z > 1\nelse := 7\nr := f(input.one)", "7"),
        ("f({\"k\": z}) := z if z > 1\nelse := 7\nr := f(input.o)", "undefined"),
        ("f({\"k\": z}) := z if z > 1\nelse := z + 1 if { z < 2 }\nr := f(input.one)", "2"),
        ("f({\"k\": z}) if z == 1\nr := f(input.one)", "true"),
        ("f(_, [{\"k\": z}, w]) := [z, w]\nr := f(1, [input.one, 2])", "[1,2]"),
        ("f(_, [{\"k\": z}, w]) := [z, w]\nr := f(1, [input.o, 2])", "undefined"),
        ("f(x) := x\nr := z if f(input.o, {\"k\": z})", "undefined"),
        ("f(x) := x\nr := z if f(input.one, {\"k\": z})", "1"),
        ("r := z if [{\"k\": z}, 1] = [input.o, input.one.k]", "undefined"),
        ("r := z if { {\"a\": {\"k\": z}} = {\"a\": input.o} }", "undefined"),
        ("r := z if { {\"o\": _, \"one\": {\"k\": z}} = input }", "1"),
        ("r := z if { {\"o\": {\"k\": _}, \"one\": {\"k\": z}} = input }", "undefined"),
        ("r := z if { p := \"k\"; {p: z} = input.o }", "undefined"),
        ("r := z if walk(input, [_, {\"k\": z}])", "1"),
        ("r := [z | walk(input, [_, {\"k\": z}])]", "[1]"),
        ("s contains v if some v in input\nr := z if s[{\"k\": z}]", "1"),
        ("s contains input.o\nr := z if s[{\"k\": z}]", "undefined"),
        ("s contains input.o\nr := 1 if { z := 1; s[{\"k\": z}] }", "undefined"),
        ("s contains input.o\nr := 1 if { z := 1; not s[{\"k\": z}] }", "1"),
        ("s contains input.one\nr := s[{\"k\": z}] if z := 1", "{\"k\":1}"),
        ("r := x if { x := {\"k\": input.one.k} }", "{\"k\":1}"),
        ("r if every v in [input.one] { {\"k\": _} = v }", "true"),
        ("r if every v in [input.o] { {\"k\": _} = v }", "undefined"),
        ("r if every i, v in [[1], [1]] { i < 2; [x] = v; x == 1 }", "true"),
        ("r if every v in [1] { x = v; x == 2 }", "undefined"),
        ("r := [1 | {\"k\": _} = input[_]]", "[1]"),
        ("r := {\"k\": _} = input.o", "refused"),
        ("r if {\n some a\n a = [1, 2][_]\n some b\n b = [2, 3][_]\n a == b\n}", "true"),
        ("r if {\n some a in [1, 2]\n some b, c\n b = [2, 3][c]\n a == b\n}", "true"),
        ("b := 2\nr := b if {\n b == 2\n some a\n a = [1, 2][_]\n}", "2"),
        ("r := z if { {\"k\": [z, {\"m\": _}]} = {\"k\": [1, input.o]} }", "undefined"),
        ("r := z if {\"k\": z} = input.q with input as {\"q\": {\"k\": input.one.k}}", "1"),
        ("r if { [{\"k\": input.q}] = [input.w] with input as {\"q\": 1, \"w\": {\"k\": 1}} }", "true"),
        ("f(\"1-1\") := 3\nf($\"{y}-{input.one.k}\") := y if y = 2\nr := f(\"2-1\")", "2"),
    ] {
        let text = format!("package p\n{body}");
        let file = SourceFile { path: "p.rego".to_owned(), bytes: text.into_bytes() };
        let kind = SourceKind::Plain { prefix: Vec::new() };
        let source = Source { name: String::new(), origin: "p".to_owned(), kind, files: vec![file] };
        let got = match PolicySet::load(vec![source], &Settings::default()) {
            Err(errors) if want == "refused" => {
                assert!(!errors.is_empty());
                continue;
            }
            Err(errors) => panic!("{body}: {errors:?}"),
            Ok(set) => {
                let input = parse_json("{\"o\": {\"k\": 1, \"x\": 2}, \"one\": {\"k\": 1}}").unwrap();
                let path = DataPath::from_slash("p/r");
                set.evaluate(&path, Some(input), &EvalOptions::default())
            }
        };
        let got = match got.unwrap_or_else(|error| panic!("{body}: {error}")) {
            Outcome::Value(value) => value.to_string(),
            Outcome::Undefined => "undefined".to_owned(),
        };
        assert_eq!(got, want, "{body}");
    }
}
