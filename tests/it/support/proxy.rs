//! A proxy between a program and its server, which loses what passes: nothing is reset, nothing
//! arrives. So does a network behind which a machine has vanished.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What the program sends.
    ToServer,
    /// What the server sends.
    ToProgram,
    /// Both.
    Both,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    cut: Option<Cut>,
    /// What each connection loses. It stays lost: a connection never comes back.
    connections: Vec<Arc<Mutex<Option<Cut>>>>,
    /// Publishes whose subject begins so are lost.
    dropped: Option<String>,
    /// Publishes whose subject begins so wait until a flush is over, and how long one takes.
    slow: Option<(String, Duration)>,
}

impl Proxy {
    /// In front of the server that a URL names.
    pub async fn to(url: &str) -> Self {
        let server: SocketAddr = address(url).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            loop {
                let (program, _) = listener.accept().await.unwrap();
                let lost = {
                    let mut state = shared.lock().unwrap();
                    let lost = Arc::new(Mutex::new(state.cut));
                    state.connections.push(Arc::clone(&lost));
                    lost
                };
                tokio::spawn(pass(program, server, lost, Arc::clone(&shared)));
            }
        });
        Self {
            port,
            state,
            accepting,
        }
    }

    /// The URL of a server, by way of this proxy.
    pub fn way(&self, url: &str) -> String {
        url.replace(address(url), &format!("127.0.0.1:{}", self.port))
    }

    /// From now on, every connection loses this: those that are there for ever.
    pub fn cut(&self, cut: Cut) {
        let mut state = self.state.lock().unwrap();
        state.cut = Some(cut);
        for connection in &state.connections {
            *connection.lock().unwrap() = Some(cut);
        }
    }

    /// New connections lose nothing any more.
    pub fn heal(&self) {
        self.state.lock().unwrap().cut = None;
    }

    /// Loses the publishes of NATS whose subject begins so; none: no more.
    pub fn drop_publishes(&self, to: Option<&str>) {
        self.state.lock().unwrap().dropped = to.map(str::to_owned);
    }

    /// Publishes of NATS whose subject begins so reach the server late, as behind the flush of a slow disk:
    /// on each connection the first of them begins a flush of this length, and those that come until its
    /// end wait for it. Everything else passes meanwhile.
    pub fn slow_publishes(&self, to: &str, flush: Duration) {
        self.state.lock().unwrap().slow = Some((to.to_owned(), flush));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Host and port.
fn address(url: &str) -> &str {
    let (_, behind) = url
        .rsplit_once('@')
        .or_else(|| url.split_once("//"))
        .unwrap();
    behind.split(['/', '?']).next().unwrap()
}

async fn pass(
    program: TcpStream,
    server: SocketAddr,
    lost: Arc<Mutex<Option<Cut>>>,
    state: Arc<Mutex<State>>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_program, to_program) = program.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(from_program, to_server, &lost, Cut::ToProgram, Some(&state));
    let down = copy(from_server, to_program, &lost, Cut::ToServer, None);
    tokio::join!(up, down);
}

/// Copies until an end is closed. `passes`: the cut that does not concern this direction.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    lost: &Mutex<Option<Cut>>,
    passes: Cut,
    state: Option<&Mutex<State>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut frames = Frames::default();
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            },
            () = frames.flushed() => 0,
        };
        if lost.lock().unwrap().is_some_and(|cut| cut != passes) {
            continue;
        }
        let rules = state.map(|state| {
            let state = state.lock().unwrap();
            (state.dropped.clone(), state.slow.clone())
        });
        let (dropped, slow) = rules.unwrap_or_default();
        let passed = frames.pass(&buffer[..read], dropped.as_deref(), slow.as_ref());
        if to.write_all(&passed).await.is_err() {
            return;
        }
    }
}

/// What of NATS's protocol was not passed on yet. Anything else passes as it is.
#[derive(Default)]
struct Frames {
    held: Vec<u8>,
    /// When the flush of this connection ends.
    flush: Option<Instant>,
    /// What waits for that.
    waiting: Vec<u8>,
}

impl Frames {
    /// The flush has ended that something waits for.
    async fn flushed(&self) {
        match self.flush {
            Some(end) if !self.waiting.is_empty() => tokio::time::sleep_until(end).await,
            _ => std::future::pending().await,
        }
    }

    fn pass(
        &mut self,
        read: &[u8],
        dropped: Option<&str>,
        slow: Option<&(String, Duration)>,
    ) -> Vec<u8> {
        if dropped.is_none() && slow.is_none() {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(read);
            return all;
        }
        self.held.extend_from_slice(read);
        let mut passed = Vec::new();
        if self.flush.is_some_and(|end| end <= Instant::now()) {
            passed.append(&mut self.waiting);
        }
        while let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let publishes = matches!(words[0], "PUB" | "HPUB");
            let payload = match publishes {
                true => words.last().unwrap().parse::<usize>().unwrap() + 2,
                false => 0,
            };
            let length = end + 2 + payload;
            if self.held.len() < length {
                break;
            }
            let frame: Vec<u8> = self.held.drain(..length).collect();
            let to = |subject: &str| publishes && words[1].starts_with(subject);
            if dropped.is_some_and(to) {
                continue;
            }
            if let Some((_, flush)) = slow.filter(|(subject, _)| to(subject)) {
                let end = *self.flush.get_or_insert_with(|| Instant::now() + *flush);
                if Instant::now() < end {
                    self.waiting.extend(frame);
                    continue;
                }
            }
            passed.extend(frame);
        }
        passed
    }
}
