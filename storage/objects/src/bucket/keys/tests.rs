//! Keys that expire, sources that fail, many callers at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::{advance, sleep};

use super::super::settings::{AccessKey, Secret, WallClock};
use super::{FoundKey, KeySource, Keys, PAUSE};

/// Keys `key-1`, `key-2`, …, or errors.
#[derive(Clone, Default)]
struct Source {
    asked: Arc<AtomicU64>,
    broken: Arc<Mutex<bool>>,
    /// Seconds since the epoch.
    now: Arc<AtomicU64>,
    /// Of a key, in seconds; 0 for an hour.
    life: Arc<AtomicU64>,
}

const HOUR: u64 = 3_600;

#[async_trait]
impl KeySource for Source {
    async fn find(&self) -> Result<FoundKey, String> {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(100)).await;
        let life = match self.life.load(Ordering::Relaxed) {
            0 => HOUR,
            seconds => seconds,
        };
        if *self.broken.lock().unwrap() {
            return Err("no role".to_owned());
        }
        Ok(FoundKey {
            key: AccessKey {
                id: format!("key-{nth}"),
                secret: Secret(String::new()),
                session_token: None,
            },
            expires: Some(self.time() + Duration::from_secs(life)),
        })
    }
}

impl Source {
    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.load(Ordering::Relaxed))
    }

    fn keys(&self) -> Keys {
        let clock = self.clone();
        let wall_clock: WallClock = Arc::new(move || clock.time());
        Keys::new(self.clone(), wall_clock)
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn id(keys: &Keys) -> String {
    keys.get().await.unwrap().id.clone()
}

#[tokio::test(start_paused = true)]
async fn a_key_is_kept_and_replaced_before_it_expires() {
    let source = Source::default();
    let keys = source.keys();
    for _ in 0..100 {
        assert_eq!(id(&keys).await, "key-1");
    }
    source.pass(HOUR - 400);
    assert_eq!(id(&keys).await, "key-1");
    source.pass(200);
    assert_eq!(id(&keys).await, "key-2");
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_callers_fetch_one_key() {
    let source = Source::default();
    let keys = source.keys();
    let found = join_all((0..50).map(|_| id(&keys))).await;
    assert!(found.iter().all(|id| id == "key-1"));
    // When it is due, one fetches; the others do not wait.
    source.pass(HOUR - 200);
    let found = join_all((0..50).map(|_| id(&keys))).await;
    assert_eq!(found.iter().filter(|id| *id == "key-1").count(), 49);
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_good_key_is_used_while_no_new_one_can_be_had() {
    let source = Source::default();
    let keys = source.keys();
    assert_eq!(id(&keys).await, "key-1");
    *source.broken.lock().unwrap() = true;
    source.pass(HOUR - 200);
    for _ in 0..100 {
        assert_eq!(id(&keys).await, "key-1");
    }
    assert_eq!(source.asked(), 2, "nobody is asked all the time");
    // Once it has expired there is none, and the source is asked again only after a pause.
    source.pass(200);
    for _ in 0..10 {
        assert_eq!(keys.get().await.unwrap_err(), "no role");
    }
    assert!(source.asked() <= 3, "{}", source.asked());
    *source.broken.lock().unwrap() = false;
    advance(PAUSE).await;
    assert!(keys.get().await.is_ok(), "and it recovers by itself");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_refused_is_not_used_again() {
    let source = Source::default();
    let keys = source.keys();
    assert_eq!(id(&keys).await, "key-1");
    keys.refused();
    assert_eq!(id(&keys).await, "key-2");
}

#[tokio::test(start_paused = true)]
async fn a_key_with_a_short_life_is_not_fetched_for_every_request() {
    let source = Source::default();
    source.life.store(60, Ordering::Relaxed);
    let keys = source.keys();
    for _ in 0..29 {
        source.pass(1);
        assert_eq!(id(&keys).await, "key-1");
    }
    source.pass(1);
    source.pass(1);
    assert_eq!(id(&keys).await, "key-2");
    assert_eq!(source.asked(), 2);
}
