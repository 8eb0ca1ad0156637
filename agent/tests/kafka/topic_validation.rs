//! CreateTopics: what is accepted, what is refused, and that nothing is left out of the answer.

use esker_kafka::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use esker_kafka::messages::create_topics_response::CreatableTopicResult;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka::{ErrorCode, Str, Uuid};

use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{CREATE_TOPICS, code, new_topic};

async fn create(client: &mut Client, version: i16, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest {
        topics,
        ..Default::default()
    };
    client.call(version, &request).await.topics
}

async fn create_one(client: &mut Client, topic: CreatableTopic) -> CreatableTopicResult {
    let [created] = <[_; 1]>::try_from(create(client, CREATE_TOPICS, vec![topic]).await).unwrap();
    created
}

/// The topics that there are, with their numbers of partitions.
async fn existing(client: &mut Client) -> Vec<(String, usize)> {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let response = client.call(12, &request).await;
    let mut found: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_deref().unwrap().to_owned(), topic.partitions.len()))
        .collect();
    found.sort_unstable();
    found
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(index, brokers)| CreatableReplicaAssignment {
        partition_index: *index,
        broker_ids: brokers.to_vec(),
    });
    CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: assignments.collect(),
        ..new_topic(name, -1, &[])
    }
}

#[tokio::test]
async fn every_version_creates_and_tells_what() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let topic = new_topic(&name, 3, &[("retention.ms", "1000")]);
        let created = create(&mut client, version, vec![topic.clone()]).await;
        assert_eq!((created.len(), created[0].error_code), (1, 0));
        assert_eq!((created[0].name.as_str(), &created[0].error_message), (&*name, &None));
        if version >= 5 {
            assert_eq!((created[0].num_partitions, created[0].replication_factor), (3, 1));
            let configs = created[0].configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
            assert_eq!(retention.value.as_deref(), Some("1000"));
            // KIP-525: those that nobody set as well.
            let policy = configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
            assert_eq!((configs.len(), policy.value.as_deref()), (33, Some("delete")));
        }
        assert_eq!(created[0].topic_id.is_zero(), version < 7);
        let again = create(&mut client, version, vec![topic]).await;
        assert_eq!(code(again[0].error_code), ErrorCode::TopicAlreadyExists);
        assert!(again[0].error_message.as_deref().unwrap().contains(&name));
    }
    let wanted: Vec<_> = (2..=7).map(|version| (format!("t{version}"), 3)).collect();
    assert_eq!(existing(&mut client).await, wanted);
}

#[tokio::test]
async fn defaults_are_the_brokers() {
    let settings = [("num.partitions", "4"), ("default.replication.factor", "2")];
    let broker = Broker::with(&settings).await;
    let mut client = broker.connect().await;
    let mut topic = new_topic("t", -1, &[]);
    topic.replication_factor = -1;
    let created = create_one(&mut client, topic).await;
    assert_eq!((created.num_partitions, created.replication_factor), (4, 2));
    // Replication is the bucket's; any factor is accepted and shown.
    let mut topic = new_topic("three", 1, &[]);
    topic.replication_factor = 3;
    let created = create_one(&mut client, topic).await;
    assert_eq!((created.error_code, created.replication_factor), (0, 3));
}

#[tokio::test]
async fn trap_27_every_topic_of_the_request_is_in_the_answer() {
    let broker = Broker::with(&[("esker.max.partitions.per.topic", "10")]).await;
    let mut client = broker.connect().await;
    client.create("there", 1, &[]).await;
    let mut no_replicas = new_topic("no-replicas", 1, &[]);
    no_replicas.replication_factor = 0;
    let mut negative_replicas = new_topic("negative-replicas", 1, &[]);
    negative_replicas.replication_factor = -2;
    let long = "x".repeat(250);
    let wanted = [
        (new_topic("there", 1, &[]), ErrorCode::TopicAlreadyExists),
        (new_topic("good", 2, &[]), ErrorCode::None),
        (new_topic("zero", 0, &[]), ErrorCode::InvalidPartitions),
        (new_topic("negative", -2, &[]), ErrorCode::InvalidPartitions),
        (new_topic("too-many", 11, &[]), ErrorCode::InvalidPartitions),
        (new_topic("huge", i32::MAX, &[]), ErrorCode::InvalidPartitions),
        (no_replicas, ErrorCode::InvalidReplicationFactor),
        (negative_replicas, ErrorCode::InvalidReplicationFactor),
        (new_topic("", 1, &[]), ErrorCode::InvalidTopic),
        (new_topic("..", 1, &[]), ErrorCode::InvalidTopic),
        (new_topic("a b", 1, &[]), ErrorCode::InvalidTopic),
        (new_topic(&long, 1, &[]), ErrorCode::InvalidTopic),
        (
            new_topic("no-such", 1, &[("no.such.config", "1")]),
            ErrorCode::InvalidConfig,
        ),
        (
            new_topic("bad-value", 1, &[("retention.ms", "soon")]),
            ErrorCode::InvalidConfig,
        ),
        (
            new_topic("bad-policy", 1, &[("cleanup.policy", "shred")]),
            ErrorCode::InvalidConfig,
        ),
        (new_topic("also-good", 10, &[]), ErrorCode::None),
    ];
    let created = create(
        &mut client,
        CREATE_TOPICS,
        wanted.iter().map(|(topic, _)| topic.clone()).collect(),
    )
    .await;
    let found: Vec<_> = created
        .iter()
        .map(|topic| (&topic.name, code(topic.error_code)))
        .collect();
    let names: Vec<_> = wanted.iter().map(|(topic, code)| (&topic.name, *code)).collect();
    assert_eq!(found, names);
    for refused in created.iter().filter(|topic| topic.error_code != 0) {
        assert!(refused.error_message.is_some(), "{}", refused.name);
        assert_eq!((refused.topic_id, refused.num_partitions), (Uuid::ZERO, -1));
    }
    let wanted = [
        ("also-good".to_owned(), 10),
        ("good".to_owned(), 2),
        ("there".to_owned(), 1),
    ];
    assert_eq!(existing(&mut client).await, wanted);
}

#[tokio::test]
async fn topic_named_twice_is_refused_once_and_not_created() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topics = ["twice", "good", "twice", "twice"]
        .map(|name| new_topic(name, 1, &[]))
        .to_vec();
    let created = create(&mut client, CREATE_TOPICS, topics).await;
    let mut found: Vec<_> = created
        .iter()
        .map(|topic| (topic.name.as_str().to_owned(), code(topic.error_code)))
        .collect();
    found.sort_unstable();
    let wanted = [
        ("good".to_owned(), ErrorCode::None),
        ("twice".to_owned(), ErrorCode::InvalidRequest),
    ];
    assert_eq!(found, wanted);
    assert_eq!(existing(&mut client).await, [("good".to_owned(), 1)]);
}

#[tokio::test]
async fn names_that_differ_only_in_dots_and_underscores_collide() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("a.b_c", 1, &[]).await;
    let refused = create_one(&mut client, new_topic("a_b.c", 1, &[])).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidTopic);
    assert_eq!(existing(&mut client).await, [("a.b_c".to_owned(), 1)]);
    // The refused name is free for nothing, but it has left nothing behind either.
    let again = create_one(&mut client, new_topic("a_b.c", 1, &[])).await;
    assert_eq!(code(again.error_code), ErrorCode::InvalidTopic);
}

#[tokio::test]
async fn assignments_give_the_number_of_partitions() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let created = create_one(&mut client, assigned("t", &[(1, &[7]), (0, &[7]), (2, &[7])])).await;
    assert_eq!(
        (created.error_code, created.num_partitions, created.replication_factor),
        (0, 3, 1)
    );
    let mut both = assigned("both", &[(0, &[7])]);
    both.num_partitions = 1;
    let wrong = ErrorCode::InvalidReplicaAssignment;
    for (topic, wanted) in [
        (both, ErrorCode::InvalidRequest),
        (assigned("gap", &[(0, &[7]), (2, &[7])]), wrong),
        (assigned("twice", &[(0, &[7]), (0, &[7])]), wrong),
        (assigned("uneven", &[(0, &[7]), (1, &[7, 8])]), wrong),
        (assigned("nobody", &[(0, &[])]), wrong),
        (assigned("negative", &[(-1, &[7])]), wrong),
    ] {
        let name = topic.name.clone();
        let refused = create_one(&mut client, topic).await;
        assert_eq!(code(refused.error_code), wanted, "{name}");
    }
    assert_eq!(existing(&mut client).await, [("t".to_owned(), 3)]);
}

#[tokio::test]
async fn config_without_a_value_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let mut topic = new_topic("t", 1, &[]);
    topic.configs.push(CreatableTopicConfig {
        name: Str::from_static("retention.ms"),
        value: None,
    });
    let refused = create_one(&mut client, topic).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidConfig);
}

#[tokio::test]
async fn validate_only_checks_and_creates_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("there", 1, &[]).await;
    let request = CreateTopicsRequest {
        topics: vec![
            new_topic("new", 3, &[]),
            new_topic("there", 1, &[]),
            new_topic("bad", 0, &[]),
            new_topic("..", 1, &[]),
        ],
        validate_only: true,
        ..Default::default()
    };
    for version in 2..=7 {
        let response = client.call(version, &request).await;
        let found: Vec<_> = response.topics.iter().map(|topic| code(topic.error_code)).collect();
        let wanted = [
            ErrorCode::None,
            ErrorCode::TopicAlreadyExists,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidTopic,
        ];
        assert_eq!(found, wanted);
    }
    assert_eq!(existing(&mut client).await, [("there".to_owned(), 1)]);
}

#[tokio::test]
async fn validate_only_sees_collisions_and_limits() {
    let broker = Broker::with(&[("esker.max.partitions", "10"), ("esker.max.partitions.per.topic", "8")]).await;
    let mut client = broker.connect().await;
    client.create("a.b", 3, &[]).await;
    let request = CreateTopicsRequest {
        topics: vec![
            new_topic("a_b", 1, &[]),
            new_topic("c.d", 4, &[]),
            new_topic("c_d", 1, &[]),
            new_topic("eight", 8, &[]),
            new_topic("four", 4, &[]),
            new_topic("three", 3, &[]),
            new_topic("twice", 1, &[]),
            new_topic("twice", 1, &[]),
        ],
        validate_only: true,
        ..Default::default()
    };
    let response = client.call(CREATE_TOPICS, &request).await;
    let found: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), code(topic.error_code)))
        .collect();
    let wanted = [
        ("a_b", ErrorCode::InvalidTopic),
        ("c.d", ErrorCode::None),
        ("c_d", ErrorCode::InvalidTopic),
        ("eight", ErrorCode::InvalidPartitions),
        ("four", ErrorCode::InvalidPartitions),
        ("three", ErrorCode::None),
        ("twice", ErrorCode::InvalidRequest),
    ];
    assert_eq!(found, wanted);
    assert_eq!(existing(&mut client).await, [("a.b".to_owned(), 3)]);
}

#[tokio::test]
async fn limit_of_the_cluster_is_kept() {
    let settings = [("esker.max.partitions", "10"), ("esker.max.partitions.per.topic", "8")];
    let broker = Broker::with(&settings).await;
    let mut client = broker.connect().await;
    client.create("seven", 7, &[]).await;
    let refused = create_one(&mut client, new_topic("four", 4, &[])).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidPartitions);
    client.create("three", 3, &[]).await;
    let wanted = [("seven".to_owned(), 7), ("three".to_owned(), 3)];
    assert_eq!(existing(&mut client).await, wanted);
}

#[tokio::test]
async fn broker_stands_once_in_an_assignment_and_has_a_number() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for brokers in [&[1, 1][..], &[-1]] {
        let refused = create_one(&mut client, assigned("t", &[(0, brokers)])).await;
        assert_eq!(code(refused.error_code), ErrorCode::InvalidReplicaAssignment);
    }
    assert!(existing(&mut client).await.is_empty());
}

/// An answer holds strings of at most 32,767 bytes: a text that repeats such a name and says more cannot be sent, and then nobody
/// learns what became of the others.
#[tokio::test]
async fn a_name_as_long_as_a_string_may_be_does_not_cost_the_others_their_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let long = "n".repeat(32_700);
    for version in 2..=7 {
        let name = format!("t{version}");
        let topics = vec![
            new_topic(&name, 1, &[]),
            new_topic(&long, 1, &[]),
            new_topic("config", 1, &[(&long, "1")]),
        ];
        let created = create(&mut client, version, topics).await;
        let of = |name: &str| created.iter().find(|topic| topic.name == name).unwrap();
        assert_eq!(of(&name).error_code, 0);
        for (name, wanted) in [(&*long, ErrorCode::InvalidTopic), ("config", ErrorCode::InvalidConfig)] {
            assert_eq!(code(of(name).error_code), wanted);
            let text = of(name).error_message.as_deref().unwrap();
            assert!(text.contains("nnn") && text.len() < 500, "{} bytes", text.len());
        }
    }
}
