//! Files of keys: public keys of tokens, seeds of NATS users. What is no key is refused, without showing it.

#![no_main]

use artstore_bus::accounts::key::UserKey;
use artstore_fuzz::text;
use artstore_producers::token::keys;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match keys::of_file("main", data) {
        Ok(keys) => assert!(!keys.is_empty()),
        Err(reason) => assert!(reason.len() < 200, "{reason}"),
    }
    if let Some(key) = UserKey::parse(&text(data)) {
        assert!(key.public().starts_with('U'));
    }
});
