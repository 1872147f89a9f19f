//! Signed heads in a file.

/// Heads in a file come after each other, with this line in between: no line of a head begins so.
pub(super) const BETWEEN: &str = "----\n";

/// The heads of a file.
pub(super) fn notes(text: &str) -> impl Iterator<Item = &str> {
    text.split(BETWEEN).filter(|note| !note.is_empty())
}
