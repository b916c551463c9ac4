//! `crypto.x509.parse_and_verify_certificates` and the same with options: the chain from the last certificate to the
//! first, through those between, by the rules of Go's `Verify`. Revocation is not looked at. Certificates with name or
//! policy constraints end the evaluation: they cannot be checked, and no answer would be safe.

use std::net::IpAddr;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use regorus::{Value, value::Object};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension};

use super::super::super::{builtins::BuiltinError, guard};
use super::{
    Extensions, Outcome, certificate_value, certificates_of, failed, key_algorithm, numbers::signature_algorithm,
    operand, without_uri_strings,
};

/// Most signatures looked at, as in Go.
const MOST_CHECKS: usize = 100;
const SERVER_AUTH: u32 = 1;
/// Server-gated cryptography stands for servers.
const SERVER_GATED: [u32; 2] = [10, 11];
const ANY: u32 = 0;
const CERT_SIGN: u16 = 1 << 5;

const USAGES: [&str; 14] = [
    "KeyUsageAny",
    "KeyUsageServerAuth",
    "KeyUsageClientAuth",
    "KeyUsageCodeSigning",
    "KeyUsageEmailProtection",
    "KeyUsageIPSECEndSystem",
    "KeyUsageIPSECTunnel",
    "KeyUsageIPSECUser",
    "KeyUsageTimeStamping",
    "KeyUsageOCSPSigning",
    "KeyUsageMicrosoftServerGatedCrypto",
    "KeyUsageNetscapeServerGatedCrypto",
    "KeyUsageMicrosoftCommercialCodeSigning",
    "KeyUsageMicrosoftKernelCodeSigning",
];

/// What to verify beside the signatures.
#[derive(Debug, Default)]
struct Options {
    name: String,
    /// Nanoseconds since 1970; `None`: the evaluation's time.
    time: Option<i64>,
    usages: Vec<u32>,
}

struct Certificate<'a> {
    raw: &'a [u8],
    parsed: X509Certificate<'a>,
    extensions: Extensions,
}

/// What a search for chains knows.
struct Search<'c, 'a> {
    root: &'c Certificate<'a>,
    intermediates: &'c [Certificate<'a>],
    now: i128,
    usages: &'c [u32],
    checks: usize,
}

pub(in super::super) fn parse_and_verify(args: &[Value]) -> Outcome {
    let text = operand::string(args, 0)?;
    verified(text, &Options::default(), false)
}

pub(in super::super) fn parse_and_verify_with_options(args: &[Value]) -> Outcome {
    let text = operand::string(args, 0)?;
    let options = operand::object(args, 1)?;
    // Certificates that do not parse are an answer, and looked at first.
    let options = Options::read(options);
    match &options {
        Ok(options) => verified(text, options, true),
        Err(_) if certificates_of(text).is_err() => Ok(unverified()),
        Err(error) => Err(error.clone()),
    }
}

fn unverified() -> Value {
    Value::from(vec![Value::from(false), Value::from(Vec::new())])
}

fn verified(text: &str, options: &Options, plain: bool) -> Outcome {
    let Ok(ders) = certificates_of(text) else { return Ok(unverified()) };
    let Some(certificates) = parse_all(&ders)? else { return Ok(unverified()) };
    let now = match options.time {
        Some(time) => i128::from(time),
        None => i128::from(guard::now_ns()?),
    };
    let [root, intermediates @ .., leaf] = certificates.as_slice() else { return Ok(unverified()) };
    let usages = if options.usages.is_empty() { &[SERVER_AUTH][..] } else { &options.usages };
    let mut search = Search { root, intermediates, now, usages, checks: 0 };
    if !search.is_valid(leaf, false, &[]) || !options.name.is_empty() && !leaf.is_for(&options.name) {
        return Ok(unverified());
    }
    let chain = if leaf.raw == root.raw {
        Some(vec![leaf]).filter(|chain| search.may_be_used(chain))
    } else {
        search.chain(&mut vec![leaf])
    };
    let Some(chain) = chain else { return Ok(unverified()) };
    let values = chain.into_iter().map(|certificate| {
        let value = certificate_value(certificate.raw, &certificate.parsed)?;
        Ok(if plain { without_uri_strings(value) } else { value })
    });
    Ok(Value::from(vec![Value::from(true), Value::from(values.collect::<Result<Vec<_>, BuiltinError>>()?)]))
}

/// `None` when one of them is none.
fn parse_all(ders: &[u8]) -> Result<Option<Vec<Certificate<'_>>>, BuiltinError> {
    let mut all = Vec::new();
    let mut rest = ders;
    while !rest.is_empty() {
        let Some((raw, parsed, after)) = super::certificate(rest) else { return Ok(None) };
        let constrained = |parsed: &ParsedExtension<'_>| {
            matches!(
                parsed,
                ParsedExtension::NameConstraints(_)
                    | ParsedExtension::PolicyMappings(_)
                    | ParsedExtension::PolicyConstraints(_)
                    | ParsedExtension::InhibitAnyPolicy(_)
            )
        };
        if parsed.extensions().iter().any(|extension| constrained(extension.parsed_extension())) {
            let message = "certificates with name or policy constraints are not supported";
            return Err(BuiltinError::Limit(message.to_owned()));
        }
        let Ok(extensions) = Extensions::read(parsed.extensions()) else { return Ok(None) };
        if parsed.signature_algorithm != parsed.tbs_certificate.signature || certificate_value(raw, &parsed).is_err() {
            return Ok(None);
        }
        all.push(Certificate { raw, parsed, extensions });
        rest = after;
    }
    Ok(Some(all))
}

// === impl Options ===

impl Options {
    fn read(options: &Object) -> Result<Self, BuiltinError> {
        let mut all = Self::default();
        let mut names: Vec<(&str, &Value)> =
            options.iter().filter_map(|(name, value)| Some((name.as_string().ok()?.as_ref(), value))).collect();
        names.sort_by_key(|(name, _)| *name);
        for (name, value) in names {
            match (name, value) {
                ("DNSName", Value::String(name)) => all.name = name.trim_matches('"').to_owned(),
                ("DNSName", _) => return Err(failed("'DNSName' should be a string")),
                ("CurrentTime", Value::Number(_)) => {
                    let time = super::super::super::json::to_opa_json(value).parse();
                    all.time = Some(time.map_err(|_| failed("'CurrentTime' should be a valid int64 number"))?);
                }
                ("CurrentTime", _) => return Err(failed("'CurrentTime' should be a number")),
                // What it bounds is not checked.
                ("MaxConstraintComparisons", Value::Number(_)) => {
                    let most = super::super::super::json::to_opa_json(value).parse::<i64>();
                    most.map_err(|_| failed("'MaxConstraintComparisons' should be a valid number"))?;
                }
                ("MaxConstraintComparisons", _) => {
                    return Err(failed("'MaxConstraintComparisons' should be a number"));
                }
                ("KeyUsages", usages) => {
                    let usages = operand::elements(usages);
                    let usages = usages.ok_or_else(|| failed("'KeyUsages' should be an Array or Set"))?;
                    let mut wrong = Vec::new();
                    for usage in usages.into_iter().filter_map(|usage| usage.as_string().ok()) {
                        let usage = usage.trim_matches('"');
                        match USAGES.iter().zip(0..).find(|(name, _)| **name == usage) {
                            Some((_, number)) => all.usages.push(number),
                            None => wrong.push(usage),
                        }
                    }
                    if !wrong.is_empty() {
                        let wrong = wrong.join(" ");
                        return Err(failed(format!("invalid entries for 'KeyUsages' found: [{wrong}]")));
                    }
                }
                _ => return Err(failed("invalid key option")),
            }
        }
        Ok(all)
    }
}

// === impl Search ===

impl<'c, 'a> Search<'c, 'a> {
    /// The first way from the last of `before` to the root that may be used as asked.
    fn chain(&mut self, before: &mut Vec<&'c Certificate<'a>>) -> Option<Vec<&'c Certificate<'a>>> {
        let child = *before.last()?;
        let root = self.root;
        if self.is_parent(root, child, true, before) {
            let chain: Vec<_> = before.iter().copied().chain([root]).collect();
            if self.may_be_used(&chain) {
                return Some(chain);
            }
        }
        for parent in child.by_key(self.intermediates) {
            if self.is_parent(parent, child, false, before) {
                before.push(parent);
                let found = self.chain(before);
                before.pop();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    fn is_parent(
        &mut self,
        parent: &'c Certificate<'a>,
        child: &Certificate<'a>,
        is_root: bool,
        before: &[&'c Certificate<'a>],
    ) -> bool {
        if parent.parsed.subject().as_raw() != child.parsed.issuer().as_raw()
            || before.iter().any(|other| other.is_same(parent))
            || self.checks >= MOST_CHECKS
        {
            return false;
        }
        self.checks += 1;
        parent.signed(child) && self.is_valid(parent, !is_root, before)
    }

    /// Is a certificate good by itself, behind those that come before it?
    fn is_valid(&self, certificate: &Certificate<'_>, intermediate: bool, before: &[&Certificate<'_>]) -> bool {
        let nanoseconds = |seconds: i64| i128::from(seconds) * 1_000_000_000;
        let validity = certificate.parsed.validity();
        let constraints = certificate.extensions.constraints;
        certificate.extensions.unhandled.is_empty()
            && self.now >= nanoseconds(validity.not_before.timestamp())
            && self.now <= nanoseconds(validity.not_after.timestamp())
            && (!intermediate || constraints.is_some_and(|(is_ca, _)| is_ca))
            && constraints.and_then(|(_, most)| most).is_none_or(|most| {
                let between = before.len().saturating_sub(1);
                u32::try_from(between).is_ok_and(|between| between <= most)
            })
    }

    /// Does every certificate of the chain allow one of the usages?
    fn may_be_used(&self, chain: &[&Certificate<'_>]) -> bool {
        if self.usages.contains(&ANY) {
            return true;
        }
        let mut left = self.usages.to_vec();
        for extensions in chain.iter().rev().map(|certificate| &certificate.extensions) {
            let own = &extensions.usages;
            if own.is_empty() && extensions.unknown_usages.is_empty() || own.contains(&ANY) {
                continue;
            }
            left.retain(|usage| {
                own.contains(usage) || *usage == SERVER_AUTH && own.iter().any(|own| SERVER_GATED.contains(own))
            });
        }
        !left.is_empty()
    }
}

// === impl Certificate ===

impl<'a> Certificate<'a> {
    /// Those that may be the issuer, those first whose key the certificate names.
    fn by_key<'c>(&self, all: &'c [Certificate<'a>]) -> Vec<&'c Certificate<'a>> {
        let rank = |other: &Certificate<'_>| match (&self.extensions.authority_key, &other.extensions.subject_key) {
            (Some(want), Some(own)) if want == own => 0,
            (Some(_), Some(_)) => 2,
            _ => 1,
        };
        let mut found: Vec<&Certificate<'a>> = all.iter().collect();
        found.sort_by_key(|other| rank(other));
        found
    }

    /// The same subject, key and alternative names?
    fn is_same(&self, other: &Self) -> bool {
        let names = |of: &Self| {
            let names = &of.extensions.names;
            (names.dns.clone(), names.email.clone(), names.uris.clone(), names.addresses.clone())
        };
        self.parsed.subject().as_raw() == other.parsed.subject().as_raw()
            && self.parsed.public_key().raw == other.parsed.public_key().raw
            && names(self) == names(other)
    }

    /// Did this one sign the other, and may it?
    fn signed(&self, child: &Self) -> bool {
        let may = match (self.parsed.version().0, self.extensions.constraints) {
            (2, None) => false,
            (_, constraints) => constraints.is_none_or(|(is_ca, _)| is_ca),
        };
        let usage = self.extensions.key_usage;
        let key = self.parsed.public_key();
        may && (usage == 0 || usage & CERT_SIGN != 0)
            && self.algorithm(child).is_some_and(|algorithm| {
                let (text, signature) = (child.parsed.tbs_certificate.as_ref(), &child.parsed.signature_value.data);
                UnparsedPublicKey::new(algorithm, &key.subject_public_key.data).verify(text, signature).is_ok()
            })
    }

    /// The algorithm of the other's signature, when this one's key fits it. SHA-1 and MD5 are refused, as in Go.
    fn algorithm(&self, child: &Self) -> Option<&'static dyn VerificationAlgorithm> {
        let key = self.parsed.public_key();
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let number = signature_algorithm(&child.parsed.signature_algorithm);
        Some(match (key_algorithm(key), curve.as_str(), number) {
            (1, _, 4) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            (1, _, 5) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (1, _, 6) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            (1, _, 13) => &signature::RSA_PSS_2048_8192_SHA256,
            (1, _, 14) => &signature::RSA_PSS_2048_8192_SHA384,
            (1, _, 15) => &signature::RSA_PSS_2048_8192_SHA512,
            (3, "1.2.840.10045.3.1.7", 10) => &signature::ECDSA_P256_SHA256_ASN1,
            (3, "1.2.840.10045.3.1.7", 11) => &signature::ECDSA_P256_SHA384_ASN1,
            (3, "1.2.840.10045.3.1.7", 12) => &signature::ECDSA_P256_SHA512_ASN1,
            (3, "1.3.132.0.34", 10) => &signature::ECDSA_P384_SHA256_ASN1,
            (3, "1.3.132.0.34", 11) => &signature::ECDSA_P384_SHA384_ASN1,
            (3, "1.3.132.0.34", 12) => &signature::ECDSA_P384_SHA512_ASN1,
            (3, "1.3.132.0.35", 10) => &signature::ECDSA_P521_SHA256_ASN1,
            (3, "1.3.132.0.35", 11) => &signature::ECDSA_P521_SHA384_ASN1,
            (3, "1.3.132.0.35", 12) => &signature::ECDSA_P521_SHA512_ASN1,
            (4, _, 16) => &signature::ED25519,
            _ => return None,
        })
    }

    /// Is the certificate for this host?
    fn is_for(&self, host: &str) -> bool {
        let names = &self.extensions.names;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = inner.parse::<IpAddr>() {
            let canonical = address.to_canonical();
            return names
                .addresses
                .iter()
                .any(|own| own.parse().is_ok_and(|own: IpAddr| own.to_canonical() == canonical));
        }
        let host = host.to_ascii_lowercase();
        let valid = is_host(&host, false);
        names.dns.iter().any(|pattern| {
            let pattern = pattern.to_ascii_lowercase();
            if !valid || !is_host(&pattern, true) {
                return pattern == host && !host.is_empty() && host != ".";
            }
            let host = host.strip_suffix('.').unwrap_or(&host);
            let labels = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
            let (pattern, host) = (labels(&pattern), labels(host));
            let same = |(index, (own, other)): (usize, (&String, &String))| own == other || index == 0 && own == "*";
            pattern.len() == host.len() && pattern.iter().zip(&host).enumerate().all(same)
        })
    }
}

/// Letters, digits, `-` within and `_`; a pattern may have `*` as its first label, a host a dot at its end.
fn is_host(name: &str, pattern: bool) -> bool {
    let name = if pattern { name } else { name.strip_suffix('.').unwrap_or(name) };
    !name.is_empty()
        && name != "*"
        && name.split('.').enumerate().all(|(index, label)| {
            let byte = |(at, byte): (usize, u8)| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' && at > 0;
            pattern && index == 0 && label == "*" || !label.is_empty() && label.bytes().enumerate().all(byte)
        })
}
