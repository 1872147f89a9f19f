//! The file that a smoke test sends through the system: its changes on the element, each through
//! the publishers' API, and how the cache shows it. It remembers what may have to be undone.

use anyhow::Context as _;
use artstore_producers::publish::files::{self, FileUpdate, NewFile};
use artstore_producers::publish::publish_error::PublishError;
use artstore_producers::publish::wal::{self, Begin, OperationType, PendingOperation};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

/// SHA-256 of nothing: the file has no content.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A file that nobody else knows, with words that stand nowhere else.
pub(super) struct SmokeFile {
    element: ElementName,
    new: NewFile,
    word: String,
    description: String,
    /// Opened, and perhaps not finished.
    pending: Option<PendingOperation>,
}

/// A finished operation.
pub(super) struct Finished {
    pub(super) id: Uuid,
    pub(super) position: i64,
}

impl SmokeFile {
    pub(super) fn new(element: ElementName) -> Self {
        let id = Uuid::new_v4();
        let word = format!("smoke{}", id.simple());
        let description = format!("Проверки системы, {word}");
        Self {
            new: NewFile {
                id,
                original_filename: "artstore smoke test.txt".to_owned(),
                storage_filename: format!("artstore-smoke-test_{id}.txt"),
                storage_path: "artstore-smoke-test".to_owned(),
                file_size: 0,
                content_type: "text/plain".to_owned(),
                checksum: EMPTY.to_owned(),
                created_by_id: "artstore".to_owned(),
                created_by_username: "artstore".to_owned(),
                created_by_fullname: None,
                description: Some(description.clone()),
                version: None,
                metadata: None,
            },
            element,
            word,
            description,
            pending: None,
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.new.id
    }

    /// As it was written last.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// Words that find it: one that only it has, and one in another form than it was written in.
    pub(super) fn words(&self) -> String {
        format!("проверка {}", self.word)
    }

    pub(super) async fn create(&mut self, source: &mut PgConnection) -> anyhow::Result<Finished> {
        self.change(source, OperationType::FileCreate).await
    }

    pub(super) async fn update(&mut self, source: &mut PgConnection) -> anyhow::Result<Finished> {
        self.word = format!("again{}", self.new.id.simple());
        self.description = format!("Изменено для проверки, {}", self.word);
        self.change(source, OperationType::FileUpdate).await
    }

    pub(super) async fn delete(&mut self, source: &mut PgConnection) -> anyhow::Result<Finished> {
        self.change(source, OperationType::FileDelete).await
    }

    async fn change(
        &mut self,
        source: &mut PgConnection,
        kind: OperationType,
    ) -> anyhow::Result<Finished> {
        let begin = Begin {
            kind,
            file_id: Some(self.new.id),
            request_id: Some("artstore migrate smoke".to_owned()),
            data: None,
        };
        let actor = Actor::system().named("artstore migrate smoke");
        let operation = wal::begin(source, &self.element, actor, begin).await?;
        self.pending = Some(operation.clone());
        let mut tx = source.begin().await?;
        let row = match kind {
            OperationType::FileCreate => {
                Some(files::insert(&mut tx, &self.element, &self.new).await?)
            }
            OperationType::FileUpdate => {
                let change = FileUpdate {
                    description: Some(self.description.clone()),
                    ..FileUpdate::default()
                };
                files::update(&mut tx, &self.element, self.new.id, &change).await?
            }
            OperationType::FileDelete
            | OperationType::ModeChange
            | OperationType::CacheRebuild
            | OperationType::WalPrune => {
                files::delete(&mut tx, &self.element, self.new.id).await?;
                None
            }
        };
        let position = operation.commit(&mut tx, row).await?;
        // Whether this was kept is not known when it fails: the clean-up looks.
        tx.commit().await?;
        self.pending = None;
        Ok(Finished {
            id: operation.id(),
            position,
        })
    }

    /// Whether the element still has it.
    pub(super) async fn exists(&self, source: &mut PgConnection) -> anyhow::Result<bool> {
        let sql = format!(
            "select exists (select from public.{}_files where file_id = $1)",
            self.element
        );
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(self.new.id);
        Ok(found.fetch_one(source).await?)
    }

    /// Its description in the cache; none where it is not there.
    pub(super) async fn cached(&self, query: &mut PgConnection) -> anyhow::Result<Option<String>> {
        let sql = "select coalesce(description, '') from public.file_metadata_cache where id = $1";
        let found = sqlx::query_scalar(sql).bind(self.new.id.to_string());
        Ok(found.fetch_optional(query).await?)
    }

    /// Whether these words find it, and only it.
    pub(super) async fn is_found_by(
        &self,
        query: &mut PgConnection,
        words: &str,
    ) -> anyhow::Result<bool> {
        let sql = "select id::text from public.file_metadata_cache \
                   where search_vector @@ websearch_to_tsquery('pg_catalog.russian', $1) limit 2";
        let found: Vec<String> = sqlx::query_scalar(sql).bind(words).fetch_all(query).await?;
        Ok(found == [self.new.id.to_string()])
    }

    /// Leaves neither a pending operation nor the file. What it removes is an operation like any
    /// other, so the cache follows.
    pub(super) async fn clean_up(&mut self, source: &mut PgConnection) -> anyhow::Result<()> {
        if let Some(operation) = self.pending.take() {
            let rolled_back = operation
                .roll_back(source, "the smoke test was broken off")
                .await;
            match rolled_back {
                // Its commit was kept, though nobody heard of it.
                Ok(_) | Err(PublishError::NotPending { .. }) => {}
                Err(error) => return Err(error).context("an operation stays pending"),
            }
        }
        if self.exists(source).await? {
            self.delete(source).await?;
        }
        Ok(())
    }
}
