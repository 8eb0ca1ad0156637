//! The requests of the operations, as frames without their length.
//!
//! Owns: their bytes.

use anyhow::Result;
use bytes::{Buf as _, Bytes};
use esker_kafka::messages::Request;
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::records::{Batch, BatchBuilder, Codec, Compression, Headers};
use esker_kafka::{Records, Str, Writer};

use crate::broker::NOW_MS;

/// The newest version that names topics instead of giving their ids.
pub(crate) const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 9;
/// Records are as long as those of Kafka's own perf tools.
const RECORD_BYTES: usize = 1000;

fn frame<R: Request>(version: i16, request: &R) -> Result<Bytes> {
    let mut writer = Writer::framed();
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id: 1,
        client_id: Some(Str::from_static("instructions")),
    };
    header.encode(&mut writer, R::KEY.request_header_version(version))?;
    request.encode(&mut writer, version)?;
    let mut framed = writer.into_bytes()?;
    framed.advance(size_of::<i32>());
    Ok(framed)
}

/// A batch of about so many bytes before compression.
pub(crate) fn batch(bytes: usize, compression: Compression) -> Result<Batch> {
    let value: Vec<u8> = (0u8..=255).cycle().take(RECORD_BYTES).collect();
    let mut builder = BatchBuilder::new(Codec::from(compression));
    for _ in 0..bytes / RECORD_BYTES {
        builder.append(NOW_MS, None, Some(&value), &Headers::new())?;
    }
    Ok(builder.build()?)
}

/// The same batch for each of the first partitions of a topic.
pub(crate) fn produce(topic: &str, partitions: i32, batch: &Batch) -> Result<Bytes> {
    let partition_data = (0..partitions).map(|index| PartitionProduceData {
        index,
        records: Some(Records::from(batch.bytes().clone())),
    });
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: partition_data.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(PRODUCE_VERSION, &request)
}

/// A fetch that does not wait, of the first partitions of a topic, 1 MiB of each.
pub(crate) fn fetch(topic: &str, partitions: i32, offset: i64) -> Result<Bytes> {
    let partitions = (0..partitions).map(|partition| FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(FETCH_VERSION, &request)
}

/// Makes a topic.
pub(crate) fn create(topic: &str, partitions: i32) -> Result<Bytes> {
    let request = CreateTopicsRequest {
        timeout_ms: 30_000,
        topics: vec![CreatableTopic {
            name: topic.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(CREATE_TOPICS_VERSION, &request)
}

/// What there is to know of a topic.
pub(crate) fn metadata(topic: &str) -> Result<Bytes> {
    let named = MetadataRequestTopic {
        name: Some(topic.into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![named]),
        ..Default::default()
    };
    frame(METADATA_VERSION, &request)
}
