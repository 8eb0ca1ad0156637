//! `OffsetForLeaderEpoch`: how a consumer finds out that its position is still right.

use esker_kafka::ErrorCode;
use esker_kafka::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use esker_kafka::messages::offset_for_leader_epoch_response::EpochEndOffset;

use crate::batches::batch;
use crate::broker::{Broker, LEADER_EPOCH};
use crate::client::Client;
use crate::requests::{Topic, code};

async fn epoch_end(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    asked: OffsetForLeaderPartition,
) -> EpochEndOffset {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: topic.name.clone(),
            partitions: vec![asked],
        }],
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    let [answered] = <[_; 1]>::try_from(response.topics).unwrap();
    assert_eq!(answered.topic, topic.name);
    let [partition] = <[_; 1]>::try_from(answered.partitions).unwrap();
    partition
}

fn asked(partition: i32, current: i32, epoch: i32) -> OffsetForLeaderPartition {
    OffsetForLeaderPartition {
        partition,
        current_leader_epoch: current,
        leader_epoch: epoch,
    }
}

#[tokio::test]
async fn current_epoch_ends_at_the_high_watermark() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a", "b", "c"])).await;
    for version in 2..=4 {
        for current in [-1, LEADER_EPOCH] {
            let found = epoch_end(&mut client, version, &topic, asked(0, current, LEADER_EPOCH)).await;
            assert_eq!(
                (found.error_code, found.leader_epoch, found.end_offset),
                (0, LEADER_EPOCH, 3)
            );
        }
    }
}

#[tokio::test]
async fn epoch_that_never_was_has_no_end() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a"])).await;
    for version in 2..=4 {
        for epoch in [LEADER_EPOCH + 1, i32::MAX, -1] {
            let found = epoch_end(&mut client, version, &topic, asked(0, -1, epoch)).await;
            assert_eq!(
                (found.error_code, found.leader_epoch, found.end_offset),
                (0, -1, -1),
                "{epoch}"
            );
        }
    }
}

#[tokio::test]
async fn believed_epochs_and_partitions_are_checked() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 2..=4 {
        for (topic, partition, current, wanted) in [
            (&topic, 0, LEADER_EPOCH - 1, ErrorCode::FencedLeaderEpoch),
            (&topic, 0, LEADER_EPOCH + 1, ErrorCode::UnknownLeaderEpoch),
            (&topic, 1, -1, ErrorCode::UnknownTopicOrPartition),
            (&topic, -1, -1, ErrorCode::UnknownTopicOrPartition),
            (&Topic::missing(), 0, -1, ErrorCode::UnknownTopicOrPartition),
        ] {
            let found = epoch_end(&mut client, version, topic, asked(partition, current, LEADER_EPOCH)).await;
            assert_eq!(code(found.error_code), wanted);
            assert_eq!(
                (found.partition, found.leader_epoch, found.end_offset),
                (partition, -1, -1)
            );
        }
    }
}
