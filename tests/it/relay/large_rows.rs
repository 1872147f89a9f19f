//! Rows that are far too large for a message: relay, verify, backfill and the list of pending operations do
//! not take them into memory. The relay publishes them with what was left out named by size and digest.

use artstore_schemas::event::WalEvent;
use serde_json::Value;

use crate::support::*;

/// How many bytes each of the large texts has.
const TEXT: usize = 100 * 1024 * 1024;

/// What a process may have used at its peak: less than one of those texts.
const MOST: usize = 80 * 1024 * 1024;

/// What a process may have used that reads many texts, of 480 MiB together: a poll keeps 32 MiB of them.
const MANY: usize = 320 * 1024 * 1024;

/// The most memory that a process has had, in bytes; none once it has ended.
pub fn peak(pid: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a command printed that used no more memory than that.
async fn bounded(world: &World, arguments: &[&str], most: usize) -> String {
    let mut process = world.command(arguments).start();
    let mut used = 0;
    while let Some(now) = peak(process.pid()) {
        used = used.max(now);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let status = process.ended().await;
    let said = process.output();
    assert!(status.success(), "{arguments:?}: {said}{}", process.log());
    println!("{arguments:?} used {} MiB", used >> 20);
    assert!(used < most, "{arguments:?}: {} MiB", used >> 20);
    said
}

/// Operations that were left behind: twenty with far more data than a message has, and a hundred with less.
#[test]
fn pending_operations_with_much_data_are_listed_in_little_memory() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        for (rows, bytes) in [(20, 20 << 20), (100, 3 << 20)] {
            execute(
                &mut connection,
                format!(
                    "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                         operation_data) \
                     select gen_random_uuid(), 'file_delete', 'pending', gen_random_uuid(), \
                         jsonb_build_object('y', repeat('abcdefgh', {bytes} / 8)) \
                     from generate_series(1, {rows})"
                ),
            )
            .await;
        }
        let all = ["--older-than", "0s", "--json"];
        let list = [&["wal", "pending", "--limit", "1000"][..], &all].concat();
        let said: Vec<Value> = serde_json::from_str(&bounded(&world, &list, MOST).await).unwrap();
        assert_eq!(said.len(), 120);
        for pending in &said {
            assert_eq!(pending["reason"], "the file is gone from _files");
        }
        let resolve = [
            "wal",
            "resolve",
            "--proposed",
            "--reason",
            "a test",
            "--dry-run",
        ];
        let said = bounded(&world, &[&resolve[..], &all].concat(), MOST).await;
        let said: Vec<Value> = serde_json::from_str(&said).unwrap();
        assert_eq!(said.len(), 120);
        for pending in &said {
            assert_eq!(pending["result"], "would-resolve", "{pending}");
        }
    });
}

#[test]
fn a_row_of_many_megabytes_stays_in_the_database() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut connection = world.element(0).await;
        let text = format!("repeat('abcdefgh', {})", TEXT / 8);
        execute(
            &mut connection,
            format!(
                "insert into elem_files (file_id, original_filename, storage_filename, storage_path, \
                     file_size, content_type, checksum, created_by_id, created_by_username, \
                     description, metadata_json, created_at, updated_at) \
                 values (gen_random_uuid(), 'a', 'a', '/', 1, 'text/plain', 'c', '1', 'ann', {text}, \
                     jsonb_build_object('x', {text}), now(), now()); \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data, error_message) \
                 select gen_random_uuid(), 'file_update', 'committed', file_id, \
                     jsonb_build_object('y', {text}), {text} from elem_files"
            ),
        )
        .await;
        let relay = world.relay(0).start();
        world.caught_up(0).await;
        let used = peak(relay.pid()).unwrap();
        println!("the relay used {} MiB", used >> 20);
        assert!(used < MOST, "{} MiB", used >> 20);

        let stream = world
            .bus
            .jetstream
            .get_stream(source.stream())
            .await
            .unwrap();
        let message = stream.get_raw_message(1).await.unwrap();
        let event: WalEvent = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(event.omitted.len(), 4, "{event:?}");
        let file = event.file.unwrap();
        assert_eq!((file.description, file.metadata), (None, None));
        for (field, text) in [
            ("file.description", "f.description"),
            ("file.metadata", "f.metadata_json::text"),
            ("operation.data", "w.operation_data::text"),
            ("operation.error_message", "w.error_message"),
        ] {
            let sql = format!(
                "select octet_length({text}) || ' ' || encode(sha256({text}::bytea), 'hex') \
                 from elem_files f join elem_wal w using (file_id)"
            );
            let expected: String = value(&mut connection, sql).await;
            let omitted = event.omitted.iter().find(|o| o.field == field).unwrap();
            assert_eq!(
                format!("{} {}", omitted.bytes, omitted.sha256),
                expected,
                "{field}"
            );
        }

        // The check, for which the file stands still, and a backfill that finds nothing to publish.
        let projector = world.projector().start();
        world.applied().await;
        for arguments in [
            &["verify", "--source", "elem"][..],
            &["element", "backfill", "elem"],
        ] {
            let said = bounded(&world, arguments, MOST).await;
            assert!(
                !said.contains("in flight\n") || said.contains(", 0 in flight"),
                "{said}"
            );
        }
        assert_eq!(world.last_sequence(&source).await, 1);
        relay.kill().await;
        projector.kill().await;
    });
}

/// Each text just small enough to be fetched, in many rows: together far more than a process may have.
#[test]
fn many_rows_of_megabytes_are_read_one_at_a_time() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut connection = world.element(0).await;
        let text = format!("repeat('abcdefgh', {} / 8 - 10)", 4 << 20);
        execute(
            &mut connection,
            format!(
                "insert into elem_wal (transaction_id, operation_type, status, operation_data, \
                     error_message) \
                 select gen_random_uuid(), 'file_update', 'committed', \
                     jsonb_build_object('y', {text}), {text} from generate_series(1, 60)"
            ),
        )
        .await;
        let relay = world.relay(0).start();
        world.caught_up(0).await;
        let used = peak(relay.pid()).unwrap();
        println!("the relay used {} MiB", used >> 20);
        assert!(used < MANY, "{} MiB", used >> 20);
        let projector = world.projector().start();
        world.applied().await;
        bounded(&world, &["verify", "--source", "elem"], MANY).await;
        relay.kill().await;
        projector.kill().await;
    });
}
