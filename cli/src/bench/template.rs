//! Batches that are encoded once, and sent again and again with another header.
//!
//! Owns: payloads, what of a batch changes between two sends.
//!
//! Invariants: nothing but 61 bytes is written per batch, and one checksum is computed; the records are shared.

use bytes::Bytes;
use esker_kafka::Records;
use esker_kafka::records::{BatchBuilder, BatchError, BatchHeader, Codec, Headers};
use esker_kafka_client::Identity;

/// A record takes up to so many bytes beside its value.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// A batch without time and producer.
#[derive(Clone, Debug)]
pub(super) struct Template {
    header: BatchHeader,
    body: Bytes,
}

/// Who sends, and how many records it has sent to this partition before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) identity: Identity,
    pub(super) records_before: u64,
}

impl Template {
    /// As many records of `size` as `batch_bytes` hold uncompressed; one at least.
    pub(super) fn filled(size: usize, batch_bytes: usize, codec: Codec) -> Result<Self, BatchError> {
        let mut letters = Letters(0x2545_f491_4f6c_dd1d);
        let mut builder = BatchBuilder::new(codec);
        while builder.is_empty() || builder.len() + size + RECORD_OVERHEAD_BYTES <= batch_bytes {
            builder.append(0, None, Some(&letters.take(size)), &Headers::new())?;
        }
        Self::of(builder)
    }

    /// One record of `size`, which begins with `marks`, all of them.
    pub(super) fn lone(size: usize, marks: &[u8]) -> Result<Self, BatchError> {
        let mut value = marks.to_vec();
        value.resize(size.max(value.len()), b'x');
        let mut builder = BatchBuilder::new(Codec::default());
        builder.append(0, None, Some(&value), &Headers::new())?;
        Self::of(builder)
    }

    fn of(builder: BatchBuilder) -> Result<Self, BatchError> {
        let batch = builder.build()?;
        Ok(Self {
            header: *batch.header(),
            body: batch.body(),
        })
    }

    /// Records of a batch.
    pub(super) fn records(&self) -> u64 {
        u64::from(self.header.count.unsigned_abs())
    }

    /// The batch as it is sent now.
    pub(super) fn at(&self, now_ms: i64, numbered: Option<Numbered>) -> Records {
        let mut header = self.header;
        header.base_timestamp = now_ms;
        header.max_timestamp = now_ms;
        if let Some(Numbered {
            identity,
            records_before,
        }) = numbered
        {
            let sequence = records_before & u64::from(i32::MAX.unsigned_abs());
            header.producer_id = identity.id;
            header.producer_epoch = identity.epoch;
            header.base_sequence = i32::try_from(sequence).expect("masked");
        }
        header.crc = header.crc_with(&self.body);
        [Bytes::copy_from_slice(&header.to_bytes()), self.body.clone()]
            .into_iter()
            .collect()
    }
}

/// Capital letters in no order, the same in every run. They compress to some six tenths.
struct Letters(u64);

impl Letters {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let one = || {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            b'A' + u8::try_from((self.0 >> 32) % 26).expect("below 26")
        };
        std::iter::repeat_with(one).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use esker_kafka::records::{Batch, Compression, RecordReader};

    use super::*;

    #[test]
    fn a_patched_batch_is_sound_and_no_larger_than_wanted() {
        for compression in Compression::ALL {
            let template = Template::filled(1_000, 100_000, compression.into()).unwrap();
            assert_eq!(template.records(), 99);
            let numbered = Numbered {
                identity: Identity { id: 7, epoch: 1 },
                records_before: 1 << 31 | 5,
            };
            let batch = Batch::parse(&template.at(1_234, Some(numbered)).to_bytes()).unwrap();
            batch.verify_crc().unwrap();
            // Letters in no order become longer in some codecs' framing.
            assert!(compression != Compression::None || batch.bytes().len() <= 100_000);
            let header = batch.header();
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (7, 1, 5)
            );
            let records: Vec<_> = RecordReader::new(&batch, 1 << 20)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(records.len(), 99);
            assert!(records.iter().all(|record| record.timestamp == 1_234));
            assert_ne!(records[0].value, records[1].value);
        }
    }

    #[test]
    fn a_record_larger_than_a_batch_is_a_batch() {
        assert_eq!(Template::filled(5_000, 100, Codec::default()).unwrap().records(), 1);
        let lone = Template::lone(20, b"marks").unwrap().at(0, None).to_bytes();
        let batch = Batch::parse(&lone).unwrap();
        let record = RecordReader::new(&batch, 100).unwrap().next_record().unwrap().unwrap();
        assert_eq!(record.value.unwrap(), [&b"marks"[..], &[b'x'; 15]].concat());
    }
}
