//! Offsets expire after their group became empty, and never while it has members.

use tokio_util::sync::DropGuard;

use super::*;
use crate::groups::coordinator::OffsetExpiry;

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

#[tokio::test(start_paused = true)]
async fn offsets_of_a_group_with_members_never_expire() {
    let bench = Bench::new(GroupSettings::default());
    let _expiring = expiring(&bench);
    let joined = settle_in(Arc::clone(&bench.coordinator), group("g")).await;
    let committed = bench.coordinator.commit(&group("g"), &committer(&joined), commit_of(7));
    committed.unwrap().await.unwrap();
    let begin = Instant::now();
    while begin.elapsed() < 3 * RETENTION {
        tokio::time::sleep(SESSION / 2).await;
        bench
            .coordinator
            .heartbeat(&group("g"), &joined.member, None, joined.generation)
            .unwrap();
    }
    assert!(has(&bench, "g"), "however old it is");
    // The member goes silent; from then on the time counts.
    tokio::time::sleep(RETENTION - seconds(60)).await;
    assert!(has(&bench, "g"), "not before its time");
    tokio::time::sleep(DAY / 2).await;
    assert!(!has(&bench, "g"));
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
