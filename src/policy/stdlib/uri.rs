//! `uri.*`: the parts of a URI. Nothing is normalised or fetched.

use std::collections::BTreeMap;

use regorus::Value;

use super::super::builtins::BuiltinError;
use super::{Outcome, go_url, operand};

/// The parts that are there.
pub(super) fn parse(args: &[Value]) -> Outcome {
    let url = go_url::parse(operand::string(args, 0)?)?;
    let raw_path = if url.raw_path.is_empty() { &url.path } else { &url.raw_path };
    let parts = [
        ("scheme", url.scheme.as_str()),
        ("hostname", url.host_name()),
        ("port", url.port()),
        ("path", &url.path),
        ("raw_path", raw_path),
        ("raw_query", &url.raw_query),
        ("fragment", &url.fragment),
    ];
    let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
    Ok(Value::from(parts.map(|(name, part)| (Value::from(name), Value::from(part))).collect::<BTreeMap<_, _>>()))
}

/// `false` for what is no string, too, and for the empty one.
pub(super) fn is_valid(args: &[Value]) -> Outcome {
    let Some(Value::String(text)) = args.first() else { return Ok(Value::from(false)) };
    // A path that is no text is valid none the less.
    let valid = !matches!(go_url::parse(text), Err(BuiltinError::Failed(_)));
    Ok(Value::from(valid && !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::to_opa_json;

    #[test]
    fn a_uri_has_the_parts_that_go_gives_it() {
        for (text, want) in [
            ("", "{}"),
            ("*", r#"{"path":"*","raw_path":"*"}"#),
            (
                "HTTPS://u:p@h.example:8443/a%2Fb/c?x=1&y#f%20g",
                r#"{"fragment":"f g","hostname":"h.example","path":"/a/b/c","port":"8443","raw_path":"/a%2Fb/c","raw_query":"x=1\u0026y","scheme":"https"}"#,
            ),
            (
                "http://[fe80::1%25en0]:80/",
                r#"{"hostname":"fe80::1%en0","path":"/","port":"80","raw_path":"/","scheme":"http"}"#,
            ),
            ("mailto:a@b", r#"{"scheme":"mailto"}"#),
            ("///a", r#"{"path":"///a","raw_path":"///a"}"#),
            ("http://h/a b", r#"{"hostname":"h","path":"/a b","raw_path":"/a b","scheme":"http"}"#),
            ("http://h:/", r#"{"hostname":"h","path":"/","raw_path":"/","scheme":"http"}"#),
            ("//h?", r#"{"hostname":"h"}"#),
        ] {
            assert_eq!(to_opa_json(&parse(&[Value::from(text)]).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_uri_says_why() {
        for (text, want) in [
            ("http://a b", r#"parse "http://a b": invalid character " " in host name"#),
            ("http://h/%zz", r#"parse "http://h/%zz": invalid URL escape "%zz""#),
            ("http://h/%1", r#"parse "http://h/%1": invalid URL escape "%1""#),
            ("http://%31", r#"parse "http://%31": invalid URL escape "%31""#),
            ("http://h:x/", r#"parse "http://h:x/": invalid port ":x" after host"#),
            ("http://a:1:2/", r#"parse "http://a:1:2/": invalid port ":1:2" after host"#),
            ("http://[::1", r#"parse "http://[::1": missing ']' in host"#),
            ("http://a[::1]", r#"parse "http://a[::1]": invalid IP-literal"#),
            ("http://[1.2.3.4]", r#"parse "http://[1.2.3.4]": invalid IP-literal"#),
            ("http://h:x?a&b", r#"parse "http://h:x?a&b": invalid port ":x" after host"#),
            (":a", r#"parse ":a": missing protocol scheme"#),
            ("1:a", r#"parse "1:a": first path segment in URL cannot contain colon"#),
            ("http://u p@h", r#"parse "http://u p@h": net/url: invalid userinfo"#),
            ("a#%", r##"parse "a#%": invalid URL escape "%""##),
        ] {
            let error = parse(&[Value::from(text)]).unwrap_err();
            assert_eq!(error.to_string(), want);
            assert_eq!(is_valid(&[Value::from(text)]).unwrap(), Value::from(false));
        }
        assert!(matches!(parse(&[Value::from("/%ff")]), Err(BuiltinError::Refused(_))));
        assert_eq!(is_valid(&[Value::from("/%ff")]).unwrap(), Value::from(true));
        assert_eq!(is_valid(&[Value::from("")]).unwrap(), Value::from(false));
    }
}
