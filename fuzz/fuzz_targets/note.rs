//! Signed notes, heads and their keys: nothing opens that a trusted key has not signed, and what is read is written as it
//! was.

#![no_main]

use artstore_fuzz::{parts, signer, text};
use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::note::{SignerKey, VerifierKey, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [note, key] = parts(data);
    let (note, key_text) = (text(note), text(key));
    let signer = signer();
    let trusted = [signer.verifier().clone()];
    // The only signatures by this key that an input can hold are copied from a seed.
    if let Ok((opened, by)) = open(&note, &trusted) {
        assert!(note.starts_with(opened) && by.name() == "example.com/audit");
        assert!(
            signer
                .sign(opened)
                .lines()
                .last()
                .is_some_and(|line| note.contains(line))
        );
    }
    if let Ok((head, _)) = Head::open(&note, &trusted) {
        assert!(note.starts_with(&head.text()));
    }
    if let Ok(head) = Head::parse(&note) {
        assert_eq!(head.text(), note);
        let signed = head.sign(&signer);
        // A head may hold a character that no note has.
        if let Ok((again, _)) = Head::open(&signed, &trusted) {
            assert_eq!(again, head);
        }
    }
    if let Ok(key) = VerifierKey::parse(&key_text) {
        assert_eq!(key.to_string(), key_text.trim());
        let _ = open(&note, &[key]);
    }
    if let Ok(key) = SignerKey::parse(&key_text) {
        assert_eq!(key.to_private_text(), key_text.trim());
        let signed = key.sign("a\n\nb\n");
        assert_eq!(
            open(&signed, &[key.verifier().clone()]),
            Ok(("a\n\nb\n", key.verifier()))
        );
    }
});
