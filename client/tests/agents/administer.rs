//! Administration: topics, configs, groups, offsets, the cluster.

use std::time::Duration;

use esker_client::admin::{ConfigChange, ConfigSource, NewTopic, Resource};
use esker_client::{GroupEvent, Position, Record};

use crate::broker::Broker;
use crate::stored::client_of;

#[tokio::test]
async fn topics_come_and_go() {
    let broker = Broker::start().await;
    let admin = client_of(&broker).await.admin();
    let topic = NewTopic::new("t").partitions(2).config("retention.ms", "1000");
    admin.create_topic(topic.clone()).await.unwrap();
    let again = admin.create_topic(topic).await.unwrap_err();
    assert!(again.is_kafka("TOPIC_ALREADY_EXISTS"), "{again}");
    let both = admin
        .create_topics([NewTopic::new("u"), NewTopic::new("no good")])
        .await
        .unwrap();
    assert!(both[0].1.is_ok() && both[1].1.is_err(), "{both:?}");
    let mut listed: Vec<(String, i32)> = admin
        .list_topics()
        .await
        .unwrap()
        .into_iter()
        .map(|topic| (topic.name, topic.partitions))
        .collect();
    listed.sort();
    assert_eq!(listed[0], ("t".to_owned(), 2));
    assert_eq!(listed.len(), 2);
    admin.create_partitions("t", 3).await.unwrap();
    let described = admin.describe_topic("t").await.unwrap();
    assert_eq!((described.partitions.len(), described.id.len()), (3, 16));
    admin.delete_topic("t").await.unwrap();
    let gone = admin.describe_topic("t").await.unwrap_err();
    assert!(gone.is_kafka("UNKNOWN_TOPIC_OR_PARTITION"), "{gone}");
}

#[tokio::test]
async fn configs_are_set_and_set_back() {
    let broker = Broker::start().await;
    let admin = client_of(&broker).await.admin();
    admin.create_topic(NewTopic::new("t")).await.unwrap();
    let topic = Resource::topic("t");
    let value = async || {
        let configs = admin.describe_configs(topic.clone()).await.unwrap();
        let config = configs
            .into_iter()
            .find(|config| config.name == "retention.ms")
            .unwrap();
        (config.value.unwrap(), config.source)
    };
    let (default, _) = value().await;
    let set = [ConfigChange::set("retention.ms", "5000")];
    admin.alter_configs(topic.clone(), set).await.unwrap();
    assert_eq!(value().await, ("5000".to_owned(), ConfigSource::Topic));
    let wrong = admin
        .alter_configs(topic.clone(), [ConfigChange::set("retention.ms", "soon")])
        .await
        .unwrap_err();
    assert!(!wrong.is_retriable(), "{wrong}");
    admin
        .alter_configs(topic.clone(), [ConfigChange::delete("retention.ms")])
        .await
        .unwrap();
    assert_eq!(value().await.0, default);
}

#[tokio::test]
async fn offsets_groups_and_the_cluster_are_seen_and_set() {
    let broker = Broker::start().await;
    let client = client_of(&broker).await;
    let admin = client.admin();
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!((cluster.id.len(), cluster.nodes.len()), (22, 1));
    admin.create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    client.produce("t", ["a", "b", "c"].map(Record::new)).await.unwrap();
    assert_eq!(admin.offset(("t", 0), Position::Latest).await.unwrap(), 3);
    assert_eq!(admin.delete_records(("t", 0), Some(1)).await.unwrap(), 1);
    assert_eq!(admin.offset(("t", 0), Position::Earliest).await.unwrap(), 1);
    let each = admin
        .offsets([(("t", 0), Position::Latest), (("t", 9), Position::Latest)])
        .await
        .unwrap();
    assert!(each[0].1.is_ok() && each[1].1.is_err(), "{each:?}");

    admin.alter_group_offsets("g", [(("t", 0).into(), 2)]).await.unwrap();
    let group = client
        .consumer()
        .group("g", ["t"])
        .session_timeout(Duration::from_secs(6));
    let mut member = group.join().await.unwrap();
    while !matches!(member.next().await.unwrap().unwrap(), GroupEvent::Records(records) if records.records[0].offset == 2)
    {
    }
    let listed = admin.list_groups().await.unwrap();
    assert!(listed.failures.is_empty() && listed.groups[0].group == "g");
    let described = admin.describe_group("g").await.unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Stable", 1));
    assert_eq!(described.members[0].client_id, "esker-client");
    assert_eq!(described.members[0].assignment, [("t", 0).into()]);
    let busy = admin.delete_group("g").await.unwrap_err();
    assert!(busy.is_kafka("NON_EMPTY_GROUP"), "{busy}");
    let busy = admin
        .alter_group_offsets("g", [(("t", 0).into(), 0)])
        .await
        .unwrap_err();
    assert!(busy.refusal().is_some(), "{busy}");
    drop(member);
    while admin.describe_group("g").await.unwrap().state != "Empty" {
        tokio::task::yield_now().await;
    }
    admin.delete_group("g").await.unwrap();
    assert!(admin.group_offsets("g").await.unwrap().is_empty());
}
