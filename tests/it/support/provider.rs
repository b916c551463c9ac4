//! A real OpenID Connect provider under Node.js, `tests/node/provider.mjs`, and the tokens that a client gets from it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    http::{Answer, Fields, once},
    tools::{Running, find, missing},
};

/// Access tokens for it are JWTs.
pub(crate) const JWT_RESOURCE: &str = "https://api.example/jwt";
/// Access tokens for it are opaque.
pub(crate) const OPAQUE_RESOURCE: &str = "https://api.example/opaque";
/// `app:app-secret`, who gets tokens.
const APP: &str = "Basic YXBwOmFwcC1zZWNyZXQ=";

/// A running provider; ends with the test.
pub(crate) struct Provider {
    _running: Running,
    /// Its `iss`, which is where it is.
    pub(crate) issuer: String,
    address: String,
}

impl Provider {
    /// `None` where Node.js or its packages are missing and may be.
    pub(crate) fn start() -> Option<Self> {
        let node = find("node", "NODE")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages = root.join("target/node");
        if !packages.join("node_modules/oidc-provider").is_dir() {
            missing("the packages of tests/node are not in target/node (`.ci/run` puts them there)");
            return None;
        }
        let script = std::fs::read_to_string(root.join("tests/node/provider.mjs")).unwrap();
        // Where a module is looked for depends on the working directory when the script is an argument.
        let mut command = Command::new(node);
        command.current_dir(packages).args(["--input-type=module", "--eval", &script]).stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let issuer = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let address = issuer.strip_prefix("http://").unwrap().to_owned();
        Some(Self { _running: running, issuer, address })
    }

    /// An access token for one of the resources.
    pub(crate) fn token(&self, resource: &str) -> String {
        self.token_with(resource, &[])
    }

    /// One that is bound to the provider's test key: only good with a [`Self::proof`].
    pub(crate) fn bound_token(&self, resource: &str) -> String {
        let proof = self.proof(&json!({"htm": "POST", "htu": format!("{}/token", self.issuer)}));
        self.token_with(resource, &[("dpop", &proof)])
    }

    /// The client takes a token back (RFC 7009).
    pub(crate) fn revoke(&self, token: &str) {
        let fields = [
            ("host", self.address.as_str()),
            ("authorization", APP),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer = once(&self.address, "POST", "/token/revocation", &fields, format!("token={token}").as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn token_with(&self, resource: &str, more: Fields<'_>) -> String {
        let form = format!("grant_type=client_credentials&scope=read&resource={resource}");
        let mut fields = vec![
            ("host", self.address.as_str()),
            ("authorization", APP),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        fields.extend(more);
        let answer = once(&self.address, "POST", "/token", &fields, form.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A DPoP proof with these claims besides `jti` and `iat`, which they may override; `token` makes the `ath`.
    pub(crate) fn proof(&self, claims: &Value) -> String {
        self.control("proof", &claims.to_string()).json()["proof"].as_str().unwrap().to_owned()
    }

    /// Signs with a new key from now on; without `keep`, the ones before it are gone.
    pub(crate) fn rotate(&self, kid: &str, keep: bool) {
        self.control(&format!("rotate?kid={kid}{}", if keep { "&keep" } else { "" }), "");
    }

    /// Answers nobody any more, or everybody again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.control(if is_down { "down" } else { "up" }, "");
    }

    /// How often a path was asked.
    pub(crate) fn count(&self, path: &str) -> u64 {
        self.control("counts", "").json()[path].as_u64().unwrap_or(0)
    }

    fn control(&self, what: &str, body: &str) -> Answer {
        let answer = once(&self.address, "POST", &format!("/_control/{what}"), &[], body.as_bytes());
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer
    }
}
