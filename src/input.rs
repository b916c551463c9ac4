//! The document that policy sees as `input`, and the keys in it that only claimgate may set.
//!
//! Two makers: [`for_access`] for doors that see the application's request, [`for_document`] for doors where the
//! application brings its own input. Neither decides anything, and neither lets a client set what claimgate asserts.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    policy::Value,
    request::AccessRequest,
    snapshot::Snapshot,
    token::{Caller, VerifiedClaims},
};

/// Keys that a client can never set on a door where claimgate asserts identity.
pub const RESERVED: [&str; 3] = ["token", "live", "meta"];

/// Why the application's own input was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It sets a key of [`RESERVED`].
    #[error(
        "input sets the reserved key `{0}`; claimgate fills it from the verified token, live data and its own clock"
    )]
    ReservedKey(&'static str),
    /// It is not an object, so nothing can be put beside its members.
    #[error("input is not an object; claimgate puts `token`, `live` and `meta` beside its members")]
    NotAnObject,
}

/// A caller, with what policy sees of its token: made once for each verified token, not for each request.
#[derive(Debug, Clone)]
pub struct KnownCaller {
    caller: Caller,
    /// `input.token`; `None` for an anonymous caller.
    token: Option<Value>,
}

/// The input for a door that sees the application's request: `token`, `live`, `request`, `meta`.
#[must_use]
pub fn for_access(request: &AccessRequest, caller: &KnownCaller, snapshot: &Snapshot, now: SystemTime) -> Value {
    let mut document = asserted(caller, snapshot, now);
    document.insert(Value::from("request"), request_value(request));
    Value::from(document)
}

/// The application's own input with `token`, `live` and `meta` beside its members. An absent or `null` input is an
/// empty object here.
///
/// # Errors
/// [`InputError`] when the input sets a key of [`RESERVED`], whatever its value, or is not an object.
pub fn for_document(
    document: Option<Value>,
    caller: &KnownCaller,
    snapshot: &Snapshot,
    now: SystemTime,
) -> Result<Value, InputError> {
    let asserted = asserted(caller, snapshot, now);
    let mut members = match document {
        None | Some(Value::Null) => return Ok(Value::from(asserted)),
        Some(object @ Value::Object(_)) => object,
        Some(_) => return Err(InputError::NotAnObject),
    };
    let object = members.as_object_mut().map_err(|_| InputError::NotAnObject)?;
    for key in RESERVED {
        if object.contains_key(&Value::from(key)) {
            return Err(InputError::ReservedKey(key));
        }
    }
    object.extend(asserted);
    Ok(members)
}

/// `token`, `live` and `meta`: each only when there is something to assert.
fn asserted(known: &KnownCaller, snapshot: &Snapshot, now: SystemTime) -> BTreeMap<Value, Value> {
    let mut document = BTreeMap::new();
    if let (Caller::Verified(claims), Some(token)) = (&known.caller, &known.token) {
        document.insert(Value::from("token"), token.clone());
        if let Some(live) = live_record(claims, snapshot) {
            document.insert(Value::from("live"), live.clone());
        }
    }
    document.insert(Value::from("meta"), meta_value(snapshot, now));
    document
}

// === impl KnownCaller ===

impl KnownCaller {
    /// Converts the claims for policy.
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        let token = match &caller {
            Caller::Anonymous => None,
            Caller::Verified(claims) => Some(token_value(claims)),
        };
        Self { caller, token }
    }

    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

fn token_value(claims: &VerifiedClaims) -> Value {
    let mut token = BTreeMap::new();
    let mut set = |name: &str, value: Value| token.insert(Value::from(name), value);
    set("issuer", Value::from(claims.issuer()));
    if let Some(subject) = claims.subject() {
        set("subject", Value::from(subject));
    }
    set("audience", strings(claims.audience()));
    set("scopes", strings(claims.scopes()));
    if let Some(id) = claims.id() {
        set("id", Value::from(id));
    }
    if let Some(issued_at) = claims.issued_at() {
        set("issued_at", Value::from(issued_at));
    }
    set("expires_at", Value::from(claims.expires_at()));
    let projected = claims.claims().iter().map(|(name, value)| (Value::from(name.as_str()), json(value)));
    set("claims", Value::from(projected.collect::<BTreeMap<_, _>>()));
    Value::from(token)
}

/// The caller's current record: `data.<from>[<value of the key claim>]`. A caller without that claim has none, and a
/// record that is `null` is none. Without one `input.live` is undefined, so a rule that needs it does not hold.
#[must_use]
pub fn live_record<'s>(claims: &VerifiedClaims, snapshot: &'s Snapshot) -> Option<&'s Value> {
    let source = snapshot.subject.as_ref()?;
    let key = live_key(claims, &source.key).ok()??;
    let records = snapshot.policies.base_data(&source.from)?;
    records.as_object().ok()?.get(&Value::from(&*key)).filter(|record| !matches!(record, Value::Null))
}

/// Under which name the caller's record is: the key claim's text, or the digits of a whole number, since the names of
/// an object are text. `Ok(None)`: the token has no such claim; `Err`: it has one that can name nothing.
pub(crate) fn live_key<'c>(claims: &'c VerifiedClaims, claim: &str) -> Result<Option<Cow<'c, str>>, ()> {
    if claim == "sub" {
        return Ok(claims.subject().map(Cow::Borrowed));
    }
    match claims.claims().get(claim) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(serde_json::Value::Number(number)) => {
            let digits = number.to_string();
            let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            if is_whole { Ok(Some(Cow::Owned(digits))) } else { Err(()) }
        }
        Some(_) => Err(()),
    }
}

fn request_value(request: &AccessRequest) -> Value {
    let mut document = BTreeMap::new();
    let mut set = |name: &str, value: Value| document.insert(Value::from(name), value);
    set("method", Value::from(request.method.as_str()));
    set("scheme", Value::from(request.scheme.as_str()));
    set("host", Value::from(request.host.as_str()));
    set("path", Value::from(request.path.as_str()));
    set("segments", strings(request.path.segments()));
    let mut query: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
    for (name, value) in &request.query {
        query.entry(Value::from(name.as_str())).or_default().push(Value::from(value.as_str()));
    }
    set("query", Value::from(query.into_iter().map(|(k, v)| (k, Value::from(v))).collect::<BTreeMap<_, _>>()));
    let mut headers = BTreeMap::new();
    for name in request.headers.keys() {
        // Several header lines of one name mean the same as one line joined by commas (RFC 9110 §5.3).
        let values = request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(Value::from(name.as_str()), Value::from(values.collect::<Vec<_>>().join(", ")));
    }
    set("headers", Value::from(headers));
    set("body", Value::Null);
    if let Some(address) = request.source {
        let source = BTreeMap::from([(Value::from("address"), Value::from(address.to_string()))]);
        set("source", Value::from(source));
    }
    Value::from(document)
}

fn meta_value(snapshot: &Snapshot, now: SystemTime) -> Value {
    let nanoseconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Value::from(BTreeMap::from([
        (Value::from("revision"), Value::from(snapshot.revision.as_str())),
        (Value::from("time_ns"), Value::from(u64::try_from(nanoseconds).unwrap_or(u64::MAX))),
    ]))
}

fn strings(items: &[String]) -> Value {
    Value::from(items.iter().map(|item| Value::from(item.as_str())).collect::<Vec<_>>())
}

/// JSON → Rego. Integers of any size keep their exact value; the parser of `token` bounded depth and size.
fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            // The text of a JSON number is always a number; `Undefined` would drop the claim, never invent one.
            (None, None) => Value::from_json_str(number.as_str()).unwrap_or(Value::Undefined),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(json).collect::<Vec<_>>()),
        serde_json::Value::Object(members) => Value::from(
            members.iter().map(|(name, value)| (Value::from(name.as_str()), json(value))).collect::<BTreeMap<_, _>>(),
        ),
    }
}
