//! How the texts of a source are selected, so that each can be read ([`artstore_runtime::text`]). In a
//! database in UTF-8 they are selected as they are. In another encoding a text may contain bytes that have
//! no equivalent in UTF-8, and PostgreSQL refuses to send a row with one: a function of the database
//! (`migrations/storage/0010_readable_texts.up.sql`) replaces those with U+FFFD and converts all others.

use artstore_schemas::element::ElementName;
use sqlx::PgConnection;

/// How the texts of one source are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// What makes UTF-8 of a text; none where PostgreSQL does it.
    function: Option<String>,
}

impl Texts {
    /// Asks the database. One that is not in UTF-8 and has no such function yet is read as it is.
    pub(crate) async fn of(
        connection: &mut PgConnection,
        function: &str,
    ) -> Result<Self, sqlx::Error> {
        let needed: bool = sqlx::query_scalar(
            "select getdatabaseencoding() <> 'UTF8' and to_regprocedure($1 || '(text)') is not null",
        )
        .bind(function)
        .fetch_one(connection)
        .await?;
        Ok(Self {
            function: needed.then(|| function.to_owned()),
        })
    }

    /// Asks an element's database.
    pub async fn of_element(
        connection: &mut PgConnection,
        element: &ElementName,
    ) -> Result<Self, sqlx::Error> {
        Self::of(connection, &of_element(element)).await
    }

    /// Whether a text comes as bytes.
    pub fn are_bytes(&self) -> bool {
        self.function.is_some()
    }

    /// A statement for this database. In `template` a text that is read stands in braces; one that is
    /// measured is converted (`convert_to(…, 'UTF8')`).
    pub fn sql(&self, template: &str) -> String {
        match &self.function {
            None => template.replace(['{', '}'], ""),
            Some(function) => template
                .replace(", 'UTF8')", ")")
                .replace("convert_to(", &format!("{function}("))
                .replace('{', &format!("{function}("))
                .replace('}', ")"),
        }
    }
}

/// The function of an element's database.
pub(crate) fn of_element(element: &ElementName) -> String {
    format!("public.{element}_utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_asked_for_as_they_stand_or_through_the_function() {
        let template =
            "select id, {a.b} as b, octet_length(convert_to(c, 'UTF8')), {left(d, 2)} as d";
        let plain = Texts { function: None };
        assert_eq!(
            plain.sql(template),
            "select id, a.b as b, octet_length(convert_to(c, 'UTF8')), left(d, 2) as d"
        );
        let converted = Texts {
            function: Some("public.f".to_owned()),
        };
        assert_eq!(
            converted.sql(template),
            "select id, public.f(a.b) as b, octet_length(public.f(c)), public.f(left(d, 2)) as d"
        );
    }
}
