//! Where partitions are led and coordinator shards belong: a pure function of the agents that live.
//!
//! Owns: rendezvous hashing of partitions over agents and zones, the shard of a group, who should claim or give up a shard.
//! Does not own: who lives (`session/` keys), who may coordinate (`own/` keys and their compares).
//!
//! Leadership is placement, never a precondition: any agent appends and serves correctly. So two agents that see different
//! members for a moment only disagree about where a tail is hot.
//!
//! When one agent comes or goes, only partitions that it leads change their leader.

use esker_segment::id::{SessionId, TopicPartition};
use xxhash_rust::xxh3::xxh3_64;

/// How many shards groups and transactional ids are spread over.
pub const SHARDS: u16 = 64;

/// The shard of a group or transactional id.
#[must_use]
pub fn shard_of(key: &str) -> u16 {
    u16::try_from(xxh3_64(key.as_bytes()) % u64::from(SHARDS)).expect("less than the number of shards")
}

/// An agent that takes partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Its node id.
    pub node: i32,
    /// Its zone; empty for none.
    pub zone: Box<str>,
}

/// The agents that partitions are spread over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Ordered by node id.
    agents: Vec<Placed>,
    /// Every zone once, ordered.
    zones: Vec<Box<str>>,
}

impl Placement {
    /// Over these agents; of several with one node id the first counts.
    #[must_use]
    pub fn new(mut agents: Vec<Placed>) -> Self {
        agents.sort_by_key(|agent| agent.node);
        agents.dedup_by_key(|agent| agent.node);
        let mut zones: Vec<Box<str>> = agents.iter().map(|agent| agent.zone.clone()).collect();
        zones.sort_unstable();
        zones.dedup();
        Self { agents, zones }
    }

    /// Whether there is no agent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Whether some agent is in this zone.
    #[must_use]
    pub fn has_zone(&self, zone: &str) -> bool {
        self.zones.iter().any(|known| **known == *zone)
    }

    /// The leader for clients of a zone: an agent of that zone; any agent when the zone has none or is not known.
    #[must_use]
    pub fn leader(&self, at: TopicPartition, zone: Option<&str>) -> Option<i32> {
        match zone.filter(|zone| self.has_zone(zone)) {
            Some(zone) => self.in_zone(at, zone),
            None => heaviest(at, self.agents.iter()),
        }
    }

    /// The agent of a zone that serves a partition there.
    #[must_use]
    pub fn in_zone(&self, at: TopicPartition, zone: &str) -> Option<i32> {
        heaviest(at, self.agents.iter().filter(|agent| *agent.zone == *zone))
    }

    /// What clients are shown as replicas: one agent for each zone, the leader first, then by zone.
    #[must_use]
    pub fn replicas(&self, at: TopicPartition, zone: Option<&str>) -> Vec<i32> {
        let Some(leader) = self.leader(at, zone) else {
            return Vec::new();
        };
        let led_in = self
            .agents
            .iter()
            .find(|agent| agent.node == leader)
            .map(|agent| &agent.zone);
        let others = self.zones.iter().filter(|zone| Some(*zone) != led_in);
        std::iter::once(leader)
            .chain(others.filter_map(|zone| self.in_zone(at, zone)))
            .collect()
    }
}

fn heaviest<'a>(at: TopicPartition, agents: impl Iterator<Item = &'a Placed>) -> Option<i32> {
    // Node ids differ, so equal weights are decided the same way everywhere.
    agents
        .map(|agent| (weight(at, agent.node), agent.node))
        .max()
        .map(|(_, node)| node)
}

fn weight(at: TopicPartition, node: i32) -> u64 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&at.topic.0.to_le_bytes());
    bytes[16..20].copy_from_slice(&at.partition.0.to_le_bytes());
    bytes[20..].copy_from_slice(&node.to_le_bytes());
    xxh3_64(&bytes)
}

/// Who should do what about coordinator shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPlan {
    /// Shards without an owner, and who should claim each.
    pub claims: Vec<(u16, SessionId)>,
    /// Shards that their owner should give up so that another has its share. None while there are claims.
    pub releases: Vec<(u16, SessionId)>,
}

/// Decides who coordinates what: owners keep their shards, shards without an owner go to those who have the fewest, and who
/// has at least two more than another gives up. `owners` has an entry for each shard; owners that are not among `agents` are
/// on their way out, and keep what they have until they let go.
#[must_use]
pub fn plan_shards(owners: &[Option<SessionId>], agents: &[SessionId]) -> ShardPlan {
    let mut held: Vec<(SessionId, Vec<u16>)> = agents.iter().map(|agent| (*agent, Vec::new())).collect();
    held.sort_unstable();
    held.dedup_by_key(|(agent, _)| *agent);
    let mut plan = ShardPlan::default();
    if held.is_empty() {
        return plan;
    }
    let mut free = Vec::new();
    for (shard, owner) in (0..).zip(owners) {
        match owner {
            None => free.push(shard),
            Some(owner) => {
                if let Ok(at) = held.binary_search_by_key(owner, |(agent, _)| *agent) {
                    held[at].1.push(shard);
                }
            }
        }
    }
    for shard in free {
        let least = held.iter_mut().min_by_key(|(agent, shards)| (shards.len(), *agent));
        if let Some((agent, shards)) = least {
            shards.push(shard);
            plan.claims.push((shard, *agent));
        }
    }
    if !plan.claims.is_empty() {
        return plan;
    }
    loop {
        let least = held.iter().map(|(_, shards)| shards.len()).min().unwrap_or(0);
        let most = held.iter_mut().max_by_key(|(agent, shards)| (shards.len(), *agent));
        match most {
            Some((agent, shards)) if shards.len() > least + 1 => {
                let shard = shards.pop().expect("more than one");
                plan.releases.push((shard, *agent));
                // Whoever has the fewest will claim it.
                if let Some((_, poorest)) = held.iter_mut().min_by_key(|(agent, shards)| (shards.len(), *agent)) {
                    // Not at the end, from where it would be given up again.
                    poorest.insert(0, shard);
                }
            }
            _ => return plan,
        }
    }
}

#[cfg(test)]
mod tests;
