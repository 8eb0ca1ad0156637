//! The windows of all partitions that exist, and of some that do not any more.
//!
//! Owns: the numbers of partitions in the table of windows, forgetting windows of deleted partitions lazily, expiry.
//! Does not own: what a window says (`window`).
//!
//! Invariants: everything visible depends on live windows only; when the dead ones are swept shows in memory alone.

use esker_segment::id::{LogIndex, ProducerId};

use super::{Window, WindowSlot, Windows};

/// Fewest dead windows that are worth a sweep.
const SWEEP_MIN: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    windows: u32,
    dead: bool,
}

/// Windows with the slots that they hang on.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowTable {
    windows: Windows,
    slots: Vec<Slot>,
    free: Vec<WindowSlot>,
    /// Windows in dead slots.
    dead: usize,
    /// The commit of the last forced expiry: one in a commit is enough.
    forced_at: LogIndex,
}

fn at(slot: WindowSlot) -> usize {
    usize::try_from(slot.0).expect("the table fits memory")
}

impl WindowTable {
    /// Number of live windows.
    pub(crate) fn len(&self) -> usize {
        self.windows.len() - self.dead
    }

    /// A slot for a partition.
    pub(crate) fn new_slot(&mut self) -> WindowSlot {
        if let Some(slot) = self.free.pop() {
            self.slots[at(slot)] = Slot::default();
            return slot;
        }
        let slot = WindowSlot(u32::try_from(self.slots.len()).expect("a slot in use has a window or a partition"));
        self.slots.push(Slot::default());
        slot
    }

    pub(crate) fn get(&self, slot: WindowSlot, producer: ProducerId) -> Option<&Window> {
        self.windows.get(slot, producer)
    }

    pub(crate) fn get_mut(&mut self, slot: WindowSlot, producer: ProducerId) -> Option<&mut Window> {
        self.windows.get_mut(slot, producer)
    }

    pub(crate) fn insert(&mut self, window: Window) {
        self.slots[at(window.slot())].windows += 1;
        self.windows.insert(window);
    }

    /// The partition of a slot is gone, and all its windows.
    pub(crate) fn kill(&mut self, slot: WindowSlot) {
        let killed = &mut self.slots[at(slot)];
        killed.dead = true;
        self.dead += usize::try_from(killed.windows).expect("windows fit memory");
        if killed.windows == 0 {
            self.free.push(slot);
        }
        if self.dead > SWEEP_MIN.max(self.len()) {
            self.retain(|_| true);
        }
    }

    /// All live windows, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Window> {
        self.windows.all().filter(|window| !self.slots[at(window.slot())].dead)
    }

    /// Forgets live windows touched below an index, unless `keep` holds; says how many.
    pub(crate) fn expire(&mut self, below: LogIndex, keep: impl Fn(ProducerId) -> bool) -> usize {
        self.retain(|window| window.touched() >= below || keep(window.producer()))
    }

    fn retain(&mut self, keep: impl Fn(&Window) -> bool) -> usize {
        let before = self.len();
        let (slots, free) = (&mut self.slots, &mut self.free);
        self.windows.retain(|window| {
            let slot = &mut slots[at(window.slot())];
            let kept = !slot.dead && keep(window);
            if !kept {
                slot.windows -= 1;
                if slot.dead && slot.windows == 0 {
                    free.push(window.slot());
                }
            }
            kept
        });
        self.dead = 0;
        before - self.len()
    }

    /// The index below which windows must be forgotten so that only `keep_max` idle ones stay; none need be when there
    /// are not that many.
    pub(crate) fn index_keeping(&self, keep_max: usize) -> Option<LogIndex> {
        let surplus = self.len().checked_sub(keep_max).filter(|surplus| *surplus > 0)?;
        let mut touched: Vec<LogIndex> = self.all().map(Window::touched).collect();
        let (_, last, _) = touched.select_nth_unstable(surplus - 1);
        Some(LogIndex(last.0 + 1))
    }

    /// When there are as many windows as the limit allows: the index below which they must be forgotten so that an
    /// eighth is free again. At most once in a commit.
    pub(crate) fn forced_expiry(&mut self, max: u32, now: LogIndex) -> Option<LogIndex> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if self.len() < max || self.forced_at == now {
            return None;
        }
        self.forced_at = now;
        self.index_keeping(max.saturating_sub((max / 8).max(1)))
            .map(|below| below.min(now))
    }
}
