//! A stream, message after message, as the check of it sees it: each message is sound, or a flaw is named.

#![no_main]

use artstore_fuzz::{items, message, parts, source};
use artstore_schemas::envelope::Envelope;
use artstore_verification::accepted::Accepted;
use artstore_verification::links::{Links, MessageRole};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [stream, messages] = parts(data);
    let source = source(stream);
    let (accepted, mut links) = (Accepted::default(), Links::default());
    for (index, item) in items(messages).into_iter().take(64).enumerate() {
        let hole = u64::from(item.first() == Some(&b'+'));
        let message = message(index as u64 + 1 + hole, parts(item));
        if message.sequence <= links.last {
            continue;
        }
        let before = links.highest();
        let checked = links.see(&source, &accepted, &message);
        let Ok(envelope) = Envelope::from_headers(&message.headers) else {
            assert!(!checked.flaws.is_empty());
            continue;
        };
        // A position that jumps is only believed of a message that follows.
        if checked.flaws.is_empty() && matches!(checked.role, MessageRole::Row(..)) {
            assert!(envelope.high_water_mark >= before);
        }
        for flaw in &checked.flaws {
            assert!(flaw.detail.len() < 4 * data.len() + 2_000);
        }
    }
});
