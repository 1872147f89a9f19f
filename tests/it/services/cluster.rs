//! Three nodes: the stream's leader is killed under load, and everything continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use artstore_stack::{Stack, StackOptions};
use uuid::Uuid;

use crate::support::*;

#[test]
fn the_streams_leader_is_killed_under_load() {
    run(async {
        let stack = Stack::start(StackOptions {
            nats_nodes: 3,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = World::on(&stack, 0, &["elem"], 3).await;
        let source = world.source(0);
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        relay.says("mode=Pipelined").await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write(world.elements[0].1.clone(), Arc::clone(&stop)));
        for kill in 0..3 {
            let before = world.last_sequence(&source).await;
            eventually("rows are published", || async {
                (world.last_sequence(&source).await > before + 100).then_some(())
            })
            .await;
            let info = world.bus.stream_info(&source.stream()).await.unwrap();
            let leader = info.cluster.unwrap().leader.unwrap();
            let node = stack.nats_node_named(&leader).unwrap();
            stack.kill_nats(node).await.unwrap();
            eventually("another leads", || async {
                let info = world.bus.stream_info(&source.stream()).await.ok()?;
                let now = info.cluster?.leader?;
                (now != leader && info.state.last_sequence > before + 100).then_some(())
            })
            .await;
            stack.start_nats(node).await.unwrap();
            println!("kill {}: {leader} led", kill + 1);
        }
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        world.published(0).await;
        world.projected().await;
        println!("{} rows", world.last_sequence(&source).await);
        relay.kill().await;
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// Files come and go, each change with its finished row in one transaction.
async fn write(url: String, stop: Arc<AtomicBool>) {
    let mut connection = pg(&url).await;
    while !stop.load(Ordering::Relaxed) {
        let id = Uuid::new_v4();
        execute(
            &mut connection,
            format!(
                "begin; insert into elem_files (file_id, original_filename, storage_filename, \
                     file_size, content_type, created_by_id, created_by_username, storage_path, \
                     checksum) values ('{id}', 'a', '{id}', 0, 'text/plain', '1', 'u', '/', 'c'); \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) values (gen_random_uuid(), 'file_create', 'committed', \
                     '{id}', '{{}}'); commit"
            ),
        )
        .await;
    }
}
