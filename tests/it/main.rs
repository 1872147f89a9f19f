//! One integration program on real servers: real NATS, real PostgreSQL, real processes killed.
//!
//! - `support`: the shared stack, worlds of databases and streams, processes, waiting
//! - `abandoned`: operations that their process left behind
//! - `compose`: compose.yaml, read
//! - the rest: one promise a file

// In a test, an error that is not expected is a failure: unwrap says where.
#![allow(clippy::unwrap_used)]
// Tests connect as anybody does, with the settings that they find.
#![allow(clippy::disallowed_methods)]

mod support;

mod abandoned;
mod accept_in_use;
mod accept_source;
mod adoption;
mod advice;
mod api_urls;
mod audit;
mod backfill;
mod backup;
mod batches;
mod bus_backup;
mod cluster;
mod compose;
mod container_processes;
mod containers;
mod credentials;
mod deliveries;
mod dockerfile;
mod documents;
mod encodings;
mod followed_advice;
mod gaps;
mod hidden_rows;
mod interleaving;
mod kit;
mod large_rows;
mod load;
mod migrations;
mod mix;
mod names;
mod odd_files;
mod odd_settings;
mod parking;
mod pausing;
mod permissions;
mod product_rows;
mod program;
mod projection_repair;
mod projector_crashes;
mod prune;
mod pruned_streams;
mod rebuild;
mod recovery;
mod refusals;
mod registry;
mod relay_crashes;
mod republish;
mod reserved;
mod search;
mod services;
mod silent_cuts;
mod smoke;
mod status;
mod stream_limits;
mod verify;
mod verify_cache;
mod verify_memory;
mod wal_pending;
mod wal_resolve;
mod wrong_configuration;
