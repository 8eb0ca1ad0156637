//! Getting in, and in again.

use super::*;

#[test]
fn first_member_waits_for_the_initial_delay() {
    let mut stage = Stage::new();
    let to = stage.join(who("a"));
    assert_eq!(stage.state(), State::PreparingRebalance);
    stage.advance(DELAY - Duration::from_millis(1));
    assert_eq!(stage.joined(to), None);
    stage.advance(Duration::from_millis(1));
    let joined = stage.joined(to).unwrap().unwrap();
    assert_eq!(joined.generation, Generation(1));
    assert_eq!(joined.leader, Some(id("a")));
    assert_eq!(joined.protocol, Some(ProtocolName::from("range")));
    assert_eq!(stage.state(), State::CompletingRebalance);
}

#[test]
fn initial_delay_grows_while_members_keep_coming_but_not_beyond_the_rebalance_timeout() {
    let mut stage = Stage::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let short = |name| who(name).timeouts(SESSION, seconds(10));
    let first = stage.join(short(names[0]));
    let mut last = first;
    for name in &names[1..] {
        stage.advance(seconds(2));
        if stage.state() != State::PreparingRebalance {
            break;
        }
        last = stage.join(short(name));
    }
    // One member every 2 s would extend it for ever; 10 s after the first it is over.
    assert_eq!(stage.now, seconds(10));
    let first = stage.joined(first).unwrap().unwrap();
    assert_eq!(first.generation, Generation(1));
    assert_eq!(first.members.len(), 5);
    assert_eq!(stage.joined(last).unwrap().unwrap().generation, Generation(1));
}

#[test]
fn one_quiet_delay_ends_the_initial_wait() {
    let mut stage = Stage::new();
    let a = stage.join(who("a"));
    stage.advance(seconds(1));
    let b = stage.join(who("b"));
    stage.advance(seconds(2));
    assert_eq!(stage.joined(a), None, "b came during the first delay");
    stage.advance(seconds(3));
    assert_eq!(stage.joined(a).unwrap().unwrap().members.len(), 2);
    assert!(stage.joined(b).unwrap().is_ok());
}

#[test]
fn zero_initial_delay_starts_at_once() {
    let mut stage = Stage::without_delay();
    let joined = stage.join_now(who("a")).unwrap();
    assert_eq!(joined.generation, Generation(1));
}

#[test]
fn new_clients_must_come_back_with_the_id_they_are_given() {
    let mut stage = Stage::new();
    let refusal = stage.join_now(who("a").version(4)).unwrap_err();
    assert_eq!(refusal, GroupError::MemberIdRequired { assigned: id("a") });
    assert_eq!(stage.state(), State::Empty);
    let to = stage.join(who("a").version(4).again());
    stage.advance(DELAY);
    assert_eq!(stage.joined(to).unwrap().unwrap().member, id("a"));
}

#[test]
fn several_new_members_at_once_are_all_let_in() {
    let mut stage = Stage::without_delay();
    let names = ["a", "b", "c", "d"];
    for name in names {
        assert!(stage.join_now(who(name).version(9)).is_err());
    }
    let joins: Vec<ReplyTo> = names
        .iter()
        .map(|name| stage.join(who(name).version(9).again()))
        .collect();
    // The first one got a generation of its own, and learns by its heartbeat that others came.
    let first = stage.joined(joins[0]).unwrap().unwrap();
    assert_eq!(first.generation, Generation(1));
    assert_eq!(stage.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let a = stage.join(who("a").version(9).again());
    for to in joins[1..].iter().copied().chain([a]) {
        let joined = stage.joined(to).unwrap().unwrap();
        assert_eq!(joined.generation, Generation(2));
        assert_eq!(joined.leader, Some(id("a")));
        assert_eq!(joined.members.len(), if joined.member == id("a") { 4 } else { 0 });
    }
}

#[test]
fn rebalance_waits_for_a_member_that_was_given_an_id_but_not_longer_than_its_session() {
    let mut stage = Stage::new();
    stage.form(&[who("a")]);
    assert!(stage.join_now(who("b").version(4)).is_err());
    let a = stage.join(who("a").again());
    assert_eq!(stage.joined(a), None, "b is expected");
    stage.advance(SESSION);
    let joined = stage.joined(a).unwrap().unwrap();
    assert_eq!(joined.generation, Generation(2));
    assert_eq!(
        stage.join_now(who("b").version(4).again()),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn unknown_ids_are_refused() {
    let mut stage = Stage::new();
    assert_eq!(stage.join_now(who("x").again()), Err(GroupError::UnknownMember));
    stage.form(&[who("a")]);
    assert_eq!(stage.join_now(who("x").again()), Err(GroupError::UnknownMember));
    assert_eq!(
        stage.join_now(who("x").again().instance("i")),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn members_need_a_protocol_type_and_a_protocol_in_common() {
    let mut stage = Stage::new();
    let inconsistent = Err(GroupError::InconsistentProtocol);
    assert_eq!(stage.join_now(who("a").protocols(&[])), inconsistent);
    assert_eq!(stage.join_now(who("a").protocol_type("")), inconsistent);
    stage.form(&[who("a")]);
    assert_eq!(stage.join_now(who("b").protocol_type("connect")), inconsistent);
    assert_eq!(stage.join_now(who("b").protocols(&[("sticky", "")])), inconsistent);
    assert_eq!(stage.members(), ["a"]);
}

#[test]
fn most_wanted_protocol_that_all_know_wins() {
    let mut stage = Stage::new();
    let a = stage.join(who("a").protocols(&[("range", "ra"), ("sticky", "sa"), ("own", "oa")]));
    stage.join(who("b").protocols(&[("sticky", "sb"), ("range", "rb")]));
    stage.join(who("c").protocols(&[("other", "oc"), ("sticky", "sc"), ("range", "rc")]));
    stage.advance(DELAY);
    stage.advance(DELAY);
    let joined = stage.joined(a).unwrap().unwrap();
    assert_eq!(joined.protocol, Some(ProtocolName::from("sticky")));
    let metadata: Vec<&[u8]> = joined.members.iter().map(|member| &member.metadata[..]).collect();
    assert_eq!(
        metadata,
        [b"sa", b"sb", b"sc"],
        "the leader sees what each says under the chosen protocol"
    );
}

#[test]
fn follower_with_nothing_new_is_told_its_generation_again() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let joined = stage.join_now(who("b").again()).unwrap();
    assert_eq!((joined.generation, joined.leader), (Generation(1), Some(id("a"))));
    assert!(joined.members.is_empty());
    assert_eq!(stage.state(), State::Stable);
}

#[test]
fn changed_metadata_starts_a_rebalance() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let b = stage.join(who("b").again().protocols(&[("range", "more topics")]));
    assert_eq!(stage.joined(b), None);
    assert_eq!(stage.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let a = stage.join(who("a").again());
    let members = stage.joined(a).unwrap().unwrap().members;
    assert_eq!(members[1].metadata, Bytes::from_static(b"more topics"));
    assert_eq!(stage.joined(b).unwrap().unwrap().generation, Generation(2));
}

#[test]
fn leader_that_joins_again_starts_a_rebalance() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let a = stage.join(who("a").again());
    assert_eq!(stage.joined(a), None);
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn lost_answer_to_a_join_is_given_again() {
    let mut stage = Stage::new();
    let a = stage.join(who("a"));
    let b = stage.join(who("b"));
    stage.advance(DELAY);
    stage.advance(DELAY);
    let before = (stage.joined(a).unwrap(), stage.joined(b).unwrap());
    let after = (stage.join_now(who("a").again()), stage.join_now(who("b").again()));
    assert_eq!(before, after);
    assert_eq!(stage.state(), State::CompletingRebalance);
}

#[test]
fn second_join_of_a_waiting_member_replaces_the_first() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let first = stage.join(who("a").again());
    let second = stage.join(who("a").again());
    assert_eq!(stage.joined(first), Some(Err(GroupError::RebalanceInProgress)));
    let b = stage.join(who("b").again());
    assert!(stage.joined(second).unwrap().is_ok());
    assert!(stage.joined(b).unwrap().is_ok());
}

#[test]
fn new_member_that_nobody_answers_is_given_up_after_a_fixed_time() {
    let mut stage = Stage::with(GroupSettings {
        new_member_join_timeout: seconds(30),
        ..GroupSettings::default()
    });
    stage.form(&[who("a").timeouts(seconds(100), seconds(100))]);
    let b = stage.join(who("b"));
    stage.advance(seconds(29));
    assert_eq!(stage.joined(b), None);
    stage.advance(seconds(1));
    assert_eq!(stage.joined(b), Some(Err(GroupError::UnknownMember)));
    assert_eq!(stage.members(), ["a"]);
}
