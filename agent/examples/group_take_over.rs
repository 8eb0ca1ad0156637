//! Measures consumer groups: how long a take-over of 1,000 groups with 10,000 members takes, and how many offset commits a
//! coordinator takes a second.
//!
//! `cargo run --release -p esker-agent --example group_take_over -- DIRECTORY [ETCD_HOST:PORT]`; without etcd the embedded store in the
//! directory is measured, fsync included.
//!
//! Owns: the numbers in `docs/decisions/0602-generations-beside-the-log.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers, which prints"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use esker_agent::agent::Endpoint;
use esker_agent::clock::SystemClock;
use esker_agent::groups::coordinator::{Committer, Coordinator};
use esker_agent::groups::error::GroupError;
use esker_agent::groups::group::{Client, JoinCommand, Protocol, State, SyncCommand, Timeouts};
use esker_agent::groups::ids::{Generation, GroupId, MemberId, ProtocolName, ReplyTo};
use esker_agent::membership::identity::Announcement;
use esker_agent::node::{Node, NodeParts};
use esker_agent::settings::{Profile, Settings};
use esker_metadata::embedded::{self, EmbeddedStore};
use esker_metadata::etcd::{EtcdSettings, EtcdStore};
use esker_metadata::log::bootstrap;
use esker_metadata::store::MetadataStore;
use esker_model::entry::{Entry, OffsetAction, OffsetChange, OffsetCommit, TopicCreate};
use esker_segment::id::{Offset, PartitionIndex, Timestamp, TopicId};
use esker_segment::name::ClusterId;
use esker_storage::bucket::Bucket;
use tokio::time::Instant;

const GROUPS: usize = 1_000;
const MEMBERS: usize = 10;
const METADATA_BYTES: usize = 100;
const ASSIGNMENT_BYTES: usize = 200;
const COMMITTERS: usize = 2_000;
const COMMIT_FOR: Duration = Duration::from_secs(10);
const TOPIC: TopicId = TopicId(77);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| ".".to_owned());
    let store: Arc<dyn MetadataStore> = match arguments.next() {
        Some(etcd) => {
            let prefix = format!("/bench-{}", std::process::id());
            Arc::new(EtcdStore::connect(EtcdSettings::new(vec![etcd], prefix)).await.unwrap())
        }
        None => {
            let path = Path::new(&directory).join(format!("groups-{}", std::process::id()));
            Arc::new(EmbeddedStore::open(&path, embedded::Settings::default()).await.unwrap())
        }
    };
    let numbers = Arc::new(AtomicU64::new(1));
    let first = start(&store, &numbers).await;
    let begun = Instant::now();
    form(&first.agent().groups).await;
    println!("{GROUPS} groups of {MEMBERS} formed in {:?}", begun.elapsed());
    let resident = resident_kib();
    let begun = Instant::now();
    rebalance(&first.agent().groups).await;
    println!(
        "all of them rebalanced in {:?}; resident {resident} KiB",
        begun.elapsed()
    );
    let lease = first.agent().log.session().unwrap().lease;
    drop(first);
    store.revoke_lease(lease).await.unwrap();
    let begun = Instant::now();
    let second = start(&store, &numbers).await;
    let groups = Arc::clone(&second.agent().groups);
    let stable = || groups.list().iter().filter(|line| line.state == State::Stable).count();
    while stable() < GROUPS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let members: usize = groups
        .list()
        .iter()
        .map(|line| groups.describe(&line.group).unwrap().members.len())
        .sum();
    println!(
        "taken over {GROUPS} groups, {members} members, {:?} after the process began",
        begun.elapsed()
    );
    reread(&store, &second).await;
    commits(&second).await;
}

async fn start(store: &Arc<dyn MetadataStore>, numbers: &Arc<AtomicU64>) -> Node {
    let counter = Arc::clone(numbers);
    let random = move || (u128::from(counter.fetch_add(1, Ordering::SeqCst)) << 64) | 0x9e37_79b9;
    let nothing = Vec::new();
    Node::start(NodeParts {
        metadata: bootstrap(Arc::clone(store), random()).await.unwrap(),
        cluster: "AAAAAAAAAAAAAAAAAAAAAQ".parse::<ClusterId>().unwrap(),
        objects: Arc::new(Bucket::memory()),
        clock: Arc::new(SystemClock),
        announcement: Announcement {
            node: None,
            zone: String::new(),
            kafka: Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 9092,
            },
            http: None,
            peer: None,
            process: u64::try_from(random() >> 64).unwrap(),
        },
        random: Arc::new(random),
        settings: Arc::new(Settings::resolve(Profile::Dev, nothing).unwrap()),
    })
    .await
    .unwrap()
}

fn name(group: usize) -> GroupId {
    GroupId::from(format!("group-{group}"))
}

/// All members of all groups at once.
async fn form(coordinator: &Arc<Coordinator>) {
    let tasks = (0..GROUPS).flat_map(|group| (0..MEMBERS).map(move |member| (group, member)));
    let tasks: Vec<_> = tasks
        .map(|(group, member)| tokio::spawn(settle_in(Arc::clone(coordinator), group, member)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// In each group one member more comes and goes.
async fn rebalance(coordinator: &Arc<Coordinator>) {
    let settle = |group: usize| {
        let coordinator = Arc::clone(coordinator);
        async move {
            let members = coordinator.describe(&name(group)).unwrap().members;
            let tasks: Vec<_> = members
                .into_iter()
                .map(|member| {
                    let (coordinator, id) = (Arc::clone(&coordinator), member.member);
                    tokio::spawn(async move { settle_as(&coordinator, group, id, b"other").await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..GROUPS).map(|group| tokio::spawn(settle(group))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn settle_in(coordinator: Arc<Coordinator>, group: usize, member: usize) {
    let id = MemberId::from(format!("member-{group}-{member}"));
    settle_as(&coordinator, group, id, b"first").await;
}

fn join(group: usize, id: &MemberId, fresh: &MemberId, what: &[u8]) -> JoinCommand {
    let mut metadata = vec![0; METADATA_BYTES];
    metadata[..what.len()].copy_from_slice(what);
    JoinCommand {
        member: id.clone(),
        instance: None,
        client: Client {
            id: Arc::from(format!("client-{group}")),
            host: Arc::from("/127.0.0.1"),
        },
        timeouts: Timeouts {
            session: Duration::from_secs(300),
            rebalance: Duration::from_secs(300),
        },
        protocol_type: ProtocolName::from("consumer"),
        protocols: vec![Protocol {
            name: ProtocolName::from("range"),
            metadata: Bytes::from(metadata),
        }],
        knows_member_id_required: true,
        knows_skip_assignment: true,
        fresh_id: fresh.clone(),
        reply_to: ReplyTo(0),
    }
}

/// A member until it has an assignment.
async fn settle_as(coordinator: &Arc<Coordinator>, group: usize, fresh: MemberId, what: &[u8]) {
    let (name, mut id) = (name(group), fresh.clone());
    if coordinator
        .describe(&name)
        .is_none_or(|known| known.members.iter().all(|member| member.member != id))
    {
        id = MemberId::from("");
    }
    loop {
        let joined = match coordinator.join(&name, join(group, &id, &fresh, what)).await {
            Ok(joined) => joined,
            Err(GroupError::MemberIdRequired { assigned }) => {
                id = assigned;
                continue;
            }
            Err(GroupError::RebalanceInProgress) => continue,
            Err(other) => panic!("{other}"),
        };
        id = joined.member.clone();
        let assignment = Bytes::from(vec![u8::try_from(joined.generation.0 % 256).unwrap(); ASSIGNMENT_BYTES]);
        let assignments = joined
            .members
            .iter()
            .map(|seen| (seen.member.clone(), assignment.clone()));
        let sync = SyncCommand {
            member: id.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
            reply_to: ReplyTo(0),
        };
        match coordinator.sync(&name, sync).await {
            Ok(synced) if synced.assignment.len() == ASSIGNMENT_BYTES => return,
            Ok(_) => panic!("no assignment"),
            Err(GroupError::RebalanceInProgress) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// The reading alone, shard after shard.
async fn reread(store: &Arc<dyn MetadataStore>, node: &Node) {
    use esker_agent::group_parts::registry::Registry;
    let registry = Registry::new(Arc::clone(store));
    let begun = Instant::now();
    let (mut groups, mut slowest) = (0, Duration::ZERO);
    for shard in 0..esker_model::placement::SHARDS {
        let (_, claim) = node.agent().members.owner(shard).unwrap();
        let before = Instant::now();
        groups += registry.read(shard, claim).await.unwrap().groups.len();
        slowest = slowest.max(before.elapsed());
    }
    println!(
        "read {groups} groups one shard after the other in {:?}, slowest shard {slowest:?}",
        begun.elapsed()
    );
}

/// Many clients, each with a commit under way all the time.
async fn commits(node: &Node) {
    let agent = node.agent();
    let create = TopicCreate {
        topic: TOPIC,
        name: Box::from("bench"),
        partitions: 8,
    };
    agent.log.propose(vec![Entry::TopicCreate(create)]).await.unwrap();
    let (done, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks: Vec<_> = (0..COMMITTERS)
        .map(|n| {
            let (groups, done) = (Arc::clone(&agent.groups), Arc::clone(&done));
            tokio::spawn(async move {
                let group = GroupId::from(format!("committer-{n}"));
                let who = Committer {
                    member: MemberId::from(""),
                    instance: None,
                    generation: Generation::NONE,
                };
                let mut offset = 0;
                while began.elapsed() < COMMIT_FOR {
                    offset += 1;
                    groups
                        .commit(&group, &who, vec![change(offset)])
                        .unwrap()
                        .await
                        .unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (done, seconds) = (done.load(Ordering::Relaxed), began.elapsed().as_secs());
    println!(
        "{} offset commits a second, {COMMITTERS} groups at a time",
        done / seconds.max(1)
    );
}

fn change(offset: i64) -> OffsetChange {
    OffsetChange {
        topic: TOPIC,
        partition: PartitionIndex(0),
        action: OffsetAction::Commit(OffsetCommit {
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "".into(),
            timestamp: Timestamp(0),
        }),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
