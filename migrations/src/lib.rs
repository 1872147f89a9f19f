//! artstore-migrations
