//! One coordinator for each group, another one when it is gone, and no offset from a coordinator that is not one any more.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_kafka::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_kafka::{ErrorCode, Str, TopicRef};
use esker_metadata::simulated::{Chance, Faults};
use esker_model::placement::SHARDS;
use esker_storage::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};
use tokio::time::Instant;

use crate::batches::batch;
use crate::client::Client;
use crate::nodes::{Running, World, until};
use crate::requests::{Topic, code};

const FIND: i16 = 6;
const COMMIT: i16 = 9;

/// The node id of a group's coordinator, or why there is none.
async fn find(client: &mut Client, group: &str) -> Result<i32, ErrorCode> {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![Str::from(group)],
        ..Default::default()
    };
    let found = client.call(FIND, &request).await.coordinators.remove(0);
    match code(found.error_code) {
        ErrorCode::None => Ok(found.node_id),
        refused => Err(refused),
    }
}

/// Asks until somebody coordinates the group.
async fn found(client: &mut Client, group: &str) -> i32 {
    let began = Instant::now();
    loop {
        match find(client, group).await {
            Ok(node) => return node,
            Err(refused) => assert_eq!(refused, ErrorCode::CoordinatorNotAvailable),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody coordinates {group}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn commit(client: &mut Client, group: &str, topic: &Topic, offset: i64) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: Str::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: None,
            }],
        }],
        ..Default::default()
    };
    let response = client.call(COMMIT, &request).await;
    code(response.topics[0].partitions[0].error_code)
}

async fn committed(client: &mut Client, group: &str, topic: &Topic) -> i64 {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::from(group),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call(9, &request).await;
    response.groups[0].topics[0].partitions[0].committed_offset
}

fn held(agent: &Running) -> usize {
    let own = agent.agent.log.session().map(|live| live.id);
    let owners = agent.agent.members.owners();
    owners.iter().filter(|owner| **owner == own && own.is_some()).count()
}

/// Waits until these agents hold equal shares.
async fn balanced(agents: &[&Running]) {
    let (all, count) = (usize::from(SHARDS), agents.len());
    until("shards are balanced", || {
        let shares: Vec<usize> = agents.iter().map(|agent| held(agent)).collect();
        shares.iter().sum::<usize>() == all
            && shares
                .iter()
                .all(|share| (all / count..=all.div_ceil(count)).contains(share))
    })
    .await;
}

#[tokio::test]
async fn every_agent_names_the_same_coordinator_and_only_that_one_acts() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    assert_eq!(held(&a) + held(&b), usize::from(SHARDS));
    balanced(&[&a, &b]).await;
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_a.create("t", 1, &[]).await;
    for number in 0..20 {
        let group = format!("group-{number}");
        let node = found(&mut to_a, &group).await;
        assert_eq!(node, found(&mut to_b, &group).await);
        let (right, wrong) = if node == a.node() {
            (&mut to_a, &mut to_b)
        } else {
            (&mut to_b, &mut to_a)
        };
        assert_eq!(commit(wrong, &group, &topic, 1).await, ErrorCode::NotCoordinator);
        let heartbeat = HeartbeatRequest {
            group_id: Str::from(group.as_str()),
            member_id: Str::from_static("m"),
            ..Default::default()
        };
        assert_eq!(
            code(wrong.call(4, &heartbeat).await.error_code),
            ErrorCode::NotCoordinator
        );
        assert_eq!(
            code(right.call(4, &heartbeat).await.error_code),
            ErrorCode::UnknownMemberId
        );
        assert_eq!(commit(right, &group, &topic, 7).await, ErrorCode::None);
        // Any agent can say what was committed.
        assert_eq!(
            (
                committed(right, &group, &topic).await,
                committed(wrong, &group, &topic).await
            ),
            (7, 7)
        );
    }
}

#[tokio::test]
async fn an_agent_that_drains_hands_its_groups_over_at_once() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    balanced(&[&a, &b]).await;
    let began = Instant::now();
    let stopping = tokio::spawn(a.stop());
    until("the other one has all shards", || held(&b) == usize::from(SHARDS)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn groups_of_a_killed_agent_are_taken_over_when_its_lease_ends() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    balanced(&[&a, &b]).await;
    let mut client = b.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let lease = a.agent.log.session().unwrap().lease;
    a.kill().await;
    let died = Instant::now();
    world.store.end_lease(lease);
    for number in 0..20 {
        let group = format!("group-{number}");
        assert_eq!(found(&mut client, &group).await, b.node());
        assert_eq!(commit(&mut client, &group, &topic, 1).await, ErrorCode::None);
    }
    assert!(died.elapsed() < Duration::from_secs(2), "{:?}", died.elapsed());
}

/// A group that this agent coordinates.
fn group_of(agent: &Running) -> String {
    let mut groups = (0..1_000).map(|number| format!("group-{number}"));
    groups.find(|group| agent.agent.shards.held(group).is_some()).unwrap()
}

/// What an agent whose bucket is out of reach notices itself, and what follows from it for another one.
fn without_bucket(agent: &Running, others: &[&Running], yes: bool) {
    let session = agent.agent.log.session().unwrap().id;
    agent.agent.members.set_no_bucket(yes);
    for other in others {
        other.agent.members.set_silent(session, yes);
    }
}

/// Its session lives, so nobody can take the groups: it gives them up.
#[tokio::test]
async fn an_agent_without_its_bucket_gives_its_groups_to_one_that_works_and_gets_some_back() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    balanced(&[&a, &b]).await;
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_b.create("t", 1, &[]).await;
    let group = group_of(&a);
    assert_eq!(commit(&mut to_a, &group, &topic, 1).await, ErrorCode::None);
    let session = a.agent.log.session().unwrap().id;
    without_bucket(&a, &[&b], true);
    assert_eq!(find(&mut to_b, &group).await, Err(ErrorCode::CoordinatorNotAvailable));
    for client in [&mut to_a, &mut to_b] {
        until("it holds nothing", || held(&a) == 0).await;
        assert_eq!(found(client, &group).await, b.node());
    }
    until("the other one has all shards", || held(&b) == usize::from(SHARDS)).await;
    let began = Instant::now();
    while commit(&mut to_b, &group, &topic, 2).await != ErrorCode::None {
        assert!(began.elapsed() < Duration::from_secs(5), "not taken over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(committed(&mut to_b, &group, &topic).await, 2);
    assert_eq!(a.agent.log.session().unwrap().id, session);
    without_bucket(&a, &[&b], false);
    balanced(&[&a, &b]).await;
}

/// A bucket that takes nothing any more and does not say so.
struct Stuck {
    inner: Arc<dyn ObjectStore>,
    stuck: Arc<AtomicBool>,
}

#[async_trait]
impl ObjectStore for Stuck {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.create(key, chunks).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.read(key, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

/// An upload that hangs holds up what entered the log after it, so nothing but the loss of the claim ends the wait.
#[tokio::test]
async fn who_waits_for_a_commit_of_an_agent_that_gives_its_groups_up_is_answered_then() {
    let mut world = World::new();
    let (inner, stuck) = (Arc::clone(&world.bucket), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&stuck);
    world.bucket = Arc::new(Stuck { inner, stuck: flag });
    let (a, b) = (world.start("").await, world.start("").await);
    balanced(&[&a, &b]).await;
    let mut to_b = b.connect().await;
    let topic = to_b.create("t", 1, &[]).await;
    let group = group_of(&a);
    assert_eq!(commit(&mut a.connect().await, &group, &topic, 1).await, ErrorCode::None);
    stuck.store(true, Ordering::SeqCst);
    let (mut producing, at) = (a.connect().await, topic.clone());
    let produce = tokio::spawn(async move { producing.produce(&at, 0, &batch(&["x"])).await });
    until("the batch waits for the bucket", || a.agent.log.inbox.is_empty()).await;
    let mut waiting = Vec::new();
    for offset in [2, 3] {
        let (mut client, group, topic) = (a.connect().await, group.clone(), topic.clone());
        waiting.push(tokio::spawn(async move {
            commit(&mut client, &group, &topic, offset).await
        }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(waiting.iter().all(|commit| !commit.is_finished()));
    without_bucket(&a, &[&b], true);
    until("it holds nothing", || held(&a) == 0).await;
    let answers = async {
        let [first, second] = <[_; 2]>::try_from(waiting).unwrap();
        (first.await.unwrap(), second.await.unwrap())
    };
    let answers = tokio::time::timeout(Duration::from_secs(1), answers).await;
    let unknown = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(answers, Ok((unknown, unknown)), "they find the next one");
    let began = Instant::now();
    while commit(&mut to_b, &group, &topic, 2).await != ErrorCode::None {
        assert!(began.elapsed() < Duration::from_secs(5), "not taken over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(committed(&mut to_b, &group, &topic).await, 2);
    produce.abort();
}

#[tokio::test]
async fn an_agent_without_its_bucket_claims_nothing_until_it_is_the_last() {
    let world = World::new();
    let (a, b, c) = (world.start("").await, world.start("").await, world.start("").await);
    balanced(&[&a, &b, &c]).await;
    // What becomes of the release is not always known: it is sent again, and takes nothing from those who have claimed meanwhile.
    let half = Chance::PERCENT * 50;
    world.store.set_faults(Faults {
        unknown_before: half,
        unknown_after: half,
        ..Faults::default()
    });
    without_bucket(&a, &[&b, &c], true);
    until("it holds nothing", || held(&a) == 0).await;
    world.store.set_faults(Faults::default());
    let lease = b.agent.log.session().unwrap().lease;
    b.kill().await;
    world.store.end_lease(lease);
    until("the one that works has all shards", || {
        assert_eq!(held(&a), 0);
        held(&c) == usize::from(SHARDS)
    })
    .await;
    let lease = c.agent.log.session().unwrap().lease;
    c.kill().await;
    world.store.end_lease(lease);
    until("the last one has all shards", || held(&a) == usize::from(SHARDS)).await;
}

#[tokio::test]
async fn when_no_agent_reaches_the_bucket_groups_stay_where_they_are_and_everybody_says_where() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    balanced(&[&a, &b]).await;
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let before = a.agent.members.owners();
    let groups = [group_of(&a), group_of(&b)];
    // Both notice it themselves before they notice that the other one does not answer.
    a.agent.members.set_no_bucket(true);
    b.agent.members.set_no_bucket(true);
    assert!(a.agent.members.view().stands_aside && b.agent.members.view().stands_aside);
    tokio::task::yield_now().await;
    without_bucket(&a, &[&b], true);
    without_bucket(&b, &[&a], true);
    for (group, node) in groups.iter().zip([a.node(), b.node()]) {
        assert_eq!(find(&mut to_a, group).await, Ok(node));
        assert_eq!(find(&mut to_b, group).await, Ok(node));
    }
    assert_eq!(a.agent.members.owners(), before);
}

/// GRP-1: the compare of the claim decides, not what the agent believes.
#[tokio::test]
async fn a_coordinator_that_lost_its_shards_commits_nothing() {
    let world = World::new();
    let a = world.start("").await;
    let mut client = a.connect().await;
    let topic = client.create("t", 1, &[]).await;
    assert_eq!(commit(&mut client, "g", &topic, 5).await, ErrorCode::None);
    // The claim is gone, and a does not hear of it: its watch is slow.
    let held = a.agent.shards.held("g").unwrap();
    let stale = a.agent.members.owner(held.shard);
    world.store.end_lease(a.agent.log.session().unwrap().lease);
    a.agent.members.on_owner(held.shard, stale);
    let refused = commit(&mut client, "g", &topic, 6).await;
    assert!(
        matches!(refused, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable),
        "{refused:?}"
    );
    assert_eq!(committed(&mut client, "g", &topic).await, 5);
}

#[tokio::test]
async fn agents_that_are_asked_at_once_make_one_topic_of_offsets() {
    let world = World::new();
    let agents = [world.start("a").await, world.start("b").await, world.start("c").await];
    let asked = agents.iter().enumerate().map(async |(n, agent)| {
        let mut client = agent.connect().await;
        found(&mut client, &format!("g{n}")).await
    });
    futures::future::join_all(asked).await;
    let named = TopicRef::Name(Str::from("__consumer_offsets"));
    until("every agent knows it", || {
        agents.iter().all(|agent| agent.agent.known_topic(&named).is_some())
    })
    .await;
    for agent in &agents {
        let fold = agent.agent.replica.fold();
        assert_eq!(
            fold.topics().map(|topic| topic.name).collect::<Vec<_>>(),
            ["__consumer_offsets"]
        );
        assert_eq!(fold.partition_total(), 50);
    }
}
