//! Answers wait for what must be durable first.

use super::*;

fn held() -> Stage {
    let mut stage = Stage::new();
    stage.join(who("a"));
    stage.join(who("b"));
    stage.advance(DELAY + DELAY);
    stage.stores.clear();
    stage.hold_stores = true;
    stage
}

#[test]
fn assignment_is_handed_out_after_it_was_stored() {
    let mut stage = held();
    let b = stage.sync("b", 1, &[]);
    let a = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    assert_eq!((stage.synced(a), stage.synced(b)), (None, None));
    assert_eq!(stage.state(), State::CompletingRebalance);
    let store = stage.stores.pop().unwrap();
    assert_eq!(store.group.generation, Generation(1));
    assert_eq!(store.group.members[1].assignment, Bytes::from_static(b"1"));
    let fx = stage.group.stored(stage.now, store.ticket, Ok(()));
    stage.take(fx);
    assert_eq!(stage.synced(a), Some(Ok("0".to_owned())));
    assert_eq!(stage.synced(b), Some(Ok("1".to_owned())));
}

#[test]
fn leader_that_repeats_itself_while_it_is_stored_is_stored_once() {
    let mut stage = held();
    let first = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    let second = stage.sync("a", 1, &[("a", "1"), ("b", "0")]);
    assert_eq!(stage.synced(first), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(stage.stores.len(), 1);
    let fx = stage.group.stored(stage.now, stage.stores[0].ticket, Ok(()));
    stage.take(fx);
    assert_eq!(stage.synced(second), Some(Ok("0".to_owned())));
}

#[test]
fn assignment_that_could_not_be_stored_is_never_handed_out() {
    let mut stage = held();
    let b = stage.sync("b", 1, &[]);
    let a = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    let ticket = stage.stores[0].ticket;
    let fx = stage.group.stored(stage.now, ticket, Err(GroupError::Unavailable));
    stage.take(fx);
    assert_eq!(stage.synced(a), Some(Err(GroupError::Unavailable)));
    assert_eq!(stage.synced(b), Some(Err(GroupError::Unavailable)));
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn store_of_a_generation_that_is_over_changes_nothing() {
    let mut stage = held();
    let a = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    let ticket = stage.stores[0].ticket;
    stage.join(who("c"));
    assert_eq!(stage.synced(a), Some(Err(GroupError::RebalanceInProgress)));
    for outcome in [Ok(()), Err(GroupError::Unavailable)] {
        let fx = stage.group.stored(stage.now, ticket, outcome);
        assert!(fx.replies.is_empty() && fx.stores.is_empty());
    }
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn restarted_static_member_is_answered_after_it_was_stored() {
    let mut stage = Stage::new();
    stage.form(&[who("a").instance("i"), who("b").instance("j")]);
    stage.hold_stores = true;
    let b2 = stage.join(who("b2").instance("j"));
    assert_eq!(stage.joined(b2), None);
    let store = stage.stores.pop().unwrap();
    assert_eq!(store.group.members[1].member, id("b2"));
    let fx = stage.group.stored(stage.now, store.ticket, Ok(()));
    stage.take(fx);
    assert_eq!(stage.joined(b2).unwrap().unwrap().generation, Generation(1));
}

#[test]
fn rebalance_that_comes_first_answers_the_restarted_member_instead() {
    let mut stage = Stage::new();
    stage.form(&[who("a").instance("i"), who("b").instance("j")]);
    stage.hold_stores = true;
    let b2 = stage.join(who("b2").instance("j"));
    let store = stage.stores.pop().unwrap();
    stage.hold_stores = false;
    let a = stage.join(who("a").instance("i").again());
    assert_eq!(stage.joined(a).unwrap().unwrap().generation, Generation(2));
    assert_eq!(stage.joined(b2).unwrap().unwrap().generation, Generation(2));
    let fx = stage.group.stored(stage.now, store.ticket, Ok(()));
    assert!(fx.replies.is_empty());
}

#[test]
fn restored_group_goes_on_without_a_rebalance() {
    let mut before = Stage::new();
    before.form(&[who("a"), who("b").instance("j")]);
    let stored = before.stores.pop().unwrap().group;
    let mut stage = Stage::new();
    stage.now = seconds(1000);
    let rules = Arc::new(GroupSettings::default());
    stage.group = Group::restore(rules, stage.now, stored);
    assert_eq!(stage.group.describe(), before.group.describe());
    assert_eq!(stage.group.bytes(), before.group.bytes());
    assert_eq!(stage.heartbeat("a", 1), Ok(()));
    let b = stage.sync("b", 1, &[]);
    assert_eq!(stage.synced(b), Some(Ok("b".to_owned())));
    stage.advance(SESSION);
    assert_eq!(
        stage.state(),
        State::Empty,
        "sessions run from the moment it was restored"
    );
}

#[test]
fn group_that_became_empty_is_stored_as_such() {
    let mut stage = Stage::new();
    stage.form(&[who("a")]);
    stage.leave(&[("a", None)]);
    let stored = stage.stores.pop().unwrap().group;
    assert_eq!((stored.generation, stored.members.len()), (Generation(2), 0));
    let restored = Group::restore(Arc::new(GroupSettings::default()), seconds(5), stored);
    assert_eq!(restored.state(), State::Empty);
    assert!(restored.wakes_at().is_some(), "it will be forgotten");
}

#[test]
fn store_of_an_earlier_generation_does_not_confirm_a_later_one() {
    let mut stage = held();
    stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    stage.hold_stores = false;
    let c = stage.join(who("c"));
    stage.join(who("a").again());
    stage.join(who("b").again());
    stage.hold_stores = true;
    assert_eq!(stage.joined(c).unwrap().unwrap().generation, Generation(2));
    let a = stage.sync("a", 2, &[("a", "x")]);
    let (first, second) = (stage.stores[0].ticket, stage.stores[2].ticket);
    let fx = stage.group.stored(stage.now, first, Ok(()));
    stage.take(fx);
    assert_eq!(stage.synced(a), None);
    assert_eq!(stage.state(), State::CompletingRebalance);
    let fx = stage.group.stored(stage.now, second, Ok(()));
    stage.take(fx);
    assert_eq!(stage.synced(a), Some(Ok("x".to_owned())));
}

/// Two members whose first generation is being stored.
fn unannounced() -> (Stage, [ReplyTo; 2]) {
    let mut stage = Stage::new();
    stage.hold_stores = true;
    let joins = [stage.join(who("a")), stage.join(who("b").version(9))];
    let Some(Err(GroupError::MemberIdRequired { assigned })) = stage.joined(joins[1]) else {
        panic!("b is given an id first");
    };
    assert_eq!(assigned, id("b"));
    let b = stage.join(who("b").version(9).again());
    stage.advance(DELAY + DELAY);
    (stage, [joins[0], b])
}

fn confirm(stage: &mut Stage, at: usize, outcome: Result<(), GroupError>) {
    let fx = stage.group.stored(stage.now, stage.stores[at].ticket, outcome);
    stage.take(fx);
}

#[test]
fn generation_is_told_after_it_was_stored() {
    let (mut stage, [a, b]) = unannounced();
    assert_eq!((stage.joined(a), stage.joined(b)), (None, None));
    let stored = &stage.stores[0].group;
    assert_eq!(
        (stored.generation, stored.phase),
        (Generation(1), StoredPhase::Completing)
    );
    assert_eq!(stored.members.len(), 2);
    let early = stage.sync("a", 1, &[]);
    assert_eq!(stage.synced(early), Some(Err(GroupError::RebalanceInProgress)));
    stage.advance(REBALANCE + seconds(1));
    assert_eq!(stage.members().len(), 2, "nobody can be late for what he was not told");
    confirm(&mut stage, 0, Ok(()));
    for to in [a, b] {
        assert_eq!(stage.joined(to).unwrap().unwrap().generation, Generation(1));
    }
    stage.advance(SESSION - seconds(1));
    assert_eq!(stage.members().len(), 2, "sessions begin with the answer");
}

#[test]
fn those_who_come_while_a_generation_is_stored_are_in_the_next_one_together() {
    let (mut stage, [a, b]) = unannounced();
    let late: Vec<ReplyTo> = ["c", "d", "e"].map(|name| stage.join(who(name))).into();
    assert_eq!(stage.stores.len(), 1, "one at a time");
    confirm(&mut stage, 0, Ok(()));
    assert_eq!(stage.joined(a), None, "nobody hears of a generation that is over");
    assert_eq!(stage.stores.len(), 2);
    confirm(&mut stage, 1, Ok(()));
    for to in late.into_iter().chain([a, b]) {
        assert_eq!(stage.joined(to).unwrap().unwrap().generation, Generation(2));
    }
}

#[test]
fn member_that_asks_again_while_its_generation_is_stored_is_answered_with_it() {
    let (mut stage, [_, b]) = unannounced();
    let again = stage.join(who("b").version(9).again());
    assert_eq!(stage.joined(b), Some(Err(GroupError::RebalanceInProgress)));
    confirm(&mut stage, 0, Ok(()));
    assert_eq!(stage.joined(again).unwrap().unwrap().generation, Generation(1));
}

#[test]
fn generation_that_could_not_be_stored_keeps_those_who_can_come_back() {
    let (mut stage, [a, b]) = unannounced();
    confirm(&mut stage, 0, Err(GroupError::Unavailable));
    assert_eq!(stage.joined(a), Some(Err(GroupError::Unavailable)));
    assert_eq!(stage.joined(b), Some(Err(GroupError::Unavailable)));
    assert_eq!(stage.members(), ["b"], "a does not know its id");
    stage.hold_stores = false;
    let b = stage.join(who("b").version(9).again());
    assert_eq!(stage.joined(b).unwrap().unwrap().generation, Generation(2));
}

#[test]
fn group_is_taken_over_between_join_and_sync() {
    let mut before = Stage::new();
    before.join(who("a"));
    before.join(who("b"));
    before.advance(DELAY + DELAY);
    let stored = before.stores.pop().unwrap().group;
    let mut stage = Stage::new();
    stage.group = Group::restore(Arc::new(GroupSettings::default()), Duration::ZERO, stored);
    assert_eq!(stage.state(), State::CompletingRebalance);
    // One heard of the generation and goes on; the other did not and asks again.
    let b = stage.sync("b", 1, &[]);
    let a = stage.join_now(who("a").again()).unwrap();
    assert_eq!((a.generation, a.members.len()), (Generation(1), 2));
    let a = stage.sync("a", 1, &[("a", "0"), ("b", "1")]);
    assert_eq!(stage.synced(a), Some(Ok("0".to_owned())));
    assert_eq!(stage.synced(b), Some(Ok("1".to_owned())));
}

#[test]
fn members_that_do_not_sync_after_a_take_over_are_left_behind() {
    let mut before = Stage::new();
    before.join(who("a").timeouts(REBALANCE + REBALANCE, REBALANCE));
    before.join(who("b").timeouts(REBALANCE + REBALANCE, REBALANCE));
    before.advance(DELAY + DELAY);
    let stored = before.stores.pop().unwrap().group;
    let mut stage = Stage::new();
    stage.group = Group::restore(Arc::new(GroupSettings::default()), Duration::ZERO, stored);
    stage.sync("a", 1, &[("a", "0")]);
    stage.advance(REBALANCE + seconds(1));
    assert_eq!(stage.members(), ["a"]);
    assert_eq!(stage.state(), State::PreparingRebalance);
}

#[test]
fn rebalance_whose_time_is_over_waits_for_the_generation_that_is_being_stored() {
    let (mut stage, [a, _]) = unannounced();
    // Only static members and those who wait are there, so nobody's session ends.
    let late = stage.join(who("c").instance("k"));
    stage.group.roster.edit(&id("b"), |member| member.awaiting_join = None);
    stage
        .group
        .roster
        .edit(&id("b"), |member| member.session_ends = seconds(10_000));
    stage.advance(REBALANCE * 2);
    assert_eq!(stage.stores.len(), 1, "one at a time");
    assert_eq!(stage.state(), State::PreparingRebalance);
    confirm(&mut stage, 0, Ok(()));
    assert_eq!(stage.stores.len(), 2, "then it goes on without those who did not come");
    assert_eq!(stage.members(), ["a", "c"]);
    confirm(&mut stage, 1, Ok(()));
    for to in [a, late] {
        assert_eq!(stage.joined(to).unwrap().unwrap().generation, Generation(2));
    }
}

#[test]
fn session_of_a_restarted_static_member_begins_with_its_answer() {
    for outcome in [Ok(()), Err(GroupError::Unavailable)] {
        let mut stage = Stage::new();
        let long = |name| who(name).timeouts(seconds(1000), REBALANCE);
        stage.form(&[long("a").instance("i"), who("b").instance("j")]);
        stage.hold_stores = true;
        stage.join(who("b2").instance("j"));
        stage.advance(SESSION * 2);
        let last = stage.stores.len() - 1;
        confirm(&mut stage, last, outcome);
        stage.advance(SESSION - seconds(1));
        assert_eq!(stage.members(), ["a", "b2"], "the slow store is not its fault");
        stage.advance(seconds(2));
        assert_eq!(stage.members(), ["a"]);
    }
}

#[test]
fn last_member_that_leaves_is_stored_though_its_generation_is_being_stored() {
    let (mut stage, _) = unannounced();
    stage.leave(&[("a", None), ("b", None)]);
    assert_eq!(stage.state(), State::Empty);
    let last = &stage.stores.last().unwrap().group;
    assert_eq!((last.phase, last.generation), (StoredPhase::Empty, Generation(2)));
    confirm(&mut stage, 0, Ok(()));
    assert_eq!((stage.state(), stage.stores.len()), (State::Empty, 2));
}

#[test]
fn last_member_that_leaves_is_stored_though_an_id_was_given_out() {
    let mut stage = Stage::new();
    stage.form(&[who("a")]);
    stage.join(who("b").version(9));
    stage.leave(&[("a", None)]);
    assert_eq!(stage.state(), State::Empty);
    assert_eq!(stage.stores.last().unwrap().group.phase, StoredPhase::Empty);
    let b = stage.join(who("b").version(9).again());
    stage.advance(DELAY + DELAY);
    assert_eq!(stage.joined(b).unwrap().unwrap().generation, Generation(3));
}
