//! The subjects that answers go to.

/// Whether a subject is one for answers: an inbox, or what the server puts in its place for a request that comes
/// from another account. Whoever asks names it, and could name one that only a relay may publish on.
pub fn is_inbox(subject: &str) -> bool {
    ["_INBOX.", "_R_."]
        .iter()
        .any(|prefix| subject.starts_with(prefix))
}
