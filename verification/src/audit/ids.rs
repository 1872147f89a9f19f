//! The column `id`, which nothing signs. One writer at a time inserts a stream's rows in their
//! order, and `id` counts up from 1: so the ids of a log ascend with its rows, with gaps.

/// The ids of the rows that were read last.
#[derive(Debug, Default)]
pub struct Ids {
    before: Option<i64>,
    last: Option<(u64, i64)>,
}

impl Ids {
    /// Takes the next row of the log. Returns a row whose id is not one that it can have been given:
    /// this one, or the one before it where the others ascend without that.
    pub fn next(&mut self, sequence: u64, id: i64) -> Option<(u64, i64)> {
        if id <= 0 {
            return Some((sequence, id));
        }
        let Some((_, last_id)) = self.last else {
            self.last = Some((sequence, id));
            return None;
        };
        if id > last_id {
            self.before = Some(last_id);
            self.last = Some((sequence, id));
            return None;
        }
        if self.before.is_some_and(|before| id <= before) {
            return Some((sequence, id));
        }
        self.last.replace((sequence, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misplaced(ids: &[i64]) -> Vec<u64> {
        let mut seen = Ids::default();
        (1..)
            .zip(ids)
            .filter_map(|(sequence, id)| seen.next(sequence, *id))
            .map(|(sequence, _)| sequence)
            .collect()
    }

    #[test]
    fn ids_that_ascend_are_as_they_were_given() {
        assert!(misplaced(&[1, 2, 5, 6, 100]).is_empty());
    }

    #[test]
    fn a_row_whose_id_was_changed_is_named() {
        assert_eq!(misplaced(&[1, 2, -3, 4, 5]), [3]);
        assert_eq!(misplaced(&[1, 2, 0, 4, 5]), [3]);
        assert_eq!(misplaced(&[1, 2, 300, 4, 5]), [3]);
        assert_eq!(misplaced(&[5, 6, 1, 8, 9]), [3]);
        assert_eq!(misplaced(&[700, 2, 3]), [1]);
        assert_eq!(misplaced(&[1, 2, 6, 4, 5, 3, 7]), [3, 6]);
    }
}
