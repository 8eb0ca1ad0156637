//! Idempotent producers: stored once, in order, whatever is repeated, lost or overtaken.

use std::time::Duration;

use esker_kafka::messages::produce_request::ProduceRequest;
use esker_kafka::{ErrorCode, Str};
use esker_model::entry::{Entry, ExpireProducers};
use esker_segment::id::LogIndex;
use tokio::time::Instant;

use crate::batches::{fetched, sequenced};
use crate::broker::Broker;
use crate::client::Client;
use crate::requests::{PRODUCE, Topic, code, init_producer_id, only_produced, produce, produce_all};

/// How long a batch waits for its predecessor where a test expects it to wait in vain.
const SHORT_WAIT: (&str, &str) = ("esker.produce.order.wait", "200ms");
/// The same where the predecessor will come.
const LONG_WAIT: (&str, &str) = ("esker.produce.order.wait", "60s");

/// First sequence and number of records of each batch of a partition.
async fn stored(client: &mut Client, topic: &Topic) -> Vec<(i32, i32)> {
    let batches = fetched(&client.fetch(topic, 0, 0).await);
    batches
        .iter()
        .map(|batch| (batch.header().base_sequence, batch.header().count))
        .collect()
}

#[tokio::test]
async fn trap_06_repeats_of_the_last_five_batches_get_their_first_offset() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    // Two records each: sequences 0, 2, 4, 6, 8, 10.
    for nth in 0..6 {
        assert_eq!(
            client.store(&topic, 0, &sequenced(id, 0, 2 * nth, 2)).await,
            i64::from(2 * nth)
        );
    }
    for nth in (1..6).rev() {
        let base = client.store(&topic, 0, &sequenced(id, 0, 2 * nth, 2)).await;
        assert_eq!(base, i64::from(2 * nth));
    }
    let sixth = client.produce(&topic, 0, &sequenced(id, 0, 0, 2)).await;
    assert_eq!(code(sixth.error_code), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(client.latest(&topic, 0).await, 12, "stored once");
}

#[tokio::test]
async fn trap_06_five_in_flight_and_all_of_them_again() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    for _ in 0..2 {
        for sequence in 0..5 {
            client
                .send(PRODUCE, &produce(&topic, 0, &sequenced(id, 0, sequence, 1)))
                .await;
        }
    }
    let mut bases = Vec::new();
    for _ in 0..10 {
        let answer = only_produced(client.receive::<ProduceRequest>(PRODUCE).await.1);
        assert_eq!(code(answer.error_code), ErrorCode::None);
        bases.push(answer.base_offset);
    }
    assert_eq!(bases, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    assert_eq!(client.latest(&topic, 0).await, 5);
}

#[tokio::test]
async fn windows_of_partitions_are_apart() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 2, &[]).await;
    let id = client.producer_id().await;
    for partition in 0..2 {
        for sequence in 0..3 {
            let base = client.store(&topic, partition, &sequenced(id, 0, sequence, 1)).await;
            assert_eq!(base, i64::from(sequence));
        }
    }
}

#[tokio::test]
async fn trap_07_producer_that_was_forgotten_goes_on() {
    let broker = Broker::with(&[SHORT_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    for sequence in 0..3 {
        client.store(&topic, 0, &sequenced(id, 0, sequence, 1)).await;
    }
    assert_eq!(broker.agent.replica.fold().producer_windows(), 1);
    let everything = LogIndex(broker.agent.replica.fold().index().0 + 1);
    let expiry = Entry::ExpireProducers(ExpireProducers {
        windows_untouched_since: everything,
        floors_untouched_since: everything,
    });
    broker.agent.log.propose(vec![expiry]).await.unwrap();
    assert_eq!(broker.agent.replica.fold().producer_windows(), 0);
    // It was idle, not gone: its next batch has sequence 3.
    assert_eq!(client.store(&topic, 0, &sequenced(id, 0, 3, 1)).await, 3);
    let gap = client.produce(&topic, 0, &sequenced(id, 0, 5, 1)).await;
    assert_eq!(
        code(gap.error_code),
        ErrorCode::OutOfOrderSequenceNumber,
        "order counts again"
    );
}

#[tokio::test]
async fn trap_07_more_producers_than_windows_do_not_break_each_other() {
    let broker = Broker::with(&[("esker.producer.state.max", "4"), SHORT_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(client.producer_id().await);
    }
    for sequence in 0..3 {
        for id in &ids {
            client.store(&topic, 0, &sequenced(*id, 0, sequence, 1)).await;
        }
    }
    assert!(broker.agent.replica.fold().producer_windows() <= 4);
    assert_eq!(client.latest(&topic, 0).await, 36);
}

#[tokio::test]
async fn gap_is_out_of_order_after_the_wait() {
    let broker = Broker::with(&[SHORT_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    client.store(&topic, 0, &sequenced(id, 0, 0, 1)).await;
    let began = Instant::now();
    let gap = client.produce(&topic, 0, &sequenced(id, 0, 2, 1)).await;
    assert_eq!(code(gap.error_code), ErrorCode::OutOfOrderSequenceNumber);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(gap.base_offset, -1);
    assert_eq!(client.store(&topic, 0, &sequenced(id, 0, 1, 1)).await, 1);
    assert_eq!(stored(&mut client, &topic).await, [(0, 1), (1, 1)]);
}

#[tokio::test]
async fn batches_that_overtook_each_other_are_put_in_order() {
    let broker = Broker::with(&[LONG_WAIT]).await;
    let (mut one, mut two) = (broker.connect().await, broker.connect().await);
    let topic = one.create("t", 1, &[]).await;
    let id = one.producer_id().await;
    one.store(&topic, 0, &sequenced(id, 0, 0, 1)).await;
    // Sequence 2 is there first and waits; its connection answers nothing until 1 has come on the other one.
    let early = two.send(PRODUCE, &produce(&topic, 0, &sequenced(id, 0, 2, 1))).await;
    let nothing = tokio::time::timeout(Duration::from_millis(100), two.receive_raw()).await;
    assert!(nothing.is_err(), "it waits");
    assert_eq!(one.store(&topic, 0, &sequenced(id, 0, 1, 1)).await, 1);
    let (answered, response) = two.receive::<ProduceRequest>(PRODUCE).await;
    let late = only_produced(response);
    assert_eq!(
        (answered, code(late.error_code), late.base_offset),
        (early, ErrorCode::None, 2)
    );
    assert_eq!(stored(&mut one, &topic).await, [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn first_batches_that_overtook_each_other_are_put_in_order() {
    let broker = Broker::with(&[LONG_WAIT]).await;
    let (mut one, mut two) = (broker.connect().await, broker.connect().await);
    let topic = one.create("t", 1, &[]).await;
    let id = one.producer_id().await;
    two.send(PRODUCE, &produce(&topic, 0, &sequenced(id, 0, 1, 1))).await;
    let nothing = tokio::time::timeout(Duration::from_millis(100), two.receive_raw()).await;
    assert!(nothing.is_err(), "it waits");
    assert_eq!(one.store(&topic, 0, &sequenced(id, 0, 0, 1)).await, 0);
    let late = only_produced(two.receive::<ProduceRequest>(PRODUCE).await.1);
    assert_eq!((code(late.error_code), late.base_offset), (ErrorCode::None, 1));
}

#[tokio::test]
async fn invented_producer_ids_are_not_waited_for() {
    let broker = Broker::with(&[LONG_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let refused = client.produce(&topic, 0, &sequenced(1 << 40, 0, 5, 1)).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidProducerIdMapping);
}

#[tokio::test]
async fn new_epoch_begins_at_zero_and_fences_the_old_one() {
    let broker = Broker::with(&[SHORT_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    client.store(&topic, 0, &sequenced(id, 0, 0, 3)).await;
    let not_zero = client.produce(&topic, 0, &sequenced(id, 1, 3, 1)).await;
    assert_eq!(code(not_zero.error_code), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(client.store(&topic, 0, &sequenced(id, 1, 0, 1)).await, 3);
    let old = client.produce(&topic, 0, &sequenced(id, 0, 3, 1)).await;
    assert_eq!(code(old.error_code), ErrorCode::InvalidProducerEpoch);
    assert_eq!(
        client.store(&topic, 0, &sequenced(id, 1, 0, 1)).await,
        3,
        "a repeat in the new epoch"
    );
    assert_eq!(client.store(&topic, 0, &sequenced(id, 1, 1, 1)).await, 4);
}

#[tokio::test]
async fn sequences_wrap_around() {
    let broker = Broker::with(&[SHORT_WAIT]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1, &[]).await;
    let id = client.producer_id().await;
    client.store(&topic, 0, &sequenced(id, 0, 0, 1)).await;
    let everything = LogIndex(broker.agent.replica.fold().index().0 + 1);
    let expiry = Entry::ExpireProducers(ExpireProducers {
        windows_untouched_since: everything,
        floors_untouched_since: everything,
    });
    broker.agent.log.propose(vec![expiry]).await.unwrap();
    assert_eq!(client.store(&topic, 0, &sequenced(id, 0, i32::MAX - 1, 3)).await, 1);
    assert_eq!(client.store(&topic, 0, &sequenced(id, 0, 1, 1)).await, 4);
    assert_eq!(
        client.store(&topic, 0, &sequenced(id, 0, i32::MAX - 1, 3)).await,
        1,
        "a repeat"
    );
}

#[tokio::test]
async fn invented_producer_ids_are_refused_and_leave_nothing_behind() {
    // Twenty requests of a thousand ids each: what one leaves behind would be seen a thousand times.
    let broker = Broker::with(&[("esker.max.partitions.per.topic", "1000")]).await;
    let mut client = broker.connect().await;
    let topic = client.create("t", 1_000, &[]).await;
    let known = client.producer_id().await;
    let mut invented = 1 << 40;
    for _ in 0..20 {
        let records = (0..1_000).map(|partition| {
            invented += 1;
            (partition, Some(sequenced(invented, 0, 0, 1).bytes().clone()))
        });
        let response = client.call(PRODUCE, &produce_all(&topic, records)).await;
        let answers = &response.responses[0].partition_responses;
        assert_eq!(answers.len(), 1_000);
        for answer in answers {
            assert_eq!(code(answer.error_code), ErrorCode::InvalidProducerIdMapping);
        }
    }
    {
        let fold = broker.agent.replica.fold();
        assert_eq!((fold.producer_windows(), fold.transactional_producers()), (0, 0));
    }
    assert_eq!(client.store(&topic, 0, &sequenced(known, 0, 0, 1)).await, 0);
}

#[tokio::test]
async fn producer_ids_are_asked_for_in_whole() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for (producer_id, producer_epoch, name) in [(-1, 5, None), (5, -1, None), (-1, -1, Some(""))] {
        let mut request = init_producer_id();
        request.producer_id = producer_id;
        request.producer_epoch = producer_epoch;
        request.transactional_id = name.map(Str::from_static);
        let response = client.call(4, &request).await;
        assert_eq!(code(response.error_code), ErrorCode::InvalidRequest);
        assert_eq!((response.producer_id, response.producer_epoch), (-1, -1));
    }
}
