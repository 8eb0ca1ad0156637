//! Reading the groups of a shard that was claimed: one range, at one revision.
//!
//! Owns: what of the range counts. Does not own: the claim (`shards`), what becomes of the groups (`groups`).
//!
//! Invariants: GRP-2. The claim is read at the same revision, so nobody else can have written since. What an earlier
//! incarnation left behind counts for nothing and is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_metadata::keys::group::Generation as GenerationKey;
use esker_metadata::keys::group_member::Member as MemberKey;
use esker_metadata::keys::group_writes::Writes;
use esker_metadata::keys::{group, group_member, group_writes, incarnation, owner};
use esker_metadata::store::{KeyRange, KeyValue, MetadataError, Revision};

use super::book::{Book, Change};
use super::registry::Registry;
use super::stored::{self, Records};
use crate::groups::group::{StoredGroup, StoredMember};
use crate::groups::ids::GroupId;

/// The groups of a shard, and how to go on writing them.
#[derive(Debug)]
pub struct TakenOver {
    /// Each as it was stored last.
    pub groups: Vec<(GroupId, StoredGroup)>,
    book: Book,
    /// Groups of an earlier incarnation, whose keys are still there.
    stale: Vec<GroupId>,
    /// Groups that were written by a newer version.
    unreadable: BTreeSet<GroupId>,
}

/// Why a shard could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeOverError {
    /// The store.
    #[error(transparent)]
    Store(#[from] MetadataError),
    /// Somebody else has claimed it meanwhile.
    #[error("the shard is not held any more")]
    NotHeld,
}

impl Registry {
    /// Reads a shard that is held under a claim.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub async fn read(&self, shard: u16, claim: Revision) -> Result<TakenOver, TakeOverError> {
        let ranges = vec![
            KeyRange::Key(incarnation::KEY),
            KeyRange::Key(owner::key(shard)),
            KeyRange::Prefix(group::shard_prefix(shard)),
        ];
        let mut found = self.store.snapshot(ranges).await?.ranges.into_iter();
        let mut range = || found.next().unwrap_or_default();
        let (incarnation, owner, keys) = (range().pop(), range().pop(), range());
        if owner.is_none_or(|owner| owner.create_revision != claim) {
            return Err(TakeOverError::NotHeld);
        }
        let began = incarnation.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
        let mut read = Read {
            shard,
            ..Read::default()
        };
        for kv in &keys {
            read.key(kv, kv.mod_revision >= began);
        }
        let (groups, known) = read.assemble();
        let named = known
            .values()
            .flat_map(|records| records.values().map(|(number, _)| *number));
        let named: BTreeSet<u64> = named.collect();
        // What cannot be read may be of a newer version, which will want its records back.
        let unnamed = read
            .numbers
            .iter()
            .filter(|number| !named.contains(number) && !read.unreadable);
        let next = read.numbers.last().map_or(0, |number| number.saturating_add(1));
        Ok(TakenOver {
            groups,
            book: Book {
                shard,
                claim,
                incarnation: incarnation.map(|kv| (kv.key, kv.mod_revision)),
                writes: Writes {
                    claim,
                    count: read.writes.count,
                    next: next.max(read.writes.next),
                },
                last: read.last,
                unnamed: unnamed.copied().collect(),
                groups: known,
            },
            stale: read.stale,
            unreadable: read.refused,
        })
    }

    /// Takes changes of what was read.
    pub fn take_over(self: &Arc<Self>, taken: TakenOver) -> Vec<(GroupId, StoredGroup)> {
        self.open(taken.book, taken.unreadable);
        for group in &taken.stale {
            // It is deleted in its turn, and a group of that name that comes meanwhile is stored after it.
            drop(self.push(group, Change::Remove));
        }
        taken.groups
    }
}

/// What a range holds.
#[derive(Default)]
struct Read {
    shard: u16,
    generations: Vec<(GroupId, GenerationKey)>,
    records: BTreeMap<u64, StoredMember>,
    /// Of all records, whether they count or not.
    numbers: BTreeSet<u64>,
    /// Groups of an earlier incarnation.
    stale: Vec<GroupId>,
    writes: Writes,
    last: Option<bytes::Bytes>,
    unreadable: bool,
    /// Groups whose key, or a record of which, cannot be read.
    refused: BTreeSet<GroupId>,
}

impl Read {
    fn key(&mut self, kv: &KeyValue, counts: bool) {
        let shard = self.shard;
        let read = if let Some(number) = group_member::parse_key(shard, &kv.key) {
            self.numbers.insert(number);
            counts.then(|| MemberKey::decode(&kv.value)).transpose().map(|member| {
                self.records
                    .extend(member.map(|member| (number, stored::member(member))));
            })
        } else if let Some(group) = group::parse_key(shard, &kv.key) {
            let id = GroupId::from(group);
            if counts {
                let generation = GenerationKey::decode(&kv.value);
                if generation.is_err() {
                    self.refused.insert(id.clone());
                }
                generation.map(|generation| self.generations.push((id, generation)))
            } else {
                self.stale.push(id);
                Ok(())
            }
        } else if kv.key == group_writes::key(shard) {
            self.last = Some(kv.value.clone());
            Writes::decode(&kv.value).map(|writes| self.writes = writes)
        } else {
            Ok(())
        };
        if let Err(error) = read {
            tracing::error!(key = %String::from_utf8_lossy(&kv.key), %error, "key of a group cannot be read, it is left alone");
            self.unreadable = true;
        }
    }

    /// Puts records and generations together. A generation that lacks a record is none: its members join again.
    fn assemble(&mut self) -> (Vec<(GroupId, StoredGroup)>, BTreeMap<GroupId, Records>) {
        let (mut groups, mut known) = (Vec::new(), BTreeMap::new());
        for id in &self.stale {
            known.insert(id.clone(), Records::new());
        }
        for (id, generation) in std::mem::take(&mut self.generations) {
            let mut records = Records::new();
            for number in &generation.members {
                if let Some(member) = self.records.get(number) {
                    records.insert(member.member.clone(), (*number, member.clone()));
                }
            }
            if records.len() < generation.members.len() {
                tracing::error!(group = %id, found = records.len(), members = generation.members.len(), "group lacks members");
                if self.unreadable {
                    // What is missing may be what cannot be read.
                    self.refused.insert(id);
                } else {
                    known.insert(id, records);
                }
                continue;
            }
            groups.push((id.clone(), stored::group(generation, &records)));
            known.insert(id, records);
        }
        (groups, known)
    }
}
