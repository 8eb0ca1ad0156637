//! What is stored, as a Kafka client of the same agents reads it; clients for tests.

use std::time::Duration;

use esker_client::{Client, ClientBuilder, RetryPolicy};

use crate::batches::{fetched, records_of};
use crate::broker::Broker;
use crate::client::Client as KafkaClient;
use crate::requests::Topic;

/// Keys, and what Kafka's own test vectors (`UtilsTest.testMurmur2`) say of them, as `toPositive` leaves it.
pub(crate) const KEYS: [(&str, u32); 4] = [
    ("21", (-973_932_308_i32).cast_unsigned() & 0x7fff_ffff),
    ("foobar", (-790_332_482_i32).cast_unsigned() & 0x7fff_ffff),
    ("abc", 479_470_107),
    (
        "a-little-bit-long-string",
        (-985_981_536_i32).cast_unsigned() & 0x7fff_ffff,
    ),
];

/// A client whose retries are quick.
pub(crate) fn quick() -> ClientBuilder {
    Client::builder().retry(RetryPolicy {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        deadline: Duration::from_secs(20),
    })
}

/// A client of one agent.
pub(crate) async fn client_of(broker: &Broker) -> Client {
    quick().address(address_of(broker)).connect().await.unwrap()
}

pub(crate) fn address_of(broker: &Broker) -> String {
    format!("http://{}", broker.grpc)
}

/// Every record of a partition, in order.
pub(crate) async fn stored(kafka: &mut KafkaClient, topic: &Topic, partition: i32) -> Vec<(i64, String)> {
    let (mut all, mut next) = (Vec::new(), 0);
    let end = kafka.latest(topic, partition).await;
    while next < end {
        for batch in fetched(&kafka.fetch(topic, partition, next).await) {
            next = batch.header().last_offset() + 1;
            all.extend(records_of(&batch).into_iter().map(|record| {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (record.offset, value)
            }));
        }
    }
    all
}
