//! Publishers that write through the publishers' API until they are stopped: files are
//! created, updated, moved to another element, deleted; some operations fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artstore_producers::publish::files::{self, FileUpdate, NewFile};
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_producers::publish::publish_error::PublishError;
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

/// Running publishers.
pub struct Load {
    stop: Arc<AtomicBool>,
    publishers: JoinSet<()>,
}

impl Load {
    /// Starts publishers. With `through_outages`, an error is taken for an outage and tried again.
    pub fn start(world: &World, publishers: usize, through_outages: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for _ in 0..publishers {
            let elements = world.elements.clone();
            let query = world.query_url.clone();
            let stop = Arc::clone(&stop);
            set.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = publish(&elements, &query, &stop).await {
                        assert!(through_outages, "{error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            });
        }
        Self {
            stop,
            publishers: set,
        }
    }

    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
    }
}

async fn publish(
    elements: &[(ElementName, String)],
    query_url: &str,
    stop: &AtomicBool,
) -> Result<(), PublishError> {
    let mut connections = Vec::new();
    for (name, url) in elements {
        connections.push((name.clone(), try_pg(url).await?));
    }
    let mut query = try_pg(query_url).await?;
    let mut turn: u32 = rand::random();
    // Some 100 events a second: what is tested has to keep up on two cores that others use as well.
    let mut next = tokio::time::interval(Duration::from_millis(25));
    while !stop.load(Ordering::Relaxed) {
        next.tick().await;
        turn = turn.wrapping_add(1);
        life(&mut connections, &mut query, turn).await?;
    }
    Ok(())
}

async fn life(
    elements: &mut [(ElementName, PgConnection)],
    query: &mut PgConnection,
    turn: u32,
) -> Result<(), PublishError> {
    let last = elements.len() - 1;
    let file = new_file(&format!("report {turn}.pdf"));
    create(&mut elements[0], &file).await?;
    if turn.is_multiple_of(2) {
        update(&mut elements[0], file.id, &format!("turn {turn}")).await?;
    }
    if turn.is_multiple_of(5) {
        fail(&mut elements[0], file.id).await?;
    }
    if turn.is_multiple_of(3) && last > 0 {
        create(
            &mut elements[last],
            &NewFile {
                storage_filename: format!("m{}", file.id),
                ..file.clone()
            },
        )
        .await?;
        delete(&mut elements[0], file.id).await?;
    } else if turn.is_multiple_of(4) {
        delete(&mut elements[0], file.id).await?;
    }
    if turn % 3 == 1 {
        downloaded(query, file.id, &elements[0].0).await?;
    }
    Ok(())
}

/// An event of the query module.
pub async fn downloaded(
    query: &mut PgConnection,
    file: Uuid,
    element: &ElementName,
) -> Result<(), PublishError> {
    let event = OutboxInsert {
        entity: "file".to_owned(),
        action: "downloaded".to_owned(),
        ordering_key: Some(file),
        subject: Some(file.to_string()),
        data: json!({
            "file_id": file, "bytes_transferred": 5, "download_time_ms": 1,
            "storage_element_id": element,
        }),
        request_id: None,
        traceparent: None,
    };
    outbox::insert(query, &Actor::user("1"), &event).await?;
    Ok(())
}

pub fn new_file(name: &str) -> NewFile {
    let id = Uuid::new_v4();
    NewFile {
        id,
        original_filename: name.to_owned(),
        storage_filename: id.to_string(),
        storage_path: "2026/01/02/03".to_owned(),
        file_size: 5,
        content_type: "application/pdf".to_owned(),
        checksum: "c".repeat(64),
        created_by_id: "1".to_owned(),
        created_by_username: "ann".to_owned(),
        created_by_fullname: None,
        description: None,
        version: None,
        metadata: Some(json!({"tags": ["a", "b"]})),
    }
}

pub fn begin(kind: OperationType, file_id: Uuid) -> Begin {
    Begin {
        kind,
        file_id: Some(file_id),
        request_id: None,
        data: None,
    }
}

pub async fn create(
    (element, connection): &mut (ElementName, PgConnection),
    file: &NewFile,
) -> Result<i64, PublishError> {
    let begin = begin(OperationType::FileCreate, file.id);
    let operation = wal::begin(connection, element, Actor::user("1"), begin).await?;
    let mut transaction = connection.begin().await?;
    let row = files::insert(&mut transaction, element, file).await?;
    let position = operation.commit(&mut transaction, Some(row)).await?;
    transaction.commit().await?;
    Ok(position)
}

pub async fn update(
    (element, connection): &mut (ElementName, PgConnection),
    id: Uuid,
    description: &str,
) -> Result<i64, PublishError> {
    let begin = begin(OperationType::FileUpdate, id);
    let operation = wal::begin(connection, element, Actor::user("1"), begin).await?;
    let change = FileUpdate {
        description: Some(description.to_owned()),
        ..FileUpdate::default()
    };
    let mut transaction = connection.begin().await?;
    let row = files::update(&mut transaction, element, id, &change).await?;
    let position = operation.commit(&mut transaction, row).await?;
    transaction.commit().await?;
    Ok(position)
}

pub async fn delete(
    (element, connection): &mut (ElementName, PgConnection),
    id: Uuid,
) -> Result<i64, PublishError> {
    let begin = begin(OperationType::FileDelete, id);
    let operation = wal::begin(connection, element, Actor::user("1"), begin).await?;
    let mut transaction = connection.begin().await?;
    files::delete(&mut transaction, element, id).await?;
    let position = operation.commit(&mut transaction, None).await?;
    transaction.commit().await?;
    Ok(position)
}

pub async fn fail(
    (element, connection): &mut (ElementName, PgConnection),
    id: Uuid,
) -> Result<i64, PublishError> {
    let begin = begin(OperationType::FileUpdate, id);
    let operation = wal::begin(connection, element, Actor::user("1"), begin).await?;
    let mut transaction = connection.begin().await?;
    let position = operation
        .fail(&mut transaction, "the disk was full")
        .await?;
    transaction.commit().await?;
    Ok(position)
}
