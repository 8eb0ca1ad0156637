//! Broker configs that are changed while agents run: on every agent at once, for one or for all, and after restarts.

use esker_kafka::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_kafka::{ErrorCode, Str};
use tokio::time::{Duration, Instant};

use crate::batches::batch;
use crate::client::Client;
use crate::nodes::World;
use crate::requests::{PRODUCE, Topic, code, produce};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const DEFAULT: i8 = 5;

async fn alter(client: &mut Client, of: i8, name: &str, config: &str, value: Option<&str>) -> ErrorCode {
    let configs = vec![AlterableConfig {
        name: Str::from(config),
        config_operation: if value.is_some() { SET } else { DELETE },
        value: value.map(Str::from),
    }];
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: of,
            resource_name: Str::from(name),
            configs,
        }],
        validate_only: false,
    };
    code(client.call(1, &request).await.responses[0].error_code)
}

/// What a config is, where that comes from, and what stands behind it.
type Told = (String, i8, Vec<(String, String, i8)>);

async fn describe(client: &mut Client, of: i8, name: &str, config: &str) -> Told {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: of,
            resource_name: Str::from(name),
            configuration_keys: Some(vec![Str::from(config)]),
        }],
        include_synonyms: true,
        include_documentation: false,
    };
    let mut response = client.call(4, &request).await;
    let found = response.results.remove(0).configs.remove(0);
    let text = |value: Option<Str>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    let synonyms = found.synonyms.into_iter();
    let synonyms = synonyms.map(|behind| (behind.name.to_string(), text(behind.value), behind.source));
    (text(found.value), found.config_source, synonyms.collect())
}

async fn stores(client: &mut Client, topic: &Topic, bytes: usize) -> ErrorCode {
    let response = client
        .call(PRODUCE, &produce(topic, 0, &batch(&["x".repeat(bytes).as_str()])))
        .await;
    code(response.responses[0].partition_responses[0].error_code)
}

/// Asks until an agent has heard of a change that another one has made.
async fn soon(client: &mut Client, topic: &Topic, bytes: usize, expected: ErrorCode) {
    let began = Instant::now();
    while stores(client, topic, bytes).await != expected {
        assert!(began.elapsed() < Duration::from_secs(10), "{expected:?} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn behind(config: &str, value: &str, source: i8) -> (String, String, i8) {
    (config.to_owned(), value.to_owned(), source)
}

#[tokio::test]
async fn a_default_of_topics_that_is_set_for_all_brokers_counts_on_every_agent_at_once_and_after_restarts() {
    let world = World::new();
    let (a, b) = (world.start("").await, world.start("").await);
    let (mut to_a, mut to_b) = (a.connect().await, b.connect().await);
    let topic = to_a.create("t", 1, &[]).await;
    let own = to_a.create("own", 1, &[("max.message.bytes", "9000")]).await;
    soon(&mut to_b, &topic, 4_000, ErrorCode::None).await;
    let (name, none, large) = ("message.max.bytes", ErrorCode::None, ErrorCode::MessageTooLarge);
    assert_eq!(alter(&mut to_a, BROKER, "", name, Some("1000")).await, none);
    assert_eq!(
        stores(&mut to_a, &topic, 4_000).await,
        large,
        "at once where it was said"
    );
    soon(&mut to_b, &topic, 4_000, large).await;
    assert_eq!(
        stores(&mut to_a, &own, 4_000).await,
        none,
        "a topic's own config is stronger"
    );
    // Set for one broker it is stronger there only.
    let node = a.node().to_string();
    assert_eq!(alter(&mut to_a, BROKER, &node, name, Some("5000")).await, none);
    assert_eq!(stores(&mut to_a, &topic, 4_000).await, none);
    assert_eq!(stores(&mut to_b, &topic, 4_000).await, large);

    let everywhere = behind(name, "1000", DYNAMIC_DEFAULT_BROKER);
    let (here, kafkas) = (behind(name, "5000", DYNAMIC_BROKER), behind(name, "1048588", DEFAULT));
    let of_a = vec![here.clone(), everywhere.clone(), kafkas.clone()];
    let of_b = vec![everywhere.clone(), kafkas];
    let described = describe(&mut to_a, BROKER, &node, name).await;
    assert_eq!(described, ("5000".to_owned(), DYNAMIC_BROKER, of_a.clone()));
    let described = describe(&mut to_a, BROKER, "", name).await;
    assert_eq!((&*described.0, described.1), ("1000", DYNAMIC_DEFAULT_BROKER));
    let config = "max.message.bytes";
    assert_eq!(
        describe(&mut to_a, TOPIC, "t", config).await,
        ("5000".to_owned(), DYNAMIC_BROKER, of_a.clone())
    );
    let described = describe(&mut to_b, TOPIC, "t", config).await;
    assert_eq!(described, ("1000".to_owned(), DYNAMIC_DEFAULT_BROKER, of_b));
    let of_own = [vec![behind(config, "9000", DYNAMIC_TOPIC)], of_a].concat();
    assert_eq!(
        describe(&mut to_a, TOPIC, "own", config).await,
        ("9000".to_owned(), DYNAMIC_TOPIC, of_own)
    );

    b.stop().await.unwrap();
    let again = world.start("").await;
    let mut to_b = again.connect().await;
    assert_eq!(
        stores(&mut to_b, &topic, 4_000).await,
        large,
        "it is there from the start"
    );
    assert_eq!(alter(&mut to_a, BROKER, &node, name, None).await, none);
    assert_eq!(stores(&mut to_a, &topic, 4_000).await, large);
    assert_eq!(alter(&mut to_a, BROKER, "", name, None).await, none);
    assert_eq!(stores(&mut to_a, &topic, 4_000).await, none);
    soon(&mut to_b, &topic, 4_000, none).await;
}

#[tokio::test]
async fn what_kafka_does_not_let_change_while_a_broker_runs_is_refused() {
    let world = World::new();
    let a = world.start("").await;
    let mut client = a.connect().await;
    for config in [
        "log.retention.hours",
        "log.retention.minutes",
        "num.partitions",
        "group.max.size",
    ] {
        for name in ["", "1"] {
            assert_eq!(
                alter(&mut client, BROKER, name, config, Some("7")).await,
                ErrorCode::InvalidRequest,
                "{config}"
            );
        }
    }
    for (config, value) in [
        ("log.retention.ms", "1000"),
        ("log.retention.bytes", "1000"),
        ("compression.type", "zstd"),
        ("log.message.timestamp.type", "LogAppendTime"),
        ("log.message.timestamp.before.max.ms", "1000"),
        ("log.message.timestamp.after.max.ms", "1000"),
        ("log.cleanup.policy", "compact"),
    ] {
        assert_eq!(
            alter(&mut client, BROKER, "", config, Some(value)).await,
            ErrorCode::None,
            "{config}"
        );
        let told = describe(&mut client, BROKER, "1", config).await;
        assert_eq!((&*told.0, told.1), (value, DYNAMIC_DEFAULT_BROKER), "{config}");
        assert_ne!(
            alter(&mut client, BROKER, "", config, Some("nonsense")).await,
            ErrorCode::None,
            "{config}"
        );
    }
}
