//! `artstore health`: asks a running service for its health, over its HTTP interface. A container's
//! health check calls it, because a small image has no other program that can.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::config::ConfigError;

/// More than any answer of ours.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Whom to ask.
#[derive(Debug, Args)]
pub struct Health {
    /// What to ask; /health/live says whether the service is alive
    #[arg(long, default_value = "http://127.0.0.1:8080/health/ready")]
    url: String,
    /// How long the answer may take, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Runs the command: 0 where the answer's status is 2xx.
pub async fn run(command: &Health) -> anyhow::Result<ExitCode> {
    let (host, port, path) = target(&command.url)?;
    let timeout = Duration::from_secs(command.timeout);
    let answer = tokio::time::timeout(timeout, ask(&host, port, &path))
        .await
        .with_context(|| format!("{}: no answer within {timeout:?}", command.url))?
        .with_context(|| {
            format!(
                "{}: no answer; was the service started with --listen (ARTSTORE_LISTEN), and is \
                 this its address (--url)?",
                command.url
            )
        })?;
    let (status, body) = read(&answer).with_context(|| command.url.clone())?;
    if !body.is_empty() {
        println!("{body}");
    }
    if (200..300).contains(&status) {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("{}: status {status}", command.url);
}

fn target(url: &str) -> Result<(String, u16, String), ConfigError> {
    let wrong = || {
        ConfigError(format!(
            "--url: {url:?} can't be asked; expected http://HOST:PORT/PATH"
        ))
    };
    let parsed: Url = url.parse().map_err(|_| wrong())?;
    if parsed.scheme() != "http" {
        return Err(wrong());
    }
    let host = parsed.host_str().ok_or_else(wrong)?;
    let port = parsed.port_or_known_default().ok_or_else(wrong)?;
    // The brackets of an IPv6 address belong to the URL.
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok((host, port, parsed.path().to_owned()))
}

/// HTTP/1.0: the answer ends where the connection does, and never comes in chunks.
async fn ask(host: &str, port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect((host, port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection
        .take(LONGEST_ANSWER)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn read(answer: &[u8]) -> anyhow::Result<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.get(..3))
        .and_then(|status| status.parse().ok());
    let Some(status) = status else {
        bail!("what answers there does not speak HTTP");
    };
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_anything_else_is_refused() {
        let ready = read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready\n").expect("HTTP");
        assert_eq!(ready, (200, "ready".to_owned()));
        let stuck = read(b"HTTP/1.0 503 Service Unavailable\r\n\r\n").expect("HTTP");
        assert_eq!(stuck, (503, String::new()));
        assert!(read(b"INFO {}\r\n").is_err());
        assert!(read(b"HTTP/1.1 2\r\n").is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn only_plain_http_is_asked() {
        let (host, port, path) = target("http://[::1]:8080/health/live").expect("a URL");
        assert_eq!(
            (host.as_str(), port, path.as_str()),
            ("::1", 8080, "/health/live")
        );
        assert!(target("https://127.0.0.1/").is_err());
        assert!(target("127.0.0.1:8080").is_err());
    }
}
