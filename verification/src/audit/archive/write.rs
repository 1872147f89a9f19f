//! The files of an archive. They are written under a temporary name and renamed when they are whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use artstore_projectors::audit_log::row::{FORMAT, Hash};
use artstore_projectors::audit_log::store::{self, COLUMNS};
use artstore_projectors::audit_log::tile::{Edge, TileId};
use artstore_runtime::crash;
use artstore_runtime::files;
use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};
use data_encoding::{BASE64, HEXLOWER};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::super::rows::UNIT;
use super::{
    ArchivedRow, ArchivedTile, FORM, HEAD, HEAD_BEFORE, MANIFEST, Manifest, ROWS, TILES, digest,
};

/// Tiles that are read at once.
const TILES_AT_ONCE: usize = 256;

/// What is to be archived.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The stream.
    pub stream: String,
    /// The log's name.
    pub origin: String,
    /// The first row.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What the first one is chained to.
    pub signature_before: Hash,
    /// The digest of the archive before it.
    pub previous: Option<String>,
}

/// Writes the archive below `to`; returns its folder. One that is there already stays.
pub async fn write(
    connection: &mut PgConnection,
    to: &Path,
    wanted: &Wanted,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<PathBuf> {
    let name = super::folder(&wanted.stream, wanted.first, wanted.last);
    let folder = to.join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    let part = to.join(format!("{name}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("{}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("{} can't be made", part.display()))?;
    // One moment of the database for all files.
    let mut moment = connection.begin().await?;
    sqlx::raw_sql("set transaction isolation level repeatable read, read only")
        .execute(&mut *moment)
        .await?;
    let mut files = BTreeMap::new();
    let mut out = Out::new(&part, ROWS)?;
    let rows = rows(&mut moment, wanted, &mut out, &mut progress).await?;
    files.insert(ROWS.to_owned(), out.end()?);
    crash::point("audit.archive.rows");
    let mut out = Out::new(&part, TILES)?;
    tiles(&mut moment, wanted, &mut out).await?;
    files.insert(TILES.to_owned(), out.end()?);
    for (name, size) in [(HEAD_BEFORE, wanted.first - 1), (HEAD, wanted.last)] {
        if size > 0 {
            let note = head(&mut moment, &wanted.stream, size).await?;
            let mut out = Out::new(&part, name)?;
            out.put(note.as_bytes())?;
            files.insert(name.to_owned(), out.end()?);
        }
    }
    moment.rollback().await?;
    let manifest = Manifest {
        form: FORM.to_owned(),
        stream: wanted.stream.clone(),
        origin: wanted.origin.clone(),
        first: wanted.first,
        last: wanted.last,
        signature_before: HEXLOWER.encode(&wanted.signature_before),
        last_signature: rows.last_signature,
        oldest: rows.oldest,
        newest: rows.newest,
        previous: wanted.previous.clone(),
        files,
    };
    let mut out = Out::new(&part, MANIFEST)?;
    out.put(format!("{:#}\n", serde_json::to_value(&manifest)?).as_bytes())?;
    out.end()?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, &folder)?;
    files::sync_folder(&folder)?;
    crash::point("audit.archive.written");
    Ok(folder)
}

/// The digest of the archive in a folder: of its manifest.
pub(crate) fn digest_of(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(MANIFEST);
    let bytes = fs::read(&path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(digest(&bytes))
}

struct Rows {
    last_signature: String,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
}

async fn rows(
    connection: &mut PgConnection,
    wanted: &Wanted,
    out: &mut Out,
    progress: &mut impl FnMut(u64),
) -> anyhow::Result<Rows> {
    let Wanted {
        stream,
        first,
        last,
        ..
    } = wanted;
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and stream_sequence between $2 and $3 order by stream_sequence"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(stream)
        .bind(i64::try_from(*first)?)
        .bind(i64::try_from(*last)?)
        .fetch(connection);
    let mut next = *first;
    let mut signature = None;
    let mut times: Option<(i64, i64)> = None;
    while let Some(row) = rows.try_next().await? {
        let stored = store::stored(&row)?;
        let wrong = stored.broken.clone().or_else(|| {
            (stored.format != FORMAT).then(|| format!("it has format {}", stored.format))
        });
        if let Some(wrong) = wrong {
            bail!("row {next} of {stream}: {wrong}; `artstore audit verify` says more");
        }
        ensure!(
            stored.row.sequence == next,
            "row {next} of {stream} is missing: `artstore audit verify` says more"
        );
        let time = stored.row.created_at;
        times = Some(times.map_or((time, time), |(a, b)| (a.min(time), b.max(time))));
        signature = Some(stored.hmac_signature.clone());
        let line = serde_json::to_string(&ArchivedRow {
            row: stored.row,
            id: stored.id,
            kid: stored.kid,
            hmac_signature: stored.hmac_signature,
        })?;
        out.put(line.as_bytes())?;
        out.put(b"\n")?;
        next += 1;
        if next.is_multiple_of(1_000) {
            progress(next - first);
        }
    }
    ensure!(
        next == last + 1,
        "row {next} of {stream} is missing: `artstore audit verify` says more"
    );
    let time = |time| DateTime::from_timestamp_micros(time).context("a time without a date");
    let (oldest, newest) = times.context("an archive has rows")?;
    Ok(Rows {
        last_signature: signature.context("an archive has rows")?,
        oldest: time(oldest)?,
        newest: time(newest)?,
    })
}

/// The left edge, from which the tree continues, and the leaves.
async fn tiles(
    connection: &mut PgConnection,
    wanted: &Wanted,
    out: &mut Out,
) -> anyhow::Result<()> {
    let edge = Edge::places(wanted.first - 1);
    let mut places: Vec<TileId> = edge.iter().map(|(place, _)| *place).collect();
    let leaves = (wanted.first - 1) / UNIT..wanted.last / UNIT;
    places.extend(leaves.map(|index| TileId { level: 0, index }));
    for places in places.chunks(TILES_AT_ONCE) {
        let tiles = store::tiles(connection, &wanted.stream, places).await?;
        for place in places {
            let hashes = tiles.0.get(place).with_context(|| {
                format!(
                    "tile {} of level {} of {} is missing: `artstore audit verify` says more",
                    place.index, place.level, wanted.stream
                )
            })?;
            // Of a tile that has grown since, what it had then.
            let had = edge.iter().find(|(at, _)| at == place);
            let hashes = &hashes[..had.map_or(hashes.len(), |(_, had)| *had).min(hashes.len())];
            let line = serde_json::to_string(&ArchivedTile {
                level: place.level,
                tile: place.index,
                hashes: BASE64.encode(hashes.as_flattened()),
            })?;
            out.put(line.as_bytes())?;
            out.put(b"\n")?;
        }
    }
    Ok(())
}

async fn head(connection: &mut PgConnection, stream: &str, size: u64) -> anyhow::Result<String> {
    let note: Option<String> =
        sqlx::query_scalar("select note from public.audit_heads where stream = $1 and size = $2")
            .bind(stream)
            .bind(i64::try_from(size)?)
            .fetch_optional(connection)
            .await?;
    note.with_context(|| {
        format!("head {size} of {stream} is missing: `artstore audit verify` says more")
    })
}

/// A file that is being written, and its digest.
struct Out {
    path: PathBuf,
    file: BufWriter<File>,
    digest: Context,
}

impl Out {
    fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(name);
        let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            digest: Context::new(&SHA256),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.digest.update(bytes);
        self.file
            .write_all(bytes)
            .with_context(|| format!("{} can't be written", self.path.display()))
    }

    fn end(self) -> anyhow::Result<String> {
        let failed = || format!("{} can't be written", self.path.display());
        let file = self.file.into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all()).with_context(failed)?;
        Ok(HEXLOWER.encode(self.digest.finish().as_ref()))
    }
}
