//! The sockets: who connects is given one page or one refusal, in a bounded time, and no more of the agent's than that.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::families::Page;
use super::http::{self, Asked, Refusal};
use super::listen::Listener;
use super::pages::Pages;

/// How long to wait after a failed accept: it fails for want of descriptors or memory, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much is read at once.
const READ: usize = 2 << 10;
/// How much is read and thrown away after an answer: a connection that is closed with something unread is reset, and the
/// answer may be lost with it (tcp(7)).
const REST: usize = 64 << 10;

/// Where pages come from.
pub trait Source: 'static {
    /// Returns what a page is made of now. Does not wait for anything but reading it.
    fn page(&self) -> impl Future<Output = Page>;
}

/// What those who connect may take from the agent; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of the head of a request, in bytes.
    pub request_bytes: usize,
    /// From when a connection is taken to its end.
    pub whole: Duration,
    /// Connections at a time; further ones are closed at once.
    pub connections: usize,
    /// Between two connections that are taken: what those cost who connect again and again.
    pub pause: Duration,
    /// How old a page may be that somebody else asked for.
    pub fresh: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 8 << 10,
            whole: Duration::from_secs(10),
            connections: 16,
            pause: Duration::from_millis(5),
            fresh: Duration::from_secs(1),
        }
    }
}

/// Serves the socket until `stop`. What is under way then is cut off: it is asked for again.
///
/// Runs inside a `LocalSet`, on which it starts a task for each connection; all have ended when it returns.
///
/// # Errors
/// When the listener cannot be used with tokio.
pub async fn serve<S: Source>(
    listener: Listener,
    source: S,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = Accepting::new(listener)?;
    let pages = Rc::new(Pages::new(source, limits.fresh));
    let mut tasks = JoinSet::new();
    let mut failing = false;
    loop {
        // Every arm is cancel-safe, and only the chosen one's value is used.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let pause = match accepted {
            Ok((stream, named)) => {
                failing = false;
                if tasks.len() < limits.connections {
                    tasks.spawn_local(attend(stream, named, Rc::clone(&pages), limits));
                }
                limits.pause
            }
            Err(error) => {
                if !failing {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept those who ask for metrics; retrying"
                    );
                }
                failing = true;
                ACCEPT_PAUSE
            }
        };
        sleep(pause).await;
    }
    tasks.shutdown().await;
    Ok(())
}

/// A connection, of either kind.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A listener that tokio knows.
enum Accepting {
    Loopback(TcpListener),
    Socket(UnixListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Loopback(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Loopback)
            }
            Listener::Socket(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Socket)
            }
        }
    }

    /// Waits for a connection; returns it, and whether it came by an address, so that a name led to it. Cancel-safe.
    async fn accept(&self) -> io::Result<(Box<dyn Duplex>, bool)> {
        match self {
            Self::Loopback(listener) => Ok((Box::new(listener.accept().await?.0), true)),
            Self::Socket(listener) => Ok((Box::new(listener.accept().await?.0), false)),
        }
    }
}

/// Answers one connection, and ends it. What goes wrong is the client's, and nothing to tell.
async fn attend<S: Source>(mut stream: Box<dyn Duplex>, named: bool, pages: Rc<Pages<S>>, limits: Limits) {
    let _late = timeout(limits.whole, async {
        let asked = request(&mut *stream, named, limits.request_bytes).await?;
        let (asked, page) = match asked {
            Ok(form) => match pages.get(form).await {
                Some(page) => (Ok(form), page),
                None => (Err(Refusal::Stopping), Arc::default()),
            },
            Err(refusal) => (Err(refusal), Arc::default()),
        };
        stream.write_all(http::answer(asked, page.len()).as_bytes()).await?;
        stream.write_all(page.as_bytes()).await?;
        stream.shutdown().await?;
        drain(&mut *stream).await
    })
    .await;
}

async fn request(stream: &mut dyn Duplex, named: bool, limit: usize) -> io::Result<Asked> {
    let mut bytes = Vec::new();
    let mut some = [0; READ];
    loop {
        let count = stream.read(&mut some).await?;
        let before = bytes.len();
        bytes.extend_from_slice(some.get(..count).unwrap_or_default());
        match http::head(&bytes, before) {
            Some(head) if head.len() <= limit => return Ok(http::read(head, named)),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None if bytes.len() <= limit => {}
            Some(_) | None => return Ok(Err(Refusal::TooLarge)),
        }
    }
}

async fn drain(stream: &mut dyn Duplex) -> io::Result<()> {
    let mut some = [0; READ];
    let mut rest = REST;
    while rest > 0 {
        match stream.read(&mut some).await? {
            0 => break,
            count => rest = rest.saturating_sub(count),
        }
    }
    Ok(())
}
