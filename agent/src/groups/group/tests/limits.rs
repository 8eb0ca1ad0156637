//! What a hostile client runs into (MEM-1).

use super::*;

fn small() -> Stage {
    Stage::with(GroupSettings {
        members_max: 2,
        member_protocols_max: 3,
        member_bytes_max: 100,
        instance_id_bytes_max: 10,
        ..GroupSettings::default()
    })
}

#[test]
fn full_group_takes_nobody_new_but_lets_members_rejoin() {
    let mut stage = small();
    stage.form(&[who("a"), who("b")]);
    let full = Err(GroupError::GroupFull {
        limit: "members",
        max: 2,
    });
    assert_eq!(stage.join_now(who("c")), full);
    assert_eq!(stage.join_now(who("c").version(4)), full);
    let a = stage.join(who("a").again());
    // Both waited for count, b may still come.
    let b = stage.join(who("b").again());
    assert!(stage.joined(a).unwrap().is_ok() && stage.joined(b).unwrap().is_ok());
    assert_eq!(stage.members(), ["a", "b"]);
}

#[test]
fn those_who_come_first_fill_the_group_during_a_rebalance() {
    let mut stage = small();
    let joins = [stage.join(who("a")), stage.join(who("b"))];
    assert_eq!(
        stage.join_now(who("c")),
        Err(GroupError::GroupFull {
            limit: "members",
            max: 2
        })
    );
    stage.advance(DELAY + DELAY);
    for to in joins {
        assert!(stage.joined(to).unwrap().is_ok());
    }
}

#[test]
fn ids_are_not_given_out_without_end() {
    let mut stage = small();
    assert!(matches!(
        stage.join_now(who("a").version(4)),
        Err(GroupError::MemberIdRequired { .. })
    ));
    assert!(matches!(
        stage.join_now(who("b").version(4)),
        Err(GroupError::MemberIdRequired { .. })
    ));
    let refusal = stage.join_now(who("c").version(4));
    assert_eq!(
        refusal,
        Err(GroupError::Overloaded {
            limit: "members about to join",
            max: 2
        })
    );
    stage.advance(SESSION);
    assert!(matches!(
        stage.join_now(who("c").version(4)),
        Err(GroupError::MemberIdRequired { .. })
    ));
}

#[test]
fn oversized_requests_are_refused() {
    let mut stage = small();
    let too_large = |limit, max| Err(GroupError::RequestTooLarge { limit, max });
    let many = [("a", ""), ("b", ""), ("c", ""), ("d", "")];
    assert_eq!(
        stage.join_now(who("x").protocols(&many)),
        too_large("protocols of a member", 3)
    );
    let long = "m".repeat(101).leak();
    assert_eq!(
        stage.join_now(who("x").protocols(&[("p", long)])),
        too_large("bytes of protocols", 100)
    );
    assert_eq!(
        stage.join_now(who("x").instance("a long instance id")),
        too_large("bytes of an instance id", 10)
    );
    assert_eq!((stage.group.bytes(), stage.group.len()), (0, 0));
}

#[test]
fn oversized_assignment_is_refused_and_the_leader_may_try_again() {
    let mut stage = small();
    let a = stage.join(who("a"));
    stage.advance(DELAY);
    assert!(stage.joined(a).unwrap().is_ok());
    let long = "m".repeat(101);
    let to = stage.sync("a", 1, &[("a", &long)]);
    let refusal = GroupError::RequestTooLarge {
        limit: "bytes of an assignment",
        max: 100,
    };
    assert_eq!(stage.synced(to), Some(Err(refusal)));
    let to = stage.sync("a", 1, &[("a", "short")]);
    assert_eq!(stage.synced(to), Some(Ok("short".to_owned())));
}

#[test]
fn protocol_offered_twice_counts_once() {
    let mut stage = Stage::new();
    let a = stage.join(who("a").protocols(&[("range", "first"), ("range", "second")]));
    stage.join(who("b"));
    stage.advance(DELAY + DELAY);
    let joined = stage.joined(a).unwrap().unwrap();
    assert_eq!(joined.protocol, Some(ProtocolName::from("range")));
    assert_eq!(joined.members[0].metadata, Bytes::from_static(b"first"));
}

#[test]
fn bytes_follow_what_is_held() {
    let mut stage = Stage::new();
    stage.form(&[who("a"), who("b")]);
    let before = stage.group.bytes();
    assert!(before > 0);
    let b = stage.join(who("b").again().protocols(&[("range", "topics and more")]));
    assert_eq!(stage.group.bytes(), before + " and more".len());
    stage.leave(&[("a", None), ("b", None)]);
    assert!(stage.joined(b).unwrap().is_err());
    assert_eq!(stage.group.bytes(), 0);
}
