//! The OPA door over real sockets, where nobody looks at tokens: it is held against recorded answers of a real OPA; every
//! difference is listed with its reason.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    http::{Answer, Fields},
    setup::{Server, Setup},
};

const RECORDED: &str = include_str!("../fixtures/opa-rest/recorded.json");

/// A request that is answered otherwise than by OPA 1.9.0, on purpose.
struct Different {
    id: u64,
    status: u16,
    fields: Fields<'static>,
    /// `None`: the engine's own words.
    body: Option<&'static str>,
    /// Read by people only.
    _why: &'static str,
}

const JSON: (&str, &str) = ("content-type", "application/json");
const VARY: (&str, &str) = ("vary", "Accept-Encoding");
const NUMBERS: &str = "the engine keeps the values of numbers that a policy writes, not their text";

const DIFFERENT: [Different; 11] = [
    Different {
        id: 0,
        status: 200,
        fields: &[JSON, VARY],
        body: Some(concat!(
            r#"{"decision_id":"<id>","result":{"authz":{"allow":false,"esc":"\u003ca\u003e\u0026\u2028","#,
            r#""n":[1,1000,123456789012345678901234567890,0],"reason":"nope","s":["a","b"]},"list":[10,20],"#,
            r#""this":{"is/allowed":{"pkg":{"allow":true}}},"users":{"alice":{"role":"admin"}}}}"#,
            "\n"
        )),
        _why: NUMBERS,
    },
    Different { id: 16, status: 500, fields: &[JSON, VARY], body: None, _why: "the engine points at the operator" },
    Different {
        id: 19,
        status: 200,
        fields: &[JSON, VARY],
        body: Some("{\"decision_id\":\"<id>\",\"result\":[1,1000,123456789012345678901234567890,0]}\n"),
        _why: NUMBERS,
    },
    Different {
        id: 20,
        status: 200,
        fields: &[JSON, VARY],
        body: Some(concat!(
            r#"{"decision_id":"<id>","result":{"allow":true,"esc":"\u003ca\u003e\u0026\u2028","#,
            r#""n":[1,1000,123456789012345678901234567890,0],"s":["a","b"]}}"#,
            "\n"
        )),
        _why: NUMBERS,
    },
    Different {
        id: 54,
        status: 200,
        fields: &[JSON],
        body: Some(
            r#"{"result":{"default_decision":"/system/main","labels":{"id":"<id>","region":"west","version":"<version>"}}}"#,
        ),
        _why: "shows what a client needs, nothing of what the operator configured",
    },
    Different {
        id: 55,
        status: 500,
        fields: &[JSON],
        body: Some(r#"{"code":"internal_error","message":"status plugin not enabled"}"#),
        _why: "the status is on the admin listener",
    },
    Different { id: 59, status: 400, fields: &[JSON], body: None, _why: "the engine's parser has its own words" },
    Different {
        id: 60,
        status: 501,
        fields: &[JSON, VARY],
        body: Some(
            r#"{"code":"not_implemented","message":"partial evaluation is not supported; evaluate a rule by /v1/data"}"#,
        ),
        _why: "the engine has no partial evaluation",
    },
    Different {
        id: 65,
        status: 404,
        fields: &[("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")],
        body: Some("404 page not found\n"),
        _why: "metrics are on the admin listener",
    },
    Different { id: 66, status: 405, fields: &[], body: Some(""), _why: "the batch API of the SDKs exists here" },
    Different {
        id: 67,
        status: 200,
        fields: &[JSON, VARY],
        body: Some(r#"{"batch_decision_id":"<id>","responses":{"a":{"decision_id":"<id>","result":false}}}"#),
        _why: "the batch API of the SDKs exists here",
    },
];

pub(crate) fn recorded_server() -> Server {
    Setup::new(
        "opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: b}]}\ndecision_log: {labels: {region: west}}\n",
    )
    .copy("tests/fixtures/opa-rest/bundle", "b")
    .serve()
}

// === the recorded answers ===

#[test]
fn recorded_requests_are_answered_as_opa_answered_them() {
    let server = recorded_server();
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    assert_eq!(recorded.len(), 62);
    let mut wrong = Vec::new();
    for pair in &recorded {
        let text = |member: &str| pair[member].as_str().unwrap_or_default();
        let fields: Vec<(&str, &str)> =
            pair["req_headers"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let body = if text("req_body") == "<bytes>" { "these bytes are not gzip" } else { text("req_body") };
        let got = server.send(text("method"), text("path"), &fields, body);
        let id = pair["id"].as_u64().unwrap();
        let (want, body) = expected(id, pair);
        let got_body = comparable(&got, text("path"));
        if (got.status, headers(&got)) != want || body.as_ref().is_some_and(|body| *body != got_body) {
            wrong.push(format!(
                "{id}: {} {}\n  want {want:?} {body:?}\n  got  {} {:?} {got_body}",
                text("method"),
                text("path"),
                got.status,
                headers(&got)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Status and the headers that matter.
type Head = (u16, Vec<(String, String)>);

/// Head and body.
fn expected(id: u64, pair: &Value) -> (Head, Option<String>) {
    if let Some(different) = DIFFERENT.iter().find(|different| different.id == id) {
        let fields = different.fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        return ((different.status, fields.collect()), different.body.map(str::to_owned));
    }
    let fields = pair["headers"].as_object().unwrap().iter();
    let recorded = Answer {
        status: pair["status"].as_u64().unwrap().try_into().unwrap(),
        headers: fields.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned())).collect(),
        body: pair["body"].as_str().unwrap().as_bytes().to_vec(),
    };
    let body = comparable(&recorded, pair["path"].as_str().unwrap());
    ((recorded.status, headers(&recorded)), Some(body))
}

/// The headers that clients go by.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    const MATTER: [&str; 5] = ["content-type", "vary", "location", "x-content-type-options", "allow"];
    let mut kept: Vec<_> = answer.headers.iter().filter(|(name, _)| MATTER.contains(&name.as_str())).cloned().collect();
    kept.sort();
    kept
}

/// The body without what differs from run to run: ids, the program's version, where the bundle stands. Successful
/// answers keep their bytes, because their form is part of the interface; errors are compared as JSON.
fn comparable(answer: &Answer, path: &str) -> String {
    let text = masked(&answer.text());
    if path.starts_with("/v1/policies") {
        let mut modules: Value = serde_json::from_str(&text).unwrap();
        let result = modules["result"].as_array_mut().unwrap();
        for module in result.iter_mut() {
            // OPA's syntax tree is its own, and it repeats the directory in the id.
            module.as_object_mut().unwrap().remove("ast");
            module["id"] = module["id"].as_str().unwrap().replace("b/b/", "b/").into();
        }
        result.sort_by_key(|module| module["id"].to_string());
        return modules.to_string();
    }
    if answer.status >= 400 && answer.header("content-type") == Some("application/json") && !path.starts_with("/health")
    {
        assert!(text.ends_with("}\n") && text.starts_with("{\n  \""), "errors are indented: {text}");
        let mut error: Value = serde_json::from_str(&text).unwrap();
        if let Some(file) = error.pointer_mut("/errors/0/location/file") {
            *file = file.as_str().unwrap().rsplit('/').next().unwrap_or_default().into();
        }
        return error.to_string();
    }
    if answer.status == 200 && text.starts_with('{') && path.starts_with("/v1/") {
        // Both write their members in the same order, except where OPA's are a map.
        return if path.starts_with("/v1/config") || path.starts_with("/v1/batch") {
            serde_json::from_str::<Value>(&text).unwrap().to_string()
        } else {
            text
        };
    }
    text
}

/// `<id>` for every UUID and `<version>` for the server's.
fn masked(text: &str) -> String {
    let is_uuid = |candidate: &str| {
        let parts: Vec<&str> = candidate.split('-').collect();
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
            && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let pieces: Vec<&str> = text.split('"').map(|piece| if is_uuid(piece) { "<id>" } else { piece }).collect();
    let version = |v: &str| format!("\"version\":\"{v}\"");
    pieces
        .join("\"")
        .replace(&version("1.9.0"), &version("<version>"))
        .replace(&version(env!("CARGO_PKG_VERSION")), &version("<version>"))
}

// === what was not recorded ===

/// One request in passthrough mode: method, path, headers, body → status and masked body.
type Case<'a> = (&'a str, &'a str, Fields<'a>, &'a str, u16, &'a str);

#[test]
fn plain_requests_are_read_as_opa_reads_them() {
    const OK: &str = "{\"decision_id\":\"<id>\",\"result\":true}\n";
    const NO: &str = "{\"decision_id\":\"<id>\",\"result\":false}\n";
    const UNDEFINED: &str = "{\"decision_id\":\"<id>\"}\n";
    const ALICE: &str = r#"{"input":{"user":"alice"}}"#;
    let allow = "/v1/data/authz/allow";
    let cases: &[Case<'_>] = &[
        // Paths.
        ("GET", "/v1/data/list", &[], "", 200, "{\"decision_id\":\"<id>\",\"result\":[10,20]}\n"),
        ("GET", "/v1/data/list/1", &[], "", 200, "{\"decision_id\":\"<id>\",\"result\":20}\n"),
        ("GET", "/v1/data/list/2", &[], "", 200, UNDEFINED),
        ("GET", "/v1/data/list/x", &[], "", 200, UNDEFINED),
        ("GET", "/v1/data/users/alice/role", &[], "", 200, "{\"decision_id\":\"<id>\",\"result\":\"admin\"}\n"),
        ("GET", "/v1/data/users%2Falice", &[], "", 200, UNDEFINED),
        ("GET", "/v1/data/nothing/at/all", &[], "", 200, UNDEFINED),
        ("GET", "/v1/data/system/main", &[], "", 200, UNDEFINED),
        ("GET", "/v1/data/system/health/live", &[], "", 200, OK),
        // Bodies.
        ("POST", allow, &[("content-type", "application/json; charset=utf-8")], ALICE, 200, OK),
        ("POST", allow, &[], "{\"input\":{\"user\":\"alice\"}} trailing", 200, OK),
        ("POST", allow, &[], " \n {\"input\" : {\"user\":\"bob\"}} ", 200, NO),
        ("POST", allow, &[("content-type", "text/yaml")], "input: {user: alice}", 200, OK),
        // Flags.
        (
            "POST",
            "/v1/data/authz/allow?pretty=true",
            &[],
            ALICE,
            200,
            "{\n  \"decision_id\": \"<id>\",\n  \"result\": true\n}\n",
        ),
        ("POST", "/v1/data/authz/allow?pretty=false", &[], ALICE, 200, OK),
        ("POST", "/v1/data/authz/allow?unknown=1", &[], ALICE, 200, OK),
        ("POST", "/v1/data/authz/quot?strict-builtin-errors=false", &[], r#"{"input":{"d":0}}"#, 200, UNDEFINED),
        // v0 and the default decision.
        ("POST", "/v0/data/authz/allow", &[], "", 200, "false\n"),
        ("POST", "/v0/data/authz/s", &[], "{}", 200, "[\"a\",\"b\"]\n"),
        ("POST", "/v0/data/users/alice?pretty", &[], "{}", 200, "{\n  \"role\": \"admin\"\n}\n"),
        ("POST", "/?pretty", &[], "[1]", 200, "{\n  \"echo\": [\n    1\n  ],\n  \"m\": \"default\"\n}\n"),
        // Where nothing is.
        ("GET", "/v2/data", &[], "", 404, "404 page not found\n"),
        ("GET", "/v1/data2", &[], "", 404, "404 page not found\n"),
        ("DELETE", "/v1/query", &[], "", 405, ""),
        ("PUT", "/health", &[], "", 405, ""),
    ];
    let server = recorded_server();
    let mut client = server.client();
    for (method, path, fields, body, status, want) in cases {
        let got = client.send(method, path, fields, body.as_bytes());
        assert_eq!((got.status, masked(&got.text()).as_str()), (*status, *want), "{method} {path} {body}");
    }
}

#[test]
fn errors_have_opas_form() {
    let server = recorded_server();
    let check = |method: &str, path: &str, body: &str, status: u16, code: &str, message: &str| {
        let got = server.send(method, path, &[], body);
        assert_eq!(got.status, status, "{method} {path}: {got:?}");
        assert_eq!(got.header("content-type"), Some("application/json"));
        let error = got.json();
        assert_eq!((&error["code"], &error["message"]), (&json!(code), &json!(message)), "{method} {path} {body}");
    };
    let bad = "body contains malformed input document:";
    check("POST", "/v1/data/x", "{", 400, "invalid_parameter", &format!("{bad} unexpected EOF"));
    check(
        "POST",
        "/v0/data/authz/undefined",
        "{}",
        404,
        "undefined_document",
        "document missing: data.authz.undefined",
    );
    check("POST", "/v0/data/authz/quot", "{\"d\":0}", 404, "undefined_document", "document undefined: data.authz.quot");
    check("PATCH", "/v1/data/a", "[]", 400, "invalid_parameter", "all paths owned by bundle \"b\"");
    check("DELETE", "/v1/data/a", "", 400, "invalid_parameter", "all paths owned by bundle \"b\"");
    check("PUT", "/v1/policies/x", "package x", 400, "invalid_parameter", "all paths owned by bundle \"b\"");
    check("GET", "/v1/policies/zz", "", 404, "resource_not_found", "storage_not_found_error: policy id \"zz\"");
    check("DELETE", "/v1/policies/zz", "", 404, "resource_not_found", "storage_not_found_error: policy id \"zz\"");
}

#[test]
fn a_large_answer_is_compressed_for_those_who_take_gzip() {
    let list: Vec<u32> = (0..2000).collect();
    let server =
        Setup::passthrough().file("bundle/data.json", &json!({ "list": list, "small": 1 }).to_string()).serve();
    let check = |path: &str, accept: &str, compressed: bool| {
        let got = server.send("GET", path, &[("accept-encoding", accept)], "");
        assert_eq!(got.header("vary"), Some("Accept-Encoding"));
        assert_eq!(got.header("content-encoding"), compressed.then_some("gzip"), "{path} {accept}");
        let body = if compressed { unpacked(&got.body) } else { got.text() };
        assert!(body.contains("\"result\":"), "{body}");
    };
    check("/v1/data/list", "gzip", true);
    check("/v1/data/list", "br, gzip;q=0.8", true);
    check("/v1/data/list", "identity", false);
    check("/v1/data/small", "gzip", false);
}

#[test]
fn a_compressed_request_is_unpacked() {
    let server = recorded_server();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(br#"{"input":{"user":"alice"}}"#).unwrap();
    let packed = packed.finish().unwrap();
    let gzip: Fields<'_> = &[("content-encoding", "gzip"), ("content-type", "application/json")];
    let got = server.client().send("POST", "/v1/data/authz/allow", gzip, &packed);
    assert_eq!(got.result(), json!(true));
    // Cut off inside the stream: its last four bytes are no size, or the stream has no end.
    let got = server.client().send("POST", "/v1/data/authz/allow", gzip, &packed[..packed.len() - 5]);
    assert_eq!(got.status, 400, "{got:?}");
    assert_eq!(server.get("/v1/data/list/0").result(), json!(10));
}

#[test]
fn metrics_provenance_and_explanations_come_when_asked() {
    let server = recorded_server();
    let ask = |flags: &str| server.post(&format!("/v1/data/authz/allow?{flags}"), &[], r#"{"input":{}}"#).json();
    for flag in ["metrics", "metrics=true", "instrument"] {
        let metrics = ask(flag)["metrics"].take();
        for key in ["timer_rego_query_eval_ns", "timer_rego_input_parse_ns", "timer_server_handler_ns"] {
            assert!(metrics[key].as_u64().is_some_and(|time| time > 0), "{flag}: {metrics}");
        }
    }
    assert_eq!(ask("metrics=no")["metrics"], Value::Null);
    assert_eq!(ask("provenance")["provenance"]["bundles"], json!({"b": {"revision": "r1"}}));
    for mode in ["notes", "fails", "full", "debug"] {
        assert_eq!(ask(&format!("explain={mode}"))["explanation"], json!([]), "{mode}");
    }
    let all = server.post("/v1/data/authz/allow?metrics&provenance&explain=full", &[], "").text();
    let places: Vec<_> = ["decision_id", "provenance", "explanation", "metrics", "result", "warning"]
        .iter()
        .map(|member| all.find(&format!("\"{member}\":")).unwrap_or_else(|| panic!("no {member} in {all}")))
        .collect();
    assert!(places.is_sorted(), "members stand in OPA's order: {all}");
}

#[test]
fn a_batch_has_the_shape_of_the_sdks() {
    let server = recorded_server();
    let ask = |path: &str, body: &str| {
        let got = server.post(path, &[], body);
        let text = masked(&got.text());
        (got.status, serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
    };
    let (status, body) = ask("/v1/batch/data/authz/allow", r#"{"inputs":{"a":{"user":"alice"},"b":{"user":"bob"}}}"#);
    assert_eq!(status, 200);
    let item = |result: bool| json!({"decision_id": "<id>", "result": result});
    assert_eq!(body, json!({"batch_decision_id": "<id>", "responses": {"a": item(true), "b": item(false)}}));

    let (_, body) =
        ask("/v1/batch/data/system/main", r#"{"common_input":{"x":1,"y":{"a":1}},"inputs":{"a":{"y":{"b":2}}}}"#);
    assert_eq!(body["responses"]["a"]["result"]["echo"], json!({"x": 1, "y": {"a": 1, "b": 2}}));

    let (status, body) = ask("/v1/batch/data/authz/conflict", r#"{"inputs":{"bad":{"c":1},"good":{}}}"#);
    assert_eq!(status, 207);
    assert_eq!(body["responses"]["bad"]["http_status_code"], "500");
    assert_eq!(body["responses"]["bad"]["code"], "internal_error");
    assert_eq!(body["responses"]["good"]["http_status_code"], "200");

    let (status, body) = ask("/v1/batch/data/authz/conflict", r#"{"inputs":{"bad":{"c":1}}}"#);
    assert_eq!(status, 500);
    assert_eq!(body["responses"]["bad"]["errors"][0]["code"], "eval_conflict_error");

    assert_eq!(ask("/v1/batch/data/authz/allow", "{}").1["warning"]["code"], "api_usage_warning");
    assert_eq!(ask("/v1/batch/data/authz/allow", "[").0, 400);
}

fn unpacked(body: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}
