//! Fetch: whole batches, long polls, isolation, sessions, and offsets that are not there.

use std::time::Duration;

use esker_kafka::ErrorCode;
use tokio::time::Instant;

use crate::batches::{batch, fetched, values_of};
use crate::broker::{Broker, LEADER_EPOCH};
use crate::requests::{FETCH, Topic, code, fetch, only_fetched};

#[tokio::test]
async fn every_version_of_fetch_reads() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a", "b"])).await;
    client.store(&topic, 0, &batch(&["c"])).await;
    let wanted = [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
    for version in 4..=18 {
        let response = client.call(version, &fetch(&topic, 0, 0)).await;
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, topic.id);
        } else {
            assert_eq!(response.responses[0].topic, topic.name);
        }
        let data = only_fetched(response);
        assert_eq!(code(data.error_code), ErrorCode::None, "version {version}");
        assert_eq!((data.high_watermark, data.last_stable_offset), (3, 3));
        assert_eq!(data.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(values_of(&data), wanted, "version {version}");
    }
}

#[tokio::test]
async fn trap_13_whole_batch_that_contains_the_offset_is_returned() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["0", "1", "2"])).await;
    client.store(&topic, 0, &batch(&["3", "4", "5"])).await;
    for offset in 0..6 {
        let found = fetched(&client.fetch(&topic, 0, offset).await);
        let base = offset - offset % 3;
        assert_eq!(found[0].header().base_offset, base, "asked for {offset}");
        let batches = if offset < 3 { 2 } else { 1 };
        assert_eq!(found.len(), batches);
    }
    let at_end = client.fetch(&topic, 0, 6).await;
    assert_eq!((at_end.error_code, fetched(&at_end).len()), (0, 0));
}

#[tokio::test]
async fn trap_14_long_poll_answers_at_max_wait() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut request = fetch(&topic, 0, 0);
    request.max_wait_ms = 150;
    for version in [4, 12, 18] {
        let began = Instant::now();
        let data = only_fetched(client.call(version, &request).await);
        let waited = began.elapsed();
        assert_eq!((data.error_code, fetched(&data).len()), (0, 0));
        assert!(waited >= Duration::from_millis(150), "{waited:?}");
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    }
}

#[tokio::test]
async fn trap_14_long_poll_wakes_on_append() {
    let broker = Broker::start().await;
    let (mut reader, mut writer) = (broker.connect().await, broker.connect().await);
    let topic = writer.create("t", 1, &[]).await;
    let mut request = fetch(&topic, 0, 0);
    request.max_wait_ms = 60_000;
    reader.send(FETCH, &request).await;
    let nothing = tokio::time::timeout(Duration::from_millis(50), reader.receive_raw()).await;
    assert!(nothing.is_err(), "it waits");
    writer.store(&topic, 0, &batch(&["a"])).await;
    // The client's patience is far below the minute that it asked for.
    let (_, response) = reader
        .receive::<esker_kafka::messages::fetch_request::FetchRequest>(FETCH)
        .await;
    assert_eq!(values_of(&only_fetched(response)), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn long_poll_does_not_wait_when_there_is_an_error_to_tell() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut request = fetch(&topic, 0, 5);
    request.max_wait_ms = 60_000;
    let data = only_fetched(client.call(FETCH, &request).await);
    assert_eq!(code(data.error_code), ErrorCode::OffsetOutOfRange);
}

#[tokio::test]
async fn long_poll_for_nothing_does_not_wait() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    // The last request of a consumer that closes.
    let mut request = fetch(&topic, 0, 0);
    (request.max_wait_ms, request.session_epoch) = (60_000, -1);
    request.topics.clear();
    for version in 7..=18 {
        let response = client.call(version, &request).await;
        assert_eq!(
            (response.error_code, response.responses.len()),
            (0, 0),
            "version {version}"
        );
    }
}

#[tokio::test]
async fn trap_15_sessions_are_declined() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a"])).await;
    for version in 7..=18 {
        // Epoch 0 asks for a new session; the answer is complete and has none.
        let mut request = fetch(&topic, 0, 0);
        request.session_epoch = 0;
        let response = client.call(version, &request).await;
        assert_eq!(response.session_id, 0, "version {version}");
        assert_eq!(values_of(&only_fetched(response)).len(), 1);
        for (id, epoch) in [(7, 1), (7, i32::MAX), (0, 1), (7, -2)] {
            (request.session_id, request.session_epoch) = (id, epoch);
            let refused = client.call(version, &request).await;
            assert_eq!(
                code(refused.error_code),
                ErrorCode::FetchSessionIdNotFound,
                "{id} {epoch}"
            );
            assert_eq!((refused.session_id, refused.responses.len()), (0, 0));
        }
        // Epoch -1 ends a session, whether or not it was there.
        (request.session_id, request.session_epoch) = (7, -1);
        assert_eq!(client.call(version, &request).await.error_code, 0);
    }
}

#[tokio::test]
async fn trap_17_read_committed_gets_the_last_stable_offset_and_an_aborted_list() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a", "b"])).await;
    for version in 4..=18 {
        for isolation in [0, 1] {
            let mut request = fetch(&topic, 0, 0);
            request.isolation_level = isolation;
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
            assert_eq!(values_of(&data).len(), 2);
            let aborted = data.aborted_transactions.map(|list| list.len());
            assert_eq!(aborted, (isolation == 1).then_some(0), "version {version}");
        }
    }
}

#[tokio::test]
async fn trap_18_out_of_range_tells_where_the_log_starts() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for _ in 0..4 {
        client.store(&topic, 0, &batch(&["a"])).await;
    }
    assert_eq!(client.delete_records(&topic, 0, 2).await.low_watermark, 2);
    for version in 5..=18 {
        for offset in [0, 1, 5, i64::MAX, -1, i64::MIN] {
            let data = only_fetched(client.call(version, &fetch(&topic, 0, offset)).await);
            assert_eq!(code(data.error_code), ErrorCode::OffsetOutOfRange, "{offset}");
            assert_eq!((data.log_start_offset, data.high_watermark), (2, 4));
            assert_eq!(fetched(&data).len(), 0);
        }
    }
    for offset in [2, 3, 4] {
        assert_eq!(client.fetch(&topic, 0, offset).await.error_code, 0, "{offset}");
    }
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_told_apart() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 4..=18 {
        let missing = only_fetched(client.call(version, &fetch(&Topic::missing(), 0, 0)).await);
        let wanted = if version >= 13 {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        assert_eq!(code(missing.error_code), wanted, "version {version}");
        for partition in [1, -1, i32::MAX] {
            let data = only_fetched(client.call(version, &fetch(&topic, partition, 0)).await);
            assert_eq!(code(data.error_code), ErrorCode::UnknownTopicOrPartition);
            assert_eq!(data.partition_index, partition);
        }
    }
}

#[tokio::test]
async fn leader_epochs_are_checked_by_fetch() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    client.store(&topic, 0, &batch(&["a"])).await;
    for version in 9..=18 {
        for (epoch, wanted) in [
            (-1, ErrorCode::None),
            (LEADER_EPOCH, ErrorCode::None),
            (LEADER_EPOCH - 1, ErrorCode::FencedLeaderEpoch),
            (LEADER_EPOCH + 1, ErrorCode::UnknownLeaderEpoch),
        ] {
            let mut request = fetch(&topic, 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let data = only_fetched(client.call(version, &request).await);
            assert_eq!(code(data.error_code), wanted, "epoch {epoch}");
            assert_eq!(fetched(&data).len(), usize::from(wanted == ErrorCode::None));
        }
    }
}
