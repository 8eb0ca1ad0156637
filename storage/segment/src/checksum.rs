//! The two checksums of every format: CRC-32C and XXH3-128.
//!
//! Owns: which algorithms, and the check of a record batch against its own CRC.

use crate::index::BatchMeta;
use crate::wire::FormatError;

/// CRC-32C (Castagnoli), as in Kafka's record batches.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// XXH3 with 128 bits and no seed.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

/// Compares stored with computed.
pub(crate) fn expect_crc(what: &'static str, stored: u32, bytes: &[u8]) -> Result<(), FormatError> {
    let computed = crc32c(bytes);
    if stored == computed {
        Ok(())
    } else {
        Err(FormatError::Checksum { what, stored, computed })
    }
}

/// Bytes of a record batch header (Kafka message format v2).
pub const BATCH_HEADER_BYTES: u32 = 61;
/// Where the length of the rest stands in it, big-endian: what comes before does not count.
const LENGTH_AT: usize = 8;
const LENGTH_OVERHEAD: u32 = 12;
/// Where the magic byte stands in it.
const MAGIC_AT: usize = 16;
/// Where the CRC-32C stands, big-endian.
const CRC_AT: usize = 17;
/// From here to the end the CRC covers.
const COVERED_FROM: usize = 21;

/// Checks a stored record batch against what the index says of it: its length, the length that it names, magic and CRC-32C.
///
/// Everything but base offset and leader epoch, which are patched when served, is covered.
///
/// # Errors
/// `Invalid` when length or magic differ, `Checksum` when the CRC is another one or does not match the bytes.
pub fn check_batch(bytes: &[u8], meta: &BatchMeta) -> Result<(), FormatError> {
    if u64::try_from(bytes.len()).ok() != Some(u64::from(meta.bytes)) || meta.bytes < BATCH_HEADER_BYTES {
        return Err(FormatError::Invalid {
            what: "length of record batch",
        });
    }
    // Outside the CRC, and kept when a batch is merged: damage that is not noticed here would stay for good.
    if bytes[LENGTH_AT..LENGTH_AT + 4] != (meta.bytes - LENGTH_OVERHEAD).to_be_bytes() {
        return Err(FormatError::Invalid {
            what: "length field of record batch",
        });
    }
    if bytes[MAGIC_AT] != 2 {
        return Err(FormatError::Invalid {
            what: "magic of record batch",
        });
    }
    let (covered_from, crc) = (&bytes[COVERED_FROM..], &bytes[CRC_AT..COVERED_FROM]);
    let in_header = u32::from_be_bytes(crc.try_into().expect("four bytes"));
    if in_header != meta.crc {
        return Err(FormatError::Checksum {
            what: "record batch",
            stored: meta.crc,
            computed: in_header,
        });
    }
    expect_crc("record batch", in_header, covered_from)
}
