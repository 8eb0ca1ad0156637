//! Reading and writing files past the page cache (`O_DIRECT`), through aligned buffers that are used again.
//!
//! An object is written once and then read through our own cache, if at all: the page cache would only cost a copy into
//! memory that is new each time, which is most of what a write costs. `docs/decisions/0012-past-the-page-cache.md` has the figures.
//!
//! Owns: alignment, the pool of buffers, falling back for good where a file system cannot do it.
//! Does not own: names, fsync (`directory`).
//!
//! Invariants: MEM-1 (idle buffers are bounded in number and size). A file ends where its object ends.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What positions, lengths and addresses must be multiples of: the largest block of common devices.
const ALIGNMENT: usize = 4096;
/// Smaller objects and ranges go through the page cache: what is left at the end goes there anyway.
pub(super) const DIRECT_BYTES_MIN: u64 = 64 << 10;
/// How much is written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Buffers have lengths that are multiples of this, so that they fit again.
const GRAIN_BYTES: usize = 64 << 10;
/// Larger buffers are not kept.
const POOLED_BYTES_MAX: usize = 8 << 20;
/// Idle buffers that are kept, in bytes.
const IDLE_BYTES_MAX: usize = 32 << 20;

/// Direct input and output for the files of one directory.
#[derive(Debug, Default)]
pub(super) struct Direct {
    pool: Arc<Pool>,
    /// The file system has refused.
    off: AtomicBool,
}

impl Direct {
    /// A new file to be written this way; `None` when the name is taken, or when the file system cannot do it.
    pub(super) fn create(&self, path: &Path) -> io::Result<Option<File>> {
        match self.open(path, OpenOptions::new().write(true).create_new(true)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            other => other,
        }
    }

    /// Writes a file from [`Direct::create`]; `false` when the file system cannot do it after all.
    pub(super) fn write(&self, file: &File, chunks: &[Bytes]) -> io::Result<bool> {
        let mut buffer = self.pool.take(BLOCK_BYTES);
        let (mut filled, mut position) = (0, 0);
        for chunk in chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let block = &mut buffer.aligned()[..BLOCK_BYTES];
                let taken = rest.len().min(BLOCK_BYTES - filled);
                block[filled..filled + taken].copy_from_slice(&rest[..taken]);
                (filled, rest) = (filled + taken, &rest[taken..]);
                if filled == BLOCK_BYTES {
                    if !self.accepted(file.write_all_at(block, position))? {
                        return Ok(false);
                    }
                    position += u64::try_from(BLOCK_BYTES).expect("a length fits 64 bits");
                    filled = 0;
                }
            }
        }
        let rest = filled % ALIGNMENT;
        let (whole, rest) = buffer.aligned()[..filled].split_at(filled - rest);
        if !whole.is_empty() && !self.accepted(file.write_all_at(whole, position))? {
            return Ok(false);
        }
        write_through_cache(
            file,
            rest,
            position + u64::try_from(whole.len()).expect("a length fits 64 bits"),
        )?;
        Ok(true)
    }

    /// Reads a range that is not empty; `None` when the file system cannot do it this way. Fewer bytes than asked for mean
    /// that the file ends there.
    pub(super) fn read(&self, path: &Path, range: &Range<u64>) -> io::Result<Option<Bytes>> {
        let Some(file) = self.open(path, OpenOptions::new().read(true))? else {
            return Ok(None);
        };
        let alignment = u64::try_from(ALIGNMENT).expect("small");
        let start = range.start - range.start % alignment;
        let skipped = usize::try_from(range.start - start).expect("less than a block");
        let Ok(wanted) = usize::try_from(range.end - start) else {
            return Err(ErrorKind::OutOfMemory.into());
        };
        // Nothing is set aside for what the file does not have.
        let length = usize::try_from(file.metadata()?.len().saturating_sub(start)).unwrap_or(usize::MAX);
        let wanted = wanted.min(length);
        let mut buffer = self.pool.take(wanted.next_multiple_of(ALIGNMENT));
        let mut filled = 0;
        while filled < wanted {
            let block = &mut buffer.aligned()[filled..wanted.next_multiple_of(ALIGNMENT)];
            let position = start + u64::try_from(filled).expect("a length fits 64 bits");
            match file.read_at(block, position) {
                Ok(0) => break,
                // What follows an unaligned count is the end of the file.
                Ok(count) if count % ALIGNMENT != 0 => {
                    filled += count;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.accepted(Err(error)).map(|_| None),
            }
        }
        let filled = filled.min(wanted);
        Ok(Some(buffer.freeze(skipped.min(filled)..filled)))
    }

    /// `None` when the file system cannot do it.
    fn open(&self, path: &Path, options: &mut OpenOptions) -> io::Result<Option<File>> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match options.custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) => self.accepted(Err(error)).map(|_| None),
        }
    }

    /// Whether a call was accepted; if the file system cannot do it, it is never asked again.
    fn accepted(&self, result: io::Result<()>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                self.off.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Writes the end of a file, which is no whole block. A padded block that is cut off afterwards costs more: the file system reads it first.
fn write_through_cache(file: &File, end: &[u8], position: u64) -> io::Result<()> {
    if end.is_empty() {
        return Ok(());
    }
    fcntl_setfl(file, fcntl_getfl(file)? - OFlags::DIRECT)?;
    file.write_all_at(end, position)
}

/// Buffers that nobody uses at the moment.
#[derive(Debug, Default)]
struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// A buffer with so many aligned bytes.
    fn take(self: &Arc<Self>, bytes: usize) -> Buffer {
        let capacity = bytes.next_multiple_of(GRAIN_BYTES) + ALIGNMENT;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.buffers.iter().rposition(|buffer| buffer.len() == capacity);
        let memory = found.map(|at| idle.buffers.swap_remove(at));
        idle.bytes -= memory.as_ref().map_or(0, Vec::len);
        drop(idle);
        Buffer {
            memory: memory.unwrap_or_else(|| vec![0; capacity]),
            pool: Arc::clone(self),
            shown: 0..0,
        }
    }
}

/// A buffer that goes back to its pool.
struct Buffer {
    memory: Vec<u8>,
    pool: Arc<Pool>,
    shown: Range<usize>,
}

impl Buffer {
    fn aligned(&mut self) -> &mut [u8] {
        let skipped = self.memory.as_ptr().align_offset(ALIGNMENT);
        &mut self.memory[skipped..]
    }

    fn freeze(mut self, shown: Range<usize>) -> Bytes {
        let skipped = self.memory.as_ptr().align_offset(ALIGNMENT);
        self.shown = skipped + shown.start..skipped + shown.end;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.shown.clone()]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.len() > POOLED_BYTES_MAX + ALIGNMENT {
            return;
        }
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + memory.len() <= IDLE_BYTES_MAX {
            idle.bytes += memory.len();
            idle.buffers.push(memory);
        }
    }
}
