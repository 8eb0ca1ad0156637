//! `group/<shard>/g/<group id>`: the generation of a group and which member records make it up. It is put last, when all of
//! them are there, so whoever reads it at one revision with the records finds a generation as a whole.

use bytes::Bytes;
use esker_segment::wire::{Decoder, Encoder, FormatError};

use super::owner::SHARD_DIGITS;
use super::{decoder, encoder};

/// What the keys of all groups begin with, those of their members and of their writes too.
pub const PREFIX: &str = "group/";
const VERSION: u8 = 1;
/// Most members of a group.
pub const MEMBERS_MAX: usize = 1 << 20;
/// Most bytes of a member id, a protocol's name or type.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// How far the members of a generation have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There are none.
    Empty,
    /// They have been told of it; the leader's assignment is awaited.
    Completing,
    /// They are assigned.
    Stable,
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1 on.
    pub number: i32,
    /// How far it is.
    pub phase: Phase,
    /// Protocol type of the group.
    pub protocol_type: Option<String>,
    /// The protocol chosen.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// Numbers of the member records, ascending.
    pub members: Vec<u64>,
}

/// What the keys of a shard begin with.
#[must_use]
pub fn shard_prefix(shard: u16) -> Bytes {
    Bytes::from(format!("{PREFIX}{shard:04x}/"))
}

/// The key of a group.
#[must_use]
pub fn key(shard: u16, group: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{shard:04x}/g/{group}"))
}

/// The inverse of [`key`], for a key of that shard.
#[must_use]
pub fn parse_key(shard: u16, key: &[u8]) -> Option<&str> {
    std::str::from_utf8(in_shard(shard, key)?.strip_prefix(b"g/")?).ok()
}

/// What stands behind the shard in a key.
pub(super) fn in_shard(shard: u16, key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(PREFIX.as_bytes())?;
    let (found, rest) = rest.split_at_checked(SHARD_DIGITS)?;
    (found == format!("{shard:04x}").as_bytes())
        .then_some(rest)?
        .strip_prefix(b"/")
}

fn put_text(out: &mut Encoder, text: Option<&str>) {
    out.bool(text.is_some());
    if let Some(text) = text {
        out.str(text);
    }
}

fn text(input: &mut Decoder<'_>, what: &'static str) -> Result<Option<String>, FormatError> {
    if !input.bool()? {
        return Ok(None);
    }
    input.str(what, TEXT_BYTES_MAX).map(|text| Some(text.to_owned()))
}

impl Generation {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.u32(self.number.cast_unsigned());
        out.u8(match self.phase {
            Phase::Empty => 0,
            Phase::Completing => 1,
            Phase::Stable => 2,
        });
        put_text(&mut out, self.protocol_type.as_deref());
        put_text(&mut out, self.protocol.as_deref());
        put_text(&mut out, self.leader.as_deref());
        out.count(self.members.len());
        let mut before = 0;
        for number in &self.members {
            out.varint(number.wrapping_sub(before));
            before = *number;
        }
        out.finish().into()
    }

    /// The inverse of [`Generation::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("generation of a group", VERSION, value)?;
        let number = input.u32()?.cast_signed();
        let phase = match input.u8()? {
            0 => Phase::Empty,
            1 => Phase::Completing,
            2 => Phase::Stable,
            _ => {
                return Err(FormatError::Invalid {
                    what: "phase of a group",
                });
            }
        };
        let mut this = Self {
            number,
            phase,
            protocol_type: text(&mut input, "protocol type")?,
            protocol: text(&mut input, "protocol")?,
            leader: text(&mut input, "leader")?,
            members: Vec::new(),
        };
        let mut before = None;
        for _ in 0..input.count("members", MEMBERS_MAX, 1)? {
            let invalid = FormatError::Invalid {
                what: "order of members",
            };
            let step = input.varint()?;
            let next = before.map_or(Some(step), |last: u64| last.checked_add(step));
            let next = next
                .filter(|next| before.is_none_or(|last| *next > last))
                .ok_or(invalid)?;
            this.members.push(next);
            before = Some(next);
        }
        input.finish()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        Generation {
            number: 3,
            phase: Phase::Stable,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some("range".to_owned()),
            leader: Some("m".to_owned()),
            members: vec![5, 6, 400],
        }
    }

    #[test]
    fn golden() {
        let bytes = generation().encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x03\0\0\0\x02\x01\x08consumer\x01\x05range\x01\x01m\x03\x05\x01\x8a\x03"
        );
        assert_eq!(Generation::decode(&bytes), Ok(generation()));
        assert_eq!(&key(63, "a/b")[..], b"group/003f/g/a/b");
        assert_eq!(parse_key(63, b"group/003f/g/a/b"), Some("a/b"));
        assert_eq!(parse_key(62, b"group/003f/g/a/b"), None);
        assert_eq!(parse_key(63, b"group/003f/m/0"), None);
        assert!(key(63, "g").starts_with(&shard_prefix(63)));
    }

    #[test]
    fn every_shape_comes_back() {
        let empty = Generation {
            phase: Phase::Empty,
            protocol: None,
            leader: None,
            members: Vec::new(),
            ..generation()
        };
        let completing = Generation {
            number: i32::MAX,
            phase: Phase::Completing,
            protocol_type: None,
            members: vec![0, u64::MAX],
            ..generation()
        };
        for this in [empty, completing] {
            assert_eq!(Generation::decode(&this.encode()), Ok(this));
        }
    }

    #[test]
    fn members_out_of_order_twice_or_beyond_the_numbers_are_refused() {
        for members in [vec![2, 1], vec![1, 1], vec![u64::MAX, 3]] {
            let bytes = Generation {
                members,
                ..generation()
            }
            .encode();
            assert!(Generation::decode(&bytes).is_err());
        }
        let mut bytes = generation().encode().to_vec();
        bytes[5] = 3;
        assert_eq!(
            Generation::decode(&bytes),
            Err(FormatError::Invalid {
                what: "phase of a group"
            })
        );
    }
}
