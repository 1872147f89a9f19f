//! Any single byte of any signed column of any row.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgConnection;

use super::attacks::{ROWS, STREAM, built};
use super::*;

/// Columns of text. Where one is null, it gets a character.
const TEXTS: [&str; 16] = [
    "event_type",
    "severity",
    "actor_type",
    "actor_id",
    "actor_name",
    "actor_role",
    "resource_type",
    "resource_id",
    "action",
    "ip_address",
    "user_agent",
    "request_id",
    "session_id",
    "error_message",
    "kid",
    "hmac_signature",
];

/// Columns of other kinds.
const OTHERS: [&str; 5] = ["created_at", "event_id", "data", "success", "mapping"];

/// A text with one byte changed, in place: another letter, digit or sign.
fn changed(text: &str, at: usize, by: u8) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return "x".to_owned();
    }
    let place = at % characters.len();
    let before = characters[place];
    let after = char::from(b'!' + (before as u8).wrapping_add(by) % 90);
    characters[place] = if after == before { '~' } else { after };
    characters.into_iter().collect()
}

/// Changes one byte of a column, in the row at this place.
async fn change(admin: &mut PgConnection, column: &str, row: &str, (at, by): (usize, u8)) {
    let set = match column {
        "created_at" => format!(
            "created_at = created_at + make_interval(secs => (1 << {}) / 1000000.0)",
            at % 20
        ),
        "event_id" => {
            let id: String = value(
                admin,
                format!("select event_id::text from audit_logs {row}"),
            )
            .await;
            let id = id.parse::<uuid::Uuid>().unwrap().as_u128() ^ (1 << (at % 128));
            format!("event_id = '{}'", uuid::Uuid::from_u128(id))
        }
        "data" => format!(
            "data = jsonb_set(data, '{{n}}', to_jsonb((data ->> 'n')::integer # {}))",
            1 << (at % 16)
        ),
        "success" => "success = not success".to_owned(),
        "mapping" => format!("mapping = mapping # {}", 1 << (at % 8)),
        text => {
            let sql = format!("select coalesce({text}, '') from audit_logs {row}");
            let before: String = value(admin, sql).await;
            let after = changed(&before, at, by).replace('\'', "''");
            format!("{text} = '{after}'")
        }
    };
    execute(admin, format!("update audit_logs set {set} {row}")).await;
}

/// Rows at random, a hundred and fifty at once, each with one byte of one column changed. All are
/// located, and no other.
#[test]
fn any_byte_of_any_signed_column_of_any_row_is_located() {
    // The same once more: ANY_BYTE_SEED=N.
    let seed = std::env::var("ANY_BYTE_SEED").ok();
    let seed: u64 = seed.map_or_else(rand::random, |seed| seed.parse().unwrap());
    run(async move {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        built(&audited).await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all;
             alter table audit_logs drop constraint audit_logs_severity_check;
             alter table audit_logs drop constraint audit_logs_actor_type_check",
        )
        .await;
        let mut random = StdRng::seed_from_u64(seed);
        let columns: Vec<&str> = TEXTS.into_iter().chain(OTHERS).collect();
        let mut expected = BTreeSet::new();
        let mut edited = BTreeMap::<&str, usize>::new();
        while expected.len() < 150 {
            // Not two neighbours: the row behind an edited one is checked against it.
            let row = random.random_range(1..=ROWS);
            if expected.iter().any(|n: &u64| n.abs_diff(row) < 2) {
                continue;
            }
            // Each column in turn.
            let column = columns[expected.len() % columns.len()];
            let place = format!("where stream = '{STREAM}' and stream_sequence = {row}");
            let how = (usize::from(random.random::<u16>()), random.random());
            change(&mut admin, column, &place, how).await;
            expected.insert(row);
            *edited.entry(column).or_default() += 1;
        }
        sqlx::Connection::close(admin).await.unwrap();
        let verdict = audited.verify(&[]).await;
        let located: BTreeSet<u64> = verdict
            .findings()
            .into_iter()
            .filter(|(kind, ..)| kind == "row-edited" || kind == "signature-edited")
            .filter_map(|(_, row, _)| row)
            .collect();
        assert_eq!(located, expected, "ANY_BYTE_SEED={seed}: {edited:?}");
        assert_eq!(edited.len(), columns.len(), "ANY_BYTE_SEED={seed}");
    });
}
