//! An authorization server with nothing but an introspection endpoint: it answers about each token as it was told.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    tokens::{AUDIENCE, now},
};

/// A reply that never comes.
pub(crate) const SILENCE: &str = "(silence)";

pub(crate) struct Provider {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By token.
    replies: HashMap<String, String>,
    /// Other documents, by path.
    documents: HashMap<String, String>,
    otherwise: Option<String>,
    /// Token and whole request.
    questions: Vec<(String, String)>,
    /// Those who wait for nothing.
    silent: Vec<TcpStream>,
}

/// A whole response.
pub(crate) fn plain(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A response about an active token of `alice`, with changes.
pub(crate) fn answer(changes: Value) -> String {
    let mut all = json!({
        "active": true, "sub": "alice", "aud": AUDIENCE, "scope": "read", "client_id": "app", "token_type": "Bearer",
        "exp": now() + 300,
    });
    let (Some(members), Value::Object(changes)) = (all.as_object_mut(), changes) else { panic!("objects") };
    members.extend(changes);
    plain("200 OK", "Content-Type: application/json;charset=UTF-8\r\n", &all.to_string())
}

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is no concern of a server.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What is answered about `token` from now on.
    pub(crate) fn says(&self, token: &str, reply: &str) {
        self.state.lock().unwrap().replies.insert(token.to_owned(), reply.to_owned());
    }

    /// What is answered about all others; without this, that they are not active.
    pub(crate) fn otherwise(&self, reply: &str) {
        self.state.lock().unwrap().otherwise = Some(reply.to_owned());
    }

    /// Lets go of all who wait for nothing.
    pub(crate) fn hang_up(&self) {
        for stream in self.state.lock().unwrap().silent.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Another document.
    pub(crate) fn serves(&self, path: &str, reply: &str) {
        self.state.lock().unwrap().documents.insert(path.to_owned(), reply.to_owned());
    }

    /// How often it was asked about `token`.
    pub(crate) fn questions(&self, token: &str) -> usize {
        self.state.lock().unwrap().questions.iter().filter(|(asked, _)| asked == token).count()
    }

    /// How often it was asked at all.
    pub(crate) fn all(&self) -> usize {
        self.state.lock().unwrap().questions.len()
    }

    /// How often it was asked about `token`, and counts anew.
    pub(crate) fn forget(&self, token: &str) -> usize {
        let count = self.questions(token);
        self.state.lock().unwrap().questions.retain(|(asked, _)| asked != token);
        count
    }

    /// The last request about `token`.
    pub(crate) fn last(&self, token: &str) -> String {
        let state = self.state.lock().unwrap();
        let found = state.questions.iter().rev().find(|(asked, _)| asked == token);
        found.unwrap_or_else(|| panic!("nobody asked about `{token}`")).1.clone()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = read(&mut stream)?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = {
        let mut state = state.lock().unwrap();
        match state.documents.get(&path) {
            Some(document) => document.clone(),
            None if request.starts_with("POST /introspect ") => {
                let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let token =
                    body.split('&').find_map(|field| field.strip_prefix("token=")).unwrap_or_default().to_owned();
                let reply = state.replies.get(&token).or(state.otherwise.as_ref()).cloned();
                state.questions.push((token, request));
                reply.unwrap_or_else(|| plain("200 OK", "Content-Type: application/json\r\n", r#"{"active":false}"#))
            }
            None => plain("404 Not Found", "", ""),
        }
    };
    if reply == SILENCE {
        state.lock().unwrap().silent.push(stream.try_clone()?);
        return stream.read_to_end(&mut Vec::new()).map(drop);
    }
    stream.write_all(reply.as_bytes())
}

fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(text),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
