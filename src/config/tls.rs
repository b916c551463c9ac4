//! `tls` → [`TlsSettings`]. The files are read here already, so that `check` finds a key that does not go with its
//! certificate.

use super::{problem::Code, section::Section};
use crate::serve::{ClientCertificates, TlsSettings};

/// Reads the section; `None` when it is not there, or of no use.
pub(super) fn read(root: &mut Section<'_>) -> Option<TlsSettings> {
    let mut tls = root.section("tls");
    let (certificate, key, client_ca) = (tls.text("certificate"), tls.text("key"), tls.text("client_ca"));
    let choices = [
        ("off", ClientCertificates::Off),
        ("request", ClientCertificates::Request),
        ("require", ClientCertificates::Require),
    ];
    let client_certificates = tls.choice("client_certificates", &choices, ClientCertificates::Off);
    let is_wanted = certificate.is_some() || key.is_some() || client_certificates != ClientCertificates::Off;
    for (name, given) in [("certificate", certificate.is_some()), ("key", key.is_some())] {
        if is_wanted && !given && !tls.concerns(name) {
            tls.problem(Code::MissingKey, name, "it is not set; write the path of a PEM file");
        }
    }
    if let (Some(text), ClientCertificates::Off, false) =
        (&client_ca, client_certificates, tls.concerns("client_certificates"))
    {
        let message = "no client is asked for a certificate; set `client_certificates` to `request` or `require`";
        tls.problem_at(text, message);
    }
    let settings = certificate.zip(key).map(|(certificate, key)| TlsSettings {
        certificate: tls.existing(&certificate),
        key: tls.existing(&key),
        client_certificates,
        client_ca: client_ca.map(|text| tls.existing(&text)),
    });
    if let Some(settings) = settings.as_ref().filter(|_| !tls.has_problems())
        && let Err(error) = settings.check()
    {
        let place = match &error.file {
            file if *file == settings.key => "key",
            file if Some(file) == settings.client_ca.as_ref() => "client_ca",
            _ => "certificate",
        };
        tls.problem(Code::InvalidValue, place, error.to_string());
    }
    tls.finish();
    settings
}
