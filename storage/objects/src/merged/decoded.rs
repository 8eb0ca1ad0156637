//! Decoded objects in memory: each is read once however many ask for it, the least recently used go first.
//!
//! Owns: the budget and single flight.
//! Does not own: what the objects are.
//!
//! Invariants: MEM-1: what is kept stays within the budget; a failed read leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_segment::name::ObjectName;
use tokio::sync::OnceCell;

/// Immutable objects in decoded form.
pub(super) struct Decoded<T> {
    state: Mutex<State<T>>,
    bytes_max: usize,
}

struct State<T> {
    slots: BTreeMap<ObjectName, Slot<T>>,
    /// Names by when they were last asked for.
    by_use: BTreeMap<u64, ObjectName>,
    uses: u64,
    bytes: usize,
}

struct Slot<T> {
    cell: Arc<OnceCell<T>>,
    last_use: u64,
    /// 0 until it is read.
    bytes: usize,
}

impl<T> fmt::Debug for Decoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Decoded")
            .field("objects", &state.slots.len())
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}

impl<T: Clone> Decoded<T> {
    pub(super) fn new(bytes_max: usize) -> Self {
        let state = State {
            slots: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
        };
        Self {
            state: Mutex::new(state),
            bytes_max,
        }
    }

    /// The object; read with `load`, which also says how many bytes it takes in memory, unless it is here or on its way.
    pub(super) async fn get<E>(
        &self,
        name: ObjectName,
        load: impl Future<Output = Result<(T, usize), E>>,
    ) -> Result<T, E> {
        let cell = self.cell(name);
        let mut bytes = None;
        let loaded = cell
            .get_or_try_init(async || {
                let (value, weight) = load.await?;
                bytes = Some(weight);
                Ok(value)
            })
            .await
            .cloned();
        match (&loaded, bytes) {
            (Ok(_), Some(bytes)) => self.weigh(name, &cell, bytes),
            (Ok(_), None) => {}
            (Err(_), _) => self.forget(name, &cell),
        }
        loaded
    }

    /// The object if it is here. Being looked at like this keeps it no longer.
    pub(super) fn peek(&self, name: ObjectName) -> Option<T> {
        let cell = Arc::clone(&self.lock().slots.get(&name)?.cell);
        cell.get().cloned()
    }

    fn cell(&self, name: ObjectName) -> Arc<OnceCell<T>> {
        let mut state = self.lock();
        state.uses += 1;
        let now = state.uses;
        state.by_use.insert(now, name);
        let slot = state.slots.entry(name).or_insert_with(|| Slot {
            cell: Arc::default(),
            last_use: now,
            bytes: 0,
        });
        let before = std::mem::replace(&mut slot.last_use, now);
        let cell = Arc::clone(&slot.cell);
        if before != now {
            state.by_use.remove(&before);
        }
        cell
    }

    fn weigh(&self, name: ObjectName, cell: &Arc<OnceCell<T>>, bytes: usize) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(&name)
            && Arc::ptr_eq(&slot.cell, cell)
        {
            slot.bytes = bytes;
            state.bytes += bytes;
        }
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.by_use.pop_first() else {
                break;
            };
            let gone = state.slots.remove(&oldest).map_or(0, |slot| slot.bytes);
            state.bytes -= gone;
        }
    }

    fn forget(&self, name: ObjectName, cell: &Arc<OnceCell<T>>) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get(&name) else { return };
        if Arc::ptr_eq(&slot.cell, cell) && !cell.initialized() {
            let last_use = slot.last_use;
            state.slots.remove(&name);
            state.by_use.remove(&last_use);
        }
    }
}

impl<T> Decoded<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! The budget holds, reads are shared, failures are forgotten.

    use std::sync::atomic::{AtomicUsize, Ordering};

    use esker_segment::id::SegmentNumber;
    use esker_segment::name::SegmentName;

    use super::*;

    fn name(number: u64) -> ObjectName {
        ObjectName::Segment(SegmentName {
            number: SegmentNumber(number),
            ..SegmentName::default()
        })
    }

    #[tokio::test]
    async fn what_is_kept_stays_within_the_budget_and_the_least_recently_used_goes_first() {
        let decoded = Decoded::new(100);
        let load = |value: u64| async move { Ok::<_, ()>((value, 40)) };
        for number in [1, 2, 1, 3] {
            decoded.get(name(number), load(number)).await.unwrap();
        }
        let state = decoded.lock();
        assert_eq!(state.slots.keys().copied().collect::<Vec<_>>(), [name(1), name(3)]);
        assert_eq!((state.bytes, state.by_use.len()), (80, 2));
    }

    #[tokio::test]
    async fn who_only_peeks_keeps_nothing() {
        let decoded = Decoded::new(100);
        let load = |value: u64| async move { Ok::<_, ()>((value, 40)) };
        for number in [1, 2] {
            decoded.get(name(number), load(number)).await.unwrap();
        }
        assert_eq!((decoded.peek(name(1)), decoded.peek(name(3))), (Some(1), None));
        decoded.get(name(3), load(3)).await.unwrap();
        assert_eq!(
            decoded.peek(name(1)),
            None,
            "it was the least recently used all the same"
        );
    }

    #[tokio::test]
    async fn one_read_serves_all_who_ask_meanwhile() {
        let (decoded, reads) = (Decoded::new(100), AtomicUsize::new(0));
        let load = || async {
            reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok::<_, ()>((7, 1))
        };
        let both = futures::future::join(decoded.get(name(1), load()), decoded.get(name(1), load())).await;
        assert_eq!(both, (Ok(7), Ok(7)));
        assert_eq!(reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failed_read_is_tried_again_by_the_next() {
        let decoded = Decoded::new(100);
        assert_eq!(
            decoded.get(name(1), async { Err::<(u8, usize), _>("no") }).await,
            Err("no")
        );
        assert!(decoded.lock().slots.is_empty() && decoded.lock().by_use.is_empty());
        assert_eq!(decoded.get(name(1), async { Ok::<_, &str>((1, 1)) }).await, Ok(1));
    }
}
