//! What a value looks like: an id, a URL, an address, a secret, a role on a resource. Guesses for advice, never for a
//! decision; they see only the shape, and nothing here keeps a value.

use serde_json::Value;

/// Words for what somebody may do with something.
const ROLE_WORDS: [&str; 22] = [
    "owner",
    "editor",
    "viewer",
    "reader",
    "writer",
    "admin",
    "administrator",
    "member",
    "guest",
    "manager",
    "read",
    "write",
    "edit",
    "view",
    "delete",
    "create",
    "update",
    "manage",
    "execute",
    "share",
    "approve",
    "list",
];

/// Members of an object that says what somebody may do with something.
const GRANT_MEMBERS: [&str; 10] =
    ["role", "roles", "action", "actions", "permission", "permissions", "access", "rights", "scopes", "level"];

pub(super) fn is_url(text: &str) -> bool {
    let is_path = text.len() > 1 && text.starts_with('/') && !text.contains(' ');
    is_path || text.contains("://") || text.starts_with("urn:") || text.starts_with("arn:")
}

/// Something that numbers or names one thing: a UUID, a number, `f-12`, `doc_7`, 24 hexadecimal digits.
pub(super) fn is_id(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => is_id_text(text),
        _ => false,
    }
}

pub(super) fn is_id_text(text: &str) -> bool {
    let body = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'/' | b'.');
    (1..=64).contains(&body.len()) && body.bytes().all(of_an_id) && body.bytes().any(|byte| byte.is_ascii_digit())
}

pub(super) fn is_address(text: &str) -> bool {
    let Some((user, host)) = text.split_once('@') else { return false };
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "/:@".contains(c));
    text.len() <= 254 && plain(user) && plain(host) && host.trim_matches('.').contains('.')
}

/// Another token or a private key.
pub(super) fn is_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            (text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() >= 2)
                || (text.contains("-----BEGIN") && text.contains("PRIVATE KEY"))
        }
        Value::Object(members) => {
            members.contains_key("kty") && ["d", "k", "p"].iter().any(|member| members.contains_key(*member))
        }
        _ => false,
    }
}

/// `folder:12:editor`, `f-12/viewer`, `write@doc-7`: a role word, and an id beside it.
pub(super) fn is_role_on_resource(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '/', '#', '@', '|', ' ']).filter(|part| !part.is_empty()).collect();
    let role = parts.iter().position(|part| is_role_word(part));
    let others = parts.iter().enumerate().filter(|(index, _)| Some(*index) != role);
    role.is_some() && others.map(|(_, part)| *part).any(is_id_text)
}

/// An object that says for each of several things what may be done with it.
pub(super) fn is_roles_by_resource(value: &Value) -> bool {
    let grants = |value: &Value| match value {
        Value::String(text) => is_role_word(text),
        Value::Array(items) => !items.is_empty() && items.iter().all(|item| item.as_str().is_some_and(is_role_word)),
        Value::Object(members) => members.keys().any(|name| is_grant_member(name)),
        _ => false,
    };
    match value {
        // `{"roles": […]}` is about nothing in particular.
        Value::Object(members) => members.values().all(grants) && !members.keys().all(|name| is_grant_member(name)),
        Value::Array(items) => {
            let is_grant = |item: &Value| match item {
                Value::Object(members) => members.len() > 1 && members.keys().any(|name| is_grant_member(name)),
                Value::String(text) => is_role_on_resource(text),
                _ => false,
            };
            !items.is_empty() && items.iter().all(is_grant)
        }
        _ => false,
    }
}

fn is_role_word(text: &str) -> bool {
    let text = text.trim_start_matches("can_").trim_end_matches('s');
    ROLE_WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn is_grant_member(name: &str) -> bool {
    GRANT_MEMBERS.iter().any(|member| member.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{is_address, is_id, is_role_on_resource, is_roles_by_resource, is_secret, is_url};

    fn check(what: fn(&Value) -> bool, yes: &Value, no: &Value) {
        for value in yes.as_array().unwrap() {
            assert!(what(value), "{value}");
        }
        for value in no.as_array().unwrap() {
            assert!(!what(value), "{value}");
        }
    }

    #[test]
    fn shapes_are_told_apart() {
        check(
            |v| v.as_str().is_some_and(is_url),
            &json!(["https://a/b", "/folders/1", "urn:a:b", "arn:aws:s3:::b"]),
            &json!(["/", "a/b", "", "editor"]),
        );
        check(
            is_id,
            &json!([
                7,
                "123",
                "f-12",
                "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                "{3f2504e0-4f89-11d3-9a0c-0305e82c3301}"
            ]),
            &json!(["editor", "", "a b 1", null, [1], true]),
        );
        check(
            |v| v.as_str().is_some_and(is_address),
            &json!(["a@b.c", "a.b+c@d.example"]),
            &json!(["@b.c", "a@b", "a b@c.d", "https://a@b.c", "a@b@c.d", "a@..", ""]),
        );
        check(
            is_secret,
            &json!(["eyJhbGciOiJub25lIn0.e30.", "-----BEGIN PRIVATE KEY-----", {"kty": "EC", "d": "x"}, {"kty": "oct", "k": "x"}]),
            &json!(["eyJ", "a.b.c", "-----BEGIN PUBLIC KEY-----", {"kty": "EC", "x": "x"}, 7]),
        );
        check(
            |v| v.as_str().is_some_and(is_role_on_resource),
            &json!(["folder:12:editor", "f-12/viewer", "write@doc-7", "can_edit:f-1"]),
            &json!(["editor", "folder:editor", "editor:marketing", "12:34", "folders.read", ""]),
        );
        check(
            is_roles_by_resource,
            &json!([{"f-1": "editor", "f-2": ["viewer", "owner"]}, {"account": {"roles": ["x"]}}, [{"id": 1, "role": "x"}], ["f-1:editor"]]),
            &json!([{}, [], {"city": "Rome"}, {"roles": ["editor"]}, ["editor"], [{"role": "x"}], "editor", null]),
        );
    }
}
