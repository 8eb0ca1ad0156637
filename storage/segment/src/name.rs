//! Names of the objects of a cluster, and the keys they have in the bucket.
//!
//! Owns: `<cluster>/<incarnation>/…`: which kinds there are, how a key is derived from a name and read back.
//! Does not own: who may delete what (compaction), the bucket (`esker-storage`).
//!
//! Invariants: a name has exactly one key and a key at most one name; a prefix tells incarnations and kinds apart.
//! `docs/formats/object-keys.md` has the layout.

use std::fmt;
use std::str::FromStr;

use crate::id::{IncarnationNumber, SegmentNumber, SessionId};
use crate::wire::{Decoder, Encoder, FormatError};

#[cfg(test)]
mod tests;

/// Most bytes of a cluster id.
pub const CLUSTER_ID_BYTES_MAX: usize = 64;
/// Bytes of a key after the cluster id, usually at most.
const KEY_REST_BYTES: usize = 64;

/// Id of a cluster: 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with a dot. First part of every object key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

/// Why a text is not a cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster id {0:?} is not 1 to 64 letters, digits, hyphens, underscores and dots")]
pub struct NotAClusterId(pub String);

impl FromStr for ClusterId {
    type Err = NotAClusterId;

    fn from_str(text: &str) -> Result<Self, NotAClusterId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=CLUSTER_ID_BYTES_MAX).contains(&text.len()) && !text.starts_with('.');
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAClusterId(text.to_owned()))
        }
    }
}

impl ClusterId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every key of the cluster begins with.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{self}/")
    }

    /// What every key of one incarnation begins with.
    #[must_use]
    pub fn incarnation_prefix(&self, incarnation: IncarnationNumber) -> String {
        format!("{self}/{incarnation}/")
    }

    /// The key of the object that says which random id an incarnation has.
    #[must_use]
    pub fn incarnation_key(&self, incarnation: IncarnationNumber) -> String {
        format!("{self}/{incarnation}/incarnation")
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a fresh segment: which session flushed it, as its how-manieth, in which attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The incarnation in which it was written.
    pub incarnation: IncarnationNumber,
    /// The session of its writer.
    pub session: SessionId,
    /// The first segment of a session is 1.
    pub number: SegmentNumber,
    /// 0 for the first upload; retries and hedges of the same segment take the next ones.
    pub attempt: u32,
}

impl SegmentName {
    /// Its key in the bucket: `<cluster>/<incarnation>/<hash>/<session>-<number>-<attempt>`.
    #[must_use]
    pub fn key(&self, cluster: &ClusterId) -> String {
        ObjectName::Segment(*self).key(cluster)
    }

    /// Four varints.
    pub fn encode(&self, out: &mut Encoder) {
        out.varint(u64::from(self.incarnation.0));
        out.varint(self.session.0);
        out.varint(self.number.0);
        out.varint(u64::from(self.attempt));
    }

    /// The inverse of [`SegmentName::encode`].
    ///
    /// # Errors
    /// `Truncated`, `Varint`, `OverLimit`.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            incarnation: IncarnationNumber(input.varint_u32("incarnation number")?),
            session: SessionId(input.varint()?),
            number: SegmentNumber(input.varint()?),
            attempt: input.varint_u32("attempt")?,
        })
    }
}

/// The kinds of objects that are not fresh segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// State of the fold at a log index.
    State,
    /// Batch indexes of a range of log indexes.
    Index,
    /// A merged segment.
    Merged,
    /// The root of a manifest.
    Manifest,
    /// A page of a manifest.
    Page,
    /// Order of commits, written by an agent that has no segment to carry it.
    Order,
}

impl ObjectKind {
    /// All of them; the position is the code in encodings.
    pub const ALL: [Self; 6] = [
        Self::State,
        Self::Index,
        Self::Merged,
        Self::Manifest,
        Self::Page,
        Self::Order,
    ];

    /// The directory in which objects of this kind lie.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Index => "index",
            Self::Merged => "merged",
            Self::Manifest => "manifest",
            Self::Page => "page",
            Self::Order => "order",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::State => 1,
            Self::Index => 2,
            Self::Merged => 3,
            Self::Manifest => 4,
            Self::Page => 5,
            Self::Order => 6,
        }
    }
}

/// Name of any object of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// A fresh segment.
    Segment(SegmentName),
    /// Anything else. `number` counts what the session wrote of all these kinds together, or is a log index: whatever
    /// the writer never uses twice.
    Other {
        /// What it is.
        kind: ObjectKind,
        /// Who wrote it, and as its how-manieth.
        name: SegmentName,
    },
}

impl ObjectName {
    /// Its key in the bucket.
    #[must_use]
    pub fn key(&self, cluster: &ClusterId) -> String {
        let (Self::Segment(name) | Self::Other { name, .. }) = self;
        let mut key = String::with_capacity(cluster.as_str().len() + KEY_REST_BYTES);
        key.push_str(cluster.as_str());
        key.push('/');
        push_number(&mut key, name.incarnation.0.into());
        match self {
            Self::Segment(_) => {
                // The directory is a function of all the rest.
                let directory = key.len();
                push_stem(&mut key, name);
                let spread = spread(&key);
                key.insert_str(directory, str::from_utf8(&spread).expect("ASCII"));
            }
            Self::Other { kind, .. } => {
                key.push('/');
                key.push_str(kind.directory());
                push_stem(&mut key, name);
            }
        }
        key
    }

    /// Reads a key of this cluster back; `None` when no name has that key.
    #[must_use]
    pub fn parse(cluster: &ClusterId, key: &str) -> Option<Self> {
        let rest = key.strip_prefix(cluster.as_str())?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let (incarnation, directory, stem) = (parts.next()?, parts.next()?, parts.next()?);
        let mut numbers = stem.split('-');
        let name = SegmentName {
            incarnation: IncarnationNumber(incarnation.parse().ok()?),
            session: SessionId(numbers.next()?.parse().ok()?),
            number: SegmentNumber(numbers.next()?.parse().ok()?),
            attempt: numbers.next()?.parse().ok()?,
        };
        let parsed = match ObjectKind::ALL.into_iter().find(|kind| kind.directory() == directory) {
            Some(kind) => Self::Other { kind, name },
            None => Self::Segment(name),
        };
        // Leading zeros, plus signs, further parts and wrong hashes are keys that no name has.
        (parsed.key(cluster) == key).then_some(parsed)
    }

    /// A code for the kind, then the name.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Segment(name) => {
                out.u8(0);
                name.encode(out);
            }
            Self::Other { kind, name } => {
                out.u8(kind.code());
                name.encode(out);
            }
        }
    }

    /// The inverse of [`ObjectName::encode`].
    ///
    /// # Errors
    /// As [`SegmentName::decode`], and `Invalid` for an unknown kind.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let code = input.u8()?;
        let name = SegmentName::decode(input)?;
        if code == 0 {
            return Ok(Self::Segment(name));
        }
        match ObjectKind::ALL.into_iter().find(|kind| kind.code() == code) {
            Some(kind) => Ok(Self::Other { kind, name }),
            None => Err(FormatError::Invalid { what: "kind of object" }),
        }
    }
}

/// `/<session>-<number>-<attempt>`.
fn push_stem(key: &mut String, name: &SegmentName) {
    for (before, number) in [('/', name.session.0), ('-', name.number.0), ('-', name.attempt.into())] {
        key.push(before);
        push_number(key, number);
    }
}

/// A number in decimal. A fetch makes the key of every segment that it reads from: with `fmt` that was a quarter of its instructions.
fn push_number(key: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    key.extend(digits[first..].iter().copied().map(char::from));
}

/// One of 256 directories, so that a store which splits by prefix can split the load: a slash and two hexadecimal digits.
fn spread(key: &str) -> [u8; 3] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
    let digit = |bits: u64| DIGITS[usize::try_from(bits & 0xf).expect("four bits")];
    [b'/', digit(hash >> 4), digit(hash)]
}
