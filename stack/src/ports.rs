//! Free ports on the loopback address, outside the range from which the system takes ports for outgoing
//! connections.
//!
//! Inside that range a stopped server's port can be taken while it is down: by any client, and even by a
//! client that reconnects to this very port and, as happens on loopback, meets itself.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, bail};

use super::folder::Folder;

/// Where no registered service of weight lives and most systems hand out nothing.
const QUIET: Range<u16> = 15_000..32_000;
const TRIES: usize = 200;

/// The ports of a kept folder's servers of one kind: those from `wanted` on, where that is given; else
/// those of the last start, so that what was copied from there still leads somewhere; else free ones. They
/// are remembered.
pub(super) fn of(
    folder: &Folder,
    kind: &str,
    count: usize,
    wanted: Option<u16>,
) -> anyhow::Result<Vec<u16>> {
    let path = folder.path.join(format!("{kind}.ports"));
    let ports = match wanted {
        Some(first) => {
            let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
            if let Some(used) = ports.iter().find(|port| !is_free(**port)) {
                bail!("port {used} of 127.0.0.1 is in use: choose another --port");
            }
            ports
        }
        None if folder.temporary => return free(count),
        None => {
            let last: Option<Vec<u16>> = match std::fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text).ok(),
                Err(_) => None,
            };
            match last.filter(|last| last.len() == count) {
                Some(last) if last.iter().all(|port| is_free(*port)) => last,
                Some(last) => {
                    tracing::warn!(
                        kind,
                        ?last,
                        "the ports of the last start are in use: others are taken"
                    );
                    free(count)?
                }
                None => free(count)?,
            }
        }
    };
    if !folder.temporary {
        std::fs::write(&path, serde_json::to_vec(&ports)?)
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(ports)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `count` different ports that nobody listened on a moment ago. Whoever uses them must be ready to try again.
pub(super) fn free(count: usize) -> anyhow::Result<Vec<u16>> {
    let range = outside(outgoing());
    // All are held until the last is found, so that none is found twice.
    let mut held = Vec::with_capacity(count);
    for _ in 0..TRIES {
        if held.len() == count {
            break;
        }
        let port = rand::random_range(range.clone());
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    while held.len() < count {
        held.push(
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?,
        );
    }
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// Whether a server's log states that another one was faster.
pub(super) fn taken(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}

fn outside(outgoing: Option<(u16, u16)>) -> Range<u16> {
    match outgoing {
        Some((low, _)) if low > QUIET.start + 1_000 => QUIET.start..low.min(QUIET.end),
        Some((_, high)) if high < QUIET.end - 1_000 => high.max(QUIET.start)..QUIET.end,
        _ => QUIET,
    }
}

fn outgoing() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_clear_of_outgoing_connections() {
        assert_eq!(outside(Some((32_768, 60_999))), 15_000..32_000);
        assert_eq!(outside(Some((20_000, 60_999))), 15_000..20_000);
        assert_eq!(outside(Some((1_024, 20_000))), 20_000..32_000);
        assert_eq!(outside(Some((1_024, 65_535))), QUIET);
        assert_eq!(outside(None), QUIET);
    }

    #[test]
    fn ports_are_different() {
        let mut ports = free(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
