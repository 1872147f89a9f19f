//! The statements. Their text is put together from fixed pieces; every value is bound.
//!
//! Which index serves what, of `file_metadata_cache`:
//!
//! | asked for | index |
//! |---|---|
//! | exact | `filename` |
//! | partial; file name, extension | trigrams of `filename` and of `description` |
//! | fulltext | `search_vector` |
//! | tags, user name, created, size, element | their own |
//! | the same of rows with letters in another form than NFC | those that are partial, over the rest |
//! | a page of many hits | the one of the order, read only as far as the page goes |

use sqlx::{Postgres, QueryBuilder};

use super::cursor::{Cursor, Floor, Key};
use super::hit::COLUMNS;
use super::query::{Mode, Order, Search, Sort};
use super::words::{self, nfc};

/// Hits are counted up to here: counting all of them could mean reading the whole table.
pub const COUNTED: i64 = 10_000;

/// By relevance, so many of the hits are ranked: the newest. Older ones follow by time.
pub const RANKED: i64 = COUNTED;

type Statement = QueryBuilder<Postgres>;

/// The hits of a page and one more, which shows that there is another page.
pub(super) fn page(verb: &'static str, search: &Search, after: Option<&Cursor>) -> Statement {
    let mut sql = Statement::new(verb);
    sql.push("select ").push(COLUMNS).push(", ");
    push_relevance(&mut sql, search);
    if search.sort() == Sort::Relevance && after.is_none() {
        // Only so many are ranked: ranking all hits of a common word is reading the whole table.
        sql.push(" as relevance from (select * ");
        push_hits(&mut sql, search);
        push_newest_first(&mut sql);
        sql.push(" limit ").push_bind(RANKED);
        sql.push(") as cache where true");
    } else {
        sql.push(" as relevance ");
        push_hits(&mut sql, search);
    }
    if let Some(after) = after {
        push_after(&mut sql, search, after);
    }
    let direction = search.order();
    sql.push(" order by ");
    // Every order ends in the id, and all its parts go the same way: a page begins where the one
    // before it ended.
    let mut parts = sql.separated(", ");
    for part in order_columns(search.sort()) {
        parts.push(part).push_unseparated(" ");
        parts.push_unseparated(direction.as_str());
    }
    sql.push(" limit ")
        .push_bind(i64::from(search.page.limit) + 1);
    sql.push(" offset ")
        .push_bind(i64::from(search.page.offset));
    sql
}

/// The oldest of the hits that are ranked; nothing where there are fewer than [`RANKED`].
pub(super) fn floor(verb: &'static str, search: &Search) -> Statement {
    let mut sql = Statement::new(verb);
    sql.push("select cache.created_at, cache.id::text ");
    push_hits(&mut sql, search);
    push_newest_first(&mut sql);
    sql.push(" limit 1 offset ").push_bind(RANKED - 1);
    sql
}

/// Hits older than this position, the newest first: they follow those that are ranked.
pub(super) fn older(search: &Search, than: &Floor, limit: i64, offset: i64) -> Statement {
    let mut sql = Statement::new("select ");
    sql.push(COLUMNS).push(", ");
    push_relevance(&mut sql, search);
    sql.push(" as relevance ");
    push_hits(&mut sql, search);
    sql.push(" and (cache.created_at, cache.id) < (")
        .push_bind(than.created_at);
    sql.push(", ").push_bind(than.id.clone()).push(")");
    push_newest_first(&mut sql);
    sql.push(" limit ").push_bind(limit);
    sql.push(" offset ").push_bind(offset);
    sql
}

/// How many words the text has, and those of them that an index can answer.
pub(super) fn words(search: &Search) -> Statement {
    let mut sql = Statement::new("select numnode(q), querytree(q) from (select ");
    push_words(&mut sql, search);
    sql.push(") as asked (q)");
    sql
}

fn push_hits(sql: &mut Statement, search: &Search) {
    sql.push("from public.file_metadata_cache as cache where true");
    push_conditions(sql, search);
}

fn push_newest_first(sql: &mut Statement) {
    sql.push(" order by cache.created_at desc, cache.id desc");
}

/// The number of hits, counted up to `most` and one.
pub(super) fn count(verb: &'static str, search: &Search, most: i64) -> Statement {
    let mut sql = Statement::new(verb);
    sql.push("select count(*) from (select 1 ");
    push_hits(&mut sql, search);
    // In an order that has an index: where there are many hits, it is read only as far as they
    // are counted.
    sql.push(" order by cache.created_at desc limit ")
        .push_bind(most + 1)
        .push(") as counted");
    sql
}

fn order_columns(sort: Sort) -> &'static [&'static str] {
    match sort {
        Sort::CreatedAt => &["cache.created_at", "cache.id"],
        Sort::UpdatedAt => &["cache.updated_at", "cache.id"],
        Sort::FileSize => &["cache.file_size", "cache.id"],
        Sort::Filename => &["cache.filename", "cache.id"],
        // The column of the page that has this name.
        Sort::Relevance => &["relevance", "cache.created_at", "cache.id"],
    }
}

/// How well a file fits the text.
fn push_relevance(sql: &mut Statement, search: &Search) {
    if !search.has_text() {
        sql.push("null::real");
        return;
    }
    match search.mode {
        Mode::Exact => {
            sql.push("1::real");
        }
        Mode::Partial => {
            let text = escaped(&search.text);
            sql.push("(case when ");
            push_like(sql, "cache.filename", &text);
            sql.push(" then 1 when ");
            push_like(sql, "cache.filename", &format!("{text}%"));
            sql.push(" then 0.75 when ");
            push_like(sql, "cache.filename", &format!("%{text}%"));
            sql.push(" then 0.5 else 0.25 end)::real");
        }
        // Weights of D, C, B, A. One word in the name is worth more than any number of the same
        // in the description, and that more than any in the tags. 32: at most 1.
        // Only the words that must be there: one that must not makes everything equal.
        Mode::Fulltext => {
            sql.push("ts_rank('{0.1, 0.2, 0.4, 1.0}'::real[], cache.search_vector, querytree(");
            push_words(sql, search);
            sql.push(")::tsquery, 32)");
        }
    }
}

fn push_words(sql: &mut Statement, search: &Search) {
    sql.push("(''::tsquery");
    for terms in words::read(&search.text) {
        sql.push(" || (''::tsquery");
        for term in terms {
            let not = if term.negated { "!! " } else { "" };
            sql.push(format!(" && ({not}public.artstore_search_query("));
            sql.push_bind(term.text).push("))");
        }
        sql.push(")");
    }
    sql.push(")");
}

/// Rows hold letters in the form in which they came. Nearly all of them are in NFC, as the question is: the
/// plain column and its index answer for those, an index over the others for the rest.
fn push_either(sql: &mut Statement, column: &str, operator: &str, text: &str) {
    sql.push(format!("({column} {operator} "))
        .push_bind(text.to_owned());
    sql.push(format!(
        " or {column} is not nfc normalized and normalize({column}, NFC) {operator} "
    ));
    sql.push_bind(text.to_owned()).push(")");
}

/// `pattern` is made of [`escaped`] texts.
fn push_like(sql: &mut Statement, column: &str, pattern: &str) {
    push_either(sql, column, "ilike", pattern);
}

fn push_equal(sql: &mut Statement, column: &str, text: &str) {
    push_either(sql, column, "=", &nfc(text));
}

fn push_conditions(sql: &mut Statement, search: &Search) {
    if search.has_text() {
        match search.mode {
            Mode::Exact => {
                sql.push(" and ");
                push_equal(sql, "cache.filename", &search.text);
            }
            Mode::Partial => {
                let pattern = format!("%{}%", escaped(&search.text));
                sql.push(" and (");
                push_like(sql, "cache.filename", &pattern);
                sql.push(" or ");
                push_like(sql, "cache.description", &pattern);
                sql.push(")");
            }
            Mode::Fulltext => {
                sql.push(" and cache.search_vector @@ ");
                push_words(sql, search);
            }
        }
    }
    let filters = &search.filters;
    if let Some(name) = &filters.filename {
        sql.push(" and ");
        push_like(sql, "cache.filename", &format!("%{}%", escaped(name)));
    }
    if let Some(extension) = filters.bare_extension() {
        sql.push(" and ");
        push_like(sql, "cache.filename", &format!("%.{}", escaped(extension)));
    }
    if !filters.tags.is_empty() {
        let tags: Vec<String> = filters.tags.iter().map(|tag| nfc(tag)).collect();
        // Of the column's own type, without its length: that would cut a tag.
        sql.push(" and (cache.tags && ")
            .push_bind(tags.clone())
            .push("::text[]::varchar[]");
        // As in `push_either`.
        sql.push(
            " or public.artstore_nfc(cache.tags::text[]) <> cache.tags::text[] \
             and public.artstore_nfc(cache.tags::text[]) && ",
        );
        sql.push_bind(tags).push("::text[])");
    }
    if let Some(username) = &filters.username {
        sql.push(" and ");
        push_equal(sql, "cache.username", username);
    }
    if let Some(size) = filters.min_size {
        sql.push(" and cache.file_size >= ").push_bind(size);
    }
    if let Some(size) = filters.max_size {
        sql.push(" and cache.file_size <= ").push_bind(size);
    }
    if let Some(from) = filters.created_from {
        sql.push(" and cache.created_at >= ").push_bind(from);
    }
    if let Some(to) = filters.created_to {
        sql.push(" and cache.created_at <= ").push_bind(to);
    }
    if let Some(element) = &filters.storage_element {
        sql.push(" and cache.storage_element_id = ")
            .push_bind(element.clone());
    }
}

/// Only what comes after this position.
fn push_after(sql: &mut Statement, search: &Search, after: &Cursor) {
    let compared = match search.order() {
        Order::Ascending => ") > (",
        Order::Descending => ") < (",
    };
    sql.push(" and (");
    match &after.key {
        // Nothing is left of those that are ranked.
        Key::Older(_) => {
            sql.push("false)");
            return;
        }
        Key::CreatedAt(at) => {
            sql.push("cache.created_at, cache.id").push(compared);
            sql.push_bind(*at);
        }
        Key::UpdatedAt(at) => {
            sql.push("cache.updated_at, cache.id").push(compared);
            sql.push_bind(*at);
        }
        Key::FileSize(size) => {
            sql.push("cache.file_size, cache.id").push(compared);
            sql.push_bind(*size);
        }
        Key::Filename(name) => {
            sql.push("cache.filename, cache.id").push(compared);
            sql.push_bind(name.clone());
        }
        Key::Relevance(bits, created_at, floor) => {
            if let Some(floor) = floor {
                sql.push("cache.created_at, cache.id) >= (")
                    .push_bind(floor.created_at);
                sql.push(", ").push_bind(floor.id.clone());
                sql.push(") and (");
            }
            push_relevance(sql, search);
            sql.push(", cache.created_at, cache.id").push(compared);
            sql.push_bind(f32::from_bits(*bits));
            sql.push(", ").push_bind(*created_at);
        }
    }
    sql.push(", ").push_bind(after.id.clone()).push(")");
}

/// A text in NFC that stands for itself in a pattern.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in nfc(text).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::filters::Filters;

    #[test]
    fn nothing_that_is_given_stands_in_the_statement() {
        let given = "x'; drop table y; --";
        for mode in [Mode::Exact, Mode::Partial, Mode::Fulltext] {
            let mut search = Search::new(given, mode);
            search.filters = Filters {
                filename: Some(given.to_owned()),
                extension: Some(given.to_owned()),
                tags: vec![given.to_owned()],
                username: Some(given.to_owned()),
                storage_element: Some(given.to_owned()),
                ..Filters::default()
            };
            for statement in [page("", &search, None), count("", &search, 1)] {
                let text = statement.into_string();
                assert!(!text.contains("drop"), "{text}");
            }
        }
    }

    #[test]
    fn wildcards_stand_for_themselves() {
        assert_eq!(escaped(r"50%_a\b"), r"50\%\_a\\b");
    }
}
