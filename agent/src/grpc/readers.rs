//! What all who read may hold together.
//!
//! Owns: dividing it among the reads that are open, for any of them may be one whose answer nobody takes.
//! Does not own: what is read (`consumer`, `subscribe`).
//!
//! Invariants: MEM-1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all may ask for at a time, of stored bytes.
const HELD_BYTES: usize = 128 * 1024 * 1024;
/// A share that is still worth a fetch.
const SHARE_MIN: usize = 64 * 1024;

/// Counts those who read. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<AtomicUsize>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct Reader(Arc<AtomicUsize>);

/// What a reader may hold now.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<AtomicUsize>);

impl Readers {
    /// One more, and its share.
    pub(super) fn open(&self) -> (Reader, Share) {
        self.0.fetch_add(1, Ordering::Relaxed);
        (Reader(Arc::clone(&self.0)), Share(Arc::clone(&self.0)))
    }
}

impl Share {
    /// Bytes that one answer may have.
    pub(super) fn bytes(&self) -> usize {
        (HELD_BYTES / self.0.load(Ordering::Relaxed).max(1)).max(SHARE_MIN)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_what_they_may_hold() {
        let readers = Readers::default();
        let (_first, share) = readers.open();
        assert_eq!(share.bytes(), HELD_BYTES);
        let more: Vec<_> = (0..1_023).map(|_| readers.open()).collect();
        assert_eq!(share.bytes(), HELD_BYTES / 1_024);
        let many: Vec<_> = (0..10_000).map(|_| readers.open()).collect();
        assert_eq!(share.bytes(), SHARE_MIN);
        drop((more, many));
        assert_eq!(share.bytes(), HELD_BYTES);
    }
}
