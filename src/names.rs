//! Names that people give to commands: an element's, its stream's, `admin` and `query`. Each is accepted
//! wherever another of them is. What can't be a name is refused here; whether such an element exists, the
//! settings decide ([`crate::config`]), or the database that knows its streams.

use artstore_schemas::element::{ElementName, InvalidElementName};
use artstore_schemas::source::Source;

/// A source: an element's name, `admin`, `query`, or a stream's name.
pub fn source(name: &str) -> Result<Source, InvalidElementName> {
    Ok(match (name, Source::of_stream(name)) {
        (_, Some(source)) => source,
        ("admin", _) => Source::Admin,
        ("query", _) => Source::Query,
        (element, _) => Source::Element(element.parse()?),
    })
}

/// A stream, by its own name or by its source's.
pub fn stream(name: &str) -> Result<String, InvalidElementName> {
    source(name).map(|source| source.stream())
}

/// An element, by its name or by its stream's.
pub fn element(name: &str) -> Result<ElementName, InvalidElementName> {
    match Source::of_stream(name) {
        Some(Source::Element(element)) => Ok(element),
        Some(Source::Admin | Source::Query) | None => name.parse(),
    }
}

/// Names as an error lists them.
pub fn listed<T: ToString>(names: impl IntoIterator<Item = T>) -> Option<String> {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_named_by_itself_or_by_its_stream() {
        for name in ["elem", "ARTSTORE_WAL_elem"] {
            assert_eq!(element(name).expect("a name").as_str(), "elem");
            assert_eq!(source(name).expect("a name").to_string(), "elem");
            assert_eq!(stream(name).expect("a name"), "ARTSTORE_WAL_elem");
        }
        for name in ["admin", "ARTSTORE_ADMIN"] {
            assert_eq!(source(name), Ok(Source::Admin));
        }
        for wrong in ["ARTSTORE_ADMIN", "ARTSTORE_WAL_", "ARTSTORE_WAL_No", ""] {
            assert!(element(wrong).is_err(), "{wrong}");
        }
    }
}
