//! The audit log's part of the check.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::result::Audit;
use super::{Check, connect};
use crate::config::Config;
use artstore_verification::audit;

impl Check {
    /// The audit log of these sources, each row against its signature, its head and its message. One
    /// that was emptied is checked like any other: its heads say what is missing.
    pub(super) async fn audit(
        &self,
        config: &Config,
        admin: Option<&PgConnectOptions>,
        sources: &[(Source, PgConnectOptions)],
    ) -> anyhow::Result<Audit> {
        // The parts of the URL alone (DB_*) may be those of another module.
        let Some(database) = admin.filter(|_| config.has_admin_url()) else {
            return Ok(Audit::NotChecked("ADMIN_DATABASE_URL is not set"));
        };
        let mut connection = connect(database).await?;
        let there: bool =
            sqlx::query_scalar("select to_regclass('public.audit_trees') is not null")
                .fetch_one(&mut connection)
                .await?;
        if !there {
            let reason = "the admin module's database has no tables for it";
            return Ok(match self.heads_on_the_bus().await? {
                true => Audit::NotChecked(reason),
                false => Audit::Nothing(reason),
            });
        }
        let written: bool = sqlx::query_scalar("select exists (select from public.audit_trees)")
            .fetch_one(&mut connection)
            .await?;
        if !written && !traces(&mut connection).await? && !self.heads_on_the_bus().await? {
            return Ok(Audit::Nothing("nothing was ever written to it"));
        }
        let keys = &self.command.audit;
        if keys.audit_verifier_keys_path.is_none() && keys.audit_signing_key_path.is_none() {
            return Ok(Audit::NotChecked(
                "SECURITY_AUDIT_VERIFIER_KEYS_PATH is not set",
            ));
        }
        let trusted = keys.trusted()?;
        let ring = match self.command.audit.is_given() {
            true => Some(self.command.audit.ring()?),
            false => None,
        };
        let sources: Vec<Source> = sources.iter().map(|(source, _)| source.clone()).collect();
        let wait = Duration::from_secs(self.command.wait);
        // An emptied log does not grow any more: nothing is waited for.
        if written {
            let awaited = sources.iter().filter(|source| {
                !self.idle.relays.contains(source) && !self.idle.audit_log.contains(source)
            });
            let awaited: Vec<Source> = awaited.cloned().collect();
            audit::wait_for(&mut connection, &self.bus, &awaited, wait).await?;
        }
        let done = AtomicU64::new(0);
        let check = audit::log::Check {
            database,
            bus: Some(&self.bus),
            ring: ring.as_ref(),
            trusted: &trusted,
            range: None,
            archives: None,
            done: &done,
        };
        let checked = check.all(&mut connection, &sources, true).await;
        checked.map(Audit::Checked)
    }

    /// Whether a head of any log was ever published.
    async fn heads_on_the_bus(&self) -> anyhow::Result<bool> {
        match self.bus.stream_info(AUDIT_HEADS).await {
            Ok(info) => Ok(info.state.messages > 0),
            Err(BusError::NoStream(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the database shows that there was a log, where its ends are gone.
async fn traces(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from public.audit_heads) \
             or exists (select from public.audit_logs where stream is not null)",
    )
    .fetch_one(connection)
    .await
}
