//! Kafka's error codes as gRPC clients are told them.
//!
//! Owns: the class of each code, what to do about it.
//! Does not own: the frame in which details travel (`esker_proto`).

use std::borrow::Cow;
use std::fmt::Display;

use esker_kafka::ErrorCode;
use esker_kafka::messages::fetch_response::PartitionData;
use esker_model::entry::GROUP_ID_BYTES_MAX;
use esker_proto::v1::{ErrorDetail, Failure, LogRange, StoredRecords};
use tonic::{Code, Status};

use crate::kafka::budget::NoBudget;

/// No topic has a longer name.
const NAME_BYTES_MAX: usize = 249;
/// Words of a refusal that are not the agent's own: they travel in trailers, which clients limit to 8 KiB or so.
const WORDS_BYTES_MAX: usize = 1_024;

/// A Kafka error as a status; `what` was refused, `message` is the handler's own.
pub(super) fn refusal(code: ErrorCode, what: &str, message: Option<&str>) -> Status {
    Refused::new(code, what).said(message).status()
}

/// A Kafka error that is being put into words.
pub(super) struct Refused<'a> {
    code: ErrorCode,
    what: &'a str,
    message: Option<&'a str>,
    advice: Cow<'static, str>,
    retriable: bool,
    stored: Option<StoredRecords>,
    log: Option<LogRange>,
}

impl<'a> Refused<'a> {
    /// `what` was refused.
    pub(super) fn new(code: ErrorCode, what: &'a str) -> Self {
        Self {
            code,
            what,
            message: None,
            advice: Cow::Borrowed(what_to_do(code)),
            retriable: is_retriable(code),
            stored: None,
            log: None,
        }
    }

    /// What the handler says of it.
    pub(super) fn said(self, message: Option<&'a str>) -> Self {
        Self { message, ..self }
    }

    /// What to do about it, where that is something else than usual.
    pub(super) fn advised(self, advice: impl Into<Cow<'static, str>>) -> Self {
        let advice = advice.into();
        Self { advice, ..self }
    }

    /// Whether the same call may succeed later, where that is something else than usual.
    pub(super) fn retriable(self, retriable: bool) -> Self {
        Self { retriable, ..self }
    }

    /// What was carried out all the same.
    pub(super) fn stored(self, stored: Option<StoredRecords>) -> Self {
        Self { stored, ..self }
    }

    /// Which offsets there are.
    pub(super) fn log(self, log: LogRange) -> Self {
        Self { log: Some(log), ..self }
    }

    pub(super) fn status(self) -> Status {
        let Self { code, what, .. } = self;
        let (what, advice) = (cut(what), self.advice);
        let message = self
            .message
            .map(|message| format!(": {}", cut(message)))
            .unwrap_or_default();
        let text = format!("{what}: {code}{message}; {advice}");
        let detail = ErrorDetail {
            kafka_code: i32::from(code.code()),
            kafka_name: code.name().to_owned(),
            retriable: self.retriable,
            what_to_do: advice.into_owned(),
            stored: self.stored,
            log: self.log,
        };
        esker_proto::status(class(code), text, &detail)
    }
}

/// Of a batch of a stream, for which the stream ends; if it passes, nobody knows what is stored.
pub(super) fn batch_refusal(code: ErrorCode, passes: bool, what: &str, message: Option<&str>) -> Status {
    let advice = if passes {
        "resume the session with all batches that were not acknowledged, unchanged; in another one they may be stored twice".to_owned()
    } else {
        format!(
            "{}; never change a batch within its session: resume it as it is when the cause is gone, or send what was not stored in \
             a new session",
            what_to_do(code)
        )
    };
    let refused = Refused::new(code, what).said(message);
    refused.advised(advice).retriable(passes).status()
}

/// Of a partition that the topic did not have when the session began.
pub(super) fn outside_session(what: &str, partitions: i32) -> Status {
    let why = format!("the topic had {partitions} partitions when the session began, and it keeps to those");
    Refused::new(ErrorCode::UnknownTopicOrPartition, what)
        .said(Some(&why))
        .advised("check the partition; if the topic has more of them by now, send the record in a new session")
        .retriable(false)
        .status()
}

/// Of an offset outside the log.
pub(super) fn outside(what: &str, data: &PartitionData) -> Status {
    let log = LogRange {
        log_start_offset: data.log_start_offset,
        high_watermark: data.high_watermark,
    };
    let range = format!("there are {} to {}", log.log_start_offset, log.high_watermark);
    Refused::new(ErrorCode::OffsetOutOfRange, what)
        .said(Some(&range))
        .log(log)
        .status()
}

/// The error of a number on the wire, or nothing.
pub(super) fn check(code: i16, what: &str, message: Option<&str>) -> Result<(), Status> {
    match error_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(refusal(code, what, message)),
    }
}

/// The same for one of several things.
pub(super) fn failure(code: i16, what: &str, message: Option<&str>) -> Option<Failure> {
    check(code, what, message).err().map(|status| failure_of(&status))
}

/// A status as the failure of one of several things.
pub(super) fn failure_of(status: &Status) -> Failure {
    Failure {
        message: status.message().to_owned(),
        detail: esker_proto::error_detail(status),
    }
}

/// The error with this number; handlers know no others.
pub(super) fn error_code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Whether the same call may succeed later.
pub(super) fn is_retriable(code: ErrorCode) -> bool {
    code.is_retriable() || code == ErrorCode::RebalanceInProgress
}

/// A bug: something that handlers never do.
pub(super) fn internal(what: &str, cause: &impl Display) -> Status {
    tracing::error!(what, %cause, "a request of gRPC could not be passed on");
    let cause = cause.to_string();
    Status::internal(format!("{}: {}; this is a bug of the agent", cut(what), cut(&cause)))
}

/// Of a limit of the agent's own; `passes` if there may be room in a moment.
pub(super) fn exhausted(what: &str, advice: &str, passes: bool) -> Status {
    let detail = ErrorDetail {
        retriable: passes,
        what_to_do: advice.to_owned(),
        ..ErrorDetail::default()
    };
    esker_proto::status(Code::ResourceExhausted, format!("{what}; {advice}"), &detail)
}

/// Of the budget of all messages.
pub(super) fn no_budget(cause: &NoBudget) -> Status {
    exhausted(
        &cause.to_string(),
        "try again in a moment, perhaps at another agent",
        true,
    )
}

/// What the request lacks.
pub(super) fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(cut(&what.into()))
}

/// Refuses names that are longer than any topic's.
pub(super) fn check_name(name: &str) -> Result<(), Status> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(refusal(
        ErrorCode::InvalidTopic,
        &format!("topic {:?}…", start_of(name, NAME_BYTES_MAX)),
        None,
    ))
}

/// Refuses ids that are longer than any group's.
pub(super) fn check_group(id: &str) -> Result<(), Status> {
    if id.len() <= GROUP_ID_BYTES_MAX {
        return Ok(());
    }
    let what = format!("group {:?}…", start_of(id, NAME_BYTES_MAX));
    Err(refusal(ErrorCode::InvalidGroupId, &what, None))
}

fn cut(words: &str) -> &str {
    start_of(words, WORDS_BYTES_MAX)
}

fn start_of(words: &str, bytes: usize) -> &str {
    &words[..words.floor_char_boundary(bytes)]
}

fn class(code: ErrorCode) -> Code {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::GroupIdNotFound
        | ErrorCode::ResourceNotFound => Code::NotFound,
        ErrorCode::OffsetOutOfRange => Code::OutOfRange,
        ErrorCode::TopicAlreadyExists => Code::AlreadyExists,
        ErrorCode::RequestTimedOut => Code::DeadlineExceeded,
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => Code::PermissionDenied,
        ErrorCode::SaslAuthenticationFailed => Code::Unauthenticated,
        ErrorCode::CorruptMessage
        | ErrorCode::InvalidTopic
        | ErrorCode::InvalidPartitions
        | ErrorCode::InvalidReplicationFactor
        | ErrorCode::InvalidReplicaAssignment
        | ErrorCode::InvalidConfig
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidRecord
        | ErrorCode::InvalidTimestamp
        | ErrorCode::InvalidGroupId
        | ErrorCode::InvalidSessionTimeout
        | ErrorCode::InvalidCommitOffsetSize
        | ErrorCode::OffsetMetadataTooLarge
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge => Code::InvalidArgument,
        ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId
        | ErrorCode::RebalanceInProgress
        | ErrorCode::FencedInstanceId
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::ProducerFenced => Code::Aborted,
        ErrorCode::GroupMaxSizeReached | ErrorCode::ThrottlingQuotaExceeded | ErrorCode::PolicyViolation => {
            Code::ResourceExhausted
        }
        ErrorCode::UnsupportedVersion => Code::Unimplemented,
        ErrorCode::UnknownServerError => Code::Internal,
        code if code.is_retriable() => Code::Unavailable,
        _ => Code::FailedPrecondition,
    }
}

fn what_to_do(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "check the name and the partition, or create the topic"
        }
        ErrorCode::OffsetOutOfRange => "start from an offset within the log, or from the earliest or latest one",
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "send fewer records at once, or raise max.message.bytes of the topic"
        }
        ErrorCode::TopicAlreadyExists => "use the topic that exists, or another name",
        ErrorCode::InvalidTopic => "use another name: letters, digits, dots, underscores and hyphens, at most 249",
        ErrorCode::OutOfOrderSequenceNumber => {
            "a batch before this one is missing: resume with all batches that were not acknowledged, in order"
        }
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => {
            "open a stream without a session to get a new one"
        }
        ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
            "the member has lost its partitions: go on as the member of the next Assigned, or subscribe again if the stream has ended"
        }
        ErrorCode::RebalanceInProgress => "wait for the new assignment and go on from there",
        ErrorCode::GroupMaxSizeReached => "run fewer members, or raise group.max.size",
        ErrorCode::InvalidSessionTimeout => {
            "use a session time-out between group.min.session.timeout.ms and group.max.session.timeout.ms"
        }
        ErrorCode::InvalidGroupId => "use another id: not empty, and at most 32767 bytes",
        ErrorCode::GroupIdNotFound => "check the id; a group is there when it has had members or offsets",
        ErrorCode::NonEmptyGroup => "end the members of the group first",
        ErrorCode::RequestTimedOut => {
            "it may or may not have happened: find out, or repeat it only if that does no harm"
        }
        ErrorCode::UnknownServerError => "look at the agent's log",
        code if is_retriable(code) => "try again in a moment, perhaps at another agent",
        _ => "do not repeat the call as it is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_fit_into_an_error() {
        assert!(check_name(&"x".repeat(249)).is_ok());
        let long = "é".repeat(100_000);
        let refused = [
            check_name(&long).unwrap_err(),
            check_group(&long).unwrap_err(),
            invalid(long.as_str()),
            refusal(ErrorCode::InvalidRecord, &long, Some(&long)),
        ];
        for refused in refused {
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().len() < 3_000, "{}", refused.message().len());
        }
    }

    #[test]
    fn what_there_is_no_room_for_says_whether_there_may_be_later() {
        for passes in [true, false] {
            let status = exhausted("a message", "send less", passes);
            let detail = esker_proto::error_detail(&status).unwrap();
            assert_eq!((status.code(), detail.retriable), (Code::ResourceExhausted, passes));
            assert_eq!((detail.kafka_code, detail.what_to_do.as_str()), (0, "send less"));
            assert_eq!(status.message(), "a message; send less");
        }
    }

    #[test]
    fn every_kafka_code_has_a_class_and_advice() {
        for code in ErrorCode::ALL.iter().copied().filter(|code| *code != ErrorCode::None) {
            let status = refusal(code, "topic t", Some("why"));
            assert_ne!(status.code(), Code::Ok, "{code}");
            let detail = esker_proto::error_detail(&status).unwrap();
            assert_eq!(detail.kafka_code, i32::from(code.code()));
            assert!(status.message().contains(code.name()), "{status}");
            assert!(status.message().ends_with(&detail.what_to_do), "{status}");
            assert!(!detail.what_to_do.is_empty());
        }
    }
}
