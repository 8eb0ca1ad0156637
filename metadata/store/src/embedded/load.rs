//! Reading the metadata file when the store opens.
//!
//! Owns: what is in it, where it ends, and whether its end was torn by a crash or acknowledged changes are damaged.
//! Does not own: the bytes (`frame`), writing (`journal`).
//!
//! Invariants: one frame at most was under way when the process before died, so behind the first one that is not whole there
//! can be nothing of a later one; if there is, the store does not open. Damage to the very last frame cannot be told from one that was
//! under way; a warning says where it was, unless it reads as zeroes. Nothing is allocated beyond the length of the file.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use esker_segment::wire::FormatError;
use tracing::warn;

use super::disk::Disk;
use super::frame::{self, FileId, Frame, HEAD_BYTES, PREFIX_BYTES, wide};
use super::journal::{Journal, Place};
use crate::store::{KeyValue, Revision};

/// No store gets that far.
const REVISION_END: Revision = Revision(1 << 62);
/// Read at a time, or a whole frame if that is more.
const WINDOW_BYTES: usize = 1 << 20;
/// Searched at a time for frames behind the last whole one.
const SEARCHED_BYTES: usize = 16 << 10;
/// The id of the file and the number of a frame, as they stand in it.
const MARK_BYTES: usize = 8 + 8;
static ZEROES: [u8; SEARCHED_BYTES] = [0; SEARCHED_BYTES];

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("metadata file cannot be opened: {0}")]
    Storage(#[from] io::Error),
    /// It is not ours, or of another version.
    #[error("metadata file is damaged: {0}")]
    Format(#[from] FormatError),
    /// Acknowledged changes cannot be read.
    #[error(
        "metadata file is damaged at byte {at}, and changes behind it were acknowledged; nothing was changed, put back a copy of it"
    )]
    Damaged {
        /// Where.
        at: u64,
    },
    /// Its end is missing.
    #[error(
        "metadata file is cut off: it had {needed} bytes at least and has {found}; nothing was changed, put back a copy of it"
    )]
    Cut {
        /// How long it is.
        found: u64,
        /// How long it was.
        needed: u64,
    },
}

/// What is in a file.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) revision: Revision,
    pub(super) keys: BTreeMap<Bytes, KeyValue>,
    /// The file. Its end may be torn: it must be restored or written anew before anything is appended.
    pub(super) journal: Journal,
}

/// What lies behind the last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Nothing.
    Zeroes,
    /// A frame that was under way.
    Torn,
    /// Something of a later frame: what lies before it was damaged after it had been synced.
    Acknowledged,
}

/// Reads all of a file.
pub(super) fn load(disk: Arc<dyn Disk>) -> Result<Loaded, OpenError> {
    let mut tape = Tape::new(&*disk)?;
    let (len, head_bytes) = (tape.len, wide(HEAD_BYTES));
    let head = tape.get(0, HEAD_BYTES)?.ok_or(FormatError::Truncated {
        needed: head_bytes,
        left: len,
    })?;
    let file = frame::decode_head(head)?;
    let mut at = Place {
        file,
        sequence: 0,
        complete_at: 0,
        last: 0,
        end: head_bytes,
        room_end: len,
    };
    let (mut revision, mut keys, mut needed) = (Revision(0), BTreeMap::new(), 0);
    while let Some((bytes, mut frame)) = tape.frame(at.end)? {
        if (frame.head.file, frame.head.sequence) != (file, at.sequence) {
            break;
        }
        while let Some((key, row)) = frame.next_change()? {
            match row {
                Some(kv) => keys.insert(key, kv),
                None => keys.remove(&key),
            };
        }
        if frame.head.revision < revision || frame.head.revision >= REVISION_END {
            return Err(FormatError::Invalid { what: "revision" }.into());
        }
        revision = frame.head.revision;
        at.sequence += 1;
        at.last = at.end;
        at.end += bytes;
        if frame.head.file_bytes > 0 && needed == 0 {
            at.complete_at = at.end;
        }
        needed = frame.head.file_bytes;
    }
    let behind = tape.behind(at.end, file, at.sequence)?;
    if needed == 0 || behind == Behind::Acknowledged {
        return Err(OpenError::Damaged { at: at.end });
    }
    if len < needed {
        return Err(OpenError::Cut { found: len, needed });
    }
    if behind == Behind::Torn {
        let Place { end, sequence, .. } = at;
        warn!(
            end,
            sequence,
            "the last change in the metadata file is not whole and is dropped: a crash came before anybody was told of it"
        );
    }
    Ok(Loaded {
        revision,
        keys,
        journal: Journal::resume(Arc::clone(&disk), at),
    })
}

/// A file, and the piece of it that is in memory.
struct Tape<'a> {
    disk: &'a dyn Disk,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Tape<'a> {
    fn new(disk: &'a dyn Disk) -> io::Result<Self> {
        Ok(Self {
            disk,
            len: disk.len()?,
            window: Vec::new(),
            window_at: 0,
        })
    }

    fn left(&self, at: u64) -> usize {
        usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX)
    }

    /// These bytes, if the file goes that far.
    fn get(&mut self, at: u64, bytes: usize) -> io::Result<Option<&[u8]>> {
        let left = self.left(at);
        if bytes > left {
            return Ok(None);
        }
        let within = |this: &Self| {
            let from = usize::try_from(at.checked_sub(this.window_at)?).ok()?;
            (from.checked_add(bytes)? <= this.window.len()).then_some(from)
        };
        if within(self).is_none() {
            self.window.resize(bytes.max(WINDOW_BYTES).min(left), 0);
            self.disk.read(at, &mut self.window)?;
            self.window_at = at;
        }
        Ok(within(self).map(|from| &self.window[from..from + bytes]))
    }

    /// The frame that begins there, if it is whole, and how long it is.
    fn frame(&mut self, at: u64) -> io::Result<Option<(u64, Frame<'_>)>> {
        let Some(prefix) = self.get(at, PREFIX_BYTES)?.and_then(|prefix| prefix.try_into().ok()) else {
            return Ok(None);
        };
        let bytes = frame::frame_bytes(prefix);
        let frame = self.get(at, bytes)?.and_then(Frame::check);
        Ok(frame.map(|frame| (wide(bytes), frame)))
    }

    /// What lies behind the last whole frame, where frame number `sequence` would begin. A later number beside the id of the file is
    /// enough: no later frame is begun before this one is synced.
    fn behind(&mut self, at: u64, file: FileId, sequence: u64) -> io::Result<Behind> {
        let whole = self.frame(at)?.map(|(_, frame)| frame.head);
        if whole.is_some_and(|head| head.file == file && head.sequence > sequence) {
            return Ok(Behind::Acknowledged);
        }
        let mark = file.0.to_le_bytes();
        let (mut from, mut behind) = (at, Behind::Zeroes);
        loop {
            let bytes = self.left(from).min(SEARCHED_BYTES);
            let piece = self.get(from, bytes)?.unwrap_or_default();
            if *piece != ZEROES[..bytes] {
                behind = Behind::Torn;
                let places = (from..).zip(piece.windows(MARK_BYTES));
                let numbers = places.filter_map(|(place, some)| {
                    let (id, number) = some.split_first_chunk()?;
                    // The frame that is not whole may say anything.
                    let is_later = *id == mark && place != at + wide(PREFIX_BYTES);
                    is_later.then(|| u64::from_le_bytes(number.try_into().unwrap_or_default()))
                });
                if numbers.max().is_some_and(|number| number > sequence) {
                    return Ok(Behind::Acknowledged);
                }
            }
            if bytes < SEARCHED_BYTES {
                return Ok(behind);
            }
            // A mark may lie across the border.
            from += wide(bytes - (MARK_BYTES - 1));
        }
    }
}
