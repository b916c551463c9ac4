//! TLS of the data plane's own: the server's certificate, read again when its files change, and the client's, of which only
//! the hash is of interest (RFC 8705). TLS 1.2 and 1.3; a client that cannot prove to hold its certificate's key never
//! gets through the handshake.
//!
//! Without `client_ca` any certificate will do (RFC 8705 §2.2): what makes it worth something is that a token is bound to
//! it. It makes nobody a caller.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::digest;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    state::{describe_io, read_regular},
    token::CertificateThumbprint,
};

/// The files, and whether clients are asked for certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate with those between it and the authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Are clients asked for theirs?
    pub client_certificates: ClientCertificates,
    /// The authorities of client certificates, in PEM; `None`: any certificate will do.
    pub client_ca: Option<PathBuf>,
}

/// Are clients asked for a certificate?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// No.
    #[default]
    Off,
    /// Yes, and those who have none are served too.
    Request,
    /// Yes, and those who have none are not served.
    Require,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct TlsError {
    /// The file, as configured.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What connections are made with: the newest files that could be used.
#[derive(Clone)]
pub(super) struct Tls {
    settings: TlsSettings,
    current: Arc<RwLock<Arc<ServerConfig>>>,
    /// Of the files that were tried last, used or not.
    tried: [u8; 32],
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// No PEM file is longer.
const LONGEST_FILE: u64 = 1 << 20;

/// The files as they were read together.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

// === impl TlsSettings ===

impl TlsSettings {
    /// Reads the files and sees whether a server can be made of them.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check(&self) -> Result<(), TlsError> {
        Files::read(self).and_then(|files| files.config(self)).map(drop)
    }
}

// === impl Tls ===

impl Tls {
    pub(super) fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let files = Files::read(settings)?;
        let config = files.config(settings)?;
        let tried = files.digest();
        Ok(Self { settings: settings.clone(), current: Arc::new(RwLock::new(Arc::new(config))), tried })
    }

    /// Shakes hands with a client.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // Swapping a pointer leaves nothing half done.
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Takes new files when they can be used, until `stop` is true. A certificate and its key are two files: where they do
    /// not belong together the old ones serve on, and the next look may see both.
    pub(super) async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = interval.tick() => {}
            }
            let settings = self.settings.clone();
            // Reading may wait for a disk.
            let Ok(read) = tokio::task::spawn_blocking(move || Files::read(&settings)).await else { continue };
            self.take(read);
        }
    }

    fn take(&mut self, read: Result<Files, TlsError>) {
        let tried = read.as_ref().map_or([0; 32], Files::digest);
        if tried == self.tried {
            return;
        }
        self.tried = tried;
        match read.and_then(|files| files.config(&self.settings)) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!(certificate = %self.settings.certificate.display(), "new TLS files are in use");
            }
            Err(error) => tracing::warn!(%error, "new TLS files cannot be used; the old ones serve on"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The certificate whose key the client proved to hold.
pub(super) fn certificate_of(stream: &TlsStream<TcpStream>) -> Option<CertificateThumbprint> {
    let (_, connection) = stream.get_ref();
    connection.peer_certificates()?.first().map(|certificate| CertificateThumbprint::of_der(certificate))
}

// === impl Files ===

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for file in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            context.update(digest::digest(&digest::SHA256, file).as_ref());
        }
        let mut all = [0; 32];
        all.copy_from_slice(context.finish().as_ref());
        all
    }

    fn config(&self, settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
        let failed =
            |file: &Path, problem: &dyn fmt::Display| TlsError { file: file.to_owned(), problem: problem.to_string() };
        let provider = Arc::new(provider::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS12, &TLS13])
            .map_err(|error| failed(&settings.certificate, &error))?;
        let builder = match self.verifier(settings, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let chain = certificates(&settings.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| failed(&settings.key, &"it holds no private key in PEM"))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|_| failed(&settings.key, &"it is not the key of the certificate, or of a kind that TLS lacks"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        settings: &TlsSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let is_mandatory = match settings.client_certificates {
            ClientCertificates::Off => return Ok(None),
            ClientCertificates::Request => false,
            ClientCertificates::Require => true,
        };
        let (Some(file), Some(bytes)) = (&settings.client_ca, &self.client_ca) else {
            return Ok(Some(Arc::new(AnyCertificate { is_mandatory, provider: Arc::clone(provider) })));
        };
        let failed = |problem: String| TlsError { file: file.clone(), problem };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(file, bytes)? {
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if is_mandatory { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| failed(error.to_string()))?;
        Ok(Some(verifier))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |problem: String| TlsError { file: file.to_owned(), problem };
    read_regular(file, LONGEST_FILE).map_err(|error| failed(describe_io(&error)))
}

/// At least one.
fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError { file: file.to_owned(), problem: "it holds no certificate in PEM".to_owned() }),
    }
}

/// Takes any certificate, but only from whoever can sign the handshake with its key.
#[derive(Debug)]
struct AnyCertificate {
    is_mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
