//! `crypto.x509.parse_certificates` and `crypto.x509.parse_certificate_request`: the members that Go's `crypto/x509`
//! types have as JSON. Chains are verified in [`verify`]. What cannot be told exactly as Go tells it (name constraints, policy mappings)
//! is an error, never left out.

mod numbers;
mod url;
mod verify;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat};
use regorus::Value;
use x509_parser::{
    certificate::X509Certificate,
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    der_parser::num_bigint::BigUint,
    extensions::{DistributionPointName, GeneralName, ParsedExtension, X509Extension},
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Name},
};

use self::numbers::{signature_algorithm, usage};
pub(super) use self::verify::{parse_and_verify, parse_and_verify_with_options};
use super::super::builtins::BuiltinError;
use super::{
    Outcome, go_base64,
    operand::{self, failed, record},
    pem,
};

const OCSP: &str = "1.3.6.1.5.5.7.48.1";
const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
const OID_TAG: u8 = 6;

/// Certificates in PEM, or in base64 of PEM or DER.
pub(super) fn parse_certificates(args: &[Value]) -> Outcome {
    let ders = certificates_of(operand::string(args, 0)?)?;
    let mut certificates = Vec::new();
    let mut rest = ders.as_slice();
    while !rest.is_empty() {
        let (raw, parsed, after) = certificate(rest).ok_or_else(|| failed("x509: malformed certificate"))?;
        certificates.push(certificate_value(raw, &parsed)?);
        rest = after;
    }
    Ok(Value::from(certificates))
}

/// The DER of certificates, one behind the other.
fn certificates_of(text: &str) -> Result<Vec<u8>, BuiltinError> {
    if text.starts_with("-----BEGIN") {
        return from_pem(text);
    }
    let bytes = go_base64::decode(text)?;
    match std::str::from_utf8(&bytes) {
        Ok(pem) if pem.starts_with("-----BEGIN") => from_pem(pem),
        _ => Ok(bytes),
    }
}

/// The first certificate, as it is and parsed, and what follows it.
fn certificate(ders: &[u8]) -> Option<(&[u8], X509Certificate<'_>, &[u8])> {
    let (after, certificate) = X509Certificate::from_der(ders).ok()?;
    Some((ders.get(..ders.len() - after.len())?, certificate, after))
}

/// One certificate of a pair, and its public key.
pub(super) fn leaf(der: &[u8]) -> Result<(Value, Value), BuiltinError> {
    let parsed = certificate(der).filter(|(_, _, rest)| rest.is_empty());
    let (raw, parsed, _) = parsed.ok_or_else(|| failed("x509: malformed certificate"))?;
    Ok((without_uri_strings(certificate_value(raw, &parsed)?), key_value(parsed.public_key())?))
}

/// Only some builtins of OPA add them to what Go has.
fn without_uri_strings(mut certificate: Value) -> Value {
    if let Ok(members) = certificate.as_object_mut() {
        members.remove(&Value::from("URIStrings"));
    }
    certificate
}

/// A certificate signing request in PEM, or in base64 of PEM or DER.
pub(super) fn parse_certificate_request(args: &[Value]) -> Outcome {
    let text = operand::string(args, 0)?;
    let mut der = if text.starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
        text.as_bytes().to_vec()
    } else {
        go_base64::decode(text)?
    };
    if let Some((block, _)) = std::str::from_utf8(&der).ok().and_then(pem::decode) {
        if block.label != "CERTIFICATE REQUEST" {
            return Err(failed("invalid PEM-encoded certificate signing request"));
        }
        der = block.der;
    }
    match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => request_value(&der, &request),
        Ok(_) => Err(failed("asn1: syntax error: trailing data")),
        Err(_) => Err(failed("asn1: structure error: malformed certificate request")),
    }
}

fn from_pem(mut text: &str) -> Result<Vec<u8>, BuiltinError> {
    let mut ders = Vec::new();
    while let Some((block, rest)) = pem::decode(text) {
        if block.label != "CERTIFICATE" {
            return Err(failed(format!("PEM block type is '{}', expected CERTIFICATE", block.label)));
        }
        ders.extend(block.der);
        text = rest;
    }
    Ok(ders)
}

// === certificates ===

/// What the extensions say.
#[derive(Default)]
struct Extensions {
    names: Names,
    authority_key: Option<Vec<u8>>,
    subject_key: Option<Vec<u8>>,
    constraints: Option<(bool, Option<u32>)>,
    key_usage: u16,
    usages: Vec<u32>,
    unknown_usages: Vec<Value>,
    policies: Vec<String>,
    revocation_lists: Vec<String>,
    ocsp: Vec<String>,
    issuers: Vec<String>,
    unhandled: Vec<Value>,
}

/// Alternative names.
#[derive(Default)]
struct Names {
    dns: Vec<String>,
    email: Vec<String>,
    uris: Vec<String>,
    addresses: Vec<String>,
}

// === impl Extensions ===

impl Extensions {
    fn read(extensions: &[X509Extension<'_>]) -> Result<Self, BuiltinError> {
        let mut all = Self::default();
        for extension in extensions {
            let oid = extension.oid.to_id_string();
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    all.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(id) => all.subject_key = Some(id.0.to_vec()),
                ParsedExtension::KeyUsage(usage) => all.key_usage = usage.flags,
                ParsedExtension::BasicConstraints(it) => all.constraints = Some((it.ca, it.path_len_constraint)),
                ParsedExtension::SubjectAlternativeName(names) => {
                    all.names = Names::read(&names.general_names)?;
                    if extension.critical && all.names.is_empty() {
                        all.unhandled.push(oid_value(&oid));
                    }
                }
                ParsedExtension::CertificatePolicies(policies) => {
                    all.policies.extend(policies.iter().map(|policy| policy.policy_id.to_id_string()));
                }
                ParsedExtension::ExtendedKeyUsage(_) => all.read_usages(extension.value),
                ParsedExtension::CRLDistributionPoints(points) => {
                    for point in points.iter() {
                        let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
                        all.revocation_lists.extend(names.iter().filter_map(uri));
                    }
                }
                ParsedExtension::AuthorityInfoAccess(access) => {
                    for description in access.iter() {
                        let Some(uri) = uri(&description.access_location) else { continue };
                        match description.access_method.to_id_string().as_str() {
                            OCSP => all.ocsp.push(uri),
                            CA_ISSUERS => all.issuers.push(uri),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::NameConstraints(_)
                | ParsedExtension::PolicyMappings(_)
                | ParsedExtension::PolicyConstraints(_)
                | ParsedExtension::InhibitAnyPolicy(_) => {
                    return Err(failed(format!("certificates with the extension {oid} are not supported")));
                }
                ParsedExtension::ParseError { .. } => return Err(failed("x509: malformed extension")),
                _ if extension.critical => all.unhandled.push(oid_value(&oid)),
                _ => {}
            }
        }
        Ok(all)
    }

    /// In the order of the certificate, which the parser does not keep.
    fn read_usages(&mut self, sequence: &[u8]) {
        let mut rest = tlv(sequence).map_or(&[][..], |(_, content, _)| content);
        while let Some((tag, content, after)) = tlv(rest) {
            rest = after;
            if tag != OID_TAG {
                continue;
            }
            let oid = x509_parser::der_parser::oid::Oid::new(content.into()).to_id_string();
            match usage(&oid) {
                Some(usage) => self.usages.push(usage),
                None => self.unknown_usages.push(oid_value(&oid)),
            }
        }
    }
}

// === impl Names ===

impl Names {
    fn read(names: &[GeneralName<'_>]) -> Result<Self, BuiltinError> {
        let mut all = Self::default();
        for name in names {
            match name {
                GeneralName::DNSName(name) => all.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => all.email.push((*name).to_owned()),
                GeneralName::URI(uri) => all.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(|b| std::net::IpAddr::from(b).to_string());
                    let v6 = || <[u8; 16]>::try_from(*bytes).map(|b| std::net::IpAddr::from(b).to_string());
                    let address = v4.or_else(|_| v6());
                    all.addresses.push(address.map_err(|_| failed("x509: cannot parse IP address"))?);
                }
                GeneralName::Invalid(..) => return Err(failed("x509: malformed alternative name")),
                _ => {}
            }
        }
        Ok(all)
    }

    fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.email.is_empty() && self.uris.is_empty() && self.addresses.is_empty()
    }

    fn url_values(&self) -> Result<Value, BuiltinError> {
        let urls: Vec<Value> = self.uris.iter().map(|uri| url::value(uri)).collect::<Result<_, _>>()?;
        Ok(if urls.is_empty() { Value::Null } else { Value::from(urls) })
    }
}

fn certificate_value(raw: &[u8], certificate: &X509Certificate<'_>) -> Outcome {
    let all = Extensions::read(certificate.extensions())?;
    let validity = certificate.validity();
    let time = |at: i64| DateTime::from_timestamp(at, 0).map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    let moment = |at: i64| time(at).map(Value::from).ok_or_else(|| failed("x509: malformed validity"));
    let (is_ca, path) = all.constraints.unwrap_or_default();
    let path_length = match (all.constraints, path) {
        (None, _) => 0,
        (Some(_), None) => -1,
        (Some(_), Some(length)) => i64::from(length),
    };
    let usages = all.usages.iter().map(|usage| Value::from(*usage)).collect();
    let policies = all.policies.iter().map(|oid| oid_value(oid)).collect();
    let null = || Value::Null;
    let (zero, no) = (|| Value::from(0_u64), || Value::from(false));
    Ok(record([
        ("AuthorityKeyId", optional_bytes(all.authority_key.as_deref())),
        ("BasicConstraintsValid", Value::from(all.constraints.is_some())),
        ("CRLDistributionPoints", texts(&all.revocation_lists)),
        ("DNSNames", texts(&all.names.dns)),
        ("EmailAddresses", texts(&all.names.email)),
        ("ExcludedDNSDomains", null()),
        ("ExcludedEmailAddresses", null()),
        ("ExcludedIPRanges", null()),
        ("ExcludedURIDomains", null()),
        ("ExtKeyUsage", list(usages)),
        ("Extensions", extensions_value(certificate.extensions())),
        ("ExtraExtensions", null()),
        ("IPAddresses", texts(&all.names.addresses)),
        ("InhibitAnyPolicy", zero()),
        ("InhibitAnyPolicyZero", no()),
        ("InhibitPolicyMapping", zero()),
        ("InhibitPolicyMappingZero", no()),
        ("IsCA", Value::from(is_ca)),
        ("Issuer", name_value(certificate.issuer())?),
        ("IssuingCertificateURL", texts(&all.issuers)),
        ("KeyUsage", Value::from(u64::from(all.key_usage))),
        ("MaxPathLen", Value::from(path_length)),
        ("MaxPathLenZero", Value::from(all.constraints.is_some() && path_length == 0)),
        ("NotAfter", moment(validity.not_after.timestamp())?),
        ("NotBefore", moment(validity.not_before.timestamp())?),
        ("OCSPServer", texts(&all.ocsp)),
        ("PermittedDNSDomains", null()),
        ("PermittedDNSDomainsCritical", no()),
        ("PermittedEmailAddresses", null()),
        ("PermittedIPRanges", null()),
        ("PermittedURIDomains", null()),
        ("Policies", texts(&all.policies)),
        ("PolicyIdentifiers", list(policies)),
        ("PolicyMappings", null()),
        ("PublicKey", key_value(certificate.public_key())?),
        ("PublicKeyAlgorithm", Value::from(key_algorithm(certificate.public_key()))),
        ("Raw", bytes(raw)),
        ("RawIssuer", bytes(certificate.issuer().as_raw())),
        ("RawSubject", bytes(certificate.subject().as_raw())),
        ("RawSubjectPublicKeyInfo", bytes(certificate.public_key().raw)),
        ("RawTBSCertificate", bytes(certificate.tbs_certificate.as_ref())),
        ("RequireExplicitPolicy", zero()),
        ("RequireExplicitPolicyZero", no()),
        ("SerialNumber", decimal(&certificate.tbs_certificate.serial)?),
        ("Signature", bytes(&certificate.signature_value.data)),
        ("SignatureAlgorithm", Value::from(signature_algorithm(&certificate.signature_algorithm))),
        ("Subject", name_value(certificate.subject())?),
        ("SubjectKeyId", optional_bytes(all.subject_key.as_deref())),
        ("URIStrings", texts(&all.names.uris)),
        ("URIs", all.names.url_values()?),
        ("UnhandledCriticalExtensions", list(all.unhandled)),
        ("UnknownExtKeyUsage", list(all.unknown_usages)),
        ("Version", Value::from(u64::from(certificate.version().0) + 1)),
    ]))
}

fn request_value(raw: &[u8], request: &X509CertificationRequest<'_>) -> Outcome {
    let info = &request.certification_request_info;
    let mut extensions = Value::Null;
    let mut names = Names::default();
    let mut attributes = Vec::new();
    for attribute in info.attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
        extensions = extensions_value(&requested.extensions);
        for extension in &requested.extensions {
            if let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() {
                names = Names::read(&alternative.general_names)?;
            }
        }
        // Go reads the second element of each extension here, whatever it is.
        let pairs = requested.extensions.iter().map(|extension| {
            let value = if extension.critical { Value::from(true) } else { bytes(extension.value) };
            record([("Type", oid_value(&extension.oid.to_id_string())), ("Value", value)])
        });
        let set = Value::from(vec![Value::from(pairs.collect::<Vec<_>>())]);
        attributes.push(record([("Type", oid_value(&attribute.oid.to_id_string())), ("Value", set)]));
    }
    Ok(record([
        ("Attributes", list(attributes)),
        ("DNSNames", texts(&names.dns)),
        ("EmailAddresses", texts(&names.email)),
        ("Extensions", extensions),
        ("ExtraExtensions", Value::Null),
        ("IPAddresses", texts(&names.addresses)),
        ("PublicKey", key_value(&info.subject_pki)?),
        ("PublicKeyAlgorithm", Value::from(key_algorithm(&info.subject_pki))),
        ("Raw", bytes(raw)),
        ("RawSubject", bytes(info.subject.as_raw())),
        ("RawSubjectPublicKeyInfo", bytes(info.subject_pki.raw)),
        ("RawTBSCertificateRequest", bytes(info.raw)),
        ("Signature", bytes(&request.signature_value.data)),
        ("SignatureAlgorithm", Value::from(signature_algorithm(&request.signature_algorithm))),
        ("Subject", name_value(&info.subject)?),
        ("URIs", names.url_values()?),
        ("Version", Value::from(u64::from(info.version.0))),
    ]))
}

// === parts ===

fn extensions_value(extensions: &[X509Extension<'_>]) -> Value {
    let values = extensions.iter().map(|extension| {
        record([
            ("Critical", Value::from(extension.critical)),
            ("Id", oid_value(&extension.oid.to_id_string())),
            ("Value", bytes(extension.value)),
        ])
    });
    list(values.collect())
}

fn name_value(name: &X509Name<'_>) -> Outcome {
    let mut all = Vec::new();
    let mut members: Vec<(String, String)> = Vec::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let text = attribute.as_str().map_err(|_| failed("x509: a name has a value that is no text"))?;
        all.push(record([("Type", oid_value(&oid)), ("Value", Value::from(text))]));
        members.push((oid, text.to_owned()));
    }
    let every = |oid: &str| -> Value {
        let found = members.iter().filter(|(other, _)| other == oid).map(|(_, text)| text.clone());
        texts(&found.collect::<Vec<_>>())
    };
    let last = |oid: &str| {
        let found = members.iter().rfind(|(other, _)| other == oid);
        Value::from(found.map_or("", |(_, text)| text.as_str()))
    };
    Ok(record([
        ("CommonName", last("2.5.4.3")),
        ("Country", every("2.5.4.6")),
        ("ExtraNames", Value::Null),
        ("Locality", every("2.5.4.7")),
        ("Names", list(all)),
        ("Organization", every("2.5.4.10")),
        ("OrganizationalUnit", every("2.5.4.11")),
        ("PostalCode", every("2.5.4.17")),
        ("Province", every("2.5.4.8")),
        ("SerialNumber", last("2.5.4.5")),
        ("StreetAddress", every("2.5.4.9")),
    ]))
}

fn key_value(info: &SubjectPublicKeyInfo<'_>) -> Outcome {
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => Ok(record([
            ("E", decimal(&BigUint::from_bytes_be(rsa.exponent))?),
            ("N", decimal(&BigUint::from_bytes_be(rsa.modulus))?),
        ])),
        Ok(PublicKey::EC(point)) => {
            // An uncompressed point: 4, then both coordinates.
            let both = point.data().get(1..).unwrap_or_default();
            let (x, y) = both.split_at_checked(both.len() / 2).unwrap_or_default();
            Ok(record([
                ("Curve", Value::new_object()),
                ("X", decimal(&BigUint::from_bytes_be(x))?),
                ("Y", decimal(&BigUint::from_bytes_be(y))?),
            ]))
        }
        _ if key_algorithm(info) == 4 => Ok(bytes(&info.subject_public_key.data)),
        _ => Ok(Value::Null),
    }
}

/// Go's number of a type of key.
fn key_algorithm(info: &SubjectPublicKeyInfo<'_>) -> u32 {
    match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => 1,
        "1.2.840.10040.4.1" => 2,
        "1.2.840.10045.2.1" => 3,
        "1.3.101.112" => 4,
        _ => 0,
    }
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    }
}

/// Tag, content and what follows one DER element of at most 65,535 bytes.
pub(super) fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&byte, rest)| (usize::from(byte), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length).map(|(content, after)| (tag, content, after))
}

fn oid_value(oid: &str) -> Value {
    let parts = oid.split('.').map(|part| Value::from_numeric_string(part).unwrap_or(Value::Null));
    Value::from(parts.collect::<Vec<_>>())
}

fn decimal(number: &BigUint) -> Outcome {
    Value::from_numeric_string(&number.to_string()).map_err(|_| failed("x509: malformed number"))
}

fn bytes(bytes: &[u8]) -> Value {
    Value::from(STANDARD.encode(bytes))
}

fn optional_bytes(value: Option<&[u8]>) -> Value {
    value.map_or(Value::Null, bytes)
}

/// Go writes an empty slice that was never made as `null`.
fn list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { Value::from(items) }
}

fn texts(items: &[String]) -> Value {
    list(items.iter().map(|text| Value::from(text.as_str())).collect())
}
