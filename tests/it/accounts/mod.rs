//! The accounts of NATS: what somebody who has the key of one role can do to the others.
//!
//! - `refused`: requests that a key has no right for
//! - `replies`: answers and deliveries to the subjects of others
//! - `headers`: headers that no client can read
//! - `limits`: many consumers
//! - `speed`: what accounts cost

pub mod headers;
mod limits;
mod refused;
mod replies;
mod speed;

use async_nats::Client;
use serde_json::{Value, json};

use crate::support::*;

/// A request to JetStream's API, and what it answers.
async fn asked(client: &Client, request: &str, body: &Value) -> Value {
    let answer = client.request(format!("$JS.API.{request}"), body.to_string().into());
    serde_json::from_slice(&answer.await.unwrap().payload).unwrap()
}

/// A consumer that pushes all messages of a stream to a subject.
async fn push_consumer(client: &Client, stream: &str, name: &str, deliver: &str) -> Value {
    let body = json!({
        "stream_name": stream,
        "config": {
            "name": name, "deliver_policy": "all", "ack_policy": "none", "deliver_subject": deliver,
            "inactive_threshold": 30_000_000_000_u64,
        },
    });
    asked(client, &format!("CONSUMER.CREATE.{stream}.{name}"), &body).await
}

/// The messages of all streams, and no other streams than those.
async fn messages(world: &World) -> Vec<u64> {
    let mut counts = Vec::new();
    for source in world.sources() {
        let info = world.bus.stream_info(&source.stream()).await.unwrap();
        assert_eq!(info.state.messages, info.state.last_sequence);
        counts.push(info.state.messages);
    }
    counts
}

/// The system goes on: one more file is published, applied and in the audit log's stream of heads.
async fn goes_on(world: &World) {
    crate::relay::refusals::rows(&mut world.element(0).await, 3).await;
    world.published(0).await;
    world.applied().await;
}
