//! Names of attempts, seen in the bucket.

use std::sync::Arc;
use std::time::Duration;

use esker_model::entry::Entry;
use esker_segment::id::{IncarnationId, IncarnationNumber, SegmentNumber, SessionId};
use esker_segment::name::{ClusterId, ObjectName, SegmentName};
use esker_segment::segment::{OrderList, SegmentBuilder};
use esker_storage::cache::{CacheSettings, SegmentCache};
use esker_storage::hedged::{HedgeSettings, Hedger};
use esker_storage::random::Random;
use esker_storage::simulated::{Call, Fault, Faults, SimulatedStore};
use tokio::time::Instant;

use super::{Upload, Uploader};

fn cluster() -> ClusterId {
    "c".parse().unwrap()
}

fn uploader(store: &SimulatedStore) -> Uploader {
    let store = Arc::new(store.clone());
    Uploader {
        store: store.clone(),
        cache: Arc::new(SegmentCache::new(store, CacheSettings::default())),
        cluster: cluster(),
        incarnation: (IncarnationNumber(1), IncarnationId(9)),
        zone: Box::from(""),
        puts: Arc::new(Hedger::puts(HedgeSettings::default())),
        random: Arc::new(|| 0),
    }
}

/// The name under which the segment is committed.
async fn upload(uploader: &Uploader, number: u64) -> SegmentName {
    let upload = Upload {
        session: SessionId(7),
        number: SegmentNumber(number),
        batches: Arc::new(SegmentBuilder::new()),
        order: OrderList::default(),
    };
    let (_, uploaded) = uploader.clone().run(upload).await;
    let Entry::Segment(entry) = uploaded.entry else {
        panic!("no segment: {:?}", uploaded.entry);
    };
    entry.name
}

fn attempts(store: &SimulatedStore, number: u64) -> Vec<u32> {
    let mut found: Vec<_> = store
        .keys()
        .iter()
        .filter_map(|key| match ObjectName::parse(&cluster(), key.as_str())? {
            ObjectName::Segment(name) if name.number.0 == number => Some((name.session, name.attempt)),
            ObjectName::Segment(_) | ObjectName::Other { .. } => None,
        })
        .collect();
    found.sort_unstable();
    assert!(found.iter().all(|(session, _)| *session == SessionId(7)));
    found.into_iter().map(|(_, attempt)| attempt).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_overtaken_and_its_object_is_garbage_by_name() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let uploader = uploader(&store);
    for number in 1..=40 {
        assert_eq!(upload(&uploader, number).await.attempt, 0);
    }
    // It takes effect and its answer never comes: the second one counts, and both are there.
    store.inject(Call::Create, Fault::LostAnswer);
    let began = Instant::now();
    assert_eq!(upload(&uploader, 41).await.attempt, 1);
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(
        attempts(&store, 41),
        [0, 1],
        "of one session and number: garbage collection knows the loser"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_failed_is_tried_again_under_the_next_name() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let uploader = uploader(&store);
    for fault in [
        Fault::FailAfter,
        Fault::FailBefore,
        Fault::Late(Duration::from_secs(60)),
    ] {
        store.inject(Call::Create, fault);
    }
    assert_eq!(upload(&uploader, 1).await.attempt, 3);
    assert_eq!(attempts(&store, 1), [0, 3]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(
        attempts(&store, 1),
        [0, 2, 3],
        "it landed late, under a name that nothing refers to"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_id_that_comes_again_writes_over_nothing() {
    let store = SimulatedStore::new(Random::new(1), Faults::NONE);
    let before = uploader(&store);
    // After the coordination store went back: the same session, the same number. The last attempt there is comes first.
    let mut after = before.clone();
    after.random = Arc::new(|| u128::from(u64::MAX));
    assert_eq!(upload(&before, 1).await.attempt, 0);
    store.inject(Call::Create, Fault::FailBefore);
    store.inject(Call::Create, Fault::FailBefore);
    assert_eq!(upload(&after, 1).await.attempt, 1);
    assert_eq!(attempts(&store, 1), [0, 1]);
    assert_eq!(upload(&after, 2).await.attempt, u32::MAX);
}
