//! The subjects that a user publishes and subscribes to. Each request of JetStream's API is named: what is not
//! listed, such as pausing a consumer, is refused.

use artstore_schemas::source::Source;

use super::role::Role;
use crate::stream_name::{AUDIT_HEADS, StreamName};

/// The requests that the client and we make about an account and a user.
pub(super) const ACCOUNT_INFO: &str = "$JS.API.INFO";
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// The states of projectors.
pub(super) const PROJECTION_STATUS: &str = "artstore.status.projection.*";

/// What a user may do; an inbox of its own it has besides.
pub(super) struct Rights {
    pub(super) publish: Vec<String>,
    pub(super) subscribe: Vec<String>,
    /// Whether it answers requests, wherever the answer goes.
    pub(super) answers: bool,
}

/// Requests with one answer that reading a stream needs. The names of consumers are chosen by the server at
/// random, and nobody who reads may list them: so nobody can remove or use another one's.
pub(super) fn reading(stream: &str) -> Vec<String> {
    [
        "STREAM.INFO.{}",
        "STREAM.MSG.GET.{}",
        "DIRECT.GET.{}",
        "DIRECT.GET.{}.>",
        "CONSUMER.CREATE.{}",
        "CONSUMER.CREATE.{}.>",
        "CONSUMER.INFO.{}.*",
        "CONSUMER.DELETE.{}.*",
    ]
    .map(|request| api(request, stream))
    .to_vec()
}

/// The request of messages, which has many answers.
pub(super) fn next_messages(stream: &str) -> String {
    api("CONSUMER.MSG.NEXT.{}.*", stream)
}

/// Requests that make streams and back them up.
pub(super) fn making(stream: &str) -> Vec<String> {
    let requests = ["STREAM.CREATE.{}", "STREAM.UPDATE.{}", "STREAM.SNAPSHOT.{}"];
    let mut requests = requests.map(|request| api(request, stream)).to_vec();
    // The chunks of a backup are acknowledged.
    requests.push(format!("$JS.SNAPSHOT.ACK.{stream}.>"));
    requests
}

/// Requests that restore a stream. They can't be imported: the server adds a header to whatever comes from another
/// account, and takes a chunk of a restore for what it is with that header.
fn restoring(stream: &str) -> Vec<String> {
    vec![
        api("STREAM.INFO.{}", stream),
        api("STREAM.RESTORE.{}", stream),
        format!("$JS.SNAPSHOT.RESTORE.{stream}.>"),
    ]
}

/// Requests that remove something, or disturb somebody.
pub(super) fn removing(stream: &str) -> Vec<String> {
    [
        "STREAM.DELETE.{}",
        "STREAM.PURGE.{}",
        "STREAM.MSG.DELETE.{}",
        "STREAM.LEADER.STEPDOWN.{}",
        "STREAM.PEER.REMOVE.{}",
        "CONSUMER.NAMES.{}",
        "CONSUMER.LIST.{}",
        "CONSUMER.PAUSE.{}.*",
    ]
    .map(|request| api(request, stream))
    .to_vec()
}

fn api(request: &str, stream: &str) -> String {
    format!("$JS.API.{}", request.replace("{}", stream))
}

impl Rights {
    pub(super) fn of(role: &Role, sources: &[Source]) -> Self {
        let streams: Vec<StreamName> = streams(sources);
        let each = |of: &dyn Fn(&StreamName) -> Vec<String>| streams.iter().flat_map(of).collect();
        let read = |stream: &StreamName| {
            let mut requests = reading(stream.as_str());
            requests.push(next_messages(stream.as_str()));
            requests
        };
        let mut rights = Self {
            publish: vec![ACCOUNT_INFO.to_owned(), USER_INFO.to_owned()],
            subscribe: Vec::new(),
            answers: false,
        };
        match role {
            Role::Relay(source) => {
                let stream = StreamName::of(source);
                rights.publish.extend(read(&stream));
                rights.publish.push(stream.subjects().to_owned());
                // Commands that publish ask the running relay to step aside.
                rights.publish.push(source.control_subject());
                rights.publish.push(source.nudge_subject());
                rights.subscribe = vec![
                    source.nudge_subject(),
                    source.status_subject(),
                    source.control_subject(),
                ];
                rights.answers = true;
            }
            Role::Projector | Role::AuditLog => {
                rights.publish.extend::<Vec<_>>(each(&read));
                rights.subscribe = vec![PROJECTION_STATUS.to_owned()];
                rights.answers = true;
            }
            Role::AuditHeads => {
                let heads = StreamName::audit_heads();
                rights.publish.push(heads.subjects().to_owned());
            }
            Role::Restore(source) => rights.publish.extend(restoring(&source.stream())),
            Role::RestoreHeads => rights.publish.extend(restoring(AUDIT_HEADS)),
            Role::Reader => {
                rights.publish.extend::<Vec<_>>(each(&read));
                rights.publish.extend(statuses(sources));
            }
            Role::Operator | Role::Administrator => {
                rights.publish.extend::<Vec<_>>(each(&read));
                rights.publish.extend(statuses(sources));
                let make = |stream: &StreamName| making(stream.as_str());
                rights.publish.extend::<Vec<_>>(each(&make));
                let publish = |stream: &StreamName| vec![stream.subjects().to_owned()];
                rights.publish.extend::<Vec<_>>(each(&publish));
                rights
                    .publish
                    .extend(sources.iter().map(Source::control_subject));
                rights.subscribe = each(&|stream| vec![stream.backup_subjects()]);
                // They hear of new rows, as the relay does.
                rights
                    .subscribe
                    .extend(sources.iter().map(Source::nudge_subject));
                if *role == Role::Administrator {
                    let remove = |stream: &StreamName| removing(stream.as_str());
                    rights.publish.extend::<Vec<_>>(each(&remove));
                }
            }
        }
        rights
    }
}

/// All streams of an installation.
pub(super) fn streams(sources: &[Source]) -> Vec<StreamName> {
    let heads = StreamName::audit_heads();
    let of_sources = sources.iter().map(StreamName::of);
    of_sources.chain([heads]).collect()
}

/// The subjects on which relays and projectors report their state.
fn statuses(sources: &[Source]) -> Vec<String> {
    let relays = sources.iter().map(Source::status_subject);
    relays.chain([PROJECTION_STATUS.to_owned()]).collect()
}
