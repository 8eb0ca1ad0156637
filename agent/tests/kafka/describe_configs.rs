//! DescribeConfigs: every config of topics, brokers, groups and client metrics subscriptions, with where its value comes from.

use esker_kafka::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_kafka::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use esker_kafka::{ErrorCode, Str};

use crate::broker::{Broker, NODE_ID};
use crate::client::Client;
use crate::requests::code;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// Sources, as KIP-226 numbers them.
pub(crate) const SET_FOR_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
pub(crate) const DEFAULT: i8 = 5;

fn ask(resources: &[(i8, &str)]) -> DescribeConfigsRequest {
    let resources = resources.iter().map(|(of, name)| DescribeConfigsResource {
        resource_type: *of,
        resource_name: Str::from(*name),
        configuration_keys: None,
    });
    DescribeConfigsRequest {
        resources: resources.collect(),
        include_synonyms: true,
        include_documentation: true,
    }
}

/// All that is told of a resource.
pub(crate) async fn describe(client: &mut Client, of: i8, name: &str) -> DescribeConfigsResult {
    let response = client.call(4, &ask(&[(of, name)])).await;
    let [result] = <[_; 1]>::try_from(response.results).unwrap();
    assert_eq!((result.resource_type, result.resource_name.as_str()), (of, name));
    result
}

/// One config of a resource that must be there.
pub(crate) fn config<'a>(described: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    let found = described.configs.iter().find(|config| config.name == name);
    found.unwrap_or_else(|| panic!("no config {name}: {:?}", described.error_message))
}

fn synonyms(config: &DescribeConfigsResourceResult) -> Vec<(&str, &str, i8)> {
    let synonyms = config.synonyms.iter();
    synonyms
        .map(|s| (s.name.as_str(), s.value.as_deref().unwrap_or("null"), s.source))
        .collect()
}

#[tokio::test]
async fn trap_27_every_topic_config_is_described_with_its_source() {
    let broker = Broker::with(&[("log.retention.hours", "1"), ("compression.type", "zstd")]).await;
    let mut client = broker.connect().await;
    client
        .create("t", 1, &[("cleanup.policy", "compact"), ("segment.bytes", "2097152")])
        .await;
    let described = describe(&mut client, TOPIC, "t").await;
    assert_eq!(code(described.error_code), ErrorCode::None);
    assert_eq!(described.configs.len(), 33);

    // Connect compares this one letter by letter before it starts.
    let cleanup = config(&described, "cleanup.policy");
    assert_eq!(
        (cleanup.value.as_deref(), cleanup.config_source),
        (Some("compact"), SET_FOR_TOPIC)
    );
    let behind = [
        ("cleanup.policy", "compact", SET_FOR_TOPIC),
        ("log.cleanup.policy", "delete", DEFAULT),
    ];
    assert_eq!(synonyms(cleanup), behind);
    assert_eq!(
        (cleanup.config_type, cleanup.read_only, cleanup.is_sensitive),
        (7, false, false)
    );
    let retention = config(&described, "retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.config_source),
        (Some("3600000"), DEFAULT)
    );
    assert_eq!(synonyms(retention), []);
    assert_eq!(config(&described, "compression.type").value.as_deref(), Some("zstd"));
    let bytes = config(&described, "max.message.bytes");
    assert_eq!(
        (bytes.value.as_deref(), bytes.config_source, bytes.config_type),
        (Some("1048588"), DEFAULT, 3)
    );
    assert_eq!(synonyms(bytes), [("message.max.bytes", "1048588", DEFAULT)]);
    // Kept and told, and said to do nothing.
    let segment = config(&described, "segment.bytes");
    assert_eq!(
        (segment.value.as_deref(), segment.config_source),
        (Some("2097152"), SET_FOR_TOPIC)
    );
    assert!(
        segment
            .documentation
            .as_deref()
            .unwrap()
            .ends_with("It has no effect in Esker.")
    );
    assert!(!cleanup.documentation.as_deref().unwrap().contains("no effect"));
}

#[tokio::test]
async fn what_stands_behind_retention_is_told_where_the_finest_setting_says_it() {
    let broker = Broker::with(&[("log.retention.ms", "5000")]).await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[("retention.ms", "7")]).await;
    let described = describe(&mut client, TOPIC, "t").await;
    let behind = [
        ("retention.ms", "7", SET_FOR_TOPIC),
        ("log.retention.ms", "5000", STATIC_BROKER),
        ("log.retention.hours", "168", DEFAULT),
    ];
    assert_eq!(synonyms(config(&described, "retention.ms")), behind);
}

#[tokio::test]
async fn trap_27_every_broker_config_is_described() {
    let broker = Broker::with(&[("num.partitions", "3")]).await;
    let mut client = broker.connect().await;
    let described = describe(&mut client, BROKER, &NODE_ID.to_string()).await;
    assert_eq!(code(described.error_code), ErrorCode::None);
    assert!(
        described
            .configs
            .iter()
            .filter(|config| !config.name.starts_with("esker."))
            .count()
            == 340
    );
    assert_eq!(config(&described, "node.id").value.as_deref(), Some("7"));
    let advertised = config(&described, "advertised.listeners").value.as_deref().unwrap();
    assert_eq!(advertised, format!("PLAINTEXT://{}", broker.address));
    let partitions = config(&described, "num.partitions");
    assert_eq!(
        synonyms(partitions),
        [("num.partitions", "3", STATIC_BROKER), ("num.partitions", "1", DEFAULT)]
    );
    assert!(partitions.read_only);
    let password = config(&described, "ssl.key.password");
    assert!(password.is_sensitive && password.value.is_none());
    assert!(!config(&described, "num.io.threads").read_only);
    assert_eq!(config(&described, "esker.flush.age").value.as_deref(), Some("1"));
    for config in &described.configs {
        assert!(
            config.documentation.as_deref().is_some_and(|text| text.ends_with('.')),
            "{}",
            config.name
        );
    }
}

#[tokio::test]
async fn every_resource_of_the_request_is_in_the_answer() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    let own = NODE_ID.to_string();
    let asked = [
        (TOPIC, "t", ErrorCode::None),
        (TOPIC, "missing", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "not/legal", ErrorCode::InvalidTopic),
        (BROKER, &own, ErrorCode::None),
        (BROKER, "", ErrorCode::None),
        (BROKER, "8", ErrorCode::InvalidRequest),
        (BROKER, "seven", ErrorCode::InvalidRequest),
        (BROKER_LOGGER, &own, ErrorCode::None),
        (BROKER_LOGGER, "8", ErrorCode::InvalidRequest),
        (GROUP, "g", ErrorCode::None),
        (GROUP, "", ErrorCode::InvalidRequest),
        (CLIENT_METRICS, "m", ErrorCode::None),
        (CLIENT_METRICS, "", ErrorCode::InvalidRequest),
        (1, "t", ErrorCode::InvalidRequest),
        // A repeat is not told again, and one broker has one name.
        (TOPIC, "t", ErrorCode::InvalidRequest),
        (BROKER, "07", ErrorCode::InvalidRequest),
    ];
    let resources: Vec<_> = asked.iter().map(|(of, name, _)| (*of, *name)).collect();
    let response = client.call(4, &ask(&resources)).await;
    let found: Vec<_> = response
        .results
        .iter()
        .map(|r| (r.resource_type, r.resource_name.as_str(), code(r.error_code)))
        .collect();
    assert_eq!(found, asked);
    for result in &response.results {
        assert_eq!(result.error_message.is_some(), result.error_code != 0, "{result:?}");
    }
    let counts = |of: i8, name: &str| {
        let found = response
            .results
            .iter()
            .find(|r| r.resource_type == of && r.resource_name == name);
        found.unwrap().configs.len()
    };
    assert_eq!(
        (counts(GROUP, "g"), counts(CLIENT_METRICS, "m"), counts(BROKER, "")),
        (17, 3, 0)
    );
}

#[tokio::test]
async fn only_what_was_asked_for_is_told() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    client.create("t", 1, &[]).await;
    for version in 1..=4 {
        let mut request = ask(&[(TOPIC, "t")]);
        let keys = ["retention.ms", "no.such.config", "retention.ms"].map(Str::from_static);
        request.resources[0].configuration_keys = Some(keys.to_vec());
        request.include_synonyms = false;
        request.include_documentation = false;
        let response = client.call(version, &request).await;
        let [retention] = &*response.results[0].configs else {
            panic!("{:?}", response.results);
        };
        assert_eq!(
            (retention.name.as_str(), retention.value.as_deref()),
            ("retention.ms", Some("604800000"))
        );
        assert!(retention.synonyms.is_empty());
        assert!(retention.documentation.as_deref().unwrap_or_default().is_empty());
        // No name is every name.
        request.resources[0].configuration_keys = Some(Vec::new());
        let response = client.call(version, &request).await;
        assert_eq!(response.results[0].configs.len(), 33, "version {version}");
    }
}

#[tokio::test]
async fn requests_for_more_resources_than_an_answer_may_hold_are_refused_in_part() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let names: Vec<_> = (0..1_010).map(|index| format!("g{index}")).collect();
    let asked: Vec<_> = names.iter().map(|name| (GROUP, name.as_str())).collect();
    let response = client.call(4, &ask(&asked)).await;
    assert_eq!(response.results.len(), 1_010);
    let told = response.results.iter().filter(|result| result.error_code == 0).count();
    assert_eq!(told, 1_000);
    let last = response.results.last().unwrap();
    assert_eq!(
        (code(last.error_code), last.configs.len()),
        (ErrorCode::InvalidRequest, 0)
    );
}

#[tokio::test]
async fn an_answer_holds_so_many_bytes_and_each_resource_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let own = NODE_ID.to_string();
    let response = client.call(4, &ask(&vec![(BROKER, own.as_str()); 1_000])).await;
    let told = response.results.iter().filter(|result| result.error_code == 0).count();
    assert_eq!((response.results.len(), told), (1_000, 1));
    // Two configs of 30,000 bytes, each told as value and as synonym.
    let long = vec!["10000:1"; 3_750].join(",");
    let large = [
        ("leader.replication.throttled.replicas", long.as_str()),
        ("follower.replication.throttled.replicas", long.as_str()),
    ];
    let names: Vec<_> = (0..400).map(|index| format!("t{index}")).collect();
    for name in &names {
        client.create(name, 1, &large).await;
    }
    let asked: Vec<_> = names.iter().map(|name| (TOPIC, name.as_str())).collect();
    let response = client.call(4, &ask(&asked)).await;
    let told = response
        .results
        .iter()
        .take_while(|result| result.error_code == 0)
        .count();
    assert!((200..300).contains(&told), "{told}");
    for refused in &response.results[told..] {
        assert_eq!(
            (code(refused.error_code), refused.configs.len()),
            (ErrorCode::InvalidRequest, 0)
        );
        let message = refused.error_message.as_deref().unwrap();
        assert!(message.contains("ask for fewer"), "{message}");
    }
}

#[tokio::test]
async fn names_that_nothing_can_have_are_not_looked_up() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let names: Vec<_> = (0..100).map(|index| format!("{index:032000}")).collect();
    let asked: Vec<_> = names.iter().map(|name| (GROUP, name.as_str())).collect();
    let response = client.call(4, &ask(&asked)).await;
    // No configs were ever set for them, and none can be.
    assert!(response.results.iter().all(|result| result.configs.len() == 17));
    let (_, longest) = broker.metadata_reads();
    assert!(longest < 2_000, "{longest}");
}
