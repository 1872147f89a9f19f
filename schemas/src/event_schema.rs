//! One form of a body: its name, its type, and when it is published. [`crate::registry`] lists them all, and
//! makes the JSON Schema of each.

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A [`crate::event::WalEvent`].
    Wal,
    /// An [`crate::event::OutboxEvent`] with any `data`.
    Outbox,
    /// An [`crate::event::OutboxEvent`] whose `data` is a [`crate::event::SearchPerformed`].
    SearchPerformed,
    /// An [`crate::event::OutboxEvent`] whose `data` is a [`crate::event::FileDownloaded`].
    FileDownloaded,
}

/// A form of a body: an event type and its version, or the form that outbox types share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSchema {
    /// The attribute `type`, or `artstore.outbox.v<version>`.
    pub name: &'static str,
    /// What the body is made of.
    pub body: Body,
    /// When such an event is published.
    pub meaning: &'static str,
}
