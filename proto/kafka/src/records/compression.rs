//! The five codecs of Kafka, and how each is framed inside a batch.

use std::io::{Cursor, Read, Write};

use bytes::Bytes;

use super::error::BatchError;
use super::xerial;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the framing of the Java library, or bare.
    Snappy,
    /// LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codec {
    /// Which one.
    pub compression: Compression,
    /// The codec's own scale, clamped to it; `None` is Kafka's default. Only gzip and zstd have levels here.
    pub level: Option<i32>,
}

/// Levels that Kafka uses unless told otherwise.
const GZIP_LEVEL_DEFAULT: i32 = 6;
const ZSTD_LEVEL_DEFAULT: i32 = 3;
impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in the attributes.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// The number in the attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name of it in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
        }
    }
}

/// A stream of the decompressed bytes of `body`. What it puts out is not bounded by itself, but what it
/// allocates is: by `limit`, by the codec's block or window size, or by a small multiple of `body`.
pub(crate) fn reader(codec: Compression, body: Bytes, limit: usize) -> Result<Box<dyn Read + Send>, BatchError> {
    let input = Cursor::new(body);
    Ok(match codec {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Snappy => Box::new(xerial::SnappyReader::new(input.into_inner(), limit)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
        // A window of up to 128 MiB, zstd's own limit, must be allowed: level 22 asks for one even in front of a
        // small batch. Its pages are only touched as output is produced, which `limit` bounds.
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(|error| failed(codec, &error))?)
        }
    })
}

/// Compresses the records of a batch.
pub(crate) fn compress(codec: Codec, body: &[u8]) -> Result<Vec<u8>, BatchError> {
    try_compress(codec, body).map_err(|error| failed(codec.compression, &error))
}

fn try_compress(codec: Codec, body: &[u8]) -> std::io::Result<Vec<u8>> {
    match codec.compression {
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => {
            let level = codec.level.unwrap_or(GZIP_LEVEL_DEFAULT).clamp(0, 9).unsigned_abs();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(body)?;
            encoder.finish()
        }
        Compression::Snappy => xerial::compress(body),
        Compression::Lz4 => {
            // As Kafka writes it: independent blocks of 64 KiB, no checksums but the header's.
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(body)?;
            encoder.finish().map_err(std::io::Error::other)
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), codec.level.unwrap_or(ZSTD_LEVEL_DEFAULT))?;
            // Lets it, and every reader, make do with a window of the batch's size.
            encoder.set_pledged_src_size(u64::try_from(body.len()).ok())?;
            encoder.write_all(body)?;
            encoder.finish()
        }
    }
}

fn failed(codec: Compression, error: &std::io::Error) -> BatchError {
    BatchError::Decompress {
        codec: codec.name(),
        reason: error.to_string(),
    }
}
