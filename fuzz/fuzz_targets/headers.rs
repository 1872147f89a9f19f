//! The headers of a message: what can be read is written and read again as the same.

#![no_main]

use artstore_fuzz::headers;
use artstore_schemas::envelope::Envelope;
use chrono::SubsecRound as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Envelope::from_headers(&headers(data)) {
        Ok(envelope) => {
            let again = Envelope::from_headers(&envelope.to_headers());
            // Headers keep microseconds.
            let time = envelope.time.trunc_subsecs(6);
            assert_eq!(again, Ok(Envelope { time, ..envelope }));
        }
        // An error goes into logs and rows.
        Err(error) => assert!(error.to_string().len() < 2_000, "{error}"),
    }
});
