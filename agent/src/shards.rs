//! Coordinator shards: which groups this agent coordinates, and how it comes to.
//!
//! Owns: claiming and releasing `own/<shard>`, answering who coordinates what, having the groups of a claimed shard read before
//! they are served, giving them up when their shard is gone.
//! Does not own: who should have what (`esker_model::placement`), what a coordinator does (`groups`), how groups are stored
//! (`group_parts`).
//!
//! Invariants: GRP-1, GRP-2. A shard is held only while this process believes in its session; what is written for it compares the
//! create revision of its key, so a belief that is wrong changes nothing. Nobody is served before its groups were read at a
//! revision at which the claim stood. An agent that stands aside holds no shard for long, and claims none: its session may live,
//! and then nobody else can take its groups from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::owner;
use esker_metadata::log::Backoff;
use esker_metadata::store::{Compare, MetadataError, MetadataStore, Op, Revision, Txn};
use esker_model::placement::{SHARDS, plan_shards, shard_of};
use esker_segment::id::SessionId;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::group_parts::registry::Registry;
use crate::group_parts::take_over::{TakeOverError, TakenOver};
use crate::groups::coordinator::Coordinator;
use crate::groups::ids::GroupId;
use crate::groups::seams::{Ownership, Standing};
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
/// An agent that stands aside gives up its shards after so long. By then others that cannot work either have stopped answering,
/// so that groups do not wander while nobody can work; and the others have noticed that this one does not answer, so that they
/// do not leave the shards to it.
const ASIDE_PATIENCE: Duration = Duration::from_millis(2_500);
/// What an agent that stands aside still holds so much later is given up again.
const ASIDE_AGAIN: Duration = Duration::from_secs(1);
/// Shards whose groups are read at the same time.
const READS_MAX: usize = 8;

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
    registry: Arc<Registry>,
    /// Told whenever the groups of a shard were taken over.
    taken_over: Notify,
    /// The shards whose groups this agent serves.
    served: Mutex<BTreeMap<u16, Served>>,
}

/// Under which claim a shard is served.
#[derive(Clone, Debug)]
struct Served {
    revision: Revision,
    since: Instant,
    /// The claim is gone.
    lost: CancellationToken,
    /// Its groups were read; before that nobody is answered.
    known: bool,
}

/// What one look remembers for the next.
struct Seen {
    coordinators: Vec<SessionId>,
    since: Instant,
    unowned_since: Option<Instant>,
    /// While this agent stands aside: when it gives up what it holds.
    gives_up_at: Option<Instant>,
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
            registry: Registry::new(Arc::clone(&store)),
            taken_over: Notify::new(),
            store,
            session,
            wanted: Notify::new(),
            served: Mutex::default(),
        })
    }

    /// Where the groups of the shards that are held are stored.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
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

    /// Told when the claim under which a group is served now is gone: what its transactions have become may then be told to this
    /// agent late, or never.
    #[must_use]
    pub fn lost(&self, group: &str) -> CancellationToken {
        self.served(group).map_or_else(
            || {
                let lost = CancellationToken::new();
                lost.cancel();
                lost
            },
            |served| served.lost,
        )
    }

    fn served(&self, group: &str) -> Option<Served> {
        let shard = shard_of(group);
        let revision = self.revision_held(shard)?;
        let served = self.lock_served().get(&shard).cloned();
        // Held, but not noticed by the one who has it read.
        let unknown = Served {
            revision,
            since: Instant::now(),
            lost: CancellationToken::new(),
            known: false,
        };
        Some(served.filter(|served| served.revision == revision).unwrap_or(unknown))
    }

    fn lock_served(&self) -> MutexGuard<'_, BTreeMap<u16, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who coordinates a group or transactional id; `None` when nobody does yet, which makes somebody claim it. Who does not answer
    /// its peers is not named, unless nobody does anything: then it may still coordinate for those who ask it.
    #[must_use]
    pub fn coordinator(&self, key: &str) -> Option<Member> {
        let view = self.members.view();
        let nobody_works = !view.works && !view.stands_aside;
        let found = self.members.owner(shard_of(key)).and_then(|(session, _)| {
            let own = self.session.borrow().as_ref().is_some_and(|live| live.id == session);
            if own {
                return Some(self.members.identity().member());
            }
            self.members
                .of_session(session)
                .filter(|_| nobody_works || !self.members.is_silent(session))
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

    /// Claims, takes over, gives up and balances until `stop`.
    pub async fn run(self: Arc<Self>, groups: Arc<Coordinator>, stop: CancellationToken) {
        let (mut changes, mut session) = (self.members.changes(), self.session.clone());
        let mut seen = Seen {
            coordinators: Vec::new(),
            since: Instant::now(),
            unowned_since: None,
            gives_up_at: None,
        };
        let mut reads = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.look(&groups, &mut seen, &mut reads) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = changes.changed() => {}
                _ = session.changed() => {}
                () = self.wanted.notified() => {}
                Some(_) = reads.join_next() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Waits until this agent's session is known, and, if it is the only agent, until it serves every shard: then its first
    /// client need not wait. Gives up after a while, for others may be slow.
    pub async fn begun(&self) {
        let mut changes = self.members.changes();
        let begun = async {
            loop {
                let live = self.session.borrow().as_ref().map(|live| live.id);
                let coordinators = self.members.coordinators();
                let known = live.is_some_and(|id| coordinators.contains(&id));
                let serves_all = || {
                    let served = self.lock_served();
                    served.len() == usize::from(SHARDS) && served.values().all(|served| served.known)
                };
                if known && (coordinators.len() > 1 || serves_all()) {
                    return;
                }
                tokio::select! {
                    biased;
                    changed = changes.changed() => if changed.is_err() {
                        return;
                    },
                    () = self.taken_over.notified() => {}
                }
            }
        };
        if tokio::time::timeout(CLAIM_PATIENCE, begun).await.is_err() {
            debug!("started without coordinator shards");
        }
    }

    async fn look(self: &Arc<Self>, groups: &Arc<Coordinator>, seen: &mut Seen, reads: &mut JoinSet<()>) {
        self.give_up_lost(groups);
        self.read_claimed(groups, reads);
        let live = self.session.borrow().clone();
        let Some(live) = live.filter(|_| !self.members.identity().is_draining()) else {
            return;
        };
        let now = Instant::now();
        if self.members.view().stands_aside {
            return self.stand_aside(seen, now).await;
        }
        seen.gives_up_at = None;
        let (owners, coordinators) = (self.members.owners(), self.members.coordinators());
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

    /// This agent can do nothing for its groups, and does not answer those who can: they take over. What may have been given up
    /// already is given up again: a claim that somebody else has made since has another revision.
    async fn stand_aside(&self, seen: &mut Seen, now: Instant) {
        // When it works again, that counts as a change of members.
        seen.coordinators.clear();
        seen.unowned_since = None;
        if *seen.gives_up_at.get_or_insert(now + ASIDE_PATIENCE) > now {
            return;
        }
        seen.gives_up_at = Some(now + ASIDE_AGAIN);
        let shards = self.all_held().len();
        if shards > 0 {
            info!(shards, "coordinator shards are given up: this agent cannot work");
            if let Err(error) = self.release_all().await {
                warn!(%error, "coordinator shards not given up");
            }
        }
    }

    /// Groups whose shard was lost, or lost and claimed again, are given up: their members find the next coordinator.
    fn give_up_lost(&self, groups: &Arc<Coordinator>) {
        let held: BTreeMap<u16, Revision> = self.all_held().into_iter().collect();
        let stays = |shard: u16, served: &Served| {
            let stored = !served.known || self.registry.is_open(shard, served.revision);
            held.get(&shard) == Some(&served.revision) && stored
        };
        let lost: BTreeSet<u16> = {
            let mut served = self.lock_served();
            let lost = served.iter().filter(|(shard, served)| !stays(**shard, served));
            let lost = lost.map(|(shard, _)| *shard).collect();
            served.retain(|shard, served| {
                let stays = stays(*shard, served);
                if !stays {
                    served.lost.cancel();
                }
                stays
            });
            lost
        };
        if !lost.is_empty() {
            lost.iter().for_each(|shard| self.registry.close(*shard));
            groups.give_up(|group: &GroupId| lost.contains(&shard_of(group.as_str())));
        }
        metrics::gauge!("esker_coordinator_shards").set(u32::try_from(held.len()).unwrap_or(u32::MAX));
    }

    /// Has the groups of newly claimed shards read, and served from then on.
    fn read_claimed(self: &Arc<Self>, groups: &Arc<Coordinator>, reads: &mut JoinSet<()>) {
        while reads.try_join_next().is_some() {}
        for shard in 0..SHARDS {
            let Some(revision) = self.revision_held(shard) else {
                continue;
            };
            let mut served = self.lock_served();
            if reads.len() >= READS_MAX || served.contains_key(&shard) {
                continue;
            }
            let claimed = Served {
                revision,
                since: Instant::now(),
                lost: CancellationToken::new(),
                known: false,
            };
            served.insert(shard, claimed);
            drop(served);
            let (this, groups) = (Arc::clone(self), Arc::clone(groups));
            reads.spawn(async move { this.take_over(&groups, shard, revision).await });
        }
    }

    /// Reads the groups of a shard until that works, or the shard is not held any more.
    async fn take_over(&self, groups: &Arc<Coordinator>, shard: u16, revision: Revision) {
        let mut backoff = Backoff::new(u64::from(shard));
        while self.revision_held(shard) == Some(revision) {
            match self.registry.read(shard, revision).await {
                Ok(taken) => return self.serve(groups, shard, revision, taken),
                Err(TakeOverError::NotHeld) => return,
                Err(TakeOverError::Store(error)) => debug!(shard, %error, "groups are read again"),
            }
            backoff.wait().await;
        }
    }

    fn serve(&self, groups: &Arc<Coordinator>, shard: u16, revision: Revision, taken: TakenOver) {
        // What a request that was on its way has left there since the shard was last given up.
        groups.give_up(|group: &GroupId| shard_of(group.as_str()) == shard);
        let mut served = self.lock_served();
        let Some(served) = served.get_mut(&shard).filter(|served| served.revision == revision) else {
            return;
        };
        let stored = self.registry.take_over(taken);
        if !stored.is_empty() {
            debug!(shard, groups = stored.len(), "groups taken over");
        }
        groups.adopt(stored);
        served.known = true;
        self.taken_over.notify_one();
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

    fn all_held(&self) -> Vec<(u16, Revision)> {
        (0..SHARDS)
            .filter_map(|shard| Some((shard, self.revision_held(shard)?)))
            .collect()
    }

    /// Gives up everything: this agent goes away, or can do nothing.
    ///
    /// # Errors
    /// The store. Then the shards go with the session, unless they are given up again.
    pub async fn release_all(&self) -> Result<(), MetadataError> {
        let held = self.all_held();
        if held.is_empty() {
            return Ok(());
        }
        self.store.txn(release_txn(&held)).await.map(drop)
    }
}

impl Ownership for Shards {
    fn standing(&self, group: &GroupId) -> Standing {
        let Some(served) = self.served(group.as_str()) else {
            return Standing::Other;
        };
        // A write that was refused says more than a watch that is slow.
        if served.known && self.registry.is_open(shard_of(group.as_str()), served.revision) {
            Standing::Coordinator
        } else {
            Standing::Loading
        }
    }

    fn held_since(&self, group: &GroupId) -> Option<Instant> {
        self.served(group.as_str()).map(|served| served.since)
    }

    fn is_loading(&self) -> bool {
        let known = |shard: u16| self.lock_served().get(&shard).is_some_and(|served| served.known);
        (0..SHARDS).any(|shard| self.revision_held(shard).is_some() && !known(shard))
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
