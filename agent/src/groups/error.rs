//! Why the coordinator refuses a request of the group protocol, and which Kafka code says so.
//!
//! Owns: the conditions and the one map from them to codes.

use std::time::Duration;

use esker_kafka::ErrorCode;

use super::ids::{Generation, MemberId};

/// Why a request of a member, or about a group, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group id is empty where it must not be.
    #[error("the group id is empty")]
    InvalidGroupId,
    /// The session time-out is outside what the cluster allows.
    #[error("session time-out {asked:?} is not between {min:?} and {max:?}")]
    InvalidSessionTimeout {
        /// What the client asked for.
        asked: Duration,
        /// `group.min.session.timeout.ms`.
        min: Duration,
        /// `group.max.session.timeout.ms`.
        max: Duration,
    },
    /// A new dynamic member must join once more, with the id it was given (KIP-394).
    #[error("join again as member {assigned}")]
    MemberIdRequired {
        /// The id.
        assigned: MemberId,
    },
    /// Nobody of this id is in the group.
    #[error("unknown member")]
    UnknownMember,
    /// Another process has taken over this instance id.
    #[error("the instance id belongs to another member now")]
    FencedInstance,
    /// The request belongs to another generation.
    #[error("generation {found} is not the current {current}")]
    IllegalGeneration {
        /// The group's generation.
        current: Generation,
        /// The request's.
        found: Generation,
    },
    /// The member must join again.
    #[error("a rebalance is in progress")]
    RebalanceInProgress,
    /// No protocol that all members know, another protocol type, or none at all.
    #[error("no protocol in common with the group")]
    InconsistentProtocol,
    /// The group has as many members, or its members as much metadata, as is allowed.
    #[error("the group is full: {limit} is {max}")]
    GroupFull {
        /// Which limit.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// A count or length of the request is beyond what a coordinator accepts.
    #[error("request exceeds {limit} of {max}")]
    RequestTooLarge {
        /// Which limit.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// The coordinator holds as much as it may; later it may hold less.
    #[error("the coordinator is full: {limit} is {max}")]
    Overloaded {
        /// Which limit.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// The group is being removed, or its state could not be stored.
    #[error("the group is not available")]
    Unavailable,
    /// This agent coordinates the group, but has not read yet who is in it.
    #[error("the group is being taken over")]
    Loading,
    /// Another session coordinates this group now.
    #[error("another session coordinates this group")]
    NotCoordinator,
    /// There is no such group.
    #[error("there is no such group")]
    NoSuchGroup,
    /// The group has members.
    #[error("the group is not empty")]
    NotEmpty,
}

impl GroupError {
    /// The Kafka code that clients expect for it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::InvalidSessionTimeout { .. } => ErrorCode::InvalidSessionTimeout,
            Self::MemberIdRequired { .. } => ErrorCode::MemberIdRequired,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration { .. } => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::GroupFull { .. } => ErrorCode::GroupMaxSizeReached,
            Self::RequestTooLarge { .. } => ErrorCode::InvalidRequest,
            // Clients back off and ask the same coordinator again.
            Self::Overloaded { .. } | Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::Unavailable => ErrorCode::CoordinatorNotAvailable,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::NoSuchGroup => ErrorCode::GroupIdNotFound,
            Self::NotEmpty => ErrorCode::NonEmptyGroup,
        }
    }
}
