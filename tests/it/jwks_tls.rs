//! Keys from servers with certificates of the operator's own: who is believed, who we say we are, and what happens when
//! the files change.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use claimgate::{
    fetch,
    reload::{self, FetchSettings, KeySource, Settings},
    shutdown,
    snapshot::{Handle, KeyHealth},
    token::{Algorithm, IssuerProfile, KeyOrigin, ProfileSettings, SigningKey},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::sync::Notify;

use crate::support::PATIENCE;

const ISSUER: &str = "https://idp.example";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(format!("{name}.pem"))
}

/// Which client each request that got through TLS was from; `nobody` for one without a certificate.
type Clients = Arc<Mutex<Vec<String>>>;

/// A server named `localhost` that answers with a key set. `wants_client`: only to clients that one of the two
/// authorities knows.
fn serve(wants_client: bool) -> (u16, Clients) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        for authority in ["ca", "local-ca"] {
            roots.add(CertificateDer::from_pem_file(fixture(authority)).unwrap()).unwrap();
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_file(fixture("local-server")).unwrap()];
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(fixture("local-server-key")).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let clients = Clients::default();
    let seen = Arc::clone(&clients);
    let body = SigningKey::generate_es256("a").unwrap().public_jwks().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // A client that does not believe us goes away; so may this.
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..read]);
                if request.ends_with(b"\r\n\r\n") {
                    break;
                }
            }
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let certificates = stream.conn.peer_certificates().unwrap_or_default();
            let named =
                |name: &&str| CertificateDer::from_pem_file(fixture(name)).is_ok_and(|it| certificates[0] == it);
            let client = match certificates {
                [] => "nobody",
                _ => ["client", "local-client"].into_iter().find(named).unwrap_or("somebody"),
            };
            seen.lock().unwrap().push(client.to_owned());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, clients)
}

/// A running `reload` with one issuer.
struct World {
    handle: Handle,
    force: Arc<Notify>,
    _shutdown: shutdown::Trigger,
}

impl World {
    async fn start(url: String, http: fetch::Settings) -> Self {
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::ES256],
            key_origin: KeyOrigin::Remote,
            ..ProfileSettings::default()
        });
        let fetch = FetchSettings { http, ..FetchSettings::default() };
        let profiles = vec![(profile.unwrap(), KeySource::Url { url, fetch })];
        let settings = Settings { profiles, startup: reload::Startup { key_wait: PATIENCE }, ..Settings::default() };
        let (trigger, signal) = shutdown::channel();
        let force = Arc::new(Notify::new());
        let (handle, _task) = reload::start(settings, None, Arc::clone(&force), signal).await.unwrap();
        Self { handle, force, _shutdown: trigger }
    }

    fn keys(&self) -> KeyHealth {
        self.handle.health().keys[ISSUER].clone()
    }

    /// As SIGHUP does; the state after the fetch that follows.
    async fn force(&self) -> KeyHealth {
        let attempts = |keys: &KeyHealth| keys.fetches + keys.fetch_failures;
        let before = attempts(&self.keys());
        self.force.notify_one();
        let began = std::time::Instant::now();
        while attempts(&self.keys()) == before {
            assert!(began.elapsed() < PATIENCE, "no fetch came");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        self.keys()
    }
}

fn with(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> fetch::Settings {
    fetch::Settings {
        timeout: PATIENCE,
        ca_file: ca.map(Path::to_owned),
        client_certificate: identity.map(|(certificate, _)| certificate.to_owned()),
        client_key: identity.map(|(_, key)| key.to_owned()),
        ..fetch::Settings::default()
    }
}

#[track_caller]
fn assert_failed(keys: &KeyHealth, says: &str) {
    let error = keys.last_error.clone().unwrap_or_default();
    assert!(error.contains(says), "{error:?}, not {says}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_by_the_authorities_of_the_file_and_by_its_name() {
    let (port, _) = serve(false);
    let url = |host: &str| format!("https://{host}:{port}/keys");
    let local = fixture("local-ca");
    let good = World::start(url("localhost"), with(Some(&local), None)).await.keys();
    assert_eq!((good.keys, good.last_error), (Some(1), None));
    for (host, ca) in [("localhost", None), ("localhost", Some(fixture("ca"))), ("127.0.0.1", Some(local))] {
        let keys = World::start(url(host), with(ca.as_deref(), None)).await.keys();
        assert_failed(&keys, "certificate");
        assert_eq!(keys.keys, None, "{host} {ca:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_is_shown_the_certificate() {
    let (port, clients) = serve(true);
    let url = || format!("https://localhost:{port}/keys");
    let ca = fixture("local-ca");
    let nameless = World::start(url(), with(Some(&ca), None)).await.keys();
    assert!(nameless.keys.is_none() && nameless.last_error.is_some(), "{nameless:?}");
    let identity = (fixture("client"), fixture("client-key"));
    let keys = World::start(url(), with(Some(&ca), Some((&identity.0, &identity.1)))).await.keys();
    assert_eq!((keys.keys, keys.last_error), (Some(1), None));
    assert_eq!(*clients.lock().unwrap(), ["client"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_are_used_at_the_next_forced_fetch_and_broken_ones_never() {
    let (port, clients) = serve(true);
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let put = |from: &str, to: &str| fs::copy(fixture(from), place(to)).unwrap();
    put("local-ca", "ca");
    put("client", "certificate");
    put("client-key", "key");
    let (ca, certificate, key) = (place("ca"), place("certificate"), place("key"));
    let settings = with(Some(&ca), Some((&certificate, &key)));
    let world = World::start(format!("https://localhost:{port}/keys"), settings).await;
    assert_eq!(world.keys().last_error, None);

    put("local-client", "certificate");
    assert_eq!(world.force().await.last_error, None, "the key does not belong to it yet: both stay as they were");
    put("local-client-key", "key");
    assert_eq!(world.force().await.last_error, None);
    assert_eq!(*clients.lock().unwrap(), ["client", "client", "local-client"]);

    fs::write(&ca, "junk").unwrap();
    assert_eq!(world.force().await.last_error, None, "what is no file of certificates replaces none");
    fs::remove_file(&ca).unwrap();
    assert_eq!(world.force().await.last_error, None);
    put("ca", "ca");
    let keys = world.force().await;
    assert_failed(&keys, "certificate");
    assert_eq!(keys.keys, Some(1), "the keys before it serve on");
    put("local-ca", "ca");
    assert_eq!(world.force().await.last_error, None);
}
