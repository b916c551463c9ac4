//! The data plane over TLS: who gets through the handshake, which certificate a token may be bound to, and how new
//! files are taken.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::json;

use crate::support::{
    PATIENCE, eventually,
    setup::{Server, Setup},
    tokens::Issuer,
};

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name).display().to_string()
}

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

fn server(issuer: &Issuer, tls: &str) -> Server {
    let config = format!(
        "{}policy: {{bundles: [policy], entrypoint: p/allow}}\ntls: {{certificate: server.pem, key: key.pem{tls}}}\n",
        issuer.section()
    );
    let setup = Setup::new(&config).file("policy/p.rego", "package p\n\nallow := input.token.subject == \"alice\"\n");
    let setup = setup.file("server.pem", &text("server.pem")).file("key.pem", &text("server-key.pem"));
    setup.file("ca.pem", &text("ca.pem")).serve()
}

/// A client with a certificate (its file and its key's), or without.
struct Client {
    certificate: Option<(String, String)>,
    version: &'static SupportedProtocolVersion,
}

impl Client {
    fn nobody() -> Self {
        Self { certificate: None, version: &TLS13 }
    }

    fn with(certificate: &str, key: &str) -> Self {
        Self { certificate: Some((fixture(certificate), fixture(key))), version: &TLS13 }
    }

    /// Asks for the decision; `None` when there was no connection.
    fn ask(&self, server: &Server, authorization: &str) -> Option<String> {
        self.ask_with(&self.config(), server, authorization).map(|(answer, _)| answer)
    }

    fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        })
    }

    /// The same with a memory of sessions: also tells whether one was resumed.
    fn ask_with(&self, config: &Arc<ClientConfig>, server: &Server, authorization: &str) -> Option<(String, bool)> {
        let connection = ClientConnection::new(Arc::clone(config), "directory.test".try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(&server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let request = format!(
            "POST /v1/data/p/allow HTTP/1.1\r\nhost: directory.test\r\nauthorization: {authorization}\r\n\
             content-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let _ = stream.sock.shutdown(Shutdown::Both);
        let wanted = if self.version.version == ProtocolVersion::TLSv1_2 { "1.2" } else { "1.3" };
        let spoken = if stream.conn.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
        (!answer.is_empty()).then(|| {
            assert_eq!(spoken, wanted);
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            let result = answer.split("\"result\":").nth(1).and_then(|rest| rest.split(['}', ',', '\n']).next());
            let is_resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
            (format!("{status} {}", result.unwrap_or("-").trim()), is_resumed)
        })
    }
}

fn thumbprint(certificate: &str) -> String {
    let der = CertificateDer::from_pem_file(fixture(certificate)).unwrap();
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der))
}

#[test]
fn a_token_that_is_bound_to_a_certificate_needs_a_connection_with_it() {
    let issuer = Issuer::new();
    let bound = format!("Bearer {}", issuer.token_with(json!({ "cnf": { "x5t#S256": thumbprint("client.pem") } })));
    let plain = issuer.bearer("alice");
    let (holder, other) = (Client::with("client.pem", "client-key.pem"), Client::with("server.pem", "server-key.pem"));
    // For each: a bound token of its holder, of another, of nobody, and a plain token of nobody.
    let cases: &[(&str, [Option<&str>; 4])] = &[
        ("", [Some("401 -"), Some("401 -"), Some("401 -"), Some("200 true")]),
        (", client_certificates: request", [Some("200 true"), Some("401 -"), Some("401 -"), Some("200 true")]),
        (", client_certificates: require", [Some("200 true"), Some("401 -"), None, None]),
        // The other certificate is of the authority too, but it is a server's.
        (
            ", client_certificates: request, client_ca: ca.pem",
            [Some("200 true"), None, Some("401 -"), Some("200 true")],
        ),
        (", client_certificates: require, client_ca: ca.pem", [Some("200 true"), None, None, None]),
    ];
    for (tls, want) in cases {
        let server = server(&issuer, tls);
        let got = [
            holder.ask(&server, &bound),
            other.ask(&server, &bound),
            Client::nobody().ask(&server, &bound),
            Client::nobody().ask(&server, &plain),
        ];
        assert_eq!(got.each_ref().map(Option::as_deref), *want, "{tls}");
    }
    let server = server(&issuer, ", client_certificates: request");
    let old = Client { version: &TLS12, ..Client::with("client.pem", "client-key.pem") };
    assert_eq!(old.ask(&server, &bound).as_deref(), Some("200 true"), "TLS 1.2");
}

#[test]
fn a_resumed_session_has_the_certificate_of_the_first_one() {
    let issuer = Issuer::new();
    let bound = format!("Bearer {}", issuer.token_with(json!({ "cnf": { "x5t#S256": thumbprint("client.pem") } })));
    for version in [&TLS12, &TLS13] {
        let server = server(&issuer, ", client_certificates: request");
        let holder = Client { version, ..Client::with("client.pem", "client-key.pem") };
        let config = holder.config();
        let asked: Vec<_> = (0..3).map(|_| holder.ask_with(&config, &server, &bound)).collect();
        let want = |is_resumed| Some(("200 true".to_owned(), is_resumed));
        assert_eq!(asked, [want(false), want(true), want(true)], "{:?}", version.version);
    }
}

#[test]
fn the_certificate_of_a_trusted_proxy_is_not_its_clients() {
    let issuer = Issuer::new();
    let config = format!(
        "{}policy: {{bundles: [policy], entrypoint: p/allow}}\nforward_auth: {{trusted_peers: [127.0.0.1]}}\n\
         token: {{client_certificate: {{header: xfcc}}}}\n\
         tls: {{certificate: '{}', key: '{}', client_certificates: require}}\n",
        issuer.section(),
        fixture("server.pem"),
        fixture("server-key.pem")
    );
    let server = Setup::new(&config).file("policy/p.rego", "package p\n\nallow := true\n").serve();
    let bound = issuer.token_with(json!({ "cnf": { "x5t#S256": thumbprint("client.pem") } }));
    let der = CertificateDer::from_pem_file(fixture("client.pem")).unwrap();
    let hash: String =
        digest::digest(&digest::SHA256, &der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (own, other) = (Client::with("client.pem", "client-key.pem"), Client::with("server.pem", "server-key.pem"));
    assert_eq!(own.ask(&server, &format!("Bearer {bound}")).as_deref(), Some("401 -"), "nothing was said of a client");
    let told = format!("Bearer {bound}\r\nx-forwarded-client-cert: Hash={hash}");
    assert_eq!(other.ask(&server, &told).as_deref(), Some("200 true"));
}

#[test]
fn whoever_speaks_no_tls_gets_nothing_and_takes_nothing_from_others() {
    let issuer = Issuer::new();
    let server = server(&issuer, "");
    // Plain HTTP, rubbish, and silence.
    let mut silent = Vec::new();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 0x03, 0x01, 0xff, 0xff, 0x00], b""] {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        socket.write_all(bytes).unwrap();
        silent.push(socket);
    }
    assert_eq!(Client::nobody().ask(&server, &issuer.bearer("alice")).as_deref(), Some("200 true"));
    eventually("the plain request is counted", || {
        let count = server.metric("claimgate_requests_refused_total", &["reason=\"tls_handshake_failed\""]);
        (count >= 1.0).then_some(())
    });
    // The admin listener stays plain.
    assert_eq!(server.admin("/ready").status, 200);
}

#[test]
fn clients_that_shake_no_hands_give_way_to_others() {
    let issuer = Issuer::new();
    let config = format!(
        "{}policy: {{bundles: [policy], entrypoint: p/allow}}\ntls: {{certificate: '{}', key: '{}'}}\n\
         limits: {{connections: 4}}\n",
        issuer.section(),
        fixture("server.pem"),
        fixture("server-key.pem")
    );
    let setup = Setup::new(&config).file("policy/p.rego", "package p\n\nallow := input.token.subject == \"alice\"\n");
    let server = setup.serve();
    let idle: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    for _ in 0..3 {
        assert_eq!(Client::nobody().ask(&server, &issuer.bearer("alice")).as_deref(), Some("200 true"));
    }
    drop(idle);
}

#[test]
fn new_files_are_taken_when_they_go_together() {
    let issuer = Issuer::new();
    let server = server(&issuer, "");
    let alice = issuer.bearer("alice");
    let ask = || Client::nobody().ask(&server, &alice);
    assert_eq!(ask().as_deref(), Some("200 true"));
    // Half of a change: the old files serve on.
    server.replace("key.pem", &text("client-key.pem"));
    // The whole: this certificate is not one of `directory.test`, so the client goes away.
    server.replace("server.pem", &text("client.pem"));
    eventually("the new certificate is shown", || ask().is_none().then_some(()));
    server.replace("server.pem", "rubbish");
    server.replace("server.pem", &text("server.pem"));
    server.replace("key.pem", &text("server-key.pem"));
    eventually("the old certificate is back", || ask().map(drop));
}
