//! The credential that transmitters present. Unlike the operators' door, theirs can be reached by strangers, so the files of
//! credentials are read every ten seconds at most, and a flood of requests reads nothing. What is presented is compared by
//! digest, in a time that says nothing about the credentials; none is ever shown.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::revocation::Credentials;

/// The credentials, and what they were at the last look.
#[derive(Debug)]
pub(super) struct Credential {
    credentials: Credentials,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// SHA-256 of each.
    digests: Vec<Vec<u8>>,
    looked_at: Option<Instant>,
    has_complained: bool,
}

const LOOK_AGAIN: Duration = Duration::from_secs(10);

// === impl Credential ===

impl Credential {
    /// Reads nothing yet.
    pub(super) fn new(credentials: Credentials) -> Arc<Self> {
        Arc::new(Self { credentials, known: RwLock::default() })
    }

    /// Does the request present one of them, once, as `Authorization: Bearer`? While none could ever be read, none does.
    pub(super) async fn is_presented(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, presented)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return false;
        }
        if self.is_look_due() {
            let this = Arc::clone(self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "the credential cannot be looked at");
            }
        }
        let presented = digest::digest(&digest::SHA256, presented.trim_matches(' ').as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_equal = |ours: &Vec<u8>| verify_slices_are_equal(ours, presented.as_ref()).is_ok();
        // All of them, so that the time does not tell which.
        known.digests.iter().filter(|ours| is_equal(ours)).count() > 0
    }

    fn is_look_due(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.looked_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN)
    }

    fn look(&self) {
        let digests = self.credentials.digests();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.looked_at = Some(Instant::now());
        match digests {
            Ok(digests) => (known.digests, known.has_complained) = (digests, false),
            Err(error) => {
                if !std::mem::replace(&mut known.has_complained, true) {
                    tracing::error!(%error, "`events.authorization_file`: the credential before it, if any, still holds");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::token::SecretSource;

    fn of(file: &Path) -> Arc<Credential> {
        Credential::new(Credentials::new(vec![SecretSource::File(file.to_owned())]).unwrap())
    }

    async fn check(credential: &Arc<Credential>, values: &[&str], expected: bool) {
        let headers = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
        assert_eq!(credential.is_presented(&headers).await, expected, "{values:?}");
    }

    #[tokio::test]
    async fn only_the_whole_credential_presented_once_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credential");
        fs::write(&file, "0123456789abcdef\n").unwrap();
        let credential = of(&file);
        check(&credential, &["Bearer 0123456789abcdef"], true).await;
        check(&credential, &["bearer  0123456789abcdef"], true).await;
        for values in [
            &[][..],
            &[""],
            &["0123456789abcdef"],
            &["Bearer"],
            &["Bearer "],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdefg"],
            &["Bearer 0123456789ABCDEF"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            check(&credential, values, false).await;
        }
        // A file that is gone takes nothing back.
        fs::remove_file(&file).unwrap();
        credential.look();
        check(&credential, &["Bearer 0123456789abcdef"], true).await;
        fs::write(&file, "another-credential").unwrap();
        credential.look();
        check(&credential, &["Bearer 0123456789abcdef"], false).await;
        check(&credential, &["Bearer another-credential"], true).await;
    }

    #[tokio::test]
    async fn nobody_presents_what_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        for text in [None, Some(""), Some("short")] {
            let file = directory.path().join("credential");
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let credential = of(&file);
            check(&credential, &["Bearer "], false).await;
            check(&credential, &["Bearer short"], false).await;
        }
    }
}
