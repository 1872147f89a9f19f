//! What the containers are made of and what they start. No container engine runs here.
//!
//! - `compose_file`: compose.yaml is valid and confines every container
//! - `dockerfile`: the Dockerfile passes its linter and finds what it needs
//! - `nats`: nats-server with the configuration of deploy/nats
//! - `processes`: what compose.yaml starts, as plain processes

mod compose_file;
pub mod dockerfile;
mod nats;
mod processes;
