//! `token verify`'s last step: is the sender the token's holder? What the gate takes from a request stands in arguments
//! here. Whether a proof was used before, and whether its nonce is the gate's, only the running gate can tell.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;

use super::read_file;
use crate::{
    cli::output,
    serve::SenderSettings,
    token::{
        self, CertificateThumbprint, IssuerProfile, ProofTarget, RawToken, Scheme, Sent, SentProof, UnixTime,
        VerifiedClaims,
    },
};

/// What came with the token.
#[derive(Debug, Args)]
pub(super) struct SenderArgs {
    /// The `DPoP` header that came with the token; then its scheme was `DPoP`
    #[arg(long, value_name = "PROOF", requires = "url")]
    dpop_proof: Option<String>,
    /// The method of the client's request, for `--dpop-proof`
    #[arg(long, value_name = "METHOD", default_value = "GET", requires = "dpop_proof")]
    method: String,
    /// The URL of the client's request, for `--dpop-proof`
    #[arg(long, value_name = "URL", requires = "dpop_proof")]
    url: Option<String>,
    /// The client's certificate, in PEM or DER
    #[arg(long, value_name = "FILE")]
    client_certificate: Option<PathBuf>,
}

/// The name of the step.
pub(super) const STEP: &str = "sender";

/// Tells of the step; `Ok(false)` when the gate would refuse the token.
pub(super) fn check(
    args: &SenderArgs,
    settings: &SenderSettings,
    profile: &IssuerProfile,
    (raw, claims): (&RawToken, &VerifiedClaims),
    now: UnixTime,
) -> Result<bool, String> {
    let proof = args.dpop_proof.as_deref().map(RawToken::new);
    let target = match &args.url {
        Some(url) => {
            Some(ProofTarget::of_url(&args.method, url).ok_or_else(|| format!("--url: `{url}` is not a web URL"))?)
        }
        None => None,
    };
    let sent = Sent {
        token: raw,
        scheme: if proof.is_some() { Scheme::Dpop } else { Scheme::Bearer },
        proof: proof.as_ref().map_or(SentProof::Missing, SentProof::One),
        target: target.as_ref(),
        certificate: Ok(args.client_certificate.as_deref().map(read_certificate).transpose()?),
    };
    match token::check_sender(claims, profile, &sent, &settings.proofs, None, now) {
        Ok(accepted) => {
            let detail = match (claims.confirmation(), accepted) {
                (None, _) => "the token is bound to nobody",
                (Some(_), None) => "the certificate is the one that the token is bound to",
                (Some(_), Some(_)) => {
                    "the proof is of the key that the token is bound to, and for this request; only the gate can tell \
                     whether it was used before, and whether its nonce is right"
                }
            };
            output::note(&format!("passed {STEP:<10} {detail}"));
            Ok(true)
        }
        Err(error) => {
            output::note(&format!("FAILED {STEP:<10} {}: {error}", error.code()));
            Ok(false)
        }
    }
}

fn read_certificate(file: &Path) -> Result<CertificateThumbprint, String> {
    let bytes = read_file(file)?;
    let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| text.contains("-----BEGIN")) else {
        return Ok(CertificateThumbprint::of_der(&bytes));
    };
    let body = text.split_once("-----BEGIN CERTIFICATE-----").and_then(|(_, rest)| rest.split_once("-----END"));
    let body: String = body.map(|(body, _)| body.split_ascii_whitespace().collect()).unwrap_or_default();
    match STANDARD.decode(body) {
        Ok(der) if !der.is_empty() => Ok(CertificateThumbprint::of_der(&der)),
        _ => Err(format!("{}: it holds no certificate in PEM", file.display())),
    }
}
