//! Who failed: an error of a builtin, as the engine tells it, → the call that it stands in and OPA's sentence for it. It
//! runs when an evaluation failed and never before, so it parses the text again instead of keeping trees; an error that
//! it cannot explain stays as it is.

mod site;

use regorus::{Value, unstable::Expr};

use self::site::{Site, each_in_query, each_in_rule, site};
use super::{EvalError, EvalErrorKind, Location, bundle::RegoFile, check, json, lower, stdlib::type_name};

/// What OPA says that an operand must be (measured with OPA 1.22), by builtin and operand numbers. Where the flag is set,
/// a number must be an integer.
const EXPECTED: &[(&str, bool, &str)] = &[
    (
        "string",
        false,
        "base64.decode:1 base64.encode:1 base64url.decode:1 base64url.encode:1 base64url.encode_no_pad:1 cast_string:1 \
         concat:1 contains:12 crypto.hmac.equal:12 crypto.hmac.md5:12 crypto.hmac.sha1:12 crypto.hmac.sha256:12 \
         crypto.hmac.sha512:12 crypto.md5:1 crypto.parse_private_keys:1 crypto.sha1:1 crypto.sha256:1 \
         crypto.x509.parse_and_verify_certificates:1 crypto.x509.parse_and_verify_certificates_with_options:1 \
         crypto.x509.parse_certificate_request:1 crypto.x509.parse_certificates:1 crypto.x509.parse_keypair:1 \
         crypto.x509.parse_rsa_private_key:1 endswith:12 glob.match:1 glob.quote_meta:1 graphql.parse_query:1 \
         graphql.parse_schema:1 hex.decode:1 hex.encode:1 indexof:12 indexof_n:12 io.jwt.decode:1 \
         io.jwt.encode_sign_raw:123 io.jwt.verify_eddsa:1 io.jwt.verify_es256:1 io.jwt.verify_es384:1 \
         io.jwt.verify_es512:1 io.jwt.verify_hs256:12 io.jwt.verify_hs384:12 io.jwt.verify_hs512:12 \
         io.jwt.verify_ps256:1 io.jwt.verify_ps384:1 io.jwt.verify_ps512:1 io.jwt.verify_rs256:1 io.jwt.verify_rs384:1 \
         io.jwt.verify_rs512:1 json.unmarshal:1 lower:1 net.cidr_contains:1 net.cidr_expand:1 net.cidr_intersects:1 \
         net.cidr_overlap:1 rand.intn:1 re_match:12 regex.find_all_string_submatch_n:12 regex.find_n:12 \
         regex.globs_match:12 regex.match:12 regex.replace:123 regex.split:12 regex.template_match:1234 replace:123 \
         semver.compare:12 split:12 sprintf:1 startswith:12 strings.count:12 strings.render_template:1 \
         strings.replace_n:2 strings.reverse:1 strings.split_n:12 substring:1 time.parse_duration_ns:1 time.parse_ns:12 \
         time.parse_rfc3339_ns:1 trim:12 trim_left:12 trim_prefix:12 trim_right:12 trim_space:1 trim_suffix:12 \
         units.parse:1 units.parse_bytes:1 upper:1 uri.parse:1 urlquery.decode:1 urlquery.decode_object:1 \
         urlquery.encode:1 uuid.parse:1 yaml.unmarshal:1",
    ),
    (
        "object",
        false,
        "cast_object:1 crypto.x509.parse_and_verify_certificates_with_options:2 graph.reachable:1 \
         graph.reachable_paths:1 io.jwt.decode_verify:2 json.filter:1 json.marshal_with_options:2 json.remove:1 \
         object.filter:1 object.get:1 object.keys:1 object.remove:1 object.union:12 providers.aws.sign_req:1 \
         strings.render_template:2 strings.replace_n:1 urlquery.encode_object:1",
    ),
    ("number", false, "abs:1 ceil:1 div:12 floor:1 format_int:12 minus:2 mul:12 plus:12 rem:12 round:1"),
    (
        "number",
        true,
        "array.slice:23 rand.intn:2 regex.find_all_string_submatch_n:3 regex.find_n:3 strings.split_n:3 substring:23 \
         time.add_date:234",
    ),
    (
        "integer",
        true,
        "bits.and:12 bits.lsh:12 bits.negate:1 bits.or:12 bits.rsh:12 bits.xor:12 numbers.range:12 \
         numbers.range_step:123",
    ),
    ("one of {set, array}", false, "concat:2 json.filter:2 json.remove:2 max:1 min:1 product:1 sort:1 sum:1"),
    (
        "array",
        false,
        "array.concat:12 array.flatten:1 array.reverse:1 array.slice:1 json.patch:2 object.union_n:1 sprintf:2",
    ),
    (
        "either number (ns) or [number (ns), string (tz)]",
        false,
        "time.add_date:1 time.clock:1 time.date:1 time.diff:1 time.format:1 time.weekday:1",
    ),
    ("set", false, "and:12 intersection:1 or:12 set_diff:12 union:1"),
    ("one of {array, set}", false, "all:1 any:1 cast_array:1 cast_set:1"),
    ("{array, set}", false, "graph.reachable:2 graph.reachable_paths:2"),
    ("one of {object, set, array}", false, "object.filter:2 object.remove:2"),
    ("one of {string, set, array}", false, "strings.any_prefix_match:12 strings.any_suffix_match:12"),
    ("one of {array, null}", false, "glob.match:2"),
    ("one of {array, object, set, string}", false, "count:1"),
    ("one of {null, boolean, number, string}", false, "to_number:1"),
    ("one of {number, set}", false, "minus:1"),
    ("boolean", false, "cast_boolean:1"),
    ("null", false, "cast_null:1"),
];

/// Moves an error of a builtin to the start of its call, and says it as OPA does. The place is in the file's text.
pub(super) fn in_file(error: &mut EvalError, file: &RegoFile) {
    if let (true, Ok(module)) = (of_builtin(error), check::module(file)) {
        explain(error, |visit| module.policy.iter().for_each(|rule| each_in_rule(rule, visit)));
    }
}

/// As [`in_file`], in the text of a query.
pub(super) fn in_query(error: &mut EvalError, text: &str) {
    if let (true, Ok(query)) = (of_builtin(error), check::query_tree(text)) {
        explain(error, |visit| each_in_query(&query, visit));
    }
}

/// An error in a function around a builtin is one of the builtin; where it is called from is not known.
pub(super) fn in_library(error: &mut EvalError, name: &str) {
    if of_builtin(error) {
        error.location = None;
        say(error, name, None);
    }
}

/// The place that people are told: columns in characters, where the engine's are as wide as tabs and bytes.
pub(super) fn in_characters(at: &mut Location, text: &str) {
    (at.row, at.col) = lower::characters(text, at.row, at.col);
}

fn of_builtin(error: &EvalError) -> bool {
    matches!(error.kind, EvalErrorKind::Builtin | EvalErrorKind::Type)
}

fn explain<'t>(error: &mut EvalError, each: impl FnOnce(&mut dyn FnMut(&'t Expr))) {
    let Some(place) = error.location.as_ref().map(|at| (at.row, at.col)) else { return };
    let mut sites = Vec::new();
    each(&mut |expr| sites.extend(site(expr, place)));
    // An operand that is itself a call starts where that call does: the engine's sentence knows which one failed. That
    // of an operator always says so.
    let named = sites.iter().find(|site: &&Site| site.is_named(&error.message));
    let Some(site) = named.or_else(|| sites.iter().rfind(|site| site.words.is_empty())) else { return };
    if let Some(at) = &mut error.location {
        (at.row, at.col) = site.at;
    }
    let only = (site.operands == 1).then_some(1);
    say(error, &site.name, site.operand.or(only));
}

fn say(error: &mut EvalError, name: &str, operand: Option<usize>) {
    let got = between_ticks(&error.message).map(type_of_text);
    let sentence = sentence(name, operand, &error.message, error.kind == EvalErrorKind::Type, got);
    error.kind = if sentence.of_type { EvalErrorKind::Type } else { EvalErrorKind::Builtin };
    error.message = sentence.text;
}

/// What is wrong with a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    /// An operand has the wrong type.
    pub of_type: bool,
    pub text: String,
}

/// OPA's sentence for the engine's one. `got` is the type of the operand's value, if it is known.
pub(super) fn sentence(
    name: &str,
    operand: Option<usize>,
    message: &str,
    of_type: bool,
    got: Option<&str>,
) -> Sentence {
    let prefix = format!("{name}: ");
    if message.starts_with(&prefix) {
        return Sentence { of_type, text: message.to_owned() };
    }
    let typed = |text: String| Sentence { of_type: true, text };
    let failed = |text: &str| Sentence { of_type: false, text: format!("{prefix}{text}") };
    let has = |part: &str| message.contains(part);
    match name {
        "rem" if has("floating-point") => return failed("modulo on floating-point number"),
        "format_int" if has("base to be one of") => {
            return typed(format!("{prefix}operand 2 must be one of {{2, 8, 10, 16}}"));
        }
        "strings.replace_n" if has("keys and values") => {
            return typed(format!("{prefix}operand 1 non-string value found in pattern object"));
        }
        "units.parse" | "units.parse_bytes" if has("spaces") => return failed(&format!("{prefix}{message}")),
        _ if name.starts_with("time.") && has("to int64") => return failed("timestamp too big"),
        _ if has("non-negative integer") => {
            let operand = operand.unwrap_or(2);
            let want = "an unsigned integer number but got a negative integer";
            return typed(format!("{prefix}operand {operand} must be {want}"));
        }
        // A set on either side makes it a difference of sets.
        "minus" if has("`difference`") && operand == Some(2) => {
            return typed(format!("{prefix}operand 2 must be set but got {}", got.unwrap_or("another type")));
        }
        "minus" if has("`difference`") && got == Some("number") => {
            return typed(format!("{prefix}operand 2 must be number but got set"));
        }
        _ => {}
    }
    if !of_type {
        return failed(message);
    }
    let expected = operand.and_then(|operand| Some((operand, expected(name, operand)?)));
    match (expected, got) {
        (Some((_, (want, false))), Some(got)) if want == got => typed(format!("{prefix}{message}")),
        (Some((operand, (want, integer))), Some(got)) => {
            let (want, got) = match got.split_once(" containing ") {
                Some(("array", _)) if name == "object.union_n" => ("array of objects", got),
                Some((collection, _)) if matches!(name, "sum" | "product") => match collection {
                    "array" => ("array of numbers", got),
                    _ => ("set of numbers", got),
                },
                Some(("array", _)) => ("array of strings", got),
                Some(_) => ("set of strings", got),
                None if integer && got == "number" => ("integer number", "floating-point number"),
                None => (want, got),
            };
            typed(format!("{prefix}operand {operand} must be {want} but got {got}"))
        }
        (Some((operand, (want, integer))), None) => {
            // Only a number can be told to have to be an integer.
            let (want, got) = if integer && has("integer") {
                ("integer number", " but got floating-point number")
            } else {
                (want, "")
            };
            typed(format!("{prefix}operand {operand} must be {want}{got}"))
        }
        (None, _) => typed(format!("{prefix}{message}")),
    }
}

/// As [`sentence`], for a builtin that is given its arguments: what does not fit is found among them.
pub(super) fn of_arguments(
    name: &str,
    operand: Option<usize>,
    message: &str,
    of_type: bool,
    args: &[Value],
) -> Sentence {
    match (name, args) {
        ("net.cidr_expand", [Value::String(cidr)]) if !of_type => {
            return Sentence { of_type, text: format!("{name}: invalid CIDR address: {cidr}") };
        }
        ("json.marshal_with_options", [_, Value::Object(options)]) => {
            let known = ["indent", "prefix", "pretty"].map(Value::from);
            if let Some((Value::String(key), _)) = options.iter_sorted().find(|(key, _)| !known.contains(key)) {
                let text = format!("{name}: operand 2 object contained unknown key {}", json::quote(key));
                return Sentence { of_type: true, text };
            }
        }
        _ => {}
    }
    let wrong = |index: &usize| {
        let (value, want) = (args.get(*index - 1), expected(name, *index));
        value.zip(want).is_some_and(|(value, (want, integer))| {
            let got = type_name(value);
            let whole = !integer || matches!(value, Value::Number(number) if number.is_integer());
            element(name, *index, value).is_some()
                || !(want.contains(got) || want == "integer" && got == "number")
                || !whole
        })
    };
    let found = (1..=args.len()).find(wrong);
    let operand = if of_type { found.or(operand) } else { operand };
    let value = operand.and_then(|operand| Some((operand, args.get(operand.checked_sub(1)?)?)));
    let got = value.map(|(operand, value)| {
        let (whole, part) = (type_name(value), element(name, operand, value));
        part.map_or_else(|| whole.to_owned(), |part| format!("{whole} containing {}", type_name(part)))
    });
    sentence(name, operand, message, of_type, got.as_deref())
}

/// The first element that is none of those which an operand must hold.
fn element<'v>(name: &str, operand: usize, value: &'v Value) -> Option<&'v Value> {
    let fits: fn(&Value) -> bool = match (name, operand) {
        ("concat" | "glob.match", 2) | ("strings.any_prefix_match" | "strings.any_suffix_match", _) => {
            |value| matches!(value, Value::String(_))
        }
        ("object.union_n", 1) => |value| matches!(value, Value::Object(_)),
        ("sum" | "product", 1) => |value| matches!(value, Value::Number(_)),
        _ => return None,
    };
    match value {
        Value::Array(items) => items.iter().find(|item| !fits(item)),
        Value::Set(items) => items.iter().find(|item| !fits(item)),
        _ => None,
    }
}

/// What an operand must be, and whether that is an integer.
fn expected(name: &str, operand: usize) -> Option<(&'static str, bool)> {
    EXPECTED.iter().find_map(|(want, integer, list)| {
        let numbers = list.split(' ').find_map(|entry| entry.strip_prefix(name)?.strip_prefix(':'))?;
        numbers.contains(&operand.to_string()).then_some((*want, *integer))
    })
}

/// The value in an engine's `` Got `…` ``.
fn between_ticks(message: &str) -> Option<&str> {
    let (value, _) = message.split_once("Got `")?.1.rsplit_once('`')?;
    Some(value)
}

/// The type of a value that the engine printed.
fn type_of_text(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'"') => "string",
        Some(b'[') => "array",
        Some(b'{') if super::parse_json(value).is_ok() => "object",
        Some(b'{' | b's') => "set",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{DataPath, EvalOptions, PolicySet, Settings, Source, SourceFile, SourceKind};

    /// The error of `data.a.p` in strict mode.
    fn fails(text: &str, want: &str) {
        let files = vec![SourceFile { path: "a.rego".into(), bytes: text.as_bytes().to_vec() }];
        let source = Source { name: "b".into(), origin: "b".into(), kind: SourceKind::Bundle, files };
        let set = PolicySet::load(vec![source], &Settings::default()).unwrap();
        let strict = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
        let error = set.evaluate(&DataPath::from_slash("a/p"), None, &strict).unwrap_err();
        let place = error.location.as_ref().map(|at| format!("{}:{} ", at.row, at.col)).unwrap_or_default();
        assert_eq!(format!("{place}{}: {}", error.code(), error.message), want, "{text}");
    }

    #[test]
    fn failed_calls_are_told_as_opa_tells_them() {
        for (body, want) in [
            ("p := [1 / 0]", "2:7 eval_builtin_error: div: divide by zero"),
            ("p := 1 + (2 % 0)", "2:11 eval_builtin_error: rem: modulo by zero"),
            ("p := 1.5 % 2", "2:6 eval_builtin_error: rem: modulo on floating-point number"),
            (
                "x := json.unmarshal(`\"x\"`)\np := 1 + x",
                "3:6 eval_type_error: plus: operand 2 must be number but got string",
            ),
            ("x := 1\np := {2} - x", "3:6 eval_type_error: minus: operand 2 must be set but got number"),
            ("x := {1}\np := 2 - x", "3:6 eval_type_error: minus: operand 2 must be number but got set"),
            (
                "x := json.unmarshal(`[1]`)\np := {2} | x",
                "3:6 eval_type_error: or: operand 2 must be set but got array",
            ),
            (
                "x := json.unmarshal(`7`)\np if {\n\tabs(1) == 1; count(x)\n}",
                "4:15 eval_type_error: count: operand 1 must be one of {array, object, set, string} but got number",
            ),
            (
                "x := json.unmarshal(`7`)\np := abs(abs(json.unmarshal(x)))",
                "3:14 eval_type_error: json.unmarshal: operand 1 must be string but got number",
            ),
            (
                "x := json.unmarshal(`{}`)\np := startswith(\"a\", lower(x))",
                "3:22 eval_type_error: lower: operand 1 must be string but got object",
            ),
            (
                "x := `\"a\"`\np := abs(json.unmarshal(x))",
                "3:6 eval_type_error: abs: operand 1 must be number but got string",
            ),
            (
                "x := json.unmarshal(`{\"y\": 1}`)\np := startswith(\"a\", x.y)",
                "3:6 eval_type_error: startswith: operand 2 must be string but got number",
            ),
            (
                "x := 1.5\np := numbers.range(1, x)",
                "3:6 eval_type_error: numbers.range: operand 2 must be integer number but got floating-point number",
            ),
            (
                "x := {1, \"a\"}\np := concat(\",\", x)",
                "3:6 eval_type_error: concat: operand 2 must be set of strings but got set containing number",
            ),
            (
                "p := bits.lsh(1, -1)",
                "2:6 eval_type_error: bits.lsh: operand 2 must be an unsigned integer number but got a negative integer",
            ),
            (
                "p := to_number(\"x\")",
                "2:6 eval_builtin_error: to_number: strconv.ParseFloat: parsing \"x\": invalid syntax",
            ),
            ("p := hex.decode(\"fg\")", "2:6 eval_builtin_error: hex.decode: encoding/hex: invalid byte: U+0067 'g'"),
            ("p := units.parse(\"k\")", "2:6 eval_builtin_error: units.parse: units.parse: no amount provided"),
            (
                "p := net.cidr_expand(\"10.0.0.0/99\")",
                "2:6 eval_builtin_error: net.cidr_expand: invalid CIDR address: 10.0.0.0/99",
            ),
            (
                "p := json.marshal_with_options(1, {\"x\": 1})",
                "2:6 eval_type_error: json.marshal_with_options: operand 2 object contained unknown key \"x\"",
            ),
            (
                "p := [y | some x in [1]; y := substring(\"é\", 0 - x, 1)]",
                "2:31 eval_builtin_error: substring: negative offset",
            ),
            ("p if {\n\tnot false\n\tx := \"é\"; 1 / 0 == count(x)\n}", "4:12 eval_builtin_error: div: divide by zero"),
            // Through the function around a builtin.
            (
                "p if {\n\tio.jwt.decode(\"é\", [h, _, _])\n}",
                "3:2 eval_builtin_error: io.jwt.decode: encoded JWT had no period separators",
            ),
            (
                "p if {\n\tio.jwt.decode(\"é\", [h, _, _])\n}\nq := io.jwt.decode(input.x)",
                "eval_builtin_error: io.jwt.decode: encoded JWT had no period separators",
            ),
            ("p := $\"{1}\" if 1 / 0", "2:16 eval_builtin_error: div: divide by zero"),
        ] {
            fails(&format!("package a\n{body}"), want);
        }
    }
}
