//! Bad input on real sockets: sizes, times, and bytes that are no HTTP. Each case gets its 4xx or a closed connection,
//! and the next request is served. Times are settings of a few milliseconds here, so no test waits for a real one.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use crate::support::{
    eventually,
    http::{Client, Fields, request},
    setup::{Server, Setup, millis},
    tokens::Issuer,
};

const QUESTION: &str = r#"{"input":{"user":"alice"}}"#;

/// Echoes its input; small limits.
fn server() -> Server {
    server_with("")
}

fn server_with(limits: &str) -> Server {
    let config = format!(
        "opa: {{identity: passthrough}}\npolicy: {{bundles: [{{name: b, path: bundle}}]}}\nlimits: {{body_bytes: 64KiB, \
         gzip_body_bytes: 256KiB, header_bytes: 8KiB{limits}}}\n"
    );
    Setup::new(&config).file("bundle/p.rego", "package p\nallow := input.user == \"alice\"\n").serve()
}

/// The server is as well as before.
fn serves(server: &Server) {
    let got = server.post("/v1/data/p/allow", &[], QUESTION);
    assert_eq!(got.result(), json!(true));
}

// === bytes that are no HTTP, or more than one reading of it ===

#[test]
fn what_is_not_one_clear_request_is_refused_and_the_connection_closed() {
    let server = server();
    let cases: &[(&str, &[u8])] = &[
        ("garbage", b"\x00\x01\x02\xff\xfe garbage \r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("words", b"hello\r\n\r\n"),
        ("no version", b"GET /\r\n\r\n"),
        ("an unknown version", b"GET / HTTP/3.0\r\nhost: a\r\n\r\n"),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a space in the target", b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a control character in the target", b"GET /a\x01b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a control character in a header", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n"),
        ("a space before the colon", b"GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
        ("a header without a colon", b"GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n"),
        ("a folded header", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n"),
        ("two lengths", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x"),
        ("a list of lengths", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 3\r\n\r\n{}x"),
        ("a negative length", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: -2\r\n\r\n{}"),
        ("a signed length", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\n{}"),
        ("a hexadecimal length", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: 0x2\r\n\r\n{}"),
        ("a huge length", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n{}"),
        ("an unknown coding", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: zip\r\n\r\n{}"),
        ("chunked not last", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n{}"),
        ("chunked in HTTP/1.0", b"POST /v1/data/p HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk size that is no number", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        ("a chunk size that overflows", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("a chunk without its end", b"POST /v1/data/p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n"),
    ];
    for (what, bytes) in cases {
        let mut client = server.client();
        client.write(bytes);
        client.close_sending();
        if let Some(answer) = client.try_answer(false) {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
            assert!(client.is_closed(), "{what}: the connection stays open after {answer:?}");
        }
        serves(&server);
    }
}

#[test]
fn a_length_beside_chunks_is_never_a_second_request() {
    let server = server();
    let mut client = server.client();
    client.write(
        b"POST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
          1a\r\n{\"input\":{\"user\":\"alice\"}}\r\n0\r\n\r\n",
    );
    client.close_sending();
    // Refused, or read by its chunks alone and closed; never read by its length, which would smuggle the rest.
    if let Some(answer) = client.try_answer(false) {
        assert!(answer.status == 400 || answer.result() == json!(true), "{answer:?}");
    }
    assert!(client.is_closed(), "the rest was read as a request");
    serves(&server);
}

#[test]
fn old_and_unusual_requests_are_served() {
    let server = server();
    let length = QUESTION.len();
    let cases = [
        ("HTTP/1.0", format!("POST /v1/data/p/allow HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{QUESTION}")),
        ("no host", format!("POST /v1/data/p/allow HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{QUESTION}")),
        (
            "absolute form",
            format!("POST http://a/v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{QUESTION}"),
        ),
        (
            "the same length twice",
            format!(
                "POST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\ncontent-length: {length}\r\n\r\n{QUESTION}"
            ),
        ),
        (
            "chunks of one byte, with an extension",
            format!(
                "POST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                QUESTION.chars().map(|c| format!("1;x=y\r\n{c}\r\n")).collect::<String>()
            ),
        ),
        (
            "an empty line first",
            format!("\r\nPOST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{QUESTION}"),
        ),
    ];
    for (what, bytes) in &cases {
        let mut client = server.client();
        client.write(bytes.as_bytes());
        let answer = client.try_answer(false);
        let served = answer.as_ref().is_some_and(|answer| answer.status == 200 && answer.result() == json!(true));
        let refused = answer.as_ref().is_some_and(|answer| answer.status == 400);
        // RFC 9110 wants 400 for a missing host and lets a server refuse repeated lengths.
        assert!(served || (refused && matches!(*what, "no host" | "the same length twice")), "{what}: {answer:?}");
    }
    let mut client = server.client();
    client.write(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!((400..500).contains(&client.answer(false).status));
    client.write(b"CONNECT evil.example:443 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.try_answer(false).is_none_or(|answer| (400..500).contains(&answer.status)));
    serves(&server);
}

#[test]
fn an_upgrade_is_not_taken() {
    let server = server();
    let fields: Fields<'_> =
        &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")];
    let got = server.send("POST", "/v1/data/p/allow", fields, QUESTION);
    assert_eq!(got.result(), json!(true));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = server();
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..100 {
        let user = if number % 3 == 0 { "alice" } else { "bob" };
        bytes.extend(request(
            "POST",
            "/v1/data/p/allow",
            &[],
            format!(r#"{{"input":{{"user":"{user}"}}}}"#).as_bytes(),
        ));
    }
    client.write(&bytes);
    for number in 0..100 {
        assert_eq!(client.answer(false).result(), json!(number % 3 == 0), "answer {number}");
    }
}

#[test]
fn a_request_is_answered_though_its_sender_has_closed_its_side() {
    let server = server();
    let mut client = server.client();
    client.write(&request("GET", "/health", &[], b""));
    client.close_sending();
    // hyper may see the end before it writes; then there is no answer, and nothing else is harmed.
    if let Some(answer) = client.try_answer(false) {
        assert_eq!(answer.status, 200);
    }
    serves(&server);
}

#[test]
fn a_connection_that_ends_inside_a_request_harms_nobody() {
    let server = server();
    let whole = request("POST", "/v1/data/p/allow", &[], QUESTION.as_bytes());
    for end in 1..whole.len() {
        let mut client = server.client();
        client.write(&whole[..end]);
        drop(client);
    }
    serves(&server);
}

// === sizes ===

#[test]
fn a_body_is_refused_above_its_limit_and_read_up_to_it() {
    let server = server();
    let body_of = |size: usize| {
        let frame = r#"{"input":{"user":"alice","x":""}}"#;
        format!(r#"{{"input":{{"user":"alice","x":"{}"}}}}"#, "a".repeat(size - frame.len()))
    };
    let limit = 64 << 10;
    assert_eq!(server.post("/v1/data/p/allow", &[], &body_of(limit)).result(), json!(true));
    for path in ["/v1/data/p/allow", "/v0/data/p/allow", "/", "/v1/batch/data/p/allow", "/v1/query", "/v1/compile"] {
        let got = server.post(path, &[], &body_of(limit + 1));
        assert_eq!(got.status, 413, "{path}: {got:?}");
        assert_eq!(got.json()["code"], "body_too_large", "{path}");
    }
    // In chunks, so that no length announces it.
    let chunk = "a".repeat(1 << 10);
    let chunked = format!("{:x}\r\n{chunk}\r\n", chunk.len()).repeat(65) + "0\r\n\r\n";
    let got = server.post("/v1/data/p/allow", &[("transfer-encoding", "chunked")], &chunked);
    assert_eq!(got.status, 413, "{got:?}");
    assert!(server.metric("claimgate_requests_refused_total", &["body_too_large"]) >= 7.0);
    serves(&server);
}

#[test]
fn a_body_that_swells_when_unpacked_is_refused() {
    use std::io::Write as _;
    let server = server();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..1024 {
        encoder.write_all(&[b' '; 1024]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 8 << 10);
    let fields: Fields<'_> = &[("content-encoding", "gzip")];
    let got = server.client().send("POST", "/v1/data/p/allow", fields, &bomb);
    assert_eq!((got.status, got.json()["code"].as_str()), (400, Some("invalid_parameter")), "{got:?}");
    // The same with a lie about its size in the trailer.
    let mut lying = bomb;
    let end = lying.len();
    lying[end - 4..].copy_from_slice(&10u32.to_le_bytes());
    let got = server.client().send("POST", "/v1/data/p/allow", fields, &lying);
    assert_eq!((got.status, got.json()["code"].as_str()), (400, Some("invalid_parameter")), "{got:?}");
    serves(&server);
}

#[test]
fn headers_above_their_limit_are_431() {
    let server = server();
    let many: Vec<(String, String)> = (0..2000).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let long = "a".repeat(64 << 10);
    let target = format!("/v1/data/p/allow?{long}");
    let cases: [(&str, &str, Fields<'_>); 3] = [
        ("a long value", "/v1/data/p/allow", &[("x-long", &long)]),
        ("many headers", "/v1/data/p/allow", &many),
        ("a long target", &target, &[]),
    ];
    for (what, target, fields) in cases {
        let mut client = server.client();
        client.write(&request("GET", target, fields, b""));
        let answer = client.try_answer(false);
        // A peer that is still sending when the connection is closed may lose the answer.
        assert!(answer.as_ref().is_none_or(|answer| matches!(answer.status, 414 | 431)), "{what}: {answer:?}");
        assert!(client.is_closed(), "{what}");
        serves(&server);
    }
    // Just above: everything is read, so the answer arrives.
    let above = "a".repeat(9 << 10);
    let got = server.send("GET", "/v1/data/p/allow", &[("x-long", &above)], "");
    assert_eq!(got.status, 431, "{got:?}");
}

#[test]
fn a_huge_or_odd_token_is_refused_without_a_trace_of_it() {
    let issuer = Issuer::new();
    let server = Setup::new(&format!("{}policy: {{bundles: [{{name: b, path: bundle}}]}}\n", issuer.section()))
        .file("bundle/p.rego", "package p\nallow if input.token.subject == \"alice\"\n")
        .serve();
    let good = issuer.token("alice");
    let parts: Vec<&str> = good.split('.').collect();
    let cases = [
        "a".repeat(20 << 10),
        format!("{}.{}.{}", "a".repeat(10 << 10), parts[1], parts[2]),
        format!("{good}.{good}"),
        format!("{good}={good}"),
        ".".repeat(1000),
        "..".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{good}%00"),
        format!("{good}\u{e9}"),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
    ];
    for token in &cases {
        let got = server.post("/v1/data/p/allow", &[("authorization", &format!("Bearer {token}"))], "{}");
        assert!(matches!(got.status, 400 | 401), "{token:.40}: {got:?}");
        let start: String = token.chars().take(12).collect();
        assert!(start.len() < 12 || !got.text().contains(&start), "{got:?}");
    }
    let got = server.post("/v1/data/p/allow", &[("authorization", &format!("Bearer {good}"))], "{}");
    assert_eq!(got.result(), json!(true));
}

#[test]
fn json_that_nests_too_deep_or_is_malformed_is_400() {
    let server = server();
    let deep_array = format!("{{\"input\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!("{{\"input\":{}1{}}}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let unclosed = format!("{{\"input\":{}", "[".repeat(30_000));
    let cases: [&str; 13] = [
        &deep_array,
        &deep_object,
        &unclosed,
        "{",
        "[",
        "\"",
        "{\"input\":}",
        "{\"input\":nul}",
        "{\"input\":\"\\ud800\"",
        "\u{feff}{}",
        "{\"input\":01}",
        "{\"input\":\"\u{1}\"}",
        "\u{0}",
    ];
    for body in cases {
        for path in ["/v1/data/p/allow", "/v0/data/p/allow", "/", "/v1/batch/data/p/allow"] {
            // What a door does not know in a body it skips, so each gets its own member.
            let body = if path.contains("batch") { body.replace("input", "inputs") } else { body.to_owned() };
            let got = server.post(path, &[], &body);
            assert_eq!(got.status, 400, "{path} {body:.40}: {got:?}");
            assert_eq!(got.json()["code"], "invalid_parameter", "{path} {body:.40}");
        }
    }
    let nested = |levels: usize| {
        format!("{{\"input\":{{\"user\":\"alice\",\"x\":{}{}}}}}", "[".repeat(levels), "]".repeat(levels))
    };
    assert_eq!(server.post("/v1/data/p/allow", &[], &nested(90)).result(), json!(true));
    assert_eq!(server.post("/v1/data/p/allow", &[], &nested(120)).status, 400);
    // Bytes that are no UTF-8, and YAML that is deep or refers to itself.
    assert_eq!(server.client().send("POST", "/v1/data/p/allow", &[], b"{\"input\":\"\xff\"}").status, 400);
    let yaml: Fields<'_> = &[("content-type", "application/yaml")];
    for body in [
        format!("input: {}{}", "[".repeat(10_000), "]".repeat(10_000)),
        "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n\
         d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\ninput: [*e, *e, *e, *e, *e, *e, *e]\n"
            .to_owned(),
    ] {
        let got = server.post("/v1/data/p/allow", yaml, &body);
        assert!(matches!(got.status, 200 | 400), "{got:?}");
        assert!(got.body.len() < 4 << 10);
    }
    serves(&server);
}

// === times ===

#[test]
fn headers_that_do_not_come_close_the_connection() {
    let server = server_with(", header_timeout: 20ms");
    for start in [&b""[..], b"GET / HT", b"GET /health HTTP/1.1\r\nhost: a\r\n"] {
        let mut client = server.client();
        client.write(start);
        let answer = client.try_answer(false);
        assert!(answer.is_none_or(|answer| answer.status == 408), "an answer to half a request");
        assert!(client.is_closed());
    }
    // An idle connection, after its first answer.
    let mut client = server.client();
    assert_eq!(client.get("/health").status, 200);
    assert!(client.is_closed());
    serves(&server);
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let server = server_with(", request_timeout: 50ms");
    let mut client = server.client();
    client.write(b"POST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: 26\r\n\r\n{\"input\"");
    let got = client.answer(false);
    assert_eq!((got.status, got.json()["code"].as_str()), (408, Some("body_timeout")), "{got:?}");
    // What still comes is never taken for a request.
    client.write(b":{}}GET /health HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.is_closed());
    serves(&server);
}

#[test]
fn idle_connections_give_way_at_the_limit_the_longest_idle_first() {
    let server = server_with(", connections: 3");
    let mut half = server.client();
    half.write(b"GET /health HTTP/1.1\r\n");
    let [mut first, mut second] = [server.client(), server.client()];
    assert_eq!((first.get("/health").status, second.get("/health").status), (200, 200));
    assert_eq!(first.get("/health").status, 200);
    let mut others = Vec::new();
    for given_way in [&mut half, &mut second] {
        let mut another = server.client();
        assert_eq!(another.get("/health").status, 200);
        assert!(given_way.is_closed());
        assert_eq!(first.get("/health").status, 200);
        others.push(another);
    }
    assert!(server.metric("claimgate_requests_refused_total", &["connection_limit"]) >= 2.0);
}

#[test]
fn a_connection_that_is_answering_never_gives_way() {
    let server = server_with(", connections: 1");
    let bytes = request("POST", "/v1/data/p/allow", &[("expect", "100-continue")], QUESTION.as_bytes());
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(&bytes[..bytes.len() - 5]).unwrap();
    // Its request is being read when this arrives.
    let mut goes_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut goes_on).unwrap();
    let mut under_way = Client::over(stream);
    let mut waiting = server.client();
    waiting.write(&request("GET", "/health", &[], b""));
    under_way.write(&bytes[bytes.len() - 5..]);
    assert_eq!(under_way.answer(false).result(), json!(true));
    assert_eq!(waiting.answer(false).status, 200);
    assert!(under_way.is_closed());
}

#[test]
fn an_expensive_policy_ends_at_its_deadline_and_others_are_served() {
    let server = Setup::new(
        "opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: bundle}], limits: {deadline: 20ms}}\n",
    )
    .file(
        "bundle/p.rego",
        "package p\nallow := input.user == \"alice\"\nslow := count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == 7])\n",
    )
    .serve();
    let got = server.post("/v1/data/p/slow", &[], "{}");
    assert_eq!(got.status, 500, "{got:?}");
    assert_eq!(got.json()["code"], "internal_error");
    serves(&server);
}

#[test]
fn policies_that_run_on_or_explode_are_denied_each_for_its_reason_and_hurt_nobody_else() {
    let server = Setup::new(
        "opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: bundle}], limits: {deadline: 500ms, memory: 8MiB}}\n",
    )
    .file(
        "bundle/p.rego",
        "package p\nallow := input.user == \"alice\"\n\
         many := numbers.range(1, 9000)\n\
         slow := count([1 | some a in many; some b in many; a * b == 7])\n\
         large := count([numbers.range(i, i + 50000) | some i in numbers.range(1, 1000)])\n",
    )
    .serve();
    std::thread::scope(|scope| {
        for path in ["slow", "large"] {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..4 {
                    let got = server.post(&format!("/v1/data/p/{path}"), &[], "{}");
                    assert_eq!((got.status, &got.json()["code"]), (500, &json!("internal_error")), "{path}");
                }
            });
        }
        let mut client = server.client();
        for _ in 0..300 {
            client.write(&request("POST", "/v1/data/p/allow", &[], QUESTION.as_bytes()));
            assert_eq!(client.answer(false).result(), json!(true));
        }
    });
    let metrics = server.admin("/metrics").text();
    for reason in ["eval_deadline_exceeded", "eval_memory_limit"] {
        let line = metrics.lines().find(|line| line.contains(reason) && line.starts_with("claimgate_decisions_total"));
        assert!(line.is_some_and(|line| line.ends_with(" 4")), "{reason}: {line:?}\n{metrics}");
    }
}

// === the end ===

#[test]
fn a_drain_lets_requests_end_refuses_new_connections_and_reports_success() {
    let server = Setup::passthrough()
        .file("bundle/p.rego", "package p\nallow := input.user == \"alice\"\n")
        .tweak(|settings| {
            settings.serve.shutdown_wait = millis(200);
            settings.serve.shutdown_grace = millis(20_000);
        })
        .serve();
    let address = server.address.clone();
    let mut slow = server.client();
    assert_eq!(slow.get("/health").status, 200);
    let bytes = request("POST", "/v1/data/p/allow", &[], QUESTION.as_bytes());
    slow.write(&bytes[..bytes.len() - 5]);
    let mut probe = server.client();
    assert_eq!(probe.get("/health?bundles").status, 200);
    server.begin_shutdown();
    eventually("not ready", || (probe.get("/health?bundles").status != 200).then_some(()));
    eventually("the listener is closed", || std::net::TcpStream::connect(&address).is_err().then_some(()));
    slow.write(&bytes[bytes.len() - 5..]);
    assert_eq!(slow.answer(false).result(), json!(true), "the request under way is answered");
    assert!(slow.is_closed());
    assert!(server.end(), "everything drained");
}
