//! What a message is by the row of its position: the step in which both checks of a stream decide. The check of
//! repairs knows the row when it reads the message; `artstore verify` decides when it has read the rows.

/// The row at the position of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowAtPosition {
    /// The message's own row.
    Own {
        /// Whether the message states what the row states.
        agrees: bool,
    },
    /// The position has no row, or that of another event.
    Other,
    /// The row was pruned.
    Pruned,
}

/// What shows that a relay of the source wrote a message where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It names the last message that counts as the one before it, or its break was accepted.
    Chained,
    /// It comes after a message of ours that is gone or was changed: nobody knows which one it has to name.
    Plausible,
    /// Nothing.
    Unknown,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowVerdict {
    /// The message of its row.
    Agrees,
    /// It states something else than its row.
    Differs,
    /// Its position has a message already.
    Doubled,
    /// The message of a row that was pruned.
    Pruned,
    /// The message of a row that the source lost.
    Lost,
    /// No relay of the source wrote it here.
    Foreign,
}

/// Decides. `has_message`: whether the position has a message that agrees with its row.
pub(crate) fn verdict(row: RowAtPosition, has_message: bool, origin: Origin) -> RowVerdict {
    match row {
        RowAtPosition::Own { .. } | RowAtPosition::Pruned if has_message => RowVerdict::Doubled,
        RowAtPosition::Own { agrees: true } => RowVerdict::Agrees,
        RowAtPosition::Own { agrees: false } => RowVerdict::Differs,
        // Without a row, only the chain shows that it is ours.
        RowAtPosition::Pruned if origin == Origin::Unknown => RowVerdict::Foreign,
        RowAtPosition::Pruned => RowVerdict::Pruned,
        RowAtPosition::Other if has_message || origin != Origin::Chained => RowVerdict::Foreign,
        RowAtPosition::Other => RowVerdict::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_one_verdict() {
        use Origin::{Chained, Plausible, Unknown};
        use RowAtPosition::{Other, Own, Pruned};
        let all = [Chained, Plausible, Unknown];
        let (own, changed) = (Own { agrees: true }, Own { agrees: false });
        // Without and with a message of the position, for each origin.
        let table = [
            (own, false, [RowVerdict::Agrees; 3]),
            (own, true, [RowVerdict::Doubled; 3]),
            (changed, false, [RowVerdict::Differs; 3]),
            (changed, true, [RowVerdict::Doubled; 3]),
            (
                Pruned,
                false,
                [RowVerdict::Pruned, RowVerdict::Pruned, RowVerdict::Foreign],
            ),
            (Pruned, true, [RowVerdict::Doubled; 3]),
            (
                Other,
                false,
                [RowVerdict::Lost, RowVerdict::Foreign, RowVerdict::Foreign],
            ),
            (Other, true, [RowVerdict::Foreign; 3]),
        ];
        for (row, has_message, verdicts) in table {
            let found = all.map(|origin| verdict(row, has_message, origin));
            assert_eq!(found, verdicts, "{row:?}, {has_message}");
        }
    }
}
