//! Offsets by time: exact to the record, in every version and with every codec.

use esker_kafka::ErrorCode;
use esker_kafka::messages::list_offsets_response::ListOffsetsPartitionResponse;
use esker_kafka::records::Compression;

use crate::batches::{CODECS, at_times, batch};
use crate::broker::{Broker, EPOCH_MS, LEADER_EPOCH};
use crate::client::Client;
use crate::requests::{LIST_OFFSETS, Topic, code, list_offsets};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

fn place(found: &ListOffsetsPartitionResponse) -> (i64, i64) {
    assert_eq!(code(found.error_code), ErrorCode::None);
    (found.offset, found.timestamp)
}

/// Offset and timestamp of what is found.
async fn at(client: &mut Client, topic: &Topic, timestamp: i64) -> (i64, i64) {
    let found = client
        .list_offset(LIST_OFFSETS, &list_offsets(topic, 0, timestamp))
        .await;
    place(&found)
}

#[tokio::test]
async fn every_version_of_list_offsets_finds() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &at_times(Compression::None, &[100, 200])).await;
    client.store(&topic, 0, &at_times(Compression::None, &[300])).await;
    client.delete_records(&topic, 0, 1).await;
    for version in 1..=11 {
        for (timestamp, wanted) in [(LATEST, (3, -1)), (EARLIEST, (1, -1)), (150, (1, 200)), (0, (1, 200))] {
            let found = client.list_offset(version, &list_offsets(&topic, 0, timestamp)).await;
            assert_eq!(place(&found), wanted, "version {version}, timestamp {timestamp}");
            assert_eq!(found.leader_epoch, if version >= 4 { LEADER_EPOCH } else { -1 });
        }
    }
}

#[tokio::test]
async fn special_timestamps_need_their_version() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client
        .store(&topic, 0, &at_times(Compression::None, &[100, 300, 200]))
        .await;
    for (timestamp, since, wanted) in [
        (LATEST, 1, (3, -1)),
        (EARLIEST, 1, (0, -1)),
        (MAX_TIMESTAMP, 7, (1, 300)),
        (EARLIEST_LOCAL, 8, (0, -1)),
        (LATEST_TIERED, 9, (-1, -1)),
        (EARLIEST_PENDING_UPLOAD, 11, (-1, -1)),
        (-7, 99, (0, 0)),
        (i64::MIN, 99, (0, 0)),
    ] {
        for version in 1..=11 {
            let found = client.list_offset(version, &list_offsets(&topic, 0, timestamp)).await;
            if version >= since {
                assert_eq!(place(&found), wanted, "version {version}, timestamp {timestamp}");
            } else {
                let refused = (code(found.error_code), found.offset, found.timestamp);
                let wanted = (ErrorCode::UnsupportedVersion, -1, -1);
                assert_eq!(refused, wanted, "version {version}, timestamp {timestamp}");
            }
        }
    }
}

#[tokio::test]
async fn trap_19_offset_by_time_comes_with_the_records_own_timestamp() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for codec in CODECS {
        let topic = client.create(&format!("{codec:?}"), 1, &[]).await;
        client.store(&topic, 0, &at_times(codec, &[100, 200, 300])).await;
        client.store(&topic, 0, &at_times(codec, &[250, 400, 350])).await;
        client.store(&topic, 0, &at_times(codec, &[400, 10])).await;
        for (timestamp, wanted) in [
            (0, (0, 100)),
            (100, (0, 100)),
            (101, (1, 200)),
            (300, (2, 300)),
            (301, (4, 400)),
            (400, (4, 400)),
            (401, (-1, -1)),
            (i64::MAX, (-1, -1)),
            (MAX_TIMESTAMP, (4, 400)),
        ] {
            assert_eq!(
                at(&mut client, &topic, timestamp).await,
                wanted,
                "{codec:?}, {timestamp}"
            );
        }
    }
}

#[tokio::test]
async fn trap_19_log_append_time_is_what_is_searched() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for codec in CODECS {
        let config = ("message.timestamp.type", "LogAppendTime");
        let topic = client.create(&format!("{codec:?}"), 1, &[config]).await;
        for nth in 0..3 {
            broker.set_clock(EPOCH_MS + 10 * nth);
            client.store(&topic, 0, &at_times(codec, &[5, 6])).await;
        }
        for (timestamp, wanted) in [
            (0, (0, EPOCH_MS)),
            (EPOCH_MS, (0, EPOCH_MS)),
            (EPOCH_MS + 1, (2, EPOCH_MS + 10)),
            (EPOCH_MS + 20, (4, EPOCH_MS + 20)),
            (EPOCH_MS + 21, (-1, -1)),
            (MAX_TIMESTAMP, (4, EPOCH_MS + 20)),
        ] {
            assert_eq!(
                at(&mut client, &topic, timestamp).await,
                wanted,
                "{codec:?}, {timestamp}"
            );
        }
    }
}

#[tokio::test]
async fn empty_log_has_ends_but_no_times() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for (timestamp, wanted) in [
        (LATEST, (0, -1)),
        (EARLIEST, (0, -1)),
        (MAX_TIMESTAMP, (-1, -1)),
        (0, (-1, -1)),
    ] {
        assert_eq!(at(&mut client, &topic, timestamp).await, wanted, "{timestamp}");
    }
}

#[tokio::test]
async fn records_below_the_log_start_are_not_found() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client
        .store(&topic, 0, &at_times(Compression::Gzip, &[900, 200, 300]))
        .await;
    client.store(&topic, 0, &at_times(Compression::Gzip, &[250, 800])).await;
    // The middle of a batch, whose largest timestamp lies before it.
    client.delete_records(&topic, 0, 1).await;
    for (timestamp, wanted) in [
        (0, (1, 200)),
        (300, (2, 300)),
        (301, (4, 800)),
        (900, (-1, -1)),
        (EARLIEST, (1, -1)),
        (MAX_TIMESTAMP, (4, 800)),
    ] {
        assert_eq!(at(&mut client, &topic, timestamp).await, wanted, "{timestamp}");
    }
    client.delete_records(&topic, 0, -1).await;
    for (timestamp, wanted) in [
        (0, (-1, -1)),
        (MAX_TIMESTAMP, (-1, -1)),
        (EARLIEST, (5, -1)),
        (LATEST, (5, -1)),
    ] {
        assert_eq!(at(&mut client, &topic, timestamp).await, wanted, "{timestamp}");
    }
}

#[tokio::test]
async fn largest_timestamp_is_that_of_a_record_that_is_left() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client
        .store(&topic, 0, &at_times(Compression::None, &[900, 300, 500, 500, 100]))
        .await;
    for (log_start, wanted) in [(0, (0, 900)), (1, (2, 500)), (3, (3, 500)), (4, (4, 100))] {
        client.delete_records(&topic, 0, log_start).await;
        assert_eq!(at(&mut client, &topic, MAX_TIMESTAMP).await, wanted, "{log_start}");
    }
    client.store(&topic, 0, &at_times(Compression::None, &[100])).await;
    assert_eq!(
        at(&mut client, &topic, MAX_TIMESTAMP).await,
        (4, 100),
        "the first of two"
    );
    client.store(&topic, 0, &at_times(Compression::None, &[101])).await;
    assert_eq!(at(&mut client, &topic, MAX_TIMESTAMP).await, (6, 101));
}

#[tokio::test]
async fn trap_20_latest_honours_isolation_and_is_never_ahead_of_what_is_stored() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for stored in 1..=5 {
        client.store(&topic, 0, &batch(&["a"])).await;
        let mut request = list_offsets(&topic, 0, LATEST);
        for version in 2..=11 {
            for isolation in [0, 1] {
                request.isolation_level = isolation;
                let found = client.list_offset(version, &request).await;
                assert_eq!(place(&found), (stored, -1));
            }
        }
        let data = client.fetch(&topic, 0, stored).await;
        assert_eq!((data.last_stable_offset, data.high_watermark), (stored, stored));
    }
}

#[tokio::test]
async fn unknown_partitions_and_leader_epochs_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 1..=11 {
        for (topic, partition) in [(&topic, 1), (&topic, -1), (&Topic::missing(), 0)] {
            let found = client
                .list_offset(version, &list_offsets(topic, partition, LATEST))
                .await;
            assert_eq!(code(found.error_code), ErrorCode::UnknownTopicOrPartition);
            assert_eq!((found.partition_index, found.offset), (partition, -1));
        }
    }
    for version in 4..=11 {
        for (epoch, wanted) in [
            (-1, ErrorCode::None),
            (LEADER_EPOCH, ErrorCode::None),
            (LEADER_EPOCH - 1, ErrorCode::FencedLeaderEpoch),
            (LEADER_EPOCH + 1, ErrorCode::UnknownLeaderEpoch),
        ] {
            let mut request = list_offsets(&topic, 0, LATEST);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            assert_eq!(
                code(client.list_offset(version, &request).await.error_code),
                wanted,
                "{epoch}"
            );
        }
    }
}
