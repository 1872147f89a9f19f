//! What the tables state about a whole log: its end, its checkpoint, the number of rows. Reading them
//! is no error whatever was written into them: an impossible value is a finding.

use artstore_projectors::audit_log::row::Hash;
use artstore_runtime::count::{by, counted};
use data_encoding::HEXLOWER;
use sqlx::{PgConnection, Row as _};

use super::finding::{Finding, Kind, Layer};

/// The log's end, as the table has it.
#[derive(Debug, Clone)]
pub struct End {
    /// The log's name.
    pub origin: String,
    /// How many rows it has.
    pub size: u64,
    /// The signature of the last one; none: there are not as many bytes as a signature has.
    pub last_signature: Option<Hash>,
}

impl End {
    /// Reads it; none before the first row.
    pub async fn read(
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(
            "select coalesce(origin, '') as origin, coalesce(size, 0) as size, \
                 coalesce(last_signature, '') as last_signature \
             from public.audit_trees where stream = $1",
        )
        .bind(stream)
        .fetch_optional(connection)
        .await?;
        row.map(|row| {
            let signature: &[u8] = row.try_get("last_signature")?;
            Ok(Self {
                origin: row.try_get("origin")?,
                size: u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0),
                last_signature: signature.try_into().ok(),
            })
        })
        .transpose()
    }
}

/// What the tables state about the whole log.
pub struct Facts {
    /// How many rows there are.
    pub rows: u64,
    /// Rows with an invalid sequence.
    below: u64,
    /// The highest sequence of a row; 0: there is none.
    pub last: u64,
    last_signature: Option<String>,
    checkpoint: Option<i64>,
}

impl Facts {
    /// Reads them.
    pub async fn read(connection: &mut PgConnection, stream: &str) -> Result<Self, sqlx::Error> {
        let last: Option<(i64, String)> = sqlx::query_as(
            "select stream_sequence, coalesce(hmac_signature, '') from public.audit_logs \
             where stream = $1 and stream_sequence > 0 order by stream_sequence desc limit 1",
        )
        .bind(stream)
        .fetch_optional(&mut *connection)
        .await?;
        let checkpoint = sqlx::query_scalar(
            "select last_sequence from public.projection_checkpoints \
             where projection = 'audit-log' and stream = $1",
        )
        .bind(stream)
        .fetch_optional(&mut *connection)
        .await?;
        let (rows, below): (i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where stream_sequence < 1 or stream_sequence is null) \
             from public.audit_logs where stream = $1",
        )
        .bind(stream)
        .fetch_one(&mut *connection)
        .await?;
        let (last, last_signature) = last.unzip();
        Ok(Self {
            rows: u64::try_from(rows).unwrap_or(0),
            below: u64::try_from(below).unwrap_or(0),
            last: u64::try_from(last.unwrap_or(0)).unwrap_or(0),
            last_signature,
            checkpoint,
        })
    }

    /// What does not fit the log's end.
    pub fn findings(&self, stream: &str, end: &End) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |kind, text| findings.push(Finding::of_log(stream, kind, Layer::Form, text));
        if self.last > end.size {
            let text = format!(
                "rows {} to {} are behind the log's end",
                end.size + 1,
                self.last
            );
            add(Kind::RowExtra, text);
        }
        if self.below > 0 {
            add(
                Kind::RowExtra,
                format!(
                    "{} {} no place in the log",
                    counted(self.below, "row"),
                    by(self.below, "has", "have")
                ),
            );
        }
        let checkpoint = self.checkpoint.unwrap_or(0);
        if u64::try_from(checkpoint) != Ok(end.size) {
            let text = format!(
                "the log has {} by its tree, {checkpoint} by its checkpoint; if only the checkpoint \
                 is wrong, `artstore audit accept-stream --stream {stream} --reason REASON` repairs it",
                counted(end.size, "row")
            );
            add(Kind::LogChanged, text);
        }
        if end.last_signature.is_none() {
            add(
                Kind::LogChanged,
                "the log's end has no signature of 32 bytes".to_owned(),
            );
        }
        let signature = end
            .last_signature
            .map(|signature| HEXLOWER.encode(&signature));
        if self.last == end.size && end.size > 0 && self.last_signature != signature {
            let text = "the last row's signature is not the one that the log's end says".to_owned();
            add(Kind::LogChanged, text);
        }
        findings
    }
}
