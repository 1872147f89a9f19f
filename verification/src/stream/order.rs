//! The order of one file's messages. Only the highest position of each file that
//! changed lately is remembered, so memory is bounded; what is too old to be checked is counted.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many files are remembered: at least so many, at most twice as many.
const FILES: usize = 50_000;

/// The files that changed lately.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Order {
    #[serde(with = "artstore_schemas::pairs")]
    young: HashMap<Uuid, i64>,
    #[serde(with = "artstore_schemas::pairs")]
    old: HashMap<Uuid, i64>,
    /// No file that was forgotten had a higher position.
    forgotten: i64,
    /// Messages that could not be checked: too far behind, of a file that may be forgotten.
    pub unchecked: u64,
}

impl Order {
    /// Takes the next message of a file. Returns the higher position that comes before it, if one does.
    pub fn see(&mut self, file: Uuid, position: i64) -> Option<i64> {
        let known = self
            .young
            .get(&file)
            .or_else(|| self.old.get(&file))
            .copied();
        if known.is_none() && position <= self.forgotten {
            self.unchecked += 1;
        }
        if self.young.len() >= FILES && !self.young.contains_key(&file) {
            let young = std::mem::take(&mut self.young);
            let forgotten = std::mem::replace(&mut self.old, young);
            let highest = forgotten.into_values().max().unwrap_or(0);
            self.forgotten = self.forgotten.max(highest);
        }
        self.young
            .insert(file, known.unwrap_or(position).max(position));
        known.filter(|known| *known > position)
    }

    /// Positions start over after a break of the source.
    pub fn clear(&mut self) {
        let unchecked = self.unchecked;
        *self = Self {
            unchecked,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_position_behind_a_higher_one_of_the_same_file_is_seen() {
        let mut order = Order::default();
        let [a, b] = [1, 2].map(Uuid::from_u128);
        assert_eq!(order.see(a, 5), None);
        assert_eq!(order.see(b, 3), None, "another file");
        assert_eq!(order.see(a, 4), Some(5));
        assert_eq!(order.see(a, 6), None);
    }

    #[test]
    fn what_is_forgotten_is_counted_and_not_guessed() {
        let mut order = Order::default();
        let first = Uuid::from_u128(u128::MAX);
        order.see(first, 10);
        for n in 0..3 * FILES as u128 {
            order.see(Uuid::from_u128(n), 11 + n as i64);
        }
        assert_eq!(order.unchecked, 0, "those were newer than all forgotten");
        assert_eq!(order.see(first, 9), None);
        assert_eq!(order.unchecked, 1);
    }
}
