//! A server of keys, kind and hostile: what it does with a request is set from outside, and may change at any time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// 200 with this body.
    Body(String),
    /// This head (status line and headers without the final blank line) and this body.
    Raw(String, Vec<u8>),
    /// 200 with this entity tag, or 304 to who has it.
    Tagged(&'static str, String),
    /// No answer at all.
    Silence,
    /// A head and then nothing.
    Stall,
    /// A body without a length that never ends.
    Endless,
    /// Waits before it answers.
    Late(Duration, String),
}

/// Path and `If-None-Match` of each request.
type Log = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server on a loopback port.
pub(super) struct Server {
    address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    log: Log,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(reply));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (replies, requests) = (Arc::clone(&reply), Arc::clone(&log));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&replies), Arc::clone(&requests)));
            }
        });
        Self { address, reply, log, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn now(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(super) fn requests(&self) -> Vec<(String, Option<String>)> {
        self.log.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, reply: Arc<Mutex<Reply>>, log: Log) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let tag = head.lines().find_map(|line| line.strip_prefix("if-none-match: ")).map(str::to_owned);
    log.lock().unwrap().push((path, tag.clone()));
    let reply = reply.lock().unwrap().clone();
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let (head, body) = match reply {
        Reply::Body(body) => (ok.to_owned(), body.into_bytes()),
        Reply::Raw(head, body) => (head, body),
        Reply::Tagged(current, _) if tag.as_deref() == Some(current) => {
            ("HTTP/1.1 304 Not Modified\r\nconnection: close".to_owned(), Vec::new())
        }
        Reply::Tagged(current, body) => (format!("{ok}\r\netag: {current}"), body.into_bytes()),
        Reply::Silence => return std::future::pending().await,
        Reply::Stall => {
            let _ = stream.write_all(format!("{ok}\r\n\r\n{{\"keys\":[").as_bytes()).await;
            return std::future::pending().await;
        }
        Reply::Endless => {
            let _ = stream.write_all(format!("{ok}\r\n\r\n").as_bytes()).await;
            while stream.write_all(&[b' '; 8192]).await.is_ok() {}
            return;
        }
        Reply::Late(wait, body) => {
            tokio::time::sleep(wait).await;
            (ok.to_owned(), body.into_bytes())
        }
    };
    // Whoever stops listening half-way is what some tests are about.
    let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}
