//! One group in the coordinator's hands: the state machine, and the requests that wait for it.
//!
//! Owns: the lock of a group, who is behind each [`ReplyTo`].
//!
//! Invariants: a parked request is answered once; one whose client has gone is answered into the void.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::groups::group::{Group, Reply};
use crate::groups::ids::{GroupId, ReplyTo};

/// Memory of a group without members, besides its id, roughly.
const GROUP_OVERHEAD_BYTES: usize = 1024;

/// A group with its id and lock.
pub(super) struct Slot {
    pub(super) id: GroupId,
    cell: Mutex<Cell>,
}

/// What the lock protects.
pub(super) struct Cell {
    pub(super) group: Group,
    pub(super) parked: HashMap<ReplyTo, oneshot::Sender<Reply>>,
    /// Bytes of the group that are in the coordinator's sum.
    pub(super) counted: usize,
    /// Bytes that it had when it was taken over from another coordinator.
    pub(super) adopted: usize,
    /// When its alarm rings.
    pub(super) alarm: Option<Duration>,
}

impl Slot {
    pub(super) fn new(id: GroupId, group: Group) -> Self {
        let cell = Cell {
            group,
            parked: HashMap::new(),
            counted: 0,
            adopted: 0,
            alarm: None,
        };
        Self {
            id,
            cell: Mutex::new(cell),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().expect("no panic happens while a group is held")
    }

    /// Bytes that it takes besides its members.
    pub(super) fn overhead(&self) -> usize {
        GROUP_OVERHEAD_BYTES + 2 * self.id.len()
    }
}

impl Cell {
    pub(super) fn answer(&mut self, to: ReplyTo, reply: Reply) {
        if let Some(sender) = self.parked.remove(&to) {
            // The client may have gone; then nobody wants to know.
            let _ = sender.send(reply);
        }
    }
}
