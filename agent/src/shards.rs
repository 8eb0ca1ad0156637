//! Coordinator shards: which groups this agent coordinates, and how it comes to.
//!
//! Owns: claiming and releasing `own/<shard>`, answering who coordinates what, giving groups up when their shard is gone.
//! Does not own: who should have what (`esker_model::placement`), what a coordinator does (`groups`).
//!
//! Invariants: GRP-1. A shard is held only while this process believes in its session; what is written for it compares the
//! create revision of its key, so a belief that is wrong changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::owner;
use esker_metadata::store::{Compare, MetadataError, MetadataStore, Op, Revision, Txn};
use esker_model::placement::{SHARDS, plan_shards, shard_of};
use esker_segment::id::SessionId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::groups::coordinator::Coordinator;
use crate::groups::ids::GroupId;
use crate::membership::{Member, Membership};

/// After a change of members, shards without an owner are claimed so much later: several members often change at once.
const SETTLE: Duration = Duration::from_millis(300);
/// Who should claim and does not has so long; then anybody does.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);
/// Shards move to a new member only after members have not changed for so long.
const BALANCE_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked without being told. Costs no request.
const LOOK: Duration = Duration::from_millis(250);
/// Shards claimed in one transaction: with their compares they stay below the store's limit.
const CLAIMS_MAX: usize = 100;

/// A shard that this agent coordinates, as its transactions prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldShard {
    /// Which one.
    pub shard: u16,
    /// Holds as long as it is held.
    pub compare: Compare,
}

/// The coordinator shards as this agent sees them.
pub struct Shards {
    members: Arc<Membership>,
    store: Arc<dyn MetadataStore>,
    session: watch::Receiver<Option<LiveSession>>,
    wanted: Notify,
    /// The shards whose groups this agent serves.
    served: Mutex<BTreeMap<u16, Served>>,
}

/// Under which claim a shard is served.
#[derive(Clone, Copy, Debug)]
struct Served {
    revision: Revision,
    since: Instant,
}

/// What one look remembers for the next.
struct Seen {
    coordinators: Vec<SessionId>,
    since: Instant,
    unowned_since: Option<Instant>,
}

impl Shards {
    /// None is held at first.
    #[must_use]
    pub fn new(
        members: Arc<Membership>,
        store: Arc<dyn MetadataStore>,
        session: watch::Receiver<Option<LiveSession>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            members,
            store,
            session,
            wanted: Notify::new(),
            served: Mutex::default(),
        })
    }

    /// The shard of a group, if this agent holds it.
    #[must_use]
    pub fn held(&self, group: &str) -> Option<HeldShard> {
        let shard = shard_of(group);
        let revision = self.revision_held(shard)?;
        Some(HeldShard {
            shard,
            compare: Compare::CreateRevision(owner::key(shard), revision),
        })
    }

    /// Since when this agent has held the shard of a group without a gap; `None` when it does not.
    #[must_use]
    pub fn held_since(&self, group: &str) -> Option<Instant> {
        let shard = shard_of(group);
        let revision = self.revision_held(shard)?;
        let served = self.lock_served().get(&shard).copied()?;
        (served.revision == revision).then_some(served.since)
    }

    fn lock_served(&self) -> MutexGuard<'_, BTreeMap<u16, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who coordinates a group or transactional id; `None` when nobody does yet, which makes somebody claim it.
    #[must_use]
    pub fn coordinator(&self, key: &str) -> Option<Member> {
        let found = self.members.owner(shard_of(key)).and_then(|(session, _)| {
            let own = self.session.borrow().as_ref().is_some_and(|live| live.id == session);
            if own {
                return Some(self.members.identity().member());
            }
            self.members
                .of_session(session)
                .filter(|_| !self.members.is_silent(session))
        });
        if found.is_none() {
            self.wanted.notify_one();
        }
        found
    }

    fn revision_held(&self, shard: u16) -> Option<Revision> {
        let (session, revision) = self.members.owner(shard)?;
        let own = self.session.borrow().as_ref().is_some_and(|live| live.id == session);
        own.then_some(revision)
    }

    /// Claims, gives up and balances until `stop`.
    pub async fn run(self: Arc<Self>, groups: Arc<Coordinator>, stop: CancellationToken) {
        let (mut changes, mut session) = (self.members.changes(), self.session.clone());
        let mut seen = Seen {
            coordinators: Vec::new(),
            since: Instant::now(),
            unowned_since: None,
        };
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.look(&groups, &mut seen) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = changes.changed() => {}
                _ = session.changed() => {}
                () = self.wanted.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Waits until this agent's session is known, and, if it is the only agent, until it holds every shard: then its first
    /// client need not wait. Gives up after a while, for others may be slow.
    pub async fn begun(&self) {
        let mut changes = self.members.changes();
        let begun = async {
            loop {
                let live = self.session.borrow().as_ref().map(|live| live.id);
                let coordinators = self.members.coordinators();
                let known = live.is_some_and(|id| coordinators.contains(&id));
                if known && (coordinators.len() > 1 || self.members.owners().iter().all(Option::is_some)) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(CLAIM_PATIENCE, begun).await.is_err() {
            debug!("started without coordinator shards");
        }
    }

    async fn look(&self, groups: &Arc<Coordinator>, seen: &mut Seen) {
        self.give_up_lost(groups);
        let live = self.session.borrow().clone();
        let Some(live) = live.filter(|_| !self.members.identity().is_draining()) else {
            return;
        };
        let (owners, coordinators) = (self.members.owners(), self.members.coordinators());
        let now = Instant::now();
        if coordinators != seen.coordinators {
            seen.coordinators.clone_from(&coordinators);
            seen.since = now;
        }
        let unowned = owners.iter().any(Option::is_none);
        seen.unowned_since = seen.unowned_since.or(Some(now)).filter(|_| unowned);
        let alone = coordinators == [live.id];
        let stable = now - seen.since;
        if !coordinators.contains(&live.id) || !(alone || stable >= SETTLE) {
            return;
        }
        let plan = plan_shards(&owners, &coordinators);
        let impatient = seen.unowned_since.is_some_and(|since| now - since > CLAIM_PATIENCE);
        let mine = plan
            .claims
            .iter()
            .filter(|(_, session)| impatient || *session == live.id);
        let claims: Vec<u16> = mine.map(|(shard, _)| *shard).collect();
        if !claims.is_empty() {
            self.claim(&live, &claims).await;
        }
        if stable >= BALANCE_AFTER {
            let mine = plan.releases.iter().filter(|(_, session)| *session == live.id);
            let releases: Vec<u16> = mine.map(|(shard, _)| *shard).collect();
            if !releases.is_empty() {
                info!(shards = releases.len(), "coordinator shards go to other agents");
                self.release(&releases).await;
            }
        }
    }

    /// Groups whose shard was lost, or lost and claimed again, are given up: their members join again.
    fn give_up_lost(&self, groups: &Arc<Coordinator>) {
        let now = Instant::now();
        let held: BTreeMap<u16, Revision> = (0..SHARDS)
            .filter_map(|shard| Some((shard, self.revision_held(shard)?)))
            .collect();
        let before = {
            let mut served = self.lock_served();
            let before = served.clone();
            *served = held
                .iter()
                .map(|(shard, revision)| {
                    let same = before.get(shard).filter(|served| served.revision == *revision);
                    let since = same.map_or(now, |served| served.since);
                    let revision = *revision;
                    (*shard, Served { revision, since })
                })
                .collect();
            before
        };
        let same = |shard: u16| {
            let served = before.get(&shard);
            held.get(&shard)
                .is_some_and(|revision| served.is_some_and(|served| served.revision == *revision))
        };
        if before.len() != held.len() || !held.keys().all(|shard| same(*shard)) {
            groups.give_up(|group: &GroupId| !same(shard_of(group.as_str())));
            metrics::gauge!("esker_coordinator_shards").set(u32::try_from(held.len()).unwrap_or(u32::MAX));
        }
    }

    /// Claims several shards at once; if one of them is gone meanwhile, one by one.
    async fn claim(&self, live: &LiveSession, shards: &[u16]) {
        for some in shards.chunks(CLAIMS_MAX) {
            match self.store.txn(claim_txn(live, some)).await {
                Ok(outcome) if outcome.succeeded => debug!(shards = some.len(), "coordinator shards claimed"),
                Ok(_) => {
                    for shard in some {
                        // Who was faster has it.
                        if let Err(error) = self.store.txn(claim_txn(live, &[*shard])).await {
                            return warn!(%error, "coordinator shard not claimed");
                        }
                    }
                }
                Err(error) => return warn!(%error, "coordinator shards not claimed"),
            }
        }
    }

    /// Gives up shards, if they are still held.
    async fn release(&self, shards: &[u16]) {
        for shard in shards {
            let Some(revision) = self.revision_held(*shard) else {
                continue;
            };
            if let Err(error) = self.store.txn(release_txn(&[(*shard, revision)])).await {
                return warn!(%error, "coordinator shard not released");
            }
        }
    }

    /// Gives up everything: this agent goes away.
    ///
    /// # Errors
    /// The store. Then the shards go with the session.
    pub async fn release_all(&self) -> Result<(), MetadataError> {
        let held: Vec<(u16, Revision)> = (0..SHARDS)
            .filter_map(|shard| Some((shard, self.revision_held(shard)?)))
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        self.store.txn(release_txn(&held)).await.map(drop)
    }
}

fn claim_txn(live: &LiveSession, shards: &[u16]) -> Txn {
    let absent = shards.iter().map(|shard| Compare::Absent(owner::key(*shard)));
    let put = shards.iter().map(|shard| Op::Put {
        key: owner::key(*shard),
        value: owner::encode(live.id),
        lease: live.lease,
    });
    Txn {
        compares: std::iter::once(live.compare.clone()).chain(absent).collect(),
        then: put.collect(),
        otherwise: Vec::new(),
    }
}

fn release_txn(held: &[(u16, Revision)]) -> Txn {
    let compares = held
        .iter()
        .map(|(shard, revision)| Compare::CreateRevision(owner::key(*shard), *revision));
    Txn {
        compares: compares.collect(),
        then: held.iter().map(|(shard, _)| Op::Delete(owner::key(*shard))).collect(),
        otherwise: Vec::new(),
    }
}
