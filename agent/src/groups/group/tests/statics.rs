//! Static members: processes that keep their place across restarts (KIP-345, KIP-814).

use super::*;

fn formed() -> Stage {
    let mut stage = Stage::new();
    stage.form(&[who("a").instance("i").version(9), who("b").instance("j").version(9)]);
    stage
}

#[test]
fn static_member_is_not_asked_to_come_back_with_an_id() {
    let mut stage = Stage::without_delay();
    assert!(stage.join_now(who("a").instance("i").version(9)).is_ok());
}

#[test]
fn restarted_follower_keeps_generation_and_assignment() {
    let mut stage = formed();
    let joined = stage.join_now(who("b2").instance("j").version(9)).unwrap();
    assert_eq!((joined.generation, joined.member), (Generation(1), id("b2")));
    assert_eq!(joined.leader, Some(id("a")));
    assert!(!joined.skip_assignment);
    assert_eq!(stage.state(), State::Stable);
    let to = stage.sync("b2", 1, &[]);
    assert_eq!(stage.synced(to), Some(Ok("b".to_owned())));
    assert_eq!(stage.members(), ["a", "b2"]);
}

#[test]
fn restarted_leader_leads_on_without_assigning_anew() {
    let mut stage = formed();
    let joined = stage.join_now(who("a2").instance("i").version(9)).unwrap();
    assert_eq!(joined.leader, Some(id("a2")));
    assert!(joined.skip_assignment);
    assert_eq!(joined.members.len(), 2, "it needs them to notice changes");
    assert_eq!(stage.state(), State::Stable);
}

#[test]
fn restarted_leader_of_an_old_client_does_not_learn_that_it_leads() {
    let mut stage = formed();
    let joined = stage.join_now(who("a2").instance("i").version(8)).unwrap();
    assert_eq!(joined.leader, Some(id("a")), "the id it had before");
    assert!(joined.members.is_empty());
    // It does lead: its next join starts a rebalance.
    stage.join(who("a2").instance("i").version(8).again());
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn replaced_member_is_fenced() {
    let mut stage = formed();
    stage.join_now(who("b2").instance("j").version(9)).unwrap();
    let fenced = Err(GroupError::FencedInstance);
    let instance = InstanceId::from("j");
    let now = stage.now;
    assert_eq!(
        stage.group.heartbeat(now, &id("b"), Some(&instance), Generation(1)),
        fenced
    );
    assert_eq!(
        stage.group.check_commit(now, &id("b"), Some(&instance), Generation(1)),
        fenced
    );
    assert_eq!(stage.leave(&[("b", Some("j"))])[0], fenced);
    let to = stage.sync_as("b", 1, &[], |sync| sync.instance = Some(InstanceId::from("j")));
    assert_eq!(stage.synced(to), Some(Err(GroupError::FencedInstance)));
    assert_eq!(
        stage.join_now(who("b").instance("j").again()),
        Err(GroupError::FencedInstance)
    );
    assert_eq!(stage.members(), ["a", "b2"]);
}

#[test]
fn replaced_member_that_waits_is_fenced_at_once() {
    let mut stage = formed();
    let a = stage.join(who("a").instance("i").again());
    stage.join(who("a2").instance("i"));
    assert_eq!(stage.joined(a), Some(Err(GroupError::FencedInstance)));
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn replacement_while_the_assignment_is_awaited_starts_over() {
    let mut stage = Stage::new();
    stage.join(who("a").instance("i"));
    stage.join(who("b").instance("j"));
    stage.advance(DELAY + DELAY);
    let b = stage.sync_as("b", 1, &[], |sync| sync.instance = Some(InstanceId::from("j")));
    let b2 = stage.join(who("b2").instance("j"));
    assert_eq!(stage.synced(b), Some(Err(GroupError::FencedInstance)));
    assert_eq!(stage.state(), State::PreparingRebalance);
    let a = stage.join(who("a").instance("i").again());
    assert_eq!(stage.joined(a).unwrap().unwrap().generation, Generation(2));
    assert!(stage.joined(b2).unwrap().is_ok());
}

#[test]
fn replacement_that_changes_the_protocol_starts_a_rebalance() {
    let mut stage = Stage::new();
    let both = [("range", "r"), ("sticky", "s")];
    stage.form(&[
        who("a").instance("i").protocols(&both),
        who("b").instance("j").protocols(&both),
    ]);
    let b2 = stage.join(who("b2").instance("j").protocols(&[("sticky", "s")]));
    assert_eq!(stage.joined(b2), None);
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn operator_sends_a_static_member_away_by_its_instance() {
    let mut stage = formed();
    assert_eq!(
        stage.leave(&[("", Some("j")), ("", Some("x")), ("", None)]),
        [Ok(()), Err(GroupError::UnknownMember), Err(GroupError::UnknownMember)]
    );
    assert_eq!(stage.members(), ["a"]);
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn static_members_that_are_away_keep_their_place_until_their_session_ends() {
    let mut stage = Stage::new();
    let patient = |name, instance| who(name).instance(instance).timeouts(seconds(100), seconds(20));
    stage.form(&[patient("a", "i"), patient("b", "j")]);
    let a = stage.join(patient("a", "i").again());
    stage.advance(seconds(20));
    let members = stage.joined(a).unwrap().unwrap().members;
    assert_eq!(members.len(), 2, "b may come back");
    assert_eq!(stage.state(), State::CompletingRebalance);
}

#[test]
fn nobody_but_absent_static_members_waits_until_their_sessions_end() {
    let mut stage = Stage::new();
    let static_member = |name, instance| who(name).instance(instance).timeouts(seconds(100), seconds(20));
    stage.form(&[who("x").timeouts(SESSION, seconds(20)), static_member("a", "i")]);
    stage.advance(SESSION);
    assert_eq!(stage.members(), ["a"]);
    assert_eq!(stage.state(), State::PreparingRebalance);
    stage.advance(seconds(60));
    assert_eq!(
        stage.state(),
        State::PreparingRebalance,
        "nobody came, so there is no leader"
    );
    stage.advance(seconds(60));
    assert_eq!(stage.state(), State::Empty);
}

#[test]
fn restarted_member_is_not_removed_for_the_sync_that_its_predecessor_never_sent() {
    let mut stage = Stage::new();
    stage.join(who("a").instance("i"));
    stage.join(who("b").instance("j"));
    stage.advance(DELAY + DELAY);
    stage.sync_as("a", 1, &[("a", "0"), ("b", "1")], |_| {});
    for _ in 0..11 {
        stage.advance(seconds(5));
        assert_eq!((stage.heartbeat("a", 1), stage.heartbeat("b", 1)), (Ok(()), Ok(())));
    }
    stage.hold_stores = true;
    let b2 = stage.join(who("b2").instance("j"));
    stage.advance(seconds(6));
    assert_eq!(stage.members(), ["a", "b2"]);
    let fx = stage
        .group
        .stored(stage.now, stage.stores.last().unwrap().ticket, Ok(()));
    stage.take(fx);
    assert!(stage.joined(b2).unwrap().is_ok());
    assert_eq!(stage.state(), State::Stable);
}

#[test]
fn member_restarted_during_the_first_rebalance_may_wait_longer_than_its_session() {
    let mut stage = Stage::new();
    stage.join(who("a").instance("i"));
    let a2 = stage.join(who("a2").instance("i"));
    // Others keep coming, so that the initial wait takes longer than a session.
    for name in ["b", "c", "d", "e", "f", "g"] {
        stage.advance(seconds(2));
        stage.join(who(name));
    }
    assert_eq!(stage.joined(a2), None);
    stage.advance(DELAY + DELAY);
    assert!(stage.joined(a2).unwrap().is_ok());
}

#[test]
fn static_leader_that_is_away_does_not_lead() {
    let mut stage = Stage::new();
    let patient = |name, instance| who(name).instance(instance).timeouts(seconds(100), seconds(20));
    stage.form(&[patient("a", "i"), patient("b", "j")]);
    let b = stage.join(patient("b", "j").again().protocols(&[("range", "new")]));
    stage.advance(seconds(20));
    let joined = stage.joined(b).unwrap().unwrap();
    assert_eq!((joined.leader, joined.members.len()), (Some(id("b")), 2));
}
