//! Uploads of segments: lays one out, puts it into the bucket, tries again under another key.
//!
//! Owns: attempts and their keys, back-off.
//! Does not own: second requests and time-outs (`esker_storage::hedged`), the queue (`pipeline`), when a flush happens (`inbox`).
//!
//! Invariants: an object key is written once (a PUT whose outcome is unknown may still land later). Attempts begin at a random
//! number: when the coordination store was restored from a copy, session ids come again, and a second session of that id must
//! not write over segments that the first one had acknowledged.

use std::sync::Arc;
use std::time::Duration;

use esker_model::entry::{Entry, SegmentEntry};
use esker_segment::id::{IncarnationId, IncarnationNumber, SegmentNumber, SessionId};
use esker_segment::name::{ClusterId, SegmentName};
use esker_segment::segment::{OrderList, SegmentBuilder, SegmentHeader};
use esker_storage::cache::SegmentCache;
use esker_storage::hedged::Hedger;
use esker_storage::store::{ObjectKey, ObjectStore};
use tracing::warn;

use super::pipeline::{Uploaded, verdict_places};

#[cfg(test)]
mod tests;

const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_LAST: Duration = Duration::from_secs(2);

/// What uploads need.
#[derive(Clone)]
pub struct Uploader {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// Keeps fresh segments for readers.
    pub cache: Arc<SegmentCache>,
    /// The cluster.
    pub cluster: ClusterId,
    /// This life of the cluster.
    pub incarnation: (IncarnationNumber, IncarnationId),
    /// Zone of this agent; empty for none.
    pub zone: Box<str>,
    /// Sends slow uploads a second time and gives up those that take far too long; objects that appear all the same are
    /// garbage.
    pub puts: Arc<Hedger>,
    /// 128 random bits.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

/// One segment to upload.
pub struct Upload {
    /// Its writer.
    pub session: SessionId,
    /// Which of its segments.
    pub number: SegmentNumber,
    /// Its batches.
    pub batches: Arc<SegmentBuilder>,
    /// Commits folded since the segment before.
    pub order: OrderList,
}

impl Uploader {
    /// Uploads until it works. Cancelled by dropping it.
    pub async fn run(self, upload: Upload) -> (SegmentNumber, Uploaded) {
        let header = SegmentHeader {
            incarnation: self.incarnation.0,
            incarnation_id: self.incarnation.1,
            session: upload.session,
            number: upload.number,
        };
        let segment = upload.batches.finish(&header, &upload.order);
        let mut back_off = BACK_OFF_FIRST;
        let mut attempt = u32::try_from((self.random)() & u128::from(u32::MAX)).expect("masked");
        let mut next = || {
            let name = SegmentName {
                incarnation: self.incarnation.0,
                session: upload.session,
                number: upload.number,
                attempt,
            };
            attempt = attempt.wrapping_add(1);
            let key = ObjectKey(name.key(&self.cluster));
            ((name, key.clone()), key)
        };
        let (name, key) = loop {
            match self.puts.create(&*self.store, &segment.chunks, &mut next).await {
                Ok(named) => break named,
                Err(error) => warn!(%error, "segment not uploaded, trying again under another key"),
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_LAST);
        };
        let verdict_places = verdict_places(&segment);
        self.cache.insert(&key, segment.chunks);
        let entry = Entry::Segment(SegmentEntry {
            name,
            bytes: segment.length_bytes,
            content_hash: segment.content_hash,
            zone: self.zone,
            confirmed: 0,
            index: segment.index,
        });
        (upload.number, Uploaded { entry, verdict_places })
    }
}
