//! What can go wrong between a client and a cluster.
//!
//! Owns: the kinds of failure, and which of them may pass.

use std::time::Duration;

use esker_kafka::{ApiKey, DecodeError, EncodeError, ErrorCode, VersionRange};

use crate::address::HostPort;

/// Characters of a broker's own words that are kept.
const WORDS_CHARS_MAX: usize = 1000;

/// Why there is no answer, or none that was hoped for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection, so nothing was sent.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// Where to.
        address: HostPort,
        /// What the system said.
        cause: String,
    },
    /// None of the known addresses can be connected to.
    #[error("no broker can be reached: {}", .tried.iter().map(|one| format!("{}: {}", one.0, one.1)).collect::<Vec<_>>().join("; "))]
    Unreachable {
        /// Each address, and what the system said.
        tried: Vec<(HostPort, String)>,
    },
    /// The connection ended before the answer came: whether the request was carried out is not known.
    #[error("the connection to {address} is gone: {cause}")]
    Lost {
        /// The other end.
        address: HostPort,
        /// What ended it.
        cause: String,
    },
    /// No answer in time: whether the request was carried out is not known.
    #[error("{address} did not answer {api} within {} ms", .after.as_millis())]
    Late {
        /// The other end.
        address: HostPort,
        /// What was asked.
        api: ApiKey,
        /// How long it had.
        after: Duration,
    },
    /// The answer is none.
    #[error("{address} answered {api} with something else: {cause}")]
    Garbled {
        /// The other end.
        address: HostPort,
        /// What was asked.
        api: ApiKey,
        /// What is wrong with it.
        cause: DecodeError,
    },
    /// The request cannot be expressed in the version that both sides know.
    #[error("{api} cannot be sent: {cause}")]
    Unwritable {
        /// What was to be asked.
        api: ApiKey,
        /// What is wrong with it.
        cause: EncodeError,
    },
    /// There is no version that both sides know.
    #[error("{address} does not know {api} in versions {} to {}{}", .ours.first, .ours.last, offered(.theirs))]
    Unsupported {
        /// The other end.
        address: HostPort,
        /// What was to be asked.
        api: ApiKey,
        /// What this client speaks.
        ours: VersionRange,
        /// What the other end speaks, if it knows the API at all.
        theirs: Option<VersionRange>,
    },
    /// The broker said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A broker's no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", name(*.code), .message.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
pub struct Refusal {
    /// What was asked.
    pub api: ApiKey,
    /// Kafka's number for the reason.
    pub code: i16,
    /// The broker's words; no control characters, not endless.
    pub message: Option<String>,
}

impl Refusal {
    /// Nothing for code 0, or a refusal.
    ///
    /// # Errors
    /// The refusal that a code other than 0 is.
    pub fn check(api: ApiKey, code: i16, message: Option<&str>) -> Result<(), Self> {
        if code == 0 {
            return Ok(());
        }
        let message = message.filter(|words| !words.is_empty()).map(tame);
        Err(Self { api, code, message })
    }

    /// A no of our own, in Kafka's words.
    pub(crate) fn of(api: ApiKey, code: ErrorCode, words: String) -> Self {
        Self {
            api,
            code: code as i16,
            message: Some(words),
        }
    }

    /// The reason, if Kafka 4.3 has it.
    #[must_use]
    pub fn known(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.code)
    }

    /// True if it is this reason.
    #[must_use]
    pub fn is(&self, code: ErrorCode) -> bool {
        self.known() == Some(code)
    }

    /// True if the same request may be answered otherwise a moment later. That a topic is unknown is retriable to Kafka, whose
    /// brokers learn of topics one after the other; here it is an answer, and who creates topics waits for them.
    pub(crate) fn may_pass(&self) -> bool {
        self.known()
            .is_some_and(|code| code.is_retriable() && code != ErrorCode::UnknownTopicOrPartition)
    }
}

impl Refusal {
    /// True if the request may have been carried out all the same.
    pub(crate) fn leaves_open(&self) -> bool {
        matches!(
            self.known(),
            Some(ErrorCode::RequestTimedOut | ErrorCode::NetworkException)
        )
    }
}

impl Error {
    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// True if the broker said no for this reason.
    #[must_use]
    pub fn is(&self, code: ErrorCode) -> bool {
        self.refusal().is_some_and(|refusal| refusal.is(code))
    }
}

/// Kafka's name of a code, or its number.
fn name(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(known) => known.name().to_owned(),
        None => format!("error code {code}"),
    }
}

/// A stranger's words, as they can be shown on a terminal.
fn tame(words: &str) -> String {
    let shown = words.chars().map(|one| if one.is_control() { ' ' } else { one });
    let shown: String = shown.take(WORDS_CHARS_MAX).collect();
    shown.trim().trim_end_matches('.').to_owned()
}

fn offered(range: &Option<VersionRange>) -> String {
    match range {
        Some(VersionRange { first, last }) => format!(", but in {first} to {last}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_code_and_shows_no_control_characters() {
        assert_eq!(Refusal::check(ApiKey::CreateTopics, 0, None), Ok(()));
        let refused = Refusal::check(ApiKey::CreateTopics, 36, Some("it's\x1b[2Jthere.")).unwrap_err();
        assert_eq!(refused.to_string(), "TOPIC_ALREADY_EXISTS: it's [2Jthere");
        let refused = Refusal::check(ApiKey::CreateTopics, 9999, Some("")).unwrap_err();
        assert_eq!(refused.to_string(), "error code 9999");
        assert!(!refused.may_pass());
    }
}
