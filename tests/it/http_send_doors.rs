//! `http.send` from outside: what starts and what does not, what a slow server does to others, and what a real OPA says
//! to the same calls.

use std::{fs, process::Command, sync::mpsc, thread, time::Instant};

use serde_json::{Value, json};

use crate::{
    opa_differential::start_opa,
    support::{
        http::once,
        setup::{Server, Setup},
        tools::find,
        upstream::Upstream,
    },
};

const POLICY: &str = r#"package p

call(path, more) := http.send(object.union({"method": "get", "url": concat("", ["http://127.0.0.1:PORT", path])}, more))

body := call("/json", {}).body

kept := call("/count", {"force_cache": true, "force_cache_duration_seconds": 600}).body

slow if call("/slow", {"raise_error": false, "timeout": "1m"}).status_code

fast := 1
"#;

fn policy(upstream: &Upstream) -> String {
    POLICY.replace("PORT", &upstream.port.to_string())
}

fn serve(upstream: &Upstream, limits: &str) -> Server {
    let config = format!(
        "opa: {{identity: passthrough}}\npolicy: {{bundles: [{{name: b, path: bundle}}], limits: {{{limits}}}, \
         http_send: {{allow: ['127.0.0.1:{}']}}}}\nreload: {{debounce: 1ms}}\n",
        upstream.port
    );
    Setup::new(&config).file("bundle/p.rego", &policy(upstream)).serve()
}

#[test]
fn a_slow_server_delays_nobody_else() {
    let upstream = Upstream::start();
    let server = serve(&upstream, "io_deadline: 2s, deadline: 20s");
    assert_eq!(server.get("/v1/data/p/body").result(), json!({"a": 1}));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..40 {
        let (address, sender) = (server.address.clone(), sender.clone());
        thread::spawn(move || {
            let answer = once(&address, "GET", "/v1/data/p/slow", &[], b"");
            sender.send((answer.status, answer.json()["errors"][0]["code"].clone(), Instant::now())).unwrap();
        });
    }
    crate::support::eventually("all wait", || (upstream.requests("/slow").len() == 40).then_some(()));
    let waiting = Instant::now();
    for _ in 0..100 {
        assert_eq!(server.get("/v1/data/p/fast").result(), json!(1));
    }
    let fast = Instant::now();
    drop(sender);
    let answers: Vec<_> = receiver.iter().collect();
    assert_eq!(answers.len(), 40);
    for (status, code, at) in answers {
        assert_eq!((status, code.as_str()), (500, Some("eval_deadline_exceeded")));
        assert!(at > fast, "a hundred answers took longer than the deadline of those that wait: {:?}", fast - waiting);
    }
    assert_eq!(server.get("/v1/data/p/body").result(), json!({"a": 1}));
}

#[test]
fn a_reload_keeps_what_is_kept() {
    let upstream = Upstream::start();
    let server = serve(&upstream, "");
    assert_eq!(server.get("/v1/data/p/kept").result(), json!(1));
    server.replace("bundle/p.rego", &policy(&upstream).replace("fast := 1", "fast := 2"));
    crate::support::eventually("the new policy", || (server.get("/v1/data/p/fast").result() == json!(2)).then_some(()));
    assert_eq!(server.get("/v1/data/p/kept").result(), json!(1));
    assert_eq!(upstream.requests("/count").len(), 1);
}

#[test]
fn a_query_of_a_client_does_not_call_it_itself() {
    let upstream = Upstream::start();
    let server = serve(&upstream, "");
    let query = format!(
        r#"{{"query":"http.send({{\"method\":\"get\",\"url\":\"http://127.0.0.1:{}/json\"}})"}}"#,
        upstream.port
    );
    let refused = server.post("/v1/query", &[], &query);
    assert_eq!((refused.status, refused.json()["errors"][0]["code"].as_str()), (400, Some("rego_type_error")));
    let message = refused.json()["errors"][0]["message"].to_string();
    assert!(message.contains("unsafe built-in function calls in expression: http.send"), "{message}");
    assert!(upstream.requests("/json").is_empty());
    let asked = server.post("/v1/query", &[], r#"{"query":"x = data.p.body.a"}"#);
    assert_eq!(asked.json(), json!({"result": [{"x": 1}]}));
}

/// Runs the program in a directory with a policy and its test; exit code, stdout and stderr.
fn run(upstream: &Upstream, args: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let test =
        "package p\n\ntest_body if body.a == 1 with http.send as {\"body\": {\"a\": 1}}\n\ntest_real if body.a == 1\n";
    fs::write(directory.path().join("p.rego"), policy(upstream)).unwrap();
    fs::write(directory.path().join("p_test.rego"), test).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(args)
        .current_dir(directory.path())
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_not_listed_does_not_start_and_is_not_called() {
    let upstream = Upstream::start();
    let host = format!("127.0.0.1:{}", upstream.port);
    let allowed = ["--allow-http-send", &host];
    let check = ["check", "-d", "p.rego", "--set", "opa.identity=passthrough"];
    let (code, _, stderr) = run(&upstream, &check);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("p.rego:3:21: rego_type_error: http.send is not allowed: no host is listed"), "{stderr}");
    let (code, _, stderr) = run(&upstream, &[&check[..], &allowed].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let (code, _, stderr) = run(&upstream, &[&check[..], &["--allow-http-send", "http://x"]].concat());
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("`http://x` is not a host"), "{stderr}");

    let eval = ["eval", "-d", "p.rego", "-f", "raw", "data.p.body.a"];
    let (code, _, stderr) = run(&upstream, &eval);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("eval_http_send_refused: http.send: host `127.0.0.1` is not allowed"), "{stderr}");
    let (code, stdout, stderr) = run(&upstream, &[&eval[..], &allowed].concat());
    assert_eq!((code, stdout.as_str()), (Some(0), "1\n"), "{stderr}");

    let (code, stdout, _) = run(&upstream, &["test", ".", "-v"]);
    assert_eq!(code, Some(2));
    assert!(stdout.contains("data.p.test_body: PASS") && stdout.contains("data.p.test_real: ERROR"), "{stdout}");
    let (code, stdout, stderr) = run(&upstream, &[&["test", "."][..], &allowed].concat());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

/// The same call by `opa` and by claimgate: the same value, or both none. Messages of failures differ in their causes;
/// their codes do not.
#[test]
fn a_real_opa_gives_the_same_answers() {
    let Some(opa) = find("opa", "OPA") else { return };
    let upstream = Upstream::start();
    let paths = [
        "/json",
        "/missing",
        "/chunks",
        "/redirect",
        "/garbage",
        "/closing",
        "/short",
        "/yaml",
        "/nothing",
        "/broken-json",
        "/trailing-json",
        "/latin",
        "/twice",
        "/bom",
        "/empty-json",
        "/no-reason",
    ];
    let more = [
        r#""raise_error": false"#,
        r#""raise_error": false, "force_json_decode": true"#,
        r#""raise_error": false, "cache": true, "max_retry_attempts": 1"#,
        r#""enable_redirect": true"#,
    ];
    let parameters = [
        r#""zz": 1"#,
        r#""timeout": true"#,
        r#""timeout": "1 x""#,
        r#""timeout": 1.5"#,
        r#""headers": 1"#,
        r#""headers": {"a": 1}"#,
        r#""headers": {"a b": "c"}"#,
        r#""force_cache": true"#,
        r#""cache": 1"#,
        r#""force_cache": true, "force_cache_duration_seconds": "x""#,
        r#""max_retry_attempts": -1"#,
        r#""enable_redirect": "true""#,
        r#""enable_redirect": 1"#,
        r#""raw_body": 1"#,
        r#""tls_ca_cert": "x""#,
        r#""force_json_decode": 1"#,
        r#""tls_client_cert_file": 1"#,
        r#""raise_error": 1"#,
        r#""cache_ignored_headers": [1], "headers": {}"#,
        r#""cache_ignored_headers": [1]"#,
    ];
    let mut calls: Vec<(String, String)> = Vec::new();
    for path in paths {
        calls.extend(more.iter().map(|more| (path.to_owned(), (*more).to_owned())));
    }
    for more in parameters {
        calls.push(("/json".to_owned(), more.to_owned()));
        calls.push(("/json".to_owned(), format!("{more}, \"raise_error\": false").replace("\"raise_error\": 1, ", "")));
    }
    let host = format!("127.0.0.1:{}", upstream.port);
    let queries: Vec<String> = calls
        .iter()
        .map(|(path, more)| format!("http.send({{\"method\": \"get\", \"url\": \"http://{host}{path}\", {more}}})"))
        .collect();
    // All in one evaluation: `opa` takes long to start.
    let rules: Vec<String> =
        queries.iter().enumerate().map(|(index, query)| format!("r contains [{index}, x] if x := {query}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("p.rego"), format!("package p\n\n{}", rules.concat())).unwrap();
    let ask = |program: &std::path::Path, args: &[&str]| {
        let output = Command::new(program)
            .args(["eval", "-d", "p.rego", "-f", "raw", "data.p.r"])
            .args(args)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let mut found: Vec<Value> = vec![Value::Null; queries.len()];
        for pair in value.as_array().unwrap() {
            let mut answer = pair[1].clone();
            if let Some(error) = answer.get_mut("error") {
                error["message"] = Value::Null;
            }
            found[usize::try_from(pair[0].as_u64().unwrap()).unwrap()] = answer;
        }
        found
    };
    let theirs = ask(&opa, &[]);
    let ours = ask(env!("CARGO_BIN_EXE_claimgate").as_ref(), &["--allow-http-send", "127.0.0.1"]);
    let differ: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .zip(&queries)
        .filter(|((ours, theirs), _)| ours != theirs)
        .map(|((ours, theirs), query)| format!("{query}\n  claimgate {ours}\n  OPA       {theirs}"))
        .collect();
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), queries.len(), differ.join("\n"));
    assert!(queries.len() > 100);
}

/// Each path is asked three times, by evaluations of their own: what is kept, for whom, and what is asked anew.
#[test]
fn a_real_opa_keeps_the_same_answers() {
    let Some(opa) = find("opa", "OPA") else { return };
    let paths = [
        "/count",
        "/kept",
        "/aged",
        "/dateless",
        "/expires-later",
        "/expires-past",
        "/expires-0",
        "/kept-404",
        "/kept-503",
        "/modified",
        "/renewed",
        "/changed",
        "/tagged",
        "/gone",
        "/private",
        "/redirect",
    ];
    let more = [
        r#""cache": true"#,
        r#""cache": true, "caching_mode": "deserialized""#,
        r#""cache": true, "method": "post""#,
        r#""cache": true, "headers": {"n": input.n}"#,
        r#""cache": true, "headers": {"n": input.n}, "cache_ignored_headers": ["n"]"#,
        r#""force_cache": true, "force_cache_duration_seconds": 600"#,
        r#""force_cache": true, "force_cache_duration_seconds": 0"#,
        r#""force_cache": false, "force_cache_duration_seconds": 600"#,
    ];
    let calls: Vec<String> = paths
        .iter()
        .flat_map(|path| more.iter().map(move |more| (path, more)))
        .enumerate()
        .map(|(index, (path, more))| {
            let method = if more.contains("method") { "" } else { "\"method\": \"get\", " };
            format!("r{index} := http.send({{{method}\"url\": \"http://127.0.0.1:PORT{path}?{index}\", {more}}})\n")
        })
        .collect();
    let text = format!("package p\n\n{}", calls.concat());
    let module = |upstream: &Upstream| text.replace("PORT", &upstream.port.to_string());

    let (for_us, for_opa) = (Upstream::start(), Upstream::start());
    let config = format!(
        "opa: {{identity: passthrough}}\npolicy: {{data: [p.rego], http_send: {{allow: ['127.0.0.1:{}']}}}}\n",
        for_us.port
    );
    let ours = Setup::new(&config).file("p.rego", &module(&for_us)).serve();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("p.rego"), module(&for_opa)).unwrap();
    let (_opa, theirs) = start_opa(&opa, directory.path(), &[], &["p.rego"]);
    let ask = |address: &str, index: usize, n: u32| {
        let body = format!("{{\"input\": {{\"n\": \"{n}\"}}}}");
        let fields = [("content-type", "application/json")];
        let answer = once(address, "POST", &format!("/v1/data/p/r{index}"), &fields, body.as_bytes());
        let mut result = answer.json()["result"].clone();
        // These tell when they were made.
        for name in ["date", "expires", "last-modified"] {
            result["headers"].as_object_mut().map(|headers| headers.remove(name));
        }
        result
    };
    let mut differ = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let path = call.split("PORT").nth(1).unwrap().split('?').next().unwrap();
        let before = (for_us.requests(path).len(), for_opa.requests(path).len());
        let answers = |address: &str| (0..3).map(|n| ask(address, index, n)).collect::<Vec<Value>>();
        let (left, right) = (answers(&ours.address), answers(&theirs));
        let asked = (for_us.requests(path).len() - before.0, for_opa.requests(path).len() - before.1);
        if asked.0 != asked.1 || left != right {
            differ.push(format!("{call}  asked {asked:?}\n  claimgate {left:?}\n  OPA       {right:?}"));
        }
    }
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), calls.len(), differ.join("\n"));
}
