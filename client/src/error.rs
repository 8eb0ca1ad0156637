//! Errors, and what each of them says about what happened.
//!
//! Owns: from a gRPC status to an error, advice.
//! Does not own: what is tried again (`retry`).
//!
//! Invariants: an outcome that nobody knows is never told as a failure.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use esker_proto::v1;
use tonic::{Code, ConnectError, Status};

use crate::record::Stored;

/// Kafka's codes of which the client knows more than whether they pass.
pub(crate) mod code {
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i32 = 3;
    pub(crate) const REQUEST_TIMED_OUT: i32 = 7;
    pub(crate) const MESSAGE_TOO_LARGE: i32 = 10;
    pub(crate) const RECORD_LIST_TOO_LARGE: i32 = 18;
    pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: i32 = 45;
    pub(crate) const INVALID_PRODUCER_EPOCH: i32 = 47;
    pub(crate) const INVALID_PRODUCER_ID_MAPPING: i32 = 49;
    pub(crate) const UNKNOWN_PRODUCER_ID: i32 = 59;
    pub(crate) const INVALID_TIMESTAMP: i32 = 32;
    pub(crate) const INVALID_RECORD: i32 = 87;
    pub(crate) const PRODUCER_FENCED: i32 = 90;
}

/// What can go wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No agent could be reached; nothing was sent.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// The connection was lost, or an answer did not come in time. Nothing was changed by that, or it does not matter.
    #[error("lost {address}: {reason}; try again, perhaps at another agent")]
    Lost {
        /// The agent.
        address: String,
        /// What was noticed of it.
        reason: String,
    },
    /// An agent has answered, and said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Nobody knows whether it happened.
    #[error(transparent)]
    Unknown(UnknownOutcome),
    /// What failed again and again until the deadline. It did not happen.
    #[error("gave up after {after:?} and {attempts} attempts: {last}")]
    GaveUp {
        /// Time from the beginning.
        after: Duration,
        /// How often it was tried.
        attempts: u32,
        /// Why the last attempt failed.
        last: Box<Error>,
    },
    /// What was asked for makes no sense; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// The producer was closed.
    #[error("the producer is closed; open another one")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later and does no harm if it is made again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost { .. } => true,
            Self::Refused(refusal) => refusal.retriable,
            Self::GaveUp { last, .. } => last.is_retriable(),
            Self::Unknown(_) | Self::Invalid(_) | Self::Closed => false,
        }
    }

    /// What an agent has said, if one has.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unknown(UnknownOutcome { cause: last }) | Self::GaveUp { last, .. } => last.refusal(),
            Self::Unreachable(_) | Self::Lost { .. } | Self::Invalid(_) | Self::Closed => None,
        }
    }

    /// The number of the error in the Kafka protocol, if it has one.
    #[must_use]
    pub fn kafka_code(&self) -> Option<i32> {
        Some(self.refusal()?.kafka.as_ref()?.code)
    }

    /// Whether this is the error of the Kafka protocol with this name, such as `UNKNOWN_TOPIC_OR_PARTITION`.
    #[must_use]
    pub fn is_kafka(&self, name: &str) -> bool {
        let kafka = self.refusal().and_then(|refusal| refusal.kafka.as_ref());
        kafka.is_some_and(|kafka| kafka.name == name)
    }

    pub(crate) fn lost(address: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Lost {
            address: address.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// The same, of something that may have happened all the same.
    pub(crate) fn or_happened(self) -> Self {
        Self::Unknown(UnknownOutcome { cause: Box::new(self) })
    }

    /// Whether another stream may do better. A topic or a partition that is unknown is looked for twice by the agent.
    pub(crate) fn passes(&self) -> bool {
        self.is_retriable() && self.kafka_code() != Some(code::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// Whether it certainly was not carried out: no agent was reached, or one has said so.
    pub(crate) fn is_certain(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Invalid(_) | Self::Closed => true,
            Self::Refused(_) => self.kafka_code() != Some(code::REQUEST_TIMED_OUT),
            Self::Lost { .. } | Self::Unknown(_) | Self::GaveUp { .. } => false,
        }
    }

    /// What a status of an agent at this address means.
    pub(crate) fn of_status(status: &Status, address: &str) -> Self {
        if let Some(reason) = unreached(status) {
            return Self::Unreachable(Unreachable::one(address, reason));
        }
        let detail = esker_proto::error_detail(status);
        if detail.is_none() && is_of_the_connection(status) {
            return Self::lost(address, innermost(status));
        }
        Self::Refused(Box::new(Refusal::new(status.code(), status.message(), detail)))
    }

    /// Why one of several things did not work.
    pub(crate) fn of_failure(failure: v1::Failure) -> Self {
        let refusal = Refusal::new(Code::FailedPrecondition, &failure.message, failure.detail);
        Self::Refused(Box::new(refusal))
    }
}

/// No agent could be reached.
#[derive(Clone, Debug)]
pub struct Unreachable {
    tried: Vec<(String, String)>,
}

impl Unreachable {
    pub(crate) fn one(address: &str, reason: String) -> Self {
        Self::new(vec![(address.to_owned(), reason)])
    }

    pub(crate) fn new(tried: Vec<(String, String)>) -> Self {
        Self { tried }
    }

    /// Something listens there, but it does not answer as an agent.
    pub(crate) fn mute(address: &str, reason: &str) -> Self {
        Self::one(
            address,
            format!("something listens there that does not answer as an agent does: {reason}"),
        )
    }

    /// Each address that was tried, and why it did not do.
    pub fn tried(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tried
            .iter()
            .map(|(address, reason)| (address.as_str(), reason.as_str()))
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no agent could be reached: ")?;
        for (nth, (address, reason)) in self.tried.iter().enumerate() {
            write!(f, "{}{address} ({reason})", if nth == 0 { "" } else { ", " })?;
        }
        write!(
            f,
            "; check that an agent runs there, and that this is its gRPC port (`esker.grpc`, 9095 unless it is set), not the one for Kafka clients"
        )
    }
}

impl StdError for Unreachable {}

/// Nobody knows whether it happened: it was sent, and no answer came that settles it.
///
/// To do it again may do it twice.
#[derive(Clone, Debug)]
pub struct UnknownOutcome {
    pub(crate) cause: Box<Error>,
}

impl UnknownOutcome {
    /// Why no answer came.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.cause
    }
}

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it may have happened, or not: {}; find out before it is done again",
            self.cause
        )
    }
}

impl StdError for UnknownOutcome {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}

/// What an agent has said.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// What went wrong, and what to do about it.
    pub message: String,
    /// The error of the Kafka protocol, if it is one.
    pub kafka: Option<KafkaError>,
    /// Whether the same call may succeed later.
    pub retriable: bool,
    /// Advice for whoever reads it in a log; empty if there is none beyond the message.
    pub what_to_do: String,
    /// The gRPC status.
    pub status: Code,
    /// Of a [`Client::produce`](crate::Client::produce) that was carried out in part: where each record is that was certainly
    /// stored. Otherwise empty.
    pub stored: Vec<Option<Stored>>,
    /// Of `OFFSET_OUT_OF_RANGE`: the offsets that there are. Otherwise absent.
    pub log: Option<Range<i64>>,
}

/// An error of the Kafka protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaError {
    /// Its number.
    pub code: i32,
    /// Its name, such as `UNKNOWN_TOPIC_OR_PARTITION`.
    pub name: String,
}

impl Refusal {
    fn new(status: Code, message: &str, detail: Option<v1::ErrorDetail>) -> Self {
        let message = message.to_owned();
        let Some(detail) = detail else {
            return Self {
                what_to_do: match status {
                    Code::Unimplemented => {
                        "check that this is the gRPC port of an Esker agent, of this version or a newer one"
                    }
                    Code::Unavailable | Code::ResourceExhausted => "try again in a moment, perhaps at another agent",
                    // Found here, before the message is decoded.
                    Code::OutOfRange => "allow longer messages (`ClientBuilder::message_bytes_max`)",
                    _ => "",
                }
                .to_owned(),
                message,
                kafka: None,
                retriable: matches!(status, Code::Unavailable | Code::ResourceExhausted),
                status,
                stored: Vec::new(),
                log: None,
            };
        };
        let stored = detail.stored.map(Stored::of_each).unwrap_or_default();
        Self {
            message,
            kafka: (detail.kafka_code != 0).then_some(KafkaError {
                code: detail.kafka_code,
                name: detail.kafka_name,
            }),
            retriable: detail.retriable,
            what_to_do: detail.what_to_do,
            status,
            stored,
            log: detail.log.map(|log| log.log_start_offset..log.high_watermark),
        }
    }

    /// Something that an agent would refuse, found before it is sent.
    pub(crate) fn unknown_partition(topic: &str, partition: i32, partitions: i32) -> Self {
        let what_to_do = "check the partition, or give the topic more of them";
        Self {
            message: format!("partition {partition} of {topic:?}: the topic has {partitions}; {what_to_do}"),
            kafka: Some(KafkaError {
                code: code::UNKNOWN_TOPIC_OR_PARTITION,
                name: "UNKNOWN_TOPIC_OR_PARTITION".to_owned(),
            }),
            retriable: false,
            what_to_do: what_to_do.to_owned(),
            status: Code::NotFound,
            stored: Vec::new(),
            log: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Agents put their advice into the message already.
        match self.message.contains(&self.what_to_do) {
            true => write!(f, "{}", self.message),
            false => write!(f, "{}; {}", self.message, self.what_to_do),
        }
    }
}

impl StdError for Refusal {}

/// Why there was no connection to send the call over, if that was it.
fn unreached(status: &Status) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return Some(innermost(error));
        }
        cause = error.source();
    }
    None
}

/// Whether the status was made here, of what happened to the connection, and not by an agent.
fn is_of_the_connection(status: &Status) -> bool {
    status.source().is_some() || matches!(status.code(), Code::Cancelled | Code::Unknown)
}

/// What is at the bottom of an error: what the system said.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32, retriable: bool) -> Error {
        let detail = v1::ErrorDetail {
            kafka_code: code,
            kafka_name: "NAME".to_owned(),
            retriable,
            what_to_do: "do that".to_owned(),
            ..v1::ErrorDetail::default()
        };
        let status = esker_proto::status(Code::Aborted, "no; do that", &detail);
        Error::of_status(&status, "http://a:1")
    }

    #[test]
    fn what_an_agent_says_is_kept() {
        let error = refused(87, false);
        assert_eq!((error.kafka_code(), error.is_retriable()), (Some(87), false));
        assert!(error.is_kafka("NAME"));
        assert_eq!(error.to_string(), "no; do that");
        assert!(refused(6, true).is_retriable());
        assert!(refused(6, true).is_certain());
        assert!(!refused(code::REQUEST_TIMED_OUT, true).is_certain());
    }

    #[test]
    fn what_may_have_happened_is_not_to_be_repeated() {
        let error = Error::lost("a", "cut").or_happened();
        assert!(!error.is_retriable());
        assert!(
            error.to_string().contains("it may have happened, or not: lost a: cut"),
            "{error}"
        );
        assert_eq!(refused(6, true).or_happened().kafka_code(), Some(6));
    }

    #[test]
    fn what_kafka_has_no_code_for_may_pass_or_not() {
        for retriable in [true, false] {
            let detail = v1::ErrorDetail {
                retriable,
                ..v1::ErrorDetail::default()
            };
            let status = esker_proto::status(Code::ResourceExhausted, "too much", &detail);
            let error = Error::of_status(&status, "a");
            assert_eq!((error.kafka_code(), error.is_retriable()), (None, retriable));
            assert!(error.is_certain());
        }
    }

    #[test]
    fn a_status_without_details_is_classed_by_its_code() {
        let going = Error::of_status(&Status::unavailable("this agent is going"), "a");
        assert!(matches!(&going, Error::Refused(_)) && going.is_retriable());
        let other = Error::of_status(&Status::unimplemented(""), "a");
        assert!(!other.is_retriable());
        assert!(other.to_string().contains("gRPC port"), "{other}");
    }
}
