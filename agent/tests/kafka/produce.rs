//! Records go in and come out as they were, in every version and with every codec.

use bytes::Bytes;
use esker_kafka::ErrorCode;
use esker_kafka::messages::produce_request::ProduceRequest;
use esker_kafka::records::{BatchBuilder, Codec, Compression, Headers, PATCH_BYTES};

use crate::batches::{CODECS, batch, compressed, fetched, records_of, values_of};
use crate::broker::{Broker, EPOCH_MS, LEADER_EPOCH};
use crate::client::framed;
use crate::requests::{FETCH, Topic, code, fetch_all, only_produced, produce, produce_all};

#[tokio::test]
async fn every_version_of_produce_stores_and_says_where() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut wanted = Vec::new();
    for version in 3..=13 {
        let value = format!("v{version}");
        let base = i64::try_from(wanted.len()).unwrap();
        let request = produce(&topic, 0, &batch(&[&value, "second"]));
        let answer = only_produced(client.call(version, &request).await);
        assert_eq!(code(answer.error_code), ErrorCode::None, "version {version}");
        assert_eq!((answer.base_offset, answer.log_append_time_ms), (base, -1));
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        wanted.push((base, value));
        wanted.push((base + 1, "second".to_owned()));
    }
    assert_eq!(values_of(&client.fetch(&topic, 0, 0).await), wanted);
}

#[tokio::test]
async fn batches_are_kept_byte_for_byte_with_every_codec() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let large = "0123456789".repeat(2_000);
    let sent: Vec<_> = CODECS
        .iter()
        .map(|codec| compressed(*codec, &["a", &large, "b"]))
        .collect();
    for (nth, batch) in (0..).zip(&sent) {
        assert_eq!(client.store(&topic, 0, batch).await, 3 * nth);
    }
    let back = fetched(&client.fetch(&topic, 0, 0).await);
    assert_eq!(back.len(), sent.len());
    for (nth, (back, sent)) in (0..).zip(back.iter().zip(&sent)) {
        assert_eq!(back.bytes()[PATCH_BYTES..], sent.bytes()[PATCH_BYTES..]);
        let header = back.header();
        assert_eq!((header.base_offset, header.leader_epoch), (3 * nth, LEADER_EPOCH));
    }
}

#[tokio::test]
async fn zstd_needs_produce_version_7() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let request = produce(&topic, 0, &compressed(Compression::Zstd, &["a"]));
    let refused = only_produced(client.call(6, &request).await);
    assert_eq!(code(refused.error_code), ErrorCode::UnsupportedCompressionType);
    let stored = only_produced(client.call(7, &request).await);
    assert_eq!((stored.error_code, stored.base_offset), (0, 0));
}

#[tokio::test]
async fn trap_10_headers_keep_their_order_and_duplicates() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let kept = client.create("kept", 1, &[]).await;
    let rewritten = client.create("rewritten", 1, &[("compression.type", "lz4")]).await;
    let headers = [
        ("b", Some("1")),
        ("a", None),
        ("b", Some("2")),
        ("", Some("")),
        ("b", Some("1")),
    ];
    let mut builder = BatchBuilder::new(Codec::from(Compression::Gzip));
    let list: Headers = headers.into_iter().collect();
    builder.append(EPOCH_MS, None, Some(b"v"), &list).unwrap();
    let sent = builder.build().unwrap();
    for topic in [kept, rewritten] {
        client.store(&topic, 0, &sent).await;
        let back = fetched(&client.fetch(&topic, 0, 0).await);
        let found: Vec<_> = records_of(&back[0])[0].headers.iter().collect();
        let wanted: Vec<_> = list.iter().collect();
        assert_eq!(found, wanted, "{}", topic.name);
        assert_eq!(found.len(), 5);
    }
}

#[tokio::test]
async fn partitions_of_one_request_succeed_and_fail_apart() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 3, &[]).await;
    let good = batch(&["a"]);
    let mut damaged = good.bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let records = [
        (2, Some(good.bytes().clone())),
        (1, Some(Bytes::from(damaged))),
        (0, Some(good.bytes().clone())),
        (3, Some(good.bytes().clone())),
        (-1, Some(good.bytes().clone())),
    ];
    for version in [8, 13] {
        let response = client.call(version, &produce_all(&topic, records.clone())).await;
        let answers: Vec<_> = response.responses[0]
            .partition_responses
            .iter()
            .map(|answer| (answer.index, code(answer.error_code)))
            .collect();
        let wanted = [
            (2, ErrorCode::None),
            (1, ErrorCode::CorruptMessage),
            (0, ErrorCode::None),
            (3, ErrorCode::UnknownTopicOrPartition),
            (-1, ErrorCode::UnknownTopicOrPartition),
        ];
        assert_eq!(answers, wanted);
    }
    let request = fetch_all(&topic, &[(0, 0), (1, 0), (2, 0)]);
    let response = client.call(FETCH, &request).await;
    let ends = response.responses[0].partitions.iter().map(|data| data.high_watermark);
    assert_eq!(ends.collect::<Vec<_>>(), [2, 0, 2]);
}

/// In every version, and nothing of them is taken for the next request.
#[tokio::test]
async fn bytes_after_a_produce_request_are_ignored() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for (stored, version) in (0..).zip(3..=13) {
        let request = produce(&topic, 0, &batch(&["x"]));
        let mut frame = framed(version, 7, &request).to_vec();
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
        frame[..4].copy_from_slice(&(length + 3).to_be_bytes());
        frame.extend([0, 1, 0xff]);
        client.send_raw(&frame).await;
        let (id, response) = client.receive::<ProduceRequest>(version).await;
        let produced = only_produced(response);
        assert_eq!(
            (id, produced.error_code, produced.base_offset),
            (7, 0, stored),
            "version {version}"
        );
    }
    assert_eq!(client.latest(&topic, 0).await, 11);
}

#[tokio::test]
async fn several_topics_are_answered_in_their_order() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let (one, two) = (client.create("one", 1, &[]).await, client.create("two", 1, &[]).await);
    let parts = [&two, &Topic::missing(), &one].map(|topic| produce(topic, 0, &batch(&["a"])));
    let request = ProduceRequest {
        topic_data: parts.iter().flat_map(|part| part.topic_data.clone()).collect(),
        ..parts[0].clone()
    };
    let response = client.call(12, &request).await;
    let answers: Vec<_> = response
        .responses
        .iter()
        .map(|topic| {
            (
                topic.name.as_str().to_owned(),
                code(topic.partition_responses[0].error_code),
            )
        })
        .collect();
    let wanted = [
        ("two".to_owned(), ErrorCode::None),
        ("missing".to_owned(), ErrorCode::UnknownTopicOrPartition),
        ("one".to_owned(), ErrorCode::None),
    ];
    assert_eq!(answers, wanted);
}

#[tokio::test]
async fn unknown_topic_is_denied_by_the_name_it_was_asked_by() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let request = produce(&Topic::missing(), 0, &batch(&["a"]));
    for version in 3..=13 {
        let answer = only_produced(client.call(version, &request).await);
        let wanted = if version >= 13 {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        assert_eq!(code(answer.error_code), wanted, "version {version}");
        assert_eq!(answer.base_offset, -1);
    }
}
