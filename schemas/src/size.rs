//! How large a message may be. The limits are ours, not the server's, so that the same row always
//! gives the same message, wherever it is published.

/// The most bytes a message's body and headers have together.
pub const MAX_MESSAGE_BYTES: usize = 900 * 1024;

/// The most bytes a message's headers have. (The server's end is 64 KiB.)
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

/// The most bytes a message's body has: the headers always find room beside it.
pub const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES - MAX_HEADER_BYTES;

/// The most bytes of the header that lists gaps.
pub const MAX_GAPS_BYTES: usize = 24 * 1024;

/// The most bytes that are published as one atomic batch.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The most messages that are published as one atomic batch. (The server's end.)
pub const MAX_BATCH_MESSAGES: usize = 1_000;
