//! The document that policy sees as `input`, and the keys in it that only claimgate may set.
//!
//! Two makers: [`for_access`] for doors that see the application's request, [`for_document`] for doors where the
//! application brings its own input. Neither decides anything.

use std::{collections::BTreeMap, time::SystemTime};

use crate::{
    policy::Value,
    request::AccessRequest,
    snapshot::Snapshot,
    token::{Caller, VerifiedClaims},
};

/// Keys that a client can never set on a door where claimgate asserts identity.
pub const RESERVED: [&str; 3] = ["token", "live", "meta"];

/// The application's input sets a key that only claimgate may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("input sets the reserved key `{0}`; claimgate fills it from the verified token, live data and its own clock")]
pub struct ReservedKey(pub &'static str);

/// The input for a door that sees the application's request: `token`, `live`, `request`, `meta`.
#[must_use]
pub fn for_access(request: &AccessRequest, caller: &Caller, snapshot: &Snapshot, now: SystemTime) -> Value {
    let mut document = BTreeMap::new();
    assert_identity(&mut document, caller, snapshot, now);
    document.insert(Value::from("request"), request_value(request));
    Value::from(document)
}

/// The application's own input with `token`, `live` and `meta` beside its members.
///
/// An absent input and `null` become an object that holds only what claimgate asserts. An input that is not an object
/// cannot hold it and is passed through unchanged only for an anonymous caller of a policy that allows that; policy
/// then sees no `token`, exactly as for an anonymous caller.
///
/// # Errors
/// [`ReservedKey`] when the input sets a key of [`RESERVED`], whatever its value.
pub fn for_document(
    document: Option<Value>,
    caller: &Caller,
    snapshot: &Snapshot,
    now: SystemTime,
) -> Result<Value, ReservedKey> {
    let _ = (document, caller, snapshot, now);
    Err(ReservedKey("token"))
}

fn assert_identity(document: &mut BTreeMap<Value, Value>, caller: &Caller, snapshot: &Snapshot, now: SystemTime) {
    let _ = (document, caller, snapshot, now);
}

fn request_value(request: &AccessRequest) -> Value {
    let _ = request;
    Value::Undefined
}

#[allow(dead_code)]
fn token_value(claims: &VerifiedClaims) -> Value {
    let _ = claims;
    Value::Undefined
}
