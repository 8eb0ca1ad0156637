//! A bucket in memory in which things go wrong as they do in real ones, the same way for the same seed.
//!
//! Owns: objects, pending late effects, stale listings, the trace.
//! Does not own: time (tokio's, so that paused time works), randomness (the seed is given).
//!
//! Invariants: all random numbers of a call are drawn when it begins, so that the same calls in the same order see the same;
//! without faults it is an ordinary bucket and passes the conformance suite.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::bucket::beyond_end;
use crate::random::Random;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

mod faults;
#[cfg(test)]
mod tests;

pub use faults::{Call, Fault, Faults, Latency};

/// How long a call hangs whose answer is lost.
const LOST_ANSWER_HANGS: Duration = Duration::from_hours(1);
/// Most events kept of a trace; the digest is over all.
pub const TRACE_EVENTS_MAX: usize = 10_000;

/// One thing that the store did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// Time since the store was made.
    pub at: Duration,
    /// What, and to which object.
    pub what: String,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} {}", self.at.as_secs_f64(), self.what)
    }
}

/// A simulated bucket; clones are the same bucket.
#[derive(Clone)]
pub struct SimulatedStore {
    state: Arc<Mutex<State>>,
}

struct State {
    began: Instant,
    random: Random,
    faults: Faults,
    /// Faults asked for by a test, each for the next call of its kind.
    scripted: VecDeque<(Call, Fault)>,
    objects: BTreeMap<ObjectKey, Object>,
    /// Deleted objects that listings still show, and until when.
    ghosts: BTreeMap<ObjectKey, (Object, Instant)>,
    /// Effects that take place later, by when and by the order in which they were begun.
    late: BTreeMap<(Instant, u64), Effect>,
    begun: u64,
    trace: VecDeque<TraceEvent>,
    digest: xxhash_rust::xxh3::Xxh3Default,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    written: Instant,
    /// Listings show it from then on.
    listed: Instant,
}

enum Effect {
    Put(ObjectKey, Bytes, Duration),
    Delete(ObjectKey, Duration),
}

/// What was drawn for one call.
struct Course {
    fault: Option<Fault>,
    there: Duration,
    back: Duration,
    /// How much later listings learn of the effect.
    stale_by: Duration,
    /// Which bit a flip hits.
    bit: u64,
}

impl SimulatedStore {
    /// An empty bucket. It must be made within a tokio runtime.
    #[must_use]
    pub fn new(random: Random, faults: Faults) -> Self {
        let state = State {
            began: Instant::now(),
            random,
            faults,
            scripted: VecDeque::new(),
            objects: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            late: BTreeMap::new(),
            begun: 0,
            trace: VecDeque::new(),
            digest: xxhash_rust::xxh3::Xxh3Default::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Lets this fault happen to the next call of this kind that has none asked for yet.
    pub fn inject(&self, call: Call, fault: Fault) {
        self.state().scripted.push_back((call, fault));
    }

    /// Takes an object away for good, as a bucket does that loses data. Whether it was there.
    pub fn lose(&self, key: &ObjectKey) -> bool {
        let mut state = self.state();
        state.land();
        state.objects.remove(key).is_some()
    }

    /// Flips one bit of a stored object for good. Whether the object has that many bits.
    pub fn corrupt(&self, key: &ObjectKey, bit: u64) -> bool {
        let mut state = self.state();
        state.land();
        let Some(object) = state.objects.get_mut(key) else {
            return false;
        };
        let flipped = flip(&object.bytes, bit);
        let changed = flipped.is_some();
        object.bytes = flipped.unwrap_or_else(|| object.bytes.clone());
        changed
    }

    /// What is really there, whatever listings say.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        let mut state = self.state();
        state.land();
        state.objects.keys().cloned().collect()
    }

    /// The last events.
    #[must_use]
    pub fn trace(&self) -> Vec<TraceEvent> {
        self.state().trace.iter().cloned().collect()
    }

    /// Digest over all events: same seed and same calls, same digest.
    #[must_use]
    pub fn trace_digest(&self) -> u128 {
        self.state().digest.digest128()
    }

    /// Draws the course of a call and waits for the way there. Errors when the call fails before it has an effect.
    async fn begin(&self, call: Call, key: &ObjectKey) -> Result<Course, StoreError> {
        let course = self.state().draw(call);
        wait(course.there).await;
        let mut state = self.state();
        state.land();
        state.note(Instant::now(), format_args!("{call:?} {key} {:?}", course.fault));
        if course.fault == Some(Fault::FailBefore) {
            Err(StoreError::failed(key, "simulated refusal"))
        } else {
            Ok(course)
        }
    }

    /// Puts an effect into force as the course says, and waits for the way back.
    async fn effect(&self, course: Course, key: &ObjectKey, effect: Effect) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            match course.fault {
                Some(Fault::Vanish) => {}
                Some(Fault::Late(by)) => {
                    let due = Instant::now() + by;
                    state.begun += 1;
                    let begun = state.begun;
                    state.late.insert((due, begun), effect);
                }
                _ => state.apply(effect, Instant::now()),
            }
        }
        wait(course.back).await;
        match course.fault {
            None => Ok(()),
            Some(Fault::LostAnswer) => {
                sleep(LOST_ANSWER_HANGS).await;
                Err(StoreError::unknown(key, "simulated loss of the answer"))
            }
            Some(_) => Err(StoreError::unknown(key, "simulated error")),
        }
    }

    /// Ends a call without effect.
    async fn answer<T>(course: &Course, key: &ObjectKey, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        wait(course.back).await;
        match course.fault {
            Some(Fault::FailAfter) => Err(StoreError::failed(key, "simulated error")),
            Some(Fault::LostAnswer) => {
                sleep(LOST_ANSWER_HANGS).await;
                Err(StoreError::failed(key, "simulated loss of the answer"))
            }
            _ => answer,
        }
    }
}

/// Sleeping for no time would still yield, and make tests without latency depend on the scheduler.
async fn wait(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

fn flip(bytes: &Bytes, bit: u64) -> Option<Bytes> {
    let at = usize::try_from(bit / 8).ok().filter(|&at| at < bytes.len())?;
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 1 << (bit % 8);
    Some(flipped.into())
}

impl State {
    fn draw(&mut self, call: Call) -> Course {
        let Self {
            random,
            faults,
            scripted,
            ..
        } = self;
        let drawn = faults.draw(call, random);
        let asked = scripted
            .iter()
            .position(|(of, _)| *of == call)
            .and_then(|at| scripted.remove(at));
        let stale_by = random.duration(&faults.stale_by);
        let stale = random.happens(faults.stale_list);
        Course {
            fault: asked.map(|(_, fault)| fault).or(drawn),
            there: faults.latency.draw(random),
            back: faults.latency.draw(random),
            stale_by: if stale { stale_by } else { Duration::ZERO },
            bit: random.number(),
        }
    }

    fn note(&mut self, at: Instant, what: fmt::Arguments<'_>) {
        let event = TraceEvent {
            at: at.duration_since(self.began),
            what: what.to_string(),
        };
        self.digest.update(event.to_string().as_bytes());
        if self.trace.len() == TRACE_EVENTS_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(event);
    }

    /// Puts into force what was due before now.
    fn land(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((due, _), effect) = entry.remove_entry();
            self.apply(effect, due);
        }
        self.ghosts.retain(|_, (_, until)| *until > now);
    }

    fn apply(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Put(key, bytes, stale_by) => {
                self.note(now, format_args!("landed {key} {} bytes", bytes.len()));
                let listed = match self.objects.get(&key) {
                    Some(before) => before.listed,
                    None => now + stale_by,
                };
                self.ghosts.remove(&key);
                self.objects.insert(
                    key,
                    Object {
                        bytes,
                        written: now,
                        listed,
                    },
                );
            }
            Effect::Delete(key, stale_by) => {
                self.note(now, format_args!("gone {key}"));
                if let Some(object) = self.objects.remove(&key).filter(|_| !stale_by.is_zero()) {
                    self.ghosts.insert(key, (object, now + stale_by));
                }
            }
        }
    }

    fn read(&self, course: &Course, key: &ObjectKey, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let found = self.objects.get(key).filter(|_| course.fault != Some(Fault::Missing));
        let object = found.ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let within = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end.max(range.start)).ok());
        let part = within
            .filter(|(_, end)| *end <= object.bytes.len())
            .map(|(start, end)| object.bytes.slice(start..end));
        let part = part.ok_or_else(|| beyond_end(key, range))?;
        if course.fault == Some(Fault::BitFlip) {
            let bits = u64::try_from(part.len()).expect("a length fits 64 bits") * 8;
            return Ok(flip(&part, course.bit % bits.max(1)).unwrap_or(part));
        }
        Ok(part)
    }

    fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Vec<ObjectMeta> {
        let now = Instant::now();
        let shown = self.objects.iter().filter(|(_, object)| object.listed <= now);
        let ghosts = self.ghosts.iter().map(|(key, (object, _))| (key, object));
        let all: BTreeMap<&ObjectKey, &Object> = ghosts.chain(shown).collect();
        let wanted = all
            .into_iter()
            .filter(|(key, _)| key.0.starts_with(prefix) && after.is_none_or(|after| *key > after));
        wanted
            .take(limit)
            .map(|(key, object)| ObjectMeta {
                key: key.clone(),
                size_bytes: u64::try_from(object.bytes.len()).expect("a length fits 64 bits"),
                modified: SystemTime::UNIX_EPOCH + object.written.duration_since(self.began),
            })
            .collect()
    }
}

#[async_trait]
impl ObjectStore for SimulatedStore {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let course = self.begin(Call::Create, key).await?;
        let bytes = match <[Bytes; 1]>::try_from(chunks) {
            Ok([bytes]) => bytes,
            Err(chunks) => chunks.concat().into(),
        };
        let effect = Effect::Put(key.clone(), bytes, course.stale_by);
        self.effect(course, key, effect).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let course = self.begin(Call::Read, key).await?;
        let found = self.state().read(&course, key, &range);
        Self::answer(&course, key, found).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let asked = ObjectKey(prefix.to_owned());
        let course = self.begin(Call::List, &asked).await?;
        let found = self.state().list(prefix, after, limit);
        Self::answer(&course, &asked, Ok(found)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let course = self.begin(Call::Delete, key).await?;
        let effect = Effect::Delete(key.clone(), course.stale_by);
        self.effect(course, key, effect).await
    }
}
