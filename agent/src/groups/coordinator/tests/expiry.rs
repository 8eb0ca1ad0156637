//! Offsets expire after their group became empty; while it has members only those of topics that nobody subscribes to (KIP-211).

use tokio_util::sync::DropGuard;

use super::*;
use crate::groups::coordinator::OffsetExpiry;
use crate::groups::fakes::subscription;

const RETENTION: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

fn expiring(bench: &Bench) -> DropGuard {
    let stop = CancellationToken::new();
    let expiry = OffsetExpiry::new(Arc::clone(&bench.coordinator), RETENTION);
    tokio::spawn(expiry.run(stop.clone()));
    stop.drop_guard()
}

fn has(bench: &Bench, name: &str) -> bool {
    bench.log.committed(name, at(ORDERS, 0)).is_some()
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_consumer_without_a_group_expire_after_their_commit() {
    let bench = Bench::new(GroupSettings::default());
    let _expiring = expiring(&bench);
    let commit = |name: &str| {
        bench
            .coordinator
            .commit(&group(name), &outsider(), commit_of(7))
            .unwrap()
    };
    commit("old").await.unwrap();
    tokio::time::sleep(DAY).await;
    commit("new").await.unwrap();
    bench.log.put("staged", at(ORDERS, 0), 1);
    tokio::time::sleep(RETENTION - DAY - seconds(60)).await;
    assert!(has(&bench, "old"), "not before its time");
    tokio::time::sleep(DAY / 2).await;
    assert!(!has(&bench, "old") && has(&bench, "new"));
    tokio::time::sleep(DAY).await;
    assert!(!has(&bench, "new"));
}

fn join_of(bench: &Bench, member: &str, protocol_type: &str, metadata: Bytes) -> JoinCommand {
    let mut join = join_as(&bench.coordinator, member, 9);
    join.protocol_type = ProtocolName::from(protocol_type);
    join.protocols[0].metadata = metadata;
    join
}

/// The one member of a group of this protocol type, stable.
async fn alone(bench: &Bench, name: &str, protocol_type: &str, metadata: Bytes) -> Joined {
    let (coordinator, name) = (&bench.coordinator, group(name));
    let join = |member: &str| join_of(bench, member, protocol_type, metadata.clone());
    let Err(GroupError::MemberIdRequired { assigned }) = coordinator.join(&name, join("")).await else {
        panic!("let in at once");
    };
    let joined = coordinator.join(&name, join(assigned.as_str())).await.unwrap();
    let sync = sync_as(&joined, vec![(joined.member.clone(), Bytes::new())]);
    coordinator.sync(&name, sync).await.unwrap();
    joined
}

/// Time passes, and the member says that it lives.
async fn live_for(bench: &Bench, name: &str, joined: &Joined, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        tokio::time::sleep(SESSION / 2).await;
        let beat = bench
            .coordinator
            .heartbeat(&group(name), &joined.member, None, joined.generation);
        beat.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_topics_that_members_subscribe_to_never_expire() {
    for (protocol_type, metadata) in [
        ("consumer", subscription(&["orders", "others"])),
        // Nobody knows what they read.
        ("consumer", Bytes::from_static(b"?")),
        ("connect", subscription(&["others"])),
    ] {
        let bench = Bench::new(GroupSettings::default());
        let _expiring = expiring(&bench);
        let joined = alone(&bench, "g", protocol_type, metadata).await;
        let committed = bench.coordinator.commit(&group("g"), &committer(&joined), commit_of(7));
        committed.unwrap().await.unwrap();
        live_for(&bench, "g", &joined, 3 * RETENTION).await;
        assert!(has(&bench, "g"), "however old it is");
        // The member goes silent; from then on the time counts.
        tokio::time::sleep(RETENTION - seconds(60)).await;
        assert!(has(&bench, "g"), "not before its time");
        tokio::time::sleep(DAY / 2).await;
        assert!(!has(&bench, "g"));
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_topics_that_a_stable_group_left_expire_after_their_commit() {
    let bench = Bench::new(GroupSettings::default());
    let _expiring = expiring(&bench);
    let joined = alone(&bench, "g", "consumer", subscription(&["others"])).await;
    let commit = || bench.coordinator.commit(&group("g"), &committer(&joined), commit_of(7));
    commit().unwrap().await.unwrap();
    live_for(&bench, "g", &joined, RETENTION - DAY).await;
    commit().unwrap().await.unwrap();
    live_for(&bench, "g", &joined, RETENTION - seconds(60)).await;
    assert!(has(&bench, "g"), "not before the time of its latest commit");
    live_for(&bench, "g", &joined, DAY / 2).await;
    assert!(!has(&bench, "g"));
}

#[tokio::test(start_paused = true)]
async fn nothing_expires_during_a_rebalance() {
    let bench = Bench::new(GroupSettings::default());
    let _expiring = expiring(&bench);
    let joined = alone(&bench, "g", "consumer", subscription(&["others"])).await;
    let committed = bench.coordinator.commit(&group("g"), &committer(&joined), commit_of(7));
    committed.unwrap().await.unwrap();
    live_for(&bench, "g", &joined, RETENTION - seconds(60)).await;
    // It joins again and does not get any further, again and again, while the offset gets older than the time.
    let (name, begin) = (group("g"), Instant::now());
    for others in [["others", "a"], ["others", "b"]].iter().cycle() {
        if begin.elapsed() > DAY / 2 {
            break;
        }
        let again = join_of(&bench, joined.member.as_str(), "consumer", subscription(others));
        bench.coordinator.join(&name, again).await.unwrap();
        let state = bench.coordinator.describe(&name).map(|group| group.state);
        assert_eq!(state, Some(State::CompletingRebalance));
        tokio::time::sleep(SESSION / 2).await;
    }
    assert!(has(&bench, "g"), "somebody may be about to subscribe to it again");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_just_started_expires_nothing() {
    let bench = Bench::new(GroupSettings::default());
    let commit = bench.coordinator.commit(&group("g"), &outsider(), commit_of(7));
    commit.unwrap().await.unwrap();
    tokio::time::sleep(2 * RETENTION).await;
    let _expiring = expiring(&bench);
    tokio::time::sleep(RETENTION - seconds(60)).await;
    assert!(has(&bench, "g"), "its members may be about to come back");
    tokio::time::sleep(DAY).await;
    assert!(!has(&bench, "g"));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_shard_that_moved_stay_until_it_was_watched_for_the_whole_time() {
    let bench = Bench::new(GroupSettings::default());
    let _expiring = expiring(&bench);
    let commit = bench.coordinator.commit(&group("g"), &outsider(), commit_of(7));
    commit.unwrap().await.unwrap();
    // Another coordinator, which saw members of the group, had the shard meanwhile.
    *bench.ownership.held_since.lock().unwrap() = None;
    tokio::time::sleep(2 * RETENTION).await;
    assert!(has(&bench, "g"), "not its business");
    *bench.ownership.held_since.lock().unwrap() = Some(Instant::now());
    tokio::time::sleep(RETENTION - seconds(60)).await;
    assert!(has(&bench, "g"), "its members may be about to come back");
    tokio::time::sleep(DAY).await;
    assert!(!has(&bench, "g"));
}
