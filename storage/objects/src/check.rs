//! Whether a bucket is what Esker needs: each property tried on objects of a prefix of its own, which are removed again.
//!
//! Owns: the properties, how each is tried, what to do about one that does not hold.
//! Does not own: showing it (`esker check-store`).
//!
//! Invariants: what was written is deleted at the end, whatever failed before; every step has a bound.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::bucket::clock::StoreClock;
use crate::random::Random;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

#[cfg(test)]
mod tests;

/// How much is tried.
#[derive(Clone, Debug)]
pub struct CheckSettings {
    /// What all keys begin with; nobody else uses it. Without a slash at the end.
    pub prefix: String,
    /// Objects for listing: more than a page of a store holds, which is 1,000.
    pub many_objects: usize,
    /// Size of the large object. Esker writes none that is larger.
    pub large_bytes: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// Clocks may be apart by so much.
    pub clock_apart_max: Duration,
    /// For the contents of objects.
    pub seed: u64,
}

impl CheckSettings {
    /// The usual amounts.
    #[must_use]
    pub fn new(prefix: String, seed: u64) -> Self {
        Self {
            prefix,
            many_objects: 1_100,
            large_bytes: 32 << 20,
            concurrency: 16,
            clock_apart_max: Duration::from_secs(60),
            seed,
        }
    }
}

/// What a bucket must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// An object can be written and is read back as it was.
    WriteAndRead,
    /// The store's clock agrees with ours.
    Clock,
    /// A listing shows what was written before it.
    ListAfterWrite,
    /// Ranges are exact, and what is not there is said not to be.
    Ranges,
    /// A key can be written again.
    Overwrite,
    /// Large objects are stored whole.
    Large,
    /// Many objects are all listed, once, in order.
    Many,
    /// What was deleted is gone from reads and listings.
    Delete,
    /// The objects of this check are gone.
    CleanUp,
}

impl Property {
    /// In the order in which they are tried.
    pub const ALL: [Self; 9] = [
        Self::WriteAndRead,
        Self::Clock,
        Self::ListAfterWrite,
        Self::Ranges,
        Self::Overwrite,
        Self::Large,
        Self::Many,
        Self::Delete,
        Self::CleanUp,
    ];

    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteAndRead => "write and read",
            Self::Clock => "clock",
            Self::ListAfterWrite => "list after write",
            Self::Ranges => "ranges",
            Self::Overwrite => "overwrite",
            Self::Large => "large object",
            Self::Many => "many objects",
            Self::Delete => "delete",
            Self::CleanUp => "clean up",
        }
    }

    /// What to do if it does not hold.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::WriteAndRead => {
                "check the bucket's name, the endpoint, and that the credentials may put, get, list and delete objects"
            }
            Self::Clock => "set both clocks by NTP; with clocks this far apart garbage collection refuses to work",
            Self::ListAfterWrite => {
                "use a store, or a mode of it, with strong consistency; a cache or gateway between must not serve old listings"
            }
            Self::Ranges => {
                "look for a proxy or cache that changes range requests; Esker reads parts of objects all the time"
            }
            Self::Overwrite => "turn off object lock or any policy that forbids to write a key again: retries need it",
            Self::Large => "raise the limit on request bodies, and time-outs, of the store and of proxies before it",
            Self::Many => {
                "the store's listings are incomplete or out of order; without them garbage cannot be collected"
            }
            Self::Delete => {
                "allow deletes; on a versioned bucket add a lifecycle rule for old versions; without deletes the bucket only grows"
            }
            Self::CleanUp => "delete the objects of this prefix by hand",
        }
    }
}

/// What became of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; something worth knowing.
    Holds(String),
    /// It does not; why.
    Fails(String),
    /// It could not be tried, because of an earlier failure or because it means nothing for this store.
    NotTried(&'static str),
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which property.
    pub property: Property,
    /// What became of it.
    pub verdict: Verdict,
}

/// Tries everything.
pub async fn check(store: &dyn ObjectStore, clock: &StoreClock, settings: &CheckSettings) -> Vec<Finding> {
    let check = Check { store, settings };
    let mut findings = Vec::new();
    let mut usable = true;
    for property in Property::ALL {
        let verdict = match property {
            Property::Clock => Ok(check.clock(clock)),
            Property::CleanUp => check.clean_up().await.map(Verdict::Holds),
            _ if !usable => Ok(Verdict::NotTried("objects cannot be written and read")),
            _ => check.try_one(property).await.map(Verdict::Holds),
        };
        let verdict = verdict.unwrap_or_else(|why| Verdict::Fails(why.0));
        if property == Property::WriteAndRead {
            usable = matches!(verdict, Verdict::Holds(_));
        }
        findings.push(Finding { property, verdict });
    }
    findings
}

/// Why a property does not hold.
struct Why(String);

impl From<StoreError> for Why {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Why> {
    if holds { Ok(()) } else { Err(Why(otherwise())) }
}

/// Objects of the first step.
const FEW: u64 = 10;
/// Size of the object of which ranges are read.
const RANGED_BYTES: usize = 1 << 20;
/// Rounds of deletion at the end; each lists and deletes a page.
const CLEAN_UP_ROUNDS: usize = 64;
const PAGE: usize = 500;

struct Check<'a> {
    store: &'a dyn ObjectStore,
    settings: &'a CheckSettings,
}

impl Check<'_> {
    async fn try_one(&self, property: Property) -> Result<String, Why> {
        match property {
            Property::WriteAndRead => self.write_and_read().await,
            Property::ListAfterWrite => self.list_after_write().await,
            Property::Ranges => self.ranges().await,
            Property::Overwrite => self.overwrite().await,
            Property::Large => self.large().await,
            Property::Many => self.many().await,
            Property::Delete => self.delete().await,
            Property::Clock | Property::CleanUp => Ok(String::new()),
        }
    }

    fn key(&self, rest: &str) -> ObjectKey {
        ObjectKey(format!("{}/{rest}", self.settings.prefix))
    }

    /// Bytes that differ everywhere, and from one `nth` to the next.
    fn contents(&self, nth: u64, length: usize) -> Bytes {
        let mut random = Random::new(self.settings.seed.wrapping_add(nth));
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(random.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes.into()
    }

    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), Why> {
        Ok(self.store.create(key, vec![bytes]).await?)
    }

    async fn holds(&self, key: &ObjectKey, expected: &Bytes) -> Result<(), Why> {
        let length = u64::try_from(expected.len()).expect("a length fits 64 bits");
        let found = self.store.read(key, 0..length).await?;
        require(found == *expected, || format!("{key} reads back as something else"))
    }

    async fn write_and_read(&self) -> Result<String, Why> {
        let began = Instant::now();
        for nth in 0..FEW {
            let (key, bytes) = (self.key(&format!("few/{nth}")), self.contents(nth, 1_000));
            self.put(&key, bytes.clone()).await?;
            self.holds(&key, &bytes).await?;
        }
        let each = began.elapsed() / 2 / u32::try_from(FEW).expect("few");
        Ok(format!("{each:.1?} a request"))
    }

    fn clock(&self, clock: &StoreClock) -> Verdict {
        let Some(sample) = clock.last() else {
            return Verdict::NotTried("this store tells no time");
        };
        let apart = sample.apart();
        if apart > self.settings.clock_apart_max {
            let direction = if sample.store > sample.local {
                "ahead of"
            } else {
                "behind"
            };
            return Verdict::Fails(format!("the store's clock is {} s {direction} ours", apart.as_secs()));
        }
        Verdict::Holds(format!("{} s apart", apart.as_secs()))
    }

    async fn list_after_write(&self) -> Result<String, Why> {
        let under = self.key("listed/").0;
        for nth in 0..FEW {
            let key = self.key(&format!("listed/{nth}"));
            self.put(&key, self.contents(nth, 100)).await?;
            let found = self.store.list(&under, None, PAGE).await?;
            let expected = usize::try_from(nth + 1).expect("few");
            require(found.iter().any(|meta| meta.key == key), || {
                format!("{key} was written and is not listed")
            })?;
            require(found.len() == expected, || {
                format!("{} objects are listed, {expected} were written", found.len())
            })?;
            require(found.iter().all(|meta| meta.size_bytes == 100), || {
                "a listed size is wrong".to_owned()
            })?;
        }
        Ok(format!("{FEW} of {FEW} seen at once"))
    }

    async fn ranges(&self) -> Result<String, Why> {
        let (key, bytes) = (self.key("ranged"), self.contents(1, RANGED_BYTES));
        self.put(&key, bytes.clone()).await?;
        let end = u64::try_from(RANGED_BYTES).expect("small");
        let ranges: [Range<u64>; 6] = [0..1, 0..end, 1..2, end / 2..end, end - 1..end, 4_095..70_001];
        for range in ranges {
            let place = |at: u64| usize::try_from(at).expect("small");
            let expected = bytes.slice(place(range.start)..place(range.end));
            let found = self.store.read(&key, range.clone()).await?;
            require(found == expected, || {
                format!("bytes {} to {} are not those written", range.start, range.end)
            })?;
        }
        for range in [0..end + 1, end..end + 10] {
            let found = self.store.read(&key, range).await;
            require(found.is_err(), || "a range beyond the end is answered".to_owned())?;
        }
        self.is_absent(&self.key("never-written")).await?;
        Ok("exact".to_owned())
    }

    async fn is_absent(&self, key: &ObjectKey) -> Result<(), Why> {
        match self.store.read(key, 0..1).await {
            Err(StoreError::NotFound(_)) => Ok(()),
            Ok(_) => Err(Why(format!("{key} can be read and should not be there"))),
            Err(error) => Err(error.into()),
        }
    }

    async fn overwrite(&self) -> Result<String, Why> {
        let (key, bytes) = (self.key("again"), self.contents(1, 5_000));
        for _ in 0..3 {
            self.put(&key, bytes.clone()).await?;
            self.holds(&key, &bytes).await?;
        }
        let shorter = self.contents(2, 10);
        self.put(&key, shorter.clone()).await?;
        self.holds(&key, &shorter).await?;
        require(self.store.read(&key, 0..11).await.is_err(), || {
            "the old object shows behind the new one".to_owned()
        })?;
        Ok("the same and another".to_owned())
    }

    async fn large(&self) -> Result<String, Why> {
        let (key, bytes) = (self.key("large"), self.contents(1, self.settings.large_bytes));
        let began = Instant::now();
        self.put(&key, bytes.clone()).await?;
        let put = began.elapsed();
        self.holds(&key, &bytes).await?;
        let get = began.elapsed().saturating_sub(put);
        Ok(format!(
            "{} MiB: put {put:.1?}, get {get:.1?}",
            self.settings.large_bytes >> 20
        ))
    }

    async fn many(&self) -> Result<String, Why> {
        let mut keys: Vec<_> = (0..self.settings.many_objects)
            .map(|nth| self.key(&format!("many/{:02x}/{nth}", nth % 16)))
            .collect();
        let puts = keys.iter().map(|key| self.put(key, Bytes::from_static(b"x")));
        let outcomes: Vec<_> = stream::iter(puts)
            .buffer_unordered(self.settings.concurrency)
            .collect()
            .await;
        outcomes.into_iter().collect::<Result<(), Why>>()?;
        keys.sort();
        let under = self.key("many/").0;
        for page in [PAGE, usize::MAX] {
            let found: Vec<_> = self
                .list_all(&under, page)
                .await?
                .into_iter()
                .map(|meta| meta.key)
                .collect();
            require(found.is_sorted(), || "the listing is not in order".to_owned())?;
            require(found == keys, || {
                format!("{} of {} objects are listed", found.len(), keys.len())
            })?;
        }
        Ok(format!("{} listed in order", keys.len()))
    }

    async fn list_all(&self, under: &str, page: usize) -> Result<Vec<ObjectMeta>, Why> {
        let most = self.settings.many_objects * 2;
        let mut all: Vec<ObjectMeta> = Vec::new();
        while all.len() <= most {
            let after = all.last().map(|meta| meta.key.clone());
            let found = self.store.list(under, after.as_ref(), page.min(most)).await?;
            if found.is_empty() {
                break;
            }
            all.extend(found);
        }
        Ok(all)
    }

    async fn delete(&self) -> Result<String, Why> {
        let key = self.key("deleted/1");
        self.put(&key, self.contents(1, 100)).await?;
        // The second time there is nothing to delete, which is fine.
        for _ in 0..2 {
            self.store.delete(&key).await?;
            self.is_absent(&key).await?;
            let found = self.store.list(&self.key("deleted/").0, None, PAGE).await?;
            require(found.is_empty(), || format!("{key} was deleted and is still listed"))?;
        }
        Ok("gone at once".to_owned())
    }

    async fn clean_up(&self) -> Result<String, Why> {
        let under = self.key("").0;
        let mut deleted = 0;
        for _ in 0..CLEAN_UP_ROUNDS {
            let found = self.store.list(&under, None, PAGE).await?;
            if found.is_empty() {
                return Ok(format!("{deleted} objects deleted"));
            }
            let deletes = found.iter().map(|meta| self.store.delete(&meta.key));
            let outcomes: Vec<_> = stream::iter(deletes)
                .buffer_unordered(self.settings.concurrency)
                .collect()
                .await;
            deleted += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            if let Some(Err(error)) = outcomes.into_iter().find(Result::is_err) {
                return Err(error.into());
            }
        }
        Err(Why(format!("objects below {under} do not go away")))
    }
}
