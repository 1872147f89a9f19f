//! Streams that do not answer, more than are asked at once, are no reason to call the database dead.

use artstore_schemas::source::Source;
use artstore_stack::{Stack, StackOptions};

use super::frozen::Frozen;
use super::shares::active;
use super::watched::Watched;
use super::*;

const STREAMS: usize = 24;

#[test]
fn many_streams_that_hang_do_not_make_the_database_look_dead() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &[], 1).await;
        let sources: Vec<Source> = (1..=STREAMS)
            .map(|number| Source::Element(format!("elem_{number}").parse().unwrap()))
            .collect();
        for source in &sources {
            world.bus.ensure_stream(source, 1).await.unwrap();
        }
        let projector = Watched::start(world.projector()).await;
        eventually("every stream is read", || async {
            (active(&projector).await == STREAMS as f64 + 1.0).then_some(())
        })
        .await;
        projector.becomes_ready().await;

        let frozen = Frozen::new(vec![stack.nats_pid(0)]);
        let started = Instant::now();
        // Every stream was asked and did not answer, at least once all around.
        loop {
            let shown = projector.scrape().await;
            let (_, said) = projector.readiness().await;
            let writable = shown.sum("projector_database_writable");
            assert_eq!(writable, 1.0, "after {:?}: {said}", started.elapsed());
            let database = said.to_string().contains("the database");
            assert!(!database, "after {:?}: {said}", started.elapsed());
            let ages = sources
                .iter()
                .map(|source| shown.of("projector_lag_age_seconds", source));
            if ages.fold(f64::INFINITY, f64::min) > 8.0 {
                break;
            }
            assert!(started.elapsed() < PATIENCE);
        }
        projector.becomes_unready("").await;
        drop(frozen);
        projector.becomes_ready().await;
        projector.process.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
