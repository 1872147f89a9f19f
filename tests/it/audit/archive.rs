//! Old rows are moved into files that verify by themselves, and the log continues over the boundary.

use std::path::{Path, PathBuf};

use super::*;

const STREAM: &str = "ARTSTORE_QUERY";

/// A world whose query module's log has old rows.
struct Old<'a> {
    audited: Audited<'a>,
    /// Where archives go.
    to: PathBuf,
}

impl<'a> Old<'a> {
    async fn new(world: &'a World) -> Self {
        let to = folder("archives");
        Self {
            audited: Audited::new(world).await,
            to,
        }
    }

    /// So many events of ten years ago.
    async fn events(&self, count: u64) {
        self.events_since(count, "'2015-01-01'::timestamptz").await;
    }

    /// So many events, a minute after another.
    async fn events_since(&self, count: u64, since: &str) {
        let mut query = self.audited.world.query().await;
        execute(
            &mut query,
            format!(
                "insert into event_outbox (event_id, entity, action, subject, data, actor, occurred_at)
                 select gen_random_uuid(), 'thing', 'seen', n::text, jsonb_build_object('n', n, 'text', 'имя'),
                     '{{\"type\": \"user\", \"id\": \"7\"}}', {since} + n * interval '1 minute'
                 from generate_series(1, {count}) as n"
            ),
        )
        .await;
    }

    fn archive(&self) -> Program {
        self.audited.command(&[
            "audit",
            "archive",
            "--before",
            "2019-01-01",
            "--to",
            self.to.to_str().unwrap(),
        ])
    }

    /// Without database, bus or secret.
    async fn check(&self, name: &str) -> (bool, String) {
        let key = std::fs::read_to_string(&self.audited.keys).unwrap();
        let folder = self.to.join(name);
        let (status, said) = Program::new(&["audit", "check-archive", "--key", key.trim()])
            .argument(folder.to_str().unwrap())
            .output()
            .await;
        (status.success(), said)
    }

    async fn rows(&self) -> (i64, i64) {
        let mut admin = pg(&self.audited.world.admin_url).await;
        sqlx::query_as(
            "select coalesce(min(stream_sequence), 0), count(*) from audit_logs where stream = $1",
        )
        .bind(STREAM)
        .fetch_one(&mut admin)
        .await
        .unwrap()
    }

    async fn verified(&self) {
        let to = self.to.to_str().unwrap();
        let verdict = self
            .audited
            .verify(&["--against-stream", "--archives", to])
            .await;
        assert!(verdict.is_clean(), "{}", verdict.0);
    }
}

#[test]
fn old_rows_go_into_files_and_the_log_goes_on() {
    run(async {
        let world = World::new(&[]).await;
        let old = Old::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = old.audited.projector().start();
        old.events(600).await;
        old.audited.caught_up_with(&Source::Query, 600).await;

        // Not what is younger than the retention, and the retention is not shorter.
        let (status, said) = old
            .archive()
            .env("SECURITY_AUDIT_RETENTION_DAYS", "2554")
            .finish()
            .await;
        assert!(status.code() == Some(2), "{said}");
        assert!(said.contains("at least 2555 days"), "{said}");
        let young =
            old.audited
                .command(&["audit", "archive", "--before", "2099-01-01", "--to", "."]);
        let (status, said) = young.finish().await;
        assert!(status.code() == Some(2), "{said}");
        assert!(
            said.contains("the last moment that may be given is"),
            "{said}"
        );
        let (status, said) = old.archive().argument("--dry-run").output().await;
        assert!(status.success() && said.contains("rows 1 to 512"), "{said}");
        assert_eq!(old.rows().await, (1, 600));

        let (status, said) = old.archive().output().await;
        assert!(
            status.success() && said.contains("512 rows removed"),
            "{said}"
        );
        assert_eq!(old.rows().await, (513, 88));
        old.verified().await;
        old.events(700).await;
        old.audited.caught_up_with(&Source::Query, 1_300).await;
        let (status, said) = old.archive().output().await;
        assert!(
            status.success() && said.contains("768 rows removed"),
            "{said}"
        );
        assert_eq!(old.rows().await, (1_281, 20));
        old.verified().await;
        let (status, said) = old.archive().output().await;
        assert!(
            status.success() && said.contains("nothing to archive"),
            "{said}"
        );

        // Rows after the boundary are proved as before; the command has read all archives.
        let mut admin = pg(&world.admin_url).await;
        let id: i64 = value(
            &mut admin,
            format!("select max(id) from audit_logs where stream = '{STREAM}'"),
        )
        .await;
        let (status, said) = old
            .audited
            .command(&["audit", "prove", &id.to_string()])
            .output()
            .await;
        assert!(status.success(), "{said}");
        let to = old.to.to_str().unwrap();
        let verdict = old.audited.verify(&["--archives", to]).await;
        assert_eq!(verdict.0["archives"], json!({"checked": 2, "rows": 1_280}));

        // An archive verifies by itself, and any change of it is found.
        for name in ["ARTSTORE_QUERY-1-512", "ARTSTORE_QUERY-513-1280"] {
            let (ok, said) = old.check(name).await;
            assert!(
                ok && said.contains("All rows are as they were signed."),
                "{said}"
            );
        }
        for (file, from, by) in [
            ("rows.jsonl", "thing_seen", "thing_seem"),
            ("tiles.jsonl", "A", "B"),
            ("head.note", "513", "514"),
            ("head.note", "1280", "1281"),
            ("head-before.note", "512", "511"),
            ("manifest.json", "2015", "2016"),
        ] {
            changed(&old, file, from, by).await;
        }
        // Also where the manifest was made to fit.
        let folder = old.to.join("ARTSTORE_QUERY-513-1280");
        let rows = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap();
        let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let digest = |text: &str| {
            data_encoding::HEXLOWER.encode(&artstore_projectors::audit_log::row::sha256(
                text.as_bytes(),
            ))
        };
        let other = rows.replacen("thing_seen", "thing_seem", 1);
        let fits = manifest.replace(&digest(&rows), &digest(&other));
        assert_ne!(fits, manifest);
        std::fs::write(folder.join("rows.jsonl"), &other).unwrap();
        std::fs::write(folder.join("manifest.json"), &fits).unwrap();
        let (ok, said) = old.check("ARTSTORE_QUERY-513-1280").await;
        assert!(
            !ok && said.contains("row 513 is not the row in the tree"),
            "{said}"
        );
        assert!(said.contains("the rows do not lead to head.note"), "{said}");
        let verdict = old.audited.verify(&["--archives", to]).await;
        let kinds: Vec<String> = verdict
            .findings()
            .into_iter()
            .map(|found| found.0)
            .collect();
        assert_eq!(kinds, ["archive-unfit"], "{}", verdict.0);
        std::fs::write(folder.join("rows.jsonl"), &rows).unwrap();
        std::fs::write(folder.join("manifest.json"), &manifest).unwrap();
        old.verified().await;
        projector.kill().await;
        relay.kill().await;
        attacked(&old).await;
    });
}

/// Changes the first place of a file; check-archive and verify see it.
async fn changed(old: &Old<'_>, file: &str, from: &str, by: &str) {
    let folder = old.to.join("ARTSTORE_QUERY-513-1280");
    let path: &Path = &folder.join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let other = text.replacen(from, by, 1);
    if other == text {
        return;
    }
    std::fs::write(path, other).unwrap();
    let (ok, said) = old.check("ARTSTORE_QUERY-513-1280").await;
    // What only describes the rows is protected by the digest that the log has.
    assert!(!ok || file == "manifest.json", "{file}: {said}");
    let to = old.to.to_str().unwrap();
    let verdict = old.audited.verify(&["--archives", to]).await;
    assert!(!verdict.is_clean(), "{file}");
    std::fs::write(path, text).unwrap();
}

/// What is there and what is gone beside an archive is found as before.
async fn attacked(old: &Old<'_>) {
    let mut admin = pg(&old.audited.world.admin_url).await;
    execute(&mut admin, "alter table audit_logs disable trigger all").await;
    let attacks = [
        ("select 1".to_owned(), ""),
        (
            format!("delete from audit_logs where stream = '{STREAM}' and stream_sequence = 1281"),
            "row-missing",
        ),
        (
            format!(
                "update audit_logs set stream_sequence = 700, action = 'x' \
                 where stream = '{STREAM}' and stream_sequence = 1299"
            ),
            "row-edited",
        ),
        (
            format!(
                "update audit_tiles set hashes = set_byte(hashes, 5, 255 - get_byte(hashes, 5)) \
                 where stream = '{STREAM}' and level = 0 and tile = 1"
            ),
            "tile-edited",
        ),
        (
            "delete from audit_logs where event_type = 'audit_archived'".to_owned(),
            "row-missing",
        ),
        (
            "update audit_logs set data = replace(data::text, '1280', '1536')::jsonb \
             where event_type = 'audit_archived'"
                .to_owned(),
            "row-edited",
        ),
    ];
    let url = &old.audited.world.admin_url;
    let name = url.rsplit('/').next().unwrap();
    let mut server = pg(&old.audited.world.query_url).await;
    sqlx::Connection::close(admin).await.unwrap();
    let others =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    execute(&mut server, others).await;
    for (number, (sql, kind)) in attacks.iter().enumerate() {
        let copy = format!("{name}_{number}");
        let url = url.replace(name, &copy);
        execute(
            &mut server,
            format!("create database {copy} template {name}"),
        )
        .await;
        let mut admin = pg(&url).await;
        execute(&mut admin, sql.clone()).await;
        execute(&mut admin, TRIGGER_AGAIN).await;
        sqlx::Connection::close(admin).await.unwrap();
        let verdict = old.audited.verify_at(&url, &[]).await;
        let found = verdict
            .findings()
            .into_iter()
            .any(|(found, ..)| found == *kind);
        assert!(found != kind.is_empty(), "{sql}: {}", verdict.0);
        assert!(found || verdict.is_clean(), "{sql}: {}", verdict.0);
        execute(&mut server, format!("drop database {copy}")).await;
    }
}

#[test]
fn killed_anywhere_nothing_is_lost_and_the_same_command_goes_on() {
    run(async {
        let world = World::new(&[]).await;
        let old = Old::new(&world).await;
        let _relay = world.command(&["run", "relay"]).start();
        let _projector = old.audited.projector().start();
        old.events(2_600).await;
        old.audited.caught_up_with(&Source::Query, 2_600).await;
        for (point, times, left) in [
            ("audit.archive.rows", 1, 2_600),
            ("audit.archive.written", 1, 2_600),
            ("audit.archive.recorded", 1, 2_600),
            ("audit.archive.removed", 1, 1_600),
            ("audit.archive.removed", 2, 40),
        ] {
            let mut killed = old.archive().crash_at(point, times).start();
            let status = killed.ended().await;
            assert!(!status.success(), "{point}: {}", killed.log());
            assert_eq!(old.rows().await.1, left, "{point}: {}", killed.log());
            let verdict = old.audited.verify(&["--against-stream"]).await;
            assert!(verdict.is_clean(), "{point}: {}", verdict.0);
        }
        let (status, said) = old.archive().finish().await;
        assert!(status.success(), "{said}");
        assert_eq!(old.rows().await, (2_561, 40));
        old.verified().await;
        let mut admin = pg(&world.admin_url).await;
        let events: i64 = value(
            &mut admin,
            "select count(*) from audit_logs where event_type = 'audit_archived'",
        )
        .await;
        assert_eq!(events, 1, "recorded once");
    });
}

#[test]
fn nothing_is_removed_before_the_log_says_so() {
    run(async {
        let world = World::new(&[]).await;
        let old = Old::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = old.audited.projector().start();
        old.events(300).await;
        old.events_since(300, "'2018-06-01'::timestamptz").await;
        old.audited.caught_up_with(&Source::Query, 600).await;
        projector.kill().await;
        relay.kill().await;
        // A row that was changed is not archived.
        let mut admin = pg(&world.admin_url).await;
        execute(&mut admin, "alter table audit_logs disable trigger all").await;
        let row = format!("stream = '{STREAM}' and stream_sequence = 9");
        let action: String = value(
            &mut admin,
            format!("select action from audit_logs where {row}"),
        )
        .await;
        let set = |action: &str| format!("update audit_logs set action = '{action}' where {row}");
        execute(&mut admin, set("x")).await;
        let other = folder("other");
        let (status, said) = old
            .audited
            .command(&["audit", "archive", "--before", "2019-01-01", "--to"])
            .argument(other.to_str().unwrap())
            .finish()
            .await;
        assert!(!status.success(), "{said}");
        assert!(
            said.contains("row 9 is not the row in the tree; nothing was removed"),
            "{said}"
        );
        execute(&mut admin, set(&action)).await;
        // Nor is one removed before its archive is recorded; and a later command, which would archive more,
        // waits for that, too.
        for before in ["2018-01-01", "2019-01-01"] {
            let command = [
                "audit", "archive", "--wait", "1", "--before", before, "--to",
            ];
            let archive = old.audited.command(&command);
            let (status, said) = archive.argument(old.to.to_str().unwrap()).finish().await;
            assert!(!status.success(), "{said}");
            assert!(
                said.contains("Nothing was removed; the same command continues"),
                "{said}"
            );
            assert_eq!(old.rows().await, (1, 600));
        }
        let recorded: i64 = value(
            &mut admin,
            "select count(*) from event_outbox where entity = 'audit' and action = 'archived'",
        )
        .await;
        assert_eq!(recorded, 1);
    });
}

/// Who may write the outbox can have an archive recorded that never was. It hides no row that was not
/// signed or that are young by the bus, and takes nothing back.
#[test]
fn an_archive_that_never_was_is_not_believed() {
    run(async {
        let world = World::new(&[]).await;
        let old = Old::new(&world).await;
        let _relay = world.command(&["run", "relay"]).start();
        let _projector = old.audited.projector().start();
        old.events_since(600, "now() - interval '1 day'").await;
        old.audited.caught_up_with(&Source::Query, 600).await;
        let mut admin = pg(&world.admin_url).await;
        let signature: String = value(
            &mut admin,
            format!(
                "select hmac_signature from audit_logs where stream = '{STREAM}' and stream_sequence = 512"
            ),
        )
        .await;
        let forge = async |events: u64, last: u64| {
            let mut admin = pg(&world.admin_url).await;
            let data = json!({"archived": [{
                "stream": STREAM, "first": 1, "last": last, "digest": "00".repeat(32),
                "last_signature": signature,
            }]});
            execute(
                &mut admin,
                format!(
                    "insert into event_outbox (event_id, entity, action, data, actor)
                     values (gen_random_uuid(), 'audit', 'archived', '{data}', '{{}}')"
                ),
            )
            .await;
            old.audited.caught_up_with(&Source::Admin, events).await;
        };
        let found = async |arguments: &[&str]| old.audited.verify(arguments).await.findings();
        let unfit = |row: u64| {
            (
                "archive-unfit".to_owned(),
                Some(row),
                vec!["heads".to_owned()],
            )
        };

        // Behind everything that was signed.
        forge(1, 25_600).await;
        assert_eq!(found(&[]).await, [unfit(1)]);
        execute(
            &mut admin,
            format!(
                "alter table audit_logs disable trigger all;
                 delete from audit_logs where stream = '{STREAM}' and stream_sequence <= 512;
                 {TRIGGER_AGAIN}"
            ),
        )
        .await;
        let missing = ("row-missing".to_owned(), Some(1), vec!["form".to_owned()]);
        assert!(found(&[]).await.contains(&missing));

        // Up to a head: the messages on the bus are younger than rows that may go.
        forge(2, 512).await;
        assert_eq!(found(&[]).await, [unfit(1)], "nothing but the bus tells");
        let young: Vec<u64> = found(&["--against-stream"])
            .await
            .into_iter()
            .filter(|(kind, _, layers)| kind == "row-missing" && layers.contains(&"bus".to_owned()))
            .filter_map(|(_, row, _)| row)
            .collect();
        assert_eq!(young, (1..=512).collect::<Vec<u64>>());

        // No later event takes one back.
        forge(3, 256).await;
        assert_eq!(found(&[]).await, [unfit(1), unfit(3)]);
    });
}
