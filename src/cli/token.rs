//! `claimgate token`: says of one token what the gate would say, step by step; decodes one without trusting it; makes
//! development tokens and keys. What it prints is for the operator at the terminal: it repeats claims, and never keys.

mod lint;
mod mint;
mod sender;

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Exit, output, run, settings};
use crate::{
    reload, shutdown,
    snapshot::Snapshot,
    token::{self, Algorithm, KeyOrigin, KeySet, RawToken, Revocations as _, UnixTime, VerifiedClaims},
};

/// A token file longer than this holds no token.
const LONGEST_TOKEN: u64 = 2 << 20;
/// Neither does a key file hold keys.
const LONGEST_FILE: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  # make a key, publish its public part, sign a token
  claimgate token keygen > key.json
  claimgate token mint --key key.json --public > jwks.json
  claimgate token mint --key key.json --claim iss=https://idp.example \\
    --claim aud=folders --claim sub=alice > token.txt

  # would the gate accept it, and if not, which step refuses it?
  claimgate token verify -c claimgate.yaml - < token.txt

  # only the signature, whatever the payload
  claimgate token verify --keys jwks.json --signature-only - < token.txt

  # what does it say? (nothing is verified)
  claimgate token inspect - < token.txt

  # does it carry permissions, personal data, too much?
  claimgate token lint - < token.txt

Exit codes: 0 done or verified, 1 the token was refused or objected to,
2 wrong usage, configuration or key file";

const VERIFY_EXAMPLES: &str = "\
Examples:
  claimgate token verify -c claimgate.yaml - < token.txt
  claimgate token verify --keys jwks.json --signature-only - < token.txt

  # a token that is bound to a key: is this the proof for it?
  claimgate token verify -c claimgate.yaml --dpop-proof $PROOF \\
    --method GET --url https://api.example.com/folders/f-1 - < token.txt

The steps go to stderr, the verified and projected claims to stdout. Policies
and data are not loaded.

Exit codes: 0 verified, 1 the token was refused or `--keys` has no usable key,
2 wrong usage or configuration, or a file cannot be read";

const INSPECT_EXAMPLES: &str = "\
Examples:
  claimgate token inspect - < token.txt
  claimgate token inspect - < token.txt | jq .claims

Exit codes: 0 decoded, 1 not a readable token, 2 wrong usage";

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify a token as the gate would, and tell each step
    Verify(VerifyArgs),
    /// Decode a token without verifying anything
    Inspect(InspectArgs),
    /// Say what is unwise about a token, and what to do instead
    Lint(lint::LintArgs),
    /// Sign a development token
    Mint(mint::MintArgs),
    /// Make a private key for development tokens
    Keygen(mint::KeygenArgs),
}

#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
struct VerifyArgs {
    #[command(flatten)]
    settings: settings::SettingsArgs,
    /// Key file for `--signature-only`: a JWKS or one JWK; secrets and private keys are accepted
    #[arg(long, value_name = "JWKS", requires = "signature_only")]
    keys: Option<PathBuf>,
    /// Check only the signature, with `--keys`; no issuer, time or audience, and any payload
    #[arg(long, requires = "keys")]
    signature_only: bool,
    /// Accept only this algorithm, with `--signature-only`; may be repeated
    #[arg(long = "alg", value_name = "ALG", requires = "signature_only")]
    algorithms: Vec<Algorithm>,
    #[command(flatten)]
    sender: sender::SenderArgs,
    /// The token, or `-` for stdin
    #[arg(default_value = "-")]
    token: String,
}

#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
struct InspectArgs {
    /// The token, or `-` for stdin
    #[arg(default_value = "-")]
    token: String,
}

pub(super) fn run(args: &TokenArgs) -> ExitCode {
    let result = match &args.verb {
        Verb::Verify(args) => verify(args),
        Verb::Inspect(args) => inspect(args),
        Verb::Lint(args) => lint::lint(args),
        Verb::Mint(args) => mint::mint(args),
        Verb::Keygen(args) => mint::keygen(args),
    };
    result.unwrap_or_else(|message| {
        output::complain(&message);
        Exit::Usage.into()
    })
}

fn verify(args: &VerifyArgs) -> Result<ExitCode, String> {
    match &args.keys {
        Some(keys) => verify_signature(keys, &args.algorithms, &read_token(&args.token)?),
        None => verify_wholly(args),
    }
}

fn verify_signature(file: &Path, algorithms: &[Algorithm], raw: &RawToken) -> Result<ExitCode, String> {
    let allowed = if algorithms.is_empty() { &Algorithm::ALL[..] } else { algorithms };
    let keys = match KeySet::parse(&read_file(file)?, KeyOrigin::Local, allowed) {
        Ok(keys) => keys,
        // No key, no good signature: this is an answer about the token too, and the same one for every token.
        Err(error) => {
            output::complain(&format!("{}: {error}", file.display()));
            return Ok(Exit::Failed.into());
        }
    };
    for key in keys.dropped() {
        let name = key.kid.as_deref().unwrap_or("without `kid`").escape_default();
        output::note(&format!("note: key {} ({name}) is not used: {}", key.index, key.reason));
    }
    match token::verify_signature_only(raw, &keys, Some(allowed)) {
        Ok(()) => Ok(output::finish("ok: the signature verifies; nothing else was looked at\n")),
        Err(error) => {
            output::complain(&format!("refused at step {}: {}: {error}", error.step(), error.code()));
            Ok(Exit::Failed.into())
        }
    }
}

fn verify_wholly(args: &VerifyArgs) -> Result<ExitCode, String> {
    let settings = match settings::load(&args.settings.origin(Vec::new())) {
        Ok(settings) => settings,
        Err(problems) => {
            output::complain_of(&problems, "nothing was verified");
            return Ok(Exit::Usage.into());
        }
    };
    let raw = read_token(&args.token)?;
    let snapshot = match load(settings.reload)? {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(run::line).collect();
            output::complain_of(&lines, "nothing was verified");
            return Ok(Exit::Usage.into());
        }
    };
    let now = now()?;
    let (passed, result) = token::verify_explained(&raw, &snapshot.profiles, &snapshot.keys, now);
    for step in &passed {
        output::note(&format!("passed {:<10} {}", step.step, step.detail));
    }
    match result {
        Ok(claims) => {
            let profile = snapshot.profiles.get(claims.issuer()).ok_or("the issuer has no profile")?;
            match sender::check(&args.sender, &settings.serve.sender, profile, (&raw, &claims), now)? {
                true if is_revoked(&snapshot, &claims, now) => Ok(Exit::Failed.into()),
                true => Ok(output::finish(&pretty(&shown(&claims)))),
                false => Ok(Exit::Failed.into()),
            }
        }
        Err(error) => {
            output::note(&format!("FAILED {:<10} {}: {error}", error.step(), error.code()));
            for step in token::STEPS.iter().skip(passed.len().saturating_add(1)).chain([&sender::STEP]) {
                output::note(&format!("       {step:<10} not reached"));
            }
            Ok(Exit::Failed.into())
        }
    }
}

/// Does the revocation file take it back? What was posted is known to the running program only.
fn is_revoked(snapshot: &Snapshot, claims: &VerifiedClaims, now: UnixTime) -> bool {
    let entries = snapshot.revocations.len();
    let hit = snapshot.revocations.find(claims, now);
    match &hit {
        Some(revoked) => output::note(&format!("FAILED revocation {}: {revoked}", revoked.kind.code())),
        None if entries > 0 => output::note(&format!(
            "passed revocation none of the {entries} entries of `revocation.file` hits it; those that were posted are \
             with the running program"
        )),
        None => {}
    }
    hit.is_some()
}

/// Profiles and keys as `run` would have them. Policies and data are left out: they say nothing about a token.
fn load(mut settings: reload::Settings) -> Result<Result<Arc<Snapshot>, Vec<crate::snapshot::Problem>>, String> {
    settings.bundles.clear();
    settings.data.clear();
    settings.entrypoint = None;
    settings.watch.events = false;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot be started: {error}"))?;
    Ok(runtime.block_on(async {
        let (_trigger, signal) = shutdown::channel();
        let (handle, _task) = reload::start(settings, None, Arc::new(Notify::new()), signal).await?;
        for (issuer, health) in &handle.health().keys {
            if let Some(error) = &health.last_error {
                output::note(&format!("note: keys of {issuer}: {error}"));
            }
        }
        Ok(handle.current())
    }))
}

/// The verified claims as policy sees them.
fn shown(claims: &VerifiedClaims) -> Value {
    json!({
        "issuer": claims.issuer(),
        "subject": claims.subject(),
        "audience": claims.audience(),
        "scopes": claims.scopes(),
        "id": claims.id(),
        "issued_at": claims.issued_at(),
        "expires_at": claims.expires_at(),
        "key_id": claims.key_id(),
        "claims": claims.claims(),
    })
}

fn inspect(args: &InspectArgs) -> Result<ExitCode, String> {
    match token::inspect(&read_token(&args.token)?) {
        Ok(seen) => {
            output::note("note: nothing was verified; anybody can have written this");
            let document =
                json!({ "header": seen.header, "claims": seen.claims, "signature_bytes": seen.signature_bytes });
            Ok(output::finish(&pretty(&document)))
        }
        Err(error) => {
            output::complain(&format!("not a readable token: {}: {error}", error.code()));
            Ok(Exit::Failed.into())
        }
    }
}

fn pretty(document: &Value) -> String {
    let mut text = format!("{document:#}");
    let _ = writeln!(text);
    text
}

/// The argument itself, or stdin without the line end that `echo` and editors leave.
fn read_token(argument: &str) -> Result<RawToken, String> {
    if argument != "-" {
        return Ok(RawToken::new(argument));
    }
    let bytes = read_bounded(io::stdin().lock(), LONGEST_TOKEN)
        .map_err(|error| format!("stdin: {}", reload::describe_io(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| "stdin is not text, so it holds no token".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        output::note("note: stdin is empty; send the token there (`- < token.txt`), or give it as the argument");
    }
    Ok(RawToken::new(text))
}

fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let read = File::open(file).and_then(|opened| read_bounded(opened, LONGEST_FILE));
    read.map_err(|error| format!("{}: cannot be read: {}", file.display(), reload::describe_io(&error)))
}

fn read_bounded(source: impl Read, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= longest) {
        return Ok(bytes);
    }
    Err(io::Error::other(format!("longer than {longest} bytes")))
}

fn now() -> Result<UnixTime, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock stands before 1970".to_owned())?;
    Ok(UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}
