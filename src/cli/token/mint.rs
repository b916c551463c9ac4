//! `token mint` and `token keygen`: tokens and keys for development and tests. The gate itself never signs.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{now, output, read_file};
use crate::token::{Algorithm, SigningKey};

const MINT_EXAMPLES: &str = "\
Examples:
  claimgate token keygen > key.json
  claimgate token mint --key key.json --public > jwks.json
  claimgate token mint --key key.json --claim iss=https://idp.example \\
    --claim aud=folders --claim sub=maria --claim org_id=acme > token.txt

  # one that has expired
  claimgate token mint --key key.json --ttl -60 --claim iss=https://idp.example \\
    --claim aud=folders --claim sub=maria

Exit codes: 0 done, 2 wrong usage, claims or key file";

const KEYGEN_EXAMPLES: &str = "\
Examples:
  claimgate token keygen > key.json
  claimgate token keygen --alg EdDSA --kid dev-2 > key.json

The key is a private JWK and goes to stdout; keep the file to yourself.

Exit codes: 0 done, 2 wrong usage";

#[derive(Debug, Args)]
#[command(after_help = MINT_EXAMPLES)]
pub(super) struct MintArgs {
    /// Private key to sign with: a JWK, a JWKS with one private key, or PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A claim; the value is JSON if it reads as JSON, else a string; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = read_claim)]
    claims: Vec<(String, Value)>,
    /// A JSON object with claims; `--claim` wins over it
    #[arg(long, value_name = "FILE")]
    claims_file: Option<PathBuf>,
    /// `typ` of the header
    #[arg(long, default_value = "at+jwt")]
    typ: String,
    /// Seconds until it expires; `exp`, `iat` and `jti` are added where no claim gives them
    #[arg(long, value_name = "SECONDS", default_value_t = 300, allow_negative_numbers = true)]
    ttl: i64,
    /// Algorithm, where the key can be used with several
    #[arg(long, value_name = "ALG")]
    alg: Option<Algorithm>,
    /// `kid` of the header, instead of the key's
    #[arg(long)]
    kid: Option<String>,
    /// Print the public JWKS of the key instead of a token
    #[arg(long)]
    public: bool,
}

#[derive(Debug, Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub(super) struct KeygenArgs {
    /// Algorithm: ES256, ES384, ES512, EdDSA, HS256, HS384 or HS512
    #[arg(long, value_name = "ALG", default_value = "ES256")]
    alg: Algorithm,
    /// The key's `kid`
    #[arg(long, default_value = "dev")]
    kid: String,
}

pub(super) fn mint(args: &MintArgs) -> Result<ExitCode, String> {
    let key = read_key(args)?;
    if args.public {
        return key.public_jwks().map(|jwks| output::finish(&format!("{jwks}\n"))).map_err(|error| error.to_string());
    }
    let mut claims = match &args.claims_file {
        Some(file) => serde_json::from_slice(&read_file(file)?)
            .map_err(|error| format!("{}: not a JSON object with claims: {error}", file.display()))?,
        None => Map::new(),
    };
    claims.extend(args.claims.iter().cloned());
    let issued_at = now()?.0;
    claims.entry("iat").or_insert_with(|| issued_at.into());
    claims.entry("exp").or_insert_with(|| issued_at.saturating_add(args.ttl).into());
    claims.entry("jti").or_insert_with(|| Uuid::new_v4().to_string().into());
    let token = key.sign(&args.typ, &claims).map_err(|error| error.to_string())?;
    Ok(output::finish(&format!("{token}\n")))
}

pub(super) fn keygen(args: &KeygenArgs) -> Result<ExitCode, String> {
    let jwk = SigningKey::generate_jwk(args.alg, &args.kid).map_err(|error| error.to_string())?;
    Ok(output::finish(&format!("{jwk}\n")))
}

fn read_key(args: &MintArgs) -> Result<SigningKey, String> {
    let bytes = read_file(&args.key)?;
    let in_file = |message: &dyn std::fmt::Display| format!("{}: {message}", args.key.display());
    let key = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN ") => SigningKey::from_pem(text),
        _ => SigningKey::from_jwk(&bytes),
    };
    let mut key = key.map_err(|error| in_file(&error))?;
    if let Some(algorithm) = args.alg {
        key = key.with_algorithm(algorithm).map_err(|error| in_file(&error))?;
    }
    Ok(match &args.kid {
        Some(kid) => key.with_key_id(kid.as_str()),
        None => key,
    })
}

fn read_claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.to_owned(), value))
        }
        _ => Err("write `NAME=VALUE`".to_owned()),
    }
}
