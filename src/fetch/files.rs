//! Certificates and keys from the operator's files: read whole, tried, and put into a client. What is wrong is told with
//! the name of the setting and of the file.

use std::fmt;

use reqwest::{Certificate, ClientBuilder, Identity};

use super::{Error, Settings, root_cause};
use crate::state::{describe_io, read_regular};

/// Largest certificate or key file.
const MAX_BYTES: u64 = 1 << 20;

/// Contents of the files, by the names of their settings. Its `Debug` shows no content.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    contents: Vec<(&'static str, Vec<u8>)>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.contents.iter().map(|(setting, _)| setting)).finish()
    }
}

impl Files {
    /// All files of the settings.
    pub(super) fn read(settings: &Settings) -> Result<Self, Error> {
        let mut contents = Vec::new();
        for (setting, path) in settings.files() {
            let content = read_regular(path, MAX_BYTES).map_err(|error| Error::File {
                setting,
                path: path.clone(),
                reason: describe_io(&error),
            })?;
            contents.push((setting, content));
        }
        Ok(Self { contents })
    }

    /// Tries each file by itself, so that the error names the right one.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Error> {
        let built = |builder: ClientBuilder, setting: &str| {
            let built = builder.build();
            built.map(drop).map_err(|error| match root_cause(&error) {
                cause if cause.contains("KeyMismatch") => {
                    file_error(settings, setting, "it is not the key of `client_certificate`")
                }
                cause => file_error(settings, setting, &cause),
            })
        };
        // The system's certificates are not what is tried.
        let builder = || reqwest::Client::builder().tls_certs_only([]);
        if let Some(roots) = self.roots(settings)? {
            built(reqwest::Client::builder().tls_certs_only(roots), "ca_file")?;
        }
        if let Some(identity) = self.identity(settings)? {
            built(builder().identity(identity), "client_key")?;
        }
        Ok(())
    }

    pub(super) fn apply(&self, settings: &Settings, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        if let Some(roots) = self.roots(settings)? {
            builder = builder.tls_certs_only(roots);
        }
        if let Some(identity) = self.identity(settings)? {
            builder = builder.identity(identity);
        }
        Ok(builder)
    }

    fn roots(&self, settings: &Settings) -> Result<Option<Vec<Certificate>>, Error> {
        let Some(pem) = self.get("ca_file") else { return Ok(None) };
        match Certificate::from_pem_bundle(pem) {
            Ok(roots) if !roots.is_empty() => Ok(Some(roots)),
            _ => Err(file_error(
                settings,
                "ca_file",
                "there is no certificate in it; expected PEM (`-----BEGIN CERTIFICATE-----`)",
            )),
        }
    }

    fn identity(&self, settings: &Settings) -> Result<Option<Identity>, Error> {
        let (Some(certificate), Some(key)) = (self.get("client_certificate"), self.get("client_key")) else {
            return Ok(None);
        };
        let has = |pem: &[u8], label: &str| String::from_utf8_lossy(pem).contains(label);
        if !has(certificate, "-----BEGIN CERTIFICATE-----") {
            let reason = "there is no certificate in it; expected PEM (`-----BEGIN CERTIFICATE-----`)";
            return Err(file_error(settings, "client_certificate", reason));
        }
        if has(key, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(key, "Proc-Type: 4,ENCRYPTED") {
            let reason = "the key is encrypted; decrypt it, with `openssl pkey` for one";
            return Err(file_error(settings, "client_key", reason));
        }
        if !has(key, "PRIVATE KEY-----") {
            let reason = "there is no private key in it; expected PEM (`-----BEGIN PRIVATE KEY-----`)";
            return Err(file_error(settings, "client_key", reason));
        }
        let pem = [certificate, b"\n", key].concat();
        let identity = Identity::from_pem(&pem);
        identity.map(Some).map_err(|_| file_error(settings, "client_certificate", "it is not PEM that can be read"))
    }

    fn get(&self, setting: &str) -> Option<&[u8]> {
        self.contents.iter().find(|(name, _)| *name == setting).map(|(_, content)| content.as_slice())
    }
}

fn file_error(settings: &Settings, setting: &str, reason: &str) -> Error {
    let found = settings.files().find(|(name, _)| *name == setting);
    match found {
        Some((setting, path)) => Error::File { setting, path: path.clone(), reason: reason.to_owned() },
        None => Error::Client { reason: reason.to_owned() },
    }
}
