//! Roles as services: what they show is true, they end in order and in time, and share the work.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use artstore::stack::{Stack, StackOptions};
use artstore_schemas::source::Source;
use prometheus_parse::{Scrape, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::{Load, create, new_file};
use crate::support::*;

/// A stop ends within this, whatever hangs.
const BOUND: Duration = Duration::from_secs(16);

trait Listens {
    fn listening(self) -> Self;
}

impl Listens for Program {
    fn listening(self) -> Self {
        self.env("ARTSTORE_LISTEN", "127.0.0.1:0")
    }
}

/// A service as it is seen over HTTP.
struct Watched {
    process: Process,
    address: String,
}

impl Watched {
    async fn start(program: Program) -> Self {
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

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: artstore\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    async fn live(&self) -> bool {
        self.get("/health/live").await.0 == 200
    }

    /// Whether it is ready, and what it says.
    async fn readiness(&self) -> (bool, serde_json::Value) {
        let (status, body) = self.get("/health/ready").await;
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["ready"], status == 200, "{status}: {said}");
        (status == 200, said)
    }

    async fn becomes_ready(&self) {
        eventually("the service is ready", || async {
            self.readiness().await.0.then_some(())
        })
        .await;
    }

    /// Waits until it is not ready, for a reason that says this.
    async fn becomes_unready(&self, reason: &str) {
        eventually(&format!("the service is not ready: {reason}"), || async {
            let (ready, said) = self.readiness().await;
            (!ready && said.to_string().contains(reason)).then_some(())
        })
        .await;
    }

    async fn scrape(&self) -> Numbers {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Numbers::read(&text)
    }
}

/// A scrape: by metric and stream (empty where it has none).
struct Numbers(HashMap<(String, String), f64>);

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

    fn get(&self, metric: &str, source: &Source) -> Option<f64> {
        let key = (format!("artstore_{metric}"), source.stream());
        self.0.get(&key).copied()
    }

    fn of(&self, metric: &str, source: &Source) -> f64 {
        self.get(metric, source)
            .unwrap_or_else(|| panic!("no {metric} of {source}"))
    }

    /// Over all streams.
    fn sum(&self, metric: &str) -> f64 {
        let name = format!("artstore_{metric}");
        let of = self.0.iter().filter(|((metric, _), _)| *metric == name);
        of.map(|(_, value)| value).sum()
    }
}

async fn file(world: &World, element: usize) {
    let name = world.elements[element].0.clone();
    let mut element = (name, world.element(element).await);
    create(&mut element, &new_file("a.pdf")).await.unwrap();
}

/// Ends with this code, in time.
async fn ends(process: &mut Process, code: i32) {
    let asked = Instant::now();
    let status = process.ended().await;
    assert_eq!(status.code(), Some(code), "{}", process.log());
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
}

const STOPS: usize = 20;

#[test]
fn stopped_under_load_again_and_again_nothing_is_lost_or_double() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let load = Load::start(&world, 3, false);
        let source = world.source(0);
        let mut query = world.query().await;
        let mut longest = Duration::ZERO;
        for stop in 0..STOPS {
            let before = checkpoint(&world.query_url, &source).await;
            let mut relay = world.command(&["run", "relay"]).start();
            let mut projector = world.projector().start();
            relay.says("relay active").await;
            projector.says(": active").await;
            let more = (stop as u64 * 17) % 60 + 1;
            eventually("both go on", || async {
                (checkpoint(&world.query_url, &source).await >= before + more).then_some(())
            })
            .await;
            let signal = if stop % 2 == 0 { "-TERM" } else { "-INT" };
            let asked = Instant::now();
            relay.signal(signal).await;
            projector.signal(signal).await;
            ends(&mut relay, 0).await;
            ends(&mut projector, 0).await;
            longest = longest.max(asked.elapsed());
            for process in [&relay, &projector] {
                let log = process.log();
                assert!(log.contains("nothing is in"), "{log}");
                assert!(!log.contains("ERROR"), "{log}");
            }
            let locks: i64 = value(
                &mut query,
                "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
                 where l.locktype = 'advisory' and d.datname = current_database()",
            )
            .await;
            assert_eq!(locks, 0, "the locks are let go before the process ends");
        }
        load.stop().await;
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        let rows: i64 = value(&mut query, "select count(*) from download_statistics").await;
        let events: i64 = value(&mut query, "select count(*) from event_outbox").await;
        assert_eq!(rows, events);
        println!("{STOPS} stops, the longest took {longest:?}");
        projector.kill().await;
        relay.kill().await;
    });
}

/// Frozen in the middle of a batch, asked to stop, woken: what was begun is finished.
#[test]
fn a_stop_lets_the_batch_in_hand_be_finished() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut connection = world.element(0).await;
        execute(
            &mut connection,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
             from generate_series(1, 900)",
        )
        .await;
        let frozen = async |program: Program| {
            let process = program.start();
            eventually("it is frozen", || async {
                process.is_stopped().then_some(())
            })
            .await;
            process.signal("-TERM").await;
            process.signal("-CONT").await;
            process
        };
        let relay = world
            .relay(0)
            .env("ARTSTORE_PUBLISH_MODE", "pipelined")
            .stop_at("relay.publishing", 200);
        ends(&mut frozen(relay).await, 0).await;
        assert_eq!(world.last_sequence(&source).await, 900);
        let projector = world.projector().stop_at("projector.applied", 1);
        ends(&mut frozen(projector).await, 0).await;
        assert!(checkpoint(&world.query_url, &source).await > 0);
    });
}

#[test]
fn a_stuck_projector_is_not_ready_until_it_goes_on_and_numbers_agree() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let (a, b) = (world.source(0), world.source(1));
        let limit = "--ready-lag-seconds";
        let relay = Watched::start(world.command(&["run", "relay", limit, "3"])).await;
        let projector = Watched::start(world.command(&["run", "projector", limit, "3"])).await;
        for service in [&relay, &projector] {
            service.becomes_ready().await;
            assert!(service.live().await);
            let (status, said) = service.get("/").await;
            assert!(status == 404 && said.contains("/metrics"), "{said}");
        }
        for _ in 0..5 {
            file(&world, 0).await;
        }
        // Numbers that no row will ever have, below one that a row has.
        let mut element = world.element(0).await;
        execute(
            &mut element,
            "begin; insert into elem_a_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
             from generate_series(1, 3); rollback",
        )
        .await;
        file(&world, 0).await;
        world.published(0).await;
        world.projected().await;

        // Everything that is shown, against the database and the stream.
        let last = world.messages(&a).await.pop().unwrap();
        let sequence = world.last_sequence(&a).await as f64;
        let shown = eventually("the void positions are settled", || async {
            let shown = relay.scrape().await;
            (shown.of("relay_missing_positions", &a) == 0.0).then_some(shown)
        })
        .await;
        for (metric, expected) in [
            ("active", 1.0),
            ("standing_by", 0.0),
            ("halted", 0.0),
            ("stream_up", 1.0),
            ("position", last.position.unwrap() as f64),
            ("high_position", last.high as f64),
            ("void_positions_total", 3.0),
            ("stream_sequence", sequence),
            ("published_total", sequence),
            ("lag_up", 1.0),
            ("lag_events", 0.0),
        ] {
            assert_eq!(
                shown.of(&format!("relay_{metric}"), &a),
                expected,
                "{metric}"
            );
        }
        assert!(shown.of("relay_lag_seconds", &a) < 3.0);
        assert_eq!(
            shown.get("relay_position", &b),
            None,
            "nothing was published"
        );
        let shown = eventually("the last event is measured", || async {
            let shown = projector.scrape().await;
            (shown.of("projector_stream_sequence", &a) == sequence
                && shown.of("projector_lag_events", &a) == 0.0)
                .then_some(shown)
        })
        .await;
        let place = checkpoint(&world.query_url, &a).await as f64;
        for (metric, expected) in [
            ("active", 1.0),
            ("halted", 0.0),
            ("checkpoint_sequence", place),
            ("applied_total", sequence),
            ("lag_up", 1.0),
        ] {
            assert_eq!(
                shown.of(&format!("projector_{metric}"), &a),
                expected,
                "{metric}"
            );
        }
        let batches = shown.of("projector_batches_total", &a);
        assert!(batches >= 1.0);
        assert_eq!(shown.of("projector_commit_seconds", &a), batches);
        assert_eq!(shown.sum("projector_database_writable"), 1.0);

        // Stuck: a table that it writes is locked.
        let mut query = world.query().await;
        execute(&mut query, "begin; lock table file_metadata_cache").await;
        file(&world, 0).await;
        projector.becomes_unready("behind").await;
        let stuck = projector.scrape().await;
        assert_eq!(stuck.of("projector_lag_events", &a), 1.0);
        assert!(stuck.of("projector_lag_seconds", &a) >= 3.0);
        assert!(projector.live().await, "it is stuck, not dead");
        let (_, said) = projector.readiness().await;
        let ready = |element: usize| said["parts"][element]["ready"].as_bool().unwrap();
        assert!(!ready(0) && ready(1), "only this stream: {said}");
        execute(&mut query, "rollback").await;
        projector.becomes_ready().await;
        world.projected().await;

        // A source that does not answer: its table is locked.
        execute(&mut element, "begin; lock table elem_a_wal").await;
        relay.becomes_unready("has not answered a poll").await;
        let stuck = relay.scrape().await;
        assert!(stuck.of("relay_lag_events", &a).is_nan() && stuck.of("relay_lag_up", &a) == 0.0);
        assert!(stuck.of("relay_lag_seconds", &a) > 4.0);
        assert!(stuck.of("relay_poll_age_seconds", &a) > 4.0);
        execute(&mut element, "rollback").await;
        relay.becomes_ready().await;
        relay.process.kill().await;
        projector.process.kill().await;
    });
}

/// Processes that do not run for as long as this exists.
pub struct Frozen(Vec<u32>);

impl Frozen {
    pub fn new(pids: Vec<u32>) -> Self {
        signal(&pids, "-STOP");
        Self(pids)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(&self.0, "-CONT");
    }
}

fn signal(pids: &[u32], signal: &str) {
    let pids = pids.iter().map(u32::to_string);
    // A backend may have ended meanwhile.
    drop(
        std::process::Command::new("kill")
            .arg(signal)
            .args(pids)
            .output()
            .unwrap(),
    );
}

/// PostgreSQL with all its sessions.
pub fn postgres_pids(stack: &Stack) -> Vec<u32> {
    let pid = std::fs::read_to_string(stack.postgres_data().join("postmaster.pid")).unwrap();
    let postmaster: u32 = pid.lines().next().unwrap().parse().unwrap();
    let mut pids = vec![postmaster];
    for entry in std::fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .nth(1);
        if parent == Some(&postmaster.to_string()) {
            pids.push(pid);
        }
    }
    pids
}

/// While something is frozen: no lag is ever shown as nothing, and its seconds only grow.
async fn lag_grows(service: &Watched, lag: &str, source: &Source, until: f64) {
    let mut before = 0.0;
    let started = Instant::now();
    loop {
        let shown = service.scrape().await;
        let seconds = shown.of(&format!("{lag}_lag_seconds"), source);
        assert!(seconds > 0.0);
        // An answer may have been on its way.
        assert!(
            before < 2.0 || seconds > before,
            "{lag}: {seconds} after {before}"
        );
        before = seconds;
        let events = shown.of(&format!("{lag}_lag_events"), source);
        let up = shown.of(&format!("{lag}_lag_up"), source);
        assert_eq!(events.is_nan(), up == 0.0);
        // Right after the last measurement it may still be believed.
        if seconds > 7.0 {
            assert!(up == 0.0, "{lag}: {events} after {seconds} s");
        }
        if seconds > until {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{lag}: only {seconds}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Frozen servers: what is shown meanwhile, that it is over afterwards, and that a stop ends.
#[test]
fn frozen_servers_are_shown_and_do_not_keep_a_stopped_service() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        let relay = || Watched::start(world.relay(0));
        let projector = || Watched::start(world.projector());
        let (mut a, mut b) = (relay().await, projector().await);
        file(&world, 0).await;
        for service in [&a, &b] {
            service.becomes_ready().await;
        }
        world.projected().await;
        for (server, pids) in [
            ("NATS", vec![stack.nats_pid(0)]),
            ("PostgreSQL", postgres_pids(&stack)),
        ] {
            let frozen = Frozen::new(pids);
            lag_grows(&b, "projector", &source, 8.0).await;
            if server == "PostgreSQL" {
                lag_grows(&a, "relay", &source, 8.0).await;
            }
            for service in [&a, &b] {
                service.becomes_unready("").await;
                assert!(service.live().await);
            }
            drop(frozen);
            for service in [&a, &b] {
                service.becomes_ready().await;
            }
            file(&world, 0).await;
            world.published(0).await;
            world.projected().await;
        }

        // NATS hangs, with a row to publish: nobody knows what becomes of it.
        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        file(&world, 0).await;
        eventually("the relay has it in hand", || async {
            (a.scrape().await.of("relay_lag_events", &source) >= 1.0).then_some(())
        })
        .await;
        a.process.signal("-TERM").await;
        b.process.signal("-TERM").await;
        ends(&mut a.process, 1).await;
        let log = a.process.log();
        assert!(
            log.contains("stopped before everything was settled"),
            "{log}"
        );
        // The projector has nothing in hand.
        ends(&mut b.process, 0).await;
        drop(frozen);

        // PostgreSQL hangs: the locks can't be let go.
        let (mut a, mut b) = (relay().await, projector().await);
        a.process.says("relay active").await;
        let mut c = relay().await;
        c.process.says("standing by").await;
        for service in [&a, &b, &c] {
            service.becomes_ready().await;
        }
        let frozen = Frozen::new(postgres_pids(&stack));
        b.process.signal("-TERM").await;
        // It stands by: it has nothing to let go.
        c.process.signal("-TERM").await;
        ends(&mut c.process, 0).await;
        ends(&mut b.process, 1).await;
        let log = b.process.log();
        assert!(
            log.contains("stopped before everything was settled"),
            "{log}"
        );
        // Somebody who asks twice does not want to wait.
        a.process.signal("-TERM").await;
        a.process.says("stopping").await;
        let asked = Instant::now();
        a.process.signal("-TERM").await;
        ends(&mut a.process, 1).await;
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert!(
            a.process.log().contains("a second signal"),
            "{}",
            a.process.log()
        );
        drop(frozen);

        let (a, b) = (relay().await, projector().await);
        world.published(0).await;
        world.projected().await;
        drop((a, b, world));
        stack.stop().await.unwrap();
    });
}

/// How many streams a projector has, as it says itself.
async fn active(service: &Watched) -> f64 {
    service.scrape().await.sum("projector_active")
}

#[test]
fn two_projectors_share_the_streams_and_one_takes_over() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let relays = [
            Watched::start(world.command(&["run", "relay"])).await,
            Watched::start(world.command(&["run", "relay"])).await,
        ];
        let load = Load::start(&world, 2, false);
        let first = Watched::start(world.projector()).await;
        eventually("the first takes all three", || async {
            (active(&first).await == 3.0).then_some(())
        })
        .await;
        let second = Watched::start(world.projector()).await;
        eventually("the second gets its share", || async {
            let shares = (active(&first).await, active(&second).await);
            (shares == (2.0, 1.0)).then_some(())
        })
        .await;
        for service in [&first, &second] {
            service.becomes_ready().await;
        }
        // The share stays as it is: nothing is handed to and fro.
        let given = first.process.log().matches("given away").count();
        assert_eq!(given, 1, "{}", first.process.log());

        first.process.kill().await;
        let killed = Instant::now();
        eventually("the second takes over", || async {
            (active(&second).await == 3.0).then_some(())
        })
        .await;
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("the second had all streams {took:?} after the kill of the first");

        // Of two relays one is active for a source, and the other is ready to be.
        let mut shown = Vec::new();
        for relay in &relays {
            relay.becomes_ready().await;
            let (_, said) = relay.readiness().await;
            shown.push(said["parts"][0]["standing_by"].as_bool().unwrap());
        }
        assert!(shown[0] != shown[1], "{shown:?}");
        load.stop().await;
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        second.becomes_ready().await;
        for service in relays.into_iter().chain([second]) {
            service.process.kill().await;
        }
    });
}

#[test]
fn an_address_that_is_taken_is_refused_by_name() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for (name, value) in [
            ("ARTSTORE_LISTEN", address.as_str()),
            ("ARTSTORE_LISTEN", "8080"),
            ("ARTSTORE_READY_LAG_SECONDS", "1"),
            ("ARTSTORE_READY_LAG_EVENTS", "-1"),
        ] {
            let projector = Program::new(&["run", "projector"])
                .env("QUERY_DATABASE_URL", "postgres://127.0.0.1:1/none")
                .env(name, value);
            let (status, said) = projector.finish().await;
            assert_eq!(status.code(), Some(2), "{name}={value}: {said}");
            let option = name.trim_start_matches("ARTSTORE_").to_lowercase();
            assert!(said.contains(&option.replace('_', "-")), "{name}: {said}");
        }
    });
}

/// Every metric that is shown is in the table of docs/operations.md with its type, and no other.
#[test]
fn the_documents_name_every_metric() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = Watched::start(world.relay(0)).await;
        let projector = Watched::start(world.projector().env("LOG_FORMAT", "json")).await;
        let mut shown = std::collections::BTreeSet::new();
        for service in [&relay, &projector] {
            service.becomes_ready().await;
            let (_, text) = service.get("/metrics").await;
            for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
                let (name, kind) = line.split_once(' ').unwrap();
                shown.insert(format!("| `{name}` | {kind} |"));
            }
        }
        let documents = include_str!("../../docs/operations.md");
        let documented = documents.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let kind = cells.get(2)?.trim();
            let known = ["gauge", "counter", "histogram"].contains(&kind);
            known.then(|| format!("|{}|{}|", cells[1], cells[2]))
        });
        assert_eq!(shown, documented.collect());

        // Each line is an object of its own, and says whose it is.
        let log = projector.process.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<serde_json::Value> = lines.collect();
        let stream = world.source(0).stream();
        let of_worker = |line: &&serde_json::Value| {
            line["message"] == "active" && line["span"]["stream"] == stream.as_str()
        };
        assert_eq!(lines.iter().filter(of_worker).count(), 1, "{log}");
        relay.process.kill().await;
        projector.process.kill().await;
    });
}

/// Something else writes into the stream: both halt, say why, stay alive, and say so at their end.
#[test]
fn a_halt_is_shown_with_its_reason() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut relay = Watched::start(world.relay(0)).await;
        let mut projector = Watched::start(world.projector()).await;
        file(&world, 0).await;
        world.published(0).await;
        for service in [&relay, &projector] {
            service.becomes_ready().await;
        }
        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let foreign = world.bus.jetstream.publish(subject, "{}".into()).await;
        foreign.unwrap().await.unwrap();
        // The relay sees it with its next message.
        file(&world, 0).await;
        for (service, role) in [(&mut relay, "relay"), (&mut projector, "projector")] {
            service.becomes_unready("halted: ").await;
            assert!(service.live().await);
            let shown = service.scrape().await;
            assert_eq!(shown.of(&format!("{role}_halted"), &source), 1.0);
            assert!(shown.of(&format!("{role}_lag_events"), &source) != 0.0);
            assert!(shown.of(&format!("{role}_retries_total"), &source) >= 1.0);
            service.process.signal("-TERM").await;
            ends(&mut service.process, 1).await;
        }
    });
}
