//! What is wrong with databases.

use std::collections::BTreeMap;

use super::trouble_list::{TroubleList, Weight, command_in};
use crate::status::reports::{TO_END, UNANSWERED};
use crate::status::{Server, Status};

/// What to do about a database that answers, but not one question.
const LOCKS: &str = "it answers otherwise: look in pg_locks for who has locked a table of it";

/// What to do where whoever has locked a table is named.
const LOCKED: &str =
    "commit that transaction or roll it back; where nobody does, end its session as named";

/// A database that does not answer.
struct Silent<'a> {
    server: &'a Server,
    about: &'a str,
    url: &'a str,
}

/// Databases that do not answer. Those of one server that all report the same have one cause.
pub(super) fn of_databases(found: &mut TroubleList, status: &Status) {
    let read_models = [
        (&status.read_model, "query database", "QUERY_DATABASE_URL"),
        (&status.audit_log, "admin database", "ADMIN_DATABASE_URL"),
    ];
    let read_models = read_models.into_iter();
    let read_models =
        read_models.filter_map(|(server, about, url)| Some((server.as_ref()?, about, url)));
    let sources = status.sources.iter();
    let sources = sources.map(|s| (&s.database, s.source.as_str(), "the URL of the database"));
    let mut silent: BTreeMap<(&str, &str), Vec<Silent<'_>>> = BTreeMap::new();
    for (server, about, url) in sources.chain(read_models) {
        let Some(problem) = &server.problem else {
            continue;
        };
        let address = server
            .name
            .rsplit_once(" at ")
            .map_or("", |(_, address)| address);
        let of_one = silent.entry((address, problem)).or_default();
        // The query and the admin module's are sources as well.
        if !of_one.iter().any(|known| known.server.name == server.name) {
            of_one.push(Silent { server, about, url });
        }
    }
    for ((address, problem), databases) in silent {
        if let [Silent { server, about, url }] = databases[..] {
            let todo = match problem {
                UNANSWERED => LOCKS.to_owned(),
                _ if problem.starts_with(UNANSWERED) && problem.contains(TO_END) => {
                    LOCKED.to_owned()
                }
                _ => format!("check the server, its rights and {url}"),
            };
            found.add(
                Weight::Database,
                about,
                format!("database {}: {problem}", server.name),
                &todo,
                command_in(problem),
            );
            continue;
        }
        let names = databases.iter().map(|silent| silent.server.name.as_str());
        let names = names.map(|name| name.rsplit_once(" at ").map_or(name, |(name, _)| name));
        let names: Vec<&str> = names.collect();
        let todo = match problem {
            UNANSWERED => LOCKS,
            _ => "check the server; what depends on it is not shown",
        };
        found.add(
            Weight::Database,
            &format!("PostgreSQL at {address}"),
            format!("{problem}; databases: {}", names.join(", ")),
            todo,
            command_in(problem),
        );
    }
}
