//! `root`: the last checkpoint, the only consistent cut of the log. Published by a compare on its mod revision.

use bytes::Bytes;
use esker_segment::id::LogIndex;
use esker_segment::name::ObjectName;
use esker_segment::wire::{Decoder, Encoder, FormatError};
use esker_storage::merged::ManifestRef;

use super::{decoder, encoder};
use crate::store::Revision;

/// The key.
pub const KEY: Bytes = Bytes::from_static(b"root");
const VERSION: u8 = 1;
/// Most index objects that a root refers to; compaction must keep up.
pub const INDEXES_MAX: usize = 8_192;
/// Fewest bytes of a reference to an index object.
const INDEX_BYTES_MIN: usize = 2 + OBJECT_BYTES_MIN;
/// Fewest bytes of a reference to an object.
const OBJECT_BYTES_MIN: usize = 5 + 1 + 16;

/// The last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The state is that after this commit.
    pub index: LogIndex,
    /// Revision of that commit.
    pub revision: Revision,
    /// Digest of the fold there.
    pub digest: u128,
    /// The fold's state.
    pub state: ObjectRef,
    /// The index objects that are not wholly merged, in log order.
    pub indexes: Vec<IndexRef>,
    /// Root of the manifest; none before the first merge.
    pub manifest: Option<ObjectRef>,
    /// What entries up to this index put into partitions is found through the manifest.
    pub merged_through: LogIndex,
}

impl Root {
    /// The root of the manifest, as its readers name it.
    #[must_use]
    pub fn manifest_ref(&self) -> Option<ManifestRef> {
        self.manifest.map(|manifest| (manifest.name, manifest.length_bytes))
    }
}

/// An immutable object in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Which one.
    pub name: ObjectName,
    /// Its length.
    pub length_bytes: u64,
    /// Its digest.
    pub digest: u128,
}

/// An index object and the log indexes it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRef {
    /// The first.
    pub first: LogIndex,
    /// The last.
    pub last: LogIndex,
    /// The object.
    pub object: ObjectRef,
}

impl ObjectRef {
    fn encode(&self, out: &mut Encoder) {
        self.name.encode(out);
        out.varint(self.length_bytes);
        out.u128(self.digest);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            name: ObjectName::decode(input)?,
            length_bytes: input.varint()?,
            digest: input.u128()?,
        })
    }
}

impl Root {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = encoder(VERSION);
        out.varint(self.index.0);
        out.varint(self.revision.0);
        out.u128(self.digest);
        self.state.encode(&mut out);
        out.varint(self.merged_through.0);
        out.bool(self.manifest.is_some());
        if let Some(manifest) = &self.manifest {
            manifest.encode(&mut out);
        }
        out.count(self.indexes.len());
        for index in &self.indexes {
            out.varint(index.first.0);
            out.varint(index.last.0);
            index.object.encode(&mut out);
        }
        out.finish().into()
    }

    /// The inverse of [`Root::encode`].
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        let mut input = decoder("root", VERSION, value)?;
        let mut this = Self {
            index: LogIndex(input.varint()?),
            revision: Revision(input.varint()?),
            digest: input.u128()?,
            state: ObjectRef::decode(&mut input)?,
            merged_through: LogIndex(input.varint()?),
            manifest: if input.bool()? {
                Some(ObjectRef::decode(&mut input)?)
            } else {
                None
            },
            indexes: Vec::new(),
        };
        let count = input.count("index objects", INDEXES_MAX, INDEX_BYTES_MIN)?;
        this.indexes.reserve_exact(count);
        for _ in 0..count {
            let (first, last) = (LogIndex(input.varint()?), LogIndex(input.varint()?));
            this.indexes.push(IndexRef {
                first,
                last,
                object: ObjectRef::decode(&mut input)?,
            });
        }
        input.finish()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use esker_segment::id::{IncarnationNumber, SegmentNumber, SessionId};
    use esker_segment::name::{ObjectKind, SegmentName};

    use super::*;

    fn object(kind: ObjectKind, number: u64) -> ObjectRef {
        let name = SegmentName {
            incarnation: IncarnationNumber(1),
            session: SessionId(2),
            number: SegmentNumber(number),
            attempt: 0,
        };
        ObjectRef {
            name: ObjectName::Other { kind, name },
            length_bytes: 100,
            digest: 9,
        }
    }

    #[test]
    fn golden() {
        let index = IndexRef {
            first: LogIndex(1),
            last: LogIndex(5),
            object: object(ObjectKind::Index, 3),
        };
        let this = Root {
            index: LogIndex(5),
            revision: Revision(300),
            digest: 1,
            state: object(ObjectKind::State, 4),
            indexes: vec![index],
            manifest: Some(object(ObjectKind::Manifest, 6)),
            merged_through: LogIndex(0),
        };
        let bytes = this.encode();
        let one = "01000000000000000000000000000000";
        let nine = "09000000000000000000000000000000";
        let expected = format!("0105ac02{one}010102040064{nine}00010401020600 64{nine}010105020102030064{nine}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""));
        assert_eq!(Root::decode(&bytes), Ok(this));
        for cut in 0..bytes.len() {
            assert!(Root::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
