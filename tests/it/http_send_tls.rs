//! `http.send` over TLS: who is believed, under which name, and who we say we are.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
};

use claimgate::{
    outbound::{Outbound, Settings},
    policy::{HttpError, HttpRequest, HttpSend as _, HttpTls, PemSource},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::support::PATIENCE;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name).display().to_string()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// A server that answers with the name of its client's certificate's bytes, or `nobody`.
fn serve(wants_client: bool) -> u16 {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()];
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(fixture("server-key.pem")).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
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
            let name = stream.conn.server_name().unwrap_or("no name").to_owned();
            let client = if stream.conn.peer_certificates().is_some() { "client" } else { "nobody" };
            let host = String::from_utf8_lossy(&request).into_owned();
            let host = host.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default().to_owned();
            let body = format!("{name} {client} {}", host.replace(&port.to_string(), "PORT"));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

/// What the server says, or the error.
fn check(port: u16, tls: &HttpTls, want: Result<&str, &str>) {
    let allow = vec!["127.0.0.1".parse().unwrap()];
    let outbound = Outbound::new(Settings { allow, ..Settings::default() });
    let request = HttpRequest {
        method: "GET".to_owned(),
        url: format!("https://127.0.0.1:{port}/"),
        headers: Vec::new(),
        body: Vec::new(),
        follow_redirects: false,
        tls: tls.clone(),
        timeout: Some(PATIENCE),
        retries: 0,
        caching: None,
        key: String::new(),
        now_ns: 0,
        time_left: PATIENCE,
    };
    match (outbound.send(&request), want) {
        (Ok(answer), Ok(want)) => assert_eq!(String::from_utf8_lossy(&answer.body), want, "{tls:?}"),
        (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{tls:?}: {error}"),
        (got, want) => panic!("{tls:?}: {got:?}, not {want:?}"),
    }
}

fn inline(name: &str) -> PemSource {
    PemSource { inline: Some(text(name)), ..PemSource::default() }
}

fn file(name: &str) -> PemSource {
    PemSource { file: Some(fixture(name)), ..PemSource::default() }
}

fn named(ca_cert: PemSource) -> HttpTls {
    HttpTls { ca_cert, server_name: Some("directory.test".to_owned()), ..HttpTls::default() }
}

#[test]
fn a_server_is_believed_by_its_authority_and_name() {
    let port = serve(false);
    let good = Ok("directory.test nobody 127.0.0.1:PORT");
    check(port, &named(inline("ca.pem")), good);
    check(port, &named(file("ca.pem")), good);
    let escaped = PemSource { inline: Some(text("ca.pem").replace('\n', "\\n")), ..PemSource::default() };
    check(port, &named(escaped), good);
    check(port, &HttpTls { use_system_certs: Some(true), ..named(inline("ca.pem")) }, good);
    check(port, &named(PemSource::default()), Err("certificate"));
    check(port, &named(inline("client.pem")), Err("certificate"));
    let other = HttpTls { server_name: Some("other.test".to_owned()), ..named(inline("ca.pem")) };
    check(port, &other, Err("certificate"));
    check(port, &HttpTls { server_name: None, ..named(inline("ca.pem")) }, Err("certificate"));
    let blind = HttpTls { insecure_skip_verify: true, ..HttpTls::default() };
    check(port, &blind, Ok("no name nobody 127.0.0.1:PORT"));
    check(port, &named(PemSource { inline: Some("junk".to_owned()), ..PemSource::default() }), Err("could not append"));
    check(
        port,
        &named(PemSource { file: Some("/no/such".to_owned()), ..PemSource::default() }),
        Err("open: entity not found"),
    );
    for name in ["169.254.169.254", "[::1]", "a/b", "a@b", "10.1"] {
        let tls = HttpTls { server_name: Some(name.to_owned()), ..named(inline("ca.pem")) };
        check(port, &tls, Err("tls_server_name is not a name"));
    }
}

#[test]
fn a_server_may_ask_who_we_are() {
    let port = serve(true);
    let sources: [fn(&str) -> PemSource; 2] = [inline, file];
    for source in sources {
        let tls = HttpTls {
            client_cert: source("client.pem"),
            client_key: source("client-key.pem"),
            ..named(inline("ca.pem"))
        };
        check(port, &tls, Ok("directory.test client 127.0.0.1:PORT"));
    }
    // One half is none, as in OPA.
    let half = HttpTls { client_cert: inline("client.pem"), ..named(inline("ca.pem")) };
    check(port, &half, Err("Get"));
    let junk = HttpTls { client_cert: inline("ca.pem"), client_key: inline("ca.pem"), ..named(inline("ca.pem")) };
    check(port, &junk, Err("tls: "));
}

#[test]
fn redirects_and_another_name_do_not_go_together() {
    let outbound = Outbound::new(Settings { allow: vec!["a.test".parse().unwrap()], ..Settings::default() });
    let request = HttpRequest {
        method: String::new(),
        url: "https://a.test/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        follow_redirects: true,
        tls: named(PemSource::default()),
        timeout: None,
        retries: 0,
        caching: None,
        key: String::new(),
        now_ns: 0,
        time_left: PATIENCE,
    };
    assert!(matches!(outbound.send(&request), Err(HttpError::Refused(_))));
}
