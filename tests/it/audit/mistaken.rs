//! A command that is asked for something that does not exist reports that: silence would look like an answer.

use super::*;

#[test]
fn a_log_a_file_or_a_database_that_is_not_the_one_that_is_meant_is_told() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 20).await;
        let folder = folder("mistaken");
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let export = ["audit", "export", "--format", "jsonl", "--stream"];
        let tail = ["audit", "tail", "--stream"];
        // A stream goes by its source's name, too.
        for command in [&export[..], &tail[..]] {
            for name in ["admin", "ARTSTORE_ADMIN"] {
                let (status, said) = audited.command(command).argument(name).output().await;
                assert!(status.success(), "{said}");
                assert!(said.lines().count() >= 20, "{said}");
            }
            let (status, log) = audited.command(command).argument("elem").finish().await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(
                log.contains("there is no log of ARTSTORE_WAL_elem; there are ARTSTORE_ADMIN"),
                "{log}"
            );
        }
        let mistyped = ["audit", "tail", "--type", "login_faild"];
        let (status, log) = audited.command(&mistyped).finish().await;
        assert!(status.success(), "{log}");
        assert!(
            log.contains("no row is of type \"login_faild\" so far"),
            "{log}"
        );
        let right = ["audit", "tail", "--type", "login_failed"];
        assert_eq!(audited.command(&right).finish().await.1, "");

        let since = ["audit", "tail", "--since"];
        let log = audited
            .command(&since)
            .argument("yesterday")
            .finish()
            .await
            .1;
        assert!(
            log.contains("expected a date like 2026-01-31, or a time like"),
            "{log}"
        );
        for (option, rows) in [("--since", 20), ("--until", 0)] {
            let day = audited.command(&["audit", "tail", option, "2026-01-31"]);
            let (status, said) = day.output().await;
            assert!(status.success(), "{said}");
            assert_eq!(said.lines().count(), rows, "{option}: {said}");
        }

        let head = audited.command(&["audit", "head", "--export", &file("head")]);
        assert!(head.output().await.0.success());
        let one = std::fs::read_to_string(file("head")).unwrap();
        std::fs::write(file("two"), format!("{one}----\n{one}")).unwrap();
        let (status, log) = audited
            .command(&[
                "audit",
                "consistency",
                &file("head"),
                &file("two"),
                "--keys",
            ])
            .argument(audited.keys.to_str().unwrap())
            .finish()
            .await;
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains("two holds 2 heads"), "{log}");

        for command in [&["audit", "tail"][..], &["audit", "verify", "--no-bus"]] {
            let nowhere = "postgres://nobody@127.0.0.1:1/artstore_admin";
            let down = audited.command(command).env("ADMIN_DATABASE_URL", nowhere);
            let down = down.env("ARTSTORE_VERIFY_WAIT_SECONDS", "0");
            let (status, log) = down.finish().await;
            assert_eq!(status.code(), Some(1), "{log}");
            assert!(
                log.contains(
                    "database artstore_admin at 127.0.0.1:1 can't be reached; check ADMIN_DATABASE_URL"
                ),
                "{log}"
            );
            let other = audited.command(command);
            let (status, log) = other
                .env("ADMIN_DATABASE_URL", &world.query_url)
                .finish()
                .await;
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(log.contains("correct ADMIN_DATABASE_URL"), "{log}");
        }

        // Where the log's check can't be done, what is known of the rest is reported.
        projector.kill().await;
        admin_events(&world, 1).await;
        // Exports are events, too.
        let rows = finished(&mut pg(&world.admin_url).await, &Source::Admin).await;
        eventually("all is published", || async {
            (world.last_sequence(&Source::Admin).await == rows).then_some(())
        })
        .await;
        let mut stuck = audited.command(&["verify", "--wait", "1"]).start();
        assert_eq!(stuck.ended().await.code(), Some(1), "{}", stuck.log());
        let (said, log) = (stuck.output(), stuck.log());
        assert!(log.contains(&format!("rows of {rows} messages")), "{log}");
        assert!(
            said.lines().any(|line| line.starts_with("admin ")),
            "{said}"
        );
        relay.kill().await;
    });
}
