//! Sockets and connections: opens listeners, accepts within a limit, gives each connection its own task with its
//! timeouts, and drains them. It knows nothing about what is served.
//!
//! An accept error never ends a listener. A connection that fails ends alone.

use std::{
    convert::Infallible,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::Response;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};
use tokio_rustls::server::TlsStream;

use super::{
    BindError, Limits, Listen, Settings,
    connections::{Activity, Connections},
    tls::{self, Tls},
};
use crate::{telemetry::Telemetry, token::CertificateThumbprint};

/// hyper reads headers and bodies through one buffer and has this as its smallest size.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// How long to wait after an accept error that is about this process (no file descriptors left), not about one peer.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A handshake takes two round trips and some milliseconds of work.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// How often at most the log says that all places are taken.
const CROWDED_PAUSE: Duration = Duration::from_secs(60);

/// An open listener.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    address: String,
    /// Of TCP sockets; `None`: plain HTTP.
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: SocketFile },
}

/// Removes the socket's file when the listener closes.
#[derive(Debug)]
struct SocketFile(PathBuf);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// `None`: a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// `address:port`, or `@` for a Unix socket, as OPA writes it.
    pub(super) text: Arc<str>,
    /// The certificate by which it opened this connection.
    pub(super) certificate: Option<CertificateThumbprint>,
}

/// How long a drain may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    pub(super) grace: Duration,
}

/// Serves HTTP requests; never fails.
pub(super) trait Handler: Clone + Send + Sync + 'static {
    fn handle(&self, request: Request<Incoming>, peer: &Peer) -> impl Future<Output = Response> + Send;
}

impl Listener {
    /// Opens a listener.
    pub(super) async fn open(listen: &Listen, tls: Option<Tls>) -> Result<Self, BindError> {
        let failed = |address: &dyn ToString, source| BindError { address: address.to_string(), source };
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await.map_err(|error| failed(address, error))?;
                let address = socket.local_addr().map_err(|error| failed(address, error))?.to_string();
                Ok(Self { socket: Socket::Tcp(socket), address, tls })
            }
            Listen::Unix { path, mode } => {
                let address = format!("unix://{}", path.display());
                let socket = bind_unix(path, *mode).await.map_err(|error| failed(&address, error))?;
                Ok(Self { socket: Socket::Unix { socket, _file: SocketFile(path.clone()) }, address, tls: None })
            }
        }
    }

    /// `address:port` as bound, or `unix://path`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Accepts until `stop` is true, then lets requests under way end within the grace. `true` when all ended by
    /// themselves.
    pub(super) async fn serve(
        self,
        handler: impl Handler,
        limits: Limits,
        telemetry: Telemetry,
        mut stop: watch::Receiver<bool>,
        drain: Drain,
    ) -> bool {
        let graceful = GracefulShutdown::new();
        let mut connections = Connections::new(limits.connections);
        let mut said_crowded: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = connections.ended() => continue,
                accepted = self.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_about_one_peer(&error) {
                        tracing::warn!(%error, listener = %self.address, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            if connections.is_full() && said_crowded.is_none_or(|said| said.elapsed() >= CROWDED_PAUSE) {
                said_crowded = Some(Instant::now());
                let (listener, limit) = (&self.address, limits.connections);
                tracing::warn!(
                    %listener,
                    limit,
                    "`limits.connections` is reached; the connection that has been idle longest is closed for a new one"
                );
            }
            // While all are answering, this one waits, and the next ones in the kernel's queue.
            let closed_another = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                closed_another = connections.place() => closed_another,
            };
            if closed_another {
                telemetry.metrics().refused("connection_limit");
            }
            let (watcher, handler, limits, telemetry) =
                (graceful.watcher(), handler.clone(), limits.clone(), telemetry.clone());
            let (tls, stop) = (self.tls.clone(), stop.clone());
            connections.start(|activity| async move {
                let counted = telemetry.metrics().connected();
                let handler = Observed { handler, activity };
                match stream {
                    Stream::Tcp(stream) if let Some(tls) = tls => {
                        if let Some(stream) = shake_hands(&tls, stream, &peer, &limits, &telemetry, stop).await {
                            let peer = Peer { certificate: tls::certificate_of(&stream), ..peer };
                            connection(stream, &peer, handler, &limits, &telemetry, watcher).await;
                        }
                    }
                    Stream::Tcp(stream) => connection(stream, &peer, handler, &limits, &telemetry, watcher).await,
                    Stream::Unix(stream) => connection(stream, &peer, handler, &limits, &telemetry, watcher).await,
                }
                drop(counted);
            });
        }
        // Closes the listening socket: a new connection is refused from here on.
        drop(self.socket);
        let drained = tokio::time::timeout(drain.grace, graceful.shutdown()).await.is_ok();
        connections.shutdown().await;
        drained
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Answers are small and written at once; waiting to fill a segment only delays them.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::tcp(address)))
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), Peer { address: None, text: "@".into(), certificate: None }))
            }
        }
    }
}

/// A handler whose connection is known to be answering while it does.
#[derive(Clone)]
struct Observed<H> {
    handler: H,
    activity: Activity,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// `None`: there is no connection. It counts as idle until then, so that a flood of clients that shake no hands is closed
/// for those who come after them.
async fn shake_hands(
    tls: &Tls,
    stream: TcpStream,
    peer: &Peer,
    limits: &Limits,
    telemetry: &Telemetry,
    mut stop: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    let patience = limits.header_timeout.min(LONGEST_HANDSHAKE);
    let result = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return None,
        result = tokio::time::timeout(patience, tls.accept(stream)) => result,
    };
    let (reason, error) = match result {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => ("tls_handshake_failed", Some(error)),
        Err(_) => ("tls_handshake_timeout", None),
    };
    telemetry.metrics().refused(reason);
    tracing::debug!(reason, error = error.map(tracing::field::display), peer = %peer.text, "no TLS connection");
    None
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: &Peer,
    handler: impl Handler,
    limits: &Limits,
    telemetry: &Telemetry,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(|request| {
        let (handler, peer) = (handler.clone(), peer.clone());
        async move { Ok::<_, Infallible>(handler.handle(request, &peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .half_close(false)
        // Answers are small: copying one behind its headers costs less than handing the kernel two pieces.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        // hyper has answered 400 or 431 where an answer was possible.
        if error.is_parse_too_large() {
            telemetry.metrics().refused("headers_too_large");
        } else if error.is_parse() {
            telemetry.metrics().refused("http_malformed");
        } else if error.is_timeout() {
            telemetry.metrics().refused("headers_timeout");
        }
        tracing::debug!(%error, peer = %peer.text, "a connection ended with an error");
    }
}

/// The peer went away between its connect and our accept: nothing to wait for.
fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Binds a Unix socket. A socket file that nobody answers at is left over and replaced; anything else is not ours.
async fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is there"));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

// === impl Observed ===

impl<H: Handler> Handler for Observed<H> {
    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response {
        self.activity.begin();
        let answer = self.handler.handle(request, peer).await;
        self.activity.end();
        answer
    }
}

// === impl Peer ===

impl Peer {
    /// Is what it says about requests of others believed? Whoever may open the Unix socket was let in by its file mode; a
    /// TCP peer has to be configured.
    pub(super) fn is_trusted(&self, settings: &Settings) -> bool {
        self.address.is_none_or(|address| settings.trusted_peers.iter().any(|network| network.contains(&address)))
    }

    fn tcp(address: SocketAddr) -> Self {
        // A dual-stack listener shows IPv4 peers as `::ffff:a.b.c.d`; networks are configured as IPv4.
        let ip = address.ip().to_canonical();
        Self { address: Some(ip), text: SocketAddr::new(ip, address.port()).to_string().into(), certificate: None }
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}
