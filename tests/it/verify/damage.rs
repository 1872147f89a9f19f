//! Damaged streams: a good one's messages copied into one of the same name, but for one damage.

use artstore_bus::message::Message;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use artstore_verification::finding::Kind;
use serde_json::Value;

use super::*;

struct Good {
    world: World,
    source: Source,
    messages: Vec<Message>,
}

impl Good {
    async fn new() -> Self {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let messages = all(&world.bus, &source).await;
        assert_eq!(messages.len(), 22);
        Self {
            world,
            source,
            messages,
        }
    }

    /// What is found in a stream with these messages.
    async fn with(&self, messages: Vec<Message>) -> Report {
        replace(&self.world, &self.source, &messages).await;
        found(&self.world, &self.source).await
    }

    fn position(&self, index: usize) -> Option<i64> {
        position(&self.messages[index])
    }
}

fn one(kind: Kind, index: usize, position: Option<i64>) -> Vec<(Kind, Option<u64>, Option<i64>)> {
    vec![(kind, Some(index as u64 + 1), position)]
}

#[test]
fn each_damage_of_a_message_is_named_and_nothing_else() {
    run(async {
        let good = Good::new().await;

        let report = good.with(copies(&good.messages)).await;
        assert!(report.is_clean(), "a copy is as good: {report:?}");
        assert_eq!((report.rows, report.messages), (22, 22));
        assert_eq!(Some(report.proven), good.position(21));

        // Missing: as an accident leaves it, and as if it had never been there.
        let mut messages = copies(&good.messages);
        messages.remove(6);
        let expected = vec![(Kind::MessageMissing, None, good.position(6))];
        let report = good.with(copies(&messages)).await;
        assert_eq!(named(&report), expected, "{report:?}");
        assert!(report.findings[0].detail.contains("message 7 names it"));
        assert_eq!(Some(report.proven), good.position(5));
        let report = good.with(chained(messages)).await;
        // The relay that wrote it never saw the position: it would still bring it.
        assert_eq!(named(&report), expected, "{report:?}");
        assert_eq!(
            report.findings[0].repair,
            "artstore run relay --source elem"
        );

        // Doubled.
        let mut messages = copies(&good.messages);
        messages.insert(7, copy(&good.messages[6]));
        let expected = one(Kind::MessageDoubled, 7, good.position(6));
        let report = good.with(copies(&messages)).await;
        assert_eq!(named(&report), expected, "{report:?}");
        assert_eq!(named(&good.with(chained(messages)).await), expected);
        // Far behind its row, which was read long before, it is found too.
        let mut messages = copies(&good.messages);
        messages.push(copy(&good.messages[2]));
        let expected = one(Kind::MessageDoubled, 22, good.position(2));
        assert_eq!(named(&good.with(messages).await), expected);

        // Changed: the body of a message of our API, of one of the product's, and headers.
        for (index, path, field) in [
            (1, "/file/description", "file.description"),
            (2, "/file/file_size", "file.file_size"),
            (3, "/operation/error_message", "operation.error_message"),
            (17, "/operation/data/json", "operation.data"),
        ] {
            let mut messages = copies(&good.messages);
            let mut body: Value = serde_json::from_slice(&messages[index].body).unwrap();
            let place = body.pointer_mut(path).unwrap();
            *place = match place {
                Value::Number(_) => Value::from(77),
                Value::Object(_) => serde_json::json!({"n": 77}),
                _ => Value::from("forged"),
            };
            messages[index].body = body.to_string().into();
            let report = good.with(messages).await;
            let expected = one(Kind::MessageChanged, index, good.position(index));
            assert_eq!(named(&report), expected, "{report:?}");
            let detail = &report.findings[0].detail;
            assert!(detail.ends_with(&format!(" in {field}")), "{detail}");
        }
        for (name, value, field) in [
            ("ce-time", "2020-01-02T03:04:05.000006Z", "in time"),
            (
                "ce-subject",
                "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
                "in about",
            ),
            ("artstore-position", "9999", "position 9999"),
        ] {
            let mut messages = copies(&good.messages);
            header(&mut messages[9], name, value);
            let report = good.with(messages).await;
            let expected = one(Kind::MessageChanged, 9, good.position(9));
            assert_eq!(named(&report), expected, "{report:?}");
            let detail = &report.findings[0].detail;
            assert!(detail.contains(field), "{detail}");
        }

        // Out of order: the two updates of the first file.
        let mut messages = copies(&good.messages);
        messages.swap(1, 2);
        let report = good.with(chained(messages)).await;
        let expected = one(Kind::MessageDisordered, 2, good.position(1));
        assert_eq!(named(&report), expected, "{report:?}");
        // Of two files, either order is right.
        let mut messages = copies(&good.messages);
        messages.swap(2, 4);
        messages.swap(3, 4);
        let report = good.with(chained(messages)).await;
        assert!(named(&report).is_empty(), "{report:?}");

        // A state that does not follow from the one before it.
        let mut messages = copies(&good.messages);
        header(&mut messages[9], "artstore-gaps", "3");
        let report = good.with(messages).await;
        let expected = one(Kind::StreamBroken, 9, good.position(9));
        assert_eq!(named(&report), expected, "{report:?}");

        // Damage of the same kinds at once: each is named.
        let mut messages = copies(&good.messages);
        header(&mut messages[9], "ce-time", "2020-01-02T03:04:05.000006Z");
        messages.remove(20);
        messages.remove(4);
        let report = good.with(messages).await;
        let expected = vec![
            (Kind::MessageMissing, None, good.position(4)),
            (Kind::MessageMissing, None, good.position(20)),
            (Kind::MessageChanged, Some(9), good.position(9)),
        ];
        assert_eq!(named(&report), expected, "{report:?}");
    });
}

#[test]
fn each_damage_of_a_stream_is_named_and_nothing_else() {
    run(async {
        let good = Good::new().await;
        let (world, source) = (&good.world, &good.source);

        // A sequence without a message.
        let stream = deletable(world, source, &good.messages).await;
        for sequence in [6, 7, 22] {
            stream.delete_message(sequence).await.unwrap();
        }
        let report = found(world, source).await;
        let expected = vec![
            (Kind::MessageMissing, None, good.position(5)),
            (Kind::MessageMissing, None, good.position(6)),
            (Kind::MessageMissing, None, good.position(21)),
            (Kind::StreamHole, Some(6), None),
            (Kind::StreamHole, Some(7), None),
            (Kind::StreamHole, Some(22), None),
        ];
        assert_eq!(named(&report), expected, "{report:?}");

        // Truncated: the relay publishes it again.
        let report = good.with(copies(&good.messages[..17])).await;
        let expected: Vec<_> = (17..22)
            .map(|index| (Kind::MessageMissing, None, good.position(index)))
            .collect();
        assert_eq!(named(&report), expected, "{report:?}");
        let repairs = |report: &Report| {
            let mut repairs: Vec<_> = report.findings.iter().map(|f| f.repair.clone()).collect();
            repairs.dedup();
            repairs
        };
        assert_eq!(repairs(&report), ["artstore run relay --source elem"]);
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;

        // Recreated: the same.
        let report = good.with(Vec::new()).await;
        assert_eq!(report.count(Kind::MessageMissing), 22);
        assert_eq!((report.counts.len(), report.proven), (1, 0));
        assert_eq!(repairs(&report), ["artstore run relay --source elem"]);
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;

        // From another source: another element's message, one on a subject that does not fit, and
        // one that can't be read.
        let mut messages = copies(&good.messages);
        let mut foreign = copy(&good.messages[8]);
        header(&mut foreign, "ce-source", "/artstore/elements/other");
        header(
            &mut foreign,
            "ce-id",
            "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        );
        header(
            &mut foreign,
            "Nats-Msg-Id",
            "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        );
        messages.insert(5, foreign);
        let report = good.with(messages).await;
        let expected = vec![(Kind::MessageForeign, Some(6), None)];
        assert_eq!(named(&report), expected, "{report:?}");
        for damage in 0..3 {
            let mut messages = copies(&good.messages);
            match damage {
                0 => messages[5].subject = "artstore.wal.elem.p00.file.deleted".to_owned(),
                1 => messages[5].body = "{}".into(),
                _ => header(&mut messages[5], "artstore-high-water-mark", "many"),
            }
            let report = good.with(messages).await;
            let expected = vec![
                (Kind::MessageMissing, None, good.position(5)),
                (Kind::MessageForeign, Some(6), None),
            ];
            assert_eq!(named(&report), expected, "{report:?}");
        }

        // Spliced: from some place on, another history of the same element.
        let other = World::new(&["elem"]).await;
        filled(&other).await;
        let others = all(&other.bus, source).await;
        let mut messages = copies(&good.messages[..15]);
        messages.extend(copies(&others[15..]));
        let report = good.with(messages).await;
        // The first one follows nothing, the others follow it: none of them counts.
        let mut expected = Vec::new();
        for (index, stranger) in others.iter().enumerate().skip(15) {
            expected.push((Kind::MessageMissing, None, good.position(index)));
            let foreign = Kind::MessageForeign;
            expected.push((foreign, Some(index as u64 + 1), position(stranger)));
        }
        expected.sort();
        assert_eq!(named(&report), expected, "{report:?}");
        let foreign = |finding: &&Finding| finding.kind == Kind::MessageForeign;
        let foreign = report.findings.iter().find(foreign).unwrap();
        assert_eq!(foreign.repair, "artstore relay republish --source elem");
        let id = Envelope::from_headers(&others[15].headers).unwrap().id;
        assert_eq!(foreign.id, Some(id));
    });
}
