//! Which files have to be checked one by one. Both sides compute, in the same SQL, a digest of
//! every row. First only their sums are compared, by ranges of ids; then, in the ranges that
//! differ, the digests themselves, page by page. A difference is only a candidate: it may
//! have changed in between.

use std::collections::{HashMap, HashSet};

use artstore_schemas::element::ElementName;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

/// How many ranges of ids there are: one for each value of the first 16 bits.
const BUCKETS: usize = 1 << 16;

/// The most rows of all sides that are in memory at once while a range is read.
const PAGE: usize = 30_000;

/// Beyond so many candidates the rest is left for the next time: each is 16 bytes, and each has to
/// be looked for in the streams.
pub const MOST: usize = 100_000;

/// One side: an element's files, or the cache.
pub struct Side<'a> {
    /// The element; none for the cache.
    pub element: Option<&'a ElementName>,
    /// Its database.
    pub connection: &'a mut PgConnection,
}

/// What a side's rows sum up to, bucket by bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digests: i128,
}

/// What is left to look at.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The files.
    pub files: HashSet<Uuid>,
    /// Rows of all elements.
    pub files_of_elements: u64,
    /// Rows of the cache.
    pub rows: u64,
    /// Whether there were more than [`MOST`].
    pub truncated: bool,
}

/// Finds them. `ignored`: elements whose rows in the cache have nothing to be compared with.
/// `progress` gets how many of how many rows were compared.
pub async fn find(
    elements: &mut [(ElementName, PgConnection)],
    query: &mut PgConnection,
    ignored: &[String],
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> anyhow::Result<Candidates> {
    let mut found = Candidates::default();
    let mut expected = vec![Sum::default(); BUCKETS];
    for (element, connection) in elements.iter_mut() {
        let side = Side {
            element: Some(element),
            connection,
        };
        found.files_of_elements += add_sums(side, ignored, &mut expected).await?;
    }
    let mut sums = vec![Sum::default(); BUCKETS];
    let side = Side {
        element: None,
        connection: query,
    };
    found.rows = add_sums(side, ignored, &mut sums).await?;
    let differing: Vec<usize> = (0..BUCKETS)
        .filter(|bucket| sums[*bucket] != expected[*bucket])
        .collect();
    let rows = |bucket: &usize| sums[*bucket].rows.max(expected[*bucket].rows);
    let total: u64 = differing.iter().map(rows).sum();
    let mut done = 0;
    for (first, last) in ranges(&differing) {
        progress(done, total);
        drill(elements, query, ignored, (first, last), &mut found).await?;
        done += (first..=last).map(|bucket| rows(&bucket)).sum::<u64>();
        if found.truncated {
            break;
        }
    }
    progress(done, total);
    Ok(found)
}

/// Neighbours are read in one go.
fn ranges(buckets: &[usize]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for bucket in buckets {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *bucket => *last = *bucket,
            _ => ranges.push((*bucket, *bucket)),
        }
    }
    ranges
}

/// The digests of a side, as SQL: `id`, `claim`, `digest`.
fn digests(element: Option<&ElementName>) -> String {
    match element {
        Some(element) => {
            include_str!("../sql/element_digests.sql").replace("{element}", element.as_str())
        }
        None => include_str!("../sql/cache_digests.sql").to_owned(),
    }
}

async fn add_sums(side: Side<'_>, ignored: &[String], sums: &mut [Sum]) -> anyhow::Result<u64> {
    // The parameter is the cache's; an element's statement has another use for none.
    let sql = format!(
        "select ('x' || left(d.id, 4))::bit(16)::integer as bucket, count(*) as rows, \
             sum(d.digest)::text as digests \
         from ({}) d where $1::text[] is not null group by 1",
        digests(side.element)
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(ignored)
        .fetch(side.connection);
    let mut total = 0;
    while let Some(row) = rows.try_next().await? {
        let bucket = usize::try_from(row.try_get::<i32, _>("bucket")?)?;
        let count = u64::try_from(row.try_get::<i64, _>("rows")?)?;
        let digests: i128 = row.try_get::<String, _>("digests")?.parse()?;
        let sum = &mut sums[bucket];
        sum.rows += count;
        sum.digests += digests;
        total += count;
    }
    Ok(total)
}

/// A row of a page.
struct Digest {
    id: u128,
    claim: i64,
    digest: i64,
}

async fn drill(
    elements: &mut [(ElementName, PgConnection)],
    query: &mut PgConnection,
    ignored: &[String],
    (first, last): (usize, usize),
    found: &mut Candidates,
) -> anyhow::Result<()> {
    let limit = (PAGE / (elements.len() + 1)).max(1_000);
    let mut from = (first as u128) << 112;
    let end = ((last as u128) << 112) | ((1 << 112) - 1);
    loop {
        let mut page: HashMap<u128, Expected> = HashMap::new();
        let mut files: Vec<(usize, Vec<Digest>)> = Vec::new();
        for (index, (element, connection)) in elements.iter_mut().enumerate() {
            let side = Side {
                element: Some(element),
                connection,
            };
            files.push((index, read_page(side, ignored, from, end, limit).await?));
        }
        let side = Side {
            element: None,
            connection: query,
        };
        let rows = read_page(side, ignored, from, end, limit).await?;
        // A side that was cut shows nothing about what comes after its last row.
        let cut = |page: &Vec<Digest>| (page.len() == limit).then(|| page.last().map(|d| d.id));
        let pages = files.iter().map(|(_, page)| page).chain([&rows]);
        let upto = pages.filter_map(cut).flatten().min().unwrap_or(end);
        for (index, files) in files {
            for file in files.into_iter().filter(|file| file.id <= upto) {
                let new = Expected {
                    claim: (file.claim, elements[index].0.as_str().to_owned()),
                    digest: file.digest,
                };
                match page.get_mut(&file.id) {
                    Some(known) if known.claim > new.claim => {}
                    Some(known) => *known = new,
                    None => {
                        page.insert(file.id, new);
                    }
                }
            }
        }
        for row in rows.into_iter().filter(|row| row.id <= upto) {
            let expected = page.remove(&row.id);
            if expected.is_none_or(|expected| expected.digest != row.digest) {
                found.files.insert(Uuid::from_u128(row.id));
            }
        }
        found.files.extend(page.into_keys().map(Uuid::from_u128));
        if found.files.len() > MOST {
            found.truncated = true;
            return Ok(());
        }
        if upto >= end {
            return Ok(());
        }
        from = upto + 1;
    }
}

/// The file with the highest claim, of all elements that hold it.
struct Expected {
    claim: (i64, String),
    digest: i64,
}

/// The rows from one id to another, in the ids' order, at most `limit`.
async fn read_page(
    side: Side<'_>,
    ignored: &[String],
    from: u128,
    to: u128,
    limit: usize,
) -> anyhow::Result<Vec<Digest>> {
    let digests = digests(side.element);
    // Texts of one form (lower case, hyphens) are in the order of their bytes in every locale.
    let sql = match side.element {
        Some(_) => format!(
            "{digests} where $1::text[] is not null and f.file_id between $2::uuid and $3::uuid \
             order by f.file_id limit $4"
        ),
        None => format!("{digests} and c.id between $2::text and $3::text order by c.id limit $4"),
    };
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(ignored)
        .bind(Uuid::from_u128(from).to_string())
        .bind(Uuid::from_u128(to).to_string())
        .bind(i64::try_from(limit)?)
        .fetch_all(side.connection)
        .await?;
    rows.iter()
        .map(|row| {
            let id: Uuid = row.try_get::<String, _>("id")?.parse()?;
            Ok(Digest {
                id: id.as_u128(),
                claim: row.try_get("claim")?,
                digest: row.try_get("digest")?,
            })
        })
        .collect()
}
