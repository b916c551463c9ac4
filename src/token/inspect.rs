//! Decodes a token for a person to look at. Nothing is verified and nothing of it may be trusted; no decision uses it.

use serde_json::{Map, Value};

use super::{
    claims::Payload,
    compact::{Compact, EmptyPayload, Limits, RawToken},
    error::TokenError,
    header,
};

/// What a token says, unverified.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The claims set.
    pub claims: Map<String, Value>,
    /// Length of the signature.
    pub signature_bytes: usize,
}

/// Decodes header and claims of a signed compact token of at most 1 MiB without verifying anything.
///
/// # Errors
/// Not three strict base64url segments, or header or claims are not one strict JSON object.
pub fn inspect(raw: &RawToken) -> Result<Inspection, TokenError> {
    let token = Compact::split(raw, Limits::TOOL, EmptyPayload::Refused)?;
    Ok(Inspection {
        header: header::members(&token, Limits::TOOL)?,
        claims: Payload::parse(&token, Limits::TOOL)?.into_claims(),
        signature_bytes: token.signature.len(),
    })
}
