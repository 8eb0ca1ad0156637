//! Assignments and how they get to the members.

use super::*;

/// Two members that have joined; nobody has synced.
fn joined() -> Stage {
    let mut stage = Stage::new();
    stage.join(who("a"));
    stage.join(who("b"));
    stage.advance(DELAY + DELAY);
    assert_eq!(stage.state(), State::CompletingRebalance);
    stage
}

#[test]
fn everybody_gets_its_own_assignment_once_the_leader_has_spoken() {
    let mut stage = joined();
    let b = stage.sync("b", 1, &[]);
    assert_eq!(stage.synced(b), None);
    let a = stage.sync("a", 1, &[("a", "0,1"), ("b", "2,3"), ("stranger", "4")]);
    assert_eq!(stage.synced(a), Some(Ok("0,1".to_owned())));
    assert_eq!(stage.synced(b), Some(Ok("2,3".to_owned())));
    assert_eq!(stage.state(), State::Stable);
}

#[test]
fn late_and_repeated_syncs_get_the_same() {
    let mut stage = joined();
    stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    for _ in 0..2 {
        let b = stage.sync("b", 1, &[]);
        assert_eq!(stage.synced(b), Some(Ok("1".to_owned())));
        // Only the first word of the leader counts.
        let a = stage.sync("a", 1, &[("a", "1"), ("b", "0")]);
        assert_eq!(stage.synced(a), Some(Ok("0".to_owned())));
    }
}

#[test]
fn member_that_the_leader_leaves_out_gets_an_empty_assignment() {
    let mut stage = joined();
    stage.sync("a", 1, &[("a", "0")]);
    let b = stage.sync("b", 1, &[]);
    assert_eq!(stage.synced(b), Some(Ok(String::new())));
}

#[test]
fn only_members_of_this_generation_and_protocol_may_sync() {
    let mut stage = joined();
    let mut refused = |member, generation, change: fn(&mut SyncCommand)| {
        let to = stage.sync_as(member, generation, &[], change);
        stage.synced(to).expect("refused at once").unwrap_err()
    };
    assert_eq!(refused("x", 1, |_| {}), GroupError::UnknownMember);
    let illegal = GroupError::IllegalGeneration {
        current: Generation(1),
        found: Generation(0),
    };
    assert_eq!(refused("a", 0, |_| {}), illegal);
    let other_type = |sync: &mut SyncCommand| sync.protocol_type = Some(ProtocolName::from("connect"));
    assert_eq!(refused("a", 1, other_type), GroupError::InconsistentProtocol);
    let other_protocol = |sync: &mut SyncCommand| sync.protocol = Some(ProtocolName::from("sticky"));
    assert_eq!(refused("a", 1, other_protocol), GroupError::InconsistentProtocol);
    let to = stage.sync_as("a", 1, &[], |sync| {
        sync.protocol_type = Some(ProtocolName::from("consumer"));
        sync.protocol = Some(ProtocolName::from("range"));
    });
    assert!(stage.synced(to).unwrap().is_ok());
}

#[test]
fn rebalance_refuses_those_who_wait_and_those_who_come() {
    let mut stage = joined();
    let b = stage.sync("b", 1, &[]);
    stage.join(who("c"));
    assert_eq!(stage.synced(b), Some(Err(GroupError::RebalanceInProgress)));
    let a = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    assert_eq!(stage.synced(a), Some(Err(GroupError::RebalanceInProgress)));
}

#[test]
fn members_that_never_sync_are_removed() {
    let mut stage = joined();
    stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    for _ in 0..12 {
        assert_eq!(stage.members(), ["a", "b"]);
        stage.advance(seconds(5));
        let _ = (stage.heartbeat("a", 1), stage.heartbeat("b", 1));
    }
    assert_eq!(stage.members(), ["a"], "heartbeats are not enough");
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn leader_that_never_syncs_does_not_hold_up_the_others_for_ever() {
    let mut stage = joined();
    let b = stage.sync("b", 1, &[]);
    for _ in 0..12 {
        assert_eq!(stage.synced(b), None);
        stage.advance(seconds(5));
        let _ = stage.heartbeat("a", 1);
    }
    assert_eq!(stage.synced(b), Some(Err(GroupError::RebalanceInProgress)));
    let b = stage.join(who("b").again());
    assert_eq!(stage.joined(b).unwrap().unwrap().leader, Some(id("b")));
}

#[test]
fn all_have_synced_so_nobody_is_removed_later() {
    let mut stage = joined();
    stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    stage.sync("b", 1, &[]);
    for _ in 0..20 {
        stage.advance(seconds(5));
        assert_eq!((stage.heartbeat("a", 1), stage.heartbeat("b", 1)), (Ok(()), Ok(())));
    }
    assert_eq!(stage.state(), State::Stable);
}

#[test]
fn description_shows_metadata_of_a_stable_group_only() {
    let mut stage = joined();
    let seen = |stage: &Stage| {
        let description = stage.group.describe();
        let member = description.members[1].clone();
        (
            description.state,
            description.protocol,
            member.metadata.len(),
            member.assignment.len(),
        )
    };
    assert_eq!(seen(&stage), (State::CompletingRebalance, None, 0, 0));
    stage.sync("a", 1, &[("a", "0"), ("b", "12")]);
    assert_eq!(
        seen(&stage),
        (State::Stable, Some(ProtocolName::from("range")), "topics".len(), 2)
    );
    stage.join(who("c"));
    let preparing = (State::PreparingRebalance, None, 0, 2);
    assert_eq!(seen(&stage), preparing, "what it still reads");
}
