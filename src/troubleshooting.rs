//! Which section of `docs/troubleshooting.md` is about a message: its headings are parts of messages.

const PAGE: &str = include_str!("../docs/troubleshooting.md");

/// The section, as a path and an anchor; none: no heading is part of the message.
pub fn section(message: &str) -> Option<String> {
    // Of several the one that the message names first: what happened comes before its cause.
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### "));
    let found = headings
        .filter_map(|heading| {
            Some((
                phrases(heading).filter_map(|p| message.find(p)).min()?,
                heading,
            ))
        })
        .min_by_key(|(at, _)| *at)?;
    Some(format!("docs/troubleshooting.md#{}", anchor(found.1)))
}

/// The message with where to read more, where there is something.
pub fn with_section(message: &str) -> String {
    match section(message) {
        Some(section) => format!("{message} (see {section})"),
        None => message.to_owned(),
    }
}

/// The parts of messages in a heading: each is between backticks.
fn phrases(heading: &str) -> impl Iterator<Item = &str> {
    heading.split('`').skip(1).step_by(2)
}

/// As code hosts and the site of the documents make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leads_to_its_section() {
        let message = "database shop has no table elem_wal: is it the right database?";
        assert_eq!(
            section(message).as_deref(),
            Some("docs/troubleshooting.md#has-no-table")
        );
        assert_eq!(section("the disk is full"), None);
        // Of two headings the one that the message begins with.
        let message = "source elem: the source was restored, promoted or replaced: its server \
             can't be reached";
        let section = section(message).unwrap();
        assert!(
            section.contains("#the-source-was-restored-promoted-or-replaced"),
            "{section}"
        );
    }
}
