//! Groups as they are stored: from the coordinator's words to those of the keys, and back.
//!
//! Owns: the translation. Does not own: bytes (`esker_metadata::keys`), when anything is written (`registry`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::keys::group::{Generation as GenerationKey, Phase};
use esker_metadata::keys::group_member::Member as MemberKey;

use crate::groups::group::{Client, Protocol, StoredGroup, StoredMember, StoredPhase, Timeouts};
use crate::groups::ids::{Generation, InstanceId, MemberId, ProtocolName};

/// The member records of a stored generation, by member id.
pub(super) type Records = BTreeMap<MemberId, (u64, StoredMember)>;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn text(name: Option<&ProtocolName>) -> Option<String> {
    name.map(|name| name.as_str().to_owned())
}

/// The value of a member's record.
pub(super) fn member_key(member: &StoredMember) -> MemberKey {
    let protocols = member.protocols.iter();
    MemberKey {
        id: member.member.as_str().to_owned(),
        instance: member.instance.as_ref().map(|instance| instance.as_str().to_owned()),
        client_id: (*member.client.id).to_owned(),
        client_host: (*member.client.host).to_owned(),
        session_ms: millis(member.timeouts.session),
        rebalance_ms: millis(member.timeouts.rebalance),
        protocols: protocols
            .map(|one| (one.name.as_str().to_owned(), one.metadata.clone()))
            .collect(),
        assignment: member.assignment.clone(),
    }
}

/// The value of a group's generation, made of these records.
pub(super) fn generation_key(group: &StoredGroup, records: &Records) -> GenerationKey {
    let mut members: Vec<u64> = records.values().map(|(number, _)| *number).collect();
    members.sort_unstable();
    GenerationKey {
        number: group.generation.0,
        phase: match group.phase {
            StoredPhase::Empty => Phase::Empty,
            StoredPhase::Completing => Phase::Completing,
            StoredPhase::Stable => Phase::Stable,
        },
        protocol_type: text(group.protocol_type.as_ref()),
        protocol: text(group.protocol.as_ref()),
        leader: group.leader.as_ref().map(|leader| leader.as_str().to_owned()),
        members,
    }
}

/// The inverse of [`member_key`].
pub(super) fn member(key: MemberKey) -> StoredMember {
    let protocols = key.protocols.into_iter();
    StoredMember {
        member: MemberId::from(key.id),
        instance: key.instance.map(InstanceId::from),
        client: Client {
            id: Arc::from(key.client_id),
            host: Arc::from(key.client_host),
        },
        timeouts: Timeouts {
            session: Duration::from_millis(key.session_ms),
            rebalance: Duration::from_millis(key.rebalance_ms),
        },
        protocols: protocols
            .map(|(name, metadata)| Protocol {
                name: ProtocolName::from(name),
                metadata,
            })
            .collect(),
        assignment: key.assignment,
    }
}

/// The inverse of [`generation_key`].
pub(super) fn group(key: GenerationKey, records: &Records) -> StoredGroup {
    StoredGroup {
        generation: Generation(key.number),
        phase: match key.phase {
            Phase::Empty => StoredPhase::Empty,
            Phase::Completing => StoredPhase::Completing,
            Phase::Stable => StoredPhase::Stable,
        },
        protocol_type: key.protocol_type.map(ProtocolName::from),
        protocol: key.protocol.map(ProtocolName::from),
        leader: key.leader.map(MemberId::from),
        members: records.values().map(|(_, member)| member.clone()).collect(),
    }
}
