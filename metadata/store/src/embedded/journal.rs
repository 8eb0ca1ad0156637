//! The metadata file as it is written: the whole key space once, then a frame for each group of changes.
//!
//! Owns: making a file, room for what comes, appending, when a file has grown too long.
//! Does not own: which file is in use (`durable`), the bytes (`frame`), reading (`load`).
//!
//! Invariants: a frame is synced before the next one is written, and lies in space that was written and synced before it.
//! So a crash tears the last frame and nothing else, and a full disk shows before a frame is begun.

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::frame::{self, FileId, FrameBuilder, FrameHead, wide};
use crate::keyspace::{Changes, Keyspace};
use crate::store::Revision;

/// The file grows by this much at a time.
const ROOM_BYTES: u64 = 1 << 20;
/// New room is made when less than this is left, so that so much can still be written when the disk is full: retention has
/// to commit before it makes space.
const RESERVE_BYTES: u64 = ROOM_BYTES / 4;
/// On a full disk, after so many bytes of the reserve it is tried again to make room.
const FULL_BYTES: u64 = RESERVE_BYTES / 16;
/// Changes that a file holds at least before it is written anew.
const CHANGES_BYTES_MIN: u64 = 8 << 20;
/// A frame of the key space ends with the first key beyond this.
const PART_BYTES: usize = 1 << 20;
/// What the buffer keeps of its size.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// Why changes were not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// There is no room for them, or no file. Nothing of them was written, and the journal is as it was.
    NotBegun(io::Error),
    /// They may be in the file or not, and it must not be used any more.
    Broken(io::Error),
}

/// Where a file goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) file: FileId,
    /// Of the next frame.
    pub(super) sequence: u64,
    /// End of the frames that hold the key space as it was when the file was made.
    pub(super) complete_at: u64,
    /// Where the last frame begins.
    pub(super) last: u64,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// The file is durable up to here, with zeroes from `end` on.
    pub(super) room_end: u64,
}

/// A file that can be appended to.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    at: Place,
    /// It is to be written anew when it is longer than this.
    grown_at: u64,
    /// The disk was full: no new room is made for frames that end before this.
    full_until: u64,
    /// What frames are encoded in.
    buffer: Vec<u8>,
}

impl Journal {
    /// Writes a key space into an empty file, durably.
    pub(super) fn create(disk: Arc<dyn Disk>, keyspace: &Keyspace) -> io::Result<Self> {
        let file = FileId(random());
        let head = frame::encode_head(file);
        disk.write(0, &head)?;
        let at = Place {
            file,
            sequence: 0,
            complete_at: 0,
            last: 0,
            end: wide(head.len()),
            room_end: 0,
        };
        let mut this = Self::resume(disk, at);
        let mut part = this.builder();
        for kv in keyspace.iter() {
            part.put(kv);
            if part.len() >= PART_BYTES {
                // A frame that does not say how long the file is: without the last one it is known to be half a file.
                this.write(part, keyspace.revision(), 0)?;
                part = this.builder();
            }
        }
        let room_end = room_after(this.at.end + wide(part.len()));
        this.write(part, keyspace.revision(), room_end)?;
        let complete_at = this.at.end;
        this.at.room_end = complete_at;
        this.fill(room_end)?;
        Ok(Self::resume(this.disk, Place { complete_at, ..this.at }))
    }

    /// Goes on with a file.
    pub(super) const fn resume(disk: Arc<dyn Disk>, at: Place) -> Self {
        Self {
            disk,
            at,
            grown_at: at.complete_at + changes_max(at),
            full_until: 0,
            buffer: Vec::new(),
        }
    }

    /// Makes durable what was read of the file, and zeroes what lies behind. The last frame is written once more: an earlier process
    /// may have failed to sync it, so that it is in memory only, and a sync alone would not notice.
    pub(super) fn restore(&self) -> io::Result<()> {
        let Place {
            last, end, room_end, ..
        } = self.at;
        let mut piece = vec![0; usize::try_from(room_end.min(ROOM_BYTES)).unwrap_or(usize::MAX)];
        let mut from = last;
        while from < room_end {
            let bytes = usize::try_from(room_end - from).map_or(piece.len(), |left| left.min(piece.len()));
            let kept = usize::try_from(end.saturating_sub(from)).map_or(bytes, |left| left.min(bytes));
            self.disk.read(from, &mut piece[..kept])?;
            piece[kept..bytes].fill(0);
            self.disk.write(from, &piece[..bytes])?;
            from += wide(bytes);
        }
        self.disk.sync()
    }

    /// Whether it is time to write a new file.
    pub(super) const fn has_grown(&self) -> bool {
        self.at.end > self.grown_at
    }

    /// A new file could not be written: this one goes on for a while.
    pub(super) const fn put_off(&mut self) {
        self.grown_at = self.at.end + changes_max(self.at);
    }

    /// Appends changes as one frame, durably.
    pub(super) fn append(&mut self, changes: &Changes) -> Result<(), AppendError> {
        let mut frame = self.builder();
        for event in &changes.events {
            frame.event(event);
        }
        self.make_room(wide(frame.len()))?;
        let written = self.write(frame, changes.revision, self.at.room_end);
        written.and_then(|()| self.disk.sync()).map_err(AppendError::Broken)?;
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(())
    }

    fn builder(&mut self) -> FrameBuilder {
        FrameBuilder::new(std::mem::take(&mut self.buffer))
    }

    fn write(&mut self, frame: FrameBuilder, revision: Revision, file_bytes: u64) -> io::Result<()> {
        let frame = frame.finish(FrameHead {
            file: self.at.file,
            sequence: self.at.sequence,
            file_bytes,
            revision,
        });
        self.disk.write(self.at.end, &frame)?;
        self.at.last = self.at.end;
        self.at.end += wide(frame.len());
        self.at.sequence += 1;
        self.buffer = frame;
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), AppendError> {
        let needed = self.at.end + bytes;
        let fits = needed <= self.at.room_end;
        if needed + RESERVE_BYTES <= self.at.room_end || fits && needed < self.full_until {
            return Ok(());
        }
        let Err(error) = self.fill(room_after(needed)) else {
            return Ok(());
        };
        // What was taken of the disk is given back, and no frame has to wait for pages of it. If that fails, the next attempt does it.
        let _ = self.disk.set_len(self.at.room_end);
        self.full_until = needed + FULL_BYTES;
        if fits {
            Ok(())
        } else {
            Err(AppendError::NotBegun(error))
        }
    }

    /// Lengthens the file with zeroes: then a sync of a frame has no lengths and no extents to write. After an error there are no frames
    /// in what was written, and the next attempt writes it again.
    fn fill(&mut self, room_end: u64) -> io::Result<()> {
        let missing = room_end - self.at.room_end;
        let zeroes = vec![0; usize::try_from(missing.min(ROOM_BYTES)).unwrap_or(usize::MAX)];
        let mut from = self.at.room_end;
        while from < room_end {
            let piece = usize::try_from(room_end - from).map_or(zeroes.len(), |left| left.min(zeroes.len()));
            self.disk.write(from, &zeroes[..piece])?;
            from += wide(piece);
        }
        self.disk.sync()?;
        self.at.room_end = room_end;
        Ok(())
    }
}

/// How long a file is made that is to hold this many bytes.
const fn room_after(bytes: u64) -> u64 {
    (bytes + RESERVE_BYTES).next_multiple_of(ROOM_BYTES)
}

/// How much is appended to a file before it is written anew.
const fn changes_max(at: Place) -> u64 {
    if at.complete_at > CHANGES_BYTES_MIN {
        at.complete_at
    } else {
        CHANGES_BYTES_MIN
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the system has a random number generator")
}
