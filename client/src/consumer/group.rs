//! A member of a consumer group, in the same groups as Kafka clients.
//!
//! Owns: who the client is in the group, commits, the automatic ones too.
//! Does not own: membership itself (the agent of the stream is the member), the stream (`events`).
//!
//! Invariants: an offset is committed only when the records before it were handed out and the next event was asked for, or when the
//! user says so.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use esker_proto::v1;
use esker_proto::v1::subscribe_event::Event;
use esker_proto::v1::subscribe_request::{Group, Start, What};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::events::{Events, Heard};
use super::{Consumer, Records};
use crate::client::{Client, Repeat};
use crate::error::Error;
use crate::position::{TopicPartition, each_partition};

/// Where to start in partitions of which a group has committed nothing, or something that is no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// With the first record that there is.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
    /// Nowhere: it is an error.
    Fail,
}

/// How a member of a group behaves; made by [`Consumer::group`].
#[derive(Clone, Debug)]
pub struct GroupBuilder {
    consumer: Consumer,
    group: Group,
    auto_commit: Option<Duration>,
}

impl GroupBuilder {
    pub(super) fn new(consumer: Consumer, group: String, topics: Vec<String>) -> Self {
        let group = Group {
            group_id: group,
            topics,
            start: Start::Earliest.into(),
            ..Group::default()
        };
        Self {
            consumer,
            group,
            auto_commit: None,
        }
    }

    /// Where to start where the group has committed nothing. [`GroupStart::Earliest`] unless set.
    #[must_use]
    pub fn start(mut self, start: GroupStart) -> Self {
        let start = match start {
            GroupStart::Earliest => Start::Earliest,
            GroupStart::Latest => Start::Latest,
            GroupStart::Fail => Start::Fail,
        };
        self.group.start = start.into();
        self
    }

    /// How long the agent may be unreachable for the group until others get the partitions. 45 s unless set.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.group.session_timeout_ms = millis(timeout);
        self
    }

    /// How long the others wait for this member when partitions are assigned anew. 60 s unless set.
    #[must_use]
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.group.rebalance_timeout_ms = millis(timeout);
        self
    }

    /// Makes it a static member (KIP-345): it gets its partitions back when it comes again within its session.
    #[must_use]
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.group.instance_id = Some(id.into());
        self
    }

    /// Commits by itself, this often at most: what was handed out counts as done when the next event is asked for.
    #[must_use]
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.auto_commit = Some(interval);
        self
    }

    /// Joins the group.
    ///
    /// # Errors
    /// The group is refused, or no agent could be reached.
    pub async fn join(self) -> Result<GroupSubscription, Error> {
        let committer = Committer {
            client: self.consumer.client.clone(),
            group: self.group.group_id.as_str().into(),
            standing: Arc::default(),
        };
        let mut member = Member {
            events: Events::new(self.consumer.client.clone()),
            request: v1::SubscribeRequest {
                what: Some(What::Group(self.group)),
                read_committed: self.consumer.read_committed,
                max_bytes: self.consumer.max_bytes,
            },
            assigned: Vec::new(),
            auto_commit: self.auto_commit,
            committed_at: Instant::now(),
            committer: committer.clone(),
        };
        member.events.open(&member.request).await?;
        let events = stream::unfold(Some(member), |member| async move {
            let mut member = member?;
            match member.next().await {
                Ok(event) => Some((Ok(event), Some(member))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(GroupSubscription {
            events: events.boxed(),
            committer,
            commits: self.auto_commit.is_some(),
        })
    }
}

/// What a member of a group is told.
#[derive(Clone, Debug)]
pub enum GroupEvent {
    /// The group has given this member these partitions, and no others. Their records follow, from the committed offsets on.
    Assigned(Vec<TopicPartition>),
    /// These partitions, all that were assigned, are no longer this member's. What was not committed comes again, to whoever
    /// gets them.
    Revoked(Vec<TopicPartition>),
    /// Records of one partition.
    Records(Records),
}

/// A member of a group, and what it is given; made by [`GroupBuilder::join`].
///
/// It is a [`Stream`] of events, and there is [`next`](Self::next) for those who need no more than that. When the connection is
/// lost, it joins again: that is told as [`GroupEvent::Revoked`], followed by [`GroupEvent::Assigned`]. After an error it ends.
/// Dropping it leaves the group.
pub struct GroupSubscription {
    events: BoxStream<'static, Result<GroupEvent, Error>>,
    committer: Committer,
    commits: bool,
}

impl fmt::Debug for GroupSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSubscription")
            .field("group", &self.committer.group)
            .finish_non_exhaustive()
    }
}

impl GroupSubscription {
    /// The next event; absent after an error. May be dropped before it is ready.
    pub async fn next(&mut self) -> Option<Result<GroupEvent, Error>> {
        self.events.next().await
    }

    /// Commits that these records, and those before them in their partition, are done.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub async fn commit(&self, done: &Records) -> Result<(), Error> {
        self.committer.commit([(done.place.clone(), done.next_offset)]).await
    }

    /// What commits, also from other tasks.
    #[must_use]
    pub fn committer(&self) -> Committer {
        self.committer.clone()
    }

    /// Leaves the group. If it commits by itself, what was handed out counts as done.
    ///
    /// # Errors
    /// The last of the automatic commits has failed.
    pub async fn close(self) -> Result<(), Error> {
        if !self.commits {
            return Ok(());
        }
        self.committer.standing().hand_in();
        self.committer.commit_done().await
    }
}

impl Stream for GroupSubscription {
    type Item = Result<GroupEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(cx)
    }
}

/// Keeps how far a member of a group has come. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    client: Client,
    group: Arc<str>,
    standing: Arc<Mutex<Standing>>,
}

/// How the member stands.
#[derive(Default)]
struct Standing {
    /// Absent while nothing is assigned.
    member: Option<v1::Member>,
    /// Handed out, and perhaps not done yet.
    handed_out: Option<(TopicPartition, i64)>,
    /// Done, but not committed.
    done: BTreeMap<TopicPartition, i64>,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Standing {
    fn hand_in(&mut self) {
        let done = self.handed_out.take();
        self.done.extend(done);
    }
}

impl Committer {
    /// Commits these offsets, each the next one to read of its partition. Kafka consumers of the group go on from there, and the
    /// other way round.
    ///
    /// # Errors
    /// The partitions are not this member's any more: then their records come again, to whoever has them now. Or no agent could be
    /// reached.
    pub async fn commit(&self, offsets: impl IntoIterator<Item = (TopicPartition, i64)>) -> Result<(), Error> {
        let member = self.standing().member.clone();
        let nothing =
            || Error::invalid("nothing is assigned to this member now; what it has not committed comes again");
        let offsets = offsets.into_iter().map(|(place, offset)| v1::CommittedOffset {
            topic: place.topic.to_string(),
            partition: place.partition,
            offset,
            ..v1::CommittedOffset::default()
        });
        let request = v1::CommitRequest {
            group_id: self.group.to_string(),
            member: Some(member.ok_or_else(nothing)?),
            offsets: offsets.collect(),
        };
        let client = &self.client;
        let results = client.call(Repeat::Harmless, Duration::ZERO, |connection| {
            let (mut consumer, request) = (client.consumer_of(&connection), client.request(request.clone()));
            async move { consumer.commit(request).await }
        });
        let failure = results.await?.results.into_iter().find_map(|result| result.failure);
        failure.map_or(Ok(()), |failure| Err(Error::of_failure(failure)))
    }

    /// Commits what is done. What is refused because the partitions are somebody else's is let go.
    async fn commit_done(&self) -> Result<(), Error> {
        let done = self.standing().done.clone();
        if done.is_empty() {
            return Ok(());
        }
        match self.commit(done.clone()).await {
            Ok(()) => {
                let mut standing = self.standing();
                standing.done.retain(|place, offset| done.get(place) != Some(offset));
                Ok(())
            }
            Err(error) if GENERATION.iter().any(|name| error.is_kafka(name)) => {
                self.standing().done.clear();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Nothing that holds it can panic half-way.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The member behind a subscription.
struct Member {
    events: Events,
    request: v1::SubscribeRequest,
    assigned: Vec<TopicPartition>,
    auto_commit: Option<Duration>,
    committed_at: Instant,
    committer: Committer,
}

impl Member {
    async fn next(&mut self) -> Result<GroupEvent, Error> {
        self.committer.standing().hand_in();
        loop {
            let due = self.commit_at();
            let request = &self.request;
            let heard = tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.commit().await?;
                    continue;
                }
                heard = self.events.next(|| request.clone()) => heard?,
            };
            match heard {
                Heard::Event(Event::Records(records)) => {
                    let records = Records::new(records);
                    if self.auto_commit.is_some() {
                        let handed_out = (records.place.clone(), records.next_offset);
                        self.committer.standing().handed_out = Some(handed_out);
                    }
                    return Ok(GroupEvent::Records(records));
                }
                Heard::Event(Event::Assigned(assigned)) => {
                    *self.committer.standing() = Standing {
                        member: assigned.member,
                        ..Standing::default()
                    };
                    self.assigned = each_partition(assigned.partitions);
                    return Ok(GroupEvent::Assigned(self.assigned.clone()));
                }
                Heard::Event(Event::Revoked(_)) => {
                    // The group may still take it.
                    if self.auto_commit.is_some() {
                        self.commit().await?;
                    }
                    return Ok(self.revoked());
                }
                Heard::Cut if self.committer.standing().member.is_some() => return Ok(self.revoked()),
                Heard::Cut => {}
            }
        }
    }

    fn revoked(&mut self) -> GroupEvent {
        *self.committer.standing() = Standing::default();
        GroupEvent::Revoked(std::mem::take(&mut self.assigned))
    }

    /// When to commit what is done, if anything is.
    fn commit_at(&self) -> Option<Instant> {
        let interval = self.auto_commit?;
        let waits = !self.committer.standing().done.is_empty();
        waits.then(|| self.committed_at + interval)
    }

    /// An automatic commit: when it fails for a reason that passes, there is the next one.
    async fn commit(&mut self) -> Result<(), Error> {
        let committed = self.committer.commit_done().await;
        self.committed_at = Instant::now();
        match committed {
            Err(error) if !error.is_retriable() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// What a commit is refused with when the partitions are no longer the member's.
const GENERATION: [&str; 4] = [
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "REBALANCE_IN_PROGRESS",
    "FENCED_INSTANCE_ID",
];

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
