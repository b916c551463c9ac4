//! Builtins that OPA has and the engine lacks, or has wrong. None of them reads a file, the network or a clock of its
//! own (`http.send` and `net.lookup_ip_addr` ask a port that is handed in); what would cost more than an evaluation may is refused by size before it starts.

pub(super) mod aggregates;
mod array;
mod aws;
mod crypto;
mod globs;
mod go_base64;
mod go_url;
mod graphql;
mod http;
mod jwt;
mod keys;
mod net;
mod old;
mod operand;
mod pem;
mod regex;
mod rego;
mod schema;
mod sprintf;
mod strings;
mod template;
mod uri;
mod x509;

use regorus::Value;

pub(super) use self::operand::{record, type_name};
use super::builtins::{Builtin, BuiltinError, FAILED_MARK};

/// What a builtin of this library returns; its errors get the builtin's name in front in [`named`].
type Outcome = Result<Value, BuiltinError>;

/// One line of the table: the name is in front of every error, as OPA writes it.
macro_rules! builtin {
    ($name:literal, $arity:literal, $call:expr) => {
        Builtin { name: $name, arity: $arity, call: |args| named($name, args, $call) }
    };
}

/// Every builtin of this library.
pub(super) fn all() -> &'static [Builtin] {
    const ALL: &[Builtin] = &[
        builtin!("all", 1, old::all),
        builtin!("any", 1, old::any),
        builtin!("array.flatten", 1, array::flatten),
        builtin!("cast_array", 1, old::cast_array),
        builtin!("cast_boolean", 1, |args| old::cast("boolean", args)),
        builtin!("cast_null", 1, |args| old::cast("null", args)),
        builtin!("cast_object", 1, |args| old::cast("object", args)),
        builtin!("cast_set", 1, old::cast_set),
        builtin!("cast_string", 1, |args| old::cast("string", args)),
        builtin!("crypto.hmac.equal", 2, crypto::hmac_equal),
        builtin!("crypto.hmac.md5", 2, crypto::hmac_md5),
        builtin!("crypto.hmac.sha1", 2, crypto::hmac_sha1),
        builtin!("crypto.hmac.sha256", 2, crypto::hmac_sha256),
        builtin!("crypto.hmac.sha512", 2, crypto::hmac_sha512),
        builtin!("crypto.md5", 1, crypto::md5),
        builtin!("crypto.parse_private_keys", 1, keys::parse_private_keys),
        builtin!("crypto.sha1", 1, crypto::sha1),
        builtin!("crypto.sha256", 1, crypto::sha256),
        builtin!("crypto.x509.parse_and_verify_certificates", 1, x509::parse_and_verify),
        builtin!("crypto.x509.parse_and_verify_certificates_with_options", 2, x509::parse_and_verify_with_options),
        builtin!("crypto.x509.parse_certificate_request", 1, x509::parse_certificate_request),
        builtin!("crypto.x509.parse_certificates", 1, x509::parse_certificates),
        builtin!("crypto.x509.parse_keypair", 2, keys::parse_keypair),
        builtin!("crypto.x509.parse_rsa_private_key", 1, keys::parse_rsa_private_key),
        builtin!("graphql.is_valid", 2, graphql::is_valid),
        builtin!("graphql.parse", 2, graphql::parse),
        builtin!("graphql.parse_and_verify", 2, graphql::parse_and_verify),
        builtin!("graphql.parse_query", 1, graphql::parse_query),
        builtin!("graphql.parse_schema", 1, graphql::parse_schema),
        builtin!("graphql.schema_is_valid", 1, graphql::schema_is_valid),
        builtin!("http.send", 1, http::send),
        builtin!("internal.template_string", 1, super::lower::template_string),
        builtin!("io.jwt.decode", 1, jwt::decode),
        builtin!("io.jwt.decode_verify", 2, jwt::decode_verify),
        builtin!("io.jwt.encode_sign", 3, jwt::encode_sign),
        builtin!("io.jwt.encode_sign_raw", 3, jwt::encode_sign_raw),
        builtin!("io.jwt.verify_eddsa", 2, |args| jwt::verify("EdDSA", args)),
        builtin!("io.jwt.verify_es256", 2, |args| jwt::verify("ES256", args)),
        builtin!("io.jwt.verify_es384", 2, |args| jwt::verify("ES384", args)),
        builtin!("io.jwt.verify_es512", 2, |args| jwt::verify("ES512", args)),
        builtin!("io.jwt.verify_hs256", 2, |args| jwt::verify_secret("HS256", args)),
        builtin!("io.jwt.verify_hs384", 2, |args| jwt::verify_secret("HS384", args)),
        builtin!("io.jwt.verify_hs512", 2, |args| jwt::verify_secret("HS512", args)),
        builtin!("io.jwt.verify_ps256", 2, |args| jwt::verify("PS256", args)),
        builtin!("io.jwt.verify_ps384", 2, |args| jwt::verify("PS384", args)),
        builtin!("io.jwt.verify_ps512", 2, |args| jwt::verify("PS512", args)),
        builtin!("io.jwt.verify_rs256", 2, |args| jwt::verify("RS256", args)),
        builtin!("io.jwt.verify_rs384", 2, |args| jwt::verify("RS384", args)),
        builtin!("io.jwt.verify_rs512", 2, |args| jwt::verify("RS512", args)),
        builtin!("json.match_schema", 2, schema::matches),
        builtin!("json.verify_schema", 1, schema::verify),
        builtin!("net.cidr_contains", 2, net::contains),
        builtin!("net.cidr_contains_matches", 2, net::contains_matches),
        builtin!("net.cidr_intersects", 2, net::intersects),
        builtin!("net.cidr_merge", 1, net::merge),
        builtin!("net.cidr_overlap", 2, net::contains),
        builtin!("net.lookup_ip_addr", 1, net::lookup),
        builtin!("providers.aws.sign_req", 3, aws::sign_request),
        builtin!("re_match", 2, regex::is_match),
        builtin!("regex.find_all_string_submatch_n", 3, regex::find_all_string_submatch_n),
        builtin!("regex.find_n", 3, regex::find_n),
        builtin!("regex.globs_match", 2, globs::globs_match),
        builtin!("regex.is_valid", 1, regex::is_valid),
        builtin!("regex.match", 2, regex::is_match),
        builtin!("regex.replace", 3, regex::replace),
        builtin!("regex.split", 2, regex::split),
        builtin!("regex.template_match", 4, regex::template_match),
        builtin!("rego.metadata.chain", 0, |_| outside_of_rules("rego.metadata.chain")),
        builtin!("rego.metadata.rule", 0, |_| outside_of_rules("rego.metadata.rule")),
        builtin!("rego.parse_module", 2, rego::parse_module),
        builtin!("set_diff", 2, old::set_diff),
        builtin!("sprintf", 2, sprintf::sprintf),
        builtin!("strings.render_template", 2, template::render),
        builtin!("strings.split_n", 3, strings::split_n),
        builtin!("uri.is_valid", 1, uri::is_valid),
        builtin!("uri.parse", 1, uri::parse),
    ];
    ALL
}

/// Calls in modules are constants before anything runs; elsewhere there is no rule to speak of.
fn outside_of_rules(name: &str) -> Outcome {
    Err(operand::failed(format!("the {name} function must only be called within the scope of a rule")))
}

/// Calls a builtin within the size limit, and puts its name in front of its error.
fn named(name: &str, args: &[Value], call: fn(&[Value]) -> Outcome) -> Outcome {
    operand::within_limit(args).and_then(|()| call(args)).map_err(|error| match error {
        BuiltinError::Failed(message) => BuiltinError::Failed(format!("{FAILED_MARK}{name}: {message}")),
        BuiltinError::Type(message) => BuiltinError::Type(format!("{name}: {message}")),
        BuiltinError::Limit(message) => BuiltinError::Limit(format!("{name}: {message}")),
        BuiltinError::Refused(message) => BuiltinError::Refused(format!("{name}: {message}")),
    })
}
