//! What the demo tells: one request after the other, each as a line of shell that can be pasted, with a token made for
//! it. Text only; nothing here asks or decides.

use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::{demo::Stage, run::Ready};
use crate::token::{KeySetError, SigningKey};

/// `iss` of the demo's tokens.
pub(super) const ISSUER: &str = "https://idp.demo.example";
/// `aud` of the demo's tokens.
pub(super) const AUDIENCE: &str = "folders";
/// Long enough to read on after lunch.
const LIFETIME: i64 = 8 * 60 * 60;

/// One request.
struct Scene<'a> {
    title: &'a str,
    /// What comes back.
    ending: &'a str,
    token: Option<&'a str>,
    action: &'a str,
}

/// The whole text.
pub(super) fn tell(stage: &Stage, key: &SigningKey, ready: &Ready) -> Result<String, KeySetError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX - LIFETIME);
    let token = |key: &SigningKey, subject, role, expires| key.sign("at+jwt", &claims(subject, role, expires));
    // The same name as the real key, so that only the signature tells them apart.
    let stranger = SigningKey::generate_es256(key.key_id().unwrap_or_default())?;
    let maria = token(key, "maria", "marketing_vp", now + LIFETIME)?;
    let victor = token(key, "victor", "employee", now + LIFETIME)?;
    let sam = token(key, "sam", "marketing_vp", now + LIFETIME)?;
    let olivia = token(key, "olivia", "marketing_vp", now + LIFETIME)?;
    let expired = token(key, "maria", "marketing_vp", now - 60 * 60)?;
    let forged = token(&stranger, "maria", "marketing_vp", now + LIFETIME)?;
    let scenes = [
        scene("maria, VP of Marketing, edits a folder of marketing", "200, allowed", Some(&maria), "edit"),
        scene("victor, a viewer of that folder, reads it", "200, allowed", Some(&victor), "view"),
        scene("victor edits it", "200, denied: nobody granted that", Some(&victor), "edit"),
        scene(
            "sam is a VP too, and suspended since this token was issued",
            "200, denied: suspended",
            Some(&sam),
            "edit",
        ),
        scene("olivia is a VP over her quota", "200, denied: quota", Some(&olivia), "edit"),
        scene("maria's token of yesterday, expired", "401", Some(&expired), "edit"),
        scene("a token with maria's claims, signed by somebody else", "401", Some(&forged), "edit"),
        scene("no token", "401", None, "edit"),
    ];

    let base = ready.listen.first().map(|address| Base::of(address)).unwrap_or_default();
    let mut text = introduction(stage, ready, &base);
    for (number, scene) in (1..).zip(&scenes) {
        let _ = write!(text, "\n# {number}. {} -> {}\n{}\n", scene.title, scene.ending, scene.line(&base));
    }
    let users = quoted(&stage.data.join("users.json"));
    let _ = write!(
        text,
        "\n# 9. suspend maria; then paste 1 again: the same token -> 200, denied: suspended\n\
         sed -i.bak '/\"maria\"/s/\"active\"/\"suspended\"/' {users}\n\
         \n# 10. and back\n\
         mv {backup} {users}\n\
         \nThe three 401 look alike to a client; the log in this terminal tells them apart. Ctrl-C ends the demo.\n\n",
        backup = quoted(&stage.data.join("users.json.bak")),
    );
    Ok(text)
}

fn introduction(stage: &Stage, ready: &Ready, base: &Base) -> String {
    let mut text = format!("\nclaimgate serves decisions on {}", base.url);
    let mut row = |name: &str, value: &str| {
        let _ = write!(text, "\n  {name:<10} {value}");
    };
    row("policy", &stage.rego.display().to_string());
    row("data", &stage.data.display().to_string());
    row("config", &stage.config().display().to_string());
    row("decisions", &stage.directory.join("decisions.log").display().to_string());
    if let Some(admin) = &ready.admin {
        let admin = Base::of(admin).url;
        row("admin", &format!("{admin}/metrics, {admin}/v1/status"));
        row("keys", &format!("{admin}/.well-known/jwks.json"));
    }
    text.push_str("\n\nEdit policy and data; the next request sees it. Paste these lines into a second terminal:\n");
    text
}

fn scene<'a>(title: &'a str, ending: &'a str, token: Option<&'a String>, action: &'a str) -> Scene<'a> {
    Scene { title, ending, token: token.map(String::as_str), action }
}

fn claims(subject: &str, role: &str, expires: i64) -> Map<String, Value> {
    let claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "org_id": "acme",
        "role": role,
        "iat": expires - LIFETIME,
        "exp": expires,
        "jti": uuid::Uuid::new_v4().to_string(),
    });
    match claims {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

impl Scene<'_> {
    fn line(&self, base: &Base) -> String {
        let authorization = self.token.map(|token| format!(" -H 'Authorization: Bearer {token}'")).unwrap_or_default();
        let question = json!({"input": {"action": self.action, "resource": {"type": "folder", "id": "campaign-2026"}}});
        format!(
            "curl -sS -w '%{{http_code}}\\n'{} {}/v1/data/authz/decision{authorization} -d '{question}'",
            base.option, base.url
        )
    }
}

/// How curl reaches a listener.
#[derive(Debug, Default)]
struct Base {
    /// Before the URL, with a space in front; mostly nothing.
    option: String,
    url: String,
}

impl Base {
    fn of(address: &str) -> Self {
        if let Some(socket) = address.strip_prefix("unix://") {
            return Self {
                option: format!(" --unix-socket {}", quoted(Path::new(socket))),
                url: "http://localhost".to_owned(),
            };
        }
        // A listener on all addresses is reached on this machine's own.
        let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        Self { option: String::new(), url: format!("http://{address}") }
    }
}

/// As one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_reached_as_curl_reaches_them() {
        for (address, option, url) in [
            ("127.0.0.1:8181", "", "http://127.0.0.1:8181"),
            ("0.0.0.0:8181", "", "http://127.0.0.1:8181"),
            ("[::]:8181", "", "http://[::1]:8181"),
            ("unix:///tmp/it's.sock", r" --unix-socket '/tmp/it'\''s.sock'", "http://localhost"),
        ] {
            let base = Base::of(address);
            assert_eq!((base.option.as_str(), base.url.as_str()), (option, url), "{address}");
        }
    }
}
