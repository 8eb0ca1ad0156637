//! One member of a group: who it is, what it offers, what it waits for.
//!
//! Owns: the fields of a member and its size. Does not own: what happens to it (`join`, `rebalance`, …).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::groups::ids::{InstanceId, MemberId, ProtocolName, ReplyTo};

/// Memory that a member takes besides its texts and metadata, roughly; counted against the limits.
pub(super) const MEMBER_OVERHEAD_BYTES: usize = 512;

/// A protocol (an assignor) that a member offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: ProtocolName,
    /// What the member tells the leader if it is chosen: the subscription, for consumers.
    pub metadata: Bytes,
}

/// How patient the coordinator is with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a sign of life for so long, the member is removed.
    pub session: Duration,
    /// How long a rebalance waits for the member to join again.
    pub rebalance: Duration,
}

/// Who a member is to people: what `DescribeGroups` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client id of its latest join.
    pub id: Arc<str>,
    /// The address it joined from.
    pub host: Arc<str>,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance: Option<InstanceId>,
    pub(super) client: Client,
    pub(super) timeouts: Timeouts,
    /// In order of preference, each name once, at least one.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Has never been told its member id by a completed join; it cannot send heartbeats.
    pub(super) is_new: bool,
    /// It sent the id itself, so it can join again under it if its answer is an error.
    pub(super) knows_id: bool,
    /// When the session ends, unless the member waits for an answer.
    pub(super) session_ends: Duration,
    pub(super) awaiting_join: Option<ReplyTo>,
    pub(super) awaiting_sync: Option<ReplyTo>,
    /// Has not sent SyncGroup in this generation.
    pub(super) sync_pending: bool,
}

impl Member {
    /// What the member tells about itself under `protocol`; nothing if it does not know it.
    pub(super) fn metadata(&self, protocol: &ProtocolName) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| offered.name == *protocol)
            .map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    /// True if its session is over at `now`. Members that wait for an answer cannot send heartbeats and keep their
    /// session; only new ones, which may be long gone, do not.
    pub(super) fn is_expired(&self, now: Duration) -> bool {
        self.can_expire() && self.session_ends <= now
    }

    /// False while the session cannot end.
    pub(super) fn can_expire(&self) -> bool {
        self.is_new || (self.awaiting_join.is_none() && self.awaiting_sync.is_none())
    }

    /// Bytes counted against the limits.
    pub(super) fn bytes(&self, id: &MemberId) -> usize {
        let instance = self.instance.as_ref().map_or(0, InstanceId::len);
        let protocols: usize = self.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        MEMBER_OVERHEAD_BYTES
            + id.len()
            + instance
            + self.client.id.len()
            + self.client.host.len()
            + protocols
            + self.assignment.len()
    }
}
