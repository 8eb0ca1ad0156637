//! Administration by gRPC, and what Kafka clients see of it.

use std::collections::HashMap;

use esker_proto::v1::admin_client::AdminClient;
use esker_proto::v1::position::At;
use esker_proto::v1::{
    AlterConfigsRequest, AlterGroupOffsetsRequest, CommitRequest, CommittedOffset, ConfigAlteration, ConfigOperation,
    ConfigOperationKind, ConfigResource, ConfigResourceType, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeTopicsRequest, Edge, Failure, GroupOffsetsRequest, ListGroupsRequest,
    ListOffsetsRequest, ListTopicsRequest, Member, NewPartitions, NewTopic, OffsetResult, PartitionPosition, Position,
    RecordsToDelete, TopicPartitions,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::batches::batch;
use crate::broker::{Broker, World};

async fn admin(broker: &Broker) -> AdminClient<Channel> {
    AdminClient::new(broker.channel().await)
}

fn kafka_name(failure: &Option<Failure>) -> &str {
    failure
        .as_ref()
        .map_or("NONE", |failure| &failure.detail.as_ref().unwrap().kafka_name)
}

fn new_topic(name: &str, partitions: Option<i32>) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        configs: HashMap::new(),
    }
}

/// Creates topics; says what became of each.
async fn create(admin: &mut AdminClient<Channel>, topics: Vec<NewTopic>) -> Vec<(String, String)> {
    let request = CreateTopicsRequest {
        topics,
        validate_only: false,
    };
    let results = admin.create_topics(request).await.unwrap().into_inner().results;
    let told = results
        .into_iter()
        .map(|one| (kafka_name(&one.failure).to_owned(), one.topic));
    told.map(|(error, topic)| (topic, error)).collect()
}

/// Every topic: its name, its partitions, the length of its id.
async fn listed(admin: &mut AdminClient<Channel>) -> Vec<(String, i32, usize)> {
    let topics = admin
        .list_topics(ListTopicsRequest {})
        .await
        .unwrap()
        .into_inner()
        .topics;
    let mut listed: Vec<_> = topics
        .into_iter()
        .map(|one| (one.name, one.partitions, one.id.len()))
        .collect();
    listed.sort_unstable();
    listed
}

#[tokio::test]
async fn topics_come_grow_and_go() {
    let broker = Broker::start().await;
    let mut admin = admin(&broker).await;
    let mut first = new_topic("a", Some(3));
    first.configs.insert("retention.ms".to_owned(), "1234".to_owned());
    let topics = vec![
        first,
        new_topic("b", None),
        new_topic("a b", None),
        new_topic("c", Some(-1)),
        new_topic("d", Some(0)),
    ];
    let told = create(&mut admin, topics).await;
    let expected = [
        ("a", "NONE"),
        ("b", "NONE"),
        ("a b", "INVALID_TOPIC_EXCEPTION"),
        ("c", "NONE"),
        ("d", "INVALID_PARTITIONS"),
    ];
    assert_eq!(
        told,
        expected.map(|(topic, error)| (topic.to_owned(), error.to_owned()))
    );
    let told = create(&mut admin, vec![new_topic("a", None)]).await;
    assert_eq!(told[0].1, "TOPIC_ALREADY_EXISTS");

    let grow = CreatePartitionsRequest {
        topics: vec![NewPartitions {
            topic: "b".to_owned(),
            count: 4,
        }],
        validate_only: false,
    };
    let results = admin.create_partitions(grow).await.unwrap().into_inner().results;
    assert_eq!(kafka_name(&results[0].failure), "NONE");
    let expected = [("a", 3, 16), ("b", 4, 16), ("c", 1, 16)];
    assert_eq!(
        listed(&mut admin).await,
        expected.map(|(name, partitions, id)| (name.to_owned(), partitions, id))
    );

    let topics = vec!["a".to_owned(), "none".to_owned()];
    let described = admin
        .describe_topics(DescribeTopicsRequest { topics })
        .await
        .unwrap()
        .into_inner()
        .topics;
    assert_eq!(
        (described[0].partitions.len(), kafka_name(&described[0].failure)),
        (3, "NONE")
    );
    assert!(described[0].partitions.iter().all(|partition| partition.leader >= 0));
    assert_eq!(kafka_name(&described[1].failure), "UNKNOWN_TOPIC_OR_PARTITION");

    let topics = vec!["a".to_owned(), "none".to_owned()];
    let results = admin
        .delete_topics(DeleteTopicsRequest { topics })
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(kafka_name(&results[0].failure), "NONE");
    assert_eq!(kafka_name(&results[1].failure), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(listed(&mut admin).await.len(), 2);
}

#[tokio::test]
async fn configs_are_described_and_altered_one_by_one() {
    let broker = Broker::start().await;
    broker
        .connect()
        .await
        .create("t", 1, &[("retention.ms", "1234"), ("retention.bytes", "99")])
        .await;
    let mut admin = admin(&broker).await;
    let resource = ConfigResource {
        r#type: ConfigResourceType::Topic.into(),
        name: "t".to_owned(),
    };
    let operation = |name: &str, kind: ConfigOperationKind, value: Option<&str>| ConfigOperation {
        name: name.to_owned(),
        kind: kind.into(),
        value: value.map(str::to_owned),
    };
    let alter = |operations| AlterConfigsRequest {
        alterations: vec![ConfigAlteration {
            resource: Some(resource.clone()),
            operations,
        }],
        validate_only: false,
    };
    let change = alter(vec![
        operation("max.message.bytes", ConfigOperationKind::Set, Some("2000")),
        operation("retention.ms", ConfigOperationKind::Delete, None),
        operation("cleanup.policy", ConfigOperationKind::Append, Some("compact")),
    ]);
    let results = admin.alter_configs(change).await.unwrap().into_inner().results;
    assert_eq!(kafka_name(&results[0].failure), "NONE", "{results:?}");
    let wrong = alter(vec![operation("retention.ms", ConfigOperationKind::Set, Some("soon"))]);
    let results = admin.alter_configs(wrong).await.unwrap().into_inner().results;
    assert_eq!(kafka_name(&results[0].failure), "INVALID_CONFIG");
    let unclear = alter(vec![operation("retention.ms", ConfigOperationKind::Unspecified, None)]);
    assert_eq!(
        admin.alter_configs(unclear).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let describe = DescribeConfigsRequest {
        resources: vec![resource],
        documentation: true,
    };
    let results = admin.describe_configs(describe).await.unwrap().into_inner().results;
    let configs = &results[0].configs;
    let value = |name: &str| {
        let config = configs.iter().find(|config| config.name == name).unwrap();
        assert!(config.documentation.as_ref().is_some_and(|text| !text.is_empty()));
        (config.value.clone().unwrap(), config.source)
    };
    assert_eq!(value("max.message.bytes"), ("2000".to_owned(), 1));
    assert_eq!(value("retention.bytes"), ("99".to_owned(), 1));
    assert_eq!(value("retention.ms"), ("604800000".to_owned(), 5));
    assert_eq!(value("cleanup.policy").0, "delete,compact");
}

#[tokio::test]
async fn offsets_are_listed_and_records_deleted() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 2, &[]).await;
    kafka.store(&topic, 1, &batch(&["a", "b", "c"])).await;
    let mut admin = admin(&broker).await;
    let at = |partition, at| PartitionPosition {
        topic: "t".to_owned(),
        partition,
        at: Some(Position { at: Some(at) }),
    };
    let delete = |partition, before_offset| RecordsToDelete {
        topic: "t".to_owned(),
        partition,
        before_offset,
    };
    let partitions = vec![delete(1, 2), delete(7, 0), delete(0, -1)];
    let deleted = admin
        .delete_records(DeleteRecordsRequest { partitions })
        .await
        .unwrap()
        .into_inner()
        .results;
    let told: Vec<_> = deleted
        .iter()
        .map(|one| (one.partition, one.log_start_offset, kafka_name(&one.failure)))
        .collect();
    assert_eq!(
        told,
        [(1, 2, "NONE"), (7, -1, "UNKNOWN_TOPIC_OR_PARTITION"), (0, 0, "NONE")]
    );
    let partitions = vec![
        at(1, At::Edge(Edge::Earliest.into())),
        at(1, At::Edge(Edge::Latest.into())),
        at(1, At::TimestampMs(i64::MAX)),
        at(9, At::Edge(Edge::Latest.into())),
    ];
    let request = ListOffsetsRequest {
        partitions,
        read_committed: false,
    };
    let found = admin.list_offsets(request).await.unwrap().into_inner().results;
    let told: Vec<_> = found.iter().map(|one| (one.offset, kafka_name(&one.failure))).collect();
    assert_eq!(
        told,
        [
            (2, "NONE"),
            (3, "NONE"),
            (3, "NONE"),
            (-1, "UNKNOWN_TOPIC_OR_PARTITION")
        ]
    );
}

/// Alters offsets; at first the agents may still be dividing the groups among them.
async fn altered(admin: &mut AdminClient<Channel>, request: AlterGroupOffsetsRequest) -> Vec<OffsetResult> {
    loop {
        match admin.alter_group_offsets(request.clone()).await {
            Ok(answer) => {
                let results = answer.into_inner().results;
                if !results
                    .iter()
                    .any(|one| kafka_name(&one.failure).contains("COORDINATOR"))
                {
                    return results;
                }
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn groups_of_every_agent_are_reached_through_any() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    agents[0].connect().await.create("t", 2, &[]).await;
    let names: Vec<String> = (0..8).map(|nth| format!("group-{nth}")).collect();
    let offset = |partition, offset, epoch| CommittedOffset {
        topic: "t".to_owned(),
        partition,
        offset,
        leader_epoch: epoch,
        metadata: "m".to_owned(),
    };
    let mut admins = [admin(&agents[0]).await, admin(&agents[1]).await];
    for (nth, name) in names.iter().enumerate() {
        let offsets = vec![offset(0, 5, Some(1)), offset(1, 6, None), offset(9, 1, None)];
        let request = AlterGroupOffsetsRequest {
            group_id: name.clone(),
            offsets,
        };
        let results = altered(&mut admins[nth % 2], request).await;
        let told: Vec<_> = results.iter().map(|one| kafka_name(&one.failure)).collect();
        assert_eq!(told, ["NONE", "NONE", "UNKNOWN_TOPIC_OR_PARTITION"]);
    }
    for admin in &mut admins {
        let listed = admin.list_groups(ListGroupsRequest {}).await.unwrap().into_inner();
        assert!(listed.failures.is_empty(), "{listed:?}");
        let found: Vec<_> = listed.groups.iter().map(|group| group.group_id.clone()).collect();
        assert_eq!(found, names);
        for name in &names {
            let all = GroupOffsetsRequest {
                group_id: name.clone(),
                partitions: Vec::new(),
            };
            let found = admin.group_offsets(all).await.unwrap().into_inner().offsets;
            assert_eq!(found, [offset(0, 5, Some(1)), offset(1, 6, None)]);
            let one = GroupOffsetsRequest {
                group_id: name.clone(),
                partitions: vec![TopicPartitions {
                    topic: "t".to_owned(),
                    partitions: vec![1],
                }],
            };
            let found = admin.group_offsets(one).await.unwrap().into_inner().offsets;
            assert_eq!(found, [offset(1, 6, None)]);
        }
        let group_ids = vec!["group-0".to_owned(), "nobody".to_owned()];
        let described = admin
            .describe_groups(DescribeGroupsRequest { group_ids })
            .await
            .unwrap()
            .into_inner()
            .groups;
        assert_eq!((described[0].state.as_str(), described[0].members.len()), ("Empty", 0));
        assert_eq!(kafka_name(&described[1].failure), "GROUP_ID_NOT_FOUND");
    }
    let group_ids = vec!["group-1".to_owned(), "nobody".to_owned()];
    let results = admins[0]
        .delete_groups(DeleteGroupsRequest { group_ids })
        .await
        .unwrap()
        .into_inner()
        .results;
    let told: Vec<_> = results.iter().map(|one| kafka_name(&one.failure)).collect();
    assert_eq!(told, ["NONE", "GROUP_ID_NOT_FOUND"]);
}

#[tokio::test]
async fn commits_of_strangers_are_refused() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let request = CommitRequest {
        group_id: "g".to_owned(),
        member: Some(Member {
            member_id: "nobody".to_owned(),
            generation: 3,
            instance_id: None,
        }),
        offsets: vec![CommittedOffset {
            topic: "t".to_owned(),
            ..CommittedOffset::default()
        }],
    };
    let results = broker
        .consumer()
        .await
        .commit(request.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_ne!(kafka_name(&results[0].failure), "NONE");
    let results = broker
        .consumer()
        .await
        .commit(CommitRequest {
            member: None,
            ..request
        })
        .await
        .unwrap();
    assert_eq!(kafka_name(&results.into_inner().results[0].failure), "NONE");
}

#[tokio::test]
async fn the_cluster_is_described() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    let mut admin = admin(&agents[1]).await;
    let described = loop {
        let described = admin
            .describe_cluster(DescribeClusterRequest {})
            .await
            .unwrap()
            .into_inner();
        if described.nodes.len() == 2 {
            break described;
        }
        tokio::task::yield_now().await;
    };
    let mut ports: Vec<i32> = described.nodes.iter().map(|node| node.port).collect();
    ports.sort_unstable();
    let mut expected = agents.each_ref().map(|agent| i32::from(agent.kafka.port()));
    expected.sort_unstable();
    assert_eq!(
        (ports, described.cluster_id.as_str()),
        (expected.to_vec(), "AAAAAAAAAAAAAAAAAAAAAQ")
    );
}
