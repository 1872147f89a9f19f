//! Offline proofs, heads that are kept elsewhere, and keys that are renewed.

use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::note::SignerKey;
use artstore_projectors::audit_log::store;

use super::*;

async fn printed(program: Program) -> (bool, String) {
    let (status, said) = program.output().await;
    (status.success(), said)
}

#[test]
fn a_row_is_proved_without_database_and_secret_and_a_fork_is_refused() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 300).await;
        let folder = folder("proofs");
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let head = |name: &str| audited.command(&["audit", "head", "--export", &file(name)]);
        let (ok, said) = printed(head("old")).await;
        assert!(
            ok && said.contains("test.example/audit/ARTSTORE_ADMIN"),
            "{said}"
        );
        let witness = || audited.command(&["audit", "witness", &file("witness")]);
        assert!(printed(witness()).await.0);
        admin_events(&world, 100).await;
        audited.caught_up_with(&Source::Admin, 400).await;
        assert!(printed(head("new")).await.0);
        assert!(printed(witness()).await.0);
        let consistency = |old: &str, new: &str| {
            audited
                .command(&["audit", "consistency", &file(old), &file(new), "--keys"])
                .argument(audited.keys.to_str().unwrap())
        };
        let (ok, said) = printed(consistency("old", "new")).await;
        assert!(
            ok && said.contains("The log of 400 rows continues that of 300"),
            "{said}"
        );
        assert!(!printed(consistency("new", "old")).await.0);

        let mut admin = pg(&world.admin_url).await;
        let id: i64 = value(
            &mut admin,
            "select id from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 123",
        )
        .await;
        let (ok, proof) = printed(audited.command(&["audit", "prove", &id.to_string()])).await;
        assert!(
            ok && proof.starts_with("c2sp.org/tlog-proof@v1\nextra "),
            "{proof}"
        );
        std::fs::write(file("proof"), &proof).unwrap();
        let key = std::fs::read_to_string(&audited.keys).unwrap();
        // An empty environment: neither database, nor NATS, nor secret.
        let check = |name: &str, key: &str| {
            Program::new(&["audit", "check-proof", &file(name), "--key", key.trim()])
        };
        let (ok, said) = printed(check("proof", &key)).await;
        assert!(ok && said.contains("ARTSTORE_ADMIN, row 123"), "{said}");
        assert!(
            said.contains("Proven: the row is in the log as it was signed."),
            "{said}"
        );
        let wrong = proof.replace("index 122", "index 121");
        std::fs::write(file("wrong"), wrong).unwrap();
        let (ok, said) = printed(check("wrong", &key)).await;
        assert!(!ok && said.contains("NOT PROVEN"), "{said}");
        let (ok, shown) = printed(audited.command(&["audit", "show", &id.to_string()])).await;
        assert!(ok && shown.contains("ARTSTORE_ADMIN"), "{shown}");
        let tail = audited.command(&["audit", "tail", "-n", "5", "--type", "login_failed"]);
        let (ok, shown) = printed(tail).await;
        assert!(ok && shown.lines().count() == 5, "{shown}");
        assert!(
            shown
                .lines()
                .all(|line| line.contains("failed: wrong password")),
            "{shown}"
        );

        // A row that was edited has no proof, and a log that was signed again is refused.
        projector.kill().await;
        relay.kill().await;
        execute(&mut admin, "alter table audit_logs disable trigger all").await;
        execute(
            &mut admin,
            format!("update audit_logs set action = 'x' where id = {id}"),
        )
        .await;
        let (status, said) = audited
            .command(&["audit", "prove", &id.to_string()])
            .finish()
            .await;
        assert!(
            !status.success() && said.contains("not the one that was signed"),
            "{said}"
        );
        super::attacks::sign_again(&mut admin).await;
        let (status, said) = witness().finish().await;
        assert!(status.success(), "heads were not changed: {said}");
        assert!(!printed(consistency("old", "new")).await.0, "the tree was");
        assert!(!audited.verify(&[]).await.is_clean());

        // Also by who has the signing key: the witness keeps what it has seen.
        let kept = std::fs::read_to_string(file("witness")).unwrap();
        let note: String = value(
            &mut admin,
            "select note from audit_heads where stream = 'ARTSTORE_ADMIN' order by size desc limit 1",
        )
        .await;
        let key = std::fs::read_to_string(&audited.key).unwrap();
        let key = SignerKey::parse(&key).unwrap();
        let trusted = [key.verifier().clone()];
        let (head, _) = Head::open(&note, &trusted).unwrap();
        let fork = Head {
            size: head.size + 1,
            root: [7; 32],
            ..head
        };
        store::put_head(&mut admin, "ARTSTORE_ADMIN", fork.size, &fork.sign(&key))
            .await
            .unwrap();
        let (status, said) = witness().finish().await;
        assert!(
            !status.success() && said.contains("the log has forked"),
            "{said}"
        );
        let now = std::fs::read_to_string(file("witness")).unwrap();
        assert_eq!(now, kept, "the file stays as it is");
    });
}

#[test]
fn secrets_and_signing_keys_are_renewed_and_old_rows_still_verify() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let [relay, projector] = with_admin_events(&audited, 100).await;
        projector.kill().await;

        let folder = folder("renewed");
        let old = folder.join("old.secrets");
        std::fs::write(&old, format!("# until today\n{SECRET}\n")).unwrap();
        let renewed = Audited {
            world: &world,
            key: folder.join("second.key"),
            keys: audited.keys.clone(),
        };
        let (status, said) = Program::new(&["audit", "keygen", "--name", KEY_NAME, "--out"])
            .argument(renewed.key.to_str().unwrap())
            .argument("--verifier-keys")
            .argument(renewed.keys.to_str().unwrap())
            .finish()
            .await;
        assert!(status.success(), "{said}");
        let secret = "Zq8WxE4rTy6UiO1pAs3DfG5hJk7LzC9v";
        let with = |program: Program| {
            program.env("SECURITY_AUDIT_HMAC_SECRET", secret).env(
                "SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH",
                old.to_str().unwrap(),
            )
        };
        // Without the old secret it continues, for everything is under a published head, and says which
        // secret is missing. A variable without a value, an empty file and an empty folder hold none.
        let nothing = folder.join("nothing");
        std::fs::write(&nothing, "").unwrap();
        let none = folder.join("none");
        std::fs::create_dir(&none).unwrap();
        let kid = chain_key().kid().to_owned();
        for empty in ["", nothing.to_str().unwrap(), none.to_str().unwrap()] {
            let variable = ("SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH", empty);
            let projector = renewed.projector().env(variable.0, variable.1);
            let projector = projector.env("SECURITY_AUDIT_HMAC_SECRET", secret).start();
            projector.says("a secret that is not configured").await;
            assert!(projector.log().contains(&kid), "{}", projector.log());
            projector.kill().await;
            let relay = world.command(&["run", "relay", "--source", "query"]);
            let relay = relay.env(variable.0, variable.1).start();
            relay.says("relay active").await;
            relay.kill().await;
        }
        // A folder has files.
        let mounted = folder.join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        std::fs::write(mounted.join("first"), SECRET).unwrap();
        let verify = renewed.command(&["audit", "verify", "--json"]);
        let verify = verify.env("SECURITY_AUDIT_HMAC_SECRET", secret).env(
            "SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH",
            mounted.to_str().unwrap(),
        );
        let (status, said) = verify.output().await;
        assert!(status.success(), "{said}");

        let projector = with(renewed.projector()).start();
        admin_events(&world, 100).await;
        renewed.caught_up_with(&Source::Admin, 200).await;
        let mut admin = pg(&world.admin_url).await;
        let kids: i64 = value(&mut admin, "select count(distinct kid) from audit_logs").await;
        assert_eq!(kids, 2);
        let verify = renewed.command(&["audit", "verify", "--json"]);
        let (status, said) = with(verify).output().await;
        assert!(status.success(), "{said}");
        // Without the old secret, the report names the rows that this concerns.
        let verify = renewed.command(&["audit", "verify", "--json"]);
        let (status, said) = verify
            .env("SECURITY_AUDIT_HMAC_SECRET", secret)
            .output()
            .await;
        assert!(
            !status.success() && said.contains("is not known here"),
            "{said}"
        );
        projector.kill().await;

        // A key of another name is another log.
        let other = folder.join("other.key");
        let keygen = Program::new(&["audit", "keygen", "--name", "other.example", "--out"]);
        assert!(
            keygen
                .argument(other.to_str().unwrap())
                .finish()
                .await
                .0
                .success()
        );
        let projector = with(renewed.projector());
        let projector = projector
            .env("SECURITY_AUDIT_SIGNING_KEY_PATH", other.to_str().unwrap())
            .start();
        projector
            .says("the name of a key stays when the key is renewed")
            .await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// Ids are given out before rows are committed: a log that is slower than another one is shown all
/// the same.
#[test]
fn tail_follows_every_log_also_where_ids_are_committed_out_of_order() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        let event = "insert into event_outbox (event_id, entity, action, data, actor)
             values (gen_random_uuid(), 'thing', 'seen', '{}', '{}')";
        let mut query = world.query().await;
        execute(&mut query, event).await;
        audited.caught_up_with(&Source::Query, 1).await;
        let tail = audited
            .command(&["audit", "tail", "--follow", "--json", "-n", "1"])
            .start();
        let lines = |process: &Process| process.output().lines().count();
        eventually("the newest row is shown", || async {
            (lines(&tail) == 1).then_some(())
        })
        .await;
        // Another log's batch has lower ids, and is committed later.
        let mut slow = pg(&world.admin_url).await;
        execute(
            &mut slow,
            "begin;
             insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity,
                 actor_type, action, success, created_at, kid, hmac_signature)
             select 1, 1, 'ARTSTORE_ADMIN', n, 'thing_seen', 'info', 'system', 'seen', true, now(), 'k', 's'
             from generate_series(1, 5) as n;
             insert into audit_trees (stream, origin, size, last_signature)
             values ('ARTSTORE_ADMIN', 'o', 5, '')",
        )
        .await;
        execute(&mut query, event).await;
        audited.caught_up_with(&Source::Query, 2).await;
        eventually("the later row is shown", || async {
            (lines(&tail) == 2).then_some(())
        })
        .await;
        execute(&mut slow, "commit").await;
        eventually("so are the earlier ones", || async {
            (lines(&tail) == 7).then_some(())
        })
        .await;
        for process in [tail, projector, relay] {
            process.kill().await;
        }
    });
}
