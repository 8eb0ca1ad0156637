//! Groups in the metadata store, over the simulated one: what is found again, what is refused, what a crash leaves behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::keys::{group, incarnation, owner};
use esker_metadata::simulated::{Chance, Faults, SimulatedStore};
use esker_metadata::store::{Compare, KeyRange, LeaseId, MetadataStore, Op, Revision, TXN_OPS_MAX, Txn};
use esker_model::placement::shard_of;
use esker_segment::id::SessionId;

use super::registry::Registry;
use super::take_over::TakeOverError;
use crate::groups::error::GroupError;
use crate::groups::group::{Client, Protocol, StoredGroup, StoredMember, StoredPhase, Timeouts};
use crate::groups::ids::{Generation, GroupId, MemberId, ProtocolName};
use crate::groups::seams::GroupStore;

const GROUP: &str = "g";

fn id() -> GroupId {
    GroupId::from(GROUP)
}

fn shard() -> u16 {
    shard_of(GROUP)
}

fn member(name: &str, assignment: &str) -> StoredMember {
    StoredMember {
        member: MemberId::from(name),
        instance: None,
        client: Client {
            id: Arc::from("client"),
            host: Arc::from("/127.0.0.1"),
        },
        timeouts: Timeouts {
            session: Duration::from_secs(10),
            rebalance: Duration::from_secs(60),
        },
        protocols: vec![Protocol {
            name: ProtocolName::from("range"),
            metadata: Bytes::from_static(b"topics"),
        }],
        assignment: Bytes::copy_from_slice(assignment.as_bytes()),
    }
}

fn generation(number: i32, members: Vec<StoredMember>) -> StoredGroup {
    StoredGroup {
        generation: Generation(number),
        phase: if members.is_empty() {
            StoredPhase::Empty
        } else {
            StoredPhase::Stable
        },
        protocol_type: Some(ProtocolName::from("consumer")),
        protocol: Some(ProtocolName::from("range")).filter(|_| !members.is_empty()),
        leader: members.first().map(|member| member.member.clone()),
        members,
    }
}

/// As many members as take several transactions.
fn many(assignment: &str) -> Vec<StoredMember> {
    let names = (0..3 * TXN_OPS_MAX).map(|n| format!("m{n:04}"));
    names.map(|name| member(&name, assignment)).collect()
}

/// Claims the shard, in place of whoever had it.
async fn claim(store: &SimulatedStore, session: u64) -> Revision {
    let key = owner::key(shard());
    let delete = Txn {
        then: vec![Op::Delete(key.clone())],
        ..Txn::default()
    };
    store.txn(delete).await.unwrap();
    let put = Txn {
        then: vec![Op::Put {
            key,
            value: owner::encode(SessionId(session)),
            lease: LeaseId(0),
        }],
        ..Txn::default()
    };
    store.txn(put).await.unwrap().revision
}

/// Claims the shard and goes on with its groups.
async fn take_over(store: &SimulatedStore, session: u64) -> (Arc<Registry>, Vec<(GroupId, StoredGroup)>) {
    let registry = Registry::new(Arc::new(store.clone()));
    let revision = claim(store, session).await;
    let taken = registry.read(shard(), revision).await.unwrap();
    let groups = registry.take_over(taken);
    (registry, groups)
}

/// Keys of the shard's groups, without the one that counts writes.
fn keys(store: &SimulatedStore) -> usize {
    let range = KeyRange::Prefix(group::shard_prefix(shard()));
    let found = store.peek(&[range]).ranges.remove(0);
    found.iter().filter(|kv| !kv.key.ends_with(b"/w")).count()
}

fn quiet() -> SimulatedStore {
    SimulatedStore::new(1, Faults::default())
}

#[tokio::test(start_paused = true)]
async fn next_coordinator_finds_what_was_stored_last() {
    let store = quiet();
    let (first, found) = take_over(&store, 1).await;
    assert!(found.is_empty());
    for (number, assignment) in [(1, "0"), (2, "1")] {
        let stored = generation(number, vec![member("a", assignment), member("b", "")]);
        first.store(&id(), stored).await.unwrap();
    }
    let (_, found) = take_over(&store, 2).await;
    assert_eq!(found, [(id(), generation(2, vec![member("a", "1"), member("b", "")]))]);
    assert_eq!(keys(&store), 3, "one key for the group and one for each member");
}

#[tokio::test(start_paused = true)]
async fn generations_of_any_size_and_shape_come_back() {
    let store = quiet();
    let (first, _) = take_over(&store, 1).await;
    for (number, members) in [
        (1, many("0")),
        (2, many("1")),
        (3, many("1")),
        (4, vec![]),
        (5, many("2")),
    ] {
        let stored = generation(number, members);
        first.store(&id(), stored.clone()).await.unwrap();
        let read = Registry::new(Arc::new(store.clone()));
        let revision = store.peek(&[KeyRange::Key(owner::key(shard()))]).ranges[0][0].create_revision;
        let taken = read.read(shard(), revision).await.unwrap();
        assert_eq!(taken.groups, [(id(), stored)]);
    }
    first.remove(&id()).await.unwrap();
    let (_, found) = take_over(&store, 2).await;
    assert!(found.is_empty());
    assert_eq!(keys(&store), 0);
}

#[tokio::test(start_paused = true)]
async fn member_that_did_not_change_is_not_written_again() {
    let store = quiet();
    let (first, _) = take_over(&store, 1).await;
    first.store(&id(), generation(1, many("0"))).await.unwrap();
    let before = store.peek(&[]).revision;
    let mut members = many("0");
    members[7].assignment = Bytes::from_static(b"1");
    first.store(&id(), generation(2, members)).await.unwrap();
    assert_eq!(store.peek(&[]).revision.0, before.0 + 1, "one transaction");
}

/// GRP-2: the compare of the claim decides, not what the coordinator believes.
#[tokio::test(start_paused = true)]
async fn coordinator_that_lost_its_shard_stores_nothing() {
    let store = quiet();
    let (zombie, _) = take_over(&store, 1).await;
    zombie
        .store(&id(), generation(1, vec![member("a", "0")]))
        .await
        .unwrap();
    let (second, found) = take_over(&store, 2).await;
    assert_eq!(found.len(), 1);
    second
        .store(&id(), generation(2, vec![member("b", "0")]))
        .await
        .unwrap();
    for change in [
        zombie.store(&id(), generation(7, vec![member("a", "all")])),
        zombie.remove(&id()),
    ] {
        assert_eq!(change.await, Err(GroupError::NotCoordinator));
    }
    let (_, found) = take_over(&store, 3).await;
    assert_eq!(found, [(id(), generation(2, vec![member("b", "0")]))]);
}

#[tokio::test(start_paused = true)]
async fn shard_that_is_held_by_somebody_else_is_not_read() {
    let store = quiet();
    let registry = Registry::new(Arc::new(store.clone()));
    let revision = claim(&store, 1).await;
    claim(&store, 2).await;
    assert_eq!(
        registry.read(shard(), revision).await.map(drop),
        Err(TakeOverError::NotHeld)
    );
    let refused = registry.store(&id(), generation(1, vec![])).await;
    assert_eq!(
        refused,
        Err(GroupError::NotCoordinator),
        "nothing is taken before it was read"
    );
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_refused_when_the_shard_is_closed() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    let waiting = [
        registry.store(&id(), generation(1, vec![])),
        registry.store(&id(), generation(2, vec![])),
    ];
    registry.close(shard());
    for outcome in waiting {
        assert_eq!(outcome.await, Err(GroupError::NotCoordinator));
    }
}

/// GRP-2 under lost answers and late transactions: what was confirmed last is found, or something that was sent after it, and
/// never anything older or mixed.
#[tokio::test(start_paused = true)]
async fn what_was_confirmed_is_found_whatever_becomes_of_answers() {
    for seed in 0..60 {
        let store = SimulatedStore::new(seed, Faults::rough(10));
        let (mut confirmed, mut sent) = (0, 0);
        for session in 1..6 {
            let Some((registry, found)) = stubborn(&store, session).await else {
                panic!("seed {seed}: not taken over");
            };
            let number = found.first().map_or(0, |(_, group)| group.generation.0);
            assert!((confirmed..=sent).contains(&number), "seed {seed}: found {number}");
            for (_, group) in &found {
                let all_of_one = group
                    .members
                    .iter()
                    .all(|member| member.assignment == group.generation.0.to_string().as_bytes());
                assert!(all_of_one, "seed {seed}: a mixture");
            }
            confirmed = number;
            for _ in 0..4 {
                sent += 1;
                let size = usize::try_from(sent).unwrap() * 53 % 400;
                let names = (0..size).map(|n| member(&format!("m{n}"), &sent.to_string()));
                let outcome = registry.store(&id(), generation(sent, names.collect())).await;
                if outcome.is_ok() {
                    confirmed = sent;
                }
            }
            // The last of them is cut off somewhere.
            sent += 1;
            let names = (0..300).map(|n| member(&format!("m{n}"), &sent.to_string()));
            let cut = registry.store(&id(), generation(sent, names.collect()));
            let cut = tokio::time::timeout(Duration::from_millis(seed * 3), cut).await;
            if matches!(cut, Ok(Ok(()))) {
                confirmed = sent;
            }
            registry.close(shard());
        }
        let (_, found) = stubborn(&store, 9).await.unwrap();
        let members: usize = found.iter().map(|(_, group)| group.members.len()).sum();
        let mut left = 0;
        for _ in 0..1_000 {
            left = keys(&store);
            if left == members + found.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(left, members + found.len(), "seed {seed}: nothing else is left behind");
    }
}

/// Takes over through a store that fails.
async fn stubborn(store: &SimulatedStore, session: u64) -> Option<(Arc<Registry>, Vec<(GroupId, StoredGroup)>)> {
    let registry = Registry::new(Arc::new(store.clone()));
    for _ in 0..1_000 {
        let key = owner::key(shard());
        let value = owner::encode(SessionId(session));
        let found = store.peek(&[KeyRange::Key(key.clone())]).ranges.remove(0).pop();
        match found {
            Some(found) if found.value == value => {
                if let Ok(taken) = registry.read(shard(), found.create_revision).await {
                    let groups = registry.take_over(taken);
                    return Some((registry, groups));
                }
            }
            found => {
                let (compare, op) = match found {
                    Some(found) => (
                        Compare::CreateRevision(key.clone(), found.create_revision),
                        Op::Delete(key),
                    ),
                    None => (Compare::Absent(key.clone()), Op::put(key, value)),
                };
                let (compares, then) = (vec![compare], vec![op]);
                let txn = Txn {
                    compares,
                    then,
                    ..Txn::default()
                };
                let _unknown = store.txn(txn).await;
            }
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_incarnation_left_is_deleted_not_served() {
    let store = quiet();
    let (first, _) = take_over(&store, 1).await;
    first.store(&id(), generation(4, many("0"))).await.unwrap();
    let begin = Txn {
        then: vec![Op::put(incarnation::KEY, Bytes::from_static(b"next"))],
        ..Txn::default()
    };
    store.txn(begin).await.unwrap();
    let (second, found) = take_over(&store, 2).await;
    assert!(found.is_empty());
    second
        .store(&id(), generation(1, vec![member("a", "0")]))
        .await
        .unwrap();
    while keys(&store) > 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, found) = take_over(&store, 3).await;
    assert_eq!(found, [(id(), generation(1, vec![member("a", "0")]))]);
}

#[tokio::test(start_paused = true)]
async fn key_that_cannot_be_read_is_left_alone() {
    let store = quiet();
    let (first, _) = take_over(&store, 1).await;
    first.store(&id(), generation(1, vec![member("a", "0")])).await.unwrap();
    let newer = Txn {
        then: vec![Op::put(
            group::key(shard(), GROUP),
            Bytes::from_static(b"\x09of a newer version"),
        )],
        ..Txn::default()
    };
    store.txn(newer).await.unwrap();
    let (registry, found) = take_over(&store, 2).await;
    assert!(found.is_empty());
    for change in [registry.store(&id(), generation(1, vec![])), registry.remove(&id())] {
        assert_eq!(change.await, Err(GroupError::Unavailable));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(keys(&store), 2, "nothing is deleted that a newer version may want");
}

#[tokio::test(start_paused = true)]
async fn member_too_large_for_a_transaction_is_refused_alone() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    let mut large = member("a", "0");
    large.assignment = Bytes::from(vec![0; 2 << 20]);
    let refused = registry.store(&id(), generation(1, vec![large]));
    assert!(matches!(refused.await, Err(GroupError::RequestTooLarge { .. })));
    registry
        .store(&id(), generation(1, vec![member("a", "0")]))
        .await
        .unwrap();
}

/// Groups of one shard.
fn neighbours(count: usize) -> Vec<GroupId> {
    let names = (0..).map(|n| format!("g{n}"));
    let names = names.filter(|name| shard_of(name) == shard());
    names.take(count).map(GroupId::from).collect()
}

#[tokio::test(start_paused = true)]
async fn generations_that_wait_become_one_and_hold_nobody_back() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    let before = store.peek(&[]).revision.0;
    let others = neighbours(100);
    let mut waiting = Vec::new();
    for number in 1..1_000 {
        waiting.push(registry.store(&id(), generation(number, vec![member("a", "0")])));
        if let Some(other) = usize::try_from(number / 10).ok().and_then(|n| others.get(n)) {
            waiting.push(registry.store(other, generation(1, vec![])));
        }
    }
    for outcome in waiting {
        assert_eq!(outcome.await, Ok(()));
    }
    let writes = store.peek(&[]).revision.0 - before;
    assert!(writes <= 2, "{writes} transactions");
    let (_, found) = take_over(&store, 2).await;
    assert!(found.contains(&(id(), generation(999, vec![member("a", "0")]))));
    assert_eq!(found.len(), 101);
}

#[tokio::test(start_paused = true)]
async fn generation_after_a_removal_does_not_overtake_it() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    store.set_faults(Faults::calm());
    let before = store.peek(&[]).revision.0;
    let other = neighbours(1).remove(0);
    let waiting = [
        registry.store(&id(), generation(1, vec![member("a", "0")])),
        registry.remove(&id()),
        registry.store(&id(), generation(1, vec![member("b", "0")])),
        registry.remove(&id()),
        registry.store(&other, generation(1, vec![])),
    ];
    let [first, gone, second, last, neighbour] = waiting;
    assert_eq!((first.await, neighbour.await), (Ok(()), Ok(())));
    assert_eq!(store.peek(&[]).revision.0 - before, 1, "the other group did not wait");
    assert_eq!((gone.await, second.await, last.await), (Ok(()), Ok(()), Ok(())));
    store.set_faults(Faults::default());
    let (_, found) = take_over(&store, 2).await;
    assert_eq!(found, [(other, generation(1, vec![]))]);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_are_bounded() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    let mut large = member("a", "");
    large.assignment = Bytes::from(vec![0; 512 << 10]);
    let stored = generation(1, vec![large]);
    let groups = neighbours(100);
    let waiting: Vec<_> = groups
        .iter()
        .map(|group| registry.store(group, stored.clone()))
        .collect();
    let (mut kept, mut refused) = (0, 0);
    for outcome in waiting {
        match outcome.await {
            Ok(()) => kept += 1,
            Err(GroupError::Unavailable) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((kept, refused), (31, 69));
    // What takes the place of another counts once, and one alone is never too much.
    let again: Vec<_> = (0..100).map(|_| registry.store(&id(), stored.clone())).collect();
    for outcome in again {
        assert_eq!(outcome.await, Ok(()));
    }
    let names = (0..40).map(|n| member(&format!("m{n}"), ""));
    let mut members: Vec<StoredMember> = names.collect();
    for member in &mut members {
        member.assignment = Bytes::from(vec![0; 512 << 10]);
    }
    assert_eq!(registry.store(&id(), generation(2, members)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_write_whose_outcome_stays_unknown() {
    let store = quiet();
    let (registry, _) = take_over(&store, 1).await;
    let other = neighbours(1).remove(0);
    let unknown = || Ok(Err(GroupError::Unavailable));
    let within = Duration::from_secs(20);
    store.set_faults(Faults {
        unknown_before: Chance::PERCENT * 100,
        ..Faults::calm()
    });
    let first = registry.store(&id(), generation(1, many("0")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = registry.store(&id(), generation(2, many("1")));
    let gone = registry.remove(&other);
    assert_eq!(tokio::time::timeout(within, first).await, unknown());
    assert_eq!(tokio::time::timeout(within, second).await, unknown());
    assert_eq!(tokio::time::timeout(within, gone).await, unknown());
    let late = registry.store(&other, generation(1, vec![]));
    assert_eq!(
        tokio::time::timeout(within, late).await,
        unknown(),
        "nor who comes then"
    );
    // Once the store answers again, what came first is written first, and the last word is what is found.
    store.set_faults(Faults::calm());
    assert_eq!(registry.store(&other, generation(2, vec![])).await, Ok(()));
    assert_eq!(registry.remove(&GroupId::from(GROUP)).await, Ok(()));
    assert_eq!(registry.store(&id(), generation(3, many("1"))).await, Ok(()));
    store.set_faults(Faults::default());
    let (_, found) = take_over(&store, 2).await;
    assert_eq!(
        found,
        [(id(), generation(3, many("1"))), (other, generation(2, vec![]))]
    );
}
