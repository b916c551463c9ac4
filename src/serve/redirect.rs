//! Redirects to the tidy form of a path, as OPA's server sends them: 307 for `//`, `.` and `..`, and 301 for a trailing
//! slash where a route is. Clients of OPA depend on them. They are answers, not rewrites: no door ever sees such a path.

use http::{HeaderValue, Method, StatusCode, Uri, header::VARY};

use super::answer::Answer;

/// The redirect for an untidy path, if it is one. `routed` says whether the trailing slash belongs to a known route.
pub(super) fn to_tidy(method: &Method, uri: &Uri, routed: impl FnOnce(&str) -> bool) -> Option<Answer> {
    let path = uri.path();
    // Nearly every path ends here.
    let may_be_untidy = path.contains("//") || path.contains("/.") || (path.len() > 1 && path.ends_with('/'));
    if !may_be_untidy {
        return None;
    }
    let readable = matches!(*method, Method::GET | Method::HEAD);
    let redirect = |status, to: &str| {
        let answer = Answer::redirect(status, to, readable);
        // OPA says so wherever it might compress the answer, and a redirect is one.
        if varies(method, path) { answer.with(VARY, HeaderValue::from_static("Accept-Encoding")) } else { answer }
    };
    let clean = clean(path);
    if clean != path {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Some(redirect(StatusCode::TEMPORARY_REDIRECT, &format!("{clean}{query}")));
    }
    match path.strip_suffix('/') {
        Some(stripped) if !stripped.is_empty() && routed(path) => Some(match *method {
            Method::HEAD => Answer::method_not_allowed(),
            _ => redirect(StatusCode::MOVED_PERMANENTLY, stripped),
        }),
        _ => None,
    }
}

/// Would an answer below this path depend on `Accept-Encoding`?
fn varies(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET => path.starts_with("/v1/data") || path.starts_with("/v0/data"),
        Method::POST => ["/v1/data", "/v0/data", "/v1/compile"].iter().any(|prefix| path.starts_with(prefix)),
        _ => false,
    }
}

/// Removes empty, `.` and `..` segments; a trailing slash stays.
fn clean(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_go_cleans_it() {
        for (path, want) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b", "/a/b"),
            ("/a/./b/", "/a/b/"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("//evil.example/", "/evil.example/"),
            ("/.a/b..", "/.a/b.."),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    fn check(method: &Method, uri: &str, want: Option<(u16, &str)>) {
        let answer = to_tidy(method, &uri.parse().unwrap(), |path| path.starts_with("/v1/data"));
        let got = answer.as_ref().map(|answer| {
            let location = answer.headers.get("location").map_or("", |value| value.to_str().unwrap());
            (answer.status.as_u16(), location)
        });
        assert_eq!(got, want, "{method} {uri}");
    }

    #[test]
    fn only_an_untidy_path_is_redirected() {
        check(&Method::GET, "/v1/data", None);
        check(&Method::GET, "/v1/data/.hidden", None);
        check(&Method::GET, "/nothing/", None);
        check(&Method::GET, "/", None);
        check(&Method::GET, "/v1/data/?pretty", Some((301, "/v1/data")));
        check(&Method::HEAD, "/v1/data/", Some((405, "")));
        check(&Method::POST, "/v1//data/a?pretty", Some((307, "/v1/data/a?pretty")));
        check(&Method::GET, "//evil.example/a", Some((307, "/evil.example/a")));
    }

    #[test]
    fn a_redirect_below_compressed_routes_varies_with_the_accepted_encoding() {
        for (method, uri, want) in [
            (Method::GET, "/v1/data/", true),
            (Method::POST, "/v0/data//a", true),
            (Method::POST, "/v1/compile//a", true),
            (Method::GET, "/v1/compile//a", false),
            (Method::PUT, "/v1/data//a", false),
            (Method::GET, "//v1/data", false),
        ] {
            let answer = to_tidy(&method, &uri.parse().unwrap(), |_| true).unwrap();
            assert_eq!(answer.headers.contains_key(VARY), want, "{method} {uri}");
        }
    }
}
