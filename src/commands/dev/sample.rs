//! Files for the first searches, written as a publisher writes them. Their ids are fixed: where they
//! exist already, nothing is written.

use artstore_producers::publish::files::{self, NewFile};
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_runtime::connection;
use artstore_schemas::actor::Actor;
use artstore_schemas::source::Source;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::system::System;

/// Name, description, user, tags, type, size.
type Sample = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
    i64,
);

const FILES: &[Sample] = &[
    (
        "Отчёт за январь.pdf",
        "Годовой отчёт, первая часть",
        "ivanova",
        &["finance"],
        "application/pdf",
        182_044,
    ),
    (
        "отчёт_2026_итог.pdf",
        "Итоговый отчёт отдела",
        "ivanova",
        &["finance", "urgent"],
        "application/pdf",
        734_003,
    ),
    (
        "отчёт черновик.docx",
        "Черновик",
        "petrov",
        &["draft"],
        "application/msword",
        48_128,
    ),
    (
        "Sale 50%_off banner.png",
        "Banner for the summer sale",
        "ann",
        &["marketing"],
        "image/png",
        912_384,
    ),
    (
        "annual_report_2025.pdf",
        "The annual report of the company",
        "ann",
        &["finance"],
        "application/pdf",
        2_411_724,
    ),
    (
        "Annual report (slides).pptx",
        "Slides for the board",
        "ivanova",
        &["finance", "urgent"],
        "application/vnd.ms-powerpoint",
        14_680_064,
    ),
    (
        "backup-2026-01-31.tar.gz",
        "Nightly backup",
        "robot",
        &["urgent", "backup"],
        "application/gzip",
        52_428_800,
    ),
    (
        "holiday.jpg",
        "On the beach",
        "petrov",
        &["photo"],
        "image/jpeg",
        3_145_728,
    ),
];

/// Puts them into the elements by turns; the place of the last one, as `search --at-least` takes it.
pub(super) async fn put_in(system: &System) -> anyhow::Result<String> {
    let mut last = String::new();
    for (index, sample) in FILES.iter().enumerate() {
        let element = &system.elements[index % system.elements.len()];
        let source = Source::Element(element.clone());
        let options = system.source_database(&source)?;
        let mut connection = connection::open(&options).await?;
        let (name, description, user, tags, content_type, size) = *sample;
        let id = Uuid::new_v5(
            &Uuid::NAMESPACE_URL,
            format!("artstore/sample/{name}").as_bytes(),
        );
        let known = format!(
            "select max(position) from public.{element}_wal where file_id = $1 \
             and status = 'committed'"
        );
        let known: Option<i64> = sqlx::query_scalar(AssertSqlSafe(known))
            .bind(id)
            .fetch_one(&mut connection)
            .await?;
        let position = match known {
            Some(position) => position,
            None => {
                let sum = digest(&SHA256, name.as_bytes());
                let file = NewFile {
                    id,
                    original_filename: name.to_owned(),
                    storage_filename: id.to_string(),
                    storage_path: "2026/01/31/12".to_owned(),
                    file_size: size,
                    content_type: content_type.to_owned(),
                    checksum: data_encoding::HEXLOWER.encode(sum.as_ref()),
                    created_by_id: user.to_owned(),
                    created_by_username: user.to_owned(),
                    created_by_fullname: None,
                    description: Some(description.to_owned()),
                    version: None,
                    metadata: Some(json!({"tags": tags})),
                };
                let begin = Begin {
                    kind: OperationType::FileCreate,
                    file_id: Some(id),
                    request_id: Some("dev-sample".to_owned()),
                    data: None,
                };
                let operation =
                    wal::begin(&mut connection, element, Actor::user(user), begin).await?;
                let mut transaction = connection.begin().await?;
                let row = files::insert(&mut transaction, element, &file).await?;
                let position = operation.commit(&mut transaction, Some(row)).await?;
                transaction.commit().await?;
                position
            }
        };
        connection.close().await?;
        last = format!("{element}:{position}");
    }
    Ok(last)
}
