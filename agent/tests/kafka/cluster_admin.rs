//! CreatePartitions, DescribeCluster, DescribeTopicPartitions, DescribeLogDirs, and what tools ask that nothing here needs.

use esker_kafka::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use esker_kafka::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use esker_kafka::messages::create_topics_request::CreateTopicsRequest;
use esker_kafka::messages::describe_cluster_request::DescribeClusterRequest;
use esker_kafka::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use esker_kafka::messages::describe_producers_request::{self, DescribeProducersRequest};
use esker_kafka::messages::describe_quorum_request::{self, DescribeQuorumRequest};
use esker_kafka::messages::describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest, TopicRequest};
use esker_kafka::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponse;
use esker_kafka::messages::describe_transactions_request::DescribeTransactionsRequest;
use esker_kafka::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use esker_kafka::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use esker_kafka::messages::list_transactions_request::ListTransactionsRequest;
use esker_kafka::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use esker_kafka::{ErrorCode, Str};

use crate::batches::{batch, sequenced};
use crate::broker::{Broker, LEADER_EPOCH, NODE_ID};
use crate::client::Client;
use crate::requests::{CREATE_TOPICS, code, new_topic};

fn more(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignment = |brokers: &&[i32]| CreatePartitionsAssignment {
        broker_ids: brokers.to_vec(),
    };
    CreatePartitionsTopic {
        name: Str::from(name),
        count,
        assignments: assignments.map(|all| all.iter().map(assignment).collect()),
    }
}

async fn grow(client: &mut Client, topics: &[CreatePartitionsTopic], validate_only: bool) -> Vec<(String, ErrorCode)> {
    let request = CreatePartitionsRequest {
        topics: topics.to_vec(),
        timeout_ms: 1_000,
        validate_only,
    };
    let response = client.call(3, &request).await;
    let result = response
        .results
        .iter()
        .map(|r| (r.name.as_str().to_owned(), code(r.error_code)));
    result.collect()
}

#[tokio::test]
async fn trap_27_every_topic_to_grow_is_in_the_answer() {
    let broker = Broker::with(&[("esker.max.partitions.per.topic", "10")]).await;
    let mut client = broker.connect().await;
    client.create("t", 2, &[]).await;
    client.create("u", 1, &[]).await;
    let asked = [
        more("t", 3, None),
        more("missing", 3, None),
        more("u", 1, None),
        more("twice", 2, None),
        more("twice", 2, None),
    ];
    let answered = [
        ("t".to_owned(), ErrorCode::None),
        ("missing".to_owned(), ErrorCode::UnknownTopicOrPartition),
        ("u".to_owned(), ErrorCode::InvalidPartitions),
        ("twice".to_owned(), ErrorCode::InvalidRequest),
    ];
    assert_eq!(grow(&mut client, &asked, true).await, answered);
    // Nothing has changed by asking only.
    assert_eq!(grow(&mut client, &asked, false).await, answered);
    assert_eq!(
        grow(&mut client, &[more("t", 3, None)], true).await[0].1,
        ErrorCode::InvalidPartitions
    );
    for (count, assignments, wanted) in [
        (2, None, ErrorCode::InvalidPartitions),
        (-1, None, ErrorCode::InvalidPartitions),
        (11, None, ErrorCode::InvalidPartitions),
        (5, Some(&[&[7][..]][..]), ErrorCode::InvalidReplicaAssignment),
        (4, Some(&[&[][..]][..]), ErrorCode::InvalidReplicaAssignment),
        (4, Some(&[&[7][..]][..]), ErrorCode::None),
    ] {
        for validate_only in [true, false] {
            let found = grow(&mut client, &[more("t", count, assignments)], validate_only).await;
            assert_eq!(found[0].1, wanted, "{count}");
        }
    }
}

#[tokio::test]
async fn new_partitions_take_records_at_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    assert_eq!(
        grow(&mut client, &[more("t", 3, None)], false).await[0].1,
        ErrorCode::None
    );
    assert_eq!(client.store(&topic, 2, &batch(&["x"])).await, 0);
}

#[tokio::test]
async fn cluster_is_described() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 0..=2 {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            include_cluster_authorized_operations: version == 2,
            ..Default::default()
        };
        let response = client.call(version, &request).await;
        assert_eq!(
            (code(response.error_code), response.controller_id),
            (ErrorCode::None, NODE_ID)
        );
        assert_eq!(response.cluster_id, "AAAAAAAAAAAAAAAAAAAAAQ");
        let [own] = &*response.brokers else {
            panic!("{:?}", response.brokers)
        };
        assert_eq!((own.broker_id, own.port), (NODE_ID, i32::from(broker.address.port())));
        assert_eq!(response.cluster_authorized_operations != i32::MIN, version == 2);
    }
    for (endpoint_type, wanted) in [
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..Default::default()
        };
        let response = client.call(1, &request).await;
        assert_eq!((code(response.error_code), response.brokers.len()), (wanted, 0));
    }
}

fn page(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
    let topics = topics.iter().map(|name| TopicRequest { name: Str::from(*name) });
    DescribeTopicPartitionsRequest {
        topics: topics.collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(name, partition_index)| Cursor {
            topic_name: Str::from(name),
            partition_index,
        }),
    }
}

type PageShape = (Vec<(String, ErrorCode, Vec<i32>)>, Option<(String, i32)>);

fn shape(response: &DescribeTopicPartitionsResponse) -> PageShape {
    let topics = response.topics.iter().map(|topic| {
        let name = topic.name.as_deref().unwrap_or("null").to_owned();
        let partitions = topic.partitions.iter().map(|p| p.partition_index).collect();
        (name, code(topic.error_code), partitions)
    });
    let cursor = response.next_cursor.as_ref();
    let cursor = cursor.map(|cursor| (cursor.topic_name.as_str().to_owned(), cursor.partition_index));
    (topics.collect(), cursor)
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        client.create(name, partitions, &[]).await;
    }
    let mut seen = Vec::new();
    let mut cursor: Option<(String, i32)> = None;
    let mut pages = 0;
    loop {
        let from = cursor.as_ref().map(|(name, index)| (name.as_str(), *index));
        let response = client.call(0, &page(&[], 2, from)).await;
        let (topics, next) = shape(&response);
        assert!(topics.iter().map(|(_, _, partitions)| partitions.len()).sum::<usize>() <= 2);
        for (name, error, partitions) in topics {
            assert_eq!(error, ErrorCode::None);
            seen.extend(partitions.into_iter().map(|index| format!("{name}-{index}")));
        }
        pages += 1;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((seen.join(" ").as_str(), pages), ("a-0 a-1 b-0 b-1 b-2 c-0", 3));
    let response = client.call(0, &page(&["c", "nope", "a", "not/legal"], 100, None)).await;
    let wanted = vec![
        ("a".to_owned(), ErrorCode::None, vec![0, 1]),
        ("c".to_owned(), ErrorCode::None, vec![0]),
        ("nope".to_owned(), ErrorCode::UnknownTopicOrPartition, vec![]),
        ("not/legal".to_owned(), ErrorCode::InvalidTopic, vec![]),
    ];
    assert_eq!(shape(&response), (wanted, None));
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch), (NODE_ID, LEADER_EPOCH));
    // Java's client cannot take null here.
    assert!(partition.eligible_leader_replicas.is_some() && partition.last_known_elr.is_some());
    // A cursor behind a topic that is gone goes on with the next one.
    let response = client.call(0, &page(&[], 100, Some(("bb", 7)))).await;
    assert_eq!(shape(&response).0, [("c".to_owned(), ErrorCode::None, vec![0])]);
    let response = client.call(0, &page(&["a", "c"], 100, Some(("bb", 0)))).await;
    let refused = |name: &str| (name.to_owned(), ErrorCode::InvalidRequest, vec![]);
    assert_eq!(shape(&response), (vec![refused("a"), refused("c")], None));
    let response = client.call(0, &page(&["c"], 100, Some(("c", -1)))).await;
    assert_eq!(
        shape(&response).0,
        [("c".to_owned(), ErrorCode::InvalidRequest, vec![])]
    );
}

#[tokio::test]
async fn no_topic_is_told_twice_when_some_that_do_not_exist_fill_a_page() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let names: Vec<_> = (0..2_000).map(|index| format!("t{index:04}")).collect();
    for some in names.chunks(500) {
        let request = CreateTopicsRequest {
            topics: some.iter().map(|name| new_topic(name, 1, &[])).collect(),
            ..Default::default()
        };
        let response = client.call(CREATE_TOPICS, &request).await;
        assert!(response.topics.iter().all(|topic| topic.error_code == 0));
    }
    let mut asked = vec!["missing"];
    asked.extend(names.iter().map(String::as_str));
    let (mut told, cursor) = shape(&client.call(0, &page(&asked, 2_000, None)).await);
    assert_eq!(cursor, Some(("t1999".to_owned(), 0)));
    let (rest, cursor) = shape(&client.call(0, &page(&asked, 2_000, Some(("t1999", 0)))).await);
    assert_eq!(cursor, None);
    told.extend(rest);
    let told: Vec<_> = told.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(told, asked);
}

#[tokio::test]
async fn topics_that_do_not_exist_cost_one_read_of_the_log_for_all_of_them() {
    const ASKED: usize = 200;
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let names: Vec<_> = (0..ASKED).map(|index| format!("missing{index}")).collect();
    let before = broker.metadata_reads().0;
    let asked: Vec<_> = names.iter().map(|name| more(name, 2, None)).collect();
    let grown = grow(&mut client, &asked, false).await;
    let elect = ElectLeadersRequest {
        election_type: 0,
        topic_partitions: Some(
            names
                .iter()
                .map(|name| TopicPartitions {
                    topic: Str::from(name.as_str()),
                    partitions: vec![0],
                })
                .collect(),
        ),
        timeout_ms: 1_000,
    };
    let elected = client.call(2, &elect).await.replica_election_results;
    let producers = DescribeProducersRequest {
        topics: names
            .iter()
            .map(|name| describe_producers_request::TopicRequest {
                name: Str::from(name.as_str()),
                partition_indexes: vec![0],
            })
            .collect(),
    };
    let producers = client.call(0, &producers).await.topics;
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!((grown.len(), elected.len(), producers.len()), (ASKED, ASKED, ASKED));
    assert!(grown.iter().all(|(_, code)| *code == unknown));
    assert!(
        elected
            .iter()
            .all(|topic| code(topic.partition_result[0].error_code) == unknown)
    );
    assert!(
        producers
            .iter()
            .all(|topic| code(topic.partitions[0].error_code) == unknown)
    );
    // One for each request; the node itself reads now and then, too.
    let reads = broker.metadata_reads().0 - before;
    assert!(reads < 50, "{reads}");
}

#[tokio::test]
async fn trap_27_log_dirs_tell_the_bytes_of_each_partition() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 2, &[]).await;
    client.create("u", 1, &[]).await;
    let first = batch(&["some", "records"]);
    client.store(&topic, 1, &first).await;
    client.store(&topic, 1, &first).await;
    let bytes = i64::try_from(first.bytes().len()).unwrap();
    let asked = |name: &str, partitions: &[i32]| DescribableLogDirTopic {
        topic: Str::from(name),
        partitions: partitions.to_vec(),
    };
    let some = vec![asked("t", &[1, 5, -1, 1]), asked("missing", &[0])];
    for version in 1..=5 {
        for (topics, wanted) in [
            (None, vec![("t", vec![(0, 0), (1, 2 * bytes)]), ("u", vec![(0, 0)])]),
            (Some(some.clone()), vec![("t", vec![(1, 2 * bytes)])]),
        ] {
            let response = client.call(version, &DescribeLogDirsRequest { topics }).await;
            let [bucket] = &*response.results else {
                panic!("{response:?}")
            };
            assert_eq!(code(bucket.error_code), ErrorCode::None);
            let found = bucket.topics.iter().map(|topic| {
                let sizes = topic.partitions.iter().map(|p| (p.partition_index, p.partition_size));
                (topic.name.as_str(), sizes.collect::<Vec<_>>())
            });
            assert_eq!(found.collect::<Vec<_>>(), wanted);
        }
    }
}

#[tokio::test]
async fn leaders_need_no_election_and_nothing_moves() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    let mut elect = ElectLeadersRequest {
        election_type: 0,
        topic_partitions: None,
        timeout_ms: 1_000,
    };
    let response = client.call(2, &elect).await;
    assert_eq!((response.error_code, response.replica_election_results.len()), (0, 0));
    elect.topic_partitions = Some(vec![TopicPartitions {
        topic: Str::from_static("t"),
        partitions: vec![0, 1],
    }]);
    let response = client.call(2, &elect).await;
    let results = &response.replica_election_results[0].partition_result;
    let codes: Vec<_> = results.iter().map(|result| code(result.error_code)).collect();
    assert_eq!(
        codes,
        [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition]
    );
    elect.election_type = 2;
    assert_eq!(code(client.call(2, &elect).await.error_code), ErrorCode::InvalidRequest);

    let moved = |index, replicas: Option<&[i32]>| ReassignablePartition {
        partition_index: index,
        replicas: replicas.map(<[i32]>::to_vec),
    };
    let request = AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: Str::from_static("t"),
            partitions: vec![
                moved(0, None),
                moved(0, Some(&[NODE_ID])),
                moved(0, Some(&[8])),
                moved(1, None),
            ],
        }],
        ..Default::default()
    };
    let response = client.call(1, &request).await;
    let codes: Vec<_> = response.responses[0]
        .partitions
        .iter()
        .map(|p| code(p.error_code))
        .collect();
    let wanted = [
        ErrorCode::NoReassignmentInProgress,
        ErrorCode::None,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::UnknownTopicOrPartition,
    ];
    assert_eq!(codes, wanted);
    let response = client.call(0, &ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}

#[tokio::test]
async fn quorum_is_the_log_of_commits() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    let asked = |name: &'static str| describe_quorum_request::TopicData {
        topic_name: Str::from_static(name),
        partitions: vec![describe_quorum_request::PartitionData { partition_index: 0 }],
    };
    let request = DescribeQuorumRequest {
        topics: vec![asked("__cluster_metadata"), asked("t")],
    };
    for version in 0..=2 {
        let response = client.call(version, &request).await;
        let log = &response.topics[0].partitions[0];
        assert_eq!((code(log.error_code), log.leader_id), (ErrorCode::None, NODE_ID));
        assert!(log.high_watermark >= 2 && log.current_voters[0].log_end_offset == log.high_watermark);
        let other = &response.topics[1].partitions[0];
        assert_eq!(code(other.error_code), ErrorCode::UnknownTopicOrPartition);
    }
}

#[tokio::test]
async fn features_cannot_be_changed() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let mut request = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: Str::from_static("metadata.version"),
            max_version_level: 20,
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call(0, &request).await;
    assert_eq!(code(response.results[0].error_code), ErrorCode::InvalidUpdateVersion);
    let response = client.call(2, &request).await;
    assert_eq!(code(response.error_code), ErrorCode::InvalidUpdateVersion);
    request.feature_updates.clear();
    assert_eq!(
        code(client.call(2, &request).await.error_code),
        ErrorCode::InvalidRequest
    );
}

#[tokio::test]
async fn producers_are_described_from_the_fold() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    let stored = sequenced(id, 0, 0, 2);
    assert_eq!(client.store(&topic, 0, &stored).await, 0);
    let request = DescribeProducersRequest {
        topics: vec![describe_producers_request::TopicRequest {
            name: Str::from_static("t"),
            partition_indexes: vec![0, 1, 0],
        }],
    };
    let response = client.call(0, &request).await;
    let partitions = &response.topics[0].partitions;
    let codes: Vec<_> = partitions.iter().map(|p| code(p.error_code)).collect();
    let wanted = [
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(codes, wanted);
    let [producer] = &*partitions[0].active_producers else {
        panic!("{partitions:?}")
    };
    assert_eq!(
        (producer.producer_id, producer.producer_epoch, producer.last_sequence),
        (id, 0, 1)
    );
    assert_eq!(producer.current_txn_start_offset, -1);
}

/// As who looks for hanging transactions does.
#[tokio::test]
async fn all_partitions_of_an_agent_can_be_asked_for_their_producers() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1_500, &[]).await;
    let ids = [client.producer_id().await, client.producer_id().await];
    for (id, partition) in [(ids[1], 1_499), (ids[0], 1_499), (ids[1], 7)] {
        client.store(&topic, partition, &sequenced(id, 0, 0, 2)).await;
    }
    let request = DescribeProducersRequest {
        topics: vec![describe_producers_request::TopicRequest {
            name: Str::from_static("t"),
            partition_indexes: (0..1_500).collect(),
        }],
    };
    let response = client.call(0, &request).await;
    let partitions = &response.topics[0].partitions;
    assert!(partitions.iter().all(|partition| partition.error_code == 0));
    let told: Vec<(i32, Vec<i64>)> = partitions
        .iter()
        .filter(|partition| !partition.active_producers.is_empty())
        .map(|partition| {
            let producers = partition.active_producers.iter();
            (
                partition.partition_index,
                producers.map(|producer| producer.producer_id).collect(),
            )
        })
        .collect();
    assert_eq!(told, [(7, vec![ids[1]]), (1_499, ids.to_vec())]);
}

#[tokio::test]
async fn there_are_no_transactional_ids() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![Str::from_static("payments"), Str::default()],
    };
    let response = client.call(0, &request).await;
    let codes: Vec<_> = response.transaction_states.iter().map(|s| code(s.error_code)).collect();
    assert_eq!(codes, [ErrorCode::TransactionalIdNotFound, ErrorCode::InvalidRequest]);
    let request = ListTransactionsRequest {
        state_filters: vec![Str::from_static("Ongoing"), Str::from_static("Sleeping")],
        ..Default::default()
    };
    let response = client.call(2, &request).await;
    assert_eq!((response.error_code, response.transaction_states.len()), (0, 0));
    assert_eq!(response.unknown_state_filters, ["Sleeping"]);
}
