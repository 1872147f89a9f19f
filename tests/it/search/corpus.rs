//! A thousand files in two languages, the same in every run, and a naive reader of them: what the
//! documentation states, in a few lines without a database.

use artstore_projectors::search::query::{Mode, Order, Search, Sort};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::execute;

pub const FILES: usize = 1_000;

/// Words by their stem: all forms in a line are one word to a search.
pub const WORDS: [&[&str]; 16] = [
    &["report", "reports", "reported"],
    &["invoice", "invoices"],
    &["contract", "contracts"],
    &["drawing", "drawings"],
    &["budget", "budgets"],
    &["letter", "letters"],
    &["project", "projects"],
    &["archive", "archives", "archived"],
    &["договор", "договоры", "договоров"],
    &["письмо", "письма", "письмом"],
    &["чертеж", "чертежи", "чертежей"],
    &["бюджет", "бюджета", "бюджетом"],
    &["отчёт", "отчёты", "отчётов"],
    &["фотография", "фотографии", "фотографий"],
    &["проект", "проекты", "проектов"],
    &["схема", "схемы", "схемой"],
];
const EXTENSIONS: [&str; 5] = ["pdf", "PDF", "docx", "tar.gz", "txt"];
const USERS: [&str; 5] = ["ivanova", "Ivanova", "petrov", "ann", "o'hara"];
const TAGS: [&str; 6] = ["urgent", "Urgent", "срочно", "2026", "a,b", "say \"hi\""];
const ELEMENTS: [&str; 3] = ["storage_elem_01", "storage_elem_02", "storage_elem_10"];
const JOINTS: [&str; 5] = ["_", " ", "-", "%", "\\"];

#[derive(Debug, Clone)]
pub struct TestFile {
    pub id: String,
    pub filename: String,
    pub size: i64,
    pub username: String,
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
    pub element: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

impl TestFile {
    pub fn named(number: u32, filename: &str) -> Self {
        let at = start() + TimeDelta::minutes(i64::from(number));
        Self {
            id: Uuid::from_u128(u128::from(number) << 64).to_string(),
            filename: filename.to_owned(),
            size: 5,
            username: "ann".to_owned(),
            tags: None,
            description: None,
            element: "storage_elem_01".to_owned(),
            created_at: at,
            updated_at: at,
        }
    }

    /// As the product's own services write it: with an explicit NULL vector, which a trigger fills.
    pub async fn insert(&self, connection: &mut PgConnection) {
        sqlx::query(
            "insert into file_metadata_cache (id, filename, storage_filename, file_size, \
                 mime_type, sha256_hash, username, tags, description, storage_element_id, \
                 storage_element_url, created_at, updated_at, search_vector) \
             values ($1, $2, $1, $3, 'text/plain', $4, $5, $6::text[]::varchar[], $7, $8, \
                 'http://element', $9, $10, null)",
        )
        .bind(&self.id)
        .bind(&self.filename)
        .bind(self.size)
        .bind("c".repeat(64))
        .bind(&self.username)
        .bind(&self.tags)
        .bind(&self.description)
        .bind(&self.element)
        .bind(self.created_at)
        .bind(self.updated_at)
        .execute(connection)
        .await
        .unwrap();
    }
}

/// The files. Equal times, sizes and names are common, so that the id has to decide.
pub fn files() -> Vec<TestFile> {
    let mut random = StdRng::seed_from_u64(20_260_101);
    (0..FILES).map(|_| file(&mut random)).collect()
}

fn file(random: &mut StdRng) -> TestFile {
    let word = |random: &mut StdRng| *WORDS.choose(random).unwrap().choose(random).unwrap();
    let title = |random: &mut StdRng| {
        let word = word(random);
        match random.random_range(0..4) {
            0 => word.to_uppercase(),
            1 => word
                .chars()
                .take(1)
                .flat_map(char::to_uppercase)
                .chain(word.chars().skip(1))
                .collect(),
            _ => word.to_owned(),
        }
    };
    let joint = *JOINTS.choose(random).unwrap();
    let (one, two) = (title(random), title(random));
    let number = random.random_range(0..50);
    let extension = *EXTENSIONS.choose(random).unwrap();
    let description = (random.random_range(0..4) > 0).then(|| {
        let words: Vec<&str> = (0..random.random_range(1..6))
            .map(|_| word(random))
            .collect();
        format!("{} ({number}% done)", words.join(", "))
    });
    let one_more = word(random);
    let tags = match random.random_range(0..4) {
        0 => None,
        count => {
            let tags = (1..count).map(|_| *TAGS.choose(random).unwrap());
            let more = (count == 3).then_some(one_more);
            Some(tags.chain(more).map(str::to_owned).collect())
        }
    };
    let created_at = start() + TimeDelta::hours(random.random_range(0..300));
    TestFile {
        id: Uuid::from_u128(random.random()).to_string(),
        filename: format!("{one}{joint}{two}{joint}{number}.{extension}"),
        size: 1_i64 << random.random_range(0..34),
        username: (*USERS.choose(random).unwrap()).to_owned(),
        tags,
        description,
        element: (*ELEMENTS.choose(random).unwrap()).to_owned(),
        created_at,
        updated_at: created_at + TimeDelta::hours(random.random_range(0..50)),
    }
}

pub async fn insert(connection: &mut PgConnection, files: &[TestFile]) {
    let mut transaction = connection.begin().await.unwrap();
    for file in files {
        file.insert(&mut transaction).await;
    }
    transaction.commit().await.unwrap();
    execute(connection, "analyze file_metadata_cache").await;
}

/// Which words a text holds, by the number of their line.
fn stems(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter_map(|word| {
            let word = word.to_lowercase();
            WORDS
                .iter()
                .position(|forms| forms.contains(&word.as_str()))
        })
        .collect()
}

fn holds(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// Whether a file is an answer.
pub fn answers(file: &TestFile, question: &Search) -> bool {
    let text = question.text.as_str();
    let description = file.description.as_deref().unwrap_or_default();
    let tags = file.tags.clone().unwrap_or_default();
    let found = text.is_empty()
        || match question.mode {
            Mode::Exact => file.filename == text,
            Mode::Partial => holds(&file.filename, text) || holds(description, text),
            Mode::Fulltext => {
                let all = format!("{} {description} {}", file.filename, tags.join(" "));
                let there = stems(&all);
                stems(text).iter().all(|stem| there.contains(stem))
            }
        };
    let filters = &question.filters;
    let name = file.filename.to_lowercase();
    found
        && filters
            .filename
            .as_ref()
            .is_none_or(|part| holds(&file.filename, part))
        && filters.extension.as_ref().is_none_or(|extension| {
            name.ends_with(&format!(
                ".{}",
                extension.trim_start_matches('.').to_lowercase()
            ))
        })
        && (filters.tags.is_empty() || filters.tags.iter().any(|tag| tags.contains(tag)))
        && filters
            .username
            .as_ref()
            .is_none_or(|user| *user == file.username)
        && filters.min_size.is_none_or(|size| file.size >= size)
        && filters.max_size.is_none_or(|size| file.size <= size)
        && filters.created_from.is_none_or(|at| file.created_at >= at)
        && filters.created_to.is_none_or(|at| file.created_at <= at)
        && filters
            .storage_element
            .as_ref()
            .is_none_or(|element| *element == file.element)
}

/// How well a file fits a partial search: the steps that the documentation names.
pub fn partial_relevance(file: &TestFile, text: &str) -> f32 {
    let (name, text) = (file.filename.to_lowercase(), text.to_lowercase());
    if name == text {
        1.0
    } else if name.starts_with(&text) {
        0.75
    } else if name.contains(&text) {
        0.5
    } else {
        0.25
    }
}

/// Sorts as the question asks. `relevance` is asked for each file only if the question does.
pub fn order(files: &mut [TestFile], question: &Search, relevance: impl Fn(&TestFile) -> f32) {
    files.sort_by(|a, b| {
        let by_time = || a.created_at.cmp(&b.created_at);
        let order = match question.sort {
            Sort::CreatedAt => by_time(),
            Sort::UpdatedAt => a.updated_at.cmp(&b.updated_at),
            Sort::FileSize => a.size.cmp(&b.size),
            // The test's database compares bytes.
            Sort::Filename => a.filename.cmp(&b.filename),
            Sort::Relevance => relevance(a).total_cmp(&relevance(b)).then_with(by_time),
        };
        let order = order.then_with(|| a.id.cmp(&b.id));
        match question.order() {
            Order::Ascending => order,
            Order::Descending => order.reverse(),
        }
    });
}
