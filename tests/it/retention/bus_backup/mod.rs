//! Backups of the streams.
//!
//! - `restored`: lost, restored, and everything goes on
//! - `limits_pruning`: only what a backup has is pruned
//! - `interrupted`: written to, killed, refused where they are not whole, not wanted or not allowed

mod interrupted;
mod limits_pruning;
mod restored;

use std::path::{Path, PathBuf};

use artstore::bus_backup::{MANIFEST, Manifest};
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::{AUDIT_HEADS, audit_head_subject};
use serde_json::Value;

use crate::support::*;

/// A folder for one backup.
fn place() -> PathBuf {
    folder("bus").join("backup")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(world: &World, to: &Path, more: &[&str]) -> Program {
    let words = ["bus", "backup", text(to), "--json"];
    world.command(&[&words, more].concat())
}

/// Takes one that must succeed.
async fn backed_up(world: &World, more: &[&str]) -> (PathBuf, Manifest) {
    let to = place();
    let mut process = backup(world, &to, more).start();
    let status = process.ended().await;
    assert!(status.success(), "{}", process.log());
    let manifest: Manifest = serde_json::from_str(&process.output()).unwrap();
    let kept = std::fs::read(to.join(MANIFEST)).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&kept).unwrap(),
        serde_json::to_value(&manifest).unwrap()
    );
    let (status, said) = world
        .command(&["bus", "check-backup", text(&to)])
        .output()
        .await;
    assert!(
        status.success() && said.contains("as its manifest says"),
        "{said}"
    );
    (to, manifest)
}

fn restored(world: &World, from: &Path, more: &[&str]) -> Program {
    let words = ["bus", "restore", text(from), "--json"];
    world.command(&[&words, more].concat())
}

/// Restores, which must succeed; its report.
async fn restore_all(world: &World, from: &Path) -> Value {
    let mut process = restored(world, from, &[]).start();
    let status = process.ended().await;
    assert!(status.success(), "{}{}", process.log(), process.output());
    serde_json::from_str(&process.output()).unwrap()
}

/// All streams are gone, as an administrator or a disk would take them.
async fn lose(world: &World) {
    let streams = world.sources().into_iter().map(|source| source.stream());
    for stream in streams.chain([AUDIT_HEADS.to_owned()]) {
        world.bus.jetstream.delete_stream(&stream).await.unwrap();
    }
}

/// A restore that is killed when a part of the element's stream is sent.
async fn cut_off(world: &World, from: &Path) {
    let killed = restored(world, from, &["--stream", "elem"]).crash_at("bus.restore.chunk", 2);
    let (status, log) = killed.finish().await;
    assert_eq!(status.code(), None, "{log}");
}

async fn published(world: &World, count: u64) {
    let source = world.source(0);
    eventually(&format!("{count} messages"), || async {
        let info = world.bus.stream_info(&source.stream()).await.ok()?;
        (info.state.last_sequence >= count).then_some(())
    })
    .await;
}

fn change_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// One that publishes heads, which nobody has signed.
async fn heads(bus: &Bus, count: usize) {
    for _ in 0..count {
        let subject = audit_head_subject("ARTSTORE_WAL_elem");
        let body: Vec<u8> = (0..60_000).map(|_| rand::random()).collect();
        let sent = bus.jetstream.publish(subject, body.into()).await;
        sent.unwrap().await.unwrap();
    }
}
