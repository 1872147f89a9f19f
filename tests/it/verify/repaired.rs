//! From damage to health with the command's report alone: `artstore verify` finds each damage
//! as what it is, and the commands that it names, typed as they are printed, make everything agree again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// How often it may take commands, verify, and again: a damage may hide behind another.
pub const ROUNDS: usize = 3;

pub async fn verify(world: &World) -> (bool, Value) {
    let arguments = ["verify", "--wait", "20", "--json"];
    let (status, said) = world.command(&arguments).output().await;
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    let agree = report["agree"] == true;
    assert_eq!(status.code(), Some(i32::from(!agree)), "{said}");
    (agree, report)
}

fn findings(report: &Value) -> Vec<&Value> {
    let sources = report["sources"].as_array().unwrap().iter();
    let all = sources.chain([&report["cache"]]);
    all.flat_map(|part| part["findings"].as_array().unwrap())
        .collect()
}

/// Kinds and ids (of a file or an event; `-` where there is none) of what is found.
fn found(report: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let findings = findings(report).into_iter();
    findings
        .map(|finding| (text(&finding["kind"]), text(&finding["id"])))
        .collect()
}

/// Types the commands that the report names; those that ask for the operator's word get it.
async fn repair(world: &World, report: &Value) {
    let findings = findings(report).into_iter();
    let commands: BTreeSet<&str> = findings.map(|f| f["repair"].as_str().unwrap()).collect();
    for command in commands {
        type_it(world, command).await;
    }
}

pub async fn type_it(world: &World, command: &str) {
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    if words[0] == "run" {
        let relay = world.command(&words).start();
        world.published(0).await;
        relay.kill().await;
        return;
    }
    if words[0] == "relay" {
        words.extend(["--yes", "--reason", "a test"]);
    }
    if words[0] == "wal" && !words.contains(&"--yes") {
        words.push("--yes");
    }
    let (status, log) = world.command(&words).finish().await;
    assert!(status.success(), "{command}: {log}");
}

/// Exactly this is found, and is gone after what the report reports was done.
async fn found_and_repaired(world: &World, expected: &[(&str, &str)]) {
    // A repair is an event of the query module, or of the admin module.
    let relay = ["run", "relay", "--source", "query", "--source", "admin"];
    let relay = world.command(&relay).start();
    let (mut agree, mut report) = verify(world).await;
    let expected: BTreeSet<(String, String)> = expected
        .iter()
        .map(|(kind, id)| ((*kind).to_owned(), (*id).to_owned()))
        .collect();
    assert_eq!(found(&report), expected, "{report:#}");
    for _ in 0..ROUNDS {
        if agree {
            break;
        }
        repair(world, &report).await;
        (agree, report) = verify(world).await;
    }
    assert!(agree, "{report:#}");
    assert_eq!(report["cache"]["in_flight"], 0, "{report:#}");
    world.projected().await;
    relay.kill().await;
}

#[test]
fn what_the_command_names_repairs_rows_of_the_cache_and_of_the_element() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        world.projected().await;
        let mut query = world.query().await;
        let mut element = world.element(0).await;
        let files: Vec<Uuid> = sqlx::query_scalar("select file_id from elem_files order by 1")
            .fetch_all(&mut element)
            .await
            .unwrap();
        let ids: Vec<String> = files.iter().map(Uuid::to_string).collect();
        let stray = Uuid::new_v4().to_string();

        let damage = format!(
            "update file_metadata_cache set filename = 'forged' where id = '{0}'; \
             delete from file_metadata_cache where id = '{1}'; \
             update file_metadata_cache set storage_element_id = 'elsewhere' where id = '{2}'; \
             insert into file_metadata_cache \
             select (jsonb_populate_record(cache, jsonb_build_object('id', '{stray}'))).* \
             from file_metadata_cache cache where id = '{3}'",
            ids[0], ids[1], ids[2], ids[3]
        );
        execute(&mut query, damage).await;
        let expected = [
            ("row-different", ids[0].as_str()),
            ("row-missing", &ids[1]),
            ("row-different", &ids[2]),
            ("row-extra", &stray),
        ];
        found_and_repaired(&world, &expected).await;

        // The element's own table, without an operation: what a rebuilt cache of the product does.
        let damage = format!(
            "update elem_files set description = 'silently' where file_id = '{}'; \
             delete from elem_files where file_id = '{}'",
            ids[0], ids[1]
        );
        execute(&mut element, damage).await;
        let expected = [("row-different", ids[0].as_str()), ("row-extra", &ids[1])];
        found_and_repaired(&world, &expected).await;

        // An operation whose row was deleted before anybody published it.
        relay.kill().await;
        let mut publisher = (world.elements[0].0.clone(), world.element(0).await);
        let file = load::new_file("lost.pdf");
        load::create(&mut publisher, &file).await.unwrap();
        execute(
            &mut element,
            format!("delete from elem_wal where file_id = '{}'", file.id),
        )
        .await;
        let relay = world.relay(0).start();
        found_and_repaired(&world, &[("row-missing", &file.id.to_string())]).await;

        // Finished while the trigger was off.
        let unnumbered = Uuid::new_v4().to_string();
        let damage = format!(
            "alter table elem_wal disable trigger zzz_elem_wal_position; \
             alter table elem_wal drop constraint elem_wal_position_when_finished; \
             insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             values ('{unnumbered}', 'mode_change', 'committed', '{{}}'); \
             alter table elem_wal enable always trigger zzz_elem_wal_position"
        );
        execute(&mut element, damage).await;
        found_and_repaired(&world, &[("row-unnumbered", &unnumbered)]).await;

        // Moved by hand, to where another event stands.
        let moved = "update projection_checkpoints set last_sequence = last_sequence - 3 \
                     where stream = 'ARTSTORE_WAL_elem'";
        execute(&mut query, moved).await;
        eventually("the projector has seen it", || async {
            let (agree, report) = verify(&world).await;
            (!agree || report["cache"]["findings"] == Value::Array(Vec::new())).then_some(())
        })
        .await;
        let (_, report) = verify(&world).await;
        repair(&world, &report).await;
        found_and_repaired(&world, &[]).await;
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn what_the_command_names_repairs_a_stream() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let projector = world.projector().start();
        world.projected().await;
        let good = all(&world.bus, &source).await;
        let envelope = |index: usize| Envelope::from_headers(&good[index].headers).unwrap();
        let id = |index: usize| envelope(index).id.to_string();

        // Restored without one message: the stream was made again, too.
        let mut messages = copies(&good);
        messages.remove(6);
        replace(&world, &source, &messages).await;
        let (agree, report) = verify(&world).await;
        assert!(!agree);
        let missing = ("message-missing".to_owned(), id(6));
        assert!(found(&report).contains(&missing), "{report:#}");
        settles(&world).await;
        projector.kill().await;
    });
}

#[test]
fn a_stream_without_its_end_is_repaired_by_the_relay_and_the_named_command() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let projector = world.projector().start();
        world.projected().await;
        let good = all(&world.bus, &source).await;
        replace(&world, &source, &good[..15]).await;
        let relay = world.relay(0).start();
        world.published(0).await;
        settles(&world).await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// What verify names is done until it names nothing more.
async fn settles(world: &World) {
    let mut last = Value::Null;
    // A repair is an event of the query module, or of the admin module.
    let relay = ["run", "relay", "--source", "query", "--source", "admin"];
    let relay = world.command(&relay).start();
    for _ in 0..=ROUNDS {
        let (agree, report) = verify(world).await;
        if agree && report["cache"]["in_flight"] == 0 {
            world.projected().await;
            relay.kill().await;
            return;
        }
        repair(world, &report).await;
        last = report;
    }
    panic!("{last:#}");
}
