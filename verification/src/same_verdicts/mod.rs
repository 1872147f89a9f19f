//! Both checks of a stream on the same streams, without servers: `artstore verify`
//! ([`crate::links`], [`crate::matching`]) and the one of repairs ([`crate::stream::message_checker`]).
//! What one of them finds the other has to find, and what a repair lists as damage `verify` must not find
//! again.
//!
//! - `streams`: streams and their source's rows, to be changed
//! - `comparison`: both checks on one of them, compared
//! - `changes`: whatever was done to a stream, at random
//! - `table`: what is found, case by case

mod changes;
mod comparison;
mod streams;
mod table;
