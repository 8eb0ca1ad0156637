//! Objects that count only once a root names them: how they are named, and how they are published.
//!
//! Owns: numbers of such objects within a session, the transaction that publishes a root, the counter that goes with it.
//! Does not own: what the objects hold.
//!
//! Invariants: GC-1. A publication compares session and counter, and raises the counter to the last number that was given
//! out. So an object of a live session above its counter may still be published, and one at or below it that no root names
//! never will be. A name is never given out twice: numbers go up, and another writer of the same session has another nonce.

use esker_segment::id::{IncarnationNumber, SegmentNumber, SessionId};
use esker_segment::name::{ObjectKind, ObjectName, SegmentName};

use crate::keys::published;
use crate::keys::root::Root;
use crate::log::{Cluster, Leadership, PublishedRoot, RootOutcome, publish_root};
use crate::store::{Compare, KeyRange, LeaseId, MetadataError, Op};

/// A session that is thought to live. The compare says whether it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// Holds as long as it lives.
    pub compare: Compare,
    /// Its lease.
    pub lease: LeaseId,
}

impl LiveSession {
    /// The session of this process.
    #[must_use]
    pub fn of(session: &crate::log::Session) -> Self {
        Self {
            id: session.id(),
            compare: session.compare(),
            lease: session.lease(),
        }
    }
}

/// Names objects of one session, and publishes roots that name them.
#[derive(Debug)]
pub struct ObjectWriter {
    session: LiveSession,
    incarnation: IncarnationNumber,
    nonce: u32,
    /// The last number that was given out.
    given: u64,
    /// The counter as this writer left it; `None` when there is none.
    counter: Option<SegmentNumber>,
}

/// Why nothing is known of a publication, or nothing can be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The store. After `Unknown` the root may have been published: read it again, and take another writer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The counter cannot be read.
    #[error("publication counter cannot be read: {0}")]
    Counter(esker_segment::wire::FormatError),
}

impl ObjectWriter {
    /// A writer for a session. `nonce` is random: it tells this writer from others that the session had.
    ///
    /// # Errors
    /// The store does not answer, or the counter is damaged.
    pub async fn begin(cluster: &Cluster, session: LiveSession, nonce: u32) -> Result<Self, PublishError> {
        let ranges = vec![KeyRange::Key(published::key(session.id))];
        let found = cluster
            .store
            .snapshot(ranges)
            .await?
            .ranges
            .into_iter()
            .flatten()
            .next();
        let counter = found.map(|kv| published::decode(&kv.value)).transpose();
        let counter = counter.map_err(PublishError::Counter)?;
        Ok(Self {
            session,
            incarnation: cluster.incarnation.number,
            nonce,
            given: counter.map_or(0, |through| through.0),
            counter,
        })
    }

    /// The session it writes for.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session.id
    }

    /// A name that nobody else has, for an object that this session may publish.
    pub fn name(&mut self, kind: ObjectKind) -> ObjectName {
        self.given += 1;
        let name = SegmentName {
            incarnation: self.incarnation,
            session: self.session.id,
            number: SegmentNumber(self.given),
            attempt: self.nonce,
        };
        ObjectName::Other { kind, name }
    }

    /// Publishes a root in place of the one that was seen (`None`: there was none), under the duty that this is part of.
    /// Everything that this writer has named so far and the root does not name, nor the one before it, is given up.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &mut self,
        cluster: &Cluster,
        seen: Option<&PublishedRoot>,
        root: Root,
        duty: &Leadership,
    ) -> Result<RootOutcome, PublishError> {
        let (key, through) = (published::key(self.session.id), SegmentNumber(self.given));
        let unmoved = match self.counter {
            None => Compare::Absent(key.clone()),
            Some(counter) => Compare::Value(key.clone(), published::encode(counter)),
        };
        let put = Op::Put {
            key,
            value: published::encode(through),
            lease: self.session.lease,
        };
        let leading = vec![self.session.compare.clone(), duty.compare(), unmoved];
        let seen = seen.map(|seen| seen.revision);
        let outcome = publish_root(cluster, seen, leading, root, vec![put]).await?;
        if matches!(outcome, RootOutcome::Published(_)) {
            self.counter = Some(through);
        }
        Ok(outcome)
    }
}
