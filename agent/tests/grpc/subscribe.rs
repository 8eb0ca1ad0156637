//! Subscriptions: named partitions, and groups that Kafka clients are members of as well.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_kafka::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use esker_kafka::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use esker_kafka::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use esker_kafka::messages::heartbeat_request::HeartbeatRequest;
use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{ErrorCode, Reader, Str, Writer};
use esker_proto::v1::position::At;
use esker_proto::v1::subscribe_event::{Assigned, Event};
use esker_proto::v1::subscribe_request::{Assign, Group, Start, What};
use esker_proto::v1::{
    CommitRequest, CommittedOffset, Edge, Member, PartitionPosition, Position, SubscribeEvent, SubscribeRequest,
    TopicPartitions,
};
use tonic::{Code, Status, Streaming};

use crate::batches::batch;
use crate::broker::{Broker, World, detail};
use crate::client::Client;
use crate::requests::{Topic, code};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn at(partition: i32, at: At) -> PartitionPosition {
    PartitionPosition {
        topic: "t".to_owned(),
        partition,
        at: Some(Position { at: Some(at) }),
    }
}

fn assign(partitions: Vec<PartitionPosition>) -> SubscribeRequest {
    SubscribeRequest {
        what: Some(What::Assign(Assign { partitions })),
        ..SubscribeRequest::default()
    }
}

fn group(start: Start) -> SubscribeRequest {
    let group = Group {
        group_id: "g".to_owned(),
        topics: vec!["t".to_owned()],
        session_timeout_ms: 6_000,
        start: start.into(),
        ..Group::default()
    };
    SubscribeRequest {
        what: Some(What::Group(group)),
        ..SubscribeRequest::default()
    }
}

async fn subscribe(broker: &Broker, request: SubscribeRequest) -> Streaming<SubscribeEvent> {
    broker.consumer().await.subscribe(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<SubscribeEvent>) -> Result<Event, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("no event in time")?;
    Ok(message.expect("the stream has ended").event.unwrap())
}

/// The next assignment; records and revocations before it are passed over.
async fn assigned(stream: &mut Streaming<SubscribeEvent>) -> Assigned {
    loop {
        if let Event::Assigned(assigned) = next(stream).await.unwrap() {
            return assigned;
        }
    }
}

/// Partition and value of so many records.
async fn records(stream: &mut Streaming<SubscribeEvent>, count: usize) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    while found.len() < count {
        match next(stream).await.unwrap() {
            Event::Records(records) => found.extend(records.records.into_iter().map(|record| {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (records.partition, value)
            })),
            other => panic!("{other:?}"),
        }
    }
    found
}

fn partitions(topics: &[TopicPartitions]) -> Vec<i32> {
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().copied())
        .collect()
}

fn commit(member: Option<Member>, partition: i32, offset: i64) -> CommitRequest {
    CommitRequest {
        group_id: "g".to_owned(),
        member,
        offsets: vec![CommittedOffset {
            topic: "t".to_owned(),
            partition,
            offset,
            ..CommittedOffset::default()
        }],
    }
}

async fn store_each(kafka: &mut Client, topic: &Topic, partitions: i32, value: &str) {
    for partition in 0..partitions {
        kafka
            .store(topic, partition, &batch(&[&format!("{value}{partition}")]))
            .await;
    }
}

#[tokio::test]
async fn named_partitions_are_read_from_their_positions_on() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 3, &[]).await;
    store_each(&mut kafka, &topic, 3, "a").await;
    store_each(&mut kafka, &topic, 3, "b").await;
    let starts = vec![
        at(0, At::Edge(Edge::Earliest.into())),
        at(1, At::Offset(1)),
        at(2, At::Edge(Edge::Latest.into())),
    ];
    let mut stream = subscribe(&broker, assign(starts)).await;
    let mut found = records(&mut stream, 3).await;
    found.sort();
    let expected = [(0, "a0"), (0, "b0"), (1, "b1")].map(|(partition, value)| (partition, value.to_owned()));
    assert_eq!(found, expected);
    for round in ["c", "d"] {
        store_each(&mut kafka, &topic, 3, round).await;
        let mut found = records(&mut stream, 3).await;
        found.sort();
        assert_eq!(
            found,
            [0, 1, 2].map(|partition| (partition, format!("{round}{partition}")))
        );
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let mut consumer = broker.consumer().await;
    let mut nameless = group(Start::Earliest);
    if let Some(What::Group(group)) = &mut nameless.what {
        group.group_id.clear();
    }
    for wrong in [
        SubscribeRequest::default(),
        assign(Vec::new()),
        group(Start::Unspecified),
        nameless,
    ] {
        let refused = consumer.subscribe(wrong.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}");
    }
    let outside = next(&mut subscribe(&broker, assign(vec![at(0, At::Offset(9))])).await)
        .await
        .unwrap_err();
    assert_eq!(
        (outside.code(), detail(&outside).kafka_name.as_str()),
        (Code::OutOfRange, "OFFSET_OUT_OF_RANGE")
    );
    let unknown = next(&mut subscribe(&broker, assign(vec![at(7, At::Offset(0))])).await)
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let mut failing = subscribe(&broker, group(Start::Fail)).await;
    let refused = next(&mut failing).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut impatient = group(Start::Earliest);
    if let Some(What::Group(group)) = &mut impatient.what {
        group.session_timeout_ms = 1;
    }
    let refused = next(&mut subscribe(&broker, impatient).await).await.unwrap_err();
    assert_eq!(detail(&refused).kafka_name, "INVALID_SESSION_TIMEOUT");
}

#[tokio::test]
async fn a_group_goes_on_where_it_has_committed() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    kafka.store(&topic, 0, &batch(&["a", "b", "c"])).await;
    let mut stream = subscribe(&broker, group(Start::Earliest)).await;
    let given = assigned(&mut stream).await;
    assert_eq!(partitions(&given.partitions), [0]);
    assert_eq!(records(&mut stream, 3).await.len(), 3);
    let mut consumer = broker.consumer().await;
    let stranger = consumer.commit(commit(None, 0, 1)).await.unwrap().into_inner();
    let failure = stranger.results[0].failure.as_ref().unwrap();
    let told = failure.detail.as_ref().unwrap();
    assert_eq!(told.kafka_name, "UNKNOWN_MEMBER_ID", "{failure:?}");
    assert_eq!(told.what_to_do, "commit as one of them, or end them first");
    let committed = consumer.commit(commit(given.member, 0, 2)).await.unwrap().into_inner();
    assert_eq!(committed.results[0].failure, None);
    drop(stream);

    let mut stream = subscribe(&broker, group(Start::Latest)).await;
    // The first member leaves with its stream: nobody waits for its session.
    let began = tokio::time::Instant::now();
    assigned(&mut stream).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(records(&mut stream, 1).await, [(0, "c".to_owned())]);
}

#[tokio::test]
async fn subscribers_of_two_agents_share_the_partitions() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    let mut kafka = agents[0].connect().await;
    let topic = kafka.create("t", 4, &[]).await;
    let mut first = subscribe(&agents[0], group(Start::Earliest)).await;
    assert_eq!(partitions(&assigned(&mut first).await.partitions), [0, 1, 2, 3]);
    let mut second = subscribe(&agents[1], group(Start::Earliest)).await;
    let revoked = next(&mut first).await.unwrap();
    let Event::Revoked(revoked) = revoked else {
        panic!("{revoked:?}");
    };
    assert_eq!(partitions(&revoked.partitions), [0, 1, 2, 3]);
    let (one, other) = tokio::join!(assigned(&mut first), assigned(&mut second));
    let (one, other) = (partitions(&one.partitions), partitions(&other.partitions));
    assert_eq!((one.len(), other.len()), (2, 2));
    let all: BTreeSet<i32> = one.iter().chain(&other).copied().collect();
    assert_eq!(all.len(), 4);

    store_each(&mut kafka, &topic, 4, "a").await;
    let (read_one, read_other) = tokio::join!(records(&mut first, 2), records(&mut second, 2));
    assert!(
        read_one.iter().all(|(partition, _)| one.contains(partition)),
        "{read_one:?}"
    );
    assert!(
        read_other.iter().all(|(partition, _)| other.contains(partition)),
        "{read_other:?}"
    );

    drop(second);
    assert_eq!(partitions(&assigned(&mut first).await.partitions), [0, 1, 2, 3]);
}

/// What a Kafka client says that wants to be a member of the group.
fn join_request() -> JoinGroupRequest {
    let mut writer = Writer::new();
    writer.i16(1);
    let subscription = ConsumerProtocolSubscription {
        topics: vec![Str::from_static("t")],
        ..ConsumerProtocolSubscription::default()
    };
    subscription.encode(&mut writer, 1).unwrap();
    JoinGroupRequest {
        group_id: Str::from_static("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Str::from_static("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from_static("roundrobin"),
            metadata: writer.into_bytes().unwrap(),
        }],
        ..JoinGroupRequest::default()
    }
}

/// A member of the group that is a Kafka client; only ever a follower.
async fn kafka_member(mut client: Client) -> (JoinGroupRequest, i32, ConsumerProtocolAssignment) {
    let mut join = join_request();
    loop {
        let joined = client.call(9, &join).await;
        join.member_id = joined.member_id.clone();
        match code(joined.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress => continue,
            refused => panic!("{refused}"),
        }
        assert_ne!(joined.leader, joined.member_id, "the subscriber came first");
        let sync = SyncGroupRequest {
            group_id: Str::from_static("g"),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: Some(Str::from_static("consumer")),
            protocol_name: joined.protocol_name.clone(),
            ..SyncGroupRequest::default()
        };
        let synced = client.call(5, &sync).await;
        match code(synced.error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => continue,
            refused => panic!("{refused}"),
        }
        let mut reader = Reader::new(synced.assignment);
        let version = reader.i16().unwrap();
        let assignment = ConsumerProtocolAssignment::decode(&mut reader, version).unwrap();
        let beat = HeartbeatRequest {
            group_id: Str::from_static("g"),
            generation_id: joined.generation_id,
            member_id: joined.member_id,
            ..HeartbeatRequest::default()
        };
        assert_eq!(code(client.call(4, &beat).await.error_code), ErrorCode::None);
        return (join, joined.generation_id, assignment);
    }
}

#[tokio::test]
async fn a_kafka_client_and_a_subscriber_are_members_of_one_group() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 4, &[]).await;
    let mut stream = subscribe(&broker, group(Start::Earliest)).await;
    let alone = assigned(&mut stream).await;
    assert_eq!(partitions(&alone.partitions), [0, 1, 2, 3]);
    let (together, (_, generation, theirs)) = tokio::join!(assigned(&mut stream), kafka_member(broker.connect().await));
    assert_eq!(together.member.as_ref().unwrap().generation, generation);
    let ours: BTreeSet<i32> = partitions(&together.partitions).into_iter().collect();
    let theirs: BTreeSet<i32> = theirs
        .assigned_partitions
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .collect();
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    assert_eq!(ours.union(&theirs).count(), 4);

    store_each(&mut kafka, &topic, 4, "a").await;
    let found = records(&mut stream, 2).await;
    assert!(found.iter().all(|(partition, _)| ours.contains(partition)), "{found:?}");
    let mut consumer = broker.consumer().await;
    let old = consumer.commit(commit(alone.member, 0, 1)).await.unwrap().into_inner();
    let failure = old.results[0].failure.as_ref().unwrap();
    assert!(
        failure.message.contains("the next Assigned"),
        "that generation is over: {failure:?}"
    );
    let new = consumer
        .commit(commit(together.member, 0, 1))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(new.results[0].failure, None);
}

#[tokio::test]
async fn partitions_that_are_added_are_read_too() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let mut stream = subscribe(&broker, group(Start::Earliest)).await;
    assert_eq!(partitions(&assigned(&mut stream).await.partitions), [0]);
    let more = esker_kafka::messages::create_partitions_request::CreatePartitionsRequest {
        topics: vec![
            esker_kafka::messages::create_partitions_request::CreatePartitionsTopic {
                name: Str::from_static("t"),
                count: 3,
                assignments: None,
            },
        ],
        timeout_ms: 10_000,
        validate_only: false,
    };
    assert_eq!(kafka.call(3, &more).await.results[0].error_code, 0);
    kafka.store(&topic, 2, &batch(&["new"])).await;
    assert_eq!(partitions(&assigned(&mut stream).await.partitions), [0, 1, 2]);
    assert_eq!(records(&mut stream, 1).await, [(2, "new".to_owned())]);
}

#[tokio::test]
async fn topics_that_are_created_later_or_again_are_read_too() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    kafka.create("t", 1, &[]).await;
    let mut request = group(Start::Earliest);
    let Some(What::Group(group)) = &mut request.what else {
        panic!("it is one");
    };
    group.topics.push("later".to_owned());
    let mut stream = subscribe(&broker, request).await;
    let given = assigned(&mut stream).await.partitions;
    assert_eq!(given.len(), 1, "{given:?}");
    let later = kafka.create("later", 2, &[]).await;
    kafka.store(&later, 1, &batch(&["new"])).await;
    let given = assigned(&mut stream).await.partitions;
    assert_eq!(given.len(), 2, "{given:?}");
    assert_eq!(records(&mut stream, 1).await, [(1, "new".to_owned())]);

    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(Str::from_static("t")),
            ..DeleteTopicState::default()
        }],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = kafka.call(6, &delete).await.responses;
    assert_eq!(code(deleted[0].error_code), ErrorCode::None);
    let again = kafka.create("t", 1, &[]).await;
    kafka.store(&again, 0, &batch(&["again"])).await;
    loop {
        match next(&mut stream).await.unwrap() {
            Event::Records(records) if records.topic == "t" => break assert_eq!(records.records.len(), 1),
            _ => {}
        }
    }
}

/// Leads the group through one generation: gives everybody else a partition that exists and one that does not. Returns how many members
/// there are.
async fn lead(client: &mut Client, join: &mut JoinGroupRequest) -> usize {
    loop {
        let joined = client.call(9, join).await;
        join.member_id = joined.member_id.clone();
        match code(joined.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => continue,
            // Nothing else has waited for the coordinator yet.
            passes if passes.is_retriable() => continue,
            refused => panic!("{refused}"),
        }
        assert_eq!(joined.leader, joined.member_id, "the subscriber comes later");
        let mut writer = Writer::new();
        writer.i16(1);
        let topic = |name| TopicPartition {
            topic: Str::from_static(name),
            partitions: vec![0],
        };
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![topic("gone"), topic("t")],
            ..ConsumerProtocolAssignment::default()
        };
        assignment.encode(&mut writer, 1).unwrap();
        let assignment = writer.into_bytes().unwrap();
        let others = joined
            .members
            .iter()
            .filter(|member| member.member_id != join.member_id);
        let assignments = others.map(|member| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: assignment.clone(),
        });
        let sync = SyncGroupRequest {
            group_id: Str::from_static("g"),
            generation_id: joined.generation_id,
            member_id: join.member_id.clone(),
            protocol_type: Some(Str::from_static("consumer")),
            protocol_name: joined.protocol_name.clone(),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        if code(client.call(5, &sync).await.error_code) == ErrorCode::None {
            return joined.members.len();
        }
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_does_not_end_a_subscription() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    kafka.store(&topic, 0, &batch(&["a"])).await;
    let (mut leader, mut join) = (broker.connect().await, join_request());
    assert_eq!(lead(&mut leader, &mut join).await, 1);
    let mut stream = subscribe(&broker, group(Start::Earliest)).await;
    // It waits for the subscriber, who is on its way.
    while lead(&mut leader, &mut join).await < 2 {}
    let given = assigned(&mut stream).await.partitions;
    assert_eq!(given.len(), 2, "{given:?}");
    assert_eq!(records(&mut stream, 1).await, [(0, "a".to_owned())]);
}
