//! A service as it is seen over HTTP: whether it lives, whether it is ready, and its numbers.

use std::collections::HashMap;

use artstore_schemas::source::Source;
use prometheus_parse::{Scrape, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::*;

trait Listens {
    fn listening(self) -> Self;
}

impl Listens for Program {
    fn listening(self) -> Self {
        self.env("ARTSTORE_LISTEN", "127.0.0.1:0")
    }
}

/// A service as it is seen over HTTP.
pub struct Watched {
    pub process: Process,
    address: String,
}

impl Watched {
    pub async fn start(program: Program) -> Self {
        let process = program.listening().start();
        let address = eventually("the service says where it listens", || async {
            let log = process.log();
            // As text, or as JSON.
            let (_, address) = log
                .split_once(" address=")
                .or_else(|| log.split_once("\"address\":\""))?;
            Some(address.split([' ', '\n', '"']).next()?.to_owned())
        })
        .await;
        Self { process, address }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: artstore\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub async fn live(&self) -> bool {
        self.get("/health/live").await.0 == 200
    }

    /// Whether it is ready, and what it says.
    pub async fn readiness(&self) -> (bool, serde_json::Value) {
        let (status, body) = self.get("/health/ready").await;
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["ready"], status == 200, "{status}: {said}");
        (status == 200, said)
    }

    pub async fn becomes_ready(&self) {
        eventually("the service is ready", || async {
            self.readiness().await.0.then_some(())
        })
        .await;
    }

    /// Waits until it is not ready, for a reason that contains this.
    pub async fn becomes_unready(&self, reason: &str) {
        eventually(&format!("the service is not ready: {reason}"), || async {
            let (ready, said) = self.readiness().await;
            (!ready && said.to_string().contains(reason)).then_some(())
        })
        .await;
    }

    pub async fn scrape(&self) -> Numbers {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Numbers::read(&text)
    }
}

/// A scrape: by metric and stream (empty where it has none).
pub struct Numbers(HashMap<(String, String), f64>);

impl Numbers {
    /// As a parser of Prometheus reads it, and checked against the rules that it is lax about.
    fn read(text: &str) -> Self {
        let mut told: Vec<(&str, &str)> = Vec::new();
        for line in text.lines() {
            if let Some(told_now) = line.strip_prefix("# TYPE ") {
                let (name, kind) = told_now.split_once(' ').unwrap();
                assert!(
                    !told.iter().any(|(known, _)| *known == name),
                    "{name} twice"
                );
                assert!(
                    text.contains(&format!("# HELP {name} ")),
                    "{name} without help"
                );
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                told.push((name, kind));
            } else if !line.starts_with('#') {
                let (name, kind) = told.last().unwrap();
                let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}"));
                let suffixed = rest.starts_with('_');
                assert_eq!(suffixed, *kind == "histogram", "{line}");
            }
        }
        assert!(text.ends_with('\n'));
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let mut numbers = HashMap::new();
        for sample in scrape.samples {
            let stream = sample.labels.get("stream").unwrap_or("").to_owned();
            let value = match sample.value {
                Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
                Value::Histogram(buckets) => {
                    assert!(buckets.is_sorted_by(|a, b| a.count <= b.count));
                    buckets.last().unwrap().count
                }
                Value::Summary(_) => panic!("there are no summaries"),
            };
            numbers.insert((sample.metric, stream), value);
        }
        Self(numbers)
    }

    pub fn get(&self, metric: &str, source: &Source) -> Option<f64> {
        let key = (format!("artstore_{metric}"), source.stream());
        self.0.get(&key).copied()
    }

    pub fn of(&self, metric: &str, source: &Source) -> f64 {
        self.get(metric, source)
            .unwrap_or_else(|| panic!("no {metric} of {source}"))
    }

    /// Over all streams.
    pub fn sum(&self, metric: &str) -> f64 {
        let name = format!("artstore_{metric}");
        let of = self.0.iter().filter(|((metric, _), _)| *metric == name);
        of.map(|(_, value)| value).sum()
    }
}
