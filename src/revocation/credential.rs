//! The credential of whoever may revoke. It is compared in constant time and shown nowhere.

use std::{fs, io, io::Read as _, path::Path};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use crate::token::{Secret, SecretSource};

/// Shorter ones can be guessed.
pub const SHORTEST_CREDENTIAL: usize = 16;
/// A file is read no further.
const MOST_BYTES: u64 = 4096;

/// A bearer credential: given, or in a file that is read anew for each request, so that a new one counts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential(SecretSource);

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("it cannot be read: {}", crate::state::describe_io(.0))]
    Unreadable(#[from] io::Error),
    /// It could be guessed.
    #[error("it has fewer than {SHORTEST_CREDENTIAL} characters; use one such as `openssl rand -hex 32` prints")]
    TooShort,
}

// === impl Credential ===

impl Credential {
    /// Wraps what was configured.
    #[must_use]
    pub fn new(source: SecretSource) -> Self {
        Self(source)
    }

    /// Can it be used as it stands? Reads the file.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn examine(&self) -> Result<(), CredentialError> {
        self.secret().map(drop)
    }

    /// Is this it? Blocks while the file is read.
    ///
    /// # Errors
    /// [`CredentialError`]: then nothing is.
    pub fn is(&self, presented: &str) -> Result<bool, CredentialError> {
        let secret = self.secret()?;
        // Digests have one length, so that not even the length of the secret shows in the time.
        let [ours, theirs] = [secret.expose(), presented].map(|text| digest(&SHA256, text.as_bytes()));
        Ok(verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).is_ok())
    }

    fn secret(&self) -> Result<Secret, CredentialError> {
        let secret = match &self.0 {
            SecretSource::Text(secret) => secret.clone(),
            SecretSource::File(path) => Secret::new(&read(path)?),
        };
        if secret.expose().chars().count() < SHORTEST_CREDENTIAL { Err(CredentialError::TooShort) } else { Ok(secret) }
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe waits for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_itself_and_nothing_else() {
        let given = Credential::new(SecretSource::Text(Secret::new("correct horse battery")));
        for (presented, want) in [
            ("correct horse battery", true),
            ("correct horse batterz", false),
            ("correct horse batter", false),
            ("correct horse battery ", false),
            ("Correct horse battery", false),
            ("", false),
        ] {
            assert_eq!(given.is(presented).unwrap(), want, "{presented}");
        }
        assert!(!format!("{given:?}").contains("horse"));
    }

    #[test]
    fn a_file_is_read_anew_each_time_and_a_bad_one_lets_nobody_in() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credential");
        let credential = Credential::new(SecretSource::File(path.clone()));
        assert!(matches!(credential.is("x"), Err(CredentialError::Unreadable(_))));
        for (content, presented, want) in [
            ("first-credential-1\n", "first-credential-1", Some(true)),
            ("second-credential", "first-credential-1", Some(false)),
            ("second-credential\r\n\n", "second-credential", Some(true)),
            ("too-short", "too-short", None),
            ("\n", "", None),
            ("", "", None),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(credential.is(presented).ok(), want, "{content:?}");
        }
    }
}
