//! IncrementalAlterConfigs, AlterConfigs and ListConfigResources.

use esker_kafka::messages::alter_configs_request as replacing;
use esker_kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_kafka::messages::list_config_resources_request::ListConfigResourcesRequest;
use esker_kafka::{ErrorCode, Str};

use crate::batches::batch;
use crate::broker::{Broker, NODE_ID};
use crate::client::Client;
use crate::describe_configs::{
    BROKER, BROKER_LOGGER, CLIENT_METRICS, DEFAULT, GROUP, SET_FOR_TOPIC, TOPIC, config, describe,
};
use crate::requests::{PRODUCE, code, produce};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Edit<'a> = (i8, &'a str, Option<&'a str>);

fn resource(of: i8, name: &str, edits: &[Edit<'_>]) -> AlterConfigsResource {
    let configs = edits.iter().map(|(operation, name, value)| AlterableConfig {
        name: Str::from(*name),
        config_operation: *operation,
        value: value.map(Str::from),
    });
    AlterConfigsResource {
        resource_type: of,
        resource_name: Str::from(name),
        configs: configs.collect(),
    }
}

async fn alter(client: &mut Client, of: i8, name: &str, edits: &[Edit<'_>]) -> ErrorCode {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource(of, name, edits)],
        validate_only: false,
    };
    let response = client.call(1, &request).await;
    let [answer] = &*response.responses else {
        panic!("{response:?}");
    };
    assert_eq!((answer.resource_type, answer.resource_name.as_str()), (of, name));
    assert_eq!(answer.error_message.is_some(), answer.error_code != 0);
    code(answer.error_code)
}

async fn value(client: &mut Client, of: i8, name: &str, wanted: &str) -> (String, i8) {
    let described = describe(client, of, name).await;
    let found = config(&described, wanted);
    (found.value.as_deref().unwrap_or("null").to_owned(), found.config_source)
}

#[tokio::test]
async fn trap_08_altered_max_message_bytes_is_enforced_at_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let large = batch(&["x".repeat(4_000).as_str()]);
    assert_eq!(client.store(&topic, 0, &large).await, 0);
    let limit = [(SET, "max.message.bytes", Some("1000"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &limit).await, ErrorCode::None);
    let refused = client.call(PRODUCE, &produce(&topic, 0, &large)).await;
    let refused = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(code(refused), ErrorCode::MessageTooLarge);
    assert_eq!(
        alter(&mut client, TOPIC, "t", &[(DELETE, "max.message.bytes", None)]).await,
        ErrorCode::None
    );
    assert_eq!(client.store(&topic, 0, &large).await, 1);
}

#[tokio::test]
async fn topic_configs_are_set_deleted_and_lists_extended() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[("segment.bytes", "2097152")]).await;
    let edits: [Edit<'_>; 3] = [
        (SET, "retention.ms", Some("5000")),
        (APPEND, "cleanup.policy", Some("compact")),
        (DELETE, "segment.bytes", None),
    ];
    assert_eq!(alter(&mut client, TOPIC, "t", &edits).await, ErrorCode::None);
    assert_eq!(
        value(&mut client, TOPIC, "t", "retention.ms").await,
        ("5000".to_owned(), SET_FOR_TOPIC)
    );
    let cleanup = value(&mut client, TOPIC, "t", "cleanup.policy").await;
    assert_eq!(cleanup, ("delete,compact".to_owned(), SET_FOR_TOPIC));
    assert_eq!(
        value(&mut client, TOPIC, "t", "segment.bytes").await,
        ("1073741824".to_owned(), DEFAULT)
    );
    let less = [(SUBTRACT, "cleanup.policy", Some("delete"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &less).await, ErrorCode::None);
    assert_eq!(value(&mut client, TOPIC, "t", "cleanup.policy").await.0, "compact");
}

/// As with topics to create: a text that repeats such a name and says more is longer than a string may be.
#[tokio::test]
async fn names_as_long_as_a_string_may_be_get_their_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    let long = "n".repeat(32_740);
    let wrong: [(i8, &str, Edit<'_>); 6] = [
        (TOPIC, &long, (SET, "retention.ms", Some("1"))),
        (TOPIC, "t", (SET, &long, Some("1"))),
        (TOPIC, "t", (SET, &long, None)),
        (TOPIC, "t", (APPEND, &long, Some("1"))),
        (CLIENT_METRICS, "m", (SET, "match", Some(&long))),
        (CLIENT_METRICS, "m", (SET, "interval.ms", Some(&long))),
    ];
    for (of, name, edit) in wrong {
        assert_ne!(alter(&mut client, of, name, &[edit]).await, ErrorCode::None);
    }
    let valid = [(SET, "retention.ms", Some("1"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &valid).await, ErrorCode::None);
}

#[tokio::test]
async fn alterations_that_cannot_be_change_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[("retention.ms", "5000")]).await;
    let pairs = |from: u32| -> Vec<String> { (from..from + 4_000).map(|index| format!("{index}:1")).collect() };
    let throttled = "leader.replication.throttled.replicas";
    let half = pairs(10_000).join(",");
    assert_eq!(
        alter(&mut client, TOPIC, "t", &[(SET, throttled, Some(&half))]).await,
        ErrorCode::None
    );
    let before = describe(&mut client, TOPIC, "t").await;
    let long = pairs(20_000).join(",");
    let cases: [(&[Edit<'_>], ErrorCode); 9] = [
        (&[(SET, "retention.ms", Some("-2"))], ErrorCode::InvalidConfig),
        (&[(SET, "no.such.config", Some("1"))], ErrorCode::InvalidConfig),
        (&[(SET, "retention.ms", None)], ErrorCode::InvalidRequest),
        (&[(9, "retention.ms", Some("1"))], ErrorCode::InvalidRequest),
        (&[(APPEND, "retention.ms", Some("1"))], ErrorCode::InvalidConfig),
        (&[(SUBTRACT, "retention.ms", Some("1"))], ErrorCode::InvalidConfig),
        (
            &[(SET, "retention.ms", Some("1")), (DELETE, "retention.ms", None)],
            ErrorCode::InvalidRequest,
        ),
        (
            &[(SET, "retention.ms", Some("1")), (SET, "segment.ms", Some("none"))],
            ErrorCode::InvalidConfig,
        ),
        (&[(APPEND, throttled, Some(&long))], ErrorCode::InvalidConfig),
    ];
    for (edits, wanted) in cases {
        assert_eq!(alter(&mut client, TOPIC, "t", edits).await, wanted, "{:?}", edits[0].1);
    }
    let edit: [Edit<'_>; 1] = [(SET, "retention.ms", Some("1"))];
    assert_eq!(
        alter(&mut client, TOPIC, "missing", &edit).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        alter(&mut client, BROKER_LOGGER, "7", &edit).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(alter(&mut client, 3, "t", &edit).await, ErrorCode::InvalidRequest);
    let mut request = IncrementalAlterConfigsRequest {
        resources: vec![resource(TOPIC, "t", &edit)],
        validate_only: true,
    };
    let response = client.call(1, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
    request.validate_only = false;
    request.resources = vec![resource(TOPIC, "t", &edit); 2];
    let response = client.call(1, &request).await;
    let codes: Vec<_> = response.responses.iter().map(|r| code(r.error_code)).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest; 2]);
    assert_eq!(describe(&mut client, TOPIC, "t").await, before);
}

#[tokio::test]
async fn alter_configs_replaces_everything() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client
        .create("t", 1, &[("retention.ms", "5000"), ("segment.ms", "6000")])
        .await;
    let mut request = replacing::AlterConfigsRequest {
        resources: vec![replacing::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::from_static("t"),
            configs: vec![replacing::AlterableConfig {
                name: Str::from_static("segment.ms"),
                value: Some(Str::from_static("7000")),
            }],
        }],
        validate_only: true,
    };
    for (validate_only, retention, segment) in [(true, "5000", "6000"), (false, "604800000", "7000")] {
        request.validate_only = validate_only;
        let response = client.call(2, &request).await;
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(value(&mut client, TOPIC, "t", "retention.ms").await.0, retention);
        assert_eq!(value(&mut client, TOPIC, "t", "segment.ms").await.0, segment);
    }
}

#[tokio::test]
async fn brokers_groups_and_subscriptions_keep_what_is_set() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let own = NODE_ID.to_string();
    let threads = |count| [(SET, "num.io.threads", Some(count))];
    assert_eq!(alter(&mut client, BROKER, "", &threads("4")).await, ErrorCode::None);
    assert_eq!(
        value(&mut client, BROKER, &own, "num.io.threads").await,
        ("4".to_owned(), 3)
    );
    assert_eq!(alter(&mut client, BROKER, &own, &threads("5")).await, ErrorCode::None);
    assert_eq!(
        value(&mut client, BROKER, &own, "num.io.threads").await,
        ("5".to_owned(), 2)
    );
    assert_eq!(describe(&mut client, BROKER, "").await.configs.len(), 1);
    for name in [own.as_str(), ""] {
        assert_eq!(
            alter(&mut client, BROKER, name, &[(DELETE, "num.io.threads", None)]).await,
            ErrorCode::None
        );
    }
    assert_eq!(
        value(&mut client, BROKER, &own, "num.io.threads").await,
        ("8".to_owned(), DEFAULT)
    );
    // What does something here, and cannot do it at once, is refused rather than kept without doing it.
    let connections = [(SET, "max.connections", Some("1000"))];
    assert_eq!(
        alter(&mut client, BROKER, &own, &connections).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        alter(&mut client, BROKER, "8", &threads("5")).await,
        ErrorCode::InvalidRequest
    );

    let timeout = [(SET, "consumer.session.timeout.ms", Some("50000"))];
    assert_eq!(alter(&mut client, GROUP, "g", &timeout).await, ErrorCode::None);
    assert_eq!(
        value(&mut client, GROUP, "g", "consumer.session.timeout.ms").await,
        ("50000".to_owned(), 8)
    );
    let interval = [(SET, "interval.ms", Some("1000"))];
    assert_eq!(
        alter(&mut client, CLIENT_METRICS, "m", &interval).await,
        ErrorCode::None
    );
    assert_eq!(
        value(&mut client, CLIENT_METRICS, "m", "interval.ms").await,
        ("1000".to_owned(), 7)
    );
    assert_eq!(
        alter(&mut client, CLIENT_METRICS, "", &interval).await,
        ErrorCode::InvalidRequest
    );
    let slow = [(SET, "interval.ms", Some("1"))];
    assert_eq!(
        alter(&mut client, CLIENT_METRICS, "m", &slow).await,
        ErrorCode::InvalidRequest
    );
}

async fn listed(client: &mut Client, version: i16, types: &[i8]) -> (ErrorCode, Vec<(i8, String)>) {
    let request = ListConfigResourcesRequest {
        resource_types: types.to_vec(),
    };
    let response = client.call(version, &request).await;
    let resources = response.config_resources.iter();
    let resources = resources.map(|r| (r.resource_type, r.resource_name.as_str().to_owned()));
    (code(response.error_code), resources.collect())
}

#[tokio::test]
async fn what_has_configs_is_listed() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    alter(
        &mut client,
        GROUP,
        "g",
        &[(SET, "share.delivery.count.limit", Some("3"))],
    )
    .await;
    alter(&mut client, CLIENT_METRICS, "m", &[(SET, "metrics", Some("*"))]).await;
    let all = [
        (TOPIC, "t"),
        (BROKER, "7"),
        (BROKER_LOGGER, "7"),
        (CLIENT_METRICS, "m"),
        (GROUP, "g"),
    ];
    let all: Vec<_> = all.iter().map(|(of, name)| (*of, (*name).to_owned())).collect();
    assert_eq!(listed(&mut client, 1, &[]).await, (ErrorCode::None, all.clone()));
    assert_eq!(
        listed(&mut client, 1, &[GROUP]).await,
        (ErrorCode::None, vec![all[4].clone()])
    );
    assert_eq!(
        listed(&mut client, 0, &[]).await,
        (ErrorCode::None, vec![all[3].clone()])
    );
    assert_eq!(
        listed(&mut client, 1, &[GROUP, 3]).await,
        (ErrorCode::UnsupportedVersion, vec![])
    );
    alter(&mut client, GROUP, "g", &[(DELETE, "share.delivery.count.limit", None)]).await;
    assert_eq!(listed(&mut client, 1, &[GROUP]).await, (ErrorCode::None, vec![]));
}

#[tokio::test]
async fn configs_of_groups_and_subscriptions_are_few_and_small() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let metrics = "org.apache.kafka.".repeat(250);
    let large: [Edit<'_>; 1] = [(SET, "metrics", Some(&metrics))];
    let refused = alter(&mut client, CLIENT_METRICS, "large", &large).await;
    assert_eq!(refused, ErrorCode::InvalidRequest);
    let batch_of = |batch: usize, count: usize| IncrementalAlterConfigsRequest {
        resources: (0..count)
            .map(|index| {
                resource(
                    CLIENT_METRICS,
                    &format!("m{batch}-{index}"),
                    &[(SET, "metrics", Some("*"))],
                )
            })
            .collect(),
        validate_only: false,
    };
    // At most 100 in a request, at most 1,000 in all.
    let response = client.call(1, &batch_of(0, 101)).await;
    let codes: Vec<_> = response.responses.iter().map(|r| code(r.error_code)).collect();
    assert!(codes[..100].iter().all(|code| *code == ErrorCode::None), "{codes:?}");
    assert_eq!(codes[100], ErrorCode::InvalidRequest);
    for batch in 1..10 {
        let response = client.call(1, &batch_of(batch, 100)).await;
        assert!(response.responses.iter().all(|r| r.error_code == 0));
    }
    let response = client.call(1, &batch_of(10, 1)).await;
    assert_eq!(code(response.responses[0].error_code), ErrorCode::PolicyViolation);
    assert_eq!(listed(&mut client, 1, &[CLIENT_METRICS]).await.1.len(), 1_000);
}
