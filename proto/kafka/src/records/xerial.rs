//! Snappy as Kafka clients write it: the block framing of the `snappy-java` library, or one bare block.
//!
//! Layout: magic, version and compatible version (16 bytes), then blocks of a 4-byte length and that many bytes
//! of raw Snappy. The header may come again where streams were joined.

use std::io::{Error, ErrorKind, Read, Result};

use bytes::{Buf, Bytes};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
const VERSION: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes that are compressed together, as `snappy-java` does.
const BLOCK_BYTES: usize = 32 * 1024;
/// Raw Snappy cannot expand further: its longest copy makes 64 bytes from 3.
const EXPANSION_MAX: usize = 22;

/// Decompresses block by block.
pub(crate) struct SnappyReader {
    input: Bytes,
    framed: bool,
    block: Bytes,
    limit: usize,
}

impl SnappyReader {
    /// `limit` bounds the output of one block.
    pub(crate) fn new(input: Bytes, limit: usize) -> Self {
        let framed = input.starts_with(&MAGIC);
        Self {
            input,
            framed,
            block: Bytes::new(),
            limit,
        }
    }

    /// The next compressed block; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Bytes>> {
        if !self.framed {
            return Ok((!self.input.is_empty()).then(|| std::mem::take(&mut self.input)));
        }
        while self.input.starts_with(&MAGIC) {
            if self.input.len() < HEADER_BYTES {
                return Err(corrupt("header is cut off"));
            }
            self.input.advance(HEADER_BYTES);
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let Some(length) = self.input.first_chunk::<4>() else {
            return Err(corrupt("block length is cut off"));
        };
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| corrupt("negative block length"))?;
        self.input.advance(4);
        if length > self.input.len() {
            return Err(corrupt("block is cut off"));
        }
        Ok(Some(self.input.split_to(length)))
    }

    fn decompress(&self, block: &[u8]) -> Result<Bytes> {
        let length = snap::raw::decompress_len(block)?;
        if length > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(corrupt("block announces more than it can hold"));
        }
        if length > self.limit {
            // Told apart from corruption by the reader of records.
            return Err(Error::from(ErrorKind::QuotaExceeded));
        }
        Ok(Bytes::from(snap::raw::Decoder::new().decompress_vec(block)?))
    }
}

impl Read for SnappyReader {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        while self.block.is_empty() {
            let Some(block) = self.next_block()? else { return Ok(0) };
            self.block = self.decompress(&block)?;
        }
        let n = out.len().min(self.block.len());
        self.block.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}

fn corrupt(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

/// Compresses with framing.
pub(crate) fn compress(body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        let length = i32::try_from(compressed.len()).expect("a block of 32 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}
