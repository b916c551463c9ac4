//! Ad-hoc queries.

use super::*;

#[test]
fn queries_have_bindings_and_pass_the_checks_of_rules() {
    let set = load(&[("a.rego", "package a\nxs := [1, 2]\nf(x) := x + 1\n")]).unwrap();
    let query = |text: &str| match set.query(text, None, &EvalOptions::default()) {
        Ok(result) => {
            let row = |row: &QueryRow| {
                let bindings: Vec<_> = row.bindings.iter().map(|(n, v)| format!("{n}={}", to_opa_json(v))).collect();
                let values: Vec<_> = row.expressions.iter().map(|e| to_opa_json(&e.value)).collect();
                format!("[{}] {}", values.join(","), bindings.join(","))
            };
            result.rows.iter().map(row).collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("{} {}", error.location.map(|at| at.to_string()).unwrap_or_default(), error.message),
    };
    assert_eq!(query("data.a.xs"), "[[1,2]] ");
    assert_eq!(query("x := data.a.f(1)"), "[true] x=2");
    assert_eq!(query("data.a.xs[i] = x"), "[true] i=0,x=1; [true] i=1,x=2");
    assert_eq!(query("data.a.nope"), "");
    assert_eq!(query("data.a.xs["), "query:1:1 rego_parse_error: malformed query");
    assert_eq!(query("nope(1)"), "query:1:1 rego_type_error: undefined function nope");
    assert_eq!(query("x > 1"), "query:1:1 rego_unsafe_var_error: var x is unsafe");
    assert!(query("http.send({})").starts_with("query:1:1 rego_type_error: http.send is not allowed: no host"));
    assert_eq!(
        query(&format!("{}1", "1+".repeat(200))),
        "query:1:258 rego_limit_error: expression has more than 128 operators; split it"
    );
    let doubled: String = (1..=40).map(|n| format!("x{n} := [x{0}, x{0}]; ", n - 1)).collect();
    assert_eq!(
        query(&format!("x0 := 1; {doubled}y := x40; x40 == y")),
        "query:1:1 rego_limit_error: query builds a value of more than 2^24 parts; say each part once"
    );
}

#[test]
fn a_query_may_need_functions_around_builtins_that_the_modules_do_not() {
    let set = load(&[(
        "a.rego",
        "package a\nraw := io.jwt.decode(\"t\")\nmocked(_) := 7\nok if crypto.sha256(\"x\") == \"y\"",
    )])
    .unwrap();
    for (query, want) in [
        ("x := data.a.raw with io.jwt.decode as data.a.mocked", "7"),
        ("x := data.a.ok with crypto.sha256 as \"y\"", "true"),
        ("x := data.a.mocked(\"abc\") with data.a.mocked as count", "3"),
    ] {
        let rows = set.query(query, None, &EvalOptions::default()).unwrap().rows;
        let values: Vec<String> = rows[0].bindings.iter().map(|(_, value)| to_opa_json(value)).collect();
        assert_eq!(values.join(","), want, "{query}");
    }
}
