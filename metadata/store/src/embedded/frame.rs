//! The bytes of the metadata file: a head, then frames of changes. `docs/formats/metadata-keys.md` has the layout.
//!
//! Owns: encoding, decoding, the checksums.
//! Does not own: reading (`load`) and writing (`journal`) of the file.
//!
//! Invariants: a frame names the file that it belongs to and its number in it, so that what an earlier file left behind is
//! never taken for a part of this one.

use bytes::Bytes;
use esker_segment::checksum::crc32c;
use esker_segment::wire::{Decoder, Encoder, FormatError};

use crate::store::{KeyValue, LeaseId, Revision, WatchEvent};

const MAGIC: &[u8; 8] = b"ESKERMDJ";
const VERSION: u16 = 1;
/// Magic, version, id of the file, checksum of these.
pub(super) const HEAD_BYTES: usize = 8 + 2 + 8 + 4;
/// What stands before the body of a frame: its checksum, which covers all that follows it, and the body's length.
pub(super) const PREFIX_BYTES: usize = 4 + 4;
/// Prefix, file, sequence, bytes of the file, revision.
const FRAME_HEAD_BYTES: usize = PREFIX_BYTES + 4 * 8;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// A random number that no two files share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub(super) u64);

/// What a frame says before its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) file: FileId,
    /// Its number in the file, from 0 on.
    pub(super) sequence: u64,
    /// How long the file was, durably, before the frame was written. The frames of a file that is not complete yet say 0.
    pub(super) file_bytes: u64,
    /// The revision of the store after it.
    pub(super) revision: Revision,
}

/// The head of a file.
pub(super) fn encode_head(file: FileId) -> Vec<u8> {
    let mut out = Encoder::with_capacity(HEAD_BYTES);
    out.raw(MAGIC);
    out.u16(VERSION);
    out.u64(file.0);
    out.u32(crc32c(out.as_slice()));
    out.finish()
}

/// Reads a head.
///
/// # Errors
/// When it is none of ours.
pub(super) fn decode_head(head: &[u8]) -> Result<FileId, FormatError> {
    let what = "metadata file";
    let mut input = Decoder::new(head);
    if input.raw(MAGIC.len())? != MAGIC {
        return Err(FormatError::Magic { what });
    }
    let found = input.u16()?;
    if found != VERSION {
        let known = VERSION;
        return Err(FormatError::Version { what, found, known });
    }
    let file = FileId(input.u64()?);
    let (stored, computed) = (input.u32()?, crc32c(&head[..HEAD_BYTES - 4]));
    if stored != computed {
        let what = "head of the metadata file";
        return Err(FormatError::Checksum { what, stored, computed });
    }
    Ok(file)
}

/// A frame that is being written, into a buffer that was used before.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    out: Encoder,
}

impl FrameBuilder {
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        let mut out = Encoder::reusing(buffer);
        out.raw(&[0; FRAME_HEAD_BYTES]);
        Self { out }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn put(&mut self, kv: &KeyValue) {
        self.out.u8(PUT);
        self.out.bytes(&kv.key);
        self.out.varint(kv.create_revision.0);
        self.out.varint(kv.mod_revision.0);
        self.out.varint(kv.version);
        self.out.zigzag(kv.lease.0);
        self.out.bytes(&kv.value);
    }

    pub(super) fn event(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put(kv) => self.put(kv),
            WatchEvent::Delete { key, .. } => {
                self.out.u8(DELETE);
                self.out.bytes(key);
            }
        }
    }

    /// The frame.
    ///
    /// # Panics
    /// When it has 4 GiB.
    pub(super) fn finish(self, head: FrameHead) -> Vec<u8> {
        let mut frame = self.out.finish();
        let body =
            u32::try_from(frame.len() - PREFIX_BYTES).expect("a group of transactions and a lease's keys are far less");
        frame[4..8].copy_from_slice(&body.to_le_bytes());
        let fields = [head.file.0, head.sequence, head.file_bytes, head.revision.0];
        for (field, at) in fields.iter().zip((PREFIX_BYTES..).step_by(8)) {
            frame[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c(&frame[4..]);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
        frame
    }
}

/// What the first bytes of a frame say: how long all of it is.
pub(super) fn frame_bytes(prefix: [u8; PREFIX_BYTES]) -> usize {
    let [.., a, b, c, d] = prefix;
    let body = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    body.saturating_add(PREFIX_BYTES)
}

/// A length as a part of a position.
pub(super) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits")
}

/// A frame whose checksum matches.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) head: FrameHead,
    changes: Decoder<'a>,
}

impl<'a> Frame<'a> {
    /// Takes a frame apart; `None` when these bytes are none.
    pub(super) fn check(frame: &'a [u8]) -> Option<Self> {
        let mut input = Decoder::new(frame);
        let stored = input.u32().ok()?;
        if stored != crc32c(&frame[4..]) {
            return None;
        }
        input.u32().ok()?;
        let head = FrameHead {
            file: FileId(input.u64().ok()?),
            sequence: input.u64().ok()?,
            file_bytes: input.u64().ok()?,
            revision: Revision(input.u64().ok()?),
        };
        Some(Self { head, changes: input })
    }

    /// The next change: a key, and what it holds from now on.
    pub(super) fn next_change(&mut self) -> Result<Option<(Bytes, Option<KeyValue>)>, FormatError> {
        let input = &mut self.changes;
        if input.left() == 0 {
            return Ok(None);
        }
        let tag = input.u8()?;
        let key = Bytes::copy_from_slice(input.bytes("key", usize::MAX)?);
        let row = match tag {
            DELETE => None,
            PUT => Some(KeyValue {
                key: key.clone(),
                create_revision: Revision(input.varint()?),
                mod_revision: Revision(input.varint()?),
                version: input.varint()?,
                lease: LeaseId(input.zigzag()?),
                value: Bytes::copy_from_slice(input.bytes("value", usize::MAX)?),
            }),
            _ => return Err(FormatError::Invalid { what: "kind of change" }),
        };
        Ok(Some((key, row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: FrameHead = FrameHead {
        file: FileId(0x0807_0605_0403_0201),
        sequence: 2,
        file_bytes: 1 << 20,
        revision: Revision(7),
    };

    fn sample() -> (KeyValue, Vec<u8>) {
        let kv = KeyValue {
            key: "k".into(),
            value: "val".into(),
            create_revision: Revision(5),
            mod_revision: Revision(300),
            version: 2,
            lease: LeaseId(-1),
        };
        let mut builder = FrameBuilder::new(vec![9; 100]);
        builder.event(&WatchEvent::Put(kv.clone()));
        builder.event(&WatchEvent::Delete {
            key: "gone".into(),
            revision: Revision(7),
        });
        (kv, builder.finish(HEAD))
    }

    #[test]
    fn a_frame_reads_back_and_nothing_shorter_or_changed_does() {
        let (kv, frame) = sample();
        let mut read = Frame::check(&frame).unwrap();
        assert_eq!(read.head, HEAD);
        assert_eq!(read.next_change(), Ok(Some(("k".into(), Some(kv)))));
        assert_eq!(read.next_change(), Ok(Some(("gone".into(), None))));
        assert_eq!(read.next_change(), Ok(None));
        assert_eq!(frame_bytes(frame[..PREFIX_BYTES].try_into().unwrap()), frame.len());
        for at in 0..frame.len() {
            assert!(Frame::check(&frame[..at]).is_none(), "{at} bytes");
            let mut flipped = frame.clone();
            flipped[at] ^= 4;
            assert!(Frame::check(&flipped).is_none(), "byte {at}");
        }
        assert!(Frame::check(&[0; 64]).is_none(), "zeroes are no frame");
    }

    #[test]
    fn the_bytes_of_a_frame_stay_as_they_are() {
        let (_, frame) = sample();
        let mut expected = vec![50, 0, 0, 0];
        expected.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(b"\x01\x01k\x05\xac\x02\x02\x01\x03val\x00\x04gone");
        assert_eq!(frame[4..], expected);
        assert_eq!(frame[..4], crc32c(&expected).to_le_bytes());
        assert_eq!(decode_head(&encode_head(HEAD.file)), Ok(HEAD.file));
        assert_eq!(
            &encode_head(HEAD.file)[..18],
            b"ESKERMDJ\x01\x00\x01\x02\x03\x04\x05\x06\x07\x08"
        );
    }
}
