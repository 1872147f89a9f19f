//! The publisher of docs/publishing.md, as it is there.
#![allow(dead_code)]

use artstore_producers::publish::files::{self, NewFile};
use artstore_producers::publish::publish_error::PublishError;
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::{actor::Actor, element::ElementName};
use sqlx::{Connection as _, PgConnection};

async fn store(
    connection: &mut PgConnection,
    element: &ElementName,
    actor: Actor, // who asked for it: Actor::user("7").named("ivanova")
    file: &NewFile,
) -> Result<i64, PublishError> {
    let begin = Begin {
        kind: OperationType::FileCreate,
        file_id: Some(file.id),
        request_id: Some("upload-5f1c9f0e".to_owned()),
        data: None,
    };
    let operation = wal::begin(connection, element, actor, begin).await?; // pending
    // ... the content goes to disk ...
    let mut transaction = connection.begin().await?;
    let row = files::insert(&mut transaction, element, file).await?;
    let position = operation.commit(&mut transaction, Some(row)).await?;
    transaction.commit().await?;
    Ok(position) // its place in the source
}
