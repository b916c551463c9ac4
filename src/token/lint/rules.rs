//! The rules: a stable name, how bad it is, why, and what to do instead. Names are never given a second meaning.

use super::Severity::{self, Error, Note, Warning};

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable `snake_case` name.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence that says why.
    pub why: &'static str,
    /// What to do instead: which data document or which rule to write, or what the issuer must change.
    pub instead: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal $severity:ident $why:literal $instead:literal;)*) => {
        $(pub(super) static $name: Rule = Rule { id: $id, severity: $severity, why: $why, instead: $instead };)*

        impl Rule {
            /// The rule that says that a text is no signed token at all.
            pub const NOT_A_TOKEN_ID: &'static str = NOT_A_TOKEN.id;

            /// Every rule, in the order of the documentation.
            pub const ALL: &'static [&'static Rule] = &[$(&$name),*];
        }
    };
}

rules! {
    PERMISSIONS = "permissions_in_token" Warning
        "permissions in a token stay as they were when it was issued, for as long as it lives, whatever is taken away meanwhile"
        "keep grants in a data document, such as `data.grants[subject][resource]`, and write `allow if input.action in data.grants[input.token.subject][input.resource.id]`; take the claim out of the token";
    ROLES_PER_RESOURCE = "roles_per_resource" Warning
        "a role for each resource makes the token grow with the caller's work, and none of them ends before the token does"
        "keep them in a data document, such as `data.folders[id].editors`, and write `allow if input.token.subject in data.folders[input.resource.id].editors`";
    MANY_ROLES = "many_roles" Warning
        "many roles or groups are the permission model in disguise: they change more often than tokens are issued"
        "leave one stable, high-level role in the token and look the others up: `some role in data.users[input.token.subject].roles`, or `input.live.roles` with `subject: {from: data.users}`";
    URLS = "urls_in_token" Warning
        "a list of URLs or paths says what may be reached, and nobody can change it before the token expires"
        "write a rule over `input.request.path`, with the exceptions in a data document such as `data.routes`";
    IDS = "ids_in_token" Warning
        "a list of ids of things is a copy of live data that is stale at once and grows without end"
        "keep the relation in a data document, such as `data.members[subject]`, and write `input.resource.id in data.members[input.token.subject]`";
    MUTABLE_STATE = "mutable_state_in_token" Warning
        "a status, a quota or a plan changes while the token lives: a suspended account keeps its access until `exp`"
        "configure `subject: {from: data.users, key: sub}` and read `input.live`, such as `input.live.status == \"active\"`";
    LONG_LIST = "long_list" Warning
        "a long list makes each request larger, and lists in tokens are usually a copy of live data"
        "keep the list in a data document and look it up by `input.token.subject`";
    MANY_SCOPES = "many_scopes" Warning
        "so many scopes are a permission model; a scope says what a client was allowed to ask for, not what the user may do"
        "request the few scopes that the client needs, and decide the rest in Rego over `data`";
    SCOPES_PER_RESOURCE = "scopes_per_resource" Warning
        "a scope that names one resource is a permission, and the token must be issued anew for the next one"
        "use a scope for the kind of access, such as `folders.read`, and look the resource up: `input.token.subject in data.folders[input.resource.id].viewers`";
    CLAIMS_ELSEWHERE = "claims_elsewhere" Warning
        "the issuer left claims out and says where to fetch them (`_claim_names`); nobody fetches them here, so that rules that need them do not hold"
        "leave groups out at the issuer and keep them in a data document, such as `data.users[subject].groups`";
    MANY_CLAIMS = "many_claims" Note
        "most of so many claims are read by nobody, and each request carries them"
        "leave in the token what identifies the caller, and put the rest into `data.users`; `token lint --policy` lists kept claims that no rule reads";
    TOKEN_LARGE = "token_large" Warning
        "servers and proxies limit header fields, often to 4 or 8 KiB in all, and each request carries the token"
        "move lists, permissions and profile data from the token to `data`";
    TOKEN_TOO_LARGE = "token_too_large" Error
        "the gate refuses a token of this size, and so do many servers on the way"
        "move lists, permissions and profile data from the token to `data`";
    LIFETIME_LONG = "lifetime_long" Warning
        "whoever steals the token can use it until it expires, and what it says grows stale meanwhile"
        "let the issuer give access tokens 5 to 15 minutes, with refresh tokens, and set the profile's `max_lifetime` to it";
    LIFETIME_TOO_LONG = "lifetime_too_long" Error
        "the gate refuses tokens that live for more than a day unless the profile's `max_lifetime` says otherwise"
        "let the issuer give access tokens 5 to 15 minutes, with refresh tokens";
    EXPIRY_MISSING = "expiry_missing" Error
        "a token without `exp` never ends; the gate refuses it"
        "let the issuer set `exp`";
    ISSUED_AT_MISSING = "issued_at_missing" Warning
        "without `iat` the lifetime is unknown, and \"everything issued before now\" cannot be revoked"
        "let the issuer set `iat`, and list it in the profile's `required_claims`";
    ID_MISSING = "id_missing" Warning
        "without `jti` this one token cannot be named, neither in a log nor to revoke it"
        "let the issuer set `jti`, and list it in the profile's `required_claims`";
    SUBJECT_MISSING = "subject_missing" Warning
        "without `sub` no data can be looked up for the caller"
        "let the issuer set `sub`, and list it in the profile's `required_claims`";
    CLIENT_MISSING = "client_id_missing" Note
        "RFC 9068 requires `client_id`: without it nobody knows which application asks"
        "let the issuer set `client_id`; the profile `types: [rfc9068]` requires it";
    ISSUER_MISSING = "issuer_missing" Error
        "without `iss` as a string no rules apply to the token; the gate refuses it"
        "let the issuer set `iss` to its exact identifier";
    AUDIENCE_MISSING = "audience_missing" Error
        "a token without `aud` is good at every service that trusts the issuer; the gate refuses it"
        "let the issuer set `aud` to the identifier of this service";
    AUDIENCE_BROAD = "audience_broad" Warning
        "a token for many services, or for all, can be replayed by each of them at the others"
        "request one token for each service; name one audience";
    AUDIENCE_IS_CLIENT = "audience_is_client" Warning
        "a token whose audience is the client that asked for it is probably an ID token, which says who logged in and gives no access"
        "send the access token, for the audience of this service, and let the issuer write `typ: at+jwt`";
    CLAIM_MALFORMED = "claim_malformed" Error
        "a registered claim of a wrong type is read in different ways by different verifiers; the gate refuses it"
        "let the issuer write dates as numbers of seconds, `iss`, `sub`, `jti` and `client_id` as strings, `aud` as a string or a list of strings";
    DATES_CONTRADICT = "dates_contradict" Error
        "a token that was issued after it expired has wrong dates; the gate refuses it"
        "mend the issuer's clock or its settings";
    PERSONAL_DATA = "personal_data" Warning
        "anybody who sees an access token can read it: proxies, logs and the client; and personal data in it is out of anyone's control"
        "identify the caller by an opaque `sub`; keep e-mail addresses and names in `data.users` or ask the issuer's userinfo endpoint";
    SUBJECT_IS_ADDRESS = "subject_is_address" Warning
        "an e-mail address is personal data and is given to somebody else some day, with everything that `data` has for it"
        "let the issuer put a stable, opaque id into `sub`";
    SECRET = "secret_in_token" Error
        "a token is signed and not encrypted: whoever sees it reads the secret"
        "take the secret out and replace it where it is used; it is known to everybody who has seen such a token";
    INEXACT_NUMBER = "inexact_number" Warning
        "many languages round whole numbers beyond 2^53, so that two ids become one; the gate keeps them exact, others do not"
        "let the issuer write ids as strings";
    NOT_ACCESS_TOKEN = "not_an_access_token" Error
        "the token is of another kind, such as an ID token, and gives no access; the gate refuses it"
        "send the access token";
    ID_TOKEN_CLAIMS = "id_token_claims" Warning
        "claims of an ID token in an access token make one look like the other to verifiers that do not look at `typ`"
        "leave `nonce`, `at_hash` and `c_hash` to ID tokens";
    UNTYPED = "untyped_token" Note
        "without `typ: at+jwt` (RFC 9068) an ID token can pass for an access token at verifiers that look at nothing else"
        "let the issuer write `typ: at+jwt`, and set the profile's `types: [rfc9068]` or `[at+jwt]`";
    ALGORITHM_NONE = "algorithm_none" Error
        "the token is not signed: anybody can have written it"
        "let the issuer sign with ES256, RS256, PS256 or EdDSA";
    ALGORITHM_UNSUPPORTED = "algorithm_unsupported" Error
        "the algorithm is unknown here, or too weak to be offered; the gate refuses it"
        "let the issuer sign with ES256, RS256, PS256 or EdDSA";
    SHARED_SECRET = "shared_secret" Warning
        "with HS256 and its like, everybody who can verify tokens can also make them, the application included"
        "let the issuer sign with a key pair: ES256, RS256, PS256 or EdDSA";
    SECRET_OF_SEVERAL = "secret_of_several" Error
        "several services share the secret, so that each of them can make tokens for the others"
        "let the issuer sign with a key pair, or use one secret and one audience for each service";
    CRITICAL_EXTENSION = "critical_extension" Error
        "`crit` demands that a verifier understands an extension; the gate understands none and refuses it, and others ignore it"
        "let the issuer leave `crit` out";
    FORBIDDEN_HEADER = "forbidden_header" Error
        "this header changes what is signed or belongs to encryption; verifiers disagree about it, and the gate refuses it"
        "let the issuer leave it out";
    NESTED_TOKEN = "nested_token" Error
        "`cty` says that the token wraps another one, which the gate does not unwrap"
        "send the inner token, or let the issuer leave `cty` out";
    KEY_IN_HEADER = "key_in_header" Warning
        "a key, or a place to fetch one, in the token itself: a careless verifier trusts the forger's key; the gate never looks at it"
        "let the issuer name its key by `kid` only, and configure its key set";
    KEY_ID_MISSING = "key_id_missing" Warning
        "without `kid` the keys cannot be rotated: as soon as two fit, the gate refuses the token"
        "let the issuer name its key by `kid`";
    KEY_ID_ODD = "key_id_odd" Warning
        "a `kid` that looks like a path, a command or a query is how careless verifiers are attacked; the gate compares it byte for byte"
        "let the issuer use letters, digits, `-`, `_`, `.`, `~`, `+`, `/`, `=` and `:` only, without `..` and a leading `/`";
    KEY_ID_MALFORMED = "key_id_malformed" Error
        "the gate refuses a `kid` that is not a string of 1 to 256 bytes"
        "let the issuer write `kid` as a short string";
    NOT_A_TOKEN = "not_a_token" Error
        "the text is no signed token in strict compact form: verifiers that repair it may each read something else"
        "look at how it was copied; `token inspect` says the same of it";
    CLAIM_NOT_READ = "claim_not_read" Warning
        "the issuer puts a claim into each token, the profile keeps it, and no rule reads it"
        "take it out of `claims.keep`, and let the issuer leave it out";
    CLAIMS_READ_AS_A_WHOLE = "claims_read_as_a_whole" Note
        "where a rule reads all claims, nobody can say which of them are needed"
        "read each claim by its name: `input.token.claims.org_id`";
}
