//! What the gRPC port says for as long as there is no gRPC: 501, to whoever asks.
//!
//! Owns: a fixed HTTP/1.1 answer. A gRPC client sees a protocol error that carries it, a person with curl reads it.
//! Does not own: gRPC.
//!
//! Invariants: one connection at a time, each for at most `CONNECTION_MAX`; nothing that a peer sends is kept.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ANSWER: &[u8] = b"HTTP/1.1 501 Not Implemented\r\ncontent-type: text/plain\r\ncontent-length: 54\r\n\
    connection: close\r\n\r\ngRPC is not built yet; use the Kafka protocol for now\n";

const CONNECTION_MAX: Duration = Duration::from_secs(2);

/// Answers every connection with 501 until `stop`.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let answer_all = async {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                // Whatever goes wrong is the peer's to notice: there was nothing to lose.
                let _ = tokio::time::timeout(CONNECTION_MAX, answer(stream)).await;
            } else {
                // Out of file descriptors, most likely: not something that an immediate retry mends.
                tokio::time::sleep(CONNECTION_MAX).await;
            }
        }
    };
    stop.run_until_cancelled(answer_all).await;
    Ok(())
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    // The peer speaks first; closing before its bytes are read would reset the connection under the answer.
    let mut request = [0; 1024];
    let _seen = stream.read(&mut request).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_is_told_that_there_is_no_grpc() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, stop.clone()));

        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 501 "), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())), "{text}");

        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
