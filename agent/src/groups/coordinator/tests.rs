//! The coordinator with time and tasks: paused time, so that nothing here waits for real.

mod expiry;

use std::collections::BTreeSet;

use bytes::Bytes;
use esker_model::entry::{OffsetAction, OffsetChange, OffsetCommit};
use esker_segment::id::Offset;

use super::*;
use crate::groups::fakes::{Bench, ORDERS, WALL_CLOCK, at};
use crate::groups::group::{Client, Protocol, StoredPhase, Timeouts};
use crate::groups::seams::OffsetLogError;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn group(name: &str) -> GroupId {
    GroupId::from(name)
}

fn join_as(coordinator: &Coordinator, member: &str, version: i16) -> JoinCommand {
    JoinCommand {
        member: MemberId::from(member),
        instance: None,
        client: Client {
            id: Arc::from("client"),
            host: Arc::from("/127.0.0.1"),
        },
        timeouts: Timeouts {
            session: SESSION,
            rebalance: REBALANCE,
        },
        protocol_type: ProtocolName::from("consumer"),
        protocols: vec![Protocol {
            name: ProtocolName::from("range"),
            metadata: Bytes::from_static(b"topics"),
        }],
        knows_member_id_required: version >= 4,
        knows_skip_assignment: version >= 9,
        fresh_id: coordinator.fresh_id("client"),
        reply_to: ReplyTo(0),
    }
}

fn sync_as(joined: &Joined, assignments: Vec<(MemberId, Bytes)>) -> SyncCommand {
    SyncCommand {
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments,
        reply_to: ReplyTo(0),
    }
}

/// Joins as a modern client does: twice if it is asked to.
async fn join(coordinator: &Arc<Coordinator>, name: &GroupId) -> Result<Joined, GroupError> {
    match coordinator.join(name, join_as(coordinator, "", 9)).await {
        Err(GroupError::MemberIdRequired { assigned }) => {
            coordinator.join(name, join_as(coordinator, assigned.as_str(), 9)).await
        }
        other => other,
    }
}

/// A member until it has an assignment; everybody is assigned its own id.
async fn settle_in(coordinator: Arc<Coordinator>, name: GroupId) -> Joined {
    let mut joined = join(&coordinator, &name).await.expect("let in");
    loop {
        let assignments = joined.members.iter();
        let assignments = assignments.map(|seen| (seen.member.clone(), Bytes::from(seen.member.as_str().to_owned())));
        let sync = sync_as(&joined, assignments.collect());
        match coordinator.sync(&name, sync).await {
            Ok(synced) => {
                assert_eq!(synced.assignment, joined.member.as_str().as_bytes());
                return joined;
            }
            Err(GroupError::RebalanceInProgress) => {
                let again = join_as(&coordinator, joined.member.as_str(), 9);
                joined = coordinator.join(&name, again).await.expect("let in again");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn commit_of(offset: i64) -> Vec<OffsetChange> {
    let commit = OffsetCommit {
        offset: Offset(offset),
        leader_epoch: None,
        metadata: "".into(),
        timestamp: WALL_CLOCK,
    };
    vec![OffsetChange {
        topic: ORDERS,
        partition: at(ORDERS, 0).partition,
        action: OffsetAction::Commit(commit),
    }]
}

fn committer(joined: &Joined) -> Committer {
    Committer {
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
    }
}

fn outsider() -> Committer {
    Committer {
        member: MemberId::from(""),
        instance: None,
        generation: Generation::NONE,
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_join_at_once_end_up_in_one_generation() {
    let bench = Bench::new(GroupSettings::default());
    let begin = Instant::now();
    let members: Vec<_> = (0..20)
        .map(|_| tokio::spawn(settle_in(Arc::clone(&bench.coordinator), group("g"))))
        .collect();
    let mut seen = BTreeSet::new();
    for member in members {
        let joined = member.await.unwrap();
        assert_eq!(joined.generation, Generation(1));
        assert!(seen.insert(joined.member));
    }
    assert_eq!(
        begin.elapsed().as_secs(),
        6,
        "the initial delay, once more because members kept coming"
    );
    let description = bench.coordinator.describe(&group("g")).unwrap();
    assert_eq!((description.state, description.members.len()), (State::Stable, 20));
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_groups_settle_without_an_initial_delay() {
    let bench = Bench::new(GroupSettings {
        initial_rebalance_delay: Duration::ZERO,
        ..GroupSettings::default()
    });
    let names: Vec<GroupId> = (0..200).map(|n| GroupId::from(format!("g{n}"))).collect();
    let members = names.iter().flat_map(|name| std::iter::repeat_n(name.clone(), 3));
    let members: Vec<_> = members
        .map(|name| tokio::spawn(settle_in(Arc::clone(&bench.coordinator), name)))
        .collect();
    for member in members {
        member.await.unwrap();
    }
    assert!(
        bench
            .coordinator
            .list()
            .iter()
            .all(|listed| listed.state != State::Empty)
    );
    assert_eq!(bench.coordinator.list().len(), 200);
    // Nobody sends heartbeats: all sessions end, and in time the groups are forgotten and hold nothing.
    tokio::time::sleep(REBALANCE + GroupSettings::default().empty_group_retention + seconds(60)).await;
    assert_eq!(bench.coordinator.list(), []);
    assert_eq!(bench.coordinator.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn silent_member_is_removed_and_the_other_one_gets_everything() {
    let bench = Bench::new(GroupSettings::default());
    let (a, b) = tokio::join!(
        settle_in(Arc::clone(&bench.coordinator), group("g")),
        settle_in(Arc::clone(&bench.coordinator), group("g"))
    );
    let beat = || bench.coordinator.heartbeat(&group("g"), &a.member, None, a.generation);
    for _ in 0..3 {
        assert_eq!(beat(), Ok(()));
        tokio::time::sleep(seconds(3)).await;
    }
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(beat(), Err(GroupError::RebalanceInProgress));
    let again = bench
        .coordinator
        .join(&group("g"), join_as(&bench.coordinator, a.member.as_str(), 9))
        .await
        .unwrap();
    assert_eq!((again.generation, again.members.len()), (Generation(2), 1));
    let lost = bench.coordinator.commit(&group("g"), &committer(&b), commit_of(5));
    assert_eq!(lost.err(), Some(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn client_that_hangs_up_while_it_waits_leaves_nothing_behind() {
    let bench = Bench::new(GroupSettings::default());
    let waiting = tokio::time::timeout(seconds(1), join(&bench.coordinator, &group("g"))).await;
    assert!(waiting.is_err());
    tokio::time::sleep(seconds(30)).await;
    assert_eq!(bench.coordinator.describe(&group("g")).unwrap().state, State::Empty);
    tokio::time::sleep(GroupSettings::default().empty_group_retention).await;
    assert_eq!(
        (bench.coordinator.describe(&group("g")), bench.coordinator.bytes()),
        (None, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn refused_first_join_leaves_no_group_behind() {
    let bench = Bench::new(GroupSettings::default());
    let mut command = join_as(&bench.coordinator, "", 9);
    command.protocols.clear();
    assert_eq!(
        bench.coordinator.join(&group("g"), command).await,
        Err(GroupError::InconsistentProtocol)
    );
    assert_eq!((bench.coordinator.list(), bench.coordinator.bytes()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn requests_outside_the_rules_are_refused() {
    let bench = Bench::new(GroupSettings::default());
    let coordinator = &bench.coordinator;
    let command = || join_as(coordinator, "", 9);
    assert_eq!(
        coordinator.join(&group(""), command()).await,
        Err(GroupError::InvalidGroupId)
    );
    for session in [seconds(5), seconds(1801)] {
        let mut command = command();
        command.timeouts.session = session;
        let refusal = coordinator.join(&group("g"), command).await;
        assert!(matches!(refusal, Err(GroupError::InvalidSessionTimeout { .. })));
    }
    let stranger = join_as(coordinator, "stranger", 9);
    assert_eq!(
        coordinator.join(&group("g"), stranger).await,
        Err(GroupError::UnknownMember)
    );
    let beat = coordinator.heartbeat(&group("g"), &MemberId::from("x"), None, Generation(1));
    assert_eq!(beat, Err(GroupError::UnknownMember));
    assert_eq!(coordinator.list(), []);
}

#[tokio::test(start_paused = true)]
async fn groups_are_bounded_and_empty_ones_make_room() {
    let bench = Bench::new(GroupSettings {
        groups_max: 2,
        ..GroupSettings::default()
    });
    let coordinator = &bench.coordinator;
    let a = settle_in(Arc::clone(coordinator), group("a")).await;
    let b = settle_in(Arc::clone(coordinator), group("b")).await;
    let full = Err(GroupError::Overloaded {
        limit: "groups",
        max: 2,
    });
    assert_eq!(join(coordinator, &group("c")).await, full);
    let leaver = Leaver {
        member: a.member,
        instance: None,
    };
    assert_eq!(coordinator.leave(&group("a"), &[leaver]).await, Ok(vec![Ok(())]));
    // The search for room is not repeated at every attempt.
    assert_eq!(join(coordinator, &group("c")).await, full);
    tokio::time::sleep(SWEEP_INTERVAL_MIN).await;
    settle_in(Arc::clone(coordinator), group("c")).await;
    let names: Vec<GroupId> = coordinator.list().into_iter().map(|listed| listed.group).collect();
    assert_eq!(names, [group("b"), group("c")]);
    assert_eq!(
        coordinator.heartbeat(&group("b"), &b.member, None, b.generation),
        Ok(())
    );
}

#[tokio::test(start_paused = true)]
async fn memory_of_all_groups_is_bounded() {
    let bench = Bench::new(GroupSettings {
        state_bytes_max: 100_000,
        ..GroupSettings::default()
    });
    let mut refused = 0;
    for n in 0..100 {
        let mut command = join_as(&bench.coordinator, "", 3);
        command.protocols[0].metadata = Bytes::from(vec![0; 10_000]);
        let coordinator = Arc::clone(&bench.coordinator);
        let joining = async move { coordinator.join(&GroupId::from(format!("g{}", n % 7)), command).await };
        if let Ok(result) = tokio::time::timeout(Duration::from_millis(1), joining).await {
            assert!(matches!(
                result,
                Err(GroupError::Overloaded {
                    limit: "bytes of all groups",
                    ..
                })
            ));
            refused += 1;
        }
        assert!(
            bench.coordinator.bytes() <= 100_000 + 20_000,
            "one request over the bound at most"
        );
    }
    assert!(refused > 80, "{refused}");
}

/// As settled by another coordinator: one member, which takes so many bytes.
async fn stored_with(name: &GroupId, bytes: usize) -> (Joined, StoredGroup) {
    let bench = Bench::new(GroupSettings::default());
    let mut command = join_as(&bench.coordinator, "", 3);
    command.protocols[0].metadata = Bytes::from(vec![0; bytes]);
    let joined = bench.coordinator.join(name, command).await.unwrap();
    let sync = sync_as(&joined, vec![(joined.member.clone(), Bytes::from_static(b"all"))]);
    bench.coordinator.sync(name, sync).await.unwrap();
    let stored = bench.store.stored.lock().unwrap().last().unwrap().clone();
    (joined, stored)
}

/// Of two coordinators that died at once: more than this one would have taken itself.
#[tokio::test(start_paused = true)]
async fn groups_that_are_taken_over_go_on_above_the_bound_and_nobody_else_gets_in() {
    let bench = Bench::new(GroupSettings {
        state_bytes_max: 20_000,
        ..GroupSettings::default()
    });
    let coordinator = &bench.coordinator;
    let full = |outcome| matches!(outcome, Err(GroupError::Overloaded { .. }));
    let mut members = Vec::new();
    for name in ["a", "b"] {
        let (joined, stored) = stored_with(&group(name), 15_000).await;
        coordinator.adopt(vec![(group(name), stored)]);
        members.push((group(name), joined));
    }
    let adopted = coordinator.bytes();
    assert!(adopted > 30_000);
    let with = |member: &str, bytes| {
        let mut command = join_as(coordinator, member, 3);
        command.protocols[0].metadata = Bytes::from(vec![1; bytes]);
        command
    };
    assert!(full(coordinator.join(&group("c"), with("", 10)).await), "a new group");
    assert!(full(coordinator.join(&group("a"), with("", 10)).await), "a new member");
    for (name, joined) in &members {
        let beat = || coordinator.heartbeat(name, &joined.member, None, joined.generation);
        assert_eq!(beat(), Ok(()));
        // A rebalance to its end, with what the member says of itself changed.
        let again = coordinator
            .join(name, with(joined.member.as_str(), 15_010))
            .await
            .unwrap();
        let sync = sync_as(&again, vec![(again.member.clone(), Bytes::from(vec![0; 1_000]))]);
        assert_eq!(coordinator.sync(name, sync).await.unwrap().assignment.len(), 1_000);
    }
    assert!(coordinator.bytes() < adopted + 4_000, "{}", coordinator.bytes());
    let grown = coordinator
        .join(&group("a"), with(members[0].1.member.as_str(), 40_000))
        .await;
    assert!(full(grown), "nor may they grow as they like");
    // Once one of them has gone there is room again.
    let (name, joined) = &members[1];
    let leaver = Leaver {
        member: joined.member.clone(),
        instance: None,
    };
    coordinator.leave(name, &[leaver]).await.unwrap();
    assert!(coordinator.join(&group("c"), with("", 10)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn assignment_waits_for_a_slow_store() {
    let bench = Bench::new(GroupSettings::default());
    let joined = join(&bench.coordinator, &group("g")).await.unwrap();
    bench.store.permits.forget_permits(usize::MAX);
    let sync = || sync_as(&joined, vec![(joined.member.clone(), Bytes::from_static(b"all"))]);
    let (coordinator, command) = (Arc::clone(&bench.coordinator), sync());
    let mut waiting = Box::pin(async move { coordinator.sync(&group("g"), command).await });
    assert!(tokio::time::timeout(seconds(5), &mut waiting).await.is_err());
    assert_eq!(
        bench.coordinator.describe(&group("g")).unwrap().state,
        State::CompletingRebalance
    );
    bench.store.permits.add_permits(1);
    assert_eq!(waiting.await.unwrap().assignment, Bytes::from_static(b"all"));
    let stored = bench.store.stored.lock().unwrap();
    let phases: Vec<StoredPhase> = stored.iter().map(|generation| generation.phase).collect();
    assert_eq!(phases, [StoredPhase::Completing, StoredPhase::Stable]);
}

#[tokio::test(start_paused = true)]
async fn generation_waits_for_a_slow_store() {
    let bench = Bench::new(GroupSettings::default());
    bench.store.permits.forget_permits(usize::MAX);
    let coordinator = Arc::clone(&bench.coordinator);
    let mut waiting = Box::pin(async move { join(&coordinator, &group("g")).await });
    assert!(tokio::time::timeout(seconds(8), &mut waiting).await.is_err());
    bench.store.permits.add_permits(1);
    assert_eq!(waiting.await.unwrap().generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn generation_that_could_not_be_stored_is_never_told() {
    let bench = Bench::new(GroupSettings::default());
    *bench.store.fails.lock().unwrap() = true;
    assert_eq!(
        join(&bench.coordinator, &group("g")).await,
        Err(GroupError::Unavailable)
    );
    *bench.store.fails.lock().unwrap() = false;
    let joined = settle_in(Arc::clone(&bench.coordinator), group("g")).await;
    assert!(joined.generation > Generation(1), "a number is used once, told or not");
}

#[tokio::test(start_paused = true)]
async fn group_that_is_being_taken_over_answers_later() {
    let bench = Bench::new(GroupSettings::default());
    *bench.ownership.standing.lock().unwrap() = Standing::Loading;
    let (coordinator, g) = (&bench.coordinator, group("g"));
    assert_eq!(join(coordinator, &g).await, Err(GroupError::Loading));
    let beat = coordinator.heartbeat(&g, &MemberId::from("m"), None, Generation(1));
    assert_eq!(beat, Ok(()), "some clients give their session up at any error");
    assert_eq!(coordinator.delete(&g).await, Err(GroupError::Loading));
    assert!(matches!(
        coordinator.delete_offsets(&g, |_| Ok(vec![])),
        Err(GroupError::Loading)
    ));
    assert!(matches!(
        coordinator.commit(&g, &outsider(), commit_of(1)),
        Err(GroupError::Loading)
    ));
}

#[tokio::test(start_paused = true)]
async fn next_coordinator_knows_the_members() {
    let first = Bench::new(GroupSettings::default());
    let member = settle_in(Arc::clone(&first.coordinator), group("g")).await;
    let stored = first.store.stored.lock().unwrap().last().unwrap().clone();
    let second = Bench::new(GroupSettings::default());
    second.coordinator.adopt(vec![(group("g"), stored)]);
    let coordinator = &second.coordinator;
    assert_eq!(coordinator.delete(&group("g")).await, Err(GroupError::NotEmpty));
    let beat = || coordinator.heartbeat(&group("g"), &member.member, None, member.generation);
    tokio::time::sleep(SESSION - seconds(1)).await;
    assert_eq!(beat(), Ok(()), "its session began at the take-over");
    tokio::time::sleep(SESSION + seconds(1)).await;
    assert_eq!(beat(), Err(GroupError::UnknownMember));
    assert_eq!(coordinator.describe(&group("g")).unwrap().state, State::Empty);
    assert!(coordinator.bytes() > 0);
    coordinator.delete(&group("g")).await.unwrap_or(());
    assert_eq!(coordinator.bytes(), 0);
    assert_eq!(*second.store.removed.lock().unwrap(), [group("g")]);
}

#[tokio::test(start_paused = true)]
async fn group_that_is_forgotten_is_not_stored_any_more() {
    let bench = Bench::new(GroupSettings::default());
    let member = settle_in(Arc::clone(&bench.coordinator), group("g")).await;
    let leaver = Leaver {
        member: member.member,
        instance: None,
    };
    bench.store.permits.forget_permits(usize::MAX);
    let coordinator = Arc::clone(&bench.coordinator);
    let mut leaving = Box::pin(async move { coordinator.leave(&group("g"), &[leaver]).await });
    let early = tokio::time::timeout(seconds(1), &mut leaving).await;
    assert!(
        early.is_err(),
        "who comes after a restart must not meet the member that went"
    );
    bench.store.permits.add_permits(2);
    assert_eq!(leaving.await, Ok(vec![Ok(())]));
    let last = bench.store.stored.lock().unwrap().last().unwrap().phase;
    assert_eq!(last, StoredPhase::Empty);
    assert!(bench.store.removed.lock().unwrap().is_empty());
    tokio::time::sleep(GroupSettings::default().empty_group_retention + seconds(1)).await;
    assert_eq!(*bench.store.removed.lock().unwrap(), [group("g")]);
}

#[tokio::test(start_paused = true)]
async fn assignment_that_could_not_be_stored_makes_members_join_again() {
    let bench = Bench::new(GroupSettings::default());
    let joined = join(&bench.coordinator, &group("g")).await.unwrap();
    *bench.store.fails.lock().unwrap() = true;
    let refused = bench.coordinator.sync(&group("g"), sync_as(&joined, vec![])).await;
    assert_eq!(refused, Err(GroupError::Unavailable));
    let beat = bench
        .coordinator
        .heartbeat(&group("g"), &joined.member, None, joined.generation);
    assert_eq!(beat, Err(GroupError::RebalanceInProgress));
}

#[tokio::test(start_paused = true)]
async fn groups_of_another_session_are_given_up() {
    let bench = Bench::new(GroupSettings::default());
    let kept = settle_in(Arc::clone(&bench.coordinator), group("kept")).await;
    let coordinator = Arc::clone(&bench.coordinator);
    let waiting = tokio::spawn(async move { join(&coordinator, &group("lost")).await });
    tokio::time::sleep(seconds(1)).await;
    bench.coordinator.give_up(|id| *id == group("lost"));
    assert_eq!(waiting.await.unwrap(), Err(GroupError::NotCoordinator));
    assert_eq!(bench.coordinator.list().len(), 1);
    let beat = bench
        .coordinator
        .heartbeat(&group("kept"), &kept.member, None, kept.generation);
    assert_eq!(beat, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn members_commit_and_strangers_do_not() {
    let bench = Bench::new(GroupSettings::default());
    let coordinator = &bench.coordinator;
    coordinator
        .commit(&group("g"), &outsider(), commit_of(1))
        .unwrap()
        .await
        .unwrap();
    let joined = settle_in(Arc::clone(coordinator), group("g")).await;
    coordinator
        .commit(&group("g"), &committer(&joined), commit_of(2))
        .unwrap()
        .await
        .unwrap();
    let refused = |committer: &Committer| coordinator.commit(&group("g"), committer, commit_of(3)).err();
    assert_eq!(refused(&outsider()), Some(GroupError::UnknownMember));
    let stale = Committer {
        generation: Generation(0),
        ..committer(&joined)
    };
    assert!(matches!(refused(&stale), Some(GroupError::IllegalGeneration { .. })));
    assert_eq!(bench.log.committed("g", at(ORDERS, 0)).unwrap().offset, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_that_is_gone_learn_that_they_must_join_again() {
    let bench = Bench::new(GroupSettings::default());
    let member = Committer {
        member: MemberId::from("m"),
        instance: None,
        generation: Generation(3),
    };
    let refused = |name: &str| bench.coordinator.commit(&group(name), &member, commit_of(3)).err();
    assert!(matches!(refused("never"), Some(GroupError::IllegalGeneration { .. })));
    bench.log.put("known", at(ORDERS, 0), 1);
    assert_eq!(refused("known"), Some(GroupError::UnknownMember));
    assert_eq!(bench.coordinator.list(), [], "commits make no groups");
}

#[tokio::test(start_paused = true)]
async fn group_is_deleted_with_its_offsets_once_it_is_empty() {
    let bench = Bench::new(GroupSettings::default());
    let coordinator = &bench.coordinator;
    assert_eq!(coordinator.delete(&group("g")).await, Err(GroupError::NoSuchGroup));
    let joined = settle_in(Arc::clone(coordinator), group("g")).await;
    coordinator
        .commit(&group("g"), &committer(&joined), commit_of(2))
        .unwrap()
        .await
        .unwrap();
    assert_eq!(coordinator.delete(&group("g")).await, Err(GroupError::NotEmpty));
    let leaver = Leaver {
        member: joined.member,
        instance: None,
    };
    coordinator.leave(&group("g"), &[leaver]).await.unwrap();
    assert_eq!(coordinator.delete(&group("g")).await, Ok(()));
    assert_eq!(
        (
            bench.log.committed("g", at(ORDERS, 0)),
            coordinator.list(),
            coordinator.bytes()
        ),
        (None, vec![], 0)
    );
    // Offsets without a coordinator's memory of the group.
    bench.log.put("old", at(ORDERS, 1), 9);
    *bench.log.commit_error.lock().unwrap() = Some(OffsetLogError::OutcomeUnknown);
    assert_eq!(coordinator.delete(&group("old")).await, Err(GroupError::Unavailable));
    *bench.log.commit_error.lock().unwrap() = None;
    assert_eq!(coordinator.delete(&group("old")).await, Ok(()));
    assert_eq!(coordinator.delete(&group("old")).await, Err(GroupError::NoSuchGroup));
}

#[tokio::test(start_paused = true)]
async fn member_ids_are_readable_and_bounded() {
    let bench = Bench::new(GroupSettings::default());
    assert_eq!(
        bench.coordinator.fresh_id("app").as_str(),
        "app-00000000-0000-0000-0000-000000000000"
    );
    assert_eq!(
        bench.coordinator.fresh_id("app").as_str(),
        "app-00000000-0000-0000-0000-000000000001"
    );
    let long = "é".repeat(20_000);
    assert_eq!(bench.coordinator.fresh_id(&long).len(), 1024 + 37);
}

#[tokio::test(start_paused = true)]
async fn a_group_with_many_offsets_is_deleted_in_entries_that_a_commit_can_hold() {
    let bench = Bench::new(GroupSettings::default());
    (0..2_500).for_each(|partition| bench.log.put("g", at(ORDERS, partition), 1));
    let before = bench.log.position();
    bench.coordinator.delete(&group("g")).await.unwrap();
    assert_eq!(bench.log.position().unwrap().0 - before.unwrap().0, 3);
    assert!(!bench.log.has_group(&group("g")));
}

#[tokio::test(start_paused = true)]
async fn group_that_is_given_up_while_its_offsets_are_read_is_not_deleted() {
    let bench = Bench::new(GroupSettings::default());
    bench.log.put("g", at(ORDERS, 0), 1);
    let ownership = Arc::clone(&bench.ownership);
    let lose = move || *ownership.standing.lock().unwrap() = Standing::Other;
    *bench.log.meanwhile.lock().unwrap() = Some(Box::new(lose));
    assert_eq!(
        bench.coordinator.delete(&group("g")).await,
        Err(GroupError::NotCoordinator)
    );
    assert!(bench.log.has_group(&group("g")));
    assert!(bench.store.removed.lock().unwrap().is_empty());
}
