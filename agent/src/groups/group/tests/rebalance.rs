//! Generations that end: time-outs, departures, sessions.

use super::*;

#[test]
fn dynamic_members_that_do_not_rejoin_in_time_are_left_behind() {
    let mut stage = Stage::new();
    let slow = |name| who(name).timeouts(seconds(300), seconds(20));
    stage.form(&[slow("a"), slow("b"), slow("c")]);
    let c = stage.join(slow("c").again().protocols(&[("range", "new")]));
    stage.advance(seconds(19));
    assert_eq!(stage.joined(c), None);
    stage.advance(seconds(1));
    let joined = stage.joined(c).unwrap().unwrap();
    assert_eq!(
        joined.leader,
        Some(id("c")),
        "the leader did not come, so another one leads"
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(stage.heartbeat("a", 1), Err(GroupError::UnknownMember));
}

#[test]
fn heartbeats_do_not_extend_the_rebalance() {
    let mut stage = Stage::new();
    stage.form(&[
        who("a").timeouts(SESSION, seconds(20)),
        who("b").timeouts(SESSION, seconds(20)),
    ]);
    let b = stage.join(
        who("b")
            .again()
            .timeouts(SESSION, seconds(20))
            .protocols(&[("range", "new")]),
    );
    for _ in 0..20 {
        assert_eq!(stage.joined(b), None);
        assert_eq!(stage.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
        stage.advance(seconds(1));
    }
    assert_eq!(stage.joined(b).unwrap().unwrap().generation, Generation(2));
    assert_eq!(stage.members(), ["b"]);
}

#[test]
fn session_without_heartbeats_ends() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    stage.advance(seconds(9));
    assert_eq!(stage.heartbeat("a", 1), Ok(()));
    stage.advance(seconds(1));
    assert_eq!(stage.members(), ["a"]);
    assert_eq!(stage.heartbeat("b", 1), Err(GroupError::UnknownMember));
    assert_eq!(stage.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn waiting_members_keep_their_session() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b").timeouts(seconds(50), REBALANCE)]);
    let a = stage.join(who("a").again());
    stage.advance(seconds(49));
    assert_eq!(stage.joined(a), None);
    assert_eq!(stage.members(), ["a", "b"]);
    stage.advance(seconds(1));
    assert!(
        stage.joined(a).unwrap().is_ok(),
        "b is gone, a was the last to wait for"
    );
}

#[test]
fn session_starts_anew_when_a_waiting_member_is_answered() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b").timeouts(seconds(50), REBALANCE)]);
    let a = stage.join(who("a").again());
    stage.advance(seconds(50));
    assert!(stage.joined(a).unwrap().is_ok());
    stage.advance(SESSION - seconds(1));
    assert_eq!(stage.members(), ["a"]);
    stage.advance(seconds(1));
    assert!(stage.members().is_empty());
}

#[test]
fn heartbeats_say_what_to_do() {
    let mut stage = Stage::new();
    assert_eq!(stage.heartbeat("a", 0), Err(GroupError::UnknownMember));
    stage.join(who("a"));
    stage.advance(DELAY);
    assert_eq!(
        stage.heartbeat("a", 1),
        Ok(()),
        "the assignment may take longer than a session"
    );
    let illegal = GroupError::IllegalGeneration {
        current: Generation(1),
        found: Generation(7),
    };
    assert_eq!(stage.heartbeat("a", 7), Err(illegal));
    assert_eq!(stage.heartbeat("x", 1), Err(GroupError::UnknownMember));
}

#[test]
fn departure_starts_a_rebalance_and_the_last_one_empties_the_group() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    assert_eq!(stage.leave(&[("a", None)]), [Ok(())]);
    assert_eq!(stage.state(), State::PreparingRebalance);
    let b = stage.join(who("b").again());
    let joined = stage.joined(b).unwrap().unwrap();
    assert_eq!(joined.leader, Some(id("b")));
    assert_eq!(stage.leave(&[("b", None)]), [Ok(())]);
    assert_eq!(stage.state(), State::Empty);
    assert_eq!(stage.group.generation(), Generation(3));
    let description = stage.group.describe();
    assert_eq!((description.protocol, description.members), (None, vec![]));
    assert_eq!(stage.group.bytes(), 0);
}

#[test]
fn departures_in_one_request_start_one_rebalance() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b"), who("c")]);
    let verdicts = stage.leave(&[("a", None), ("x", None), ("b", None)]);
    assert_eq!(verdicts, [Ok(()), Err(GroupError::UnknownMember), Ok(())]);
    let c = stage.join(who("c").again());
    assert_eq!(stage.joined(c).unwrap().unwrap().generation, Generation(2));
}

#[test]
fn departure_of_the_only_one_missing_completes_the_rebalance() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let a = stage.join(who("a").again());
    stage.leave(&[("b", None)]);
    assert!(stage.joined(a).unwrap().is_ok());
}

#[test]
fn waiting_member_that_is_sent_away_is_told() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let a = stage.join(who("a").again());
    stage.leave(&[("a", None)]);
    assert_eq!(stage.joined(a), Some(Err(GroupError::UnknownMember)));
}

#[test]
fn id_that_was_given_out_can_be_given_back() {
    let mut stage = Stage::new();
    stage.form(&[who("a")]);
    assert!(stage.join_now(who("b").version(4)).is_err());
    let a = stage.join(who("a").again());
    assert_eq!(stage.joined(a), None);
    assert_eq!(stage.leave(&[("b", None)]), [Ok(())]);
    assert!(stage.joined(a).unwrap().is_ok());
}

#[test]
fn members_that_all_leave_during_the_initial_delay_leave_nothing_behind() {
    let mut stage = Stage::new();
    stage.join(who("a"));
    stage.leave(&[("a", None)]);
    let b = stage.join(who("b").protocol_type("connect").protocols(&[("eager", "")]));
    stage.advance(DELAY + DELAY);
    assert_eq!(
        stage.joined(b).unwrap().unwrap().protocol_type,
        Some(ProtocolName::from("connect"))
    );
    stage.leave(&[("b", None)]);
    assert_eq!(stage.state(), State::Empty);
}

#[test]
fn empty_group_is_remembered_for_a_while() {
    let mut stage = Stage::new();
    assert!(stage.group.is_forgettable(stage.now), "nothing has happened yet");
    stage.form(&[who("a")]);
    stage.leave(&[("a", None)]);
    assert!(!stage.group.is_forgettable(stage.now));
    let retention = GroupSettings::default().empty_group_retention;
    assert!(stage.group.is_forgettable(stage.now + retention));
    assert_eq!(stage.group.wakes_at(), Some(stage.now + retention));
}

#[test]
fn group_that_ends_tells_everybody() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let a = stage.join(who("a").again());
    let fx = stage.group.end(&GroupError::NotCoordinator);
    stage.take(fx);
    assert_eq!(stage.joined(a), Some(Err(GroupError::NotCoordinator)));
    assert_eq!(stage.state(), State::Dead);
    assert_eq!(stage.heartbeat("b", 1), Err(GroupError::Unavailable));
    assert_eq!(stage.join_now(who("c")), Err(GroupError::Unavailable));
    assert_eq!(stage.group.wakes_at(), None);
}

#[test]
fn timeouts_of_zero_do_not_keep_the_group_busy() {
    let mut stage = Stage::without_delay();
    let hasty = |name, instance| who(name).instance(instance).timeouts(seconds(30), Duration::ZERO);
    stage.join(hasty("a", "i"));
    stage.advance(seconds(29));
    assert!(stage.group.wakes_at().is_none_or(|at| at > stage.now));
    stage.advance(seconds(60));
    assert_eq!(stage.state(), State::Empty);
}
