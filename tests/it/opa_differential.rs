//! claimgate beside a real `opa`, on the shipped policies and on the fixture bundle: the same questions get the same
//! answers, byte for byte but for ids. `OPA` says where the program is; `.ci/run` installs it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Answer, once},
    setup::{Server, Setup},
    tools::{Running, find},
};

/// Both servers on the same files.
struct Pair {
    ours: Server,
    theirs: String,
    _opa: Running,
}

impl Pair {
    /// `None` where `opa` is not installed. `copies` are directories of the repository and where they go; `bundles` and
    /// `data` are those places.
    fn start(copies: &[(&str, &str)], bundles: &[&str], data: &[&str]) -> Option<Self> {
        let opa = find("opa", "OPA")?;
        let named: Vec<String> = bundles.iter().map(|path| format!("{{name: {path}, path: {path}}}")).collect();
        let mut setup = Setup::new(&format!(
            "opa: {{identity: passthrough}}\npolicy: {{bundles: [{}], data: [{}], limits: {{deadline: 10s}}}}\n",
            named.join(", "),
            data.join(", ")
        ));
        for (from, to) in copies {
            setup = setup.copy(from, to);
        }
        let ours = setup.serve();
        let (running, theirs) = start_opa(&opa, ours.directory.path(), bundles, data);
        Some(Self { ours, theirs, _opa: running })
    }

    /// Asks both, and compares status, content type and body.
    fn check(&self, method: &str, target: &str, body: &str) {
        let fields = [("content-type", "application/json")];
        let ask = |address: &str| once(address, method, target, &fields, body.as_bytes());
        let (ours, theirs) = (ask(&self.ours.address), ask(&self.theirs));
        let said = |answer: &Answer| {
            let kind = answer.header("content-type").map(str::to_owned);
            (answer.status, kind, answer.header("location").map(str::to_owned), without_ids(answer))
        };
        assert_eq!(said(&ours), said(&theirs), "{method} {target} {body}: claimgate left, OPA right");
    }
}

/// `opa` cannot be asked for a port of its choice, so it gets one that was free a moment ago, and another one when
/// somebody was faster.
pub(crate) fn start_opa(opa: &Path, directory: &Path, bundles: &[&str], data: &[&str]) -> (Running, String) {
    eventually("opa serves", || {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new(opa);
        command.current_dir(directory).args(["run", "--server", "--log-level", "error", "--addr", &address]);
        command.args(["--disable-telemetry", "--set", "decision_logs.console=true"]);
        command.args(bundles.iter().flat_map(|bundle| ["--bundle", bundle]));
        let mut running = Running::start(command.args(data).stdout(Stdio::null()).stderr(Stdio::null()));
        let listens = eventually("opa listens or ends", || {
            if running.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            std::net::TcpStream::connect(&address).is_ok().then_some(true)
        });
        listens.then_some((running, address))
    })
}

/// The body as JSON without `decision_id`, or as text.
fn without_ids(answer: &Answer) -> Value {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| answer.text().into());
    if let Some(members) = body.as_object_mut() {
        members.remove("decision_id");
    }
    body
}

#[test]
fn the_shipped_policies_decide_as_in_opa() {
    let Some(pair) = Pair::start(&[("rego", "rego"), ("data", "data")], &[], &["rego", "data"]) else { return };
    let data = |name: &str| -> Value {
        let text = std::fs::read_to_string(pair.ours.directory.path().join("data").join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let users = data("users.json")["users"].take();
    let folders = data("folders.json")["folders"].take();
    let mut asked = 0;
    for (subject, live) in users.as_object().unwrap().iter().chain([(&"nobody".to_owned(), &Value::Null)]) {
        for role in ["marketing_vp", "auditor", "employee"] {
            for folder in folders.as_object().unwrap().keys().map(String::as_str).chain(["none"]) {
                for action in ["view", "edit", "delete", "share"] {
                    let mut input = json!({
                        "token": {"subject": subject, "claims": {"org_id": "acme", "role": role}},
                        "action": action,
                        "resource": {"type": "folder", "id": folder},
                        "meta": {"time_ns": 1_772_449_200_000_000_000_u64},
                    });
                    if !live.is_null() {
                        input["live"] = live.clone();
                    }
                    pair.check("POST", "/v1/data/authz/decision", &json!({ "input": input }).to_string());
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 200, "only {asked}");
    // Around the clock and the week, for the rule about working hours.
    for hour in 0..(7 * 24) {
        let time = 1_772_409_600_000_000_000_u64 + hour * 3_600_000_000_000;
        let input = json!({
            "token": {"subject": "carl", "claims": {"org_id": "acme", "role": "employee"}},
            "live": users["carl"],
            "request": {"method": "PUT", "segments": ["folders", "campaign-2026"]},
            "meta": {"time_ns": time},
        });
        pair.check("POST", "/v1/data/authz", &json!({ "input": input }).to_string());
    }
    for odd in ["{}", r#"{"input":{}}"#, r#"{"input":{"token":1}}"#, r#"{"input":[]}"#, r#"{"input":{"action":{}}}"#] {
        pair.check("POST", "/v1/data/authz/decision", odd);
        pair.check("POST", "/v1/data/authz/allow", odd);
    }
    pair.check("GET", "/v1/data/users", "");
    pair.check("GET", "/v1/data/folders/campaign-2026/editors/0", "");
}

#[test]
fn the_rest_api_answers_as_opas() {
    let Some(pair) = Pair::start(&[("tests/fixtures/opa-rest/bundle", "b")], &["b"], &[]) else { return };
    for target in [
        "/v1/data/users",
        "/v1/data/list/1",
        "/v1/data/list/2",
        "/v1/data/list/00",
        "/v1/data/list/+1",
        "/v1/data/authz/s/a",
        "/v1/data/authz/s/zz",
        "/v1/data/authz/reason",
        "/v1/data/authz/allow?input=null",
        "/v1/data/authz/allow?input=",
        "/v1/data/authz/allow?input=%7B",
        "/v1/data/authz/allow?input=%7B%7D&input=%7B%22user%22%3A%22alice%22%7D",
        "/v1/data/a%22b",
        "/v1/data/a%5Bb",
        "/v1/data/%20",
        "/v1/data/",
        "/v1/data//users",
        "/v1/data/x/../users",
        "/v1/data/system/main",
        "/v1/data/system/health",
        "/v0/data",
        "/v1",
        "/v1/policies/zz",
        "/v1/policies/",
        "/v1/query",
        "/v1/query?q=x%3D1",
        "/v1/query?q=true",
        "/v1/query?q=false",
        "/v1/query?q=x%3Ddata.list%5Bi%5D",
        "/health",
        "/health/",
        "/health/live",
        "/health/zz",
        "/health?bundle",
        "/health?plugins&exclude-plugin=x",
        "/favicon.ico",
    ] {
        pair.check("GET", target, "");
    }
    for (target, body) in [
        ("/v1/data/authz/allow", r#"{"input":{"user":"alice"}}"#),
        ("/v1/data/authz/allow", r#"{"input":{"user":"alice","user":"bob"}}"#),
        ("/v1/data/authz/allow", r#"{"Input":{"user":"alice"}}"#),
        ("/v1/data/authz/allow", r#"{"input":{"user":"alice"}}garbage"#),
        ("/v1/data/authz/allow", r#"{"input":{"user":"alice"},}"#),
        ("/v1/data/authz/allow", "{}"),
        ("/v1/data/authz/allow", "null"),
        ("/v1/data/authz/allow", "   "),
        ("/v1/data/authz/allow", "{input:1}"),
        ("/v1/data/authz/allow", "{'input':1}"),
        ("/v1/data/authz/allow", r#"{"input":"\q"}"#),
        ("/v1/data/authz/allow", r#"{"input" 1}"#),
        ("/v1/data/authz/allow", r#"{"input":[1,2}"#),
        ("/v1/data/authz/allow/", "{}"),
        ("/v1/data/authz/quot", r#"{"input":{"d":2}}"#),
        ("/v1/data/authz/quot", r#"{"input":{"d":0}}"#),
        ("/v0/data/authz/allow", r#"{"user":"alice"}"#),
        ("/v0/data/authz/allow", ""),
        ("/v0/data/authz/allow", "null"),
        ("/v0/data/authz/allow", "[1]"),
        ("/v0/data/authz/quot", r#"{"d":0}"#),
        ("/v0/data/authz/zz", "{}"),
        ("/v0/data/zz/zz", "{}"),
        ("/v0/data/a%22b", "{}"),
        ("/", "{"),
        ("/", "[1]"),
        ("/", "null"),
        ("/", "1 2"),
        ("/v1/query", r#"{"query":"input.a=x","input":{"a":2}}"#),
        ("/v1/compile", "{"),
    ] {
        pair.check("POST", target, body);
    }
    for (method, target) in [
        ("OPTIONS", "/v1/data/users"),
        ("DELETE", "/v1/policies/zz"),
        ("DELETE", "/v1/data/a/b"),
        ("PUT", "/v1/query"),
        ("PUT", "/nope"),
        ("TRACE", "/v1/data"),
    ] {
        pair.check(method, target, "");
    }
    pair.check("PUT", "/v1/data/a/b", "{}");
}
