//! What people see of a group.
//!
//! Owns: the description and what of it Kafka shows in which state.

use bytes::Bytes;

use super::{Client, Group, State};
use crate::groups::ids::{InstanceId, MemberId, ProtocolName};

/// A group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its state.
    pub state: State,
    /// "consumer", "connect", …; `None` if it never had a member.
    pub protocol_type: Option<ProtocolName>,
    /// The chosen protocol; only in a stable group.
    pub protocol: Option<ProtocolName>,
    /// Its members in the order of their ids.
    pub members: Vec<MemberDescription>,
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member: MemberId,
    /// Its instance id.
    pub instance: Option<InstanceId>,
    /// Its client.
    pub client: Client,
    /// What it says under the chosen protocol; only in a stable group.
    pub metadata: Bytes,
    /// What it was last assigned.
    pub assignment: Bytes,
}

impl Group {
    /// What people see of it.
    #[must_use]
    pub fn describe(&self) -> Description {
        let state = self.state();
        let protocol = self.protocol.clone().filter(|_| state == State::Stable);
        let members = self.roster.iter().map(|(id, member)| MemberDescription {
            member: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            metadata: protocol
                .as_ref()
                .map(|protocol| member.metadata(protocol))
                .unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        let members = members.collect();
        Description {
            state,
            protocol_type: self.protocol_type.clone(),
            protocol,
            members,
        }
    }

    /// Protocol type, for lists.
    #[must_use]
    pub const fn protocol_type(&self) -> Option<&ProtocolName> {
        self.protocol_type.as_ref()
    }

    /// What each member says under the chosen protocol, for those who want to know what the group reads.
    pub fn subscriptions(&self) -> impl Iterator<Item = Bytes> {
        let protocol = self.protocol.as_ref();
        self.roster
            .iter()
            .filter_map(move |(_, member)| Some(member.metadata(protocol?)))
    }
}
