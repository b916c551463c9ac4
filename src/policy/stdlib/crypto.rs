//! `crypto.*` over text: digests and keyed digests in hexadecimal. MD5 and SHA-1 are here because policies compare old
//! checksums; they protect nothing.

use aws_lc_rs::{constant_time, digest, hmac};
use md5::{Digest, Md5};
use regorus::Value;

use super::{Outcome, operand};

/// Block length of MD5, for its keyed form (RFC 2104).
const MD5_BLOCK: usize = 64;

pub(super) fn md5(args: &[Value]) -> Outcome {
    Ok(hex(&Md5::digest(operand::string(args, 0)?)))
}

pub(super) fn sha1(args: &[Value]) -> Outcome {
    digested(&digest::SHA1_FOR_LEGACY_USE_ONLY, args)
}

pub(super) fn sha256(args: &[Value]) -> Outcome {
    digested(&digest::SHA256, args)
}

/// aws-lc has no HMAC over MD5: RFC 2104 spelled out.
pub(super) fn hmac_md5(args: &[Value]) -> Outcome {
    let (message, key) = (operand::string(args, 0)?, operand::string(args, 1)?);
    let key = if key.len() > MD5_BLOCK { Md5::digest(key).to_vec() } else { key.as_bytes().to_vec() };
    let padded = |pad: u8| -> Vec<u8> {
        let zeros = std::iter::repeat_n(0, MD5_BLOCK - key.len());
        key.iter().copied().chain(zeros).map(|byte| byte ^ pad).collect()
    };
    let inner = Md5::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Ok(hex(&Md5::new().chain_update(padded(0x5c)).chain_update(inner).finalize()))
}

pub(super) fn hmac_sha1(args: &[Value]) -> Outcome {
    keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, args)
}

pub(super) fn hmac_sha256(args: &[Value]) -> Outcome {
    keyed(hmac::HMAC_SHA256, args)
}

pub(super) fn hmac_sha512(args: &[Value]) -> Outcome {
    keyed(hmac::HMAC_SHA512, args)
}

/// Equality in constant time.
pub(super) fn hmac_equal(args: &[Value]) -> Outcome {
    let (left, right) = (operand::string(args, 0)?, operand::string(args, 1)?);
    Ok(Value::from(constant_time::verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> Value {
    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn digested(algorithm: &'static digest::Algorithm, args: &[Value]) -> Outcome {
    Ok(hex(digest::digest(algorithm, operand::string(args, 0)?.as_bytes()).as_ref()))
}

fn keyed(algorithm: hmac::Algorithm, args: &[Value]) -> Outcome {
    let (message, key) = (operand::string(args, 0)?, operand::string(args, 1)?);
    Ok(hex(hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), message.as_bytes()).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let call = |call: fn(&[Value]) -> Outcome, args: &[&str]| {
            let args: Vec<Value> = args.iter().map(|text| Value::from(*text)).collect();
            call(&args).unwrap().as_string().unwrap().to_string()
        };
        let what = "what do ya want for nothing?";
        // RFC 1321, FIPS 180-4, RFC 2202 and RFC 4231.
        assert_eq!(call(md5, &["abc"]), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(call(sha1, &["abc"]), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(call(sha256, &[""]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(call(hmac_md5, &[what, "Jefe"]), "750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(call(hmac_sha1, &[what, "Jefe"]), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            call(hmac_sha256, &[what, "Jefe"]),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_long_key_is_hashed_first() {
        let key = "k".repeat(65);
        let hashed: String = Md5::digest(&key).iter().map(|&byte| char::from(byte)).collect();
        assert_eq!(hashed.chars().count(), 16);
        assert_ne!(
            hmac_md5(&[Value::from("m"), Value::from(key.clone())]).unwrap(),
            hmac_md5(&[Value::from("m"), Value::from("k".repeat(64))]).unwrap()
        );
    }
}
