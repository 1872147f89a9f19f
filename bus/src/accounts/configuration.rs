//! The accounts as the server's configuration has them, to be included in it. It contains no secret: public keys
//! alone.

use std::fmt::Write as _;

use artstore_schemas::source::Source;

use super::key::{Login, User, inbox_prefix};
use super::rights::{self, ACCOUNT_INFO, PROJECTION_STATUS, Rights};
use super::role::Role;
use crate::stream_name::StreamName;

/// The account of readers: it has no stream.
const READERS: &str = "readers";
/// The account of operators' commands.
const OPERATORS: &str = "operators";
/// The account of signed audit heads.
const AUDIT_HEADS: &str = "audit-heads";

/// The most consumers of a stream; a reader has one, for as long as it reads.
const MAX_CONSUMERS: u32 = 1_000;

/// The accounts of an installation with these sources, as they stand between the braces of `accounts`. Each user
/// is in the account of its role.
pub fn accounts(sources: &[Source], users: &[User]) -> String {
    let mut text = String::new();
    for source in sources {
        let stream = StreamName::of(source);
        let mut exports = exported(&stream);
        exports.push(service(&source.status_subject(), STREAMED, BOTH));
        exports.push(service(&source.control_subject(), SINGLE, OPERATORS));
        exports.push(messages(&source.nudge_subject()));
        let users = users_of(
            users,
            sources,
            |role| matches!(role, Role::Relay(of) | Role::Restore(of) if of == source),
        );
        account(
            &mut text,
            &account_of(source),
            &[("jetstream", vec![limits()])],
            &users,
            &[("exports", exports)],
        );
    }
    let users_of_heads = users_of(users, sources, |role| {
        matches!(role, Role::AuditHeads | Role::RestoreHeads)
    });
    let mut exports = exported(&StreamName::audit_heads());
    exports.push(service(ACCOUNT_INFO, SINGLE, BOTH));
    account(
        &mut text,
        AUDIT_HEADS,
        &[("jetstream", vec![limits()])],
        &users_of_heads,
        &[("exports", exports)],
    );
    let readers = users_of(users, sources, |role| {
        matches!(role, Role::Projector | Role::AuditLog | Role::Reader)
    });
    let status = service(PROJECTION_STATUS, STREAMED, OPERATORS);
    account(
        &mut text,
        READERS,
        &[],
        &readers,
        &[
            ("exports", vec![status]),
            ("imports", imports_of_readers(sources)),
        ],
    );
    let operators = users_of(users, sources, |role| {
        matches!(role, Role::Operator | Role::Administrator)
    });
    account(
        &mut text,
        OPERATORS,
        &[],
        &operators,
        &[("imports", imports_of_operators(sources))],
    );
    text
}

/// The account with a source's stream.
fn account_of(source: &Source) -> String {
    format!("source-{source}")
}

fn limits() -> String {
    format!("max_mem: -1, max_file: -1, max_streams: 1, max_consumers: {MAX_CONSUMERS}")
}

/// The answers to a request: one, or many.
const SINGLE: &str = "singleton";
const STREAMED: &str = "stream";

/// The accounts that may import.
const BOTH: &str = "readers, operators";

fn service(subject: &str, response: &str, accounts: &str) -> String {
    format!("{{ service: \"{subject}\", response: {response}, accounts: [{accounts}] }}")
}

/// What operators hear of an account.
fn messages(subject: &str) -> String {
    format!("{{ stream: \"{subject}\", accounts: [{OPERATORS}] }}")
}

fn heard(account: &str, subject: &str) -> String {
    format!("{{ stream: {{ account: \"{account}\", subject: \"{subject}\" }} }}")
}

/// What an account with a stream lets others do.
fn exported(stream: &StreamName) -> Vec<String> {
    let name = stream.as_str();
    let mut exports: Vec<String> = rights::reading(name)
        .iter()
        .map(|request| service(request, SINGLE, BOTH))
        .collect();
    exports.push(service(&rights::next_messages(name), STREAMED, BOTH));
    let of_operators = rights::making(name).into_iter();
    let of_operators = of_operators.chain(rights::removing(name));
    for request in of_operators.chain([stream.subjects().to_owned()]) {
        exports.push(service(&request, SINGLE, OPERATORS));
    }
    exports.push(messages(&stream.backup_subjects()));
    exports
}

fn imported(account: &str, subject: &str) -> String {
    format!("{{ service: {{ account: \"{account}\", subject: \"{subject}\" }} }}")
}

/// The streams with their accounts.
fn homes(sources: &[Source]) -> Vec<(StreamName, String)> {
    let of_sources = sources
        .iter()
        .map(|source| (StreamName::of(source), account_of(source)));
    let heads = (StreamName::audit_heads(), AUDIT_HEADS.to_owned());
    of_sources.chain([heads]).collect()
}

/// What readers import from each account with a stream; without the request for the account's state the
/// server would offer its own JetStream.
fn imports_of_readers(sources: &[Source]) -> Vec<String> {
    let mut imports = vec![imported(AUDIT_HEADS, ACCOUNT_INFO)];
    for (stream, home) in homes(sources) {
        let reading = rights::reading(stream.as_str()).into_iter();
        let all = reading.chain([rights::next_messages(stream.as_str())]);
        imports.extend(all.map(|request| imported(&home, &request)));
    }
    for source in sources {
        imports.push(imported(&account_of(source), &source.status_subject()));
    }
    imports
}

fn imports_of_operators(sources: &[Source]) -> Vec<String> {
    let mut imports = imports_of_readers(sources);
    for (stream, home) in homes(sources) {
        let making = rights::making(stream.as_str()).into_iter();
        let requests = making.chain(rights::removing(stream.as_str()));
        let all = requests.chain([stream.subjects().to_owned()]);
        imports.extend(all.map(|request| imported(&home, &request)));
        imports.push(heard(&home, &stream.backup_subjects()));
    }
    for source in sources {
        imports.push(imported(&account_of(source), &source.control_subject()));
        imports.push(heard(&account_of(source), &source.nudge_subject()));
    }
    imports.push(imported(READERS, PROJECTION_STATUS));
    imports
}

fn users_of(users: &[User], sources: &[Source], is_here: impl Fn(&Role) -> bool) -> Vec<String> {
    let here: Vec<&User> = users.iter().filter(|user| is_here(&user.role)).collect();
    let entry = |user: &&User| user_entry(user, &here, sources);
    here.iter().map(entry).collect()
}

/// A user with what it may do; `here` are all of its account.
fn user_entry(user: &User, here: &[&User], sources: &[Source]) -> String {
    let rights = Rights::of(&user.role, sources);
    let inboxes = |public: &String| format!("{}.>", inbox_prefix(public));
    let (login, own, others) = match &user.login {
        Login::Key(public) => (format!("nkey: {public}"), inboxes(public), Vec::new()),
        Login::Password(name, password) => {
            let keys = here.iter().filter_map(|user| match &user.login {
                Login::Key(public) => Some(inboxes(public)),
                Login::Password(..) => None,
            });
            let login = format!("user: \"{name}\", password: \"{password}\"");
            (login, "_INBOX.>".to_owned(), keys.collect())
        }
    };
    let deny = match others.is_empty() {
        true => String::new(),
        false => format!(", deny: [{}]", quoted(&others)),
    };
    let mut subscribe = vec![own];
    subscribe.extend(rights.subscribe);
    let answers = match rights.answers {
        true => "\n            allow_responses: { max: 1, expires: \"1m\" }",
        false => "",
    };
    format!(
        "{{ # {}\n          {login}\n          permissions: {{\n            publish: {{ allow: [{}] }}\n            \
         subscribe: {{ allow: [{}]{deny} }}{answers}\n          }}\n        }}",
        user.role,
        quoted(&rights.publish),
        quoted(&subscribe),
    )
}

fn quoted(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects.iter().map(|s| format!("\"{s}\"")).collect();
    quoted.join(", ")
}

/// One account: settings in braces, its users, and lists.
fn account(
    text: &mut String,
    name: &str,
    settings: &[(&str, Vec<String>)],
    users: &[String],
    lists: &[(&str, Vec<String>)],
) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "    \"{name}\" {{");
    for (setting, values) in settings {
        let _ = writeln!(text, "        {setting}: {{ {} }}", values.join(", "));
    }
    let lists = lists.iter().map(|(name, items)| (*name, items.as_slice()));
    for (list, items) in [("users", users)].into_iter().chain(lists) {
        if items.is_empty() {
            continue;
        }
        let _ = writeln!(text, "        {list}: [");
        for item in items {
            let _ = writeln!(text, "        {item}");
        }
        let _ = writeln!(text, "        ]");
    }
    let _ = writeln!(text, "    }}");
}
