//! What is unwise in a claims set: permissions, lists, changing state, personal data and secrets, by the names of claims
//! and by the shapes of their values; and what is missing.

use serde_json::{Map, Value};

use super::{
    super::{
        claims::{sign_of_other_kind, strings},
        time::Times,
    },
    Found, header, plain,
    rules::{self, Rule},
    shapes,
};

/// Claims with a meaning of their own, whose shape says nothing.
const REGISTERED: [&str; 20] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "scope",
    "scp",
    "scopes",
    "client_id",
    "azp",
    "amr",
    "acr",
    "auth_time",
    "cnf",
    "act",
    "sid",
    "events",
    "_claim_names",
];

/// Names without case and punctuation.
const PERMISSIONS: [&str; 26] = [
    "permission",
    "permissions",
    "perms",
    "entitlement",
    "entitlements",
    "authority",
    "authorities",
    "privilege",
    "privileges",
    "acl",
    "acls",
    "grant",
    "grants",
    "right",
    "rights",
    "accessrights",
    "accesslist",
    "policy",
    "policies",
    "capabilities",
    "isadmin",
    "issuperuser",
    "superuser",
    "authorization",
    "authorizationdetails",
    "allowlist",
];
const ROLES: [&str; 8] = ["role", "roles", "group", "groups", "memberof", "realmaccess", "resourceaccess", "wids"];
const STATE: [&str; 20] = [
    "status",
    "accountstatus",
    "active",
    "isactive",
    "enabled",
    "suspended",
    "issuspended",
    "disabled",
    "blocked",
    "locked",
    "banned",
    "quota",
    "quotaused",
    "usage",
    "balance",
    "credits",
    "plan",
    "tier",
    "features",
    "featureflags",
];
const PERSONAL: [&str; 30] = [
    "email",
    "emails",
    "mail",
    "phone",
    "phonenumber",
    "mobile",
    "address",
    "street",
    "birthdate",
    "dateofbirth",
    "dob",
    "gender",
    "name",
    "fullname",
    "displayname",
    "givenname",
    "firstname",
    "familyname",
    "lastname",
    "surname",
    "middlename",
    "nickname",
    "picture",
    "ssn",
    "socialsecuritynumber",
    "nationalid",
    "passport",
    "ipaddr",
    "preferredusername",
    "upn",
];
const SECRETS: [&str; 14] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "clientsecret",
    "apikey",
    "privatekey",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "sessiontoken",
    "credential",
    "pin",
    "otp",
];

/// How deep names and shapes inside a claim are looked at.
const DEEPEST: usize = 8;

pub(super) fn lint(header: &Map<String, Value>, claims: &Map<String, Value>, found: &mut Found) {
    missing(claims, found);
    kind(header, claims, found);
    dates(claims, found);
    audience(header, claims, found);
    scopes(claims, found);
    if claims.len() > found.limits.claims {
        let detail = format!("{} claims; advised are at most {}", claims.len(), found.limits.claims);
        found.add(&rules::MANY_CLAIMS, "claims", detail);
    }
    if claims.contains_key("_claim_names") || claims.get("hasgroups").is_some_and(|has| *has == Value::Bool(true)) {
        found.add(&rules::CLAIMS_ELSEWHERE, "claims._claim_names", "claims were left out".to_owned());
    }
    if claims.get("sub").and_then(Value::as_str).is_some_and(shapes::is_address) {
        found.add(&rules::SUBJECT_IS_ADDRESS, "claims.sub", "`sub` looks like an e-mail address".to_owned());
    }
    for (name, value) in claims {
        let place = format!("claims.{}", plain(name));
        if REGISTERED.contains(&name.as_str()) {
            // A key that the token is bound to is public.
            hidden(&place, value, 0, found);
        } else {
            claim(name, &place, value, 0, found);
        }
    }
}

/// What a claim's name alone says.
pub(super) fn rule_of_name(name: &str) -> Option<&'static Rule> {
    let name = folded(name);
    let is_in = |names: &[&str]| names.contains(&name.as_str());
    if is_in(&PERMISSIONS) || ["allowed", "canaccess", "permitted"].iter().any(|start| name.starts_with(start)) {
        Some(&rules::PERMISSIONS)
    } else if is_in(&SECRETS) {
        Some(&rules::SECRET)
    } else if is_in(&PERSONAL) {
        Some(&rules::PERSONAL_DATA)
    } else if is_in(&STATE) {
        Some(&rules::MUTABLE_STATE)
    } else {
        None
    }
}

/// Lower case, letters and digits only, without a namespace: `https://idp.example/is_admin` is `isadmin`.
fn folded(name: &str) -> String {
    let last = name.rsplit(['/', ':', '#']).next().unwrap_or(name);
    last.chars().filter(char::is_ascii_alphanumeric).take(64).map(|c| c.to_ascii_lowercase()).collect()
}

fn claim(name: &str, place: &str, value: &Value, depth: usize, found: &mut Found) {
    if matches!(value, Value::Null) || depth > DEEPEST {
        return;
    }
    let mut said = false;
    let mut say = |rule: &'static Rule, found: &mut Found| {
        found.add(rule, place, described(value));
        said = true;
    };
    // A status list (Token Status List) is where to look, not a state.
    let points_elsewhere = value.as_object().is_some_and(|members| members.contains_key("status_list"));
    if let Some(rule) = rule_of_name(name).filter(|_| !points_elsewhere) {
        say(rule, found);
    }
    let is_roles = ROLES.contains(&folded(name).as_str());
    if shapes::is_roles_by_resource(value) {
        say(&rules::ROLES_PER_RESOURCE, found);
    } else if is_roles && value.as_array().is_some_and(|items| items.len() > found.limits.roles) {
        say(&rules::MANY_ROLES, found);
    }
    if let Value::Array(items) = value {
        let are = |shape: fn(&Value) -> bool, least: usize| items.len() >= least && items.iter().all(shape);
        if are(|item| item.as_str().is_some_and(shapes::is_url), 2) {
            say(&rules::URLS, found);
        } else if are(shapes::is_id, 3) {
            say(&rules::IDS, found);
        }
        if !said && items.len() > found.limits.list {
            found.add(&rules::LONG_LIST, place, described(value));
        }
    }
    let Value::Object(members) = value else { return hidden(place, value, depth, found) };
    if members.len() >= 2 && members.keys().all(|name| shapes::is_url(name)) {
        found.add(&rules::URLS, place, described(value));
    }
    if shapes::is_secret(value) {
        found.add(&rules::SECRET, place, "a private key is in it".to_owned());
    }
    for (inner, value) in members {
        claim(inner, &format!("{place}.{}", plain(inner)), value, depth.saturating_add(1), found);
    }
}

/// What may hide in any value: addresses, secrets, numbers that others round.
fn hidden(place: &str, value: &Value, depth: usize, found: &mut Found) {
    if depth > DEEPEST {
        return;
    }
    if shapes::is_secret(value) {
        found.add(&rules::SECRET, place, "another token or a private key is in it".to_owned());
    }
    match value {
        Value::String(text) if place != "claims.sub" && shapes::is_address(text) => {
            found.add(&rules::PERSONAL_DATA, place, "an e-mail address is in it".to_owned());
        }
        Value::Number(number) if is_rounded_elsewhere(number.as_str()) => {
            let detail = format!("a whole number of {} digits is in it", number.as_str().trim_start_matches('-').len());
            found.add(&rules::INEXACT_NUMBER, place, detail);
        }
        Value::Array(items) => items.iter().for_each(|item| hidden(place, item, depth.saturating_add(1), found)),
        Value::Object(members) => {
            members.values().for_each(|value| hidden(place, value, depth.saturating_add(1), found));
        }
        _ => {}
    }
}

/// Beyond 2^53 not every whole number has a double of its own.
fn is_rounded_elsewhere(number: &str) -> bool {
    let digits = number.trim_start_matches('-');
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    whole && digits.parse::<u64>().map_or(true, |number| number > 1 << 53)
}

fn described(value: &Value) -> String {
    let some = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match value {
        Value::Array(items) => format!("a list of {}", some(items.len(), "element")),
        Value::Object(members) => format!("an object of {}", some(members.len(), "member")),
        Value::String(text) => format!("a text of {}", some(text.chars().count(), "character")),
        Value::Number(_) => "a number".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

fn missing(claims: &Map<String, Value>, found: &mut Found) {
    let absent = |claim: &str| claims.get(claim).is_none_or(Value::is_null);
    for (claim, rule) in [
        ("aud", &rules::AUDIENCE_MISSING),
        ("iss", &rules::ISSUER_MISSING),
        ("exp", &rules::EXPIRY_MISSING),
        ("iat", &rules::ISSUED_AT_MISSING),
        ("jti", &rules::ID_MISSING),
        ("sub", &rules::SUBJECT_MISSING),
    ] {
        if absent(claim) {
            found.add(rule, &format!("claims.{claim}"), format!("`{claim}` is missing or null"));
        }
    }
    // Other names for it: OpenID Connect, Microsoft, Okta.
    if ["client_id", "azp", "appid", "cid"].iter().all(|claim| absent(claim)) {
        found.add(&rules::CLIENT_MISSING, "claims.client_id", "`client_id` is missing".to_owned());
    }
    for claim in ["iss", "sub", "jti", "client_id", "azp"] {
        let sound = |value: &Value| value.is_null() || value.as_str().is_some_and(|text| !text.is_empty());
        if claims.get(claim).is_some_and(|value| !sound(value)) {
            let detail = format!("`{claim}` is not a string, or empty");
            found.add(&rules::CLAIM_MALFORMED, &format!("claims.{claim}"), detail);
        }
    }
}

fn kind(header: &Map<String, Value>, claims: &Map<String, Value>, found: &mut Found) {
    let typed = header::is_typed(header);
    if let Some(sign) = sign_of_other_kind(claims, typed) {
        found.add(&rules::NOT_ACCESS_TOKEN, "claims", sign.to_owned());
    }
    if typed {
        for claim in ["nonce", "at_hash", "c_hash", "s_hash"].into_iter().filter(|claim| claims.contains_key(*claim)) {
            found.add(&rules::ID_TOKEN_CLAIMS, &format!("claims.{claim}"), format!("`{claim}` is there"));
        }
    }
}

fn dates(claims: &Map<String, Value>, found: &mut Found) {
    let mut sound = true;
    for claim in ["exp", "nbf", "iat"] {
        let is_null = claims.get(claim).is_none_or(Value::is_null);
        if !is_null && !Times::is_date(claims, claim) {
            sound = false;
            let detail = format!("`{claim}` is not a number of seconds between 0 and 2^53");
            found.add(&rules::CLAIM_MALFORMED, &format!("claims.{claim}"), detail);
        }
    }
    let Ok(times) = Times::read(claims) else { return };
    let Some(issued_at) = times.issued_at().filter(|_| sound) else { return };
    let seconds = times.expires_at().saturating_sub(issued_at);
    let refused = super::super::ProfileSettings::default().max_lifetime.as_secs();
    match u64::try_from(seconds) {
        Err(_) => {
            let detail = format!("`iat` is {} s after `exp`", seconds.unsigned_abs());
            found.add(&rules::DATES_CONTRADICT, "claims.exp", detail);
        }
        Ok(seconds) if seconds > refused => {
            let detail =
                format!("it lives for {seconds} s; the gate's limit is {refused} s unless the profile says otherwise");
            found.add(&rules::LIFETIME_TOO_LONG, "claims.exp", detail);
        }
        Ok(seconds) if seconds > found.limits.lifetime.as_secs() => {
            let detail = format!("it lives for {seconds} s; advised are at most {} s", found.limits.lifetime.as_secs());
            found.add(&rules::LIFETIME_LONG, "claims.exp", detail);
        }
        Ok(_) => {}
    }
}

fn audience(header: &Map<String, Value>, claims: &Map<String, Value>, found: &mut Found) {
    let Some(aud) = claims.get("aud").filter(|aud| !aud.is_null()) else { return };
    let Some(audiences) = strings(aud) else {
        let detail = "`aud` is neither a string nor a list of strings".to_owned();
        return found.add(&rules::CLAIM_MALFORMED, "claims.aud", detail);
    };
    if audiences.len() > found.limits.roles || audiences.iter().any(|audience| audience == "*") {
        found.add(&rules::AUDIENCE_BROAD, "claims.aud", format!("{} audiences, or `*`", audiences.len()));
    }
    let is_client = |claim: &str| {
        claims.get(claim).and_then(Value::as_str).is_some_and(|client| audiences.iter().any(|aud| aud == client))
    };
    if !header::is_typed(header) && (is_client("azp") || is_client("client_id")) {
        found.add(
            &rules::AUDIENCE_IS_CLIENT,
            "claims.aud",
            "`aud` names the client, and `typ` is not `at+jwt`".to_owned(),
        );
    }
}

fn scopes(claims: &Map<String, Value>, found: &mut Found) {
    for claim in ["scope", "scp", "scopes"] {
        let Some(value) = claims.get(claim) else { continue };
        let place = format!("claims.{claim}");
        let Some(listed) = strings(value) else {
            let detail = format!("`{claim}` is neither a text nor a list of texts");
            found.add(&rules::CLAIM_MALFORMED, &place, detail);
            continue;
        };
        let scopes: Vec<&str> = listed.iter().flat_map(|entry| entry.split(' ')).filter(|it| !it.is_empty()).collect();
        if scopes.len() > found.limits.list {
            let detail = format!("{} scopes; advised are at most {}", scopes.len(), found.limits.list);
            found.add(&rules::MANY_SCOPES, &place, detail);
        }
        let per_resource = scopes.iter().filter(|scope| shapes::is_role_on_resource(scope)).count();
        if per_resource > 0 {
            found.add(
                &rules::SCOPES_PER_RESOURCE,
                &place,
                format!("{per_resource} of {} name a resource", scopes.len()),
            );
        }
    }
}
