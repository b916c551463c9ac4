//! What a deny asks of the client: to sign in again in a stronger or fresher way (RFC 9470 §3), or to come back with a
//! token of more scope (RFC 6750 §3.1). Read strictly: a challenge that a client could misread is none.

use http::StatusCode;

use super::effects::{EffectsError, problem};
use crate::policy::Value;

/// The member `challenge` of a decision object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    need: Need,
    /// `error_description`.
    description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// `insufficient_user_authentication`.
    Authentication { acr_values: Option<String>, max_age: Option<u64> },
    /// `insufficient_scope`.
    Scope { scope: Option<String> },
}

const MEMBER: &str = "challenge";
const AUTHENTICATION: &str = "insufficient_user_authentication";
const SCOPE: &str = "insufficient_scope";

// === impl Challenge ===

impl Challenge {
    pub(super) fn parse(value: &Value) -> Result<Self, EffectsError> {
        let Value::Object(members) = value else { return Err(problem(MEMBER, "is not an object")) };
        let member = |name: &str| members.get(&Value::from(name));
        let known = ["error", "error_description", "acr_values", "max_age", "scope"];
        if members.keys().any(|name| !matches!(name, Value::String(name) if known.contains(&name.as_ref()))) {
            return Err(problem(
                MEMBER,
                "has a member besides `error`, `error_description`, `acr_values`, `max_age` and `scope`",
            ));
        }
        let listed = |name| member(name).map(words).transpose();
        let (acr_values, scope, age) =
            (listed("acr_values")?, listed("scope")?, member("max_age").map(max_age).transpose()?);
        let description = member("error_description").map(sentence).transpose()?;
        let need = match member("error") {
            Some(Value::String(error)) if error.as_ref() == AUTHENTICATION && scope.is_none() => {
                Need::Authentication { acr_values, max_age: age }
            }
            Some(Value::String(error)) if error.as_ref() == SCOPE && acr_values.is_none() && age.is_none() => {
                Need::Scope { scope }
            }
            _ => {
                return Err(problem(
                    MEMBER,
                    "has no `error` that is `insufficient_user_authentication` (with `acr_values`, `max_age`) or \
                     `insufficient_scope` (with `scope`)",
                ));
            }
        };
        Ok(Self { need, description })
    }

    /// 401 or 403.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.need {
            Need::Authentication { .. } => StatusCode::UNAUTHORIZED,
            Need::Scope { .. } => StatusCode::FORBIDDEN,
        }
    }

    /// The `error` of the challenge.
    #[must_use]
    pub fn error(&self) -> &'static str {
        match self.need {
            Need::Authentication { .. } => AUTHENTICATION,
            Need::Scope { .. } => SCOPE,
        }
    }

    /// The parameters of `WWW-Authenticate`; each value can stand in quotes as it is.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("error", self.error().to_owned())];
        let mut add = |name, value: Option<String>| parameters.extend(value.map(|value| (name, value)));
        add("error_description", self.description.clone());
        match &self.need {
            Need::Authentication { acr_values, max_age } => {
                add("acr_values", acr_values.clone());
                add("max_age", max_age.map(|age| age.to_string()));
            }
            Need::Scope { scope } => add("scope", scope.clone()),
        }
        parameters
    }
}

/// Words with one space between them, of the characters that RFC 6750 §3 lets stand in `scope`.
fn words(value: &Value) -> Result<String, EffectsError> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    match value {
        Value::String(text) if text.split(' ').all(is_word) => Ok(text.to_string()),
        _ => Err(problem(MEMBER, "has an `acr_values` or a `scope` that is not words with a space between them")),
    }
}

/// RFC 6750 §3: no quotes and no line ends.
fn sentence(value: &Value) -> Result<String, EffectsError> {
    match value {
        Value::String(text) if text.chars().all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')) => {
            Ok(text.to_string())
        }
        _ => Err(problem(MEMBER, "has an `error_description` that is no string of ASCII without `\"` and `\\`")),
    }
}

fn max_age(value: &Value) -> Result<u64, EffectsError> {
    let seconds = match value {
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    seconds.ok_or_else(|| problem(MEMBER, "has a `max_age` that is no number of seconds"))
}
