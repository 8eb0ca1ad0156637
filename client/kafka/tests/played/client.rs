//! A client of a cluster that misbehaves.

use std::time::Duration;

use esker_kafka::ApiKey;
use esker_kafka::messages::metadata_request::MetadataRequest;
use esker_kafka_client::{Client, Error, HostPort, Settings, To};

use crate::stage::{agree, answer, heard, listed, settings, stage};

#[tokio::test]
async fn nobody_there_is_told_at_once_with_every_address() {
    let (listener, address) = stage().await;
    drop(listener);
    let error = Client::new(settings(&address)).connection(To::Any).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { tried } if tried.len() == 1 && tried[0].0 == address),
        "{error}"
    );
}

/// Short, and with all the time to try again.
fn hasty(bootstrap: Vec<HostPort>) -> Settings {
    Settings {
        bootstrap,
        connect_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(300),
        ..settings(&HostPort::parse("127.0.0.1:1").unwrap())
    }
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left_for_another() {
    let (first, first_at) = stage().await;
    let (second, second_at) = stage().await;
    let client = Client::new(hasty(vec![first_at.clone(), second_at.clone()]));
    // As a stopped process does: it agrees once, and nothing comes from it any more; the system still takes connections.
    let silent = async {
        let (mut stream, _) = first.accept().await.unwrap();
        agree(&mut stream).await;
        stream
    };
    let (_stream, connection) = tokio::join!(silent, client.connection(To::Any));
    assert_eq!(*connection.unwrap().address(), first_at);
    let alive = async {
        let (mut stream, _) = second.accept().await.unwrap();
        agree(&mut stream).await;
        let header = heard(&mut stream).await;
        assert_eq!(header.request_api_key, ApiKey::Metadata.code());
        let told = listed(&[(1, &second_at)], 1);
        answer::<MetadataRequest>(&mut stream, header.correlation_id, header.request_api_version, &told).await;
        stream
    };
    let (_stream, nodes) = tokio::join!(alive, client.nodes());
    assert_eq!(nodes.unwrap()[0].address, second_at);
}
