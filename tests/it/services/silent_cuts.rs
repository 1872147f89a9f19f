//! A network that swallows packets: no reset, no error, nothing arrives. Once it passes packets again, the
//! relay and the projectors are back within seconds, whichever way was cut and in whichever direction.

use std::time::{Duration, Instant};

use artstore_schemas::source::Source;

use crate::audit::Audited;
use crate::support::load::Load;
use crate::support::*;

/// Longer than any session may be silent, and so short that its connections are not found dead by then.
const LONG: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_millis(500);

/// They are back within ten seconds; this is for machines where everything is slow.
const BACK: Duration = Duration::from_secs(40);

/// For so long they are watched afterwards: longer than a request for messages lives.
const WATCHED: Duration = Duration::from_secs(12);

/// Longer without an event is a standstill.
const MOVING: Duration = Duration::from_secs(1);

const CUTS: [(Cut, Duration); 5] = [
    (Cut::ToServer, SHORT),
    (Cut::ToServer, LONG),
    (Cut::ToProgram, LONG),
    (Cut::Both, LONG),
    (Cut::Both, SHORT),
];

/// Which server is behind the cut.
#[derive(Debug, Clone, Copy)]
enum To {
    Nats,
    PostgreSql,
}

/// Cuts the way of a program that works through `proxy`, while events flow; `reached`: how far it is.
async fn cut_and_back(
    who: &str,
    world: &World,
    proxy: &Proxy,
    (cut, length): (Cut, Duration),
    reached: impl AsyncFn() -> u64,
) {
    let load = Load::start(world, 1, false);
    eventually(&format!("{who} works"), async || {
        (reached().await >= 1).then_some(())
    })
    .await;
    proxy.cut(cut);
    tokio::time::sleep(length).await;
    proxy.heal();
    // What still comes through at first may stop later; a standstill is watched to its end.
    let (healed, mut moved, mut still) = (Instant::now(), Instant::now(), Duration::ZERO);
    let mut last = reached().await;
    while healed.elapsed() < WATCHED || moved.elapsed() > MOVING {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = reached().await;
        still = still.max(moved.elapsed());
        assert!(still < BACK, "{who}: nothing moved for {still:?}");
        if now > last {
            (last, moved) = (now, Instant::now());
        }
    }
    println!("{who}: longest standstill {still:.1?}");
    load.stop().await;
}

async fn relay(to: To, cut: (Cut, Duration)) {
    let world = World::new(&["elem"]).await;
    let (url, variable) = match to {
        To::Nats => (world.nats_url.clone(), "NATS_URL"),
        To::PostgreSql => (format!("elem={}", world.elements[0].1), "ARTSTORE_ELEMENTS"),
    };
    let proxy = Proxy::to(&url).await;
    let relay = world.relay(0).env(variable, &proxy.way(&url)).start();
    let who = format!("relay, {to:?}, {cut:?}");
    let reached = async || world.last_sequence(&world.source(0)).await;
    cut_and_back(&who, &world, &proxy, cut, reached).await;
    relay.kill().await;
    // Exactly once, whatever became of what was on its way.
    let relay = world.relay(0).start();
    world.published(0).await;
    relay.kill().await;
}

async fn cache(to: To, cut: (Cut, Duration)) {
    let world = World::new(&["elem"]).await;
    let relay = world.relay(0).start();
    let (url, variable) = match to {
        To::Nats => (world.nats_url.clone(), "NATS_URL"),
        To::PostgreSql => (world.query_url.clone(), "QUERY_DATABASE_URL"),
    };
    let proxy = Proxy::to(&url).await;
    let projector = world.projector().env(variable, &proxy.way(&url)).start();
    let who = format!("query cache, {to:?}, {cut:?}");
    let source = world.source(0);
    let reached = async || checkpoint(&world.query_url, &source).await;
    cut_and_back(&who, &world, &proxy, cut, reached).await;
    world.projected().await;
    projector.kill().await;
    relay.kill().await;
}

async fn audit_log(to: To, cut: (Cut, Duration)) {
    let world = World::new(&["elem"]).await;
    let audited = Audited::new(&world).await;
    let relay = world.relay(0).start();
    let (url, variable) = match to {
        To::Nats => (world.nats_url.clone(), "NATS_URL"),
        To::PostgreSql => (world.admin_url.clone(), "ADMIN_DATABASE_URL"),
    };
    let proxy = Proxy::to(&url).await;
    let projector = audited.projector().env(variable, &proxy.way(&url)).start();
    let who = format!("audit log, {to:?}, {cut:?}");
    let source: Source = world.source(0);
    let reached = async || {
        let sql = format!(
            "select coalesce(max(size), 0) from audit_trees where stream = '{}'",
            source.stream()
        );
        let size: i64 = value(&mut world.admin().await, sql).await;
        u64::try_from(size).unwrap()
    };
    cut_and_back(&who, &world, &proxy, cut, reached).await;
    audited.caught_up().await;
    let verdict = audited.verify(&["--against-stream"]).await;
    assert!(verdict.is_clean(), "{}", verdict.0);
    projector.kill().await;
    relay.kill().await;
}

#[test]
fn a_relay_is_back_after_a_silent_cut() {
    run(async {
        let nats = CUTS.map(|cut| Box::pin(relay(To::Nats, cut)));
        let postgres = CUTS.map(|cut| Box::pin(relay(To::PostgreSql, cut)));
        futures::future::join_all(nats.into_iter().chain(postgres)).await;
    });
}

#[test]
fn the_query_cache_is_back_after_a_silent_cut() {
    run(async {
        let nats = CUTS.map(|cut| Box::pin(cache(To::Nats, cut)));
        let postgres = CUTS.map(|cut| Box::pin(cache(To::PostgreSql, cut)));
        futures::future::join_all(nats.into_iter().chain(postgres)).await;
    });
}

#[test]
fn the_audit_log_is_back_after_a_silent_cut() {
    run(async {
        let nats = CUTS.map(|cut| Box::pin(audit_log(To::Nats, cut)));
        let postgres = CUTS.map(|cut| Box::pin(audit_log(To::PostgreSql, cut)));
        futures::future::join_all(nats.into_iter().chain(postgres)).await;
    });
}
