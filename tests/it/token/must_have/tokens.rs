//! M1 to M23 and M36: what a token can say, and how it can be signed.

use serde_json::{Value, json};

use super::{
    super::{CLAIMS, Draft, HEADER, WORLD, attacks::P256_ORDER, base64url, decode, object_text, owned, segments},
    Case,
    Recipe::{At, Token},
    case,
};

pub(super) fn cases() -> Vec<Case> {
    [signatures(), headers(), members(), issuers_and_audiences(), times(), kinds()].into_iter().flatten().collect()
}

pub(super) fn header(changes: &[(&str, &str)]) -> String {
    Draft::header(changes).sign()
}

pub(super) fn claims(changes: &[(&str, &str)]) -> String {
    Draft::claims(changes).sign()
}

/// The good token without some members of its header and claims.
fn without(header: &[&str], claims: &[&str]) -> Draft {
    let gone = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), None)).collect::<Vec<_>>();
    Draft {
        header: object_text(&HEADER, &gone(header), ""),
        claims: object_text(&CLAIMS, &gone(claims), ""),
        ..Draft::good()
    }
}

fn at_issuer(issuer: &str, draft: Draft) -> Draft {
    Draft { claims: object_text(&CLAIMS, &owned(&[("iss", &format!("\"{issuer}\""))]), ""), ..draft }
}

/// M1 to M8: signatures.
fn signatures() -> Vec<Case> {
    let good = Draft::good().sign();
    let [head, body, signature] = segments(&good);
    let mut cases = vec![case(6, "the signature itself", Token(good.clone()), "accepted")];
    for alg in ["none", "None", "NONE", "nOnE"] {
        let text = base64url(format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#));
        cases.extend([
            case(1, format!("{alg} and nothing after the dot"), Token(format!("{text}.{body}.")), "empty_segment"),
            case(1, format!("{alg} and no last dot"), Token(format!("{text}.{body}")), "wrong_segment_count"),
            case(1, format!("{alg} and a byte"), Token(format!("{text}.{body}.AA")), "algorithm_none"),
            case(
                1,
                format!("{alg} and a good signature"),
                Token(header(&[("alg", &format!("\"{alg}\""))])),
                "algorithm_none",
            ),
        ]);
    }
    cases.push(case(1, "the signature cut off", Token(format!("{head}.{body}.")), "empty_segment"));

    let rsa: Value = serde_json::from_str(&WORLD.signer("rs256").public_jwks().expect("public")).expect("JSON");
    let jwk = &rsa["keys"][0];
    let modulus = jwk["n"].as_str().expect("n").to_owned();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{modulus}\n-----END PUBLIC KEY-----");
    for (what, secret) in [
        ("the JWKS", rsa.to_string().into_bytes()),
        ("the JWK", jwk.to_string().into_bytes()),
        ("the modulus", modulus.clone().into_bytes()),
        ("the modulus as bytes", decode(&modulus)),
        ("a PEM text", pem.clone().into_bytes()),
        ("a PEM text and a line end", format!("{pem}\n").into_bytes()),
        ("a space and a PEM text", format!(" {pem}").into_bytes()),
    ] {
        let key = json!({ "kty": "oct", "k": base64url(secret) }).to_string();
        let key = claimgate::token::SigningKey::from_jwk(key.as_bytes()).expect("a secret");
        for (kid, issuer, expect) in [
            ("rs256", super::super::ISSUER, "algorithm_not_allowed"),
            ("es256", super::super::ISSUER, "algorithm_not_allowed"),
            ("ed25519", super::super::ISSUER, "algorithm_not_allowed"),
            ("secret", "https://secret.example", "bad_signature"),
        ] {
            let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
            let claims = at_issuer(issuer, Draft::good()).claims;
            let text = key.sign_bytes(header.as_bytes(), claims.as_bytes()).expect("signed");
            cases.push(case(2, format!("{what} as the secret of {kid}"), Token(text), expect));
        }
    }

    let theirs = WORLD.signer("stranger").public_jwks().expect("public");
    let theirs = serde_json::from_str::<Value>(&theirs).expect("JSON")["keys"][0].to_string();
    let forged = |changes: &[(&str, &str)]| Draft::header(changes).signed_by("stranger").sign();
    cases.extend([
        case(3, "the forger's key under our kid", Token(forged(&[("jwk", &theirs)])), "bad_signature"),
        case(
            3,
            "the forger's key under its own kid",
            Token(forged(&[("jwk", &theirs), ("kid", r#""mine""#)])),
            "unknown_key",
        ),
        case(3, "the forger's key in x5c", Token(forged(&[("x5c", r#"["MIIB"]"#)])), "bad_signature"),
    ]);
    for member in ["jku", "x5u"] {
        for url in ["https://evil.example/k", "http://169.254.169.254/k", "file:///dev/null"] {
            let url = format!("\"{url}\"");
            cases.push(case(4, format!("{member} {url}"), Token(forged(&[(member, &url)])), "bad_signature"));
            let text = forged(&[(member, &url), ("kid", r#""theirs""#)]);
            cases.push(case(4, format!("{member} {url} and an unknown kid"), Token(text), "unknown_key"));
        }
    }
    for (kid, expect) in [
        (r#""""#, "key_id_malformed"),
        ("null", "key_id_malformed"),
        ("0", "key_id_malformed"),
        (r#""/dev/null""#, "unknown_key"),
        (r#""../../../../../../dev/null""#, "unknown_key"),
        (r#""/invalid_path""#, "unknown_key"),
        (r#""|sleep 10""#, "unknown_key"),
        (r#""x' UNION SELECT '1';--""#, "unknown_key"),
        (r#""es256\u0000""#, "unknown_key"),
        (r#""es256\r\nx: y""#, "unknown_key"),
        (r#""\u202ees256""#, "unknown_key"),
        (r#""es256 ""#, "unknown_key"),
    ] {
        cases.push(case(5, format!("kid {kid}"), Token(header(&[("kid", kid)])), expect));
    }
    for (bytes, expect) in [(256, "unknown_key"), (257, "key_id_malformed"), (1 << 20, "token_too_large")] {
        let kid = format!("\"{}\"", "k".repeat(bytes));
        cases.push(case(5, format!("kid of {bytes} bytes"), Token(header(&[("kid", &kid)])), expect));
    }

    let bytes = decode(signature);
    let (r, s) = bytes.split_at(32);
    let zero = [0; 32];
    for (what, forged) in [
        ("r = s = 0", [zero, zero].concat()),
        ("r = 0", [&zero, s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = n", [&P256_ORDER, s].concat()),
        ("s = n", [r, &P256_ORDER].concat()),
        ("r = s = n", [P256_ORDER, P256_ORDER].concat()),
        ("63 bytes", bytes[1..].to_vec()),
        ("65 bytes", [&bytes[..], &[0]].concat()),
        ("DER", [&[0x30, 0x44, 2, 0x20], r, &[2, 0x20], s].concat()),
    ] {
        cases.push(case(6, what, Token(format!("{head}.{body}.{}", base64url(forged))), "bad_signature"));
    }
    for (alg, kid, signer, expect) in [
        ("ES256", "es384", "es256", "key_for_other_algorithm"),
        ("ES384", "es256", "es384", "key_for_other_algorithm"),
        ("ES512", "es384", "es512", "key_for_other_algorithm"),
        ("ES256", "rs256", "es256", "key_for_other_algorithm"),
        ("RS256", "es256", "rs256", "key_for_other_algorithm"),
        ("EdDSA", "es256", "ed25519", "key_for_other_algorithm"),
        ("ES256K", "es256", "es256", "algorithm_unsupported"),
        ("es256", "es256", "es256", "algorithm_unsupported"),
        ("ESB256", "es256", "es256", "algorithm_unsupported"),
        ("Ed448", "ed25519", "ed25519", "algorithm_unsupported"),
        ("RS384", "rs256", "rs256", "algorithm_not_allowed"),
        ("ESP256", "es256", "es256", "accepted"),
        ("ESP384", "es384", "es384", "accepted"),
        ("ESP512", "es512", "es512", "accepted"),
        ("Ed25519", "ed25519", "ed25519", "accepted"),
        ("ESP384", "es256", "es256", "key_for_other_algorithm"),
        ("Ed25519", "es256", "es256", "key_for_other_algorithm"),
    ] {
        let text =
            Draft::header(&[("alg", &format!("\"{alg}\"")), ("kid", &format!("\"{kid}\""))]).signed_by(signer).sign();
        cases.push(case(7, format!("{alg} of {signer} under the key {kid}"), Token(text), expect));
    }
    for (alg, signer, expect) in [
        ("RS256", "rs256", "key_for_other_algorithm"),
        ("PS256", "rs256", "bad_signature"),
        ("PS256", "ps256", "accepted"),
    ] {
        let draft = Draft::header(&[("alg", &format!("\"{alg}\"")), ("kid", r#""ps256""#)]).signed_by(signer);
        let text = at_issuer("https://pss.example", draft).sign();
        cases.push(case(8, format!("{alg} signed as {signer} under a PSS key"), Token(text), expect));
    }
    cases
}

/// M9 to M14: headers that change what a token is.
fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for crit in [r#"["x-unknown"]"#, "[]", r#"["alg","exp"]"#, r#"["gone"]"#, r#"["b64"]"#, r#""b64""#, "null", "{}"] {
        cases.push(case(9, format!("crit {crit}"), Token(header(&[("crit", crit)])), "critical_extension"));
    }
    for (members, expect) in [
        (&[("b64", "false")][..], "forbidden_header"),
        (&[("b64", "true")], "forbidden_header"),
        (&[("b64", "false"), ("crit", r#"["b64"]"#)], "critical_extension"),
    ] {
        cases.push(case(10, format!("{members:?}"), Token(header(members)), expect));
    }
    let jwe = base64url(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"rs256"}"#);
    let plain = base64url(r#"{"alg":"none"}"#);
    let five = format!("{jwe}.{}.{}.{}.{}", "A".repeat(342), "A".repeat(16), "A".repeat(64), "A".repeat(22));
    cases.extend([
        case(11, "a JWE for our public key", Token(five), "encrypted_token"),
        case(11, "a JWE around an unsigned token", Token(format!("{jwe}..AAAA.{plain}.AAAA")), "encrypted_token"),
        case(11, "the header of a JWE", Token(header(&[("enc", r#""A256GCM""#)])), "forbidden_header"),
        case(11, "dir", Token(header(&[("alg", r#""dir""#)])), "algorithm_unsupported"),
        case(11, "an inflated payload", Token(header(&[("zip", r#""DEF""#)])), "forbidden_header"),
        case(11, "a costly password", Token(header(&[("p2c", "2147483647")])), "forbidden_header"),
    ]);
    let good = Draft::good().sign();
    let [head, body, signature] = segments(&good);
    let flattened = json!({ "protected": head, "payload": body, "signature": signature });
    let general = json!({ "payload": body, "signatures": [{ "protected": head, "signature": signature }] });
    let unprotected = json!({ "header": { "alg": "none" }, "payload": body, "signature": "" });
    for (attack, what, text) in [
        (12, "JSON around a compact token", format!("{{\"{head}.{body}.{signature}\":\"\",\"payload\":\"e30\"}}")),
        (12, "JSON with a compact token as a name", format!("{{\"x.{body}.{signature}\":1}}")),
        (12, "a compact token in quotes", format!("\"{good}\"")),
        (12, "two tokens", format!("{good},{good}")),
        (13, "flattened", flattened.to_string()),
        (13, "general", general.to_string()),
        (13, "alg in an unprotected header", unprotected.to_string()),
    ] {
        cases.push(case(attack, what, Token(text), "forbidden_character"));
    }
    for cty in [r#""JWT""#, r#""jwt""#, r#""application/jwt""#, r#""jose""#, r#""JOSE+JSON""#] {
        let outer = Draft { claims: good.clone(), ..Draft::header(&[("cty", cty)]) };
        cases.push(case(14, format!("a token inside a token, cty {cty}"), Token(outer.sign()), "nested_token"));
        cases.push(case(14, format!("cty {cty}"), Token(header(&[("cty", cty)])), "nested_token"));
    }
    let outer = Draft { claims: good, ..Draft::good() };
    cases.push(case(14, "a token inside a token without cty", Token(outer.sign()), "claims_invalid_json"));
    cases
}

/// M15 to M17: members and types.
fn members() -> Vec<Case> {
    let mut cases = Vec::new();
    for end in
        [r#""alg":"ES256""#, r#""\u0061lg":"none""#, r#""kid":"es384""#, r#""x":1,"x":1"#, r#""x":{"a":1,"a":2}"#]
    {
        let text = Draft { header: object_text(&HEADER, &[], end), ..Draft::good() }.sign();
        cases.push(case(15, format!("header {end}"), Token(text), "header_duplicate_member"));
    }
    for end in [
        r#""exp":NOW+300"#,
        r#""iss":"https://idp.example""#,
        r#""\u0069ss":"https://other.example""#,
        r#""role":"a","role":"b""#,
        r#""cnf":{"jkt":"a","jkt":"b"}"#,
        r#""x":[[{"a":1,"a":1}]]"#,
    ] {
        let text = Draft { claims: object_text(&CLAIMS, &[], end), ..Draft::good() }.sign();
        cases.push(case(15, format!("claims {end}"), Token(text), "claims_duplicate_member"));
    }
    for (text, expect) in [
        ("[]", "claims_not_an_object"),
        ("\"{}\"", "claims_not_an_object"),
        ("1", "claims_not_an_object"),
        ("null", "claims_not_an_object"),
        ("true", "claims_not_an_object"),
        (r#"[1790000300,0,"user-1","https://idp.example","folders"]"#, "claims_not_an_object"),
        ("{}", "issuer_malformed"),
    ] {
        let whole = Draft { claims: text.to_owned(), ..Draft::good() };
        cases.push(case(16, format!("claims {text}"), Token(whole.sign()), expect));
    }
    for text in ["[]", "null", "\"ES256\"", r#"["ES256","at+jwt","es256"]"#] {
        let whole = Draft { header: text.to_owned(), ..Draft::good() };
        cases.push(case(16, format!("header {text}"), Token(whole.sign()), "header_not_an_object"));
    }
    for alg in [r#"{"ES256":null}"#, r#"["ES256"]"#, "0", "null", "true"] {
        cases.push(case(17, format!("alg {alg}"), Token(header(&[("alg", alg)])), "algorithm_malformed"));
    }
    cases.push(case(17, "alg missing", Token(without(&["alg"], &[]).sign()), "algorithm_malformed"));
    cases
}

/// M18 and M19.
fn issuers_and_audiences() -> Vec<Case> {
    let mut cases = vec![
        case(18, "iss missing", Token(without(&[], &["iss"]).sign()), "issuer_malformed"),
        case(19, "aud missing", Token(without(&[], &["aud"]).sign()), "audience_missing"),
        case(
            36,
            "a token of our key that claims another issuer",
            Token(claims(&[("iss", r#""https://other.example""#)])),
            "bad_signature",
        ),
        case(36, "the same kid of another issuer", Token(Draft::good().signed_by("other").sign()), "bad_signature"),
    ];
    for (iss, expect) in [
        (r#"["https://idp.example"]"#, "issuer_malformed"),
        (r#"["https://evil.example","https://idp.example"]"#, "issuer_malformed"),
        ("5", "issuer_malformed"),
        ("null", "issuer_malformed"),
        (r#"{"https://idp.example":1}"#, "issuer_malformed"),
        (r#""""#, "issuer_unknown"),
        (r#""https://idp.example/""#, "issuer_unknown"),
        (r#""https://IDP.example""#, "issuer_unknown"),
        (r#""https://idp.example\u0000""#, "issuer_unknown"),
        (r#""https://idр.example""#, "issuer_unknown"),
        (r#"" https://idp.example""#, "issuer_unknown"),
        (r#""https:\/\/idp.ex\u0061mple""#, "accepted"),
    ] {
        cases.push(case(18, format!("iss {iss}"), Token(claims(&[("iss", iss)])), expect));
    }
    for (aud, expect) in [
        ("[]", "audience_mismatch"),
        ("7", "audience_malformed"),
        ("null", "audience_malformed"),
        (r#"["folders",7]"#, "audience_malformed"),
        (r#"[["folders"]]"#, "audience_malformed"),
        (r#"{"folders":1}"#, "audience_malformed"),
        (r#""folder""#, "audience_mismatch"),
        (r#""folders.evil""#, "audience_mismatch"),
        (r#""Folders""#, "audience_mismatch"),
        (r#""folders files""#, "audience_mismatch"),
        (r#""*""#, "audience_mismatch"),
        (r#"["a","files"]"#, "accepted"),
    ] {
        cases.push(case(19, format!("aud {aud}"), Token(claims(&[("aud", aud)])), expect));
    }
    cases
}

/// M20 to M22. The leeway is 30 s, the longest lifetime a day.
fn times() -> Vec<Case> {
    let mut cases = vec![case(20, "exp missing", Token(without(&[], &["exp"]).sign()), "expiry_missing")];
    for (value, expect) in [
        (r#""NOW""#, "date_malformed"),
        ("null", "date_malformed"),
        ("true", "date_malformed"),
        ("[NOW]", "date_malformed"),
        ("{}", "date_malformed"),
        ("-1", "date_malformed"),
        ("1e300", "date_malformed"),
        ("9007199254740993", "date_malformed"),
        ("18446744073709551615", "date_malformed"),
        ("18446744073709551616", "date_malformed"),
        ("1e400", "claims_bad_number"),
    ] {
        for (attack, claim) in [(20, "exp"), (21, "nbf"), (21, "iat")] {
            cases.push(case(attack, format!("{claim} {value}"), Token(claims(&[(claim, value)])), expect));
        }
    }
    for (exp, expect) in
        [("0", "expired"), ("0.5", "expired"), ("NOW+0.5", "accepted"), ("9007199254740992", "lifetime_too_long")]
    {
        cases.push(case(20, format!("exp {exp}"), Token(claims(&[("exp", exp)])), expect));
    }
    for (later, expect) in [
        (0, "accepted"),
        (299, "accepted"),
        (300, "accepted"),
        (301, "accepted"),
        (329, "accepted"),
        (330, "expired"),
        (331, "expired"),
    ] {
        cases.push(case(20, format!("{later} s after iat, exp is at 300 s"), At(Draft::good().sign(), later), expect));
    }
    for (changes, expect) in [
        (&[("nbf", "NOW+29")][..], "accepted"),
        (&[("nbf", "NOW+30")], "accepted"),
        (&[("nbf", "NOW+31")], "not_yet_valid"),
        (&[("iat", "NOW+30")], "accepted"),
        (&[("iat", "NOW+31")], "issued_in_future"),
        (&[("iat", "NOW+20"), ("exp", "NOW+10")], "issued_after_expiry"),
    ] {
        cases.push(case(21, format!("{changes:?}"), Token(claims(changes)), expect));
    }
    for (changes, expect) in [
        (&[("exp", "NOW+86400")][..], "accepted"),
        (&[("exp", "NOW+86401")], "lifetime_too_long"),
        (&[("iat", "NOW-86400"), ("exp", "NOW+1")], "lifetime_too_long"),
    ] {
        cases.push(case(22, format!("{changes:?}"), Token(claims(changes)), expect));
    }
    cases
}

/// M23: other kinds of JWT.
fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for (typ, expect) in [
        ("at+jwt", "accepted"),
        ("AT+JWT", "accepted"),
        ("application/at+jwt", "accepted"),
        ("Application/AT+JWT", "accepted"),
        ("JWT", "accepted"),
        ("application/x/at+jwt", "type_not_allowed"),
        ("at+jwt ", "type_not_allowed"),
        ("unknown+jwt", "type_not_allowed"),
        ("", "type_not_allowed"),
        ("logout+jwt", "other_token_kind"),
        ("secevent+jwt", "other_token_kind"),
        ("application/secevent+jwt", "other_token_kind"),
        ("dpop+jwt", "other_token_kind"),
        ("statuslist+jwt", "other_token_kind"),
        ("token-introspection+jwt", "other_token_kind"),
        ("oauth-authz-req+jwt", "other_token_kind"),
        ("kb+jwt", "other_token_kind"),
    ] {
        cases.push(case(23, format!("typ {typ}"), Token(header(&[("typ", &format!("\"{typ}\""))])), expect));
    }
    cases.push(case(23, "typ missing", Token(without(&["typ"], &[]).sign()), "type_not_allowed"));
    for issuer in ["https://strict.example", "https://rfc9068.example"] {
        let typed = |typ: &str| at_issuer(issuer, Draft::header(&[("typ", typ)])).sign();
        cases.push(case(23, format!("JWT at {issuer}"), Token(typed(r#""JWT""#)), "type_not_allowed"));
        cases.push(case(23, format!("at+jwt at {issuer}"), Token(typed(r#""at+jwt""#)), "accepted"));
        for claim in ["sub", "client_id", "iat", "jti"] {
            let changes = [owned(&[("iss", &format!("\"{issuer}\""))]), vec![(claim.to_owned(), None)]].concat();
            let text = Draft { claims: object_text(&CLAIMS, &changes, ""), ..Draft::good() }.sign();
            cases.push(case(23, format!("no {claim} at {issuer}"), Token(text), "required_claim_missing"));
        }
    }
    for (claim, value, expect) in [
        ("nonce", r#""n""#, "not_an_access_token"),
        ("at_hash", r#""h""#, "not_an_access_token"),
        ("c_hash", r#""h""#, "not_an_access_token"),
        ("s_hash", r#""h""#, "not_an_access_token"),
        ("typ", r#""ID""#, "not_an_access_token"),
        ("typ", r#""Refresh""#, "not_an_access_token"),
        ("typ", r#""Bearer""#, "accepted"),
        ("token_use", r#""id""#, "not_an_access_token"),
        ("token_use", "null", "not_an_access_token"),
        ("token_use", r#""access""#, "accepted"),
        ("events", "{}", "not_an_access_token"),
        ("htm", r#""GET""#, "not_an_access_token"),
        ("htu", r#""https://x""#, "not_an_access_token"),
        ("response_type", r#""code""#, "not_an_access_token"),
        ("token_introspection", "{}", "not_an_access_token"),
        ("status_list", "{}", "not_an_access_token"),
        ("vc", "{}", "not_an_access_token"),
        ("vp", "{}", "not_an_access_token"),
        ("_sd_alg", r#""sha-256""#, "not_an_access_token"),
    ] {
        let claims = object_text(&CLAIMS, &owned(&[(claim, value)]), "");
        let text = Draft { claims, ..Draft::header(&[("typ", r#""JWT""#)]) }.sign();
        cases.push(case(23, format!("JWT with {claim} {value}"), Token(text), expect));
    }
    cases
}
