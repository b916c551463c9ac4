//! A signing key for development tokens: `demo`, `token mint` and tests. claimgate itself never signs anything that it
//! accepts; all that a request leads to is an assertion of who the gate is, for the issuer that it asks.

use std::fmt;

use aws_lc_rs::{
    encoding::AsBigEndian,
    hmac, rand,
    rsa::KeyPairComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    algorithm::{Algorithm, Family},
    compact::{Limits, decode_base64url, encode_base64url},
    json,
    keys::{KeySet, KeySetError},
    profile::KeyOrigin,
};

/// A development signing key (`demo`, `token mint`, tests). `Debug` shows no key material.
pub struct SigningKey {
    algorithm: Algorithm,
    key_id: Option<String>,
    signer: Signer,
    /// The public JWK without `alg` and `kid`; a secret has none.
    public: Option<Map<String, Value>>,
}

enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Hmac(Vec<u8>),
}

// === impl SigningKey ===

impl SigningKey {
    /// A fresh ES256 key with `kid`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate_es256(kid: &str) -> Result<Self, KeySetError> {
        Self::from_jwk(Self::generate_jwk(Algorithm::ES256, kid)?.as_bytes())
    }

    /// A fresh private key as JWK text, for a key file. Not for RSA: such keys come as PEM from other tools.
    ///
    /// # Errors
    /// An RSA algorithm, or the system has no randomness.
    pub fn generate_jwk(algorithm: Algorithm, kid: &str) -> Result<String, KeySetError> {
        let mut jwk = match algorithm.family() {
            Family::EllipticCurve => {
                let pair = EcdsaKeyPair::generate(ecdsa(algorithm)).map_err(|_| no_randomness())?;
                let mut jwk = ec_public(algorithm, &pair);
                let private = pair.private_key().as_be_bytes().map_err(|_| no_randomness())?;
                jwk.insert("d".to_owned(), encode_base64url(private.as_ref()).into());
                jwk
            }
            Family::Edwards => {
                let pair = Ed25519KeyPair::generate().map_err(|_| no_randomness())?;
                let mut jwk = ed_public(&pair);
                let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| no_randomness())?;
                jwk.insert("d".to_owned(), encode_base64url(seed.as_ref()).into());
                jwk
            }
            Family::Hmac => {
                let mut secret = vec![0; 64];
                rand::fill(&mut secret).map_err(|_| no_randomness())?;
                object(json!({ "kty": "oct", "k": encode_base64url(secret) }))
            }
            Family::Rsa => {
                let message = "RSA keys are not made here; make one with `openssl genrsa 2048` and give its PEM file";
                return Err(KeySetError::new("unsupported_key_generation", message));
            }
        };
        jwk.insert("alg".to_owned(), algorithm.name().into());
        jwk.insert("use".to_owned(), "sig".into());
        jwk.insert("kid".to_owned(), kid.into());
        Ok(Value::Object(jwk).to_string())
    }

    /// A private JWK (`EC`, `RSA`, `OKP`, `oct`) or a JWKS with exactly one private key.
    ///
    /// # Errors
    /// Not such a document, a key that [`KeySet::parse`] would not admit, or private members that do not belong to
    /// the public ones.
    pub fn from_jwk(json: &[u8]) -> Result<Self, KeySetError> {
        let bounds = Limits::default().json();
        let document = json::parse_object(json, bounds)
            .map_err(|fault| KeySetError::new("not_a_key", format!("the signing key {fault}")))?;
        let jwk = only_private_key(document)?;
        // The admission rules for verifying keys hold for signing keys too.
        KeySet::parse(Value::Object(jwk.clone()).to_string().as_bytes(), KeyOrigin::Local, &Algorithm::ALL)?;
        let algorithm = algorithm_of(&jwk)?;
        let key_id = text(&jwk, "kid").map(str::to_owned);
        let signer = signer_from_jwk(&jwk, algorithm).ok_or_else(inconsistent)?;
        let public = (!algorithm.is_symmetric()).then(|| public_part(&jwk));
        Ok(Self { algorithm, key_id, signer, public })
    }

    /// A private key in PEM: PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`). RSA keys
    /// sign with RS256 unless [`Self::with_algorithm`] says otherwise.
    ///
    /// # Errors
    /// Not one unencrypted private key of a known type.
    pub fn from_pem(pem: &str) -> Result<Self, KeySetError> {
        let der = pem_body(pem)?;
        let (algorithm, signer, public) = signer_from_der(&der).ok_or_else(|| {
            let message = "the PEM file holds no unencrypted RSA (2048 bits and more), P-256, P-384, P-521 or Ed25519 private key";
            KeySetError::new("unsupported_key", message)
        })?;
        Ok(Self { algorithm, key_id: None, signer, public: Some(public) })
    }

    /// The same key under another algorithm of its type (RSA: RS and PS; secrets: HS).
    ///
    /// # Errors
    /// The key cannot be used with that algorithm.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, KeySetError> {
        let fits = match &self.signer {
            Signer::Ec(_) | Signer::Ed(_) => self.algorithm == algorithm,
            Signer::Rsa(_) | Signer::Hmac(_) => self.algorithm.family() == algorithm.family(),
        };
        if !fits {
            let message = format!("the key signs with {} and cannot sign with {algorithm}", self.algorithm);
            return Err(KeySetError::new("algorithm_does_not_fit_key", message));
        }
        Ok(Self { algorithm, ..self })
    }

    /// The same key under another `kid`.
    #[must_use]
    pub fn with_key_id(self, kid: impl Into<String>) -> Self {
        Self { key_id: Some(kid.into()), ..self }
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its `kid`.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The public JWKS, as JSON text.
    ///
    /// # Errors
    /// The key is a secret.
    pub fn public_jwks(&self) -> Result<String, KeySetError> {
        let Some(mut jwk) = self.public.clone() else {
            return Err(KeySetError::new("secret_has_no_public_key", "a secret (`oct`) has no public key"));
        };
        jwk.insert("alg".to_owned(), self.algorithm.name().into());
        jwk.insert("use".to_owned(), "sig".into());
        if let Some(key_id) = &self.key_id {
            jwk.insert("kid".to_owned(), key_id.as_str().into());
        }
        Ok(json!({ "keys": [jwk] }).to_string())
    }

    /// Signs `claims` with `typ` in the header.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, KeySetError> {
        self.sign_with_header(Some(typ), &Map::new(), claims)
    }

    /// Signs `claims` with `typ`, if any, and further header members, which win over `alg`, `kid` and `typ`.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn sign_with_header(
        &self,
        typ: Option<&str>,
        members: &Map<String, Value>,
        claims: &Map<String, Value>,
    ) -> Result<String, KeySetError> {
        let mut header = object(json!({ "alg": self.algorithm.name() }));
        if let Some(typ) = typ {
            header.insert("typ".to_owned(), typ.into());
        }
        if let Some(key_id) = &self.key_id {
            header.insert("kid".to_owned(), key_id.as_str().into());
        }
        header.extend(members.clone());
        self.sign_bytes(
            Value::Object(header).to_string().as_bytes(),
            Value::Object(claims.clone()).to_string().as_bytes(),
        )
    }

    /// Signs header and payload exactly as given, sound or not.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn sign_bytes(&self, header: &[u8], payload: &[u8]) -> Result<String, KeySetError> {
        let input = format!("{}.{}", encode_base64url(header), encode_base64url(payload));
        let signature = self
            .signature(input.as_bytes())
            .ok_or_else(|| KeySetError::new("signing_failed", format!("signing with {} failed", self.algorithm)))?;
        Ok(format!("{input}.{}", encode_base64url(signature)))
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = rand::SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(self.algorithm), &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ec(pair) => pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec()),
            Signer::Ed(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Signer::Hmac(secret) => {
                let hash = match self.algorithm {
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA256,
                };
                Some(hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The JWK itself, or the one private key (or secret) of a set.
fn only_private_key(mut document: Map<String, Value>) -> Result<Map<String, Value>, KeySetError> {
    let is_private = |jwk: &Map<String, Value>| jwk.contains_key("d") || jwk.contains_key("k");
    let Some(keys) = document.remove("keys") else {
        if is_private(&document) {
            return Ok(document);
        }
        return Err(KeySetError::new("not_a_private_key", "the key is public; signing needs the private key"));
    };
    let Value::Array(keys) = keys else {
        return Err(KeySetError::new("not_a_key", "`keys` is not an array"));
    };
    let mut private = keys.into_iter().filter_map(|key| match key {
        Value::Object(jwk) if is_private(&jwk) => Some(jwk),
        _ => None,
    });
    match (private.next(), private.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(KeySetError::new("not_a_private_key", "the set has no private key")),
        (Some(_), Some(_)) => {
            Err(KeySetError::new("several_private_keys", "the set has several private keys; keep one in the file"))
        }
    }
}

/// `alg`, or the usual algorithm of the type. The key has already passed admission.
fn algorithm_of(jwk: &Map<String, Value>) -> Result<Algorithm, KeySetError> {
    let usual = match (text(jwk, "kty"), text(jwk, "crv")) {
        (Some("RSA"), _) => Algorithm::RS256,
        (_, Some("P-256")) => Algorithm::ES256,
        (_, Some("P-384")) => Algorithm::ES384,
        (_, Some("P-521")) => Algorithm::ES512,
        (_, Some("Ed25519")) => Algorithm::EdDSA,
        _ => Algorithm::HS256,
    };
    match text(jwk, "alg") {
        None | Some("ES521") => Ok(usual),
        Some(name) => name.parse().map_err(|_| inconsistent()),
    }
}

fn signer_from_jwk(jwk: &Map<String, Value>, algorithm: Algorithm) -> Option<Signer> {
    let bytes = |member: &str| decode_base64url(text(jwk, member)?);
    let number = |member: &str| {
        let number: Vec<u8> = bytes(member)?.into_iter().skip_while(|byte| *byte == 0).collect();
        Some(number)
    };
    match algorithm.family() {
        Family::Rsa => {
            let components = KeyPairComponents {
                public_key: RsaPublicKeyComponents { n: number("n")?, e: number("e")? },
                d: number("d")?,
                p: number("p")?,
                q: number("q")?,
                dP: number("dp")?,
                dQ: number("dq")?,
                qInv: number("qi")?,
            };
            RsaKeyPair::from_components(&components).ok().map(Signer::Rsa)
        }
        Family::EllipticCurve => {
            let point = [vec![4], bytes("x")?, bytes("y")?].concat();
            EcdsaKeyPair::from_private_key_and_public_key(ecdsa(algorithm), &bytes("d")?, &point).ok().map(Signer::Ec)
        }
        Family::Edwards => {
            let seed: [u8; 32] = bytes("d")?.try_into().ok()?;
            Ed25519KeyPair::from_seed_and_public_key(&seed, &bytes("x")?).ok().map(Signer::Ed)
        }
        Family::Hmac => bytes("k").map(Signer::Hmac),
    }
}

fn signer_from_der(der: &[u8]) -> Option<(Algorithm, Signer, Map<String, Value>)> {
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
        let public = rsa_public(&pair)?;
        return Some((Algorithm::RS256, Signer::Rsa(pair), public));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
        let public = ed_public(&pair);
        return Some((Algorithm::EdDSA, Signer::Ed(pair), public));
    }
    [Algorithm::ES256, Algorithm::ES384, Algorithm::ES512].into_iter().find_map(|algorithm| {
        let pair = EcdsaKeyPair::from_private_key_der(ecdsa(algorithm), der).ok()?;
        let public = ec_public(algorithm, &pair);
        Some((algorithm, Signer::Ec(pair), public))
    })
}

/// The bytes between the first pair of PEM lines that hold a private key. OpenSSL writes `EC PARAMETERS` before it.
fn pem_body(pem: &str) -> Result<Vec<u8>, KeySetError> {
    let not_pem = || KeySetError::new("not_a_pem_key", "expected a PEM file with one unencrypted private key");
    let is_begin = |line: &&str| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY-----");
    let mut lines = pem.lines().map(str::trim).skip_while(|line| !is_begin(line));
    lines.next().ok_or_else(not_pem)?;
    let body: String = lines.take_while(|line| !line.starts_with("-----END ")).collect();
    STANDARD.decode(body).map_err(|_| not_pem())
}

/// The members of a private JWK that are public.
fn public_part(jwk: &Map<String, Value>) -> Map<String, Value> {
    let is_public = |name: &str| matches!(name, "kty" | "crv" | "x" | "y" | "n" | "e");
    jwk.iter().filter(|(name, _)| is_public(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn rsa_public(pair: &RsaKeyPair) -> Option<Map<String, Value>> {
    let key = jsonwebtoken::DecodingKey::from_rsa_der(pair.public_key().as_ref());
    super::signature::install_provider();
    let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, None).ok()?;
    match jwk.algorithm {
        jsonwebtoken::jwk::AlgorithmParameters::RSA(rsa) => {
            Some(object(json!({ "kty": "RSA", "n": rsa.n, "e": rsa.e })))
        }
        _ => None,
    }
}

fn ec_public(algorithm: Algorithm, pair: &EcdsaKeyPair) -> Map<String, Value> {
    let curve = match algorithm {
        Algorithm::ES256 => "P-256",
        Algorithm::ES384 => "P-384",
        _ => "P-521",
    };
    // An uncompressed point: one octet 4, then x and y of equal length.
    let coordinates: Vec<u8> = pair.public_key().as_ref().iter().copied().skip(1).collect();
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    object(json!({ "kty": "EC", "crv": curve, "x": encode_base64url(x), "y": encode_base64url(y) }))
}

fn ed_public(pair: &Ed25519KeyPair) -> Map<String, Value> {
    object(json!({ "kty": "OKP", "crv": "Ed25519", "x": encode_base64url(pair.public_key()) }))
}

fn ecdsa(algorithm: Algorithm) -> &'static EcdsaSigningAlgorithm {
    match algorithm {
        Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        Algorithm::ES512 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS384 => &RSA_PKCS1_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_SHA512,
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::PS384 => &RSA_PSS_SHA384,
        Algorithm::PS512 => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, member: &str) -> Option<&'j str> {
    jwk.get(member).and_then(Value::as_str)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn inconsistent() -> KeySetError {
    KeySetError::new(
        "inconsistent_key",
        "the private members of the key are missing or do not belong to its public ones",
    )
}

fn no_randomness() -> KeySetError {
    KeySetError::new("no_randomness", "the key could not be generated")
}
