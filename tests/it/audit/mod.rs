//! The audit log: every message is a row, and nobody changes one unnoticed.

mod any_byte;
mod archive;
mod attacks;
mod built;
mod catalogue;
mod crashes;
mod export;
mod forged;
mod keygen;
mod lost_heads;
mod made_again;
mod mistaken;
mod odd;
mod proofs;
mod ranges;

use std::path::PathBuf;

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_projectors::audit_log::chain::ChainKey;
use artstore_schemas::actor::Actor;
use artstore_schemas::source::Source;
use serde_json::{Value, json};

use crate::support::*;

pub const SECRET: &str = "k3Jq8vX1mZ0wR7tY5uB2nC6dF9gH4sLa";
pub const KEY_NAME: &str = "test.example/audit";

/// Leaves the trigger of `audit_logs` as it was: who changes rows need not leave it disabled.
pub const TRIGGER_AGAIN: &str =
    "alter table audit_logs enable always trigger audit_logs_append_only";

/// A world's audit log with its keys.
pub struct Audited<'a> {
    pub world: &'a World,
    pub key: PathBuf,
    pub keys: PathBuf,
}

impl<'a> Audited<'a> {
    pub async fn new(world: &'a World) -> Self {
        let folder = folder("audit");
        let audited = Self {
            world,
            key: folder.join("signing.key"),
            keys: folder.join("verifier.keys"),
        };
        let (status, said) = Program::new(&["audit", "keygen", "--name", KEY_NAME, "--out"])
            .argument(audited.key.to_str().unwrap())
            .argument("--verifier-keys")
            .argument(audited.keys.to_str().unwrap())
            .finish()
            .await;
        assert!(status.success(), "{said}");
        audited
    }

    pub fn command(&self, arguments: &[&str]) -> Program {
        self.world
            .command(arguments)
            .env("SECURITY_AUDIT_HMAC_SECRET", SECRET)
            .env(
                "SECURITY_AUDIT_VERIFIER_KEYS_PATH",
                self.keys.to_str().unwrap(),
            )
    }

    /// The projector of the audit log alone.
    pub fn projector(&self) -> Program {
        self.command(&["run", "projector", "--projection", "audit-log"])
            .env(
                "SECURITY_AUDIT_SIGNING_KEY_PATH",
                self.key.to_str().unwrap(),
            )
            .env("SECURITY_AUDIT_HEAD_SECONDS", "1")
    }

    /// Waits until every message of every stream is a row, under a published head.
    pub async fn caught_up(&self) {
        for source in self.world.sources() {
            let last = self.world.last_sequence(&source).await;
            self.caught_up_with(&source, last).await;
        }
    }

    pub async fn caught_up_with(&self, source: &Source, last: u64) {
        let stream = source.stream();
        eventually(
            &format!("the log of {source} has {last} rows and a head"),
            || async {
                let mut admin = try_pg(&self.world.admin_url).await.ok()?;
                let size: i64 = value(
                    &mut admin,
                    format!(
                        "select coalesce((select max(h.size) from audit_heads h \
                     join audit_trees t using (stream, size) where stream = '{stream}'), 0)"
                    ),
                )
                .await;
                (u64::try_from(size).unwrap() >= last).then_some(())
            },
        )
        .await;
        eventually(&format!("that head of {source} is published"), || async {
            let head = artstore_projectors::audit_log::published::last(&self.world.bus, &stream);
            let note = head.await.unwrap().note.unwrap_or_default();
            let size = note.lines().nth(1).and_then(|line| line.parse().ok());
            (size.unwrap_or(0_u64) >= last).then_some(())
        })
        .await;
    }

    /// `audit verify --json` of the admin database at this URL.
    pub async fn verify_at(&self, admin_url: &str, arguments: &[&str]) -> Verdict {
        let command = self
            .command(&["audit", "verify", "--json"])
            .env("ADMIN_DATABASE_URL", admin_url);
        let mut process = arguments.iter().fold(command, |c, a| c.argument(a)).start();
        let status = process.ended().await;
        let said: Value = serde_json::from_str(&process.output())
            .unwrap_or_else(|error| panic!("{error}: {}", process.log()));
        assert_eq!(status.success(), said["ok"], "{said}");
        Verdict(said)
    }

    pub async fn verify(&self, arguments: &[&str]) -> Verdict {
        self.verify_at(&self.world.admin_url, arguments).await
    }
}

/// Relay and projector of the admin module's events, of which there are so many, each a row under a
/// published head.
pub async fn with_admin_events(audited: &Audited<'_>, count: usize) -> [Process; 2] {
    let relay = admin_relay(audited.world);
    let projector = audited.projector().start();
    admin_events(audited.world, count).await;
    audited
        .caught_up_with(&Source::Admin, count.try_into().unwrap())
        .await;
    [relay, projector]
}

/// The relay of the admin module alone.
pub fn admin_relay(world: &World) -> Process {
    world
        .command(&["run", "relay", "--source", "admin"])
        .start()
}

/// What `audit verify` reported.
pub struct Verdict(pub Value);

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.0["ok"] == true
    }

    /// The findings as (kind, sequence, layers).
    pub fn findings(&self) -> Vec<(String, Option<u64>, Vec<String>)> {
        let all = self.0["findings"].as_array().unwrap();
        all.iter()
            .map(|finding| {
                let layers = finding["layers"].as_array().unwrap().iter();
                (
                    finding["kind"].as_str().unwrap().to_owned(),
                    finding["sequence"].as_u64(),
                    layers.map(|l| l.as_str().unwrap().to_owned()).collect(),
                )
            })
            .collect()
    }
}

pub fn chain_key() -> ChainKey {
    ChainKey::of(SECRET).unwrap()
}

/// Events of the admin module's outbox.
pub async fn admin_events(world: &World, count: usize) {
    let mut admin = pg(&world.admin_url).await;
    for n in 0..count {
        let (entity, action) = [
            ("login", "succeeded"),
            ("login", "failed"),
            ("user", "created"),
            ("user", "deleted"),
            ("service-account", "secret-rotated"),
            ("access", "denied"),
            ("thing", "seen"),
        ][n % 7];
        let actor = match n % 3 {
            0 => Actor {
                role: Some("admin".to_owned()),
                address: Some("192.0.2.7".to_owned()),
                user_agent: Some("agent 1.0".to_owned()),
                session_id: Some(format!("session {n}")),
                ..Actor::user(n.to_string()).named(format!("user {n}"))
            },
            1 => Actor::service_account("0191f1f0-0000-7000-8000-000000000000"),
            _ => Actor::system(),
        };
        let event = OutboxInsert {
            entity: entity.to_owned(),
            action: action.to_owned(),
            ordering_key: None,
            subject: Some(n.to_string()),
            data: json!({"username": format!("имя {n}"), "n": n, "reason": "wrong password"}),
            request_id: (n % 2 == 0).then(|| format!("request {n}")),
            traceparent: None,
        };
        outbox::insert(&mut admin, &actor, &event).await.unwrap();
    }
}
