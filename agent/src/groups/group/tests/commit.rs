//! Who may commit offsets (GRP-1).

use super::*;

fn check(stage: &mut Stage, member: &str, generation: i32) -> Result<(), GroupError> {
    stage
        .group
        .check_commit(stage.now, &id(member), None, Generation(generation))
}

#[test]
fn outsiders_may_commit_while_the_group_is_empty() {
    let mut stage = Stage::new();
    assert_eq!(check(&mut stage, "", -1), Ok(()));
    assert_eq!(check(&mut stage, "admin", -1), Ok(()));
    assert_eq!(check(&mut stage, "a", 0), Err(GroupError::UnknownMember));
    stage.form(&[who("a")]);
    assert_eq!(check(&mut stage, "", -1), Err(GroupError::UnknownMember));
    let illegal = GroupError::IllegalGeneration {
        current: Generation(1),
        found: Generation(-1),
    };
    assert_eq!(check(&mut stage, "a", -1), Err(illegal));
    stage.leave(&[("a", None)]);
    assert_eq!(check(&mut stage, "", -1), Ok(()));
}

#[test]
fn stale_generation_and_strangers_cannot_commit() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    assert_eq!(check(&mut stage, "a", 1), Ok(()));
    assert_eq!(check(&mut stage, "x", 1), Err(GroupError::UnknownMember));
    let illegal = |found| {
        Err(GroupError::IllegalGeneration {
            current: Generation(1),
            found: Generation(found),
        })
    };
    assert_eq!(check(&mut stage, "a", 0), illegal(0));
    assert_eq!(check(&mut stage, "a", 2), illegal(2));
}

#[test]
fn members_may_commit_before_they_rejoin_but_not_before_they_are_assigned() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let a = stage.join(who("a").again());
    assert_eq!(check(&mut stage, "b", 1), Ok(()), "what it has read in this generation");
    let b = stage.join(who("b").again());
    assert!(stage.joined(a).unwrap().is_ok() && stage.joined(b).unwrap().is_ok());
    assert_eq!(check(&mut stage, "b", 2), Err(GroupError::RebalanceInProgress));
    let illegal = GroupError::IllegalGeneration {
        current: Generation(2),
        found: Generation(1),
    };
    assert_eq!(check(&mut stage, "b", 1), Err(illegal));
}

#[test]
fn commits_keep_the_session() {
    let mut stage = Stage::new();
    stage.form(&[who("a")]);
    for _ in 0..5 {
        stage.advance(SESSION - seconds(1));
        assert_eq!(check(&mut stage, "a", 1), Ok(()));
    }
}

#[test]
fn removed_member_cannot_commit() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    stage.advance(seconds(9));
    assert_eq!(stage.heartbeat("a", 1), Ok(()));
    stage.advance(seconds(1));
    assert_eq!(check(&mut stage, "b", 1), Err(GroupError::UnknownMember));
}

#[test]
fn only_groups_without_members_can_be_deleted() {
    let mut stage = Stage::new();
    assert_eq!(stage.group.check_delete(), Ok(()));
    stage.form(&[who("a")]);
    assert_eq!(stage.group.check_delete(), Err(GroupError::NotEmpty));
    stage.leave(&[("a", None)]);
    assert_eq!(stage.group.check_delete(), Ok(()));
    let _ = stage.group.end(&GroupError::Unavailable);
    assert_eq!(stage.group.check_delete(), Err(GroupError::NoSuchGroup));
}
