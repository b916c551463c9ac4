//! `io.jwt.*` with OPA's rules. They are looser than those of the token module: use them for tokens that are data of a
//! policy; who asks is decided before any policy runs.
//!
//! An algorithm is only ever used with a key of its own type. No error shows a token or a key.

mod keys;
mod sign;

use std::collections::BTreeSet;

use aws_lc_rs::constant_time;
use regorus::{Value, value::Object};

use self::keys::{PublicKey, VerifyKey};
pub(super) use self::sign::{encode_sign, encode_sign_raw};
use super::super::{builtins::BuiltinError, document, guard};
use super::{
    Outcome, crypto, go_base64,
    operand::{self, failed},
};

/// Most tokens inside one another.
const MAX_NESTING: usize = 8;
/// Most keys of a set.
const MAX_KEYS: usize = 64;

/// The header parameters that OPA understands; any other one that is critical makes a token invalid.
const KNOWN_PARAMETERS: [&str; 5] = ["alg", "kid", "typ", "cty", "crit"];
const NANOSECONDS: f64 = 1e9;

/// The three parts of a compact JWS, as received.
struct Parts<'t> {
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
}

/// What the header says, once it says it in the right types.
#[derive(Default)]
struct Header {
    algorithm: String,
    key_id: String,
    content_type: String,
    critical: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// What `io.jwt.decode_verify` asks for besides a signature.
#[derive(Default)]
struct Constraints {
    keys: Option<Vec<VerifyKey>>,
    secret: String,
    algorithm: String,
    issuer: String,
    audience: String,
    /// Nanoseconds.
    time: Option<f64>,
}

/// `[header, payload, signature]`; nothing is verified.
pub(super) fn decode(args: &[Value]) -> Outcome {
    decode_nested(operand::string(args, 0)?, MAX_NESTING)
}

/// Does a key of a certificate, a public key or a JWK (set) verify the token's signature under the algorithm?
pub(super) fn verify(algorithm: &str, args: &[Value]) -> Outcome {
    let parts = Parts::split(operand::string(args, 0)?)?;
    let keys = keys::parse(operand::string(args, 1)?)?;
    let signature = go_base64::decode_url(parts.signature)?;
    let header = Header::read(&parts.header_object()?)?;
    let (message, signature) = (parts.message(), &signature);
    let fits = |key: &VerifyKey| key.key.verify(algorithm, message.as_bytes(), signature);
    Ok(Value::from(keys::any(&keys, &header.key_id, &header.algorithm, fits)))
}

/// Is the token's signature the keyed digest under the secret?
pub(super) fn verify_secret(algorithm: &str, args: &[Value]) -> Outcome {
    let token = operand::string(args, 0)?;
    let secret = operand::string(args, 1)?;
    let parts = Parts::split(token)?;
    let signature = go_base64::decode_url(parts.signature)?;
    let mac = keys::mac(algorithm, secret.as_bytes(), parts.message().as_bytes());
    let equal = |mac: Vec<u8>| constant_time::verify_slices_are_equal(&signature, &mac).is_ok();
    Ok(Value::from(mac.is_some_and(equal)))
}

/// `[valid, header, payload]`: signature, algorithm, issuer, audience and times.
pub(super) fn decode_verify(args: &[Value]) -> Outcome {
    let unverified = || Ok(Value::from(vec![Value::from(false), Value::new_object(), Value::new_object()]));
    let constraints = Constraints::read(operand::object(args, 1)?)?;
    let mut token = operand::string(args, 0)?.to_owned();
    for _ in 0..=MAX_NESTING {
        let parts = Parts::split(&token)?;
        let object = parts.header_object()?;
        let header = Header::read(&object)?;
        let algorithm_fits = constraints.algorithm.is_empty() || constraints.algorithm == header.algorithm;
        if !header.is_valid() || !algorithm_fits {
            return unverified();
        }
        let signature = go_base64::decode_url(parts.signature)?;
        if !constraints.verify(&header, parts.message().as_bytes(), &signature) {
            return unverified();
        }
        let payload = parts.payload_text()?;
        if header.content_type.eq_ignore_ascii_case("JWT") {
            token = payload;
            continue;
        }
        let payload = json_object(&payload)?;
        if !constraints.allow(&payload)? {
            return unverified();
        }
        return Ok(Value::from(vec![Value::from(true), Value::from(object), Value::from(payload)]));
    }
    Err(too_nested())
}

// === impl Parts ===

impl<'t> Parts<'t> {
    fn split(token: &'t str) -> Result<Self, BuiltinError> {
        let parts: Vec<&str> = token.split('.').collect();
        match parts.as_slice() {
            [_] => Err(failed("encoded JWT had no period separators")),
            [header, payload, signature] => Ok(Self { header, payload, signature }),
            _ => Err(failed(format!("encoded JWT must have 3 sections, found {}", parts.len()))),
        }
    }

    /// What the signature is over.
    fn message(&self) -> String {
        format!("{}.{}", self.header, self.payload)
    }

    fn header_object(&self) -> Result<Object, BuiltinError> {
        let text = decoded(self.header, "header")?;
        let object = json_object(&text).map_err(|error| failed(format!("bad JWT header: {error}")))?;
        if operand::member(&object, "enc").is_some() {
            return Err(failed("JWT is a JWE object, which is not supported"));
        }
        Ok(object)
    }

    fn payload_text(&self) -> Result<String, BuiltinError> {
        decoded(self.payload, "payload")
    }
}

// === impl Header ===

impl Header {
    fn read(object: &Object) -> Result<Self, BuiltinError> {
        let mut header = Self::default();
        for (key, value) in object.iter() {
            let Value::String(key) = key else { continue };
            let text = || match value {
                Value::String(text) => Ok(text.to_string()),
                _ => Err(failed(format!("{key}: must be a string"))),
            };
            match &**key {
                "alg" => header.algorithm = text()?,
                "kid" => header.key_id = text()?,
                "cty" => header.content_type = text()?,
                "typ" => drop(text()?),
                "crit" => header.critical = critical(value)?,
                _ => {
                    header.unknown.insert(key.to_string());
                }
            }
        }
        Ok(header)
    }

    /// It names an algorithm, and understanding it needs nothing that is not understood here (RFC 7515, 4.1.11).
    fn is_valid(&self) -> bool {
        let understood = |name: &String| KNOWN_PARAMETERS.contains(&name.as_str()) || !self.unknown.contains(name);
        !self.algorithm.is_empty() && self.critical.iter().all(understood)
    }
}

fn critical(value: &Value) -> Result<BTreeSet<String>, BuiltinError> {
    let Value::Array(items) = value else { return Err(failed("crit: must be a list")) };
    let mut names = BTreeSet::new();
    for item in items.iter() {
        // OPA stops at the first element that is no string.
        let Value::String(name) = item else { break };
        names.insert(name.to_string());
    }
    if names.is_empty() { Err(failed("crit: must be a nonempty list")) } else { Ok(names) }
}

// === impl Constraints ===

impl Constraints {
    fn read(object: &Object) -> Result<Self, BuiltinError> {
        let mut constraints = Self::default();
        let mut members: Vec<_> = object.iter().collect();
        members.sort();
        for (key, value) in members {
            let Value::String(name) = key else { return Err(failed("token validation constraints must be strings")) };
            let text = || match value {
                Value::String(text) => Ok(text.to_string()),
                _ => Err(failed(format!("{name} constraint: must be a string"))),
            };
            match &**name {
                "cert" => constraints.keys = Some(keys::parse(&text()?)?),
                "secret" => constraints.secret = text()?,
                "alg" => constraints.algorithm = text()?,
                "iss" => constraints.issuer = text()?,
                "aud" => constraints.audience = text()?,
                "time" => constraints.time = Some(time(value)?),
                _ => return Err(failed(format!("unknown token validation constraint: {name}"))),
            }
        }
        match (&constraints.keys, constraints.secret.as_str()) {
            (Some(_), secret) if !secret.is_empty() => Err(failed("duplicate key constraints")),
            (None, "") => Err(failed("no key constraint")),
            _ => Ok(constraints),
        }
    }

    fn verify(&self, header: &Header, message: &[u8], signature: &[u8]) -> bool {
        let algorithm = &header.algorithm;
        match &self.keys {
            Some(keys) => {
                keys::any(keys, &header.key_id, algorithm, |key| key.key.verify(algorithm, message, signature))
            }
            None => PublicKey::Secret(self.secret.as_bytes().to_vec()).verify(algorithm, message, signature),
        }
    }

    /// The registered claims (RFC 7519, 4.1).
    fn allow(&self, payload: &Object) -> Result<bool, BuiltinError> {
        let issuer = operand::member(payload, "iss");
        if !self.issuer.is_empty() && issuer != Some(&Value::from(self.issuer.as_str())) {
            return Ok(false);
        }
        let audience_fits = match operand::member(payload, "aud") {
            None => self.audience.is_empty(),
            Some(Value::Array(all)) => all.iter().any(|one| *one == Value::from(self.audience.as_str())),
            Some(one) => *one == Value::from(self.audience.as_str()),
        };
        if !audience_fits {
            return Ok(false);
        }
        let time = match self.time {
            Some(time) => time,
            None => guard::now_ns()? as f64,
        };
        let seconds = time / NANOSECONDS;
        let now = Value::from(seconds);
        let limit = |name: &str| match operand::member(payload, name) {
            None => Ok(None),
            Some(at @ Value::Number(_)) => Ok(Some(at)),
            Some(_) => Err(failed(format!("{name} value must be a number"))),
        };
        if limit("exp")?.is_some_and(|expires| now >= *expires) {
            return Ok(false);
        }
        Ok(limit("nbf")?.is_none_or(|begins| now >= *begins))
    }
}

fn time(value: &Value) -> Result<f64, BuiltinError> {
    let Value::Number(time) = value else { return Err(failed("token time constraint: must be a number")) };
    // The engine's own conversion refuses what a double cannot hold exactly.
    match time.format_decimal().parse::<f64>() {
        Ok(time) if time < 0.0 => Err(failed("token time constraint: must not be negative")),
        Ok(time) => Ok(time),
        Err(_) => Err(failed("token time constraint: unvalid float64")),
    }
}

fn decode_nested(token: &str, left: usize) -> Outcome {
    let parts = Parts::split(token)?;
    let header = parts.header_object()?;
    let payload = parts.payload_text()?;
    if operand::member(&header, "cty") == Some(&Value::from("JWT")) {
        let left = left.checked_sub(1).ok_or_else(too_nested)?;
        // A payload that is a token is usually written as a JSON string.
        return decode_nested(payload.trim_matches(['"', '\'']), left);
    }
    let payload = json_object(&payload)?;
    let signature = go_base64::decode_url(parts.signature)
        .map_err(|error| failed(format!("JWT signature had invalid encoding: {error}")))?;
    Ok(Value::from(vec![Value::from(header), Value::from(payload), crypto::hex(&signature)]))
}

fn too_nested() -> BuiltinError {
    BuiltinError::Limit(format!("more than {MAX_NESTING} tokens inside one another"))
}

fn decoded(part: &str, what: &str) -> Result<String, BuiltinError> {
    let bytes =
        go_base64::decode_url(part).map_err(|error| failed(format!("JWT {what} had invalid encoding: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn json_object(text: &str) -> Result<Object, BuiltinError> {
    let value = document::parse_json(text).map_err(|error| failed(format!("invalid JSON: {error}")))?;
    match value {
        Value::Object(members) => Ok((*members).clone()),
        _ => Err(failed("decoded JSON type was not an Object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiZXhwIjoxMDB9";

    fn token() -> String {
        let mac = keys::mac("HS256", b"secret", TOKEN.as_bytes()).unwrap();
        format!("{TOKEN}.{}", go_base64::encode_url(&mac))
    }

    fn check(token: &str, constraints: &str, want: &str) {
        let args = [Value::from(token), Value::from_json_str(constraints).unwrap()];
        let got = match decode_verify(&args) {
            Ok(value) => value.as_array().unwrap().iter().next().unwrap().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want, "{constraints}");
    }

    #[test]
    fn every_constraint_can_refuse_a_token() {
        let token = token();
        for (constraints, want) in [
            (r#"{"secret": "secret", "time": 99000000000}"#, "true"),
            (r#"{"secret": "secret", "time": 99999999999.5}"#, "true"),
            (r#"{"secret": "secret", "time": 100000000000}"#, "false"),
            (r#"{"secret": "secreT", "time": 0}"#, "false"),
            (r#"{"secret": "secret", "time": 0, "iss": "b"}"#, "false"),
            (r#"{"secret": "secret", "time": 0, "aud": "x"}"#, "false"),
            (r#"{"secret": "secret", "time": 0, "alg": "HS512"}"#, "false"),
            (r#"{"secret": "secret", "time": -1}"#, "token time constraint: must not be negative"),
            (r#"{"secret": 1}"#, "secret constraint: must be a string"),
            (r#"{"secret": ""}"#, "no key constraint"),
            (r#"{"secret": "s", "cert": "{\"keys\": []}"}"#, "duplicate key constraints"),
            (r#"{"secret": "s", "other": 1}"#, "unknown token validation constraint: other"),
        ] {
            check(&token, constraints, want);
        }
    }

    #[test]
    fn an_error_shows_no_part_of_the_token() {
        for token in ["secretpart.x.y", "eyJ.secretpart.y", "x", "a.b", "e30.secretpart!.y", "secretpart=.e30.e30"] {
            let error = decode(&[Value::from(token)]).unwrap_err().to_string();
            assert!(!error.contains("secretpart"), "{error}");
        }
    }

    #[test]
    fn a_token_inside_tokens_without_end_is_refused() {
        let mut token = "e30.e30.".to_owned();
        for _ in 0..20 {
            token =
                format!("{}.{}.", go_base64::encode_url(br#"{"cty":"JWT"}"#), go_base64::encode_url(token.as_bytes()));
        }
        assert!(matches!(decode(&[Value::from(token)]), Err(BuiltinError::Limit(_))));
    }

    #[test]
    fn a_key_verifies_only_its_own_algorithms() {
        let public = PublicKey::Rsa { modulus: vec![0xff; 256], exponent: vec![1, 0, 1] };
        let mac = keys::mac("HS256", &[0xff; 256], b"m").unwrap();
        assert!(!public.verify("HS256", b"m", &mac));
        assert!(!PublicKey::Secret(vec![1]).verify("RS256", b"m", &mac));
        assert!(PublicKey::Secret(vec![0xff; 256]).verify("HS256", b"m", &mac));
    }
}
