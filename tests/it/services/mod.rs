//! Roles as services: what they report is true, they end in order and in time, and share the work.
//! One subject per file.
//!
//! - `refused`: a relay that may not publish
//! - `long_names`: sharing the streams of the longest names
//! - `hanging`: streams that do not answer
//! - `taken`: a lock that somebody else holds
//! - `intruders`: strangers who take every lock they can
//! - `unstored`: NATS that does not store
//! - `waiting`: a service that starts while a server is down
//! - `watched`: a service as it is seen over HTTP
//! - `slow_clients`: clients that connect and send nothing
//! - `status`: what `artstore status` reports
//! - `recovery`: servers that are restarted under load
//! - `silent_cuts`: a network that swallows packets
//! - `cluster`: a stream's leader that is killed
//! - `credentials`, `permissions`: users of NATS, and what they may not do
//! - `settings`: settings that are refused
//! - `shown`: what services report: that they are stuck or halted, and every number
//! - `shares`: several processes of a role, which share the work
//! - `stops`: services that are stopped under load
//! - `frozen`: servers that hang

mod cluster;
mod credentials;
pub mod frozen;
mod hanging;
mod intruders;
mod long_names;
mod permissions;
mod recovery;
mod refused;
mod settings;
mod shares;
mod shown;
mod silent_cuts;
mod slow_clients;
mod status;
mod stops;
mod taken;
mod unstored;
mod waiting;
mod watched;

use std::time::{Duration, Instant};

use crate::support::load::{create, new_file};
use crate::support::*;

/// A stop ends within this, whatever hangs.
const BOUND: Duration = Duration::from_secs(16);

async fn file(world: &World, element: usize) {
    let name = world.elements[element].0.clone();
    let mut element = (name, world.element(element).await);
    create(&mut element, &new_file("a.pdf")).await.unwrap();
}

/// Ends with this code, in time.
async fn ends(process: &mut Process, code: i32) {
    let asked = Instant::now();
    let status = process.ended().await;
    assert_eq!(status.code(), Some(code), "{}", process.log());
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
}
