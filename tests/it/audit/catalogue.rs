//! The attacks: what somebody with full access to the database does to a copy of a log, and by what
//! it has to be found.

/// What has to be found: kind, row, and a layer that saw it.
pub type ExpectedFinding = (&'static str, Option<u64>, &'static str);

/// One attack on a copy of the database.
pub struct Attack {
    pub name: &'static str,
    pub sql: &'static str,
    /// With the stolen secret: everything of the stream is signed again, tiles and the log's end
    /// included, as if nothing had happened.
    pub signed_again: bool,
    /// Seen only beside the messages on the bus.
    pub against: bool,
    pub found: ExpectedFinding,
    /// The rows that may be named, and all of them have to be; empty: others follow from them.
    pub named: &'static [u64],
}

pub const fn plain(name: &'static str, sql: &'static str, found: ExpectedFinding) -> Attack {
    Attack {
        name,
        sql,
        signed_again: false,
        against: false,
        found,
        named: &[],
    }
}

/// What names these rows and no other.
const fn exact(
    name: &'static str,
    sql: &'static str,
    found: ExpectedFinding,
    named: &'static [u64],
) -> Attack {
    Attack {
        named,
        ..plain(name, sql, found)
    }
}

const fn stolen(name: &'static str, sql: &'static str, found: ExpectedFinding) -> Attack {
    Attack {
        signed_again: true,
        ..plain(name, sql, found)
    }
}

/// `update audit_logs set …` of row 300.
macro_rules! edit {
    ($name:literal, $set:literal) => {
        exact(
            $name,
            concat!(
                "update audit_logs set ",
                $set,
                " where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300"
            ),
            ("row-edited", Some(300), "chain"),
            &[300],
        )
    };
}

const SHIFT: &str = "drop index audit_logs_stream_key;
    update audit_logs set stream_sequence = stream_sequence + 1
    where stream = 'ARTSTORE_ADMIN' and stream_sequence > 300;
    insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type,
        action, success, created_at, kid, hmac_signature)
    select format, mapping, stream, 301, gen_random_uuid(), event_type, severity, actor_type, action, success,
        created_at, kid, hmac_signature
    from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300;
    update projection_checkpoints set last_sequence = 721 where projection = 'audit-log' and stream = 'ARTSTORE_ADMIN'";

/// Without the secret, then with it.
pub static ATTACKS: &[Attack] = &[
    edit!("event id", "event_id = gen_random_uuid()"),
    edit!("event type", "event_type = 'login_success2'"),
    edit!("severity", "severity = 'debug'"),
    edit!("kind of actor", "actor_type = case actor_type when 'user' then 'system' else 'user' end, user_id = null, service_account_id = null"),
    edit!("actor", "actor_id = 'x', user_id = null, service_account_id = null"),
    edit!("actor's name", "actor_name = 'x'"),
    edit!("actor's role", "actor_role = 'admin'"),
    edit!("kind of resource", "resource_type = 'x'"),
    edit!("resource", "resource_id = 'x'"),
    edit!("action", "action = 'x'"),
    edit!("address", "ip_address = '192.0.2.1'"),
    edit!("user agent", "user_agent = 'x'"),
    edit!("request id", "request_id = 'x'"),
    edit!("session", "session_id = 'x'"),
    edit!("data: a value", "data = jsonb_set(data, '{n}', '-1')"),
    edit!("data: an integer written as a fraction", "data = jsonb_set(data, '{n}', to_jsonb((data ->> 'n')::numeric + 0.0))"),
    edit!("data: gone", "data = null"),
    edit!("success", "success = not success"),
    edit!("error message", "error_message = 'x'"),
    edit!("time, by a microsecond", "created_at = created_at + interval '1 microsecond'"),
    edit!("time that is none", "created_at = 'infinity'"),
    edit!("time that 64 bits do not reach", "created_at = '294276-12-31'"),
    edit!("NULL turned into an empty text", "user_agent = ''"),
    edit!("bytes moved between fields", "action = left(action, -1), ip_address = right(action, 1)"),
    edit!("mapping", "mapping = 1"),
    exact(
        "key id",
        "update audit_logs set kid = '0000000000000000' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("signature-edited", Some(300), "chain"),
        &[300],
    ),
    exact(
        "format",
        "update audit_logs set format = 2 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-edited", Some(300), "form"),
        &[300],
    ),
    exact(
        "signature of a neighbour",
        "update audit_logs a set hmac_signature = b.hmac_signature from audit_logs b
         where a.stream = 'ARTSTORE_ADMIN' and a.stream_sequence = 300 and b.stream = a.stream and b.stream_sequence = 301",
        ("signature-edited", Some(300), "chain"),
        &[300],
    ),
    exact(
        "signature in capitals",
        "update audit_logs set hmac_signature = upper(hmac_signature) where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("signature-edited", Some(300), "chain"),
        &[300],
    ),
    exact(
        "downgrade to a row of the product's",
        "update audit_logs set format = 0, stream = null, stream_sequence = null, mapping = null, kid = null
         where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-missing", Some(300), "form"),
        &[300],
    ),
    exact(
        "user id column",
        "update audit_logs set user_id = 4711 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("column-edited", Some(300), "form"),
        &[300],
    ),
    exact("id below zero", "update audit_logs set id = -id where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("column-edited", Some(300), "form"), &[300]),
    exact("id far away", "update audit_logs set id = id + 1000000 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("column-edited", Some(300), "form"), &[300]),
    exact(
        "ids of two rows swapped",
        "update audit_logs a set id = -b.id from audit_logs b where a.stream = 'ARTSTORE_ADMIN' and a.stream_sequence in (300, 305)
             and b.stream = a.stream and b.stream_sequence = 605 - a.stream_sequence;
         update audit_logs set id = -id where id < 0",
        ("column-edited", Some(300), "form"),
        &[300, 305],
    ),
    exact("first row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 1", ("row-missing", Some(1), "form"), &[1]),
    exact("row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-missing", Some(300), "form"), &[300]),
    exact("rows around a head deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence between 511 and 514", ("row-missing", Some(511), "form"), &[511]),
    exact("row behind the last head deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-missing", Some(710), "form"), &[710]),
    exact("last row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720", ("row-missing", Some(720), "form"), &[720]),
    exact("everything deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN'", ("row-missing", Some(1), "form"), &[1]),
    exact(
        "two rows swapped",
        "update audit_logs set stream_sequence = -stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence in (300, 305);
         update audit_logs set stream_sequence = 605 + stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence < 0",
        ("row-moved", Some(300), "tree"),
        &[300, 305],
    ),
    plain("last row renumbered", "update audit_logs set stream_sequence = 721 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720", ("row-extra", None, "form")),
    plain(
        "row doubled at the end",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         select format, mapping, stream, 721, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature
         from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720",
        ("row-extra", None, "form"),
    ),
    exact(
        "row doubled in place",
        "drop index audit_logs_stream_key;
         insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         select format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature
         from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-extra", Some(300), "form"),
        &[300],
    ),
    plain("row put in between", SHIFT, ("row-edited", Some(301), "tree")),
    exact("edited behind the last head", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-edited", Some(710), "chain"), &[710]),
    exact("row of another stream", "update audit_logs set stream = 'ARTSTORE_QUERY' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-missing", Some(300), "form"), &[1, 300]),
    plain(
        "row far behind the end",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'ARTSTORE_ADMIN', 4611686018427387904, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "row before the beginning",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'ARTSTORE_ADMIN', -7, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "row of a stream that is none",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'OTHER', 1, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "row of a stream that is none, with a log of that name",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'OTHER', 1, 'x', 'info', 'system', 'x', true, now(), 'x', 'x');
         insert into audit_trees (stream, origin, size, last_signature) values ('OTHER', 'x', 1, '')",
        ("row-extra", None, "form"),
    ),
    plain("log of a name that is none", "insert into audit_trees (stream, origin, size, last_signature) values ('OTHER', 'x', 0, '')", ("log-changed", None, "form")),
    plain("head of a name that is none", "insert into audit_heads (stream, size, note) values ('OTHER', 1, 'x')", ("log-changed", None, "form")),
    Attack {
        against: true,
        ..plain("log of a stream that the bus does not have", "insert into audit_trees (stream, origin, size, last_signature) values ('ARTSTORE_WAL_ghost', 'x', 3, '')", ("log-changed", None, "bus"))
    },
    plain("end of the log without a signature", "update audit_trees set last_signature = '' where stream = 'ARTSTORE_ADMIN'", ("log-changed", None, "form")),
    plain(
        "end of the log far away",
        "update audit_trees set size = 4611686018427387904 where stream = 'ARTSTORE_ADMIN'",
        ("log-changed", None, "form"),
    ),
    exact(
        "what can't be null is null",
        "alter table audit_logs alter column event_type drop not null, alter column success drop not null;
         update audit_logs set event_type = null, success = null where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-edited", Some(300), "form"),
        &[300],
    ),
    plain("product's row edited", "update audit_logs set event_type = 'x' where id = 2", ("legacy-changed", None, "heads")),
    plain("product's row deleted", "delete from audit_logs where id = 2", ("legacy-changed", None, "heads")),
    plain("product's row of a time that 64 bits do not reach", "update audit_logs set created_at = '294276-12-31' where id = 2", ("legacy-changed", None, "heads")),
    plain("product's row of an infinite time gets another one", "update audit_logs set created_at = '294276-12-31' where id = 3", ("legacy-changed", None, "heads")),
    plain("product's row with an actor's name", "update audit_logs set actor_name = 'x' where id = 2", ("legacy-changed", None, "form")),
    plain("product's row with an event", "update audit_logs set event_id = gen_random_uuid() where id = 2", ("legacy-changed", None, "form")),
    plain("boundary without a digest", "update audit_boundary set digest = ''", ("legacy-changed", None, "heads")),
    plain("boundary moved", "update audit_boundary set last_id = 2, rows = 2", ("legacy-changed", None, "heads")),
    exact(
        "leaf in the stored tree",
        "update audit_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 1",
        ("tile-edited", Some(258), "tree"),
        &[258],
    ),
    exact(
        "leaf in the open tile, below the last head",
        "update audit_tiles set hashes = set_byte(hashes, 5664, get_byte(hashes, 5664) # 1) where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 2",
        ("tile-edited", Some(690), "tree"),
        &[690],
    ),
    exact(
        "leaf in the open tile, behind the last head",
        "update audit_tiles set hashes = set_byte(hashes, 6304, get_byte(hashes, 6304) # 1) where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 2",
        ("tile-edited", Some(710), "tree"),
        &[710],
    ),
    plain("stored tile deleted", "delete from audit_tiles where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 1", ("tile-edited", None, "tree")),
    plain(
        "stored tile above the leaves",
        "update audit_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where stream = 'ARTSTORE_ADMIN' and level = 1",
        ("tile-edited", None, "tree"),
    ),
    plain("head changed", "update audit_heads set note = replace(note, '512', '511') where stream = 'ARTSTORE_ADMIN' and size = 512", ("head-forged", Some(512), "heads")),
    plain("head deleted", "delete from audit_heads where stream = 'ARTSTORE_ADMIN' and size = 512", ("head-missing", Some(512), "heads")),
    plain(
        "head of another size",
        "update audit_heads h set note = o.note from audit_heads o where h.stream = 'ARTSTORE_ADMIN' and h.size = 512 and o.stream = h.stream and o.size = 256",
        ("head-forged", Some(512), "heads"),
    ),
    plain(
        "checkpoint moved",
        "update projection_checkpoints set last_sequence = 650 where projection = 'audit-log' and stream = 'ARTSTORE_ADMIN'",
        ("log-changed", None, "form"),
    ),
    stolen("stolen secret: row edited", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("head-unfit", Some(512), "heads")),
    stolen(
        "stolen secret: row deleted, the others moved up",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300;
         update audit_logs set stream_sequence = -stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence > 300;
         update audit_logs set stream_sequence = -stream_sequence - 1 where stream = 'ARTSTORE_ADMIN' and stream_sequence < 0",
        ("head-unfit", Some(512), "heads"),
    ),
    stolen(
        "stolen secret: cut below the last head",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence > 600;
         delete from audit_heads where stream = 'ARTSTORE_ADMIN' and size > 600",
        ("head-unfit", None, "heads"),
    ),
    stolen(
        "stolen secret: everything deleted",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN'; delete from audit_heads where stream = 'ARTSTORE_ADMIN'",
        ("head-unfit", None, "heads"),
    ),
    Attack {
        against: true,
        ..stolen("stolen secret: edited, which row", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-edited", Some(300), "bus"))
    },
    Attack {
        against: true,
        ..stolen("stolen secret: edited behind the last head", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-edited", Some(710), "bus"))
    },
];
