//! One integration program on real servers: real NATS, real PostgreSQL, real processes killed.
//!
//! `support` is what they rest on. The folders follow an event from its publisher to its readers, then what
//! operators do; a file has one promise.

// In a test, an error that is not expected is a failure: unwrap says where.
#![allow(clippy::unwrap_used)]
// Tests connect as anybody does, with the settings that they find.
#![allow(clippy::disallowed_methods)]

mod support;

mod accounts;
mod adoption;
mod audit;
mod commands;
mod containers;
mod documents;
mod followed_advice;
mod identity;
mod migrations;
mod odd_files;
mod projector;
mod publishers;
mod rebuild;
mod relay;
mod repair;
mod retention;
mod search;
mod services;
mod supply_chain;
mod tls;
mod verify;
mod wrong_configuration;
