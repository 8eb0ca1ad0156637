//! Bytes of messages, until a message is whole.
//!
//! Owns: where messages end.
//! Does not own: how long it may take, what holds the memory (`metered`).
//!
//! Frames stay as they came, so that records are not copied. Short ones are copied together: a few bytes would keep alive all that
//! was read with them.
//!
//! Invariants: MEM-1 (what is held is at most a few times what has come).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Before each message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;
/// Frames below this length are copied.
const FRAME_BYTES_MIN: usize = 8 * 1024;

/// What has come and was not handed on.
#[derive(Default)]
pub(super) struct Gathered {
    frames: VecDeque<Bytes>,
    /// Short frames after these.
    short: BytesMut,
    /// All of it.
    pub(super) bytes: usize,
    /// How much of it are whole messages, from the beginning on.
    pub(super) whole: usize,
    /// What has come of the prefix of the message that is not whole.
    prefix: BytesMut,
    /// What is missing of its body; none before its prefix has come.
    missing: Option<usize>,
}

impl Gathered {
    /// Adds a frame; says whether a message ended in it. The error is the length of a message that is longer than `most`.
    pub(super) fn add(&mut self, frame: Bytes, most: usize) -> Result<bool, usize> {
        let mut rest = &frame[..];
        let mut ended = false;
        loop {
            let missing = match self.missing {
                Some(missing) => missing,
                None => {
                    let more = rest.len().min(PREFIX_BYTES - self.prefix.len());
                    self.prefix.extend_from_slice(&rest[..more]);
                    rest = &rest[more..];
                    if self.prefix.len() < PREFIX_BYTES {
                        break;
                    }
                    self.prefix.advance(1);
                    let announced = self.prefix.get_u32();
                    let length = usize::try_from(announced).unwrap_or(usize::MAX);
                    if length > most {
                        return Err(length);
                    }
                    length
                }
            };
            let come = rest.len().min(missing);
            rest = &rest[come..];
            self.missing = Some(missing - come).filter(|missing| *missing > 0);
            if self.missing.is_some() {
                break;
            }
            ended = true;
            self.whole = self.bytes + frame.len() - rest.len();
        }
        self.bytes += frame.len();
        if frame.len() < FRAME_BYTES_MIN {
            self.short.extend_from_slice(&frame);
        } else {
            self.flush();
            self.frames.push_back(frame);
        }
        Ok(ended)
    }

    /// The next bytes of what is whole.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if self.whole == 0 {
            return None;
        }
        if self.frames.is_empty() {
            self.flush();
        }
        let mut piece = self.frames.pop_front()?;
        if piece.len() > self.whole {
            self.frames.push_front(piece.split_off(self.whole));
        }
        self.whole -= piece.len();
        self.bytes -= piece.len();
        Some(piece)
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.frames.push_back(self.short.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).unwrap().to_be_bytes();
        let body = (0..length).map(|nth| u8::try_from(nth % 251).unwrap());
        [0].into_iter().chain(prefix).chain(body).collect()
    }

    fn taken(gathered: &mut Gathered) -> Vec<u8> {
        std::iter::from_fn(|| gathered.next()).flatten().collect()
    }

    #[test]
    fn messages_are_whole_wherever_frames_end() {
        let lengths = [0, 1, 9, 0, 20_000, 3, 40_000, 5];
        let all: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let mut ends = Vec::new();
        let mut end = 0;
        for length in lengths {
            end += PREFIX_BYTES + length;
            ends.push(end);
        }
        for frame in [1, 2, 7, 1_000, 8_191, 8_192, 16_384, 100_000] {
            let mut gathered = Gathered::default();
            let (mut out, mut come) = (Vec::new(), 0);
            for piece in all.chunks(frame) {
                let ended = gathered.add(Bytes::copy_from_slice(piece), 50_000).unwrap();
                let before = ends.partition_point(|end| *end <= come);
                come += piece.len();
                let now = ends.partition_point(|end| *end <= come);
                assert_eq!(ended, now > before, "frames of {frame}, at {come}");
                out.extend(taken(&mut gathered));
                let whole = if now == 0 { 0 } else { ends[now - 1] };
                assert_eq!((out.len(), gathered.bytes), (whole, come - whole), "frames of {frame}");
            }
            assert_eq!(out, all, "frames of {frame}");
        }
    }

    #[test]
    fn short_frames_are_held_in_one_piece() {
        let mut gathered = Gathered::default();
        for byte in message(10_000) {
            gathered.add(Bytes::copy_from_slice(&[byte]), 10_000).unwrap();
            assert!(gathered.frames.is_empty());
        }
        assert_eq!(taken(&mut gathered), message(10_000));
        assert_eq!(gathered.add(Bytes::from(message(10_001)), 10_000), Err(10_001));
    }
}
