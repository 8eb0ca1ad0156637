//! The session of a stream: who the producer is, and which sequence comes next in each partition.
//!
//! Owns: new sessions, checking those that go on, turning a batch's records into stamped batches of partitions.
//! Does not own: keeping sessions (clients do), noticing repeats (the fold's window for each producer).
//!
//! Invariants: IDM-1.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_proto::codec::SEQUENCES_MAX;
use esker_proto::v1::produce_stream_request::Open;
use esker_proto::v1::{Record, Session};
use tokio::time::Instant;
use tonic::Status;

use super::{PAUSE_MAX, RETRY_MAX};
use crate::grpc::calls::Caller;
use crate::grpc::errors::{check_name, error_code, invalid, is_retriable, refusal};
use crate::grpc::producer::{Split, partitions_of};
use crate::grpc::records::{self, Stamp};

const INIT_PRODUCER_ID: i16 = 4;

/// A session, as this stream goes on with it.
pub(super) struct Sequencer {
    pub(super) session: Session,
    epoch: i16,
    /// The sequence of the next batch of each partition.
    next: BTreeMap<i32, i32>,
}

/// The records of one partition, as they are stored.
pub(super) struct Part {
    pub(super) partition: i32,
    pub(super) batch: Bytes,
}

/// A batch, stamped.
pub(super) struct Stamped {
    pub(super) parts: Vec<Part>,
    /// The sequence after it in each of its partitions.
    pub(super) next_sequences: BTreeMap<i32, i32>,
}

impl Sequencer {
    /// Begins a session, or goes on with the client's.
    pub(super) async fn open(caller: &Caller, open: &Open) -> Result<Self, Status> {
        let session = match open.session {
            Some(session) => session,
            None => begin(caller, &open.topic).await?,
        };
        let epoch = check_open(open, &session)?;
        let next = open.next_sequences.iter().map(|(partition, next)| (*partition, *next));
        Ok(Self {
            session,
            epoch,
            next: next.collect(),
        })
    }

    /// Partitions whose sequences are known.
    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.next.keys().copied()
    }

    /// Makes a batch of each partition, with the sequences that are next. An error leaves them as they are.
    pub(super) fn stamp(&mut self, records: &[Record], split: &Split, now_ms: i64) -> Result<Stamped, Status> {
        let mut parts = Vec::with_capacity(split.by_partition.len());
        let mut next_sequences = BTreeMap::new();
        for (partition, chosen) in &split.by_partition {
            let sequence = self.next.get(partition).copied().unwrap_or(0);
            let stamp = Stamp {
                producer: self.session.producer_id,
                epoch: self.epoch,
                sequence,
            };
            let built = records::batch(chosen.iter().map(|nth| &records[*nth]), now_ms, Some(stamp))?;
            next_sequences.insert(*partition, sequence_after(sequence, built.header().count));
            parts.push(Part {
                partition: *partition,
                batch: built.bytes().clone(),
            });
        }
        self.next.extend(&next_sequences);
        Ok(Stamped { parts, next_sequences })
    }
}

/// A new session.
async fn begin(caller: &Caller, topic: &str) -> Result<Session, Status> {
    let partitions = partitions_of(caller, topic).await?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    };
    let give_up_at = Instant::now() + RETRY_MAX;
    loop {
        let granted = caller.call(INIT_PRODUCER_ID, &request).await?;
        match error_code(granted.error_code) {
            ErrorCode::None => {
                return Ok(Session {
                    producer_id: granted.producer_id,
                    producer_epoch: i32::from(granted.producer_epoch),
                    partitions,
                });
            }
            code if is_retriable(code) && Instant::now() < give_up_at => tokio::time::sleep(PAUSE_MAX).await,
            code => return Err(refusal(code, "a new session", None)),
        }
    }
}

/// Checks what a client says of its session; returns the epoch.
fn check_open(open: &Open, session: &Session) -> Result<i16, Status> {
    if open.topic.is_empty() {
        return Err(invalid("there is no topic; name one"));
    }
    check_name(&open.topic)?;
    let epoch = i16::try_from(session.producer_epoch).ok().filter(|epoch| *epoch >= 0);
    let partitions = 1..=i32::try_from(SEQUENCES_MAX).expect("a hundred thousand");
    let sound = session.producer_id >= 0 && partitions.contains(&session.partitions);
    let (Some(epoch), true) = (epoch, sound) else {
        return Err(invalid("that is no session; send one as Opened said it, or none"));
    };
    let inside = |(partition, sequence): (&i32, &i32)| (0..session.partitions).contains(partition) && *sequence >= 0;
    if !open.next_sequences.iter().all(inside) || (open.session.is_none() && !open.next_sequences.is_empty()) {
        return Err(invalid(
            "next_sequences are not of this session; send them as the acks said them",
        ));
    }
    Ok(epoch)
}

/// The sequence after so many records; after the last one comes 0, as in Kafka.
fn sequence_after(sequence: i32, records: i32) -> i32 {
    let after = (i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
    i32::try_from(after).expect("less than 2^31")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_begin_again_after_the_last_one() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }
}
