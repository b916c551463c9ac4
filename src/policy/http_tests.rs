//! `http.send` from Rego to a port that is made up: parameters, results, failures, and what may not end as undefined.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    DataPath, EvalError, EvalErrorKind, EvalOptions, HttpError, HttpRequest, HttpResponse, HttpSend, Outcome,
    PolicySet, Settings, Source, SourceFile, SourceKind, to_opa_json,
};

type Answer = Result<HttpResponse, HttpError>;

/// Answers all requests alike, and keeps them.
#[derive(Debug)]
struct Fake {
    answer: Answer,
    seen: Mutex<Vec<HttpRequest>>,
    names: Mutex<Vec<String>>,
}

impl HttpSend for Fake {
    fn send(&self, request: &HttpRequest) -> Result<Arc<HttpResponse>, HttpError> {
        self.seen.lock().unwrap().push(request.clone());
        self.answer.clone().map(Arc::new)
    }

    fn lookup(&self, name: &str, _: Duration) -> Result<Vec<std::net::IpAddr>, HttpError> {
        self.names.lock().unwrap().push(name.to_owned());
        Ok(vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()])
    }
}

fn fake(answer: Answer) -> Arc<Fake> {
    Arc::new(Fake { answer, seen: Mutex::default(), names: Mutex::default() })
}

fn response(content_type: &str, body: &str) -> Answer {
    Ok(HttpResponse {
        status: "200 OK".to_owned(),
        status_code: 200,
        headers: vec![("content-type".to_owned(), vec![content_type.to_owned()])],
        body: body.as_bytes().to_vec(),
    })
}

fn network() -> Answer {
    Err(HttpError::Network { message: "Get \"http://h\": timeout".to_owned(), raised: Some("timed out".to_owned()) })
}

fn load(fake: &Arc<Fake>, rules: &str) -> PolicySet {
    let source = Source {
        name: String::new(),
        origin: "dir".to_owned(),
        kind: SourceKind::Plain { prefix: Vec::new() },
        files: vec![SourceFile { path: "p.rego".to_owned(), bytes: format!("package p\n\n{rules}\n").into_bytes() }],
    };
    let port: Arc<dyn HttpSend> = Arc::<Fake>::clone(fake);
    PolicySet::load(vec![source], &Settings { http: Some(port), ..Settings::default() }).unwrap()
}

fn ask(set: &PolicySet, strict: bool) -> Result<Outcome, EvalError> {
    let options = EvalOptions { strict_builtin_errors: strict, ..EvalOptions::default() };
    set.evaluate(&DataPath::from_slash("p/x"), None, &options)
}

/// Value as JSON, `undefined`, or the error.
fn shown(result: Result<Outcome, EvalError>) -> String {
    match result {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => to_opa_json(&value),
        Err(error) => format!("{}: {}", error.code(), error.message),
    }
}

/// `x := http.send({"method": "get", "url": "http://h", <more>})<after>`
fn check(answer: Answer, more: &str, after: &str, strict: bool, want: &str) {
    let rule = format!("x := http.send({{\"method\": \"get\", \"url\": \"http://h\"{more}}}){after}");
    let got = shown(ask(&load(&fake(answer), &rule), strict));
    assert_eq!(got, want, "{rule}");
}

#[test]
fn an_answer_is_opas_object() {
    check(
        response("application/json; charset=utf-8", "{\"a\":1}"),
        "",
        "",
        false,
        "{\"body\":{\"a\":1},\"headers\":{\"content-type\":[\"application/json; charset=utf-8\"]},\
         \"raw_body\":\"{\\\"a\\\":1}\",\"status\":\"200 OK\",\"status_code\":200}",
    );
    for (content_type, body, more, want) in [
        ("application/vnd.x+json", "[1]", "", "[1]"),
        ("application/json", "{\"a\":1} trailing", "", "{\"a\":1}"),
        ("application/json", "{\"a", "", "null"),
        ("application/json", "truex", "", "true"),
        ("application/json", " -1.5e+2x", "", "-150"),
        ("application/json", "012", "", "0"),
        ("application/json", "1.x", "", "null"),
        ("application/json", "1ex", "", "null"),
        ("application/json", "-x", "", "null"),
        ("application/json", "x", "", "null"),
        ("application/json", "", "", "null"),
        ("application/json; broken", "[1]", "", "null"),
        ("text/plain", "[1]", "", "null"),
        ("text/plain", "[1]", ", \"force_json_decode\": true", "[1]"),
        ("text/plain", "a: 1", ", \"force_yaml_decode\": true", "{\"a\":1}"),
        ("application/yaml", "a: [x]", "", "{\"a\":[\"x\"]}"),
    ] {
        check(response(content_type, body), more, ".body", false, want);
    }
}

#[test]
fn wrong_parameters_have_opas_sentences() {
    for (more, want) in [
        (", \"zz\": 1", "eval_type_error: http.send: operand 1 invalid request parameters(s): {\"zz\"}"),
        (", \"raise_error\": 1", "eval_builtin_error: http.send: invalid value for raise_error field"),
        (", \"cache\": 1", "eval_builtin_error: http.send: invalid value for \"cache\" field"),
        (
            ", \"force_cache\": true",
            "eval_builtin_error: http.send: 'force_cache' set but 'force_cache_duration_seconds' parameter is missing",
        ),
        (
            ", \"timeout\": true",
            "eval_type_error: http.send: operand 1 'timeout' must be one of {string, number} but got boolean",
        ),
        (", \"headers\": 1", "eval_builtin_error: http.send: invalid type for headers key"),
        (", \"headers\": {\"a\": 1}", "eval_builtin_error: http.send: invalid type for headers value \"1\""),
        (
            ", \"enable_redirect\": \"true\"",
            "eval_builtin_error: http.send: strconv.ParseBool: parsing \"\\\"true\\\"\": invalid syntax",
        ),
        (
            ", \"max_retry_attempts\": -1",
            "eval_builtin_error: http.send: invalid value -1 for field \"max_retry_attempts\"",
        ),
        (", \"raw_body\": 1", "eval_builtin_error: http.send: \"raw_body\" must be a string"),
        (
            ", \"headers\": {}, \"cache_ignored_headers\": [1]",
            "eval_builtin_error: http.send: cache_ignored_headers must be an array of strings",
        ),
    ] {
        check(response("", ""), more, "", true, want);
        check(response("", ""), more, "", false, "undefined");
    }
}

#[test]
fn failures_are_values_when_the_call_says_so() {
    let quiet = ", \"raise_error\": false";
    check(network(), "", "", false, "undefined");
    check(network(), "", "", true, "eval_builtin_error: http.send: timed out");
    check(
        network(),
        quiet,
        "",
        true,
        "{\"error\":{\"code\":\"eval_http_send_network_error\",\"message\":\"Get \\\"http://h\\\": timeout\"},\
         \"status_code\":0}",
    );
    check(
        Err(HttpError::Failed("unexpected EOF".to_owned())),
        quiet,
        ".error",
        false,
        "{\"code\":\"eval_http_send_internal_error\",\"message\":\"eval_builtin_error: http.send: unexpected EOF\"}",
    );
    check(
        response("", ""),
        ", \"raise_error\": false, \"zz\": 1",
        ".error.message",
        false,
        "\"eval_type_error: http.send: operand 1 invalid request parameters(s): {\\\"zz\\\"}\"",
    );
}

#[test]
fn what_opa_would_have_done_never_ends_as_undefined() {
    let refused = || Err(HttpError::Refused("host `h` is not allowed".to_owned()));
    for more in ["", ", \"raise_error\": false"] {
        check(refused(), more, "", false, "eval_http_send_refused: http.send: host `h` is not allowed");
        check(Err(HttpError::Deadline), more, "", false, "eval_deadline_exceeded: evaluation exceeded its deadline");
        let digits = format!("[{}]", "9".repeat(2_000));
        check(
            response("application/json", &digits),
            more,
            "",
            false,
            "eval_resource_limit: http.send: body cannot be read: number has more than 1000 digits",
        );
    }
    let rules = "x if not http.send({\"method\": \"get\", \"url\": \"http://h\"}).body.revoked";
    let error = ask(&load(&fake(refused()), rules), false).unwrap_err();
    assert_eq!(error.kind, EvalErrorKind::Refused);
    // As in OPA: a failure that the policy was to handle is undefined, and `not` does not turn what a call did not give
    // into a yes.
    assert_eq!(shown(ask(&load(&fake(network()), rules), false)), "undefined");
}

#[test]
fn parameters_become_a_request() {
    let sender = fake(response("", ""));
    let rules = r#"x := http.send({
        "method": "post", "url": "http://h/p", "body": {"a": {2, 1}, "b": "<"}, "timeout": "1.5s",
        "headers": {"X-A": "1", "Host": "other"}, "enable_redirect": true, "max_retry_attempts": 2,
        "force_cache": true, "force_cache_duration_seconds": 60, "tls_ca_cert": "pem", "tls_client_key_file": "/k",
        "tls_use_system_certs": false, "tls_insecure_skip_verify": true, "cache_ignored_headers": ["X-A"],
    }).status_code"#;
    assert_eq!(shown(ask(&load(&sender, rules), true)), "200");
    let seen = sender.seen.lock().unwrap();
    let request = &seen[0];
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "http://h/p"));
    assert_eq!(request.body, b"{\"a\":[1,2],\"b\":\"\\u003c\"}");
    assert_eq!(request.headers, [("Host".into(), "other".into()), ("X-A".into(), "1".into())]);
    assert_eq!(request.timeout, Some(Duration::from_millis(1_500)));
    assert!(request.follow_redirects && request.tls.insecure_skip_verify);
    assert_eq!(request.caching.unwrap().force, Some(Duration::from_secs(60)));
    assert_eq!(request.tls.server_name.as_deref(), Some("other"));
    assert_eq!(request.tls.use_system_certs, Some(false));
    assert_eq!(request.tls.client_key.file.as_deref(), Some("/k"));
    assert_eq!(request.retries, 2);
    assert!(!request.key.contains("X-A") && request.key.contains("other"), "{}", request.key);
    assert!(!format!("{request:?}").contains("pem\""), "{request:?}");
    assert!(request.now_ns > 0 && request.time_left <= Duration::from_secs(10));
    assert!(request.time_left > Duration::from_secs(5), "the longer deadline holds: {:?}", request.time_left);
}

#[test]
fn the_same_question_has_one_answer_in_an_evaluation() {
    let call = |more: &str| format!("http.send({{\"method\": \"get\", \"url\": \"http://h\"{more}}})");
    let twice = |a: &str, b: &str| format!("x := [y | some f in [1, 2]; y := f] if {{ {}; {} }}", call(a), call(b));
    for (answer, a, b, calls) in [
        (response("", ""), "", "", 1),
        (response("", ""), "", ", \"timeout\": 7", 2),
        (response("", "").map(|r| HttpResponse { status_code: 500, ..r }), "", "", 2),
        (response("", "").map(|r| HttpResponse { status_code: 500, ..r }), ", \"cache\": true", ", \"cache\": true", 1),
        (network(), ", \"raise_error\": false", ", \"raise_error\": false", 1),
    ] {
        let sender = fake(answer);
        let set = load(&sender, &twice(a, b));
        assert_eq!(shown(ask(&set, false)), "[1,2]");
        assert_eq!(sender.seen.lock().unwrap().len(), calls, "{a} {b}");
        // The next evaluation asks again.
        assert_eq!(shown(ask(&set, false)), "[1,2]");
        assert_eq!(sender.seen.lock().unwrap().len(), calls * 2, "{a} {b}");
    }
}

#[test]
fn a_mock_replaces_the_network() {
    let sender = fake(network());
    let rules = "allow if http.send({\"method\": \"get\", \"url\": \"http://h\"}).body.ok\n\
                 mock(request) := {\"body\": {\"ok\": request.url == \"http://h\"}}\n\
                 other if allow with http.send as {\"body\": {\"ok\": true}}\n\
                 x := [other, true] if allow with http.send as mock";
    assert_eq!(shown(ask(&load(&sender, rules), false)), "[true,true]");
    assert!(sender.seen.lock().unwrap().is_empty());
}

#[test]
fn a_set_knows_which_paths_wait() {
    let rules = "call(u) := http.send({\"method\": \"get\", \"url\": u})\n\
                 x := call(\"http://h\")\ny if x.status_code == 200\nz := 1\nw[k] := v if { some k, v in [y] }";
    let set = load(&fake(network()), rules);
    for (path, want) in
        [("p/x", true), ("p/y", true), ("p/w/0", true), ("p/z", false), ("p", true), ("", true), ("q", false)]
    {
        let path = DataPath::from_slash(path);
        assert_eq!(set.reaches_network(&path), want, "{path}");
        let deadline = if want { Duration::from_secs(10) } else { Duration::from_millis(100) };
        assert_eq!(set.deadline(&path), deadline, "{path}");
    }
}

#[test]
fn a_query_of_a_client_does_not_call_it_itself() {
    let set = load(&fake(response("", "")), "x := http.send({\"method\": \"get\", \"url\": \"http://h\"}).status_code");
    let options = EvalOptions { foreign_query: true, ..EvalOptions::default() };
    let error = set.query("http.send({})", None, &options).unwrap_err();
    assert_eq!(error.message, "rego_type_error: unsafe built-in function calls in expression: http.send");
    assert_eq!(set.query("data.p.x = 200", None, &options).unwrap().rows.len(), 1);
    let own = EvalOptions::default();
    assert_eq!(
        set.query("r := http.send({\"method\": \"get\", \"url\": \"http://h\"})", None, &own).unwrap().rows.len(),
        1
    );
}

#[test]
fn an_output_argument_takes_the_answer() {
    let rules = "x := [r.status_code, e] if { http.send({\"method\": \"get\", \"url\": \"http://h\"}, r); e := 1 }";
    assert_eq!(shown(ask(&load(&fake(response("", "")), rules), false)), "[200,1]");
}

#[test]
fn a_loop_of_calls_ends() {
    let calls = |most: usize, size: usize| {
        let rules = format!(
            "x := count([1 | some i in numbers.range(1, {most}); http.send({{\"method\": \"get\", \"url\": \"http://h\", \
             \"headers\": {{\"i\": sprintf(\"%d\", [i])}}, \"raise_error\": false}})])"
        );
        shown(ask(&load(&fake(response("text/plain", &"x".repeat(size))), &rules), false))
    };
    assert_eq!(calls(1_000, 10), "1000");
    assert_eq!(calls(1_001, 10), "eval_http_send_refused: http.send: more than 1000 requests in one evaluation");
    let bytes = "eval_http_send_refused: http.send: answers of more than 67108864 bytes in one evaluation";
    assert_eq!(calls(100, 1 << 20), bytes);
}

proptest::proptest! {
    /// Whatever a server sends becomes a value or ends the evaluation; it is never undefined.
    #[test]
    fn any_answer_is_a_value_or_ends_the_evaluation(
        content_type in "(application/(json|x[+]json|yaml)|text/plain|[ -~]{0,20})(; ?[ -~]{0,8})?",
        body in "[\\[{}\\]:,\"0-9eE+.\\\\ud -]{0,40}|\\PC{0,40}",
        force in proptest::bool::ANY,
    ) {
        let more = if force { ", \"force_json_decode\": true" } else { "" };
        let rule = format!("x := http.send({{\"method\": \"get\", \"url\": \"http://h\"{more}}})");
        let got = shown(ask(&load(&fake(response(&content_type, &body)), &rule), false));
        proptest::prop_assert!(got.starts_with("{\"body\":") || got.starts_with("eval_resource_limit: "), "{}", got);
    }
}

#[test]
fn names_are_looked_up_once_in_an_evaluation_and_addresses_never() {
    for (rule, want, asked) in [
        (
            "x := [net.lookup_ip_addr(y) | some y in [\"a.test\", \"a.test\"]]",
            "[[\"10.0.0.1\",\"10.0.0.2\"],[\"10.0.0.1\",\"10.0.0.2\"]]",
            1,
        ),
        ("x := net.lookup_ip_addr(\"::ffff:10.0.0.9\")", "[\"10.0.0.9\"]", 0),
        ("x := net.lookup_ip_addr(\"fe80::1%eth0\")", "[\"fe80::1%eth0\"]", 0),
        ("x := net.lookup_ip_addr(\"\")", "eval_builtin_error: net.lookup_ip_addr: lookup : no such host", 0),
        ("x := net.lookup_ip_addr(\"a b\")", "eval_builtin_error: net.lookup_ip_addr: lookup a b: no such host", 0),
        ("x := net.lookup_ip_addr(concat(\"a\", [\"\" | some _ in numbers.range(1, 300)]))", "eval_builtin_error", 0),
        (
            "x := net.lookup_ip_addr(json.unmarshal(\"1\"))",
            "eval_type_error: net.lookup_ip_addr: operand 1 must be string but got number",
            0,
        ),
    ] {
        let port = fake(response("text/plain", ""));
        let got = shown(ask(&load(&port, rule), true));
        assert!(got.starts_with(want), "{rule}: {got}");
        assert_eq!(port.names.lock().unwrap().len(), asked, "{rule}");
    }
}
