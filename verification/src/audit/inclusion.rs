//! The proof that a row of the table is under a signed head, from the stored tree.

use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::proof::Proof;
use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store;
use artstore_projectors::audit_log::tile::Wanted;
use artstore_projectors::audit_log::tree;
use sqlx::PgConnection;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// Too new.
    #[error(
        "it has no signed head yet: a running projector signs one within SECURITY_AUDIT_HEAD_SECONDS"
    )]
    NoHead,
    /// The stored tree has holes.
    #[error("the stored tree has not all hashes that the proof needs: artstore audit verify")]
    NoHashes,
    /// The hashes do not lead to the head.
    #[error(
        "it is not the one that was signed, or the stored tree is not: there is no proof of it; \
         `artstore audit verify` says which"
    )]
    NotSigned,
    /// The database.
    #[error("{}", artstore_runtime::words::words(.0))]
    Database(#[from] sqlx::Error),
}

/// Makes the proof, under the last head. Whose key the head is signed with, is the reader's to
/// check.
pub async fn proof(connection: &mut PgConnection, row: &Row) -> Result<Proof, NoProof> {
    let index = row.sequence.checked_sub(1).ok_or(NoProof::NotSigned)?;
    let note: Option<(i64, String)> = sqlx::query_as(
        "select size, note from public.audit_heads where stream = $1 and size >= $2 \
         order by size desc limit 1",
    )
    .bind(&row.stream)
    .bind(i64::try_from(row.sequence).unwrap_or(i64::MAX))
    .fetch_optional(&mut *connection)
    .await?;
    let (size, head) = note.ok_or(NoProof::NoHead)?;
    let size = u64::try_from(size).unwrap_or(0);
    let wanted = Wanted::default();
    tree::inclusion(&wanted, index, size);
    let tiles = store::tiles(connection, &row.stream, &wanted.places()).await?;
    let hashes = tree::inclusion(&tiles, index, size).ok_or(NoProof::NoHashes)?;
    let text = head.split("\n\n").next().unwrap_or_default();
    let root = Head::parse(&format!("{text}\n")).map(|head| head.root);
    let included =
        root.is_ok_and(|root| tree::is_included(index, size, &row.leaf(), &hashes, &root));
    if !included {
        return Err(NoProof::NotSigned);
    }
    Ok(Proof {
        row: row.bytes(),
        index,
        hashes,
        head,
    })
}
