//! The admin port: which faults are in force, and what happened so far.
//!
//! Owns: `GET`, `PUT` and `DELETE /faults`, `GET /counts`, in JSON.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::faults::Rule;
use crate::{Shared, locked};

const ORDER_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let shared = Arc::clone(&shared);
                        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
                    });
                    // Whoever asked and left is not told.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method().clone(), request.uri().path()) {
        (Method::GET, "/counts") => json(&*locked(&shared.counts)),
        (Method::GET, "/faults") => json(locked(&shared.plan).rules()),
        (Method::DELETE, "/faults") => {
            locked(&shared.plan).set(Vec::new());
            json(&())
        }
        (Method::PUT, "/faults") => {
            let body = match Limited::new(request.into_body(), ORDER_BYTES_MAX).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
            };
            match serde_json::from_slice::<Vec<Rule>>(&body) {
                Ok(rules) => {
                    locked(&shared.plan).set(rules);
                    json(&())
                }
                Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "GET, PUT, DELETE /faults or GET /counts".to_owned(),
        ),
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("plain data has a JSON form");
    Response::new(Full::new(Bytes::from(body)))
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    response
}
