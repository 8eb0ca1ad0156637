//! What goes back to a client.
//!
//! Owns: how much of an answer is handed to HTTP/2 at a time; noticing how a call ends.
//! Does not own: the answer itself.
//!
//! HTTP/2 takes whatever it is given as soon as there is room for one byte, keeps what the client has no room for, and lets go of
//! the body. So answers are handed over in pieces: one that nobody reads stays here, and its call stays open.
//!
//! Invariants: MEM-1.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Code, Status};

use super::limits::{Call, Received};
use super::measured::Measured;

/// As long as a frame that any client takes.
const PIECE_BYTES: usize = 16 * 1024;

/// The body of an answer; the call is open as long as this is there.
pub(super) struct Answer {
    body: Body,
    /// Made, but not handed over yet.
    rest: Bytes,
    measured: Measured,
    _held: (Call, Received),
}

impl Answer {
    /// An answer whose call holds this.
    pub(super) fn of(
        answer: http::Response<Body>,
        held: (Call, Received),
        mut measured: Measured,
    ) -> http::Response<Body> {
        // Without a body, the status is among the headers.
        if let Some(status) = Status::from_header_map(answer.headers()) {
            measured.ended(status.code());
        }
        answer.map(|body| {
            Body::new(Self {
                body,
                rest: Bytes::new(),
                measured,
                _held: held,
            })
        })
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            if let Some(trailers) = frame.trailers_ref() {
                let status = Status::from_header_map(trailers);
                self.measured
                    .ended(status.map_or(Code::Unknown, |status| status.code()));
            }
            match frame.into_data() {
                Ok(bytes) => self.rest = bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(piece);
        self.measured.sent(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use futures::FutureExt;
    use http_body::Body as _;

    use super::*;
    use crate::grpc::limits::Limits;
    use crate::grpc::measured::Method;
    use crate::kafka::budget::ByteBudget;

    struct Made(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Made {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    /// The lengths of the pieces in which an answer comes that ends like this.
    fn pieces(bytes: usize, code: Code) -> Vec<usize> {
        let method = Method::of("/esker.v1.Consumer/Fetch");
        let limits = Limits::new(ByteBudget::new(1));
        let call = limits.enter(Arc::default(), method).unwrap();
        let mut trailers = http::HeaderMap::new();
        Status::new(code, "").add_header(&mut trailers).unwrap();
        let frames = [Frame::data(Bytes::from(vec![7; bytes])), Frame::trailers(trailers)];
        let answer = http::Response::new(Body::new(Made(frames.into())));
        let mut body = Answer::of(answer, (call, Received::default()), Measured::begin(method)).into_body();
        let mut pieces = Vec::new();
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
            match frame.expect("it is all there").unwrap().unwrap().into_data() {
                Ok(piece) => pieces.push(piece.len()),
                Err(_trailers) => return pieces,
            }
        }
    }

    #[test]
    fn answers_are_handed_over_in_pieces_and_their_ends_are_counted() {
        let (recorder, page) = crate::telemetry::recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            assert_eq!(pieces(40_000, Code::Ok), [16_384, 16_384, 7_232]);
            assert_eq!(pieces(1, Code::DataLoss), [1]);
            let _given_up = Measured::begin(Method::of("/esker.v1.Consumer/Fetch"));
        });
        let page = page.render();
        for line in [
            "esker_grpc_calls_total{method=\"Fetch\",code=\"ok\"} 1",
            "esker_grpc_calls_total{method=\"Fetch\",code=\"data_loss\"} 1",
            "esker_grpc_calls_total{method=\"Fetch\",code=\"cancelled\"} 1",
            "esker_grpc_calls_total{method=\"Fetch\",code=\"unknown\"} 0",
            "esker_grpc_open_calls{method=\"Fetch\"} 0",
            "esker_grpc_bytes_total{direction=\"out\"} 40001",
            "esker_grpc_call_seconds_count{method=\"Fetch\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }
}
