//! Walks over a Produce request without building its structs: the hot path of a broker.
//!
//! Owns: reading (topic, partition, record bytes) out of a request body, as strictly as
//! [`ProduceRequest::decode`](crate::messages::ProduceRequest::decode) does.
//! Does not own: what is inside the record bytes (`records`).

use bytes::Bytes;

use crate::messages::ProduceRequest;
use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::wire::{DecodeError, Reader, Str, Uuid};

/// A topic as the request names it: by name up to version 12, by id from 13.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(Str),
    /// By id.
    Id(Uuid),
}

/// The records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Topic; cheap to clone.
    pub topic: TopicRef,
    /// Partition number.
    pub index: i32,
    /// The record bytes, sharing the frame.
    pub records: Option<Bytes>,
}

/// A Produce request being walked. Nothing may be stored before [`ProduceWalk::next_partition`] has returned
/// `None`: only then is the whole request known to be well formed.
#[derive(Clone, Debug)]
pub struct ProduceWalk {
    /// Set by a transactional producer.
    pub transactional_id: Option<Str>,
    /// 0, 1 or -1.
    pub acks: i16,
    /// How long the client wants to wait.
    pub timeout_ms: i32,
    r: Reader,
    version: i16,
    topic: TopicRef,
    topics_left: usize,
    partitions_left: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BetweenTopics,
    InTopic,
    Done,
}

/// First version with compact lengths and tagged fields.
const FLEXIBLE_FROM: i16 = 9;
/// First version that names topics by id.
const TOPIC_ID_FROM: i16 = 13;
/// Fewest bytes of a topic and of a partition in any version, as in the generated decoder.
const TOPIC_BYTES_MIN: usize = 3;
const PARTITION_BYTES_MIN: usize = 6;

impl ProduceWalk {
    /// Reads up to the first topic of a request body; `r` stands just after the request header.
    ///
    /// # Errors
    /// As [`ProduceRequest::decode`].
    pub fn new(mut r: Reader, version: i16) -> Result<Self, DecodeError> {
        if !(ProduceRequest::VERSION_MIN..=ProduceRequest::VERSION_MAX).contains(&version) {
            return Err(DecodeError::UnsupportedVersion {
                message: "ProduceRequest",
                version,
            });
        }
        let flex = version >= FLEXIBLE_FROM;
        let transactional_id = r.nullable_string(flex, true)?;
        let acks = r.i16()?;
        let timeout_ms = r.i32()?;
        let topics_left = r.struct_count(flex, TOPIC_BYTES_MIN, size_of::<TopicProduceData>())?;
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            r,
            version,
            topic: TopicRef::Id(Uuid::ZERO),
            topics_left,
            partitions_left: 0,
            place: Place::BetweenTopics,
        })
    }

    /// The next partition; `None` after the last one, when the rest of the request has been read as well. What comes after it is
    /// not looked at, as in Kafka. After an error the walk is over.
    ///
    /// # Errors
    /// As [`ProduceRequest::decode`].
    pub fn next_partition(&mut self) -> Result<Option<ProducePartition>, DecodeError> {
        let result = self.step();
        if result.is_err() {
            self.place = Place::Done;
        }
        result
    }

    fn step(&mut self) -> Result<Option<ProducePartition>, DecodeError> {
        loop {
            match self.place {
                Place::InTopic if self.partitions_left > 0 => {
                    self.partitions_left -= 1;
                    return self.partition().map(Some);
                }
                Place::InTopic => {
                    self.end_struct()?;
                    self.place = Place::BetweenTopics;
                }
                Place::BetweenTopics if self.topics_left > 0 => {
                    self.topics_left -= 1;
                    self.enter_topic()?;
                    self.place = Place::InTopic;
                }
                Place::BetweenTopics => {
                    self.end_struct()?;
                    self.place = Place::Done;
                }
                Place::Done => return Ok(None),
            }
        }
    }

    fn enter_topic(&mut self) -> Result<(), DecodeError> {
        let flex = self.version >= FLEXIBLE_FROM;
        self.topic = if self.version >= TOPIC_ID_FROM {
            TopicRef::Id(self.r.uuid()?)
        } else {
            TopicRef::Name(self.r.string(flex)?)
        };
        self.partitions_left = self
            .r
            .struct_count(flex, PARTITION_BYTES_MIN, size_of::<PartitionProduceData>())?;
        Ok(())
    }

    fn partition(&mut self) -> Result<ProducePartition, DecodeError> {
        let index = self.r.i32()?;
        let records = self.r.nullable_bytes(self.version >= FLEXIBLE_FROM, true)?;
        self.end_struct()?;
        Ok(ProducePartition {
            topic: self.topic.clone(),
            index,
            records,
        })
    }

    fn end_struct(&mut self) -> Result<(), DecodeError> {
        if self.version >= FLEXIBLE_FROM {
            self.r.skip_tags()
        } else {
            Ok(())
        }
    }
}
