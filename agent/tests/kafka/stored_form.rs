//! What the broker changes in a batch: `compression.type` and `message.timestamp.type`.

use esker_kafka::records::{BatchBuilder, Codec, Compression, TimestampType};

use crate::batches::{CODECS, at_times, batch, fetched, filled, records_of, values_of};
use crate::broker::{Broker, EPOCH_MS};

/// Kafka's word for a codec as a topic config.
fn config_of(codec: Compression) -> &'static str {
    match codec {
        Compression::None => "uncompressed",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

#[tokio::test]
async fn compression_type_of_the_topic_wins_over_the_producers() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let times = [EPOCH_MS, EPOCH_MS + 7, EPOCH_MS - 3];
    for wanted in CODECS {
        let config = config_of(wanted);
        let topic = client.create(config, 1, &[("compression.type", config)]).await;
        for found in CODECS {
            client.store(&topic, 0, &at_times(found, &times)).await;
        }
        let back = fetched(&client.fetch(&topic, 0, 0).await);
        assert_eq!(back.len(), CODECS.len());
        for (nth, batch) in (0..).zip(&back) {
            assert_eq!(batch.header().compression().unwrap(), wanted);
            let records = records_of(batch);
            let found: Vec<_> = records.iter().map(|record| (record.offset, record.timestamp)).collect();
            assert_eq!(
                found,
                [(3 * nth, times[0]), (3 * nth + 1, times[1]), (3 * nth + 2, times[2])]
            );
            assert_eq!(batch.header().max_timestamp, times[1]);
            assert_eq!(records[1].value.as_deref(), Some(format!("at {}", times[1]).as_bytes()));
        }
    }
}

#[tokio::test]
async fn producer_keeps_its_codec_by_default() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[("compression.type", "producer")]).await;
    for codec in CODECS {
        client.store(&topic, 0, &at_times(codec, &[EPOCH_MS])).await;
    }
    let back = fetched(&client.fetch(&topic, 0, 0).await);
    let found: Vec<_> = back.iter().map(|batch| batch.header().compression().unwrap()).collect();
    assert_eq!(found, CODECS);
}

#[tokio::test]
async fn recompressed_batches_stay_idempotent() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[("compression.type", "zstd")]).await;
    let id = client.producer_id().await;
    let sent = |sequence| {
        let builder = BatchBuilder::new(Codec::from(Compression::Gzip)).producer(id, 0, sequence);
        filled(builder, &["a", "b"])
    };
    assert_eq!(client.store(&topic, 0, &sent(0)).await, 0);
    assert_eq!(client.store(&topic, 0, &sent(2)).await, 2);
    assert_eq!(client.store(&topic, 0, &sent(0)).await, 0, "a repeat");
    let back = fetched(&client.fetch(&topic, 0, 0).await);
    let stamps: Vec<_> = back
        .iter()
        .map(|batch| (batch.header().producer_id, batch.header().base_sequence))
        .collect();
    assert_eq!(stamps, [(id, 0), (id, 2)]);
}

#[tokio::test]
async fn log_append_time_replaces_timestamps_and_is_told() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let config = ("message.timestamp.type", "LogAppendTime");
    let topic = client.create("t", 1, &[config]).await;
    for (nth, codec) in (0..).zip(CODECS) {
        let now = EPOCH_MS + 1_000 * nth;
        broker.set_clock(now);
        let answer = client.produce(&topic, 0, &at_times(codec, &[1, 2, 3])).await;
        assert_eq!((answer.error_code, answer.log_append_time_ms), (0, now));
    }
    let back = fetched(&client.fetch(&topic, 0, 0).await);
    assert_eq!(back.len(), CODECS.len());
    for (nth, batch) in (0..).zip(&back) {
        let header = batch.header();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(header.max_timestamp, EPOCH_MS + 1_000 * nth);
        assert_eq!(records_of(batch).len(), 3);
    }
}

#[tokio::test]
async fn create_time_keeps_timestamps_and_answers_minus_one() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let answer = client
        .produce(&topic, 0, &at_times(Compression::None, &[5, 9, 7]))
        .await;
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, -1));
    let back = fetched(&client.fetch(&topic, 0, 0).await);
    let times: Vec<_> = records_of(&back[0]).iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [5, 9, 7]);
}

#[tokio::test]
async fn both_changes_at_once() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let configs = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "lz4")];
    let topic = client.create("t", 1, &configs).await;
    client.store(&topic, 0, &batch(&["a", "b"])).await;
    let data = client.fetch(&topic, 0, 0).await;
    let header = *fetched(&data)[0].header();
    assert_eq!(header.compression().unwrap(), Compression::Lz4);
    assert_eq!(
        (header.timestamp_type(), header.max_timestamp),
        (TimestampType::LogAppend, EPOCH_MS)
    );
    assert_eq!(values_of(&data), [(0, "a".to_owned()), (1, "b".to_owned())]);
}
