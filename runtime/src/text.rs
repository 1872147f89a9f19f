//! Texts that need not be UTF-8: a database in SQL_ASCII contains whatever bytes it was given, and a text of
//! one in another encoding may be read as bytes. What is not UTF-8 in a text is read as U+FFFD, so
//! that one odd text keeps neither its row nor a later one from being read.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Row as _, Type};

/// A text, or the bytes of one, as it can be read: each sequence of bytes that is not UTF-8 is one U+FFFD.
/// The same bytes always give the same text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl Type<Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        <String as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <String as Type<Postgres>>::compatible(ty) || <[u8] as Type<Postgres>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for Text {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes = value.as_bytes()?;
        Ok(Self(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// A text of a row.
pub fn text(row: &sqlx::postgres::PgRow, column: &str) -> Result<String, sqlx::Error> {
    Ok(row.try_get::<Text, _>(column)?.0)
}

/// A text of a row, or none.
pub fn optional(row: &sqlx::postgres::PgRow, column: &str) -> Result<Option<String>, sqlx::Error> {
    Ok(row.try_get::<Option<Text>, _>(column)?.map(|text| text.0))
}
