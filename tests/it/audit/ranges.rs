//! `audit verify` of some rows: whole tiles around them are read, nothing else is reported, and a range
//! without rows gives no verdict.

use std::collections::BTreeSet;

use super::*;

fn rows(verdict: &Verdict) -> BTreeSet<u64> {
    let findings = verdict.findings().into_iter();
    findings
        .filter(|(kind, ..)| kind == "row-edited")
        .filter_map(|(_, row, _)| row)
        .collect()
}

#[test]
fn some_rows_are_checked_by_themselves() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        admin_events(&world, 600).await;
        audited.caught_up_with(&Source::Admin, 600).await;
        projector.kill().await;
        relay.kill().await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all;
             update audit_logs set action = 'x'
             where stream = 'ARTSTORE_ADMIN' and stream_sequence in (300, 550)",
        )
        .await;
        execute(&mut admin, TRIGGER_AGAIN).await;
        let range = async |arguments: &[&str]| {
            let stream = ["--stream", "ARTSTORE_ADMIN"];
            let all: Vec<&str> = stream.iter().chain(arguments).copied().collect();
            audited.verify(&all).await
        };
        let verdict = range(&["--to", "256"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        assert_eq!(verdict.0["logs"][0]["rows"], 256);
        let verdict = range(&["--from", "260", "--to", "299"]).await;
        assert_eq!(verdict.0["logs"][0]["rows"], 256, "a whole tile");
        assert_eq!(rows(&verdict), BTreeSet::from([300]));
        let verdict = range(&["--from", "513"]).await;
        assert_eq!(rows(&verdict), BTreeSet::from([550]));
        assert_eq!(rows(&range(&[]).await), BTreeSet::from([300, 550]));
        // Against the bus, exactly the rows that were asked for.
        let verdict = range(&["--from", "299", "--to", "301", "--against-stream"]).await;
        assert_eq!(verdict.0["derived"][0]["derived"], 3, "{}", verdict.0);
        // Another log is as it was signed.
        let verdict = audited.verify(&["--stream", "query"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        assert_eq!(verdict.0["logs"].as_array().unwrap().len(), 1);
        for (arguments, reason) in [
            (
                &["--stream", "nowhere"][..],
                "there is no log and no stream",
            ),
            (&["--from", "5"], "--stream"),
            (
                &["--stream", "admin", "--stream", "query", "--from", "5"],
                "need one --stream",
            ),
            (&["--stream", "admin", "--from", "601"], "ends at row 600"),
            (&["--stream", "admin", "--from", "9", "--to", "8"], "--to 8"),
            (&["--stream", "admin", "--from", "0"], "numbered from 1"),
        ] {
            let verify = audited.command(&["audit", "verify"]);
            let verify = arguments.iter().fold(verify, |v, a| v.argument(a));
            let (status, said) = verify.finish().await;
            assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(reason), "{arguments:?}: {said}");
        }
    });
}
