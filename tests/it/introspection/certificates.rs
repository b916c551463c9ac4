//! An authorization server that knows its clients by their certificates (RFC 8705 §2), and answers only to those.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::json;

use super::{
    POLICY, opa,
    provider::{answer, plain},
    refused,
};
use crate::support::{
    setup::{Server, Setup},
    tokens::{AUDIENCE, ISSUER},
};

fn fixture(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    directory.join(format!("{name}.pem")).display().to_string()
}

/// A server named `localhost` for clients of the authority `local-ca`, and the requests that got through TLS.
fn serve(reply: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("local-ca")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(fixture("local-server")).unwrap()];
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(fixture("local-server-key")).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let (mut request, mut buffer) = (String::new(), [0; 4096]);
            // Who has no certificate does not get through the handshake, which the first read completes.
            while !request.contains("&client_id=") {
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => request.push_str(&String::from_utf8_lossy(&buffer[..read])),
                    _ => break,
                }
            }
            if request.is_empty() {
                continue;
            }
            seen.lock().unwrap().push(request);
            let _ = stream.write_all(reply.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, requests)
}

fn gate(port: u16, certificate: &str, ca: &str) -> Server {
    let (file, key, ca) = (fixture(certificate), fixture(&format!("{certificate}-key")), fixture(ca));
    Setup::new(&format!(
        "issuers:\n  - issuer: {ISSUER}\n    audiences: [{AUDIENCE}]\n    introspection:\n      url: \
         https://localhost:{port}/introspect\n      authentication: tls_client_auth\n      client_id: gate\n      ca_file: \
         {ca}\n      client_certificate: {file}\n      client_key: {key}\n      opaque: true\npolicy: {{bundles: [{{name: \
         b, path: bundle}}], entrypoint: gate/allow}}\n"
    ))
    .file("bundle/gate.rego", POLICY)
    .serve()
}

#[test]
fn a_certificate_shows_who_asks() {
    let (port, requests) = serve(answer(json!({})));
    assert_eq!(opa(&gate(port, "local-client", "local-ca"), "opaque").result(), true);
    let request = requests.lock().unwrap().remove(0);
    assert!(request.ends_with("token=opaque&token_type_hint=access_token&client_id=gate"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("authorization:"), "{request}");

    refused(&opa(&gate(port, "client", "local-ca"), "opaque"), 503, "temporarily_unavailable");
    refused(&opa(&gate(port, "local-client", "ca"), "opaque"), 503, "temporarily_unavailable");
    assert!(
        requests.lock().unwrap().is_empty(),
        "nothing is said to whom we do not believe, or who does not believe us"
    );
}

#[test]
fn a_server_that_knows_the_certificate_may_still_say_no() {
    let (port, _) = serve(plain("200 OK", "Content-Type: application/json\r\n", r#"{"active": false}"#));
    refused(&opa(&gate(port, "local-client", "local-ca"), "opaque"), 401, "invalid_token");
}
