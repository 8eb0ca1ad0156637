//! The value of a `records` field: record batches as they travel, never looked into here.

use std::fmt;

use bytes::Bytes;

/// Record batches as a list of shared chunks. Decoding yields at most one chunk that shares the frame; a fetch
/// response is put together from many (patched headers and shared bodies) without copying the bodies.
#[derive(Clone, Default)]
pub struct Records {
    chunks: Chunks,
    len: usize,
}

#[derive(Clone, Default)]
enum Chunks {
    #[default]
    None,
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Records {
    /// No records.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chunks: Chunks::None,
            len: 0,
        }
    }

    /// Total length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk, sharing it. Empty chunks vanish.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        self.chunks = match std::mem::take(&mut self.chunks) {
            Chunks::None => Chunks::One(chunk),
            Chunks::One(first) => Chunks::Many(vec![first, chunk]),
            Chunks::Many(mut all) => {
                all.push(chunk);
                Chunks::Many(all)
            }
        };
    }

    /// The chunks in order.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        match &self.chunks {
            Chunks::None => &[],
            Chunks::One(chunk) => std::slice::from_ref(chunk),
            Chunks::Many(all) => all,
        }
    }

    /// The bytes in one piece: shared if there is one chunk (as after decoding), copied otherwise.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.chunks {
            Chunks::None => Bytes::new(),
            Chunks::One(chunk) => chunk.clone(),
            Chunks::Many(all) => Bytes::from(all.concat()),
        }
    }
}

impl fmt::Debug for Records {
    /// Only the length: there may be megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes)", self.len)
    }
}

impl PartialEq for Records {
    /// Compares the bytes, however they are cut into chunks.
    fn eq(&self, other: &Self) -> bool {
        let ours = self.chunks().iter().flat_map(|chunk| chunk.iter());
        let theirs = other.chunks().iter().flat_map(|chunk| chunk.iter());
        self.len == other.len && ours.eq(theirs)
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        let mut records = Self::new();
        records.push(bytes);
        records
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::new();
        for chunk in chunks {
            records.push(chunk);
        }
        records
    }
}
