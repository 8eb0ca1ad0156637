//! One request after the other: take it in, decide what goes wrong, forward it or not, answer or not.
//!
//! Owns: what each fault means on the wire.
//! Does not own: which fault happens (`faults`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, DATE, ETAG, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::faults::{Course, Fault};
use crate::{Shared, locked};

const BODY_BYTES_MAX: usize = 256 << 20;

type Upstream = Client<HttpConnector, Full<Bytes>>;
type Body = BoxBody<Bytes, Cut>;

/// The connection is closed here: hyper does that when a service or a body fails.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on request")
    }
}

impl std::error::Error for Cut {}

/// A whole request, as it is sent on.
#[derive(Clone)]
struct Whole {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let upstream: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                // A connection that this fails for works all the same, slowly.
                let _ = stream.set_nodelay(true);
                let (shared, upstream) = (Arc::clone(&shared), upstream.clone());
                connections.spawn(async move {
                    let service = service_fn(|request| handle(Arc::clone(&shared), upstream.clone(), request));
                    // Cutting connections is what we are here for.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

/// `LIST`, or the method.
fn verb(method: &Method, uri: &Uri) -> String {
    let lists = method == Method::GET && uri.query().is_some_and(|query| query.contains("list-type="));
    if lists { "LIST".to_owned() } else { method.to_string() }
}

async fn handle(shared: Arc<Shared>, upstream: Upstream, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| Cut)?
        .to_bytes();
    let path = parts.uri.path().to_owned();
    let verb = verb(&parts.method, &parts.uri);
    let whole = Whole {
        uri: forwarded_uri(&shared.upstream, &parts.uri)?,
        method: parts.method,
        headers: parts.headers,
        body,
    };
    let course = locked(&shared.plan).draw(&verb, &path);
    count(&shared, &verb, &course);
    tokio::time::sleep(course.delay).await;
    if let Some(answer) = instead(&shared, &upstream, &course, &whole, &path).await? {
        return Ok(plain(answer));
    }
    // In a task of its own: what is done is done to the end even if the client goes away.
    let sent = {
        let whole = whole.clone();
        tokio::spawn(async move { send(&upstream, whole).await })
    };
    let answer = sent.await.map_err(|_| Cut)??;
    if whole.method == Method::PUT && answer.status.is_success() {
        locked(&shared.written).insert(path);
    }
    afterwards(&course, &whole, answer)
}

fn count(shared: &Shared, verb: &str, course: &Course) {
    let mut counts = locked(&shared.counts);
    *counts.requests.entry(verb.to_owned()).or_default() += 1;
    for fault in &course.faults {
        let name = format!("{fault:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        *counts.faults.entry(name).or_default() += 1;
    }
}

/// What is done instead of forwarding, if a fault says so.
async fn instead(
    shared: &Shared,
    upstream: &Upstream,
    course: &Course,
    whole: &Whole,
    path: &str,
) -> Result<Option<Answer>, Cut> {
    for fault in &course.faults {
        match *fault {
            Fault::ErrorBefore { status } => return Ok(Some(error(status))),
            Fault::Reset => return Err(Cut),
            Fault::Hang => std::future::pending().await,
            Fault::Late { millis } => {
                let (upstream, whole) = (upstream.clone(), whole.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    // Nobody waits for the answer.
                    let _ = send(&upstream, whole).await;
                });
                return Err(Cut);
            }
            Fault::Pretend => return Ok(Some(pretended(&whole.method))),
            Fault::TooLarge { bytes } if u64::try_from(whole.body.len()).is_ok_and(|length| length > bytes) => {
                return Ok(Some(error(413)));
            }
            Fault::RefuseOverwrite if whole.method == Method::PUT && locked(&shared.written).contains(path) => {
                return Ok(Some(error(409)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// What becomes of the server's answer.
fn afterwards(course: &Course, whole: &Whole, mut answer: Answer) -> Result<Response<Body>, Cut> {
    let mut truncated = false;
    for fault in &course.faults {
        match *fault {
            Fault::ErrorAfter { status } => return Ok(plain(error(status))),
            Fault::LostAnswer => return Err(Cut),
            Fault::Truncate => truncated = true,
            Fault::Corrupt => corrupt(&mut answer),
            Fault::EmptyList if verb(&whole.method, &whole.uri) == "LIST" => empty_list(&mut answer),
            Fault::Clock { seconds } => shift_clock(&mut answer, seconds),
            _ => {}
        }
    }
    // An answer to HEAD has a length and no body.
    if truncated && !answer.body.is_empty() {
        return Ok(half(answer));
    }
    Ok(plain(answer))
}

fn forwarded_uri(upstream: &str, uri: &Uri) -> Result<Uri, Cut> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("http://{upstream}{path}").parse().map_err(|_| Cut)
}

/// Sends a request on. No answer from the server is no answer for the client.
async fn send(upstream: &Upstream, whole: Whole) -> Result<Answer, Cut> {
    let mut request = Request::new(Full::new(whole.body));
    *request.method_mut() = whole.method;
    *request.uri_mut() = whole.uri;
    // With its `Host`: it is part of what was signed.
    *request.headers_mut() = whole.headers;
    let (parts, body) = upstream.request(request).await.map_err(|_| Cut)?.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| Cut)?
        .to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

fn plain(answer: Answer) -> Response<Body> {
    respond(
        answer.status,
        answer.headers,
        Full::new(answer.body).map_err(|never| match never {}).boxed(),
    )
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Says how long the body is, sends half of it and cuts.
fn half(mut answer: Answer) -> Response<Body> {
    let whole = answer.body.len();
    answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole));
    let first = answer.body.slice(..whole / 2);
    // The pause lets the first half leave before the connection is closed.
    let cut = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(Cut)
    };
    let parts = stream::once(async { Ok(Frame::data(first)) }).chain(stream::once(cut));
    respond(answer.status, answer.headers, BoxBody::new(StreamBody::new(parts)))
}

fn error(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = if status == StatusCode::SERVICE_UNAVAILABLE {
        "SlowDown"
    } else {
        "InternalError"
    };
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on request</Message></Error>");
    Answer {
        status,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
    }
}

/// What a store says that has done it.
fn pretended(method: &Method) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, HeaderValue::from_static("\"d41d8cd98f00b204e9800998ecf8427e\""));
    let status = if method == Method::DELETE {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::OK
    };
    Answer {
        status,
        headers,
        body: Bytes::new(),
    }
}

fn corrupt(answer: &mut Answer) {
    let mut bytes = BytesMut::from(&answer.body[..]);
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    answer.body = bytes.freeze();
}

/// Takes every `<Contents>` out.
fn empty_list(answer: &mut Answer) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("<Contents>") {
        kept.push_str(before);
        rest = after.split_once("</Contents>").map_or("", |(_, rest)| rest);
    }
    kept.push_str(rest);
    answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.len()));
    answer.body = Bytes::from(kept);
}

#[expect(clippy::disallowed_methods, reason = "it pretends to be the clock of a real server")]
fn shift_clock(answer: &mut Answer, seconds: i64) {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let shifted = if seconds < 0 { now - by } else { now + by };
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(shifted)) {
        answer.headers.insert(DATE, date);
    }
}
