//! The demo's publishers: real files become an element's files, through the publishers' API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use artstore_producers::publish::files::{self, FileUpdate, NewFile};
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_runtime::connection;
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::event::File;
use artstore_schemas::source::Source;
use aws_lc_rs::digest::{SHA256, digest};
use indicatif::ProgressBar;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::system::System;

/// How many publishers write at the same time.
const PUBLISHERS: usize = 4;

/// A file on disk.
#[derive(Debug, Clone)]
pub struct RealFile {
    path: String,
    name: String,
    size: i64,
    sha256: String,
    content_type: &'static str,
}

/// Finds the files under a folder, without hidden ones and build output.
pub(crate) fn find_files(root: &Path) -> anyhow::Result<Vec<RealFile>> {
    const MOST_FILES: usize = 20_000;
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("folder {} can't be read", folder.display()))?;
        let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if name.starts_with('.') || (kind.is_dir() && name == "target") {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && files.len() < MOST_FILES {
                files.push(read(root, entry.path(), name)?);
            }
        }
    }
    anyhow::ensure!(
        !files.is_empty(),
        "there are no files under {}: choose another --path",
        root.display()
    );
    Ok(files)
}

fn read(root: &Path, path: PathBuf, name: String) -> anyhow::Result<RealFile> {
    let content =
        std::fs::read(&path).with_context(|| format!("file {} can't be read", path.display()))?;
    let sha256 = digest(&SHA256, &content)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let shown = path.strip_prefix(root).unwrap_or(&path);
    Ok(RealFile {
        path: shown.display().to_string(),
        size: i64::try_from(content.len())?,
        sha256,
        content_type: content_type(&name),
        name,
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("rs" | "sql" | "sh" | "txt" | "lock") => "text/plain",
        Some("md") => "text/markdown",
        Some("json") => "application/json",
        Some("toml") => "application/toml",
        Some("yaml" | "yml") => "application/yaml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("pdf") => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Finishes exactly `events` operations.
pub async fn run(
    system: &System,
    files: &[RealFile],
    events: u64,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(events));
    let next = Arc::new(AtomicU64::new(0));
    let files: Arc<[RealFile]> = files.into();
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let mut publisher = Publisher::new(system, &left, bar).await?;
        let (files, next) = (Arc::clone(&files), Arc::clone(&next));
        publishers.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let file = &files[usize::try_from(turn)? % files.len()];
                if !publisher.life(turn, file).await? {
                    return anyhow::Ok(());
                }
            }
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    Ok(())
}

struct Publisher {
    elements: Vec<(ElementName, PgConnection)>,
    query: PgConnection,
    left: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Publisher {
    async fn new(
        system: &System,
        left: &Arc<AtomicU64>,
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let mut elements = Vec::new();
        for element in &system.elements {
            let source = Source::Element(element.clone());
            elements.push((
                element.clone(),
                connection::open(&system.source_database(&source)?).await?,
            ));
        }
        Ok(Self {
            elements,
            query: connection::open(&system.query_database()?).await?,
            left: Arc::clone(left),
            bar: bar.clone(),
        })
    }

    /// Takes one of the operations that are left; false when there is none.
    fn take(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        self.bar.inc(u64::from(taken.is_ok()));
        taken.is_ok()
    }

    /// One file's life: created, and then whatever its turn brings. False when no operation is
    /// left.
    async fn life(&mut self, turn: u64, real: &RealFile) -> anyhow::Result<bool> {
        let actor = Actor::user((turn % 7 + 1).to_string()).named(format!("user{}", turn % 7 + 1));
        let mut file = new_file(real, turn);
        if !self.take() {
            return Ok(false);
        }
        self.create(0, &file, &actor).await?;
        if turn.is_multiple_of(2) {
            if !self.take() {
                return Ok(false);
            }
            self.update(0, file.id, turn, &actor).await?;
        }
        if turn % 5 == 1 {
            if !self.take() {
                return Ok(false);
            }
            self.not_committed(0, file.id, &actor, turn.is_multiple_of(2))
                .await?;
        }
        if turn % 3 == 1 {
            // A move: created on the other element, then deleted here.
            file.storage_filename = format!("moved_{}", file.storage_filename);
            if !self.take() {
                return Ok(false);
            }
            self.create(1, &file, &actor).await?;
            if !self.take() {
                return Ok(false);
            }
            self.delete(0, file.id, &actor).await?;
        } else if turn % 7 == 3 {
            if !self.take() {
                return Ok(false);
            }
            self.delete(0, file.id, &actor).await?;
        }
        if turn.is_multiple_of(4) {
            if !self.take() {
                return Ok(false);
            }
            self.search(real, &actor).await?;
        }
        if turn % 4 == 2 {
            if !self.take() {
                return Ok(false);
            }
            self.download(file.id, real, &actor).await?;
        }
        Ok(true)
    }

    async fn create(&mut self, on: usize, file: &NewFile, actor: &Actor) -> anyhow::Result<()> {
        let (element, connection) = &mut self.elements[on];
        let begin = begin(OperationType::FileCreate, file.id);
        let operation = wal::begin(connection, element, actor.clone(), begin).await?;
        let mut transaction = connection.begin().await?;
        let row: File = files::insert(&mut transaction, element, file).await?;
        operation.commit(&mut transaction, Some(row)).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn update(
        &mut self,
        on: usize,
        id: Uuid,
        turn: u64,
        actor: &Actor,
    ) -> anyhow::Result<()> {
        let (element, connection) = &mut self.elements[on];
        let begin = begin(OperationType::FileUpdate, id);
        let operation = wal::begin(connection, element, actor.clone(), begin).await?;
        let change = FileUpdate {
            description: Some(format!("reviewed in turn {turn}; проверено")),
            version: Some("2".to_owned()),
            ..FileUpdate::default()
        };
        let mut transaction = connection.begin().await?;
        let row = files::update(&mut transaction, element, id, &change).await?;
        operation.commit(&mut transaction, row).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn delete(&mut self, on: usize, id: Uuid, actor: &Actor) -> anyhow::Result<()> {
        let (element, connection) = &mut self.elements[on];
        let begin = begin(OperationType::FileDelete, id);
        let operation = wal::begin(connection, element, actor.clone(), begin).await?;
        let mut transaction = connection.begin().await?;
        files::delete(&mut transaction, element, id).await?;
        operation.commit(&mut transaction, None).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn not_committed(
        &mut self,
        on: usize,
        id: Uuid,
        actor: &Actor,
        failed: bool,
    ) -> anyhow::Result<()> {
        let (element, connection) = &mut self.elements[on];
        let begin = begin(OperationType::FileUpdate, id);
        let operation = wal::begin(connection, element, actor.clone(), begin).await?;
        let mut transaction = connection.begin().await?;
        if failed {
            operation
                .fail(&mut transaction, "the disk was full")
                .await?;
        } else {
            operation
                .roll_back(&mut transaction, "the caller went away")
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn search(&mut self, real: &RealFile, actor: &Actor) -> anyhow::Result<()> {
        let data = json!({
            "query_text": real.name,
            "search_mode": "fulltext",
            "results_count": 1,
            "response_time_ms": 3,
        });
        let event = outbox_event("search", "performed", None, data);
        outbox::insert(&mut self.query, actor, &event).await?;
        Ok(())
    }

    async fn download(&mut self, id: Uuid, real: &RealFile, actor: &Actor) -> anyhow::Result<()> {
        let data = json!({
            "file_id": id,
            "bytes_transferred": real.size,
            "download_time_ms": 12,
            "storage_element_id": self.elements[0].0,
        });
        let event = outbox_event("file", "downloaded", Some(id), data);
        outbox::insert(&mut self.query, actor, &event).await?;
        Ok(())
    }
}

fn new_file(real: &RealFile, turn: u64) -> NewFile {
    let id = Uuid::new_v4();
    NewFile {
        id,
        original_filename: real.name.clone(),
        storage_filename: format!("{id}_{}", real.name),
        storage_path: real.path.clone(),
        file_size: real.size,
        content_type: real.content_type.to_owned(),
        checksum: real.sha256.clone(),
        created_by_id: (turn % 7 + 1).to_string(),
        created_by_username: format!("user{}", turn % 7 + 1),
        created_by_fullname: None,
        description: Some(format!("{} of the project; файл проекта", real.path)),
        version: None,
        metadata: Some(json!({"tags": ["demo", real.content_type], "turn": turn})),
    }
}

fn begin(kind: OperationType, file_id: Uuid) -> Begin {
    Begin {
        kind,
        file_id: Some(file_id),
        request_id: None,
        data: None,
    }
}

fn outbox_event(
    entity: &str,
    action: &str,
    key: Option<Uuid>,
    data: serde_json::Value,
) -> OutboxInsert {
    OutboxInsert {
        entity: entity.to_owned(),
        action: action.to_owned(),
        ordering_key: key,
        subject: key.map(|key| key.to_string()),
        data,
        request_id: None,
        traceparent: None,
    }
}
