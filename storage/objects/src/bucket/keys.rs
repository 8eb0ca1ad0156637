//! Credentials that are fetched before they are needed and kept until they expire.
//!
//! Owns: when a new key is fetched, and that one caller at a time does it.
//! Does not own: where keys come from (`aws`).
//!
//! Invariants: a key that is still good is used while a new one cannot be had; nobody waits for a fetch while there is one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::warn;

use super::settings::{AccessKey, WallClock};

#[cfg(test)]
mod tests;

/// A new key is fetched when the old one has so long to live, or half of the time it had.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// A key is not used any more when it has less than this to live.
const MARGIN: Duration = Duration::from_secs(10);
/// After a fetch that failed nobody tries again for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// A fetch that takes longer has failed.
const FIND_TIMEOUT: Duration = Duration::from_secs(20);

/// A key and until when it is good.
pub(super) struct FoundKey {
    pub(super) key: AccessKey,
    /// `None`: for ever.
    pub(super) expires: Option<SystemTime>,
}

/// Where keys come from.
#[async_trait]
pub(super) trait KeySource: Send + Sync + 'static {
    /// A key that is good now, or why there is none.
    async fn find(&self) -> Result<FoundKey, String>;
}

/// The current key.
pub(super) struct Keys {
    source: Box<dyn KeySource>,
    wall_clock: WallClock,
    held: Mutex<Held>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    key: Option<(Arc<AccessKey>, Option<Life>)>,
    /// No fetch before, and why the last one failed.
    failed: Option<(Instant, String)>,
}

#[derive(Clone, Copy)]
struct Life {
    /// When a new key is fetched.
    due: SystemTime,
    /// When this one is not used any more.
    end: SystemTime,
}

impl Life {
    fn until(expires: SystemTime, now: SystemTime) -> Self {
        let left = expires.duration_since(now).unwrap_or_default();
        Self {
            due: expires - REFRESH_BEFORE.min(left / 2),
            end: expires - MARGIN.min(left / 2),
        }
    }
}

enum Look {
    /// Good for a while.
    Fresh(Arc<AccessKey>),
    /// Good, but soon not.
    Due(Arc<AccessKey>),
    Absent,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    pub(super) fn new(source: impl KeySource, wall_clock: WallClock) -> Self {
        Self {
            source: Box::new(source),
            wall_clock,
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// A key that is good now.
    pub(super) async fn get(&self) -> Result<Arc<AccessKey>, String> {
        let guard = match self.look() {
            Look::Fresh(key) => return Ok(key),
            Look::Due(key) => match self.fetching.try_lock() {
                Ok(guard) => guard,
                Err(_) => return Ok(key),
            },
            Look::Absent => self.fetching.lock().await,
        };
        // Somebody may have fetched one, or failed to, while we waited.
        let old = match self.look() {
            Look::Fresh(key) => return Ok(key),
            Look::Due(key) => Some(key),
            Look::Absent => None,
        };
        let failed = self.lately_failed();
        let outcome = match failed {
            Some(reason) => Err(reason),
            None => self.fetch().await,
        };
        drop(guard);
        match (outcome, old) {
            (Ok(key), _) | (Err(_), Some(key)) => Ok(key),
            (Err(reason), None) => Err(reason),
        }
    }

    /// The key was refused although its time was not over: the next call fetches another.
    pub(super) fn refused(&self) {
        self.held().key = None;
    }

    async fn fetch(&self) -> Result<Arc<AccessKey>, String> {
        let found = tokio::time::timeout(FIND_TIMEOUT, self.source.find())
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = (self.wall_clock)();
        let mut held = self.held();
        match found {
            Ok(found) => {
                let key = Arc::new(found.key);
                let life = found.expires.map(|expires| Life::until(expires, now));
                held.key = Some((Arc::clone(&key), life));
                held.failed = None;
                Ok(key)
            }
            Err(reason) => {
                warn!(%reason, "no credentials for the object store");
                held.failed = Some((Instant::now() + PAUSE, reason.clone()));
                Err(reason)
            }
        }
    }

    fn lately_failed(&self) -> Option<String> {
        let held = self.held();
        let (until, reason) = held.failed.as_ref()?;
        (Instant::now() < *until).then(|| reason.clone())
    }

    fn look(&self) -> Look {
        let held = self.held();
        let Some((key, life)) = &held.key else {
            return Look::Absent;
        };
        let now = (self.wall_clock)();
        match life {
            Some(life) if now >= life.end => Look::Absent,
            Some(life) if now >= life.due => Look::Due(Arc::clone(key)),
            Some(_) | None => Look::Fresh(Arc::clone(key)),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One key for ever.
pub(super) struct FixedKey(pub(super) AccessKey);

#[async_trait]
impl KeySource for FixedKey {
    async fn find(&self) -> Result<FoundKey, String> {
        Ok(FoundKey {
            key: self.0.clone(),
            expires: None,
        })
    }
}
