//! A stream that was recreated: the log halts, names a command that helps, and continues where every row
//! agrees with the new stream's messages.

use super::*;

#[test]
fn a_log_goes_on_with_a_stream_that_was_made_again_where_every_row_agrees() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        projector.kill().await;
        relay.kill().await;
        let stream = Source::Admin.stream();
        world.bus.jetstream.delete_stream(&stream).await.unwrap();
        world.bus.ensure_stream(&Source::Admin, 1).await.unwrap();

        let mut projector = audited.projector().start();
        let named = format!("artstore audit accept-stream --stream {stream} --reason");
        projector.says(&named).await;
        assert!(
            !projector.log().contains("projection repair"),
            "{}",
            projector.log()
        );
        let accept = || {
            audited
                .command(&["audit", "accept-stream", "--stream", "admin", "--reason"])
                .argument("the volume was lost")
        };
        // The stream is empty: what comes first is said.
        let (status, log) = accept().finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("Start its relay"), "{log}");
        let relay = admin_relay(&world);
        eventually("all is published again", async || {
            (world.last_sequence(&Source::Admin).await == 300).then_some(())
        })
        .await;
        // A row that is not its message's is not accepted.
        let mut admin = pg(&world.admin_url).await;
        let row = "where stream = 'ARTSTORE_ADMIN' and stream_sequence = 9";
        let set = async |from: &str, to: &str| {
            let mut admin = pg(&world.admin_url).await;
            let sql = format!(
                "alter table audit_logs disable trigger all;
                 update audit_logs set action = '{to}' {row} and action = '{from}';
                 {TRIGGER_AGAIN}"
            );
            execute(&mut admin, sql).await;
        };
        let action: String =
            value(&mut admin, format!("select action from audit_logs {row}")).await;
        set(&action, "other").await;
        let (status, log) = accept().finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("1 of 300 rows are not what the messages"),
            "{log}"
        );
        set("other", &action).await;

        let (status, said) = accept().output().await;
        assert!(
            status.success() && said.contains("continues from row 301"),
            "{said}"
        );
        projector.signal("-TERM").await;
        projector.ended().await;
        let projector = audited.projector().start();
        admin_events(&world, 9).await;
        audited.caught_up_with(&Source::Admin, 310).await;
        let reason: String = value(
            &mut admin,
            "select data ->> 'reason' from audit_logs where event_type = 'audit_stream_accepted'",
        )
        .await;
        assert_eq!(reason, "the volume was lost");
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        let (status, said) = accept().output().await;
        assert!(
            status.success() && said.contains("nothing to accept"),
            "{said}"
        );
        projector.kill().await;
        relay.kill().await;
    });
}
