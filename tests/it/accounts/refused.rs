//! Requests that a key has no right for. The server refuses each by name.

use artstore_bus::accounts::key::UserKey;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_schemas::source::Source;
use futures::{FutureExt as _, StreamExt as _};

use super::{goes_on, messages};
use crate::relay::refusals::rows;
use crate::support::*;

/// The server refuses to publish there, which a request is.
async fn may_not_publish(role: &Role, bus: &Bus, subject: &str) {
    let mut watch = bus.refusals.watch();
    let sent = bus.client.publish(subject.to_owned(), "x".into());
    sent.await.unwrap();
    bus.client.flush().await.unwrap();
    let refusal = tokio::time::timeout(PATIENCE, watch.refused(|it| it == subject)).await;
    let refusal = refusal.unwrap_or_else(|_| panic!("{role} may publish to {subject}"));
    let expected = format!("may not publish to {subject}");
    assert!(refusal.to_string().contains(&expected), "{refusal}");
}

/// What changes, removes or disturbs, for everybody who is no operator: on one's own streams and others'.
#[test]
fn who_runs_or_reads_can_neither_change_nor_remove_nor_disturb() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        let roles = [
            Role::Relay(world.source(0)),
            Role::Projector,
            Role::AuditLog,
            Role::AuditHeads,
            Role::Reader,
        ];
        for role in roles {
            let bus = world.connect(role.clone()).await;
            for stream in [world.source(0).stream(), AUDIT_HEADS.to_owned()] {
                for request in [
                    "STREAM.CREATE.{}",
                    "STREAM.UPDATE.{}",
                    "STREAM.DELETE.{}",
                    "STREAM.PURGE.{}",
                    "STREAM.MSG.DELETE.{}",
                    "STREAM.SNAPSHOT.{}",
                    "STREAM.RESTORE.{}",
                    "CONSUMER.NAMES.{}",
                    "CONSUMER.LIST.{}",
                    "CONSUMER.PAUSE.{}.abc",
                    "CONSUMER.DURABLE.CREATE.{}.abc",
                ] {
                    let subject = format!("$JS.API.{}", request.replace("{}", &stream));
                    may_not_publish(&role, &bus, &subject).await;
                }
            }
            may_not_publish(&role, &bus, "$JS.API.STREAM.CREATE.ANYTHING").await;
        }
        // An operator makes the streams of the installation, and no other; removing one is not among its commands.
        let operator = world.connect(Role::Operator).await;
        for subject in [
            "$JS.API.STREAM.CREATE.ANYTHING".to_owned(),
            format!("$JS.API.STREAM.DELETE.{}", world.source(0).stream()),
            format!("$JS.API.STREAM.PURGE.{}", world.source(0).stream()),
        ] {
            may_not_publish(&Role::Operator, &operator, &subject).await;
        }
    });
}

/// The relay of one source, and the stream of another.
#[test]
fn a_relay_reaches_no_other_source() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        let role = Role::Relay(world.source(0));
        let bus = world.connect(role.clone()).await;
        for other in [world.source(1), Source::Admin, Source::Query] {
            let stream = other.stream();
            for subject in [
                format!("{}.p00.file.created", other.subject_prefix()),
                other.control_subject(),
                format!("$JS.API.STREAM.INFO.{stream}"),
                format!("$JS.API.STREAM.MSG.GET.{stream}"),
                format!("$JS.API.DIRECT.GET.{stream}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.abc"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.abc"),
            ] {
                may_not_publish(&role, &bus, &subject).await;
            }
        }
        // Nor by the subject of an answer: the account has no other stream.
        let before = messages(&world).await;
        for subject in [
            "artstore.wal.other.p00.file.created",
            "artstore.admin.p00.user.created",
            "artstore.audit.head.ARTSTORE_ADMIN",
        ] {
            let request = format!("$JS.API.STREAM.INFO.{}", world.source(0).stream());
            let client = &bus.client;
            let sent = client.publish_with_reply(request, subject, "".into());
            sent.await.unwrap();
        }
        bus.client.flush().await.unwrap();
        rows(&mut world.element(0).await, 1).await;
        let relay = world.command(&["run", "relay"]).start();
        world.published(0).await;
        relay.kill().await;
        let mut after = messages(&world).await;
        after[0] -= 1;
        assert_eq!(after, before);
    });
}

/// Where answers and messages come to somebody else.
#[test]
fn an_inbox_is_its_users_alone() {
    run(async {
        let world = World::new(&["elem"]).await;
        let keys = world.nats_keys.clone().unwrap();
        let key = UserKey::of_file(&keys.join(Role::Projector.key_file())).unwrap();
        let others = key.inbox_prefix();
        let bus = world.connect(Role::Reader).await;
        let mut heard = Vec::new();
        for subject in ["_INBOX.>", "_R_.>", "$JS.>", "$SYS.>", "artstore.>", ">"] {
            heard.push(bus.client.subscribe(subject).await.unwrap());
        }
        let others_inbox = bus.client.subscribe(format!("{others}.>"));
        heard.push(others_inbox.await.unwrap());
        processed(&bus.client).await;
        // On a connection whose inboxes were not refused.
        let again = world.connect(Role::Reader).await;
        may_not_publish(&Role::Reader, &again, &format!("{others}.abc")).await;

        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        goes_on(&world).await;
        processed(&bus.client).await;
        for subscription in &mut heard {
            let message = subscription.next().now_or_never().flatten();
            assert!(message.is_none(), "{message:?}");
        }
        relay.kill().await;
        projector.kill().await;
    });
}
