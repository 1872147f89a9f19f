//! What accounts cost: the same work with the rights of an installation and in one account where everybody may do
//! everything, in turns.

use std::time::Instant;

use super::*;
use crate::support::load::{create, new_file};

/// Rounds with and without accounts, one after the other.
const ROUNDS: usize = 5;
/// Rows of a round, and single changes, each of which is waited for.
const ROWS: usize = 10_000;
const CHANGES: usize = 200;

/// Of one round: events published and applied in a second, and the median time in which a change is visible, in ms.
struct Measured {
    published: f64,
    applied: f64,
    visible: f64,
}

async fn round(world: &World) -> Measured {
    let source = world.source(0);
    crate::projector::parking::files(world, ROWS).await;
    let begun = Instant::now();
    let relay = world.relay(0).env("ARTSTORE_POLL_INTERVAL_MS", "5").start();
    world.caught_up(0).await;
    let published = ROWS as f64 / begun.elapsed().as_secs_f64();
    let last = world.last_sequence(&source).await;

    let begun = Instant::now();
    let projector = world.projector().start();
    let mut before = checkpoint(&world.query_url, &source).await;
    while before < last {
        before = eventually("more is applied", async || {
            let now = checkpoint(&world.query_url, &source).await;
            (now > before).then_some(now)
        })
        .await;
    }
    let applied = ROWS as f64 / begun.elapsed().as_secs_f64();

    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    let mut query = world.query().await;
    let mut times = Vec::new();
    for _ in 0..CHANGES {
        let file = new_file("a.pdf");
        create(&mut element, &file).await.unwrap();
        let begun = Instant::now();
        let sql = format!(
            "select count(*) from file_metadata_cache where id = '{}'",
            file.id
        );
        // Without a pause: it would be in what is measured.
        while value::<i64>(&mut query, sql.clone()).await == 0 {
            assert!(begun.elapsed() < PATIENCE, "{} is not visible", file.id);
        }
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    relay.kill().await;
    projector.kill().await;
    Measured {
        published,
        applied,
        visible: median(times),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `make measure-accounts`.
#[test]
#[ignore = "minutes: make measure-accounts"]
fn accounts_cost_less_than_a_twentieth() {
    run_measurement(async {
        let with = World::new(&["elem"]).await;
        let without = World::without_rights(&["elem"]).await;
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (world, rounds) in [&with, &without].into_iter().zip(&mut rounds) {
                let measured = round(world).await;
                println!(
                    "{:9.0} published/s, {:9.0} applied/s, visible in {:6.1} ms",
                    measured.published, measured.applied, measured.visible
                );
                rounds.push(measured);
            }
        }
        let ratio = |of: fn(&Measured) -> f64| {
            let [with, without] = &rounds;
            let of_all = |rounds: &[Measured]| median(rounds.iter().map(of).collect());
            (of_all(with), of_all(without))
        };
        let mut ratios = Vec::new();
        for (what, (with, without), larger_is_better) in [
            ("published/s", ratio(|m| m.published), true),
            ("applied/s", ratio(|m| m.applied), true),
            ("visible, ms", ratio(|m| m.visible), false),
        ] {
            let ratio = match larger_is_better {
                true => with / without,
                false => without / with,
            };
            println!("{what:>12}: {with:9.1} with, {without:9.1} without: {ratio:.3}");
            ratios.push(ratio);
        }
        assert!(ratios.iter().all(|ratio| *ratio >= 0.95), "{ratios:?}");
    });
}
