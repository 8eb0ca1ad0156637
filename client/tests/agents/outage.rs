//! Agents that are not there: when a client gives up, and what it says then.

use std::time::Duration;

use esker_client::{Client, Error, Fetch, Position, Record, RetryPolicy};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::proxy::Proxy;
use crate::stored::{address_of, quick};

/// An address at which nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn impatient() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        deadline: Duration::from_millis(400),
    }
}

#[tokio::test]
async fn a_wrong_address_says_what_to_look_at() {
    let broker = Broker::start().await;
    let closed = Client::connect(nowhere().await).await.unwrap_err();
    assert!(
        matches!(&closed, Error::Unreachable(_)) && closed.is_retriable(),
        "{closed:?}"
    );
    assert!(closed.to_string().contains("refused"), "{closed}");
    // The port for Kafka clients.
    let kafka = Client::connect(format!("http://{}", broker.kafka)).await.unwrap_err();
    assert!(matches!(&kafka, Error::Unreachable(_)), "{kafka:?}");
    assert!(kafka.to_string().contains("something listens there"), "{kafka}");
    for error in [closed, kafka] {
        assert!(error.to_string().contains("9095"), "{error}");
    }
    // One good address is enough, whichever is tried first.
    for _ in 0..4 {
        let client = quick()
            .address(nowhere().await)
            .address(format!("http://{}", broker.kafka));
        let client = client.address(address_of(&broker)).connect().await.unwrap();
        client.admin().list_topics().await.unwrap();
    }
}

#[tokio::test]
async fn calls_give_up_at_the_deadline() {
    let client = Client::builder()
        .address(nowhere().await)
        .retry(impatient())
        .build()
        .unwrap();
    let began = Instant::now();
    let gave_up = [
        client.admin().list_topics().await.unwrap_err(),
        client.produce("t", [Record::new("x")]).await.unwrap_err(),
        client.producer("t").open().await.unwrap_err(),
        client
            .consumer()
            .subscribe([(("t", 0), Position::Earliest)])
            .await
            .unwrap_err(),
        client.consumer().group("g", ["t"]).join().await.unwrap_err(),
    ];
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for error in gave_up {
        let Error::GaveUp { attempts, last, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(*attempts > 3 && matches!(**last, Error::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("gave up after"), "{error}");
    }
}

#[tokio::test]
async fn an_agent_that_is_away_for_a_while_is_waited_for() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(nowhere().await["http://".len()..].parse().unwrap()).await;
    let client = quick().address(&proxy.address).build().unwrap();
    let calls = async {
        let listed = client.admin().list_topics().await.unwrap();
        assert_eq!(listed.len(), 1);
    };
    let comes = async {
        while proxy.connections() < 5 {
            tokio::task::yield_now().await;
        }
        proxy.lead_to(broker.grpc);
    };
    tokio::join!(calls, comes);
}

#[tokio::test]
async fn what_was_sent_when_time_is_up_has_an_unknown_outcome_and_the_rest_has_not() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let proxy = Proxy::start(broker.grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    let producer = client
        .producer("t")
        .linger(Duration::ZERO)
        .batch_bytes(100)
        .delivery_timeout(Duration::from_millis(500))
        .open()
        .await
        .unwrap();
    producer.send(Record::new("0")).await.unwrap().await.unwrap();
    proxy.hold_up(true);
    let mut deliveries = Vec::new();
    for nth in 1..=8 {
        deliveries.push(producer.send(Record::new(nth.to_string())).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(delivery.await.unwrap_err());
    }
    // Five batches of one record were on their way.
    for error in &outcomes[..5] {
        let Error::Unknown(unknown) = error else {
            panic!("{error:?}");
        };
        assert!(
            matches!(unknown.cause(), Error::GaveUp { .. }) && !error.is_retriable(),
            "{error}"
        );
    }
    for error in &outcomes[5..] {
        assert!(matches!(error, Error::GaveUp { .. }), "{error:?}");
    }
    // It goes on when the network does; and those of known outcome are not there.
    proxy.hold_up(false);
    let stored = producer.send(Record::new("later")).await.unwrap().await.unwrap();
    assert!((1..=6).contains(&stored.offset), "{stored:?}");
    let end = kafka.latest(&topic, 0).await;
    assert!(end <= 7, "{end}");
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_of_unknown_outcome_if_that_matters() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(broker.grpc).await;
    let builder = Client::builder().address(&proxy.address).retry(impatient());
    let client = builder
        .request_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    proxy.hold_up(true);
    let unknown = client.produce("t", [Record::new("x")]).await.unwrap_err();
    assert!(
        matches!(unknown, Error::Unknown(_)) && !unknown.is_retriable(),
        "{unknown:?}"
    );
    let fetch = Fetch::new(("t", 0), Position::Earliest);
    let lost = client.consumer().fetch(fetch).await.unwrap_err();
    assert!(
        matches!(&lost, Error::GaveUp { last, .. } if matches!(**last, Error::Lost { .. })),
        "{lost:?}"
    );
    assert!(lost.is_retriable());
}
