//! Who writes the rows: the product's services, whose operations take three transactions, and files from
//! before there were rows.
//!
//! - `product_rows`: operations in three transactions, in every order
//! - `wal_pending`: operations whose process died
//! - `wal_resolve`: finishing them by hand
//! - `backfill`: files without an operation

mod backfill;
mod product_rows;
pub mod wal_pending;
mod wal_resolve;
