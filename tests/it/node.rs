//! Applications in another language, with a real Node.js: the example application, and the SDK that users of OPA have.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::support::{
    http::{Answer, once},
    setup::{Server, Setup},
    tokens::{Issuer, forged, now},
    tools::{Running, find, missing},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The shipped policies and data with an issuer of the test.
fn shipped(issuer: &Issuer) -> Server {
    Setup::new(&format!(
        "{}policy: {{bundles: [{{name: folders, path: rego}}], data: [data], entrypoint: authz/decision}}\n\
         subject: {{from: data.users, key: sub}}\n",
        issuer.section()
    ))
    .copy("rego", "rego")
    .copy("data", "data")
    .serve()
}

/// The example application, asking `claimgate`; its address.
fn application(node: &Path, claimgate: &str) -> (Running, String) {
    let mut command = Command::new(node);
    command.arg(Path::new(ROOT).join("examples/app/server.mjs")).stdout(Stdio::piped());
    command.env("PORT", "0").env("CLAIMGATE_URL", format!("http://{claimgate}"));
    let mut running = Running::start(&mut command);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
    (running, address)
}

#[test]
fn the_example_application_asks_before_it_answers() {
    let Some(node) = find("node", "NODE") else { return };
    let issuer = Issuer::new();
    let server = shipped(&issuer);
    let (_running, address) = application(&node, &server.address);
    let vp = json!({"sub": "maria", "org_id": "acme", "role": "marketing_vp"});
    let bearer = |claims| format!("Bearer {}", issuer.token_with(claims));
    let ask = |method: &str, path: &str, authorization: &str| -> Answer {
        let fields = [("authorization", authorization)];
        once(&address, method, path, if authorization.is_empty() { &[] } else { &fields }, b"")
    };

    let edit = ask("PUT", "/folders/campaign-2026", &bearer(vp.clone()));
    assert_eq!((edit.status, edit.text().as_str()), (200, "edit campaign-2026: done\n"));
    let viewer = bearer(json!({"sub": "victor", "org_id": "acme", "role": "employee"}));
    assert_eq!(ask("GET", "/folders/campaign-2026", &viewer).status, 200);
    let denied = ask("PUT", "/folders/campaign-2026", &viewer);
    assert_eq!(denied.status, 403);
    assert!(denied.text().contains("campaign-2026"), "the reason is told: {denied:?}");
    let suspended =
        ask("GET", "/folders/campaign-2026", &bearer(json!({"sub": "sam", "org_id": "acme", "role": "marketing_vp"})));
    assert_eq!((suspended.status, suspended.text().contains("suspended")), (403, true), "{suspended:?}");

    let good = issuer.token_with(vp.clone());
    let expired = issuer.token_with(json!({"sub": "maria", "iat": now() - 900, "exp": now() - 600}));
    for authorization in
        ["".to_owned(), format!("Bearer {}", forged(&good)), format!("Bearer {expired}"), "Bearer x".to_owned()]
    {
        let refused = ask("GET", "/folders/campaign-2026", &authorization);
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer ")));
    }

    // Without claimgate nobody gets anything.
    assert!(server.end());
    assert_eq!(ask("PUT", "/folders/campaign-2026", &bearer(vp)).status, 503);
}

#[test]
fn the_sdk_of_opa_works_unchanged() {
    let Some(node) = find("node", "NODE") else { return };
    let packages = Path::new(ROOT).join("target/node");
    if !packages.join("node_modules/@open-policy-agent/opa").is_dir() {
        missing("the packages of tests/node are not in target/node (`.ci/run` puts them there)");
        return;
    }
    let server = Setup::passthrough().copy("tests/fixtures/opa-rest/bundle", "bundle").serve();
    let script = std::fs::read_to_string(Path::new(ROOT).join("tests/node/sdk.mjs")).unwrap();
    // Where a module is looked for depends on the working directory when the script is an argument.
    let mut command = Command::new(&node);
    command.current_dir(&packages).args(["--input-type=module", "--eval", &script]);
    let output = command.env("CLAIMGATE_URL", format!("http://{}", server.address)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("ok\n"), "the script ran to its end");

    // The same client in front of a server that wants to know who asks.
    let issuer = Issuer::new();
    let server = shipped(&issuer);
    let script = "import { OPAClient } from '@open-policy-agent/opa';\n\
                  const opa = new OPAClient(process.env.CLAIMGATE_URL, { headers: { authorization: process.env.AUTHORIZATION } });\n\
                  const input = { action: 'edit', resource: { type: 'folder', id: 'campaign-2026' } };\n\
                  console.log(JSON.stringify(await opa.evaluate('authz/decision', input)));";
    let mut command = Command::new(&node);
    command.current_dir(&packages).args(["--input-type=module", "--eval", script]);
    let claims = json!({"sub": "maria", "org_id": "acme", "role": "marketing_vp"});
    command.env("CLAIMGATE_URL", format!("http://{}", server.address));
    command.env("AUTHORIZATION", format!("Bearer {}", issuer.token_with(claims)));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("{\"allow\":true"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
