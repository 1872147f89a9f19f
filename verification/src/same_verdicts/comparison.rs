//! Both checks on the same stream, and whether they find the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use artstore_bus::breaks::Breaks;
use artstore_schemas::damage::Damage;
use artstore_schemas::source::Source;
use uuid::Uuid;

use super::streams::{Case, source};
use crate::accepted::Accepted;
use crate::candidates::Candidates;
use crate::finding::Kind;
use crate::links::{Links, MessageRole};
use crate::matching::{Matching, RowPrint};
use crate::pass;
use crate::settle;
use crate::stream::content::RowContent;
use crate::stream::fingerprint::ComparableEvent;
use crate::stream::message_checker::MessageChecker;
use crate::stream::order::Order;
use crate::stream::rows::{Row, Rows};
use crate::without_row::{self, KnownRows, Origins};

impl Case {
    /// What the check of repairs finds: after it `damage` is known.
    fn scan(&self, damage: &Damage) -> Scanned {
        let source = source();
        let mut breaks = Breaks {
            damage: damage.clone(),
            ..Breaks::default()
        };
        let mut rows = Rows {
            prune_mark: self.prune_mark,
            ..Rows::default()
        };
        for (position, (id, content)) in &self.rows {
            let content = Some(RowContent::new(content.clone(), true));
            rows.held.insert(*position, Row { id: *id, content });
        }
        let checker = loop {
            let checker = self.checked(&source, breaks.clone(), &rows);
            let lost: HashSet<Uuid> = checker.agreement.lost_rows().collect();
            let elsewhere = self.rows.values().map(|(id, _)| *id);
            let strangers = checker.strangers(&elsewhere.filter(|id| lost.contains(id)).collect());
            if strangers.is_empty() {
                break checker;
            }
            breaks.refused.extend(strangers);
        };
        Scanned {
            new: checker.damage.ranges.iter().map(|r| r.first).collect(),
            lost: checker.agreement.lost.iter().map(|l| l.sequence).collect(),
            damage: checker.damage.all(),
        }
    }

    fn checked<'a>(&self, source: &'a Source, breaks: Breaks, rows: &Rows) -> MessageChecker<'a> {
        let mut checker = MessageChecker::new(source, true, breaks);
        for (index, message) in self.stream.iter().enumerate() {
            let sequence = index as u64 + 1;
            let Some(message) = message else { continue };
            if checker.next < sequence {
                checker.hole(sequence - 1);
            }
            let message = message.at(sequence);
            checker.check(&message, rows);
        }
        if checker.next <= self.stream.len() as u64 {
            checker.hole(self.stream.len() as u64);
        }
        for message in checker.take_out_of_order() {
            if self.rows.contains_key(&message.higher_before) {
                checker.disordered(&message);
            }
        }
        checker.end.resume_state.sequence = self.stream.len() as u64;
        checker
    }

    /// What `verify` finds where this damage was accepted. It reads rows after so many messages, and at the
    /// end: later messages of those rows come late.
    fn verify(&self, damage: &Damage, rows_after: usize) -> Vec<(Kind, u64)> {
        let source = source();
        let accepted = Accepted::of_damage(damage.clone());
        let (mut links, mut matching) = (Links::default(), Matching::default());
        let (mut found, mut order) = (Candidates::default(), Order::default());
        let prune_mark = self.prune_mark;
        let print = |(position, (id, content)): (&i64, &(Uuid, ComparableEvent))| {
            let content = RowContent::new(content.clone(), true);
            (*position, RowPrint::new(*id, *position, &content))
        };
        let prints: BTreeMap<i64, RowPrint> = self.rows.iter().map(print).collect();
        let mut flaws = Vec::new();
        for (index, message) in self.stream.iter().enumerate() {
            let Some(message) = message else { continue };
            let message = message.at(index as u64 + 1);
            let seen = links.see(&source, &accepted, &message);
            flaws.extend(seen.flaws);
            if let MessageRole::Row(position, mut entry) = seen.role {
                entry.higher_before = seen.file.and_then(|file| order.see(file, position));
                if let Some(late) = matching.message(position, entry) {
                    let row = prints.get(&position);
                    matching.late_message(position, late, row, prune_mark, &mut found);
                }
            }
            if index + 1 == rows_after {
                let highest = links.highest();
                let rows = prints.range(..=highest).map(|(_, row)| row.clone());
                let may_come = pass::may_come(&links, &accepted);
                matching.rows(rows.collect(), highest, prune_mark, may_come, &mut found);
            }
        }
        flaws.extend(links.end(&accepted, self.stream.len() as u64));
        for flaw in flaws {
            found.add(flaw.kind, flaw.candidate(flaw.sequences.0));
        }
        let rows = prints
            .range(matching.cursor + 1..)
            .map(|(_, row)| row.clone());
        matching.rows(
            rows.collect(),
            i64::MAX - 1,
            prune_mark,
            |_| false,
            &mut found,
        );
        let known = KnownRows {
            positions: self.rows.iter().map(|(p, (id, _))| (*id, *p)).collect(),
            at: self.rows.keys().copied().collect(),
            prune_mark,
            unmatched: found
                .of(Kind::MessageMissing)
                .filter_map(|candidate| candidate.position)
                .collect(),
        };
        without_row::settle(&known, &mut found);
        let envelope_at = |sequence: u64| {
            let message = self.stream.get(sequence.checked_sub(1)? as usize)?;
            Some(&message.as_ref()?.envelope)
        };
        let mut origins = Origins::of(&accepted, &found);
        while let Some(message) = origins.next_in_doubt() {
            let previous = envelope_at(message.sequence).and_then(|extra| extra.previous);
            let last = envelope_at(message.last).map(|last| last.id);
            origins.decide(message, previous, last);
        }
        origins.apply(&mut found);
        let content = |(position, (_, content)): (&i64, &(Uuid, ComparableEvent))| {
            (*position, RowContent::new(content.clone(), true))
        };
        settle::settle_disordered(&self.rows.iter().map(content).collect(), &mut found);
        settle::explained(&mut found);
        let found = found.all();
        let found: BTreeSet<(Kind, u64)> = found
            .map(|(kind, c)| (kind, c.sequence.unwrap_or(0)))
            .collect();
        found.into_iter().collect()
    }
}

/// What a repair finds.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The first sequence of each range of damage that no record lists.
    pub(super) new: BTreeSet<u64>,
    /// Messages whose row the source lost.
    pub(super) lost: Vec<u64>,
    pub(super) damage: Damage,
}

/// Both find something, or neither does; and after the damage that a repair lists is accepted, neither finds
/// anything but rows without a message.
pub(super) fn agree(case: &Case, rows_after: usize) -> Result<(Vec<(Kind, u64)>, Scanned), String> {
    let before = case.verify(&Damage::default(), rows_after);
    let scanned = case.scan(&Damage::default());
    let missing = |(kind, _): &(Kind, u64)| *kind == Kind::MessageMissing;
    let in_stream = before.iter().any(|finding| !missing(finding));
    let listed = !scanned.new.is_empty() || !scanned.lost.is_empty();
    if in_stream != listed {
        return Err(format!("verify: {before:?}, repair: {scanned:?}"));
    }
    // Which messages are of rows that the source lost decides which command repairs it.
    let lost: BTreeSet<u64> = scanned.lost.iter().copied().collect();
    let of = |kinds: &[Kind]| -> BTreeSet<u64> {
        let found = before.iter().filter(|(kind, _)| kinds.contains(kind));
        found.map(|(_, sequence)| *sequence).collect()
    };
    let extra = of(&[Kind::MessageExtra]);
    let named = of(&[Kind::MessageExtra, Kind::MessageForeign]);
    let listed: BTreeSet<u64> = scanned.new.union(&lost).copied().collect();
    let agree = match case.prune_mark {
        0 => lost == extra,
        // Of a pruned row only the chain shows that a message is ours: `verify` lets it count, and what
        // follows it.
        _ => lost.is_subset(&named) && extra.is_subset(&listed),
    };
    if !agree {
        return Err(format!("verify: {before:?}, lost: {scanned:?}"));
    }
    let again = case.scan(&scanned.damage);
    if !again.new.is_empty() {
        return Err(format!("a second repair: {again:?} after {scanned:?}"));
    }
    let mut after = case.verify(&scanned.damage, rows_after);
    after.retain(|finding| !missing(finding) && finding.0 != Kind::MessageExtra);
    match after.is_empty() {
        true => Ok((before, scanned)),
        false => Err(format!("verify after it: {after:?}, repair: {scanned:?}")),
    }
}
