//! Where a session starts to sign: the end of a stream's log, proven to follow from the last published head.
//! Tables state where the log ends, and whoever can write them can make them state anything. So the tree
//! must have the root that was published, and the rows after that head must be chained to it by the secret.
//! From then on a session keeps the end in memory, and signs nothing else.

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use super::chain::{Keyring, origin_hash};
use super::head::{Boundary, Head};
use super::row::Hash;
use super::store::{self, COLUMNS, Tip};
use super::tile::Edge;

/// The end of a log, as this session knows it.
#[derive(Debug, Clone)]
pub struct End {
    /// How far it has come.
    pub tip: Tip,
    /// The edge of its tree.
    pub edge: Edge,
    /// What lies below it.
    pub legacy: Boundary,
}

impl End {
    /// The head of everything.
    pub fn head(&self) -> Head {
        Head {
            origin: self.tip.origin.clone(),
            size: self.edge.size(),
            root: self.edge.root(),
            legacy: self.legacy,
        }
    }
}

/// Why a log can't be continued.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The database failed.
    #[error("{}", artstore_runtime::words::words(.0))]
    Database(#[from] sqlx::Error),
    /// What the tables state was not signed.
    #[error("{0}")]
    Unsigned(String),
}

fn unsigned<T>(reason: String) -> Result<T, ResumeError> {
    Err(ResumeError::Unsigned(reason))
}

/// Shows that the log that ends at `tip` follows from `published`, the last head on the bus that is not
/// larger; none: from nothing. Reads the rows after that head, one at a time, as of one moment: the
/// caller's transaction has one snapshot.
pub async fn end(
    connection: &mut PgConnection,
    stream: &str,
    ring: &Keyring,
    tip: Tip,
    legacy: Boundary,
    published: Option<&Head>,
) -> Result<End, ResumeError> {
    let from = published.map_or(0, |head| head.size);
    let mut edge = stored_edge(connection, stream, from).await?;
    if let Some(head) = published
        && edge.root() != head.root
    {
        return unsigned(format!(
            "its first {from} rows are not those that the head on the bus was signed for: the log was \
             changed or has forked"
        ));
    }
    let last = match from {
        0 => origin_hash(&tip.origin),
        // Everything is published: nothing of it has to be followed.
        _ if from == tip.size => tip.last_signature,
        _ => signature_at(connection, stream, from).await?,
    };
    let last = follow(connection, stream, ring, &mut edge, last).await?;
    if edge.size() != tip.size || last != tip.last_signature {
        return unsigned(format!(
            "it says that it ends with row {}, but the rows that are chained to the last published head \
             end with row {}",
            tip.size,
            edge.size()
        ));
    }
    if stored_edge(connection, stream, tip.size).await?.root() != edge.root() {
        return unsigned("its stored tree is not that of its rows".to_owned());
    }
    Ok(End { tip, edge, legacy })
}

/// Adds the leaves of the rows after the edge, as far as there are any; each must be signed behind the
/// one before it. The last one's signature.
async fn follow(
    connection: &mut PgConnection,
    stream: &str,
    ring: &Keyring,
    edge: &mut Edge,
    mut last: Hash,
) -> Result<Hash, ResumeError> {
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and stream_sequence > $2 order by stream_sequence, id"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(stream)
        .bind(store::signed(edge.size()))
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let stored = store::stored(&row)?;
        let sequence = edge.size() + 1;
        if stored.row.sequence != sequence {
            return unsigned(format!("row {sequence} is missing or there twice"));
        }
        if let Some(problem) = &stored.broken {
            return unsigned(format!("row {sequence} was changed: {problem}"));
        }
        let Some(key) = ring.get(&stored.kid) else {
            return unsigned(format!(
                "row {sequence} was signed with the secret {}, which is neither the one in use nor one \
                 of SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH: add it there",
                stored.kid
            ));
        };
        let leaf = stored.row.leaf();
        last = key.sign(&last, &leaf);
        if data_encoding::HEXLOWER.encode(&last) != stored.hmac_signature {
            return unsigned(format!(
                "row {sequence} is not the one that was signed behind row {}",
                sequence - 1
            ));
        }
        edge.append(&[leaf]);
    }
    Ok(last)
}

/// The signature of a row that must be there.
async fn signature_at(
    connection: &mut PgConnection,
    stream: &str,
    sequence: u64,
) -> Result<Hash, ResumeError> {
    let text: Option<String> = sqlx::query_scalar(
        "select hmac_signature from public.audit_logs where stream = $1 and stream_sequence = $2",
    )
    .bind(stream)
    .bind(store::signed(sequence))
    .fetch_optional(connection)
    .await?;
    let bytes = text.and_then(|text| data_encoding::HEXLOWER.decode(text.as_bytes()).ok());
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(signature) => Ok(signature),
        None => unsigned(format!(
            "row {sequence}, the last one under the published head, is missing"
        )),
    }
}

/// The edge as the stored tiles have it.
async fn stored_edge(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Edge, ResumeError> {
    let places: Vec<_> = Edge::places(size)
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    let tiles = store::tiles(connection, stream, &places).await?;
    Edge::of(size, &tiles).or_else(|error| unsigned(error.to_string()))
}
