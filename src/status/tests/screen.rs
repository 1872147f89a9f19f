//! The whole screen, character by character.

use super::*;
use crate::status::screen;

fn shown(status: &Status) -> String {
    let text = screen::show(status, 80, None, false);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    text
}

#[test]
fn the_screen_when_all_is_well() {
    let status = healthy();
    assert!(status.well);
    assert_eq!(
        shown(&status),
        "\
artstore, 2027-01-15 08:00:00 UTC

SOURCE           POSITION  PUBLISHED  UNPUBLISHED  GAPS  PENDING  RELAY
storage_elem_01     4,711      4,711            0     0        0  active +1
storage_elem_with_a_name_so_long_1
                    4,711      4,711            0     0        0  active +1
proven up to: storage_elem_01 4,711 (12 s ago),
    storage_elem_with_a_name_so_long_1 4,711 (12 s ago)
relays: alpha 41 active for 2, beta 7 active for 0 of 2

STREAM OF                           MESSAGES     SIZE  LAST MESSAGE  REPLICAS
storage_elem_01                        4,700  4.8 MiB       2 h ago    3 of 3
storage_elem_with_a_name_so_long_1     4,700  4.8 MiB       2 h ago    3 of 3

QUERY-CACHE v1   SEQUENCE  BEHIND  LAG  RATE  WORKERS    STATE
storage_elem_01     4,700       0    -   0/s  active +1  nothing new for 2 h
storage_elem_with_a_name_so_long_1
                    4,700       0    -   0/s  active +1  nothing new for 2 h
workers: alpha 42 active for 2, beta 8 active for 0 of 2

All is well.
"
    );
}

#[test]
fn the_screen_when_much_is_wrong() {
    let status = unhealthy();
    assert!(!status.well);
    assert_eq!(
        shown(&status),
        "\
artstore, 2027-01-15 08:00:00 UTC

SOURCE            POSITION  PUBLISHED  UNPUBLISHED  GAPS  PENDING  RELAY
storage_elem_01  1,204,711      4,711     100,000+     4        3  HALTED +1
    gaps 12-14, 20; oldest unpublished row 3 min; oldest pending operation 2 d
storage_elem_with_a_name_so_long_1
                         ?      4,711            ?     0        ?  active +1
    database artstore_storage_elem_with_a_name_so_long_1 at db:5432: does not
      answer within 2 s
proven up to: not verified
relays: alpha 41 active for 2, beta 7 active for 0 of 2

STREAM OF        MESSAGES     SIZE  LAST MESSAGE  REPLICAS     MIRROR
storage_elem_01     4,700  4.8 MiB       2 h ago    2 of 3  77 behind
    a replica is 1,234 operations behind
storage_elem_with_a_name_so_long_1
                    4,700  4.8 MiB       2 h ago    3 of 3          -

QUERY-CACHE v1        SEQUENCE  BEHIND   LAG   RATE  WORKERS    STATE
storage_elem_01  2,000,000,000  12,040  45 s    0/s  active +1  STUCK for 40 s
storage_elem_with_a_name_so_long_1
                         4,700  12,040  45 s  301/s  active +1  40 s to catch up
workers: alpha 42 active for 2, beta 8 active for 0 of 2

NOT WELL: storage_elem_with_a_name_so_long_1: database
    artstore_storage_elem_with_a_name_so_long_1 at db:5432: does not answer
    within 2 s
  DO: check the server, its rights and the URL of the database
ALSO: storage_elem_01: the relay has halted: stream ARTSTORE_WAL_storage_elem_01
    was written from another database: restore it, or run `artstore relay
    accept-source --source storage_elem_01`
  DO: run this, and what it names next; the rest continues by itself then:
      artstore relay accept-source --source storage_elem_01
ALSO: storage_elem_01: the mirror ARTSTORE_WAL_storage_elem_01 has heard nothing
    of ARTSTORE_WAL_far_away for 40 s; it was 77 messages behind then
  DO: check the connection to the server of the origin
and 3 more, which `artstore status --json` lists
"
    );
}

#[test]
fn words_say_everything_and_colour_only_marks_lines() {
    let status = unhealthy();
    let coloured = screen::show(&status, 80, None, true);
    assert!(coloured.contains("\x1b[31mNOT WELL"));
    let plain: String = ["\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, shown(&status));
    // What another process reports does nothing to the terminal.
    let mut status = healthy();
    status.nats.problem = Some("\x1b[2J".to_owned());
    assert!(!shown(&judged(status)).contains('\x1b'));
}

#[test]
fn what_is_not_known_is_never_shown_as_nothing() {
    let mut status = healthy();
    status.nats.problem = Some("does not answer within 2 s".to_owned());
    for source in &mut status.sources {
        (
            source.high_water_mark,
            source.gap_positions,
            source.unpublished,
        ) = (None, None, None);
        source.relay.answers = None;
        source.relay.standby = 0;
    }
    for stream in &mut status.streams {
        (stream.facts, stream.problem) = (None, Some("not known without NATS".to_owned()));
    }
    for place in &mut status.projections[0].streams {
        (place.lag_events, place.lag_seconds, place.rate) = (None, None, None);
        (place.state, place.state_seconds) = (Pace::NotKnown, None);
    }
    let status = judged(status);
    assert_eq!(status.troubles.len(), 1, "{:?}", status.troubles);
    let text = shown(&status);
    for row in [
        "storage_elem_01     4,711          ?            ?     ?        0  active\n",
        "storage_elem_01                            ?     ?             ?         ?\n",
        "storage_elem_01     4,700       ?    ?     ?  active +1  not known\n",
        "NOT WELL: NATS: nats://nats:4222: does not answer within 2 s\n",
    ] {
        assert!(text.contains(row), "{row}{text}");
    }
}

/// On a terminal of 24 rows the verdict is always seen, and so is whatever is wrong.
#[test]
fn a_screen_of_24_rows_shows_the_verdict_and_what_is_wrong() {
    for status in [healthy(), unhealthy()] {
        let text = screen::show(&status, 80, Some(24), false);
        assert!(text.lines().count() <= 24, "{text}");
        for trouble in status.troubles.iter().take(2) {
            let begins = trouble.what.split_whitespace().next().unwrap();
            assert!(text.contains(begins), "{begins} is not in:\n{text}");
        }
        let verdict = if status.well {
            "All is well."
        } else {
            "NOT WELL"
        };
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains("QUERY-CACHE"), "{text}");
    }
    // Forty sources.
    let mut status = healthy();
    let more = (0..40).map(|n| source(&format!("storage_elem_{n:02}")));
    status.sources.extend(more);
    status.sources[30].relay.state = Working::None;
    let text = screen::show(&judged(status), 80, Some(24), false);
    assert!(text.lines().count() <= 24, "{text}");
    assert!(text.contains("\nstorage_elem_28"), "{text}");
    assert!(text.contains("41 more that are well"), "{text}");
    assert!(text.contains("NOT WELL"), "{text}");
}
