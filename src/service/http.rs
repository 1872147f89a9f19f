//! The HTTP server: GET and HEAD, one answer per connection, everything bounded. Whatever a client
//! does or fails to do can cost only its own connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How many clients are served at once; others wait. Clients at the address that they connect to, such as a
/// container's own health check, have as many places of their own: those from elsewhere do not take them.
const CONNECTIONS: usize = 64;

/// How many clients wait at most; more are closed. All of them together leave most of 1,024 file descriptors, a usual
/// limit of a process, to the databases and NATS.
const WAITING: usize = 128;

/// How long a client may take to send its request.
const HEADER: Duration = Duration::from_secs(3);

/// How long a connection lives in all.
const CONNECTION: Duration = Duration::from_secs(10);

/// The largest request line with headers; hyper takes no smaller limit.
const REQUEST_BYTES: usize = 8 * 1024;

const HEADERS: usize = 64;

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    pub(super) fn text(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body,
        }
    }

    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: format!("{body}\n"),
        }
    }
}

/// Answers until it is aborted. `pages` must not block.
pub(super) async fn serve(
    listener: TcpListener,
    pages: impl Fn(&str) -> Page + Send + Sync + 'static,
) {
    let pages = Arc::new(pages);
    let elsewhere = Room::of(CONNECTIONS);
    let local = Room::of(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let is_local = stream.local_addr().is_ok_and(|to| to.ip() == from.ip());
                let room = if is_local { &local } else { &elsewhere };
                let Ok(waiting) = Arc::clone(&room.waiting).try_acquire_owned() else {
                    tracing::debug!("too many clients wait: one is closed");
                    continue;
                };
                let (pages, room) = (Arc::clone(&pages), Arc::clone(&room.serving));
                tokio::spawn(async move {
                    // The semaphore is never closed.
                    let place = room.acquire_owned().await;
                    drop(waiting);
                    let served = tokio::time::timeout(CONNECTION, connection(stream, &*pages));
                    match served.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "a request was not served"),
                        Err(_) => tracing::debug!("a client took too long"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                // Out of file descriptors, most likely: not a reason to spin.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Places for clients.
struct Room {
    waiting: Arc<Semaphore>,
    serving: Arc<Semaphore>,
}

impl Room {
    fn of(clients: usize) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            serving: Arc::new(Semaphore::new(clients)),
        }
    }
}

async fn connection(
    stream: TcpStream,
    pages: &(impl Fn(&str) -> Page + Sync),
) -> Result<(), hyper::Error> {
    let service =
        service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(answer(&request, pages)));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(request: &Request<Incoming>, pages: &impl Fn(&str) -> Page) -> Response<Full<Bytes>> {
    let known = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = if known {
        pages(request.uri().path())
    } else {
        Page::text(405, "Only GET and HEAD are answered here.\n".to_owned())
    };
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() =
        StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !known {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(serve(listener, |path| {
            Page::text(200, format!("page {path}"))
        }));
        address
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request).await.expect("it is sent");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(CONNECTION, read).await;
        // A refused request may end in a reset: what came before it counts.
        drop(read.expect("the server ends the connection"));
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn get_and_head_are_answered_and_nothing_else() {
        let address = server().await;
        let get = ask(address, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            get.starts_with("HTTP/1.1 200") && get.ends_with("\r\n\r\npage /a"),
            "{get}"
        );
        assert!(get.contains("connection: close"), "{get}");
        let head = ask(address, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            head.contains("content-length: 7") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        let post = ask(
            address,
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
        assert!(
            post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"),
            "{post}"
        );
    }

    #[tokio::test]
    async fn bad_requests_are_refused() {
        let address = server().await;
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
        let path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 * 1024));
        for bad in [
            "nonsense\r\n\r\n",
            "\u{0}\u{1}\u{2}\r\n\r\n",
            &long,
            &many,
            &path,
        ] {
            let answer = ask(address, bad.as_bytes()).await;
            let shown = &bad[..bad.len().min(40)];
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{shown}: {answer}"
            );
        }
        let answer = ask(address, b"nonsense\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }

    #[tokio::test]
    async fn silent_clients_are_dropped_and_keep_nobody_waiting_for_long() {
        let address = server().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.expect("a connection"));
        }
        let started = Instant::now();
        let answer = ask(address, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(started.elapsed() < HEADER * 2, "{:?}", started.elapsed());
    }
}
