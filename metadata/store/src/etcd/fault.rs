//! What an error of etcd means: whether the call can have had an effect, and whether the endpoint is to blame.
//!
//! Invariants: LOG-4. What is not known to be certain is not certain. In particular etcd applies a transaction and *then*
//! answers that its space is exceeded, so NOSPACE is not certain (docs/decisions/0401).

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use crate::store::MetadataError;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The call certainly had no effect and never will.
    pub(super) certain: bool,
    /// Another connection may do better.
    pub(super) blames_endpoint: bool,
    /// What the call was about is not there (a lease).
    pub(super) absent: bool,
    /// The revision asked for is not kept any more.
    pub(super) compacted: bool,
    /// The answer is larger than we take.
    pub(super) too_large: bool,
    message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Fault {
    fn new(message: String) -> Self {
        Self {
            certain: false,
            blames_endpoint: false,
            absent: false,
            compacted: false,
            too_large: false,
            message,
        }
    }

    /// An answer that makes no sense.
    pub(super) fn nonsense(what: &str) -> Self {
        Self {
            blames_endpoint: true,
            ..Self::new(format!("etcd: {what}"))
        }
    }

    /// No answer in time.
    pub(super) fn timed_out(what: &str) -> Self {
        Self {
            blames_endpoint: true,
            ..Self::new(format!("etcd: no answer to {what} in time"))
        }
    }

    /// No connection: the call was never sent.
    pub(super) fn connecting(endpoint: &str, why: &dyn std::fmt::Display) -> Self {
        Self {
            certain: true,
            blames_endpoint: true,
            ..Self::new(format!("etcd: cannot connect to {endpoint}: {why}"))
        }
    }

    /// What the error of a call means.
    pub(super) fn of(what: &str, error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(what, status),
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => Self {
                certain: true,
                ..Self::new(format!("etcd: {what}: {error}"))
            },
            error => Self {
                blames_endpoint: true,
                ..Self::new(format!("etcd: {what}: {error}"))
            },
        }
    }

    fn of_status(what: &str, status: &Status) -> Self {
        let message = status.message();
        let server = message.starts_with("etcdserver:") || message.starts_with("auth:");
        let mut fault = Self::new(format!("etcd: {what}: {message} ({:?})", status.code()));
        if never_connected(status) {
            fault.certain = true;
            fault.blames_endpoint = true;
            return fault;
        }
        match status.code() {
            Code::InvalidArgument | Code::PermissionDenied | Code::AlreadyExists | Code::FailedPrecondition => {
                fault.certain = true;
            }
            // The token is void; a new connection takes a new one.
            Code::Unauthenticated => {
                fault.certain = true;
                fault.blames_endpoint = true;
            }
            Code::NotFound => {
                fault.certain = server;
                fault.absent = server;
            }
            Code::OutOfRange => {
                fault.certain = server;
                fault.compacted = server && message.contains("has been compacted");
                fault.too_large = !server;
            }
            Code::ResourceExhausted => fault.certain = message.contains("too many requests"),
            Code::Unavailable => {
                // Refused by etcd's interceptor, before anything is proposed.
                fault.certain = message == "etcdserver: no leader";
                fault.blames_endpoint = true;
            }
            Code::Unimplemented => {
                fault.certain = true;
                fault.blames_endpoint = true;
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss => fault.blames_endpoint = true,
        }
        // The roles have changed since the token was given.
        fault.blames_endpoint |= message.contains("revision in header is old");
        fault
    }

    /// For calls that change something.
    pub(super) fn into_error(self) -> MetadataError {
        if self.certain {
            MetadataError::Failed(self.message)
        } else {
            MetadataError::Unknown(self.message)
        }
    }

    /// For calls that read.
    pub(super) fn into_failed(self) -> MetadataError {
        MetadataError::Failed(self.message)
    }
}

/// Whether the request cannot have left this process.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(code: Code, message: &str) -> (bool, bool) {
        let fault = Fault::of("txn", &Error::GRpcStatus(Status::new(code, message)));
        (fault.certain, fault.blames_endpoint)
    }

    /// LOG-4 rests on this table: (certain, another endpoint may do better).
    #[test]
    fn what_etcd_refuses_is_certain_and_what_it_loses_is_not() {
        let certain = (true, false);
        assert_eq!(
            judge(Code::InvalidArgument, "etcdserver: request is too large"),
            certain
        );
        assert_eq!(
            judge(Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            certain
        );
        assert_eq!(judge(Code::NotFound, "etcdserver: requested lease not found"), certain);
        assert_eq!(judge(Code::PermissionDenied, "etcdserver: permission denied"), certain);
        assert_eq!(judge(Code::ResourceExhausted, "etcdserver: too many requests"), certain);
        assert_eq!(
            judge(Code::Unauthenticated, "etcdserver: invalid auth token"),
            (true, true)
        );
        assert_eq!(judge(Code::Unavailable, "etcdserver: no leader"), (true, true));
        let unknown = (false, true);
        assert_eq!(judge(Code::Unavailable, "etcdserver: request timed out"), unknown);
        assert_eq!(judge(Code::Unavailable, "etcdserver: leader changed"), unknown);
        assert_eq!(judge(Code::Unavailable, "error trying to connect: reset"), unknown);
        assert_eq!(judge(Code::Unknown, "raft proposal dropped"), unknown);
        assert_eq!(judge(Code::Cancelled, "operation was canceled"), unknown);
        let full = "etcdserver: mvcc: database space exceeded";
        assert_eq!(judge(Code::ResourceExhausted, full), (false, false));
        // Ours, not etcd's: the answer was larger than we take.
        assert_eq!(
            judge(Code::OutOfRange, "decoded message length too large"),
            (false, false)
        );
    }
}
