//! The pages as a probe and a collector see them, over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

async fn served() -> Served {
    let (_, metrics) = crate::telemetry::recorder().unwrap();
    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = Pages {
        readiness: readiness.clone(),
        metrics,
    };
    let serving = tokio::spawn(serve(listener, pages, stop.clone()));
    Served {
        address,
        readiness,
        stop,
        serving,
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: esker\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn ready_only_between_start_and_drain() {
    let served = served().await;
    served.readiness.starting("opening the data directory");
    let answer = get(served.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("not ready: opening the data directory\n"), "{answer}");
    assert!(get(served.address, "/livez").await.starts_with("HTTP/1.1 200 "));

    served.readiness.ready();
    assert!(get(served.address, "/readyz").await.starts_with("HTTP/1.1 200 "));

    served.readiness.trouble("bucket", Some("no answer in time".to_owned()));
    let answer = get(served.address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: bucket: no answer in time\n"),
        "{answer}"
    );
    served.readiness.trouble("bucket", None);
    assert!(get(served.address, "/readyz").await.starts_with("HTTP/1.1 200 "));

    served.readiness.draining();
    served.readiness.ready();
    let answer = get(served.address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: draining\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let served = served().await;
    let answer = get(served.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\nesker_fold_index 0\n"), "{answer}");
}

#[tokio::test]
async fn an_unknown_page_names_the_known_ones() {
    let served = served().await;
    let answer = get(served.address, "/status").await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("/readyz"),
        "{answer}"
    );
}

#[tokio::test]
async fn connections_are_bounded_and_a_closed_one_makes_room() {
    let served = served().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // Answered, hence accepted; kept alive, hence still holding its permit.
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: esker\r\n\r\n")
            .await
            .unwrap();
        assert!(stream.read(&mut [0; 256]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut waiting = tokio::spawn(get(served.address, "/livez"));
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "one connection too many was served");
    held.pop();
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn stopping_ends_the_listener() {
    let served = served().await;
    served.stop.cancel();
    served.serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
