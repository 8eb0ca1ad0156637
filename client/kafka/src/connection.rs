//! One connection: requests in order, any number of them in flight.
//!
//! Owns: the socket, correlation ids, frames and their bound, the handshake on versions.
//! Does not own: whom to connect to, repetition (`client`).
//!
//! Invariants: answers come in the order of the requests, as Kafka promises; one that does not ends the connection, and so
//! does one that does not come in time. An answer that nobody waits for any more is read and dropped.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::api_versions_response::ApiVersionsResponse;
use esker_kafka::messages::request_header::RequestHeader;
use esker_kafka::messages::response_header::ResponseHeader;
use esker_kafka::messages::{Message, Request};
use esker_kafka::{ApiKey, DecodeError, ErrorCode, Reader, Str, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::address::HostPort;
use crate::client::Settings;
use crate::error::{Error, Refusal};
use crate::versions::{Versions, spoken};

/// Requests that wait for the socket; who sends more waits with them.
const UNWRITTEN_MAX: usize = 256;
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// How much is made ready to be read at once.
const READ_BYTES: usize = 64 * 1024;

/// A connection to a broker; clones share it, and it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: HostPort,
    client_id: Str,
    correlation: AtomicI32,
    frames: mpsc::Sender<Unwritten>,
    line: Arc<Line>,
    versions: OnceLock<Versions>,
    tasks: [AbortHandle; 2],
}

/// A frame that waits for the socket.
#[derive(Debug)]
struct Unwritten {
    frame: Vec<Bytes>,
    /// Who wants to know that the socket took it: whoever gets no answer.
    flushed: Option<oneshot::Sender<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Who waits for an answer, in order.
#[derive(Debug)]
struct Line {
    address: HostPort,
    state: Mutex<State>,
    /// Tells the writer that it is over, so that nobody waits for room behind a frame that nobody takes.
    over: Notify,
}

#[derive(Debug)]
enum State {
    Open(VecDeque<Waiting>),
    /// It is over, and why.
    Closed(String),
}

#[derive(Debug)]
struct Waiting {
    correlation: i32,
    answer: oneshot::Sender<Bytes>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it for everybody; the first cause counts.
    fn close(&self, cause: String) {
        let mut state = self.state();
        if matches!(*state, State::Open(_)) {
            *state = State::Closed(cause);
            self.over.notify_one();
        }
    }

    fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open(_))
    }

    fn lost(&self) -> Error {
        let cause = match &*self.state() {
            State::Open(_) => "it was given up".to_owned(),
            State::Closed(cause) => cause.clone(),
        };
        Error::Lost {
            address: self.address.clone(),
            cause,
        }
    }

    /// Hands a frame to who waits for it; the cause if it is nobody's.
    fn answer(&self, frame: Bytes) -> Result<(), String> {
        let correlation = frame
            .clone()
            .try_get_i32()
            .map_err(|_| "an answer is too short".to_owned())?;
        let State::Open(waiting) = &mut *self.state() else {
            return Ok(());
        };
        match waiting.pop_front() {
            Some(first) if first.correlation == correlation => {
                // Who asked may have lost patience.
                let _ = first.answer.send(frame);
                Ok(())
            }
            Some(first) => Err(format!("answer {correlation} came instead of {}", first.correlation)),
            None => Err(format!("answer {correlation} came without a request")),
        }
    }
}

impl Connection {
    /// Connects, and agrees on versions.
    ///
    /// # Errors
    /// [`Error::Connect`] if there is no connection, or whatever the handshake fails with.
    pub async fn open(address: &HostPort, settings: &Settings) -> Result<Self, Error> {
        let failed = |cause: String| Error::Connect {
            address: address.clone(),
            cause,
        };
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let stream = match timeout(settings.connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => {
                let waited = settings.connect_timeout.as_millis();
                return Err(failed(format!("no connection within {waited} ms")));
            }
        };
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let connection = Self::over(stream, address, settings);
        match connection.agree(settings.connect_timeout).await {
            Ok(()) => Ok(connection),
            // Nothing was asked of it: somebody else may be.
            Err(Error::Late { after, .. }) => {
                let waited = after.as_millis();
                Err(failed(format!("it is silent: no answer within {waited} ms")))
            }
            Err(other) => Err(other),
        }
    }

    fn over(stream: TcpStream, address: &HostPort, settings: &Settings) -> Self {
        let (read_half, write_half) = stream.into_split();
        let (frames, unwritten) = mpsc::channel(UNWRITTEN_MAX);
        let line = Arc::new(Line {
            address: address.clone(),
            state: Mutex::new(State::Open(VecDeque::new())),
            over: Notify::new(),
        });
        let (reading, writing) = (Arc::clone(&line), Arc::clone(&line));
        let frame_bytes_max = settings.frame_bytes_max;
        let reader = tokio::spawn(async move {
            let cause = read(read_half, &reading, frame_bytes_max).await;
            reading.close(cause);
        });
        let writer = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = writing.over.notified() => {}
                written = write(write_half, unwritten) => {
                    if let Err(error) = written {
                        writing.close(error.to_string());
                    }
                }
            }
        });
        let inner = Inner {
            address: address.clone(),
            client_id: settings.client_id.clone(),
            correlation: AtomicI32::new(0),
            frames,
            line,
            versions: OnceLock::new(),
            tasks: [reader.abort_handle(), writer.abort_handle()],
        };
        Self { inner: Arc::new(inner) }
    }

    /// The other end, as it was said.
    #[must_use]
    pub fn address(&self) -> &HostPort {
        &self.inner.address
    }

    /// False once it is known to be over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.line.is_open()
    }

    /// The version that a request would go out in.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none that both ends know.
    pub fn version(&self, api: ApiKey) -> Result<i16, Error> {
        let versions = self.inner.versions.get();
        versions
            .and_then(|known| known.agreed(api))
            .ok_or_else(|| Error::Unsupported {
                address: self.inner.address.clone(),
                api,
                ours: spoken(api),
                theirs: versions.and_then(|known| known.offered(api)),
            })
    }

    /// Sends a request; when this returns, it has its place in the order. The answer may be awaited later, or never.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Unsupported`], [`Error::Unwritable`]; nothing was sent then.
    pub async fn send<R: Request>(&self, request: &R) -> Result<Reply<R>, Error> {
        let version = self.version(R::KEY)?;
        self.send_as(version, request).await
    }

    /// Sends a request and awaits its answer.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Reply::within`].
    pub async fn call<R: Request>(&self, request: &R, patience: Duration) -> Result<R::Response, Error> {
        self.send(request).await?.within(patience).await
    }

    /// Sends a request that has no answer, as Produce with acks=0; when this returns, it has its place in the order. It is sent
    /// once the socket has taken it, which is what may be awaited.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn post<R: Request>(&self, request: &R) -> Result<Posted<R>, Error> {
        let (_, frame) = self.frame(self.version(R::KEY)?, request)?;
        let line = &self.inner.line;
        let place = self.inner.frames.reserve().await.map_err(|_| line.lost())?;
        if !line.is_open() {
            return Err(line.lost());
        }
        let (told, flushed) = oneshot::channel();
        place.send(Unwritten {
            frame,
            flushed: Some(told),
        });
        Ok(Posted {
            line: Arc::clone(line),
            flushed,
            request: PhantomData,
        })
    }

    async fn send_as<R: Request>(&self, version: i16, request: &R) -> Result<Reply<R>, Error> {
        let (correlation, frame) = self.frame(version, request)?;
        let line = &self.inner.line;
        let place = self.inner.frames.reserve().await.map_err(|_| line.lost())?;
        let (answer, answered) = oneshot::channel();
        match &mut *line.state() {
            State::Open(waiting) => {
                waiting.push_back(Waiting { correlation, answer });
                place.send(Unwritten { frame, flushed: None });
            }
            State::Closed(cause) => {
                return Err(Error::Lost {
                    address: self.inner.address.clone(),
                    cause: cause.clone(),
                });
            }
        }
        Ok(Reply {
            line: Arc::clone(line),
            answered,
            version,
            request: PhantomData,
        })
    }

    fn frame<R: Request>(&self, version: i16, request: &R) -> Result<(i32, Vec<Bytes>), Error> {
        let correlation = self.inner.correlation.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader {
            request_api_key: R::KEY.code(),
            request_api_version: version,
            correlation_id: correlation,
            client_id: Some(self.inner.client_id.clone()),
        };
        let mut writer = Writer::framed();
        let written = header
            .encode(&mut writer, R::KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut writer, version))
            .and_then(|()| writer.finish());
        let frame = written.map_err(|cause| Error::Unwritable { api: R::KEY, cause })?;
        Ok((correlation, frame))
    }

    /// Asks what the broker speaks. One that is older than the question answers in version 0 what it does know (KIP-511).
    async fn agree(&self, patience: Duration) -> Result<(), Error> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("esker"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        };
        let latest = spoken(ApiKey::ApiVersions).last;
        let reply = self.send_as(latest, &request).await?;
        let body = reply.body(patience).await?;
        let refused = body.clone().try_get_i16() == Ok(ErrorCode::UnsupportedVersion as i16);
        let version = if refused { 0 } else { latest };
        let response = decode::<ApiVersionsResponse>(body, version);
        let mut response = response.map_err(|cause| self.inner.line.garbled(ApiKey::ApiVersions, cause))?;
        if refused && response.api_keys.is_empty() {
            let oldest = self.send_as(0, &ApiVersionsRequest::default()).await?;
            response = oldest.within(patience).await?;
        } else if refused {
            response.error_code = 0;
        }
        Refusal::check(ApiKey::ApiVersions, response.error_code, None)?;
        self.inner.versions.get_or_init(|| Versions::of(&response.api_keys));
        Ok(())
    }
}

/// An answer to come.
#[derive(Debug)]
pub struct Reply<R> {
    line: Arc<Line>,
    answered: oneshot::Receiver<Bytes>,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Reply<R> {
    /// The version that the request went out in.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// The answer. If it does not come in time, the connection ends.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Late`], [`Error::Garbled`].
    pub async fn within(self, patience: Duration) -> Result<R::Response, Error> {
        let (version, line) = (self.version, Arc::clone(&self.line));
        let body = self.body(patience).await?;
        decode(body, version).map_err(|cause| line.garbled(R::KEY, cause))
    }

    /// The answer without its header.
    async fn body(self, patience: Duration) -> Result<Bytes, Error> {
        let frame = match timeout(patience, self.answered).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => return Err(self.line.lost()),
            Err(_) => return Err(self.line.late(R::KEY, patience)),
        };
        let mut reader = Reader::new(frame);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(self.version))
            .map_err(|cause| self.line.garbled(R::KEY, cause))?;
        Ok(reader.rest())
    }
}

/// A request without an answer, on its way to the socket.
#[derive(Debug)]
pub struct Posted<R> {
    line: Arc<Line>,
    flushed: oneshot::Receiver<()>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Posted<R> {
    /// Waits until the socket has taken all of it.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Late`].
    pub async fn within(self, patience: Duration) -> Result<(), Error> {
        match timeout(patience, self.flushed).await {
            Ok(flushed) => flushed.map_err(|_| self.line.lost()),
            Err(_) => Err(self.line.late(R::KEY, patience)),
        }
    }
}

impl Line {
    /// Who does not answer is not asked again on this connection: there may be nobody any more.
    fn late(&self, api: ApiKey, after: Duration) -> Error {
        let error = Error::Late {
            address: self.address.clone(),
            api,
            after,
        };
        self.close(error.to_string());
        error
    }

    fn garbled(&self, api: ApiKey, cause: DecodeError) -> Error {
        Error::Garbled {
            address: self.address.clone(),
            api,
            cause,
        }
    }
}

fn decode<M: Message>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// Writes frames until nobody sends any more.
async fn write(half: OwnedWriteHalf, mut unwritten: mpsc::Receiver<Unwritten>) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, half);
    let mut frames = Vec::new();
    let mut flushed = Vec::new();
    while unwritten.recv_many(&mut frames, UNWRITTEN_MAX).await > 0 {
        for next in frames.drain(..) {
            for chunk in next.frame {
                out.write_all(&chunk).await?;
            }
            flushed.extend(next.flushed);
        }
        out.flush().await?;
        for told in flushed.drain(..) {
            // Who posted it may have lost patience.
            let _ = told.send(());
        }
    }
    Ok(())
}

/// Reads answers until the connection ends; returns why it did.
async fn read(mut half: OwnedReadHalf, line: &Line, frame_bytes_max: usize) -> String {
    let mut buffer = BytesMut::new();
    loop {
        while buffer.len() >= 4 {
            let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            let length = match usize::try_from(length) {
                Ok(length) if length <= frame_bytes_max => length,
                _ => return format!("it announces an answer of {length} bytes, and {frame_bytes_max} are the most"),
            };
            if buffer.len() - 4 < length {
                break;
            }
            buffer.advance(4);
            if let Err(cause) = line.answer(buffer.split_to(length).freeze()) {
                return cause;
            }
        }
        // Doubles what is there, so that memory follows what was received and not what was announced.
        buffer.reserve(READ_BYTES.max(buffer.len()));
        match half.read_buf(&mut buffer).await {
            Ok(0) => return "the broker closed it".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}
