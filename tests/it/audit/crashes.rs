//! SIGKILL between every two steps, two projectors at once, and a database that was set back: there is
//! still one log, and it verifies.

use artstore_projectors::audit_log::published;

use super::*;
use crate::support::load::Load;

const POINTS: [(&str, &[usize]); 9] = [
    ("projector.received", &[1, 3]),
    ("audit.rows", &[1, 4]),
    ("audit.tiles", &[1, 4]),
    ("audit.heads", &[1, 4]),
    ("projector.applied", &[1, 3]),
    ("projector.advanced", &[1, 3]),
    ("projector.committed", &[1, 3]),
    ("audit.publishing", &[1, 3]),
    ("audit.published", &[1, 3]),
];

/// Heads on the bus by stream: each size once, ascending.
async fn heads_are_published_once(world: &World) {
    for source in world.sources() {
        let mut last = 0;
        let notes = published::all(&world.bus, &source.stream()).await;
        for note in notes.unwrap() {
            let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
            assert!(size > last, "{source}: head {size} behind head {last}");
            last = size;
        }
    }
}

#[test]
fn killed_between_every_two_steps_the_log_continues_and_verifies() {
    run(async {
        let world = World::new(&["elem_a"]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        for (point, times) in POINTS {
            for times in times {
                let mut projector = audited.projector().crash_at(point, *times).start();
                let status = projector.ended().await;
                assert_eq!(status.code(), None, "{point}: {}", projector.log());
            }
        }
        load.stop().await;
        let projector = audited.projector().start();
        world.published(0).await;
        audited.caught_up().await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        heads_are_published_once(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The session that holds the lock is ended again and again while its worker has a batch in hand.
#[test]
fn of_two_projectors_one_works_and_neither_forks_the_log() {
    run(async {
        let world = World::new(&["elem_a"]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let load = Load::start(&world, 2, false);
        let workers = [audited.projector().start(), audited.projector().start()];
        let mut admin = pg(&world.admin_url).await;
        let stream = world.source(0).stream();
        for _ in 0..15 {
            let size = format!(
                "select coalesce((select size from audit_trees where stream = '{stream}'), 0)"
            );
            let before: i64 = value(&mut admin, size.clone()).await;
            eventually("one of them goes on", || async {
                let now: i64 = value(&mut pg(&world.admin_url).await, size.clone()).await;
                (now > before + 5).then_some(())
            })
            .await;
            execute(
                &mut admin,
                "select pg_terminate_backend(l.pid) from pg_locks l \
                 join pg_stat_activity a on a.pid = l.pid \
                 where l.locktype = 'advisory' and l.granted \
                   and a.datname = current_database() \
                   and a.application_name like 'artstore audit-log %'",
            )
            .await;
        }
        load.stop().await;
        world.published(0).await;
        audited.caught_up().await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        heads_are_published_once(&world).await;
        for worker in workers {
            worker.kill().await;
        }
        relay.kill().await;
    });
}

/// A copy of the admin database, as a backup that is restored.
async fn copied(world: &World, from: &str, to: &str) {
    let mut server = pg(&world.query_url).await;
    execute(
        &mut server,
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{from}'"),
    )
    .await;
    execute(&mut server, format!("create database {to} template {from}")).await;
}

#[test]
fn a_restored_backup_catches_up_with_what_was_published_and_a_fork_is_refused() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        let name = world.admin_url.rsplit('/').next().unwrap().to_owned();
        let backup = format!("{name}_backup");
        relay.kill().await;
        copied(&world, &name, &backup).await;
        let relay = admin_relay(&world);
        let projector = audited.projector().start();
        // More than one batch: what it signs on the way, nobody could publish any more.
        admin_events(&world, 1_500).await;
        audited.caught_up_with(&Source::Admin, 1_800).await;
        projector.kill().await;
        relay.kill().await;

        let url = world.admin_url.replace(&name, &backup);
        let behind = audited.verify_at(&url, &[]).await;
        assert!(!behind.is_clean(), "it ends before a published head");
        let forked = format!("{name}_forked");
        copied(&world, &backup, &forked).await;

        let restored = audited.projector().env("ADMIN_DATABASE_URL", &url).start();
        restored.says("behind the last published head").await;
        restored
            .says("caught up with the last published head")
            .await;
        eventually("it has caught up", || async {
            let size: i64 = value(
                &mut pg(&url).await,
                "select size from audit_trees where stream = 'ARTSTORE_ADMIN'",
            )
            .await;
            (size == 1_800).then_some(())
        })
        .await;
        let restored_verdict = audited.verify_at(&url, &["--against-stream"]).await;
        assert!(restored_verdict.is_clean(), "{}", restored_verdict.0);
        restored.kill().await;

        // The same backup, changed by somebody who has the secret: it does not come to the same.
        let url = world.admin_url.replace(&name, &forked);
        let mut admin = pg(&url).await;
        execute(&mut admin, "alter table audit_logs disable trigger all").await;
        execute(
            &mut admin,
            "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 100",
        )
        .await;
        super::attacks::sign_again(&mut admin).await;
        let fork = audited.projector().env("ADMIN_DATABASE_URL", &url).start();
        fork.says("the log was changed or has forked").await;
        let size: i64 = value(
            &mut admin,
            "select size from audit_trees where stream = 'ARTSTORE_ADMIN'",
        )
        .await;
        assert!(size < 1_800, "nothing was added behind the fork: {size}");
        fork.kill().await;
    });
}

/// Who can write the tables can't have anything signed that is not in the log: the projector signs what it
/// has written itself, and what follows from the last published head.
#[test]
fn what_the_tables_say_is_neither_signed_nor_published_without_the_rows() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        let stream = Source::Admin.stream();
        let mut admin = pg(&world.admin_url).await;
        let one_more = format!(
            "update audit_trees set size = 301, last_signature = decode(repeat('cd', 32), 'hex') \
                 where stream = '{stream}'; \
             update audit_tiles set hashes = hashes || decode(repeat('ab', 32), 'hex') \
                 where stream = '{stream}' and level = 0 and tile = 1"
        );
        let passed = format!(
            "update projection_checkpoints set last_sequence = 301, \
                 last_event_id = (select event_id from event_outbox order by position desc limit 1) \
                 where projection = 'audit-log' and stream = '{stream}'"
        );
        let back = format!(
            "delete from audit_logs where stream = '{stream}' and stream_sequence = 301; \
             update audit_trees t set size = 300, \
                 last_signature = (select decode(hmac_signature, 'hex') from audit_logs l \
                     where l.stream = t.stream and stream_sequence = 300) \
                 where stream = '{stream}'; \
             update audit_tiles set hashes = substring(hashes for 44 * 32) \
                 where stream = '{stream}' and level = 0 and tile = 1; \
             update projection_checkpoints set last_sequence = 300, \
                 last_event_id = (select event_id from audit_logs \
                     where stream = '{stream}' and stream_sequence = 300) \
                 where projection = 'audit-log' and stream = '{stream}'"
        );
        let no_more_heads = || async {
            let mut admin = pg(&world.admin_url).await;
            let last: i64 = value(&mut admin, "select max(size) from audit_heads").await;
            assert_eq!(last, 300);
            let head = artstore_projectors::audit_log::published::last(&world.bus, &stream).await;
            let note = head.unwrap().note.unwrap();
            assert_eq!(note.lines().nth(1), Some("300"));
        };
        // Beside a session that knows better, and before one that begins.
        execute(&mut admin, one_more).await;
        projector
            .says("its log has 301 rows, but its checkpoint is at 300")
            .await;
        no_more_heads().await;
        projector.kill().await;
        admin_events(&world, 1).await;
        eventually("message 301", || async {
            (world.last_sequence(&Source::Admin).await == 301).then_some(())
        })
        .await;
        execute(&mut admin, passed).await;
        let projector = audited.projector().start();
        projector
            .says("the rows that are chained to the last published head end with row 300")
            .await;
        no_more_heads().await;
        // An invented row does not help: nobody without the secret can sign it.
        execute(
            &mut admin,
            format!(
                "alter table audit_logs disable trigger all; \
                 insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, \
                     actor_type, action, success, created_at, kid, hmac_signature) \
                 select format, mapping, stream, 301, event_type, severity, actor_type, action, success, \
                     created_at, kid, repeat('cd', 32) \
                 from audit_logs where stream = '{stream}' and stream_sequence = 300"
            ),
        )
        .await;
        projector
            .says("row 301 is not the one that was signed behind row 300")
            .await;
        no_more_heads().await;
        execute(&mut admin, back).await;

        // Of the heads, too: what is on the bus can't be taken back.
        admin_events(&world, 9).await;
        audited.caught_up_with(&Source::Admin, 310).await;
        let plant = format!(
            "insert into audit_heads (stream, size, note) values ('{stream}', 1000000, 'junk')"
        );
        execute(&mut admin, plant).await;
        projector
            .says("the head of 1000000 rows in its table is none of its rows")
            .await;
        execute(&mut admin, "alter table audit_heads disable trigger all; delete from audit_heads where size = 1000000").await;
        admin_events(&world, 10).await;
        audited.caught_up_with(&Source::Admin, 320).await;
        execute(
            &mut admin,
            format!("alter table audit_heads enable trigger all; {TRIGGER_AGAIN}"),
        )
        .await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        heads_are_published_once(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The backup was made between a row and its head, which was published all the same.
#[test]
fn a_backup_without_the_head_of_its_last_row_takes_it_over_from_the_bus() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "alter table audit_heads disable trigger all; delete from audit_heads where size = 300; \
             alter table audit_heads enable trigger all",
        )
        .await;
        let projector = audited.projector().start();
        admin_events(&world, 10).await;
        audited.caught_up_with(&Source::Admin, 310).await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        projector.kill().await;
        relay.kill().await;
    });
}
