//! The HTTP listener: is it alive, is it ready, what has it counted.
//!
//! Owns: `/livez`, `/readyz`, `/metrics`.
//! Does not own: when the process is ready (whoever holds the `Readiness`), the metrics themselves (`telemetry`).
//!
//! Invariants: at most `CONNECTIONS_MAX` connections; `/readyz` is 200 only between `ready` and `draining`, and while nothing is wrong.

mod readiness;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use readiness::{Readiness, Stage};

use crate::telemetry::MetricsPage;

/// Probes and one or two collectors; whoever wants more waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// What the routes show.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Whether to send traffic here.
    pub readiness: Readiness,
    /// What has been counted.
    pub metrics: MetricsPage,
}

/// Serves the pages until `stop`, then finishes what it is answering.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> io::Result<()> {
    let bounded = Bounded {
        listener,
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    axum::serve(bounded, router(pages))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "no such page; there are /livez, /readyz and /metrics\n",
            )
        })
        .with_state(pages)
}

async fn readyz(State(pages): State<Pages>) -> Response {
    match pages.readiness.stage() {
        Stage::Ready => match pages.readiness.troubles() {
            none if none.is_empty() => "ready\n".into_response(),
            troubles => (StatusCode::SERVICE_UNAVAILABLE, troubles).into_response(),
        },
        stage @ (Stage::Starting { .. } | Stage::Draining) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{stage}\n")).into_response()
        }
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (text, pages.metrics.render()).into_response()
}

/// A listener that accepts only while it has a permit for the connection.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Permitted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Permitted, SocketAddr) {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.expect("nobody closes the semaphore");
        // Axum's own listener waits out errors such as `too many open files`.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (
            Permitted {
                stream,
                _permit: permit,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its permit back when it ends.
struct Permitted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Permitted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Permitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
