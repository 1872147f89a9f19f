//! The content of a stream's snapshot: a tar archive in frames ([`super::frames`]), with the stream's
//! settings, its blocks of messages, and an index of them at its end.
//!
//! The index is left out. The server writes it last, while the stream continues: it lists messages
//! that came after the blocks that were copied. A server that restores it creates a stream which ends
//! there, with a hole where those messages would be. Without an index the server reads the blocks, and
//! the stream ends with the last message that is really in them.

use super::frames::{BadFrame, Frames, uncompressed};

const UNIT: usize = 512;
const SETTINGS: &str = "meta.inf";
const INDEX: &str = "index.db";
const ERRORS: &str = "errors.txt";

/// Why an archive is none that can be kept or restored.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    /// A frame is damaged.
    #[error("the data is damaged: {0}")]
    Frame(#[from] BadFrame),
    /// It does not begin as the server's snapshots do.
    #[error(
        "the data is no snapshot in the form that is known ({0}): the server may be newer than this \
         program"
    )]
    Unknown(String),
    /// The server could not read its own stream.
    #[error("the server could not read the whole stream: its log says why")]
    Errors,
    /// The end is missing.
    #[error("the data is cut off")]
    CutOff,
}

/// An archive that passes through.
#[derive(Debug, Default)]
pub struct Archive {
    frames: Frames,
    at: At,
    /// Frames that may have to be cut: a header of the archive begins in the first of them, so far
    /// behind its beginning.
    held: Vec<(Vec<u8>, Vec<u8>)>,
    held_at: usize,
    begun: bool,
    /// Behind the beginning of the index, nothing is passed on.
    cut: bool,
    /// The end of the archive has come.
    ended: bool,
    blocks: u64,
}

#[derive(Debug)]
enum At {
    Header(Vec<u8>),
    Body { left: u64 },
}

impl Default for At {
    fn default() -> Self {
        Self::Header(Vec::new())
    }
}

impl Archive {
    /// Takes the next bytes; `out` gets what is to be kept.
    pub fn take<E: From<BadArchive>>(
        &mut self,
        bytes: &[u8],
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.frames.push(bytes);
        while let Some(frame) = self.frames.read().map_err(BadArchive::from)? {
            let Some(data) = frame.data else {
                if !self.cut && self.held.is_empty() {
                    out(&frame.raw)?;
                }
                continue;
            };
            // Any number of them could come within a header.
            if data.is_empty() {
                continue;
            }
            if self.held.is_empty() {
                self.held_at = 0;
            }
            let cut = self.walk(&data)?;
            if self.cut && cut.is_none() {
                continue;
            }
            self.held.push((frame.raw, data));
            match cut {
                Some(()) => {
                    let held: Vec<u8> = self.held.drain(..).flat_map(|(_, data)| data).collect();
                    // The end of an archive is two empty headers.
                    let end = [&held[..self.held_at], &[0; 2 * UNIT]].concat();
                    out(&uncompressed(&end))?;
                }
                None if self.is_within_header() => {}
                None => {
                    for (raw, _) in self.held.drain(..) {
                        out(&raw)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// No more bytes come: how many blocks of messages there were.
    pub fn finish(self) -> Result<u64, BadArchive> {
        match self.frames.is_at_end() && self.ended && self.held.is_empty() {
            true => Ok(self.blocks),
            false => Err(BadArchive::CutOff),
        }
    }

    /// Whether the index was left out.
    pub(crate) fn had_index(&self) -> bool {
        self.cut
    }

    fn is_within_header(&self) -> bool {
        matches!(&self.at, At::Header(header) if !header.is_empty())
    }

    /// Goes through the archive's data. `Some`: the index begins in it, or in what is held, at `held_at`.
    fn walk(&mut self, data: &[u8]) -> Result<Option<()>, BadArchive> {
        let before: usize = self.held.iter().map(|(_, data)| data.len()).sum();
        let (mut at, mut cut) = (0, None);
        while at < data.len() && !self.ended {
            match &mut self.at {
                At::Body { left } => {
                    let some =
                        usize::try_from(*left).map_or(data.len() - at, |l| l.min(data.len() - at));
                    at += some;
                    *left -= some as u64;
                    if *left == 0 {
                        self.at = At::default();
                    }
                }
                At::Header(header) => {
                    if header.is_empty() && !self.cut {
                        self.held_at = before + at;
                    }
                    let some = (UNIT - header.len()).min(data.len() - at);
                    header.extend_from_slice(&data[at..at + some]);
                    at += some;
                    if header.len() == UNIT {
                        let header = std::mem::take(header);
                        if self.header(&header)? {
                            cut = Some(());
                        }
                    }
                }
            }
        }
        Ok(cut)
    }

    /// Whether the index begins with it.
    fn header(&mut self, header: &[u8]) -> Result<bool, BadArchive> {
        if header.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(false);
        }
        let name = text(&header[..100]);
        let last = name.rsplit('/').next().unwrap_or_default();
        if !std::mem::replace(&mut self.begun, true) && last != SETTINGS {
            return Err(BadArchive::Unknown(format!("it begins with {name:?}")));
        }
        if last == ERRORS {
            return Err(BadArchive::Errors);
        }
        let size = u64::from_str_radix(text(&header[124..136]).trim(), 8)
            .map_err(|_| BadArchive::Unknown(format!("{name:?} has no size")))?;
        self.at = match size.next_multiple_of(UNIT as u64) {
            0 => At::default(),
            left => At::Body { left },
        };
        match last {
            INDEX => Ok(!std::mem::replace(&mut self.cut, true)),
            _ if self.cut => Err(BadArchive::Unknown(format!("{name:?} is behind the index"))),
            // An extended header is named after its file.
            _ => {
                self.blocks += u64::from(last.ends_with(".blk") && header[156] == b'0');
                Ok(false)
            }
        }
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::frames::masked;
    use super::*;

    const BEGIN: &[u8] = b"\xff\x06\0\0S2sTwO";

    fn entry(name: &str, body: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; UNIT];
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}", body.len());
        entry[124..135].copy_from_slice(size.as_bytes());
        entry[156] = b'0';
        entry.extend(body);
        entry.resize(entry.len().next_multiple_of(UNIT), 0);
        entry
    }

    fn passed(data: &[u8], frame: usize) -> Result<(Vec<u8>, u64), BadArchive> {
        let mut stream = BEGIN.to_vec();
        data.chunks(frame)
            .for_each(|data| stream.extend(uncompressed(data)));
        let (mut archive, mut kept) = (Archive::default(), Vec::new());
        for bytes in stream.chunks(1_000) {
            archive.take(bytes, |bytes| {
                kept.extend_from_slice(bytes);
                Ok::<_, BadArchive>(())
            })?;
        }
        let blocks = archive.finish()?;
        let mut frames = Frames::default();
        frames.push(&kept);
        let mut plain = Vec::new();
        while let Some(frame) = frames.read()? {
            plain.extend(frame.data.unwrap_or_default());
        }
        Ok((plain, blocks))
    }

    /// However the archive lies in its frames.
    #[test]
    fn the_index_is_left_out_and_all_else_is_passed_on() {
        let kept = [
            entry("meta.inf", b"{}"),
            entry("msgs/1.blk", &[7; 3_000]),
            entry("msgs/2.blk", &[8; 512]),
        ]
        .concat();
        let index = [
            entry("msgs/PaxHeaders.0/index.db", b"mtime"),
            entry("msgs/index.db", &[9; 2_000]),
        ]
        .concat();
        let end = vec![0; 2 * UNIT];
        for frame in [300, 512, 700, 1_024, 5_000, 60_000] {
            let (plain, blocks) =
                passed(&[&kept[..], &index, &end].concat(), frame).expect("passed");
            assert_eq!((plain, blocks), ([&kept[..], &end].concat(), 2), "{frame}");
            let (plain, _) = passed(&[&kept[..], &end].concat(), frame).expect("passed");
            assert_eq!(plain, [&kept[..], &end].concat(), "{frame}: there is none");
        }
    }

    /// A frame may hold nothing: any number of them within a header is not kept.
    #[test]
    fn empty_frames_are_not_kept() {
        let whole = [
            entry("meta.inf", b"{}"),
            entry("msgs/1.blk", &[7; 600]),
            vec![0; 2 * UNIT],
        ]
        .concat();
        let empty = [1, 4, 0, 0]
            .iter()
            .copied()
            .chain(masked(&[]).to_le_bytes());
        let empty: Vec<u8> = empty.collect();
        let mut stream = BEGIN.to_vec();
        stream.extend(uncompressed(&whole[..1_100]));
        stream.extend(empty.repeat(100_000));
        stream.extend(uncompressed(&whole[1_100..]));
        let mut archive = Archive::default();
        for bytes in stream.chunks(1_000) {
            archive
                .take(bytes, |_| Ok::<_, BadArchive>(()))
                .expect("passed");
            assert!(archive.held.len() <= UNIT, "{}", archive.held.len());
        }
        assert_eq!(archive.finish().expect("whole"), 1);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let whole = [entry("meta.inf", b"{}"), entry("msgs/1.blk", &[7; 3_000])].concat();
        let refused = |data: &[u8]| passed(data, 700).expect_err("it is refused").to_string();
        assert!(refused(&whole).contains("cut off"));
        assert!(refused(&whole[..2_000]).contains("cut off"));
        assert!(refused(&entry("other", b"{}")).contains("other"));
        let errors = [&whole[..], &entry("errors.txt", b"no")].concat();
        assert!(refused(&errors).contains("could not read"));
        let behind = [&whole[..], &entry("index.db", b"x"), &entry("more", b"x")].concat();
        assert!(refused(&behind).contains("behind the index"));
    }
}
