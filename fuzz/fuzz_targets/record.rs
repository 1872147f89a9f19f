//! Records of damage and of breaks: whoever reads one gets what its stream can have.

#![no_main]

use artstore_fuzz::{headers, parts, source};
use artstore_schemas::damage::damage_accepted;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::epoch::accepted;
use artstore_schemas::record;
use libfuzzer_sys::fuzz_target;

const SEQUENCE: u64 = 1_000_000;

fuzz_target!(|data: &[u8]| {
    let [stream, lines, body] = parts(data);
    let source = source(stream);
    let Ok(envelope) = Envelope::from_headers(&headers(lines)) else {
        return;
    };
    match record::damage_record(&source, SEQUENCE, &envelope, body) {
        Ok(record) => {
            assert!(record.damage.is_up_to(SEQUENCE));
            assert_eq!(envelope.source, source.ce_source());
        }
        Err(problem) => assert!(problem.len() < 3_000),
    }
    if let Ok(record) = record::source_accepted(&source, SEQUENCE, &envelope, body) {
        assert!(record.high_water_mark >= 0 && record.last_agreeing < SEQUENCE);
        assert_eq!(record.gaps, envelope.gaps.as_slice());
    }
    let both = envelope.is_record_of(&accepted()) && envelope.is_record_of(&damage_accepted());
    assert!(!both && !(envelope.is_record() && envelope.position.is_some()));
});
