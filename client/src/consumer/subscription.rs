//! Partitions that the user names, read as records come.
//!
//! Owns: how far each partition is read, going on from there.
//! Does not own: the stream (`events`).
//!
//! Invariants: between two cuts and across them, each partition is read without gap or repetition.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use esker_proto::v1;
use esker_proto::v1::subscribe_event::Event;
use esker_proto::v1::subscribe_request::{Assign, What};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::events::{Events, Heard};
use super::{Consumer, Records};
use crate::error::Error;
use crate::position::{Position, TopicPartition};
use crate::record::ConsumedRecord;

/// Records of partitions as they come; made by [`Consumer::subscribe`].
///
/// It is a [`Stream`], and there is [`next`](Self::next) for those who need no more than that. After an error it ends: errors that
/// pass are waited out before, for as long as the client's [retry policy](crate::RetryPolicy) says.
pub struct Subscription {
    batches: BoxStream<'static, Result<Records, Error>>,
    records: vec::IntoIter<ConsumedRecord>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// Where a subscription is.
struct Reader {
    events: Events,
    read_committed: bool,
    max_bytes: u32,
    positions: BTreeMap<TopicPartition, i64>,
}

impl Subscription {
    pub(super) async fn open(consumer: &Consumer, wanted: Vec<(TopicPartition, Position)>) -> Result<Self, Error> {
        if wanted.is_empty() {
            return Err(Error::invalid("nothing is subscribed to; name at least one partition"));
        }
        // Edges and timestamps are looked up once: what is written until the stream is cut for the first time is not to be missed.
        let admin = consumer.client.admin();
        let mut positions = BTreeMap::new();
        for (place, offset) in admin.offsets_for(wanted, consumer.read_committed).await? {
            positions.insert(place, offset?);
        }
        let mut reader = Reader {
            events: Events::new(consumer.client.clone()),
            read_committed: consumer.read_committed,
            max_bytes: consumer.max_bytes,
            positions,
        };
        let request = reader.request();
        reader.events.open(&request).await?;
        let batches = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(records) => Some((Ok(records), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Self {
            batches: batches.boxed(),
            records: Vec::new().into_iter(),
        })
    }

    /// The next record; absent after an error. May be dropped before it is ready.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, Error>> {
        StreamExt::next(self).await
    }

    /// The next records of one partition, as many as have come together. Those of a batch of which some were taken with
    /// [`next`](Self::next) already are left to that.
    pub async fn next_batch(&mut self) -> Option<Result<Records, Error>> {
        self.batches.next().await
    }
}

impl Stream for Subscription {
    type Item = Result<ConsumedRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.records.next() {
                return Poll::Ready(Some(Ok(record)));
            }
            match self.batches.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(batch))) => self.records = batch.records.into_iter(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Records, Error> {
        loop {
            let (positions, committed, bytes) = (&self.positions, self.read_committed, self.max_bytes);
            let heard = self.events.next(|| request(positions, committed, bytes)).await?;
            if let Heard::Event(Event::Records(records)) = heard {
                let records = Records::new(records);
                self.positions.insert(records.place.clone(), records.next_offset);
                return Ok(records);
            }
        }
    }

    fn request(&self) -> v1::SubscribeRequest {
        request(&self.positions, self.read_committed, self.max_bytes)
    }
}

/// Everything from where it was read to.
fn request(positions: &BTreeMap<TopicPartition, i64>, read_committed: bool, max_bytes: u32) -> v1::SubscribeRequest {
    let each = positions.iter();
    let partitions = each.map(|(place, offset)| Position::Offset(*offset).in_partition(place));
    v1::SubscribeRequest {
        what: Some(What::Assign(Assign {
            partitions: partitions.collect(),
        })),
        read_committed,
        max_bytes,
    }
}
