//! What is unwise in a JOSE header: algorithms, critical oddities, keys that a token brings along, `kid` and `typ`.

use serde_json::{Map, Value};

use super::{
    super::{
        algorithm::Algorithm,
        header::{FORBIDDEN, KEY_ID_MAX_BYTES, fold_type, other_kind},
    },
    Found, plain, rules,
};

pub(super) fn lint(header: &Map<String, Value>, claims: &Map<String, Value>, found: &mut Found) {
    algorithm(header.get("alg"), claims.get("aud"), found);
    if header.contains_key("crit") {
        found.add(&rules::CRITICAL_EXTENSION, "header.crit", "`crit` is there".to_owned());
    }
    for member in FORBIDDEN.into_iter().filter(|member| header.contains_key(*member)) {
        found.add(&rules::FORBIDDEN_HEADER, &format!("header.{member}"), format!("`{member}` is there"));
    }
    for member in ["jwk", "jku", "x5c", "x5u"].into_iter().filter(|member| header.contains_key(*member)) {
        found.add(&rules::KEY_IN_HEADER, &format!("header.{member}"), format!("`{member}` is there"));
    }
    let wraps = |cty: &Value| cty.as_str().is_none_or(|cty| matches!(&*fold_type(cty), "jwt" | "jose" | "jose+json"));
    if header.get("cty").is_some_and(wraps) {
        found.add(&rules::NESTED_TOKEN, "header.cty", "`cty` names a token, or is not a string".to_owned());
    }
    key_id(header.get("kid"), found);
    token_type(header.get("typ"), found);
}

/// Is the token explicitly an access token?
pub(super) fn is_typed(header: &Map<String, Value>) -> bool {
    header.get("typ").and_then(Value::as_str).is_some_and(|typ| fold_type(typ) == "at+jwt")
}

fn algorithm(alg: Option<&Value>, aud: Option<&Value>, found: &mut Found) {
    let Some(name) = alg.and_then(Value::as_str) else {
        let detail = "`alg` is missing or not a string".to_owned();
        return found.add(&rules::ALGORITHM_UNSUPPORTED, "header.alg", detail);
    };
    if name.eq_ignore_ascii_case("none") {
        return found.add(&rules::ALGORITHM_NONE, "header.alg", "`alg` is `none`".to_owned());
    }
    match name.parse::<Algorithm>() {
        Err(_) => found.add(&rules::ALGORITHM_UNSUPPORTED, "header.alg", format!("`alg` is `{}`", plain(name))),
        Ok(algorithm) if algorithm.is_symmetric() => {
            let audiences = aud.and_then(Value::as_array).map_or(1, Vec::len);
            let (rule, detail) = if audiences > 1 {
                (
                    &rules::SECRET_OF_SEVERAL,
                    format!("`alg` is `{algorithm}`, and the token is for {audiences} audiences"),
                )
            } else {
                (&rules::SHARED_SECRET, format!("`alg` is `{algorithm}`"))
            };
            found.add(rule, "header.alg", detail);
        }
        Ok(_) => {}
    }
}

fn key_id(kid: Option<&Value>, found: &mut Found) {
    match kid {
        None => found.add(&rules::KEY_ID_MISSING, "header.kid", "`kid` is missing".to_owned()),
        Some(Value::String(id)) if (1..=KEY_ID_MAX_BYTES).contains(&id.len()) => {
            let usual = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=:".contains(c);
            if !id.chars().all(usual) || id.contains("..") || id.starts_with('/') {
                found.add(&rules::KEY_ID_ODD, "header.kid", format!("{} bytes of unusual text", id.len()));
            }
        }
        Some(_) => {
            let detail = "`kid` is not a string of 1 to 256 bytes".to_owned();
            found.add(&rules::KEY_ID_MALFORMED, "header.kid", detail);
        }
    }
}

fn token_type(typ: Option<&Value>, found: &mut Found) {
    let folded = match typ {
        None => return found.add(&rules::UNTYPED, "header.typ", "`typ` is missing".to_owned()),
        Some(Value::String(typ)) => fold_type(typ),
        Some(_) => return found.add(&rules::NOT_ACCESS_TOKEN, "header.typ", "`typ` is not a string".to_owned()),
    };
    match other_kind(&folded) {
        Some(kind) => found.add(&rules::NOT_ACCESS_TOKEN, "header.typ", format!("`typ` says that it is {kind}")),
        None if folded != "at+jwt" => {
            found.add(&rules::UNTYPED, "header.typ", format!("`typ` is `{}`", plain(&folded)));
        }
        None => {}
    }
}
