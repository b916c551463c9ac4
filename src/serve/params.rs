//! Query parameters as OPA's server reads them: a flag without a value is set, unknown parameters are ignored, and a
//! pair that cannot be decoded is as good as absent.

use crate::request::parse_query;

/// The decoded parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let Some(query) = query else { return Self::default() };
        Self(query.split('&').filter_map(|pair| parse_query(pair).ok()).flatten().collect())
    }

    /// Present without a value, or `true` in any case.
    pub(super) fn flag(&self, name: &str) -> bool {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => false,
            (Some(only), None) => only.is_empty() || only.eq_ignore_ascii_case("true"),
            (Some(_), Some(_)) => self.all(name).any(|value| value.eq_ignore_ascii_case("true")),
        }
    }

    /// The last value of a parameter.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// All values of a parameter, in order.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(parameter, _)| parameter == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, want: bool) {
        assert_eq!(Params::parse(Some(query)).flag("pretty"), want, "{query}");
    }

    #[test]
    fn a_flag_is_set_by_its_name_or_by_true() {
        for set in ["pretty", "pretty=", "pretty=true", "a=1&pretty=TRUE", "pretty=false&pretty=true", "pre%74ty"] {
            check(set, true);
        }
        for unset in ["", "a", "pretty=1", "pretty=false", "pretty=&pretty=", "Pretty", "pretty=%zz"] {
            check(unset, false);
        }
        assert!(!Params::parse(None).flag("pretty"));
    }
}
