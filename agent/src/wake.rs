//! Who waits for which partition to grow.
//!
//! Owns: the register of waiting fetches. A fetch registers *before* it looks, so no growth between looking and waiting is
//! missed.
//! Does not own: what has grown (`replica`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use esker_segment::id::TopicPartition;
use tokio::sync::Notify;

/// The register.
#[derive(Debug, Default)]
pub struct Wakers {
    waiting: Mutex<HashMap<TopicPartition, Vec<Arc<Notify>>>>,
}

/// A waiting fetch; dropping it takes it off the register.
#[derive(Debug)]
pub struct Interest {
    wakers: Arc<Wakers>,
    partitions: Vec<TopicPartition>,
    notify: Arc<Notify>,
}

impl Wakers {
    /// Registers interest in these partitions.
    pub fn register(wakers: &Arc<Self>, partitions: Vec<TopicPartition>) -> Interest {
        let notify = Arc::new(Notify::new());
        let mut waiting = wakers.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &partitions {
            waiting.entry(*partition).or_default().push(Arc::clone(&notify));
        }
        drop(waiting);
        Interest {
            wakers: Arc::clone(wakers),
            partitions,
            notify,
        }
    }

    /// Wakes all who wait for one of these partitions.
    pub fn wake(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        for partition in partitions {
            for notify in waiting.get(&partition).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }
}

impl Interest {
    /// Returns when one of the partitions has grown since the registration or the last return.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut waiting = self.wakers.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &self.partitions {
            if let Some(list) = waiting.get_mut(partition) {
                list.retain(|other| !Arc::ptr_eq(other, &self.notify));
                if list.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
    }
}
