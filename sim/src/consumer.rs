//! Simulated consumers: one that follows a partition from its start, and one that looks at random places.
//!
//! Owns: what a fetch or a lookup may answer.
//! Does not own: what was read (`history`).
//!
//! Invariants: LOG-2 (no gap, no step back), LOG-6 (nothing that is known to exist is denied).

use std::sync::Arc;

use bytes::Bytes;
use esker_kafka::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use esker_kafka::messages::fetch_response::PartitionData;
use esker_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_kafka::records::{BatchIter, RecordReader};
use esker_kafka::{ErrorCode, Str};

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::history::History;
use crate::link::{Gone, Link};
use crate::scenario::{PARTITIONS, TOPIC};
use crate::trace::Trace;

const FETCH_VERSION: i16 = 12;
const LIST_VERSION: i16 = 7;
const LATEST: i64 = -1;
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// A client that reads.
pub(crate) struct Consumer {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) history: Arc<History>,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
}

impl Consumer {
    /// Follows a partition from its start until it is dropped.
    pub(crate) async fn follow(mut self, partition: i32) {
        let mut position = 0;
        loop {
            let mut link = Link::open(&self.fleet).await;
            while let Ok(next) = self.fetch(&mut link, partition, position).await {
                position = next;
                self.dice.pause_ms(1..50).await;
            }
            self.dice.pause_ms(20..200).await;
        }
    }

    /// Looks here and there until it is dropped.
    pub(crate) async fn probe(mut self) {
        loop {
            let mut link = Link::open(&self.fleet).await;
            while self.probe_once(&mut link).await.is_ok() {
                self.dice.pause_ms(20..200).await;
            }
            self.dice.pause_ms(20..200).await;
        }
    }

    /// Reads a partition from its start to its end.
    ///
    /// # Errors
    /// The connection went away: begin again.
    pub(crate) async fn read_all(&mut self, partition: i32) -> Result<i64, Gone> {
        let mut link = Link::open(&self.fleet).await;
        let end = loop {
            if let Some(end) = self.latest(&mut link, partition).await? {
                break end;
            }
            self.dice.pause_ms(20..200).await;
        };
        let mut position = 0;
        while position < end {
            position = self.fetch(&mut link, partition, position).await?;
        }
        Ok(end)
    }

    async fn probe_once(&mut self, link: &mut Link) -> Result<(), Gone> {
        let partition = i32::try_from(self.dice.count(0..PARTITIONS)).expect("few partitions");
        if self.dice.percent(30) {
            return self.latest(link, partition).await.map(drop);
        }
        let end = u64::try_from(self.history.known_end(partition)).unwrap_or(0);
        let offset = i64::try_from(self.dice.within(0..end + 1)).expect("few records");
        self.fetch(link, partition, offset).await.map(drop)
    }

    /// The end of a partition, as the node says it; `None` when it cannot say.
    async fn latest(&mut self, link: &mut Link, partition: i32) -> Result<Option<i64>, Gone> {
        let known = self.history.known_end(partition);
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Str::from_static(TOPIC),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    current_leader_epoch: -1,
                    timestamp: LATEST,
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let answer = link.call(LIST_VERSION, &request).await?;
        let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(found) = found else {
            self.history
                .violate(format!("LOG-6: ListOffsets says nothing of partition {partition}"));
            return Ok(None);
        };
        self.check_code(partition, known, found.error_code);
        if found.error_code != 0 {
            return Ok(None);
        }
        if found.offset < known {
            let offset = found.offset;
            self.history.violate(format!(
                "LOG-6: {partition} is said to end at {offset}, but {known} was known before"
            ));
        }
        Ok(Some(found.offset))
    }

    /// Fetches once, and says where to go on.
    async fn fetch(&mut self, link: &mut Link, partition: i32, offset: i64) -> Result<i64, Gone> {
        let known = self.history.known_end(partition);
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: i32::try_from(self.dice.within(0..500)).expect("small"),
            min_bytes: 1,
            max_bytes: i32::try_from(self.dice.within(1..2_000)).expect("small"),
            topics: vec![FetchTopic {
                topic: Str::from_static(TOPIC),
                partitions: vec![FetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    fetch_offset: offset,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: i32::try_from(self.dice.within(1..2_000)).expect("small"),
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let answer = link.call(FETCH_VERSION, &request).await?;
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(found) = found else {
            self.history
                .violate(format!("LOG-6: Fetch says nothing of partition {partition}"));
            return Ok(offset);
        };
        self.check_code(partition, known, found.error_code);
        if found.error_code != 0 {
            let code = found.error_code;
            self.trace
                .note(format_args!("fetch of {partition}@{offset} answered {code}"));
            self.dice.pause_ms(10..100).await;
            return Ok(offset);
        }
        Ok(self.take(partition, offset, &found))
    }

    /// Notes what came, and says where it ends.
    fn take(&self, partition: i32, offset: i64, found: &PartitionData) -> i64 {
        let bytes = found
            .records
            .as_ref()
            .map_or_else(Bytes::new, |records| records.to_bytes());
        let mut next = offset;
        for (nth, batch) in BatchIter::new(bytes).enumerate() {
            let Ok(batch) = batch else {
                self.history.violate(format!("LOG-1: {partition}@{next} is no batch"));
                return next;
            };
            let header = *batch.header();
            let follows = if nth == 0 {
                header.base_offset <= next && next <= header.last_offset()
            } else {
                header.base_offset == next
            };
            let (base, last) = (header.base_offset, header.last_offset());
            if !follows {
                self.history
                    .violate(format!("LOG-2: {partition}@{next} is next, {base} to {last} came"));
                return next;
            }
            if let Err(error) = batch.verify_crc() {
                self.history
                    .violate(format!("LOG-1: {partition}@{base} came damaged: {error}"));
                return next;
            }
            if last >= found.high_watermark {
                let end = found.high_watermark;
                self.history.violate(format!(
                    "fetch of {partition}@{offset}: {last} came, above its own end {end}"
                ));
            }
            let records = RecordReader::new(&batch, DECOMPRESSED_BYTES_MAX)
                .into_iter()
                .flatten()
                .flatten();
            for record in records {
                self.history.on_read(partition, record.offset, record.value.as_ref());
            }
            next = header.last_offset() + 1;
        }
        next
    }

    /// Only errors that make a client try again are right: everything that was asked for exists.
    fn check_code(&self, partition: i32, known: i64, code: i16) {
        let fine = [
            ErrorCode::None,
            ErrorCode::KafkaStorageError,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::RequestTimedOut,
        ];
        if !fine.iter().any(|error| error.code() == code) {
            let what = format!("LOG-6: told {code} of partition {partition}, which is known up to {known}");
            self.history.violate(what);
        }
    }
}
