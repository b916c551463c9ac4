//! What the engine reads in another way than OPA is refused when it is loaded.

use super::load;

#[test]
fn what_the_engine_would_read_in_another_way_than_opa_is_refused() {
    let check = |imports: &str, body: &str, want: Option<&str>| {
        let text = format!("package p\n{imports}\n{body}");
        let errors = load(&[("p.rego", &text)]).err().unwrap_or_default();
        match want {
            None => assert!(errors.is_empty(), "{text}: {errors:?}"),
            Some(want) => assert!(errors.iter().any(|error| error.contains(want)), "{text}: {errors:?}"),
        }
    };
    for body in [
        r#"a := {"k": input.x}"#,
        r#"a := o if { x := 1; o = {"k": x} }"#,
        r#"a if {"k": 1} == input.o"#,
        r#"a if {"k": 1} = input.o"#,
        "f([x, y]) := x + y",
        "f(_, _) := 1",
        "a := [x | some x, _ in input.l]",
        "a := [p | walk(input, [p, _])]",
    ] {
        check("", body, None);
    }
    check("", "f(x, x) := 1", Some("3:6: rego_compile_error: variable x stands there twice"));
    check("", "f(x, [x]) := 1", Some("variable x stands there twice"));
    check("", "a if some x, x in input.l", Some("variable x stands there twice"));
    check("", "f(input) := input", Some("args must not shadow input (use a different variable name)"));
    check("", "f([data]) := data", Some("args must not shadow data (use a different variable name)"));
    check(
        "",
        "a := [p | [p, _] := walk(input)]",
        Some("rego_type_error: walk: its result as a value is not supported"),
    );
    check("import input.role", "role := 1", Some("2:1: rego_compile_error: import role and a rule of this package"));
    check("import input.role", "role contains 1", Some("have one name; give the import another with `as`"));
    check("import input.role as r", "role := r", None);
    check("import input as data", "a := 1", Some("must not be a reserved name, got: data"));
    check("import input.x\nimport data.x", "a := x", Some("import must not shadow import input.x"));
}
