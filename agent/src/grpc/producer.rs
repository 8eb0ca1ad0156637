//! Writing: from records to produce requests.
//!
//! Owns: which record goes into which batch, what of a request was stored.
//! Does not own: everything that happens to a produce request (`produce`), streams (`produce_stream`).
//!
//! Invariants: LOG-4 (a record has an offset in an answer only if it was stored).

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_kafka::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use esker_kafka::messages::produce_request::{PartitionProduceData, ProduceRequest as KafkaProduce, TopicProduceData};
use esker_kafka::messages::produce_response::{PartitionProduceResponse, ProduceResponse as KafkaProduced};
use esker_kafka::partitioner::partition_of_key;
use esker_kafka::{ErrorCode, Records, Str, TopicRef};
use esker_proto::v1::producer_server::Producer;
use esker_proto::v1::{
    ProduceRequest, ProduceResponse, ProduceStreamRequest, ProduceStreamResponse, Record, StoredRecords,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::calls::Caller;
use super::errors::{Refused, check, check_name, error_code, internal, invalid, refusal};
use super::served::Served;
use super::{measured, produce_stream, records};

/// The last version of a produce request that names topics.
pub(super) const PRODUCE: i16 = 12;
const METADATA: i16 = 12;
/// Acknowledged when it is stored for good.
const ACKS_ALL: i16 = -1;
/// How long a produce request waits.
const TIMEOUT_MS: i32 = 30_000;

#[tonic::async_trait]
impl Producer for Served {
    async fn produce(&self, request: Request<ProduceRequest>) -> Result<Response<ProduceResponse>, Status> {
        let caller = self.caller(&request);
        let ProduceRequest { topic, records } = request.into_inner();
        if records.is_empty() {
            return Err(invalid("there are no records; send at least one"));
        }
        let partitions = partitions_of(&caller, &topic).await?;
        let keyless = self.turn() % partitions.cast_unsigned();
        let split = Split::new(&records, partitions, keyless.cast_signed());
        let now_ms = self.agent.clock.now_ms();
        let mut batches = Vec::with_capacity(split.by_partition.len());
        for (partition, chosen) in &split.by_partition {
            let batch = records::batch(chosen.iter().map(|nth| &records[*nth]), now_ms, None)?;
            batches.push((*partition, batch.bytes().clone()));
        }
        let request = produce_request(&topic, batches);
        drop(records);
        let taken = caller.take_under(caller.received.take(), PRODUCE, &request).await?;
        let produced = taken.answer::<KafkaProduce>().await?;
        let answer = answer(&topic, &split, produced)?;
        measured::records_stored(split.records);
        Ok(Response::new(answer))
    }

    type ProduceStreamStream = BoxStream<'static, Result<ProduceStreamResponse, Status>>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let caller = self.caller(&request);
        let answers = produce_stream::answers(caller, self.contents.clone(), request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Records by partition.
pub(super) struct Split {
    /// How many there are.
    pub(super) records: usize,
    /// Which of them, in order.
    pub(super) by_partition: BTreeMap<i32, Vec<usize>>,
}

impl Split {
    pub(super) fn new(records: &[Record], partitions: i32, keyless: i32) -> Self {
        let mut by_partition: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (nth, record) in records.iter().enumerate() {
            let partition = partition_of(record, partitions, keyless);
            by_partition.entry(partition).or_default().push(nth);
        }
        Self {
            records: records.len(),
            by_partition,
        }
    }

    /// Where each record is, by the base offsets of the partitions that were stored.
    pub(super) fn places(&self, bases: &BTreeMap<i32, i64>) -> StoredRecords {
        let mut partitions = vec![-1; self.records];
        let mut offsets = vec![-1; self.records];
        for (partition, chosen) in &self.by_partition {
            let Some(base) = bases.get(partition) else {
                continue;
            };
            for (nth, offset) in chosen.iter().zip(*base..) {
                partitions[*nth] = *partition;
                offsets[*nth] = offset;
            }
        }
        StoredRecords { partitions, offsets }
    }
}

/// The partition of a record; `keyless` is for records that have neither a partition nor a key.
fn partition_of(record: &Record, partitions: i32, keyless: i32) -> i32 {
    match (record.partition, &record.key) {
        (Some(partition), _) => partition,
        (None, Some(key)) => partition_of_key(key, partitions),
        (None, None) => keyless,
    }
}

/// A produce request for one topic.
pub(super) fn produce_request(topic: &str, batches: impl IntoIterator<Item = (i32, Bytes)>) -> KafkaProduce {
    let data = batches.into_iter().map(|(index, batch)| PartitionProduceData {
        index,
        records: Some(Records::from(batch)),
    });
    KafkaProduce {
        acks: ACKS_ALL,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic),
            partition_data: data.collect(),
            ..TopicProduceData::default()
        }],
        ..KafkaProduce::default()
    }
}

/// What became of each partition of a request for one topic.
pub(super) fn outcomes(produced: KafkaProduced) -> impl Iterator<Item = PartitionProduceResponse> {
    produced
        .responses
        .into_iter()
        .flat_map(|topic| topic.partition_responses)
}

fn answer(topic: &str, split: &Split, produced: KafkaProduced) -> Result<ProduceResponse, Status> {
    let mut bases = BTreeMap::new();
    let mut failed = None;
    let mut log_append_time_ms = None;
    for outcome in outcomes(produced) {
        if error_code(outcome.error_code) == ErrorCode::None {
            bases.insert(outcome.index, outcome.base_offset);
            log_append_time_ms = Some(outcome.log_append_time_ms).filter(|stamp| *stamp >= 0);
        } else {
            failed.get_or_insert(outcome);
        }
    }
    let StoredRecords { partitions, offsets } = split.places(&bases);
    match failed {
        None if offsets.contains(&-1) => Err(internal("Produce", &"not every partition was answered")),
        None => Ok(ProduceResponse {
            partitions,
            offsets,
            log_append_time_ms,
        }),
        Some(failed) => {
            let what = format!("partition {} of {topic:?}", failed.index);
            let stored = (!bases.is_empty()).then_some(StoredRecords { partitions, offsets });
            let refused = Refused::new(error_code(failed.error_code), &what).stored(stored);
            Err(refused.said(failed.error_message.as_deref()).status())
        }
    }
}

/// How many partitions a topic has. One that does not exist is created, if agents may.
pub(super) async fn partitions_of(caller: &Caller, topic: &str) -> Result<i32, Status> {
    if topic.is_empty() {
        return Err(invalid("there is no topic; name one"));
    }
    check_name(topic)?;
    let name = Str::from(topic);
    if let Some(known) = caller.agent.known_topic(&TopicRef::Name(name.clone())) {
        return i32::try_from(known.partitions).map_err(|error| internal("topic", &error));
    }
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let answered = caller.call(METADATA, &request).await?;
    let what = format!("topic {topic:?}");
    let found = answered.topics.first().ok_or_else(|| internal(&what, &"no answer"))?;
    check(found.error_code, &what, None)?;
    i32::try_from(found.partitions.len())
        .ok()
        .filter(|partitions| *partitions > 0)
        .ok_or_else(|| refusal(ErrorCode::LeaderNotAvailable, &what, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_named_goes_before_the_key() {
        let mut record = Record {
            key: Some(Bytes::from_static(b"21")),
            ..Record::default()
        };
        assert_eq!(partition_of(&record, 7, 3), partition_of_key(b"21", 7));
        record.partition = Some(5);
        assert_eq!(partition_of(&record, 7, 3), 5);
        record.partition = None;
        record.key = None;
        assert_eq!(partition_of(&record, 7, 3), 3);
    }
}
