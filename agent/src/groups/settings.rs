//! What an operator can set about groups, and the limits that keep their memory bounded.
//!
//! Owns: the values and their defaults.

use std::time::Duration;

/// Settings and limits of one coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`: most members of one group, and as many again that were given an id but have not used it.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`: longest metadata string of a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// How long a member that joins for the first time may wait before it is given up; it cannot send heartbeats yet.
    pub new_member_join_timeout: Duration,
    /// Most groups that have, or lately had, members.
    pub groups_max: usize,
    /// How long a group without members is remembered. Its offsets are not affected.
    pub empty_group_retention: Duration,
    /// Most protocols that a member may offer.
    pub member_protocols_max: usize,
    /// Longest group instance id in bytes; member ids are made of it.
    pub instance_id_bytes_max: usize,
    /// Longest group id, client id, protocol name or type in bytes.
    pub text_bytes_max: usize,
    /// Most bytes of names and metadata that a member may bring, and of an assignment that it may be given. Both together are
    /// one value in the metadata store.
    pub member_bytes_max: usize,
    /// Most bytes of all groups together: names, metadata and assignments.
    pub state_bytes_max: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            members_max: 10_000,
            offset_metadata_bytes_max: 4096,
            new_member_join_timeout: Duration::from_secs(5 * 60),
            groups_max: 20_000,
            empty_group_retention: Duration::from_secs(10 * 60),
            member_protocols_max: 64,
            instance_id_bytes_max: 1024,
            text_bytes_max: 32_767,
            member_bytes_max: 512 << 10,
            state_bytes_max: 64 << 20,
        }
    }
}
