//! Who else is there: the live sessions as the log's follower sees them, and who leads what.
//!
//! Owns: the table of live sessions and of shard owners, the view that request handlers look at.
//! Does not own: placement itself (`esker_model::placement`), this process's own session (`identity`).
//!
//! Sessions are for liveness and placement only; nothing here is relied upon for safety. This agent always lists itself, also
//! while it has no session, so that its clients never see a cluster without brokers. But while it can do nothing for them, for it
//! has no session or its bucket is out of reach, others lead, if there are others that answer: a client that asks only it would
//! never find them.

pub mod identity;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use esker_metadata::keys::session::SessionInfo;
use esker_metadata::signal::{self, signal};
use esker_metadata::store::Revision;
use esker_model::placement::{Placed, Placement, SHARDS};
use esker_segment::id::SessionId;

use crate::agent::Endpoint;
use identity::Identity;

/// Name of the listener for Kafka clients.
pub const KAFKA_LISTENER: &str = "kafka";
/// Name of the listener for other agents.
pub const PEER_LISTENER: &str = "peer";
/// Name of the listener for probes and metrics.
pub const HTTP_LISTENER: &str = "http";

/// Who coordinates a shard, and the revision that its transactions compare.
pub type ShardOwner = Option<(SessionId, Revision)>;

/// Another agent, or this one, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its session; `None` for this agent while it has none.
    pub session: Option<SessionId>,
    /// Its node id.
    pub node: i32,
    /// Its zone; empty for none.
    pub zone: Box<str>,
    /// Where clients reach it.
    pub endpoint: Endpoint,
    /// Where other agents reach it.
    pub peer: Option<Endpoint>,
    /// It is going away.
    pub draining: bool,
}

/// The members at one moment.
#[derive(Clone, Debug, Default)]
pub struct MemberView {
    /// Ordered by node id, each node once.
    pub members: Vec<Member>,
    /// Over those that take partitions.
    pub placement: Placement,
    /// This agent can commit: it has a session, and a bucket that answers.
    pub works: bool,
    /// It cannot, and another agent is there that perhaps can.
    pub stands_aside: bool,
}

/// The table.
pub struct Membership {
    identity: Arc<Identity>,
    table: Mutex<Table>,
    view: RwLock<Arc<MemberView>>,
    changed: signal::Sender<u64>,
}

/// Waits for changes of the table. Who waits first is told first (decision 0104): several tasks of an agent wait for them.
pub struct Changes {
    count: signal::Receiver<u64>,
    seen: u64,
}

impl Changes {
    /// Until something changed since the last call, or since [`Changes::see`]. Cancel-safe.
    ///
    /// # Errors
    /// The table is gone.
    pub async fn changed(&mut self) -> Result<(), signal::Closed> {
        let seen = self.seen;
        self.seen = self.count.wait_for(|count| count != seen).await?;
        Ok(())
    }

    /// What changed until now is known.
    pub fn see(&mut self) {
        self.seen = self.count.get();
    }
}

#[derive(Default)]
struct Table {
    sessions: BTreeMap<SessionId, SessionInfo>,
    owners: BTreeMap<u16, (SessionId, Revision)>,
    /// Sessions whose process does not answer its peers.
    silent: BTreeSet<SessionId>,
    /// This agent cannot reach the bucket.
    no_bucket: bool,
}

impl MemberView {
    /// The member with a node id.
    #[must_use]
    pub fn node(&self, node: i32) -> Option<&Member> {
        let at = self.members.binary_search_by_key(&node, |member| member.node).ok()?;
        self.members.get(at)
    }
}

impl Membership {
    /// Only this agent, until the follower tells of others.
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Arc<Self> {
        let this = Self {
            identity,
            table: Mutex::default(),
            view: RwLock::default(),
            changed: signal(0).0,
        };
        this.rebuild();
        Arc::new(this)
    }

    /// This process.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The members now.
    #[must_use]
    pub fn view(&self) -> Arc<MemberView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let count = self.changed.subscribe();
        let seen = count.get();
        Changes { count, seen }
    }

    /// A session began, changed or ended.
    pub fn on_session(&self, session: SessionId, info: Option<&SessionInfo>) {
        {
            let mut table = self.lock();
            match info {
                Some(info) => drop(table.sessions.insert(session, info.clone())),
                None => {
                    table.sessions.remove(&session);
                    table.silent.remove(&session);
                }
            }
        }
        self.rebuild();
    }

    /// A shard changed hands.
    pub fn on_owner(&self, shard: u16, owner: ShardOwner) {
        {
            let mut table = self.lock();
            match owner {
                Some(owner) => drop(table.owners.insert(shard, owner)),
                None => drop(table.owners.remove(&shard)),
            }
        }
        self.tell();
    }

    /// A peer answers again, or has stopped answering: then it leads nothing until it answers or its session ends.
    pub fn set_silent(&self, session: SessionId, silent: bool) {
        let changed = {
            let mut table = self.lock();
            if silent && table.sessions.contains_key(&session) {
                table.silent.insert(session)
            } else {
                table.silent.remove(&session)
            }
        };
        if changed {
            self.rebuild();
        }
    }

    /// This agent's bucket is out of reach, or not any more.
    pub fn set_no_bucket(&self, no_bucket: bool) {
        let changed = std::mem::replace(&mut self.lock().no_bucket, no_bucket) != no_bucket;
        if changed {
            self.rebuild();
        }
    }

    /// Whether a session's process does not answer its peers.
    #[must_use]
    pub fn is_silent(&self, session: SessionId) -> bool {
        self.lock().silent.contains(&session)
    }

    /// This agent's own identity changed: its node id, its session, or whether it drains.
    pub fn on_identity(&self) {
        self.rebuild();
    }

    /// Who coordinates a shard, as far as is known here.
    #[must_use]
    pub fn owner(&self, shard: u16) -> ShardOwner {
        self.lock().owners.get(&shard).copied()
    }

    /// The owners of all shards, in order.
    #[must_use]
    pub fn owners(&self) -> Vec<Option<SessionId>> {
        let table = self.lock();
        let owner = |shard| table.owners.get(&shard).map(|(session, _)| *session);
        (0..SHARDS).map(owner).collect()
    }

    /// The member that has a session.
    #[must_use]
    pub fn of_session(&self, session: SessionId) -> Option<Member> {
        let table = self.lock();
        table.sessions.get(&session).and_then(|info| member(session, info))
    }

    /// The sessions of agents that take coordinator shards.
    #[must_use]
    pub fn coordinators(&self) -> Vec<SessionId> {
        let table = self.lock();
        let takes = |(session, info): (&SessionId, &SessionInfo)| {
            let silent = table.silent.contains(session);
            (is_agent(info) && !info.draining && !silent).then_some(*session)
        };
        table.sessions.iter().filter_map(takes).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(&self) {
        let own = self.identity.member();
        {
            // Under the table's lock, so that views follow each other in the order of the changes.
            let table = self.lock();
            let view = Arc::new(view_of(&table, own));
            *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        }
        self.tell();
    }

    fn tell(&self) {
        self.changed.modify(|count| count + 1);
    }
}

fn is_agent(info: &SessionInfo) -> bool {
    info.node_id > 0
        && info
            .endpoints
            .iter()
            .any(|endpoint| endpoint.listener == KAFKA_LISTENER)
}

fn member(session: SessionId, info: &SessionInfo) -> Option<Member> {
    if !is_agent(info) {
        return None;
    }
    let listener = |name: &str| {
        let found = info.endpoints.iter().find(|endpoint| endpoint.listener == name)?;
        Some(Endpoint {
            host: found.host.clone(),
            port: found.port,
        })
    };
    Some(Member {
        session: Some(session),
        node: info.node_id,
        zone: Box::from(info.zone.as_str()),
        endpoint: listener(KAFKA_LISTENER)?,
        peer: listener(PEER_LISTENER),
        draining: info.draining,
    })
}

fn view_of(table: &Table, own: Member) -> MemberView {
    let mut by_node = BTreeMap::new();
    // In the order of sessions: of two with one node id the later one counts.
    for (session, info) in &table.sessions {
        if let Some(member) = member(*session, info) {
            by_node.insert(member.node, member);
        }
    }
    // What this process knows of itself is newer than what it has told.
    by_node.retain(|_, member| member.session != own.session || member.session.is_none());
    let own_node = own.node;
    let works = own.session.is_some() && !table.no_bucket;
    by_node.insert(own_node, own);
    let takes = |member: &&Member| {
        let silent = member.session.is_some_and(|session| table.silent.contains(&session));
        let fit = if member.node == own_node { works } else { !silent };
        fit && !member.draining
    };
    let placed = |member: &Member| Placed {
        node: member.node,
        zone: member.zone.clone(),
    };
    let mut placement = Placement::new(by_node.values().filter(takes).map(placed).collect());
    let stands_aside = !works && !placement.is_empty();
    if placement.is_empty() {
        // The last one that goes leads until it is gone, and when nobody can do anything everybody serves what they know.
        placement = Placement::new(
            by_node
                .values()
                .filter(|member| member.node == own_node)
                .map(placed)
                .collect(),
        );
    }
    MemberView {
        members: by_node.into_values().collect(),
        placement,
        works,
        stands_aside,
    }
}
