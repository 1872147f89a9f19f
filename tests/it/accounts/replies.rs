//! Whoever asks JetStream names the subject of the answer, and whoever makes a consumer that of the deliveries: the
//! server publishes there with its own rights. No such subject of a reader leads into a stream, to a relay or to
//! somebody else's inbox.

use artstore_bus::accounts::key::UserKey;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use serde_json::Value;

use super::{goes_on, messages, push_consumer};
use crate::relay::refusals::rows;
use crate::support::*;

/// Subjects that somebody would like to reach.
const WANTED: [&str; 8] = [
    "artstore.wal.elem.p00.file.created",
    "artstore.admin.p00.user.created",
    "artstore.audit.head.ARTSTORE_ADMIN",
    "artstore.control.elem",
    "artstore.status.elem",
    "artstore.status.projection.query-cache",
    "$JS.API.STREAM.DELETE.ARTSTORE_WAL_elem",
    "$JS.API.STREAM.PURGE.ARTSTORE_WAL_elem",
];

/// A world with some events, which its relay has published and its projector applied.
async fn running() -> (World, Process, Process) {
    let world = World::new(&["elem"]).await;
    rows(&mut world.element(0).await, 3).await;
    let relay = world.command(&["run", "relay"]).start();
    let projector = world.projector().start();
    world.published(0).await;
    world.applied().await;
    (world, relay, projector)
}

/// Everything that a reader may ask, with the answers to everywhere.
async fn ask_into_everything(world: &World, bus: &Bus) {
    for reply in WANTED {
        let of_streams = world.sources().into_iter();
        let of_streams =
            of_streams.map(|source| format!("$JS.API.STREAM.INFO.{}", source.stream()));
        let others = ["$JS.API.INFO", "$SYS.REQ.USER.INFO"].map(str::to_owned);
        for request in of_streams.chain(others) {
            let sent = bus.client.publish_with_reply(request, reply, "".into());
            sent.await.unwrap();
        }
    }
    processed(&bus.client).await;
}

#[test]
fn an_answer_to_a_reader_reaches_no_stream() {
    run(async {
        let (world, relay, projector) = running().await;
        let before = messages(&world).await;
        for role in [Role::Reader, Role::Projector, Role::AuditLog] {
            ask_into_everything(&world, &world.connect(role).await).await;
        }
        assert_eq!(messages(&world).await, before);
        goes_on(&world).await;
        assert!(!relay.log().contains("stepped aside"), "{}", relay.log());
        relay.kill().await;
        projector.kill().await;
    });
}

/// In one account for everybody the same answers are messages of streams.
#[test]
fn without_accounts_an_answer_reaches_a_stream() {
    run(async {
        let world = World::without_rights(&["elem"]).await;
        ask_into_everything(&world, &world.bus).await;
        eventually("an answer is in a stream", || async {
            (world.last_sequence(&world.source(0)).await > 0).then_some(())
        })
        .await;
    });
}

#[test]
fn what_a_readers_consumer_pushes_reaches_nobody_else() {
    run(async {
        let (world, relay, projector) = running().await;
        let before = messages(&world).await;

        let keys = world.nats_keys.clone().unwrap();
        let inbox_of = |role: Role| {
            let key = UserKey::of_file(&keys.join(role.key_file())).unwrap();
            format!("{}.abc", key.inbox_prefix())
        };
        let inboxes = [
            inbox_of(Role::Projector),
            inbox_of(Role::Relay(world.source(0))),
        ];
        let bus = world.connect(Role::Reader).await;
        let stream = world.source(0).stream();
        let wanted = WANTED.iter().map(ToString::to_string);
        for (number, subject) in wanted.chain(inboxes).enumerate() {
            let name = format!("forged{number}");
            let made = push_consumer(&bus.client, &stream, &name, &subject).await;
            // The stream's own subjects are refused by the server; where others are, nobody listens or heeds.
            if subject.starts_with("artstore.wal.elem.") {
                assert_ne!(made["error"], Value::Null, "{made}");
            }
        }
        // Whatever is delivered is delivered by now: so is one more message to everybody.
        goes_on(&world).await;
        let mut after = messages(&world).await;
        after[0] -= 3;
        assert_eq!(after, before);
        assert!(!relay.log().contains("stepped aside"), "{}", relay.log());
        relay.kill().await;
        projector.kill().await;
    });
}
