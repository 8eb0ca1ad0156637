//! Batches that are not taken, and what the producer is told.

use bytes::Bytes;
use esker_kafka::messages::produce_response::PartitionProduceResponse;
use esker_kafka::records::{Batch, BatchBuilder, BatchError, Codec, Compression};
use esker_kafka::{ApiKey, ErrorCode, Writer};

use crate::batches::{CODECS, at_times, batch, compressed, filled, keyed, tampered, values_of};
use crate::broker::{Broker, EPOCH_MS};
use crate::client::Client;
use crate::requests::{PRODUCE, Topic, code, only_produced, produce_all};

/// Where fields lie in a batch.
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;

async fn produce_bytes(client: &mut Client, topic: &Topic, records: Option<Bytes>) -> PartitionProduceResponse {
    only_produced(client.call(PRODUCE, &produce_all(topic, [(0, records)])).await)
}

async fn is_refused(client: &mut Client, topic: &Topic, records: impl Into<Option<Bytes>>, wanted: ErrorCode) {
    let answer = produce_bytes(client, topic, records.into()).await;
    assert_eq!(code(answer.error_code), wanted, "{:?}", answer.error_message);
    assert_eq!((answer.base_offset, answer.log_append_time_ms), (-1, -1));
    assert!(answer.error_message.is_some());
    assert_eq!(client.latest(topic, 0).await, 0);
}

#[tokio::test]
async fn trap_08_max_message_bytes_of_the_topic_limits_the_batch() {
    let broker = Broker::with(&[("message.max.bytes", "2000")]).await;
    let mut client = broker.connect().await;
    let sized = |bytes: usize| {
        let overhead = batch(&[&"x".repeat(500)]).bytes().len() - 500;
        let batch = batch(&[&"x".repeat(bytes - overhead)]);
        assert_eq!(batch.bytes().len(), bytes);
        batch
    };
    for (name, configs, limit) in [
        ("default", [].as_slice(), 2_000),
        ("smaller", &[("max.message.bytes", "1000")], 1_000),
        ("larger", &[("max.message.bytes", "3000")], 3_000),
    ] {
        let topic = client.create(name, 1, configs).await;
        let above = sized(limit + 1).bytes().clone();
        is_refused(&mut client, &topic, above, ErrorCode::MessageTooLarge).await;
        assert_eq!(client.store(&topic, 0, &sized(limit)).await, 0, "{name}");
    }
}

#[tokio::test]
async fn limit_counts_compressed_bytes() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let packed = compressed(Compression::Zstd, &[&"x".repeat(50_000)]);
    assert_eq!(client.store(&topic, 0, &packed).await, 0);
    // Stored without compression it would be above the limit.
    let configs = [("max.message.bytes", "1000"), ("compression.type", "uncompressed")];
    let topic = client.create("unpacked", 1, &configs).await;
    let packed = packed.bytes().clone();
    is_refused(&mut client, &topic, packed, ErrorCode::MessageTooLarge).await;
}

#[tokio::test]
async fn trap_09_null_keys_are_refused_by_compacted_topics_with_the_whole_batch() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for policy in ["compact", "compact,delete"] {
        for codec in CODECS {
            let name = format!("{}-{codec:?}", policy.replace(',', "-"));
            let topic = client.create(&name, 1, &[("cleanup.policy", policy)]).await;
            let refused = client
                .produce(&topic, 0, &keyed(codec, &[Some("a"), None, Some("b"), None]))
                .await;
            assert_eq!(code(refused.error_code), ErrorCode::InvalidRecord);
            let blamed: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(blamed, [1, 3]);
            assert!(refused.record_errors[0].batch_index_error_message.is_some());
            assert_eq!(client.latest(&topic, 0).await, 0, "nothing of the batch is written");
            assert_eq!(client.store(&topic, 0, &keyed(codec, &[Some("a"), Some("")])).await, 0);
        }
    }
}

#[tokio::test]
async fn timestamps_out_of_range_are_refused_with_the_whole_batch() {
    const HOUR: i64 = 3_600_000;
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let before = ("message.timestamp.before.max.ms", "1000");
    let after = ("message.timestamp.after.max.ms", "2000");
    let limited = client.create("limited", 1, &[before, after]).await;
    let default = client.create("default", 1, &[]).await;
    let stamped = client
        .create(
            "stamped",
            1,
            &[before, after, ("message.timestamp.type", "LogAppendTime")],
        )
        .await;
    for codec in CODECS {
        let now = EPOCH_MS;
        for (topic, times, wanted) in [
            (&limited, [now, now - 1_001, now + 2_000].as_slice(), [1].as_slice()),
            (&limited, &[now - 1_001, now, now + 2_001], &[0, 2]),
            (&limited, &[now, now - 1_000, now + 2_000, now + 2_001], &[3]),
            (&default, &[0, now + HOUR + 1], &[1]),
        ] {
            let refused = client.produce(topic, 0, &at_times(codec, times)).await;
            assert_eq!(
                code(refused.error_code),
                ErrorCode::InvalidTimestamp,
                "{codec:?} {times:?}"
            );
            let blamed: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(blamed, wanted, "{codec:?} {times:?}");
            let text = refused.record_errors[0].batch_index_error_message.as_deref();
            assert!(text.is_some_and(|text| text.contains("is out of range")), "{text:?}");
            assert_eq!(client.latest(topic, 0).await, 0, "nothing of the batch is written");
        }
    }
    let now = EPOCH_MS;
    for (topic, times) in [
        (&limited, [now - 1_000, now + 2_000, -1].as_slice()),
        (&default, &[0, now + HOUR]),
        (&stamped, &[0, now + 2 * HOUR]),
    ] {
        assert_eq!(
            client.store(topic, 0, &at_times(Compression::Gzip, times)).await,
            0,
            "{times:?}"
        );
    }
}

#[tokio::test]
async fn null_keys_are_fine_elsewhere() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[("cleanup.policy", "delete")]).await;
    assert_eq!(
        client.store(&topic, 0, &keyed(Compression::None, &[None, None])).await,
        0
    );
}

#[tokio::test]
async fn damaged_and_forbidden_batches_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let good = batch(&["a", "b"]);
    let c = &mut client;
    let builder = || BatchBuilder::new(Codec::from(Compression::None));
    let two = Bytes::from([&good.bytes()[..], &good.bytes()[..]].concat());
    let short = good.bytes().slice(..good.bytes().len() - 1);
    is_refused(c, &topic, tampered(&good, 70, b"?"), ErrorCode::CorruptMessage).await;
    is_refused(c, &topic, short, ErrorCode::CorruptMessage).await;
    is_refused(c, &topic, good.bytes().slice(..60), ErrorCode::CorruptMessage).await;
    is_refused(c, &topic, tampered(&good, MAGIC_AT, &[1]), ErrorCode::InvalidRecord).await;
    is_refused(c, &topic, two, ErrorCode::InvalidRecord).await;
    is_refused(c, &topic, Bytes::new(), ErrorCode::InvalidRecord).await;
    is_refused(c, &topic, None, ErrorCode::InvalidRecord).await;
    let control = filled(builder().control(), &["a"]);
    is_refused(c, &topic, control.bytes().clone(), ErrorCode::InvalidRecord).await;
    let stamped = filled(builder().log_append_time(5), &["a"]);
    is_refused(c, &topic, stamped.bytes().clone(), ErrorCode::InvalidTimestamp).await;
    let without_sequence = filled(builder().producer(1, 0, -1), &["a"]);
    is_refused(c, &topic, without_sequence.bytes().clone(), ErrorCode::InvalidRecord).await;
    let transactional = filled(builder().producer(1, 0, 0).transactional(), &["a"]);
    is_refused(c, &topic, transactional.bytes().clone(), ErrorCode::InvalidTxnState).await;
    let shifted = filled(builder().base_offset(5), &["a"]);
    is_refused(c, &topic, shifted.bytes().clone(), ErrorCode::InvalidRecord).await;
    let codec_7 = tampered(&good, ATTRIBUTES_AT, &[0, 7]);
    // The CRC covers the attributes and is judged first.
    is_refused(c, &topic, codec_7.clone(), ErrorCode::CorruptMessage).await;
    is_refused(c, &topic, resealed(&codec_7), ErrorCode::UnsupportedCompressionType).await;
    assert_eq!(c.store(&topic, 0, &good).await, 0);
}

/// The same batch with a CRC that is right.
fn resealed(bytes: &Bytes) -> Bytes {
    let batch = Batch::parse(bytes).unwrap();
    let Err(BatchError::Crc { computed, .. }) = batch.verify_crc() else {
        panic!("nothing was changed");
    };
    let mut header = *batch.header();
    header.crc = computed;
    batch.with_header(header).bytes().clone()
}

/// A batch whose header says that it has more records than it has.
fn overcounted(codec: Compression, count: i32) -> Bytes {
    let honest = compressed(codec, &["only one"]);
    let mut header = *honest.header();
    (header.count, header.last_offset_delta) = (count, count - 1);
    resealed(honest.with_header(header).bytes())
}

#[tokio::test]
async fn trap_11_record_counts_are_not_believed_where_records_are_read() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for (name, config, codecs) in [
        ("keys", ("cleanup.policy", "compact"), CODECS.as_slice()),
        (
            "codec",
            ("compression.type", "lz4"),
            &[Compression::None, Compression::Gzip],
        ),
        ("plain", ("cleanup.policy", "delete"), &[Compression::None]),
    ] {
        let topic = client.create(name, 1, &[config]).await;
        for codec in codecs {
            for count in [2, 1_000_000, i32::MAX] {
                let lie = overcounted(*codec, count);
                is_refused(&mut client, &topic, lie, ErrorCode::CorruptMessage).await;
            }
        }
    }
}

#[tokio::test]
async fn trap_11_packed_batches_take_no_more_offsets_than_could_be_unpacked() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    for codec in &CODECS[1..] {
        for count in [10_000_000, i32::MAX] {
            let lie = overcounted(*codec, count);
            is_refused(&mut client, &topic, lie, ErrorCode::CorruptMessage).await;
        }
    }
}

#[tokio::test]
async fn trap_11_lengths_within_records_are_not_believed() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let good = keyed(Compression::None, &[Some("key")]);
    // The body: length, attributes, timestamp and offset deltas, length of the key, key, length of the value, value, headers.
    let (length, key, value, headers) = (61, 65, 69, 71);
    assert_eq!(good.bytes()[key + 1..value], *b"key");
    assert_eq!(good.bytes().len(), headers + 1);
    for (position, lie) in [
        (length, 0x7e),
        (length, 0x01),
        (length, 0x02),
        (length, 0xff),
        (key, 0x7e),
        (key, 0x04),
        (value, 0x7e),
        (value, 0x00),
        (headers, 0x01),
        (headers, 0x02),
        (headers, 0x7e),
    ] {
        let changed = resealed(&tampered(&good, position, &[lie]));
        is_refused(&mut client, &topic, changed, ErrorCode::CorruptMessage).await;
    }
    assert_eq!(client.store(&topic, 0, &good).await, 0);
}

#[tokio::test]
async fn trap_11_counts_in_a_frame_are_not_sizes() {
    let broker = Broker::start().await;
    let mut bystander = broker.connect().await;
    let topic = bystander.create("t", 1, &[]).await;
    for count in [i32::MAX, i32::MAX - 1, 100_000_000] {
        for key in [ApiKey::Produce, ApiKey::Metadata, ApiKey::ListOffsets] {
            let mut client = broker.connect().await;
            let mut writer = Writer::framed();
            writer.i16(key.code());
            writer.i16(4);
            writer.i32(1);
            writer.i16(-1);
            match key {
                ApiKey::Produce => {
                    writer.i16(-1);
                    writer.i16(-1);
                    writer.i32(1_000);
                }
                ApiKey::ListOffsets => {
                    writer.i32(-1);
                    writer.i8(0);
                }
                _ => {}
            }
            writer.i32(count);
            writer.raw(&[0; 64]);
            client.send_raw(&writer.into_bytes().unwrap()).await;
            client.is_closed().await;
        }
    }
    assert_eq!(bystander.store(&topic, 0, &batch(&["undisturbed"])).await, 0);
}

#[tokio::test]
async fn length_field_of_a_batch_cannot_reach_beyond_it() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let good = batch(&["a"]);
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        let answer = produce_bytes(
            &mut client,
            &topic,
            Some(tampered(&good, LENGTH_AT, &length.to_be_bytes())),
        )
        .await;
        let found = code(answer.error_code);
        let refused = matches!(found, ErrorCode::CorruptMessage | ErrorCode::InvalidRecord);
        assert!(refused, "{length}: {found:?}");
    }
    assert_eq!(client.store(&topic, 0, &good).await, 0);
    assert_eq!(values_of(&client.fetch(&topic, 0, 0).await), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn requests_above_socket_request_max_bytes_close_the_connection() {
    let settings = [("socket.request.max.bytes", "10000"), ("message.max.bytes", "5000")];
    let broker = Broker::with(&settings).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let request = produce_all(&topic, [(0, Some(batch(&[&"x".repeat(10_000)]).bytes().clone()))]);
    client.send(PRODUCE, &request).await;
    client.is_closed().await;
    assert_eq!(broker.connect().await.latest(&topic, 0).await, 0);
}
