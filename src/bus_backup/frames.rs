//! The frames of a compressed snapshot: S2, which is Snappy's framing with larger blocks and with copies
//! that repeat the offset of the one before. Each frame is independent and has a checksum, so a
//! stream of them can be read, and cut, without reading all of it.

/// The largest block that S2 has, uncompressed.
const LARGEST_BLOCK: usize = 4 << 20;

const IDENTIFIERS: [&[u8]; 2] = [b"S2sTwO", b"sNaPpY"];

/// What is wrong with a frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFrame(&'static str);

/// A frame.
#[derive(Debug)]
pub struct Frame {
    /// As it was written.
    pub raw: Vec<u8>,
    /// The data in it, which has the stated checksum; none where it holds none.
    pub data: Option<Vec<u8>>,
}

/// Frames as they come.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// So much of it was read.
    read: usize,
    begun: bool,
}

impl Frames {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // Here and not with each frame: frames may be small, and many.
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no frame is cut off.
    pub fn is_at_end(&self) -> bool {
        self.read == self.buffer.len() && self.begun
    }

    /// The next frame, if all of it is there.
    pub fn read(&mut self) -> Result<Option<Frame>, BadFrame> {
        let rest = &self.buffer[self.read..];
        let [kind, a, b, c, ..] = *rest else {
            return Ok(None);
        };
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if length > LARGEST_BLOCK + 1_024 {
            return Err(BadFrame("a frame is too long"));
        }
        let Some(raw) = rest.get(..4 + length) else {
            return Ok(None);
        };
        let raw = raw.to_vec();
        self.read += raw.len();
        let body = &raw[4..];
        if !self.begun && (kind != 0xff || !IDENTIFIERS.contains(&body)) {
            return Err(BadFrame("it does not begin as S2 does"));
        }
        self.begun = true;
        let data = match kind {
            0x00 => Some(checked(body, decoded)?),
            0x01 => Some(checked(body, |bytes| Ok(bytes.to_vec()))?),
            // Padding, an index, another identifier.
            0x80..=0xff => None,
            _ => return Err(BadFrame("a frame has an unknown form")),
        };
        Ok(Some(Frame { raw, data }))
    }
}

/// Data as frames that are not compressed.
pub(crate) fn uncompressed(data: &[u8]) -> Vec<u8> {
    let mut frames = Vec::with_capacity(data.len() + 64);
    for block in data.chunks(64 << 10) {
        let length = block.len() + 4;
        let [a, b, c, ..] = length.to_le_bytes();
        frames.extend([0x01, a, b, c]);
        frames.extend(masked(block).to_le_bytes());
        frames.extend(block);
    }
    frames
}

fn checked(
    body: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<Vec<u8>, BadFrame>,
) -> Result<Vec<u8>, BadFrame> {
    let (checksum, block) = body
        .split_first_chunk::<4>()
        .ok_or(BadFrame("a frame has no checksum"))?;
    let data = decode(block)?;
    match masked(&data) == u32::from_le_bytes(*checksum) {
        true => Ok(data),
        false => Err(BadFrame("a frame has another checksum than it says")),
    }
}

/// A compressed block: literals, and copies of what came before.
fn decoded(block: &[u8]) -> Result<Vec<u8>, BadFrame> {
    let mut bytes = Bytes(block);
    let length = bytes.varint()?;
    if length > LARGEST_BLOCK {
        return Err(BadFrame("a block is too long"));
    }
    let mut data = Vec::with_capacity(length);
    let mut offset = 0;
    while !bytes.0.is_empty() {
        let tag = bytes.number(1)?;
        let small = tag >> 2;
        let copied = match tag & 3 {
            0 => {
                let length = match small {
                    60..=63 => bytes.number(small - 59)?,
                    length => length,
                };
                data.extend_from_slice(bytes.take(length + 1)?);
                continue;
            }
            1 => {
                let said = (tag & 0xe0) << 3 | bytes.number(1)?;
                let mut length = small & 7;
                if said == 0 {
                    // The offset of the copy before it.
                    length = match length {
                        5 => bytes.number(1)? + 4,
                        6 => bytes.number(2)? + (1 << 8),
                        7 => bytes.number(3)? + (1 << 16),
                        length => length,
                    };
                } else {
                    offset = said;
                }
                length + 4
            }
            2 => {
                offset = bytes.number(2)?;
                small + 1
            }
            _ => {
                offset = bytes.number(4)?;
                small + 1
            }
        };
        copy(&mut data, offset, copied)?;
    }
    match data.len() == length {
        true => Ok(data),
        false => Err(BadFrame("a block has another length than it says")),
    }
}

/// Appends what stands so far back, which may reach into what is appended.
fn copy(data: &mut Vec<u8>, offset: usize, length: usize) -> Result<(), BadFrame> {
    if offset == 0 || offset > data.len() || data.len() + length > LARGEST_BLOCK {
        return Err(BadFrame("a block copies what is not there"));
    }
    let mut left = length;
    while left > 0 {
        let from = data.len() - offset;
        let some = left.min(offset);
        data.extend_from_within(from..from + some);
        left -= some;
    }
    Ok(())
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadFrame> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(BadFrame("a block is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Little-endian.
    fn number(&mut self, bytes: usize) -> Result<usize, BadFrame> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn varint(&mut self) -> Result<usize, BadFrame> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.number(1)?;
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadFrame("a block says no length"))
    }
}

/// The checksum of a frame: CRC-32C, masked as Snappy's framing wants it.
pub(crate) fn masked(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0, |crc: u32, byte| {
        crc >> 8 ^ CRC_32C[usize::from(crc as u8 ^ byte)]
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

static CRC_32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_each_kind_of_element_is_decoded() {
        // A literal of four, a copy of eight from four back, a repeat of nine, a literal, a far copy.
        let block = [
            27,
            3 << 2,
            b'a',
            b'b',
            b'c',
            b'd',
            4 << 2 | 1,
            4,
            5 << 2 | 1,
            0,
            1,
            0,
            b'!',
            4 << 2 | 2,
            5,
            0,
        ];
        let data = decoded(&block).expect("a block");
        assert_eq!(data, b"abcdabcdabcdabcdabcda!bcda!".as_slice());
        for cut in 1..block.len() {
            assert!(decoded(&block[..cut]).is_err(), "{cut}");
        }
        assert!(decoded(&[1, 2, 9, 0]).is_err(), "a copy of nothing");
    }

    /// Many frames in one read are as cheap as the same in many.
    #[test]
    fn the_smallest_frames_take_no_time() {
        let mut stream = b"\xff\x06\0\0S2sTwO".to_vec();
        stream.extend([0x80, 0, 0, 0].repeat(2 << 20));
        let begun = std::time::Instant::now();
        let mut frames = Frames::default();
        frames.push(&stream);
        let mut count = 0;
        while frames.read().expect("frames").is_some() {
            count += 1;
            assert!(begun.elapsed().as_secs() < 20, "{count} frames");
        }
        assert_eq!(count, (2 << 20) + 1);
        assert!(frames.is_at_end());
    }

    #[test]
    fn frames_are_read_however_they_are_cut_and_a_changed_byte_is_seen() {
        let data: Vec<u8> = (0..200_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
        let mut stream = b"\xff\x06\0\0S2sTwO".to_vec();
        stream.extend(uncompressed(&data));
        let read = |stream: &[u8], step: usize| -> Result<Vec<u8>, BadFrame> {
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(step) {
                frames.push(bytes);
                while let Some(frame) = frames.read()? {
                    read.extend(frame.data.unwrap_or_default());
                }
            }
            assert!(frames.is_at_end());
            Ok(read)
        };
        for step in [7, 4_096, 1 << 20] {
            assert_eq!(read(&stream, step).as_deref(), Ok(data.as_slice()));
        }
        stream[100_000] ^= 1;
        assert!(read(&stream, 4_096).is_err());
        assert_eq!(
            masked(b"123456789"),
            0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }
}
