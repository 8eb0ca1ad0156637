//! HTTP/2 frames that no library sends: floods of them, from a peer that reads nothing.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::broker::Broker;
use crate::hostile::{resident, still_serves};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// What a flood sends at most, and what it may get across before the agent has had enough.
const FLOOD_BYTES: usize = 64 << 20;
/// A peer that takes nothing for so long does not read any more.
const STALL: Duration = Duration::from_secs(1);

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A connection of which the peer never reads a byte.
async fn connect(broker: &Broker) -> TcpStream {
    let mut stream = TcpStream::connect(broker.grpc).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends a frame again and again; returns how many bytes the agent took before it stopped reading, or ended the connection.
async fn flood(stream: &mut TcpStream, frame: &[u8]) -> usize {
    let many = frame.repeat(64 * 1024 / frame.len());
    let mut sent = 0;
    while sent < FLOOD_BYTES {
        match tokio::time::timeout(STALL, stream.write(&many)).await {
            Ok(Ok(written)) => sent += written,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    sent
}

#[tokio::test]
async fn frames_that_want_an_answer_are_not_read_when_nobody_reads_the_answers() {
    let broker = Broker::start().await;
    for asking in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let before = resident();
        let mut stream = connect(&broker).await;
        let sent = flood(&mut stream, &asking).await;
        assert!(sent < FLOOD_BYTES, "the agent reads on");
        let more = resident().saturating_sub(before);
        assert!(more < 64 << 20, "{} MiB", more >> 20);
        still_serves(&broker).await;
    }
}

#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let broker = Broker::start().await;
    let before = resident();
    let mut stream = connect(&broker).await;
    // A literal header that is not indexed: its name, and its value of 100 bytes.
    let header = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    stream.write_all(&frame(HEADERS, 0, 1, &header)).await.unwrap();
    let sent = flood(&mut stream, &frame(CONTINUATION, 0, 1, &header.repeat(100))).await;
    assert!(sent < FLOOD_BYTES, "the agent reads on");
    let more = resident().saturating_sub(before);
    assert!(more < 32 << 20, "{} MiB", more >> 20);
    still_serves(&broker).await;
}

#[tokio::test]
async fn headers_that_unpack_to_much_are_refused() {
    let broker = Broker::start().await;
    let before = resident();
    let mut stream = connect(&broker).await;
    // One header of 4,000 bytes that is indexed (62), and then named again and again: a byte each.
    let indexed = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
    let bomb = [indexed, vec![0x80 | 62; 12_000]].concat();
    for call in (1..100).step_by(2) {
        if stream.write_all(&frame(HEADERS, 5, call, &bomb)).await.is_err() {
            break;
        }
    }
    let more = resident().saturating_sub(before);
    assert!(more < 32 << 20, "{} MiB", more >> 20);
    still_serves(&broker).await;
}

#[tokio::test]
async fn data_of_no_call_ends_the_connection() {
    let broker = Broker::start().await;
    let mut stream = connect(&broker).await;
    let sent = flood(&mut stream, &frame(DATA, 0, 9, &[])).await;
    assert!(sent < FLOOD_BYTES, "the agent reads on");
    still_serves(&broker).await;
}
