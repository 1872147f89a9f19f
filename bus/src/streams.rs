//! The streams of the bus: how they are created, and which settings may lose messages. `artstore bus init`
//! creates them; relay and projectors only find them.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, Info, RetentionPolicy, StorageType,
};

use artstore_schemas::source::Source;

use crate::bus_error::BusError;
use crate::connection::Bus;
use crate::stream_name::StreamName;

const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

impl Bus {
    /// A stream's present state, as its leader knows it.
    // The one place where it is allowed: a refusal is named here.
    #[allow(clippy::disallowed_methods)]
    pub async fn stream_info(&self, stream: &str) -> Result<Info, BusError> {
        let call = self.jetstream.get_stream(stream);
        match self.permitted("STREAM.INFO", stream, call).await? {
            Ok(handle) => Ok(handle.cached_info().clone()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(BusError::NoStream(stream.to_owned()))
                }
                _ => Err(BusError::JetStream(format!("stream {stream}: {error}"))),
            },
        }
    }

    /// Refuses where one of the streams exists and is unfit, before any of them is touched.
    pub async fn check_streams(
        &self,
        streams: &[StreamName],
        replicas: usize,
        limits: Limits,
    ) -> Result<(), BusError> {
        for stream in streams {
            match self.stream_info(stream.as_str()).await {
                Ok(info) => refuse_unfit(&info.config, &stream_config(stream, replicas), limits)?,
                Err(BusError::NoStream(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Creates a source's stream, or repairs an existing one where that loses nothing.
    /// Calling it again changes nothing.
    pub async fn ensure_stream(
        &self,
        source: &Source,
        replicas: usize,
    ) -> Result<StreamChange, BusError> {
        self.ensure(&StreamName::of(source), replicas).await
    }

    /// The same for any stream of ours.
    pub async fn ensure(
        &self,
        stream: &StreamName,
        replicas: usize,
    ) -> Result<StreamChange, BusError> {
        self.ensure_with(stream, replicas, Limits::Refuse).await
    }

    /// The same, and what to do about limits.
    pub async fn ensure_with(
        &self,
        stream: &StreamName,
        replicas: usize,
        limits: Limits,
    ) -> Result<StreamChange, BusError> {
        let name = stream.as_str();
        let wanted = stream_config(stream, replicas);
        let failed =
            |error: &dyn std::fmt::Display| BusError::JetStream(format!("stream {name}: {error}"));
        let (existing, state) = match self.stream_info(name).await {
            Ok(info) => (info.config, info.state),
            Err(BusError::NoStream(_)) => {
                let call = self.jetstream.create_stream(wanted.clone());
                let made = self.permitted("STREAM.CREATE", name, call).await?;
                let made = made.map_err(|e| failed(&e))?;
                refuse_unfit(&made.cached_info().config, &wanted, Limits::Refuse)?;
                return Ok(StreamChange::Created);
            }
            Err(error) => return Err(error),
        };
        refuse_unfit(&existing, &wanted, limits)?;
        let limited = refuse_unfit(&existing, &wanted, Limits::Refuse).is_err();
        if !limited && fits(&existing, &wanted) {
            return Ok(StreamChange::Unchanged);
        }
        let call = self.jetstream.update_stream(wanted);
        let update = self.permitted("STREAM.UPDATE", name, call).await?;
        update.map_err(|e| failed(&e))?;
        if limited {
            return Ok(StreamChange::LimitsRemoved {
                missing: state.last_sequence.saturating_sub(state.messages),
            });
        }
        Ok(StreamChange::Updated)
    }

    /// Why a stream removes messages, or will; none where it does not.
    pub async fn limit(&self, stream: &str) -> Result<Option<String>, BusError> {
        let info = self.stream_info(stream).await?;
        Ok(check_limits(&info.config)
            .err()
            .map(|error| error.to_string()))
    }
}

/// What [`Bus::ensure_stream`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamChange {
    /// The stream was created.
    Created,
    /// Settings that lose nothing were changed.
    Updated,
    /// Limits that remove messages were removed.
    LimitsRemoved {
        /// How many messages the stream lacks, whatever removed them.
        missing: u64,
    },
    /// It was as it should be.
    Unchanged,
}

/// What [`Bus::ensure_with`] does about limits at which a stream removes or refuses messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Leave the stream as it is, with an error.
    Refuse,
    /// Remove them, which loses nothing.
    Remove,
}

fn stream_config(stream: &StreamName, replicas: usize) -> Config {
    Config {
        name: stream.as_str().to_owned(),
        subjects: vec![stream.subjects().to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        compression: Some(Compression::S2),
        ..Config::default()
    }
}

/// Whether a stream that is in use removes messages, or will: somebody has given it a limit.
pub fn check_limits(found: &Config) -> Result<(), BusError> {
    let wanted = limits(&Config {
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        ..Config::default()
    });
    let found_limits = limits(found);
    if found_limits == wanted {
        return Ok(());
    }
    Err(BusError::Limited {
        stream: found.name.clone(),
        found: format!("{LIMITS} {found_limits}"),
        wanted,
    })
}

/// Refuses a stream whose settings may have lost messages, or would when they were changed.
fn refuse_unfit(found: &Config, wanted: &Config, on_limits: Limits) -> Result<(), BusError> {
    let checks = [
        (
            "subjects",
            format!("{:?}", found.subjects),
            format!("{:?}", wanted.subjects),
        ),
        (
            "retention",
            format!("{:?}", found.retention),
            format!("{:?}", wanted.retention),
        ),
        (
            "storage",
            format!("{:?}", found.storage),
            format!("{:?}", wanted.storage),
        ),
        ("seal", found.sealed.to_string(), wanted.sealed.to_string()),
    ];
    for (what, found_value, wanted_value) in checks {
        if found_value != wanted_value {
            return Err(BusError::Unfit {
                stream: found.name.clone(),
                found: format!("{what} {found_value}"),
                wanted: wanted_value,
            });
        }
    }
    if on_limits == Limits::Remove {
        return Ok(());
    }
    let (found_value, wanted_value) = (
        format!("{:?}", found.discard),
        format!("{:?}", wanted.discard),
    );
    if found_value != wanted_value {
        return Err(BusError::Limited {
            stream: found.name.clone(),
            found: format!("discard {found_value}"),
            wanted: wanted_value,
        });
    }
    check_limits(found)
}

const LIMITS: &str = "limits (messages, bytes, per subject, age)";

fn limits(config: &Config) -> String {
    let none = |limit: i64| if limit <= 0 { -1 } else { limit };
    format!(
        "{}, {}, {}, {:?}",
        none(config.max_messages),
        none(config.max_bytes),
        none(config.max_messages_per_subject),
        config.max_age
    )
}

fn fits(found: &Config, wanted: &Config) -> bool {
    found.num_replicas == wanted.num_replicas
        && found.duplicate_window == wanted.duplicate_window
        && found.deny_delete
        && found.deny_purge
        && found.allow_direct
        && found.allow_atomic_publish
        && found.compression == wanted.compression
        && found.max_message_size <= 0
        && !found.no_ack
}
