//! Reads the records of a batch one by one, decompressing as it goes.
//!
//! Invariants: at most `max_decompressed_bytes` come out of a batch; memory for a record is taken as its bytes
//! appear, never because a length announces them.

use std::io::{ErrorKind, Read};

use bytes::{Bytes, BytesMut};

use super::batch::Batch;
use super::compression::{self, Compression};
use super::error::BatchError;
use super::header::BatchHeader;
use super::record::{Record, RecordView};
use super::varint;

/// Bytes asked of a decompressor at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// An iterator over the records of one batch. It checks that there are as many as the header says, that their
/// offsets rise and stay within the header's range, and that nothing follows them.
pub struct RecordReader {
    header: BatchHeader,
    index: i32,
    last_delta: i32,
    source: Source,
    done: bool,
}

enum Source {
    Plain(Bytes),
    Compressed(Inflating),
}

struct Inflating {
    codec: Compression,
    stream: Box<dyn Read + Send>,
    ready: BytesMut,
    produced: usize,
    limit: usize,
}

impl RecordReader {
    /// Starts at the first record. The CRC is not checked here.
    ///
    /// # Errors
    /// A compression that does not exist or does not start well, or a negative record count.
    pub fn new(batch: &Batch, max_decompressed_bytes: usize) -> Result<Self, BatchError> {
        let header = *batch.header();
        let codec = header.compression()?;
        if header.count < 0 {
            return Err(BatchError::Record {
                index: 0,
                reason: "negative record count",
            });
        }
        let body = batch.body();
        let source = if codec == Compression::None || header.count == 0 {
            // A compressed batch that cleaning has emptied has no body at all.
            Source::Plain(body)
        } else {
            Source::Compressed(Inflating {
                codec,
                stream: compression::reader(codec, body, max_decompressed_bytes)?,
                ready: BytesMut::new(),
                produced: 0,
                limit: max_decompressed_bytes,
            })
        };
        Ok(Self {
            header,
            index: 0,
            last_delta: -1,
            source,
            done: false,
        })
    }

    /// The next record; `None` after the last.
    ///
    /// # Errors
    /// Corrupt compression, a malformed record, more output than allowed. After an error there are no more.
    pub fn next_record(&mut self) -> Result<Option<Record>, BatchError> {
        if self.done {
            return Ok(None);
        }
        let result = if self.index == self.header.count {
            self.end().map(|()| None)
        } else {
            self.read().map(Some)
        };
        self.done = !matches!(result, Ok(Some(_)));
        result
    }

    fn end(&mut self) -> Result<(), BatchError> {
        if self.source.at_end()? {
            Ok(())
        } else {
            Err(self.malformed("more bytes than records"))
        }
    }

    fn take_body(&mut self) -> Result<Bytes, BatchError> {
        let prefix = self.source.peek(varint::VARINT_BYTES_MAX)?;
        let Some((length, used)) = varint::read_i32(prefix) else {
            return Err(self.malformed("bad length"));
        };
        let Ok(length) = usize::try_from(length) else {
            return Err(self.malformed("negative length"));
        };
        self.source.skip(used);
        match self.source.take(length)? {
            Some(body) => Ok(body),
            None => Err(self.malformed("cut off")),
        }
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let body = self.take_body()?;
        let view = RecordView::parse(&body).map_err(|reason| self.malformed(reason))?;
        let record = view.to_record(&body, &self.header);
        self.passed(view.offset_delta)?;
        Ok(record)
    }

    /// Shows the records that are left where they lie: several times faster than taking hold of each, when they are only
    /// looked at.
    ///
    /// # Errors
    /// As [`RecordReader::next_record`].
    pub fn visit(mut self, mut look: impl FnMut(&RecordView<'_>)) -> Result<(), BatchError> {
        if self.done {
            return Ok(());
        }
        let Source::Plain(bytes) = &self.source else {
            while self.index < self.header.count {
                let body = self.take_body()?;
                let view = RecordView::parse(&body).map_err(|reason| self.malformed(reason))?;
                look(&view);
                self.passed(view.offset_delta)?;
            }
            return self.end();
        };
        let bytes = bytes.clone();
        let mut rest = &bytes[..];
        while self.index < self.header.count {
            let length = varint::read_i32(rest);
            let (length, used) = length.ok_or_else(|| self.malformed("bad length"))?;
            let length = usize::try_from(length).map_err(|_| self.malformed("negative length"))?;
            let body = rest[used..].split_at_checked(length);
            let (body, after) = body.ok_or_else(|| self.malformed("cut off"))?;
            let view = RecordView::parse(body).map_err(|reason| self.malformed(reason))?;
            look(&view);
            self.passed(view.offset_delta)?;
            rest = after;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("more bytes than records"))
        }
    }

    /// A record of this offset was read.
    fn passed(&mut self, delta: i32) -> Result<(), BatchError> {
        if delta <= self.last_delta || delta > self.header.last_offset_delta {
            return Err(self.malformed("offset out of order or beyond the batch"));
        }
        self.last_delta = delta;
        self.index += 1;
        Ok(())
    }

    fn malformed(&self, reason: &'static str) -> BatchError {
        BatchError::Record {
            index: self.index,
            reason,
        }
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

impl Source {
    /// Up to `n` bytes from the front; fewer only at the end.
    fn peek(&mut self, n: usize) -> Result<&[u8], BatchError> {
        match self {
            Self::Plain(bytes) => Ok(&bytes[..n.min(bytes.len())]),
            Self::Compressed(inflating) => {
                inflating.fill(n)?;
                let ready = &inflating.ready;
                Ok(&ready[..n.min(ready.len())])
            }
        }
    }

    /// Drops `n` bytes that [`Source::peek`] has shown.
    fn skip(&mut self, n: usize) {
        match self {
            Self::Plain(bytes) => drop(bytes.split_to(n)),
            Self::Compressed(inflating) => drop(inflating.ready.split_to(n)),
        }
    }

    /// Exactly `n` bytes; `None` if there are fewer.
    fn take(&mut self, n: usize) -> Result<Option<Bytes>, BatchError> {
        match self {
            Self::Plain(bytes) => Ok((n <= bytes.len()).then(|| bytes.split_to(n))),
            Self::Compressed(inflating) => {
                inflating.fill(n)?;
                let enough = n <= inflating.ready.len();
                Ok(enough.then(|| inflating.ready.split_to(n).freeze()))
            }
        }
    }

    fn at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.peek(1)?.is_empty())
    }
}

impl Inflating {
    /// Decompresses until `n` bytes are ready or the stream ends.
    fn fill(&mut self, n: usize) -> Result<(), BatchError> {
        while self.ready.len() < n {
            let start = self.ready.len();
            self.ready.resize(start + CHUNK_BYTES, 0);
            let read = self.stream.read(&mut self.ready[start..]);
            let got = read.map_err(|error| match error.kind() {
                ErrorKind::QuotaExceeded => BatchError::OverLimit { limit: self.limit },
                _ => BatchError::Decompress {
                    codec: self.codec.name(),
                    reason: error.to_string(),
                },
            })?;
            self.ready.truncate(start + got);
            if got == 0 {
                break;
            }
            self.produced += got;
            if self.produced > self.limit {
                return Err(BatchError::OverLimit { limit: self.limit });
            }
        }
        Ok(())
    }
}
