//! `crypto.parse_private_keys`, `crypto.x509.parse_rsa_private_key` and `crypto.x509.parse_keypair`: private keys in PEM
//! (PKCS #1, PKCS #8, SEC 1) as OPA shows them. Keys are in results, never in errors. P-224 is refused.

use std::{cell::OnceCell, fmt};

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, X25519},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use regorus::Value;
use x509_parser::der_parser::num_bigint::BigUint;

use super::super::{builtins::BuiltinError, guard};
use super::{
    Outcome, go_base64,
    operand::{self, failed, record},
    pem::{self, Block},
    x509::{self, tlv},
};

/// Most keys of one text.
const MOST_KEYS: usize = 200;
/// Longest number of an RSA key, in bytes: 16,384 bits.
const LONGEST: usize = 2_048;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

const RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519_OID: &[u8] = &[0x2b, 0x65, 0x70];
const X25519_OID: &[u8] = &[0x2b, 0x65, 0x6e];

/// A private key.
enum Key {
    Rsa(Box<Rsa>),
    Ec { curve: &'static Curve, x: Vec<u8>, y: Vec<u8>, d: Vec<u8> },
    Ed25519 { seed: Vec<u8>, public: Vec<u8> },
    X25519 { secret: Vec<u8>, public: Vec<u8> },
}

/// The numbers of PKCS #1, in its order behind the version: n, e, d, p, q, d mod p-1, d mod q-1, q⁻¹ mod p.
struct Rsa([BigUint; 8]);

/// A curve by the contents of its OID.
#[derive(Debug)]
struct Curve {
    oid: &'static [u8],
    name: &'static str,
    /// Bytes of a coordinate.
    size: usize,
    agreement: &'static agreement::Algorithm,
}

static CURVES: [Curve; 3] = [
    Curve { oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], name: "P-256", size: 32, agreement: &ECDH_P256 },
    Curve { oid: &[0x2b, 0x81, 0x04, 0x00, 0x22], name: "P-384", size: 48, agreement: &ECDH_P384 },
    Curve { oid: &[0x2b, 0x81, 0x04, 0x00, 0x23], name: "P-521", size: 66, agreement: &ECDH_P521 },
];

/// Every private key of a text in PEM, or in base64 of PEM.
pub(super) fn parse_private_keys(args: &[Value]) -> Outcome {
    let text = operand::string(args, 0)?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let keys = read_all(text)?.iter().map(Key::value).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from(keys))
}

/// The first private key, of whatever kind, as a JWK.
pub(super) fn parse_rsa_private_key(args: &[Value]) -> Outcome {
    let text = operand::string(args, 0)?;
    if text.is_empty() {
        return Err(failed("input PEM data was empty"));
    }
    let decoded = if text.starts_with("-----BEGIN") { None } else { Some(as_text(go_base64::decode(text)?)) };
    let keys = read_all(decoded.as_deref().unwrap_or(text))?;
    Ok(keys.first().map_or(Value::Null, Key::jwk))
}

/// A certificate chain and the key of its first certificate.
pub(super) fn parse_keypair(args: &[Value]) -> Outcome {
    // OPA counts both operands as its first.
    let certificate = operand::string(args, 0)?;
    let Some(Value::String(key)) = args.get(1) else { return Err(operand::wrong_type(0, "string", args.get(1))) };
    let certificates = blocks(certificate, "CERTIFICATE")?;
    let key = blocks(key, "PRIVATE KEY")?;
    let chain: Vec<&Block> = certificates.iter().filter(|block| block.label == "CERTIFICATE").collect();
    let Some(first) = chain.first() else {
        return Err(nothing("certificate", "\"CERTIFICATE\" PEM block", &certificates));
    };
    let is_key = |block: &&Block| block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY");
    let Some(key) = key.iter().find(is_key) else {
        return Err(nothing("key", "PEM block with type ending in \"PRIVATE KEY\"", &key));
    };
    let (leaf, public) = x509::leaf(&first.der)?;
    let unreadable = || failed("tls: failed to parse private key");
    let key = Key::pkcs1(&key.der).or_else(|_| Key::pkcs8(&key.der)).or_else(|_| Key::sec1(&key.der, None));
    let key = key.map_err(|_| unreadable())?;
    let kind = |value: &Value| value.as_object().map_or(0, regorus::value::Object::len);
    let own = key.public()?;
    if kind(&own) != kind(&public) {
        return Err(failed("tls: private key type does not match public key type"));
    }
    if own != public {
        return Err(failed("tls: private key does not match public key"));
    }
    let chain = chain.iter().map(|block| bytes(&block.der)).collect::<Vec<_>>();
    Ok(record([
        ("Certificate", Value::from(chain)),
        ("Leaf", leaf),
        ("OCSPStaple", Value::Null),
        ("PrivateKey", key.value()?),
        ("SignedCertificateTimestamps", Value::Null),
        ("SupportedSignatureAlgorithms", Value::Null),
    ]))
}

/// The blocks of a text in PEM, or in base64 of PEM or of the contents of one block.
fn blocks(text: &str, label: &str) -> Result<Vec<Block>, BuiltinError> {
    let decoded = OnceCell::new();
    let mut rest = text;
    if !text.starts_with("-----BEGIN ") {
        let der = go_base64::decode(text)?;
        if !der.starts_with(b"-----BEGIN ") {
            return Ok(vec![Block { label: label.to_owned(), der }]);
        }
        rest = decoded.get_or_init(|| as_text(der));
    }
    let mut found = Vec::new();
    while let Some((block, after)) = pem::decode(rest) {
        found.push(block);
        rest = after;
    }
    Ok(found)
}

fn nothing(of: &str, what: &str, skipped: &[Block]) -> BuiltinError {
    let labels: Vec<&str> = skipped.iter().map(|block| block.label.as_str()).collect();
    match labels.as_slice() {
        [only] if of == "certificate" && only.ends_with("PRIVATE KEY") => failed(
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched",
        ),
        ["CERTIFICATE"] if of == "key" => {
            failed("tls: found a certificate rather than a key in the PEM for the private key")
        }
        [] => failed(format!("tls: failed to find any PEM data in {of} input")),
        labels => failed(format!(
            "tls: failed to find {what} in {of} input after skipping PEM blocks of the following types: [{}]",
            labels.join(" ")
        )),
    }
}

fn read_all(text: &str) -> Result<Vec<Key>, BuiltinError> {
    let decoded = go_base64::decode(text).ok().map(as_text);
    let mut rest = decoded.as_deref().unwrap_or(text);
    let mut keys = Vec::new();
    while let Some((block, after)) = pem::decode(rest) {
        rest = after;
        if keys.len() >= MOST_KEYS || guard::time_left().is_zero() {
            return Err(BuiltinError::Limit(format!("more than {MOST_KEYS} private keys, or no time left for them")));
        }
        match block.label.as_str() {
            "RSA PRIVATE KEY" => keys.push(Key::pkcs1(&block.der)?),
            "PRIVATE KEY" => keys.push(Key::pkcs8(&block.der)?),
            "EC PRIVATE KEY" => keys.push(Key::sec1(&block.der, None)?),
            _ => {}
        }
    }
    Ok(keys)
}

/// What is no UTF-8 is in no block.
fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn malformed(what: &str) -> BuiltinError {
    failed(format!("asn1: structure error: malformed {what} private key"))
}

/// One element of this type, and what follows.
fn element(der: &[u8], want: u8) -> Option<(&[u8], &[u8])> {
    tlv(der).filter(|(tag, ..)| *tag == want).map(|(_, content, rest)| (content, rest))
}

// === impl Key ===

impl Key {
    fn pkcs1(der: &[u8]) -> Result<Self, BuiltinError> {
        let fail = || malformed("RSA");
        let (sequence, _) = element(der, SEQUENCE).filter(|(_, rest)| rest.is_empty()).ok_or_else(fail)?;
        let (version, mut rest) = element(sequence, INTEGER).ok_or_else(fail)?;
        if version != [0] {
            return Err(failed("x509: unsupported private key version"));
        }
        let mut numbers = Vec::with_capacity(8);
        for _ in 0..8 {
            let (number, after) = element(rest, INTEGER).ok_or_else(fail)?;
            let positive = number.first().is_some_and(|first| *first < 0x80);
            if !positive || number.len() > LONGEST {
                return Err(failed("x509: private key contains zero or negative value"));
            }
            numbers.push(BigUint::from_bytes_be(number));
            rest = after;
        }
        let rsa = Rsa(numbers.try_into().map_err(|_| fail())?);
        if rsa.holds() { Ok(Self::Rsa(Box::new(rsa))) } else { Err(failed("crypto/rsa: invalid private key")) }
    }

    fn pkcs8(der: &[u8]) -> Result<Self, BuiltinError> {
        let fail = || malformed("PKCS #8");
        let (sequence, _) = element(der, SEQUENCE).filter(|(_, rest)| rest.is_empty()).ok_or_else(fail)?;
        let (_, rest) = element(sequence, INTEGER).ok_or_else(fail)?;
        let (algorithm, rest) = element(rest, SEQUENCE).ok_or_else(fail)?;
        let (key, _) = element(rest, OCTETS).ok_or_else(fail)?;
        let (oid, parameters) = element(algorithm, OID).ok_or_else(fail)?;
        let inner = || element(key, OCTETS).map(|(secret, _)| secret).filter(|secret| secret.len() == 32);
        match oid {
            RSA_OID => Self::pkcs1(key),
            EC_OID => Self::sec1(key, element(parameters, OID).map(|(curve, _)| curve)),
            ED25519_OID => {
                let seed = inner().ok_or_else(|| failed("x509: invalid Ed25519 private key length"))?;
                let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| malformed("Ed25519"))?;
                Ok(Self::Ed25519 { seed: seed.to_vec(), public: pair.public_key().as_ref().to_vec() })
            }
            X25519_OID => {
                let secret = inner().ok_or_else(|| failed("x509: invalid X25519 private key"))?;
                let public = public_of(&X25519, secret).ok_or_else(|| malformed("X25519"))?;
                Ok(Self::X25519 { secret: secret.to_vec(), public })
            }
            _ => Err(failed("x509: PKCS#8 wrapping contained private key with unknown algorithm")),
        }
    }

    /// `named`: the curve, when what is around the key says it.
    fn sec1(der: &[u8], named: Option<&[u8]>) -> Result<Self, BuiltinError> {
        let fail = || failed("x509: failed to parse EC private key");
        let (sequence, _) = element(der, SEQUENCE).ok_or_else(fail)?;
        let (version, rest) = element(sequence, INTEGER).ok_or_else(fail)?;
        if version != [1] {
            return Err(failed("x509: unknown EC private key version"));
        }
        let (secret, rest) = element(rest, OCTETS).ok_or_else(fail)?;
        let own = element(rest, 0xa0).and_then(|(parameters, _)| element(parameters, OID)).map(|(oid, _)| oid);
        let oid = named.or(own).ok_or_else(|| failed("x509: unknown elliptic curve"))?;
        let curve = CURVES.iter().find(|curve| curve.oid == oid);
        let curve = curve.ok_or_else(|| failed("x509: unknown elliptic curve"))?;
        let invalid = || failed("x509: invalid elliptic curve private key value");
        let zeros = secret.len().saturating_sub(curve.size);
        let (extra, digits) = secret.split_at_checked(zeros).unwrap_or_default();
        if extra.iter().any(|byte| *byte != 0) {
            return Err(failed("x509: invalid private key length"));
        }
        let d = padded(digits, curve.size);
        let public = public_of(curve.agreement, &d).ok_or_else(invalid)?;
        let (x, y) = public.get(1..).and_then(|both| both.split_at_checked(curve.size)).ok_or_else(invalid)?;
        Ok(Self::Ec { curve, x: x.to_vec(), y: y.to_vec(), d })
    }

    /// As Go's types are in JSON.
    fn value(&self) -> Outcome {
        match self {
            Self::Rsa(rsa) => {
                let [n, e, d, p, q, dp, dq, qinv] = &rsa.0;
                let precomputed = record([
                    ("CRTValues", Value::from(Vec::new())),
                    ("Dp", decimal(dp)?),
                    ("Dq", decimal(dq)?),
                    ("Qinv", decimal(qinv)?),
                ]);
                Ok(record([
                    ("D", decimal(d)?),
                    ("E", decimal(e)?),
                    ("N", decimal(n)?),
                    ("Precomputed", precomputed),
                    ("Primes", Value::from(vec![decimal(p)?, decimal(q)?])),
                ]))
            }
            Self::Ec { x, y, d, .. } => Ok(record([
                ("Curve", Value::new_object()),
                ("D", decimal(&BigUint::from_bytes_be(d))?),
                ("X", decimal(&BigUint::from_bytes_be(x))?),
                ("Y", decimal(&BigUint::from_bytes_be(y))?),
            ])),
            Self::Ed25519 { seed, public } => Ok(bytes(&[seed.as_slice(), public].concat())),
            Self::X25519 { .. } => Ok(Value::new_object()),
        }
    }

    /// The public key as certificates show it.
    fn public(&self) -> Outcome {
        match self {
            Self::Rsa(rsa) => {
                let [n, e, ..] = &rsa.0;
                Ok(record([("E", decimal(e)?), ("N", decimal(n)?)]))
            }
            Self::Ec { x, y, .. } => Ok(record([
                ("Curve", Value::new_object()),
                ("X", decimal(&BigUint::from_bytes_be(x))?),
                ("Y", decimal(&BigUint::from_bytes_be(y))?),
            ])),
            Self::Ed25519 { public, .. } => Ok(bytes(public)),
            Self::X25519 { .. } => Err(failed("tls: found unknown private key type in PKCS#8 wrapping")),
        }
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| Value::from(go_base64::encode_url(bytes));
        match self {
            Self::Rsa(rsa) => {
                let [n, e, d, p, q, dp, dq, qi] = rsa.0.each_ref().map(|number| text(&number.to_bytes_be()));
                let kty = Value::from("RSA");
                record([
                    ("d", d),
                    ("dp", dp),
                    ("dq", dq),
                    ("e", e),
                    ("kty", kty),
                    ("n", n),
                    ("p", p),
                    ("q", q),
                    ("qi", qi),
                ])
            }
            Self::Ec { curve, x, y, d } => record([
                ("crv", Value::from(curve.name)),
                ("d", text(d)),
                ("kty", Value::from("EC")),
                ("x", text(x)),
                ("y", text(y)),
            ]),
            Self::Ed25519 { seed: secret, public } | Self::X25519 { secret, public } => {
                let name = if matches!(self, Self::Ed25519 { .. }) { "Ed25519" } else { "X25519" };
                record([
                    ("crv", Value::from(name)),
                    ("d", text(secret)),
                    ("kty", Value::from("OKP")),
                    ("x", text(public)),
                ])
            }
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

// === impl Rsa ===

impl Rsa {
    /// Do the numbers belong together?
    fn holds(&self) -> bool {
        let [n, e, d, p, q, dp, dq, qinv] = &self.0;
        let one = BigUint::from(1_u8);
        if *p <= one || *q <= one || p * q != *n || *e <= one || e.bits() > 31 {
            return false;
        }
        let (p1, q1) = (p - &one, q - &one);
        let inverse = |of: &BigUint, less: &BigUint| (e * of) % less == one;
        inverse(d, &p1) && inverse(d, &q1) && *dp == d % &p1 && *dq == d % &q1 && (q * qinv) % p == one
    }
}

fn public_of(algorithm: &'static agreement::Algorithm, secret: &[u8]) -> Option<Vec<u8>> {
    let key = agreement::PrivateKey::from_private_key(algorithm, secret).ok()?;
    Some(key.compute_public_key().ok()?.as_ref().to_vec())
}

fn padded(digits: &[u8], size: usize) -> Vec<u8> {
    let mut all = vec![0; size.saturating_sub(digits.len())];
    all.extend_from_slice(digits);
    all
}

fn decimal(number: &BigUint) -> Outcome {
    Value::from_numeric_string(&number.to_string()).map_err(|_| failed("x509: malformed number"))
}

fn bytes(bytes: &[u8]) -> Value {
    Value::from(STANDARD.encode(bytes))
}
