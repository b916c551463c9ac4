//! Builtins that OPA has and the engine lacks, or has wrong. None of them reads a file, the network or a clock of its
//! own; what would cost more than an evaluation may is refused by size before it starts.

mod array;
mod crypto;
mod net;
mod operand;

use regorus::Value;

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
        builtin!("array.flatten", 1, array::flatten),
        builtin!("crypto.hmac.equal", 2, crypto::hmac_equal),
        builtin!("crypto.hmac.md5", 2, crypto::hmac_md5),
        builtin!("crypto.hmac.sha1", 2, crypto::hmac_sha1),
        builtin!("crypto.hmac.sha256", 2, crypto::hmac_sha256),
        builtin!("crypto.hmac.sha512", 2, crypto::hmac_sha512),
        builtin!("crypto.md5", 1, crypto::md5),
        builtin!("crypto.sha1", 1, crypto::sha1),
        builtin!("crypto.sha256", 1, crypto::sha256),
        builtin!("net.cidr_contains", 2, net::contains),
        builtin!("net.cidr_contains_matches", 2, net::contains_matches),
        builtin!("net.cidr_intersects", 2, net::intersects),
        builtin!("net.cidr_merge", 1, net::merge),
        builtin!("net.cidr_overlap", 2, net::contains),
    ];
    ALL
}

/// Calls a builtin within the size limit, and puts its name in front of its error.
fn named(name: &str, args: &[Value], call: fn(&[Value]) -> Outcome) -> Outcome {
    operand::within_limit(args).and_then(|()| call(args)).map_err(|error| match error {
        BuiltinError::Failed(message) => BuiltinError::Failed(format!("{FAILED_MARK}{name}: {message}")),
        BuiltinError::Type(message) => BuiltinError::Type(format!("{name}: {message}")),
        BuiltinError::Limit(message) => BuiltinError::Limit(format!("{name}: {message}")),
    })
}
