//! A watch that may lose, repeat, reorder and delay what it brings, or break.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Shared, State};
use crate::signal;
use crate::store::{MetadataError, Revision, Watch, WatchEvent};

/// Events of one delivery, give or take one revision.
const EVENTS_MAX: usize = 64;

/// A position in the shared history, and what is on its way from there.
#[derive(Debug)]
pub(super) struct SimulatedWatch {
    shared: Arc<Shared>,
    moved: signal::Receiver<Revision>,
    prefix: Bytes,
    next: Revision,
    /// Deliveries on their way, in the order in which they will arrive. A cancelled `next` loses none of them.
    coming: VecDeque<(Instant, Vec<WatchEvent>)>,
}

impl SimulatedWatch {
    pub(super) fn new(shared: Arc<Shared>, prefix: Bytes, next: Revision) -> Self {
        let moved = shared.moved.subscribe();
        Self {
            shared,
            moved,
            prefix,
            next,
            coming: VecDeque::new(),
        }
    }

    /// Takes what has happened and decides how it arrives. Says whether anything had happened.
    fn take(&mut self) -> Result<bool, MetadataError> {
        let (prefix, from) = (&self.prefix, self.next);
        let (next, deliveries) = self.shared.with(|state| state.deliver(prefix, from))?;
        self.next = next;
        self.coming.extend(deliveries);
        Ok(next != from)
    }
}

type Deliveries = Vec<(Instant, Vec<WatchEvent>)>;

impl State {
    fn deliver(&mut self, prefix: &[u8], from: Revision) -> Result<(Revision, Deliveries), MetadataError> {
        let (events, next) = self.keyspace.events(prefix, from, EVENTS_MAX)?;
        if events.is_empty() {
            return Ok((next, Vec::new()));
        }
        let faults = self.faults;
        if self.dice.hits(faults.watch_compacted) {
            self.trace.note(format_args!("watch compacted"));
            return Err(MetadataError::Compacted { oldest: next });
        }
        if self.dice.hits(faults.watch_breaks) {
            self.trace.note(format_args!("watch breaks"));
            return Err(MetadataError::Failed("simulated: watch broke".to_owned()));
        }
        if self.dice.hits(faults.watch_loses) {
            self.trace.note(format_args!("watch loses {} to {}", from.0, next.0));
            return Ok((next, Vec::new()));
        }
        let at = Instant::now() + self.dice.between((std::time::Duration::ZERO, faults.watch_delay_max));
        let mut deliveries = vec![(at, events.clone())];
        if self.dice.hits(faults.watch_reorders) {
            self.trace.note(format_args!("watch reorders {} to {}", from.0, next.0));
            deliveries = reversed(&events).into_iter().map(|events| (at, events)).collect();
        }
        if self.dice.hits(faults.watch_repeats) {
            self.trace.note(format_args!("watch repeats {} to {}", from.0, next.0));
            deliveries.push((at, events));
        }
        Ok((next, deliveries))
    }
}

/// Each revision as a delivery of its own, the last first.
fn reversed(events: &[WatchEvent]) -> Vec<Vec<WatchEvent>> {
    let mut groups: Vec<Vec<WatchEvent>> = events
        .chunk_by(|a, b| a.revision() == b.revision())
        .map(<[WatchEvent]>::to_vec)
        .collect();
    groups.reverse();
    groups
}

#[async_trait]
impl Watch for SimulatedWatch {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, MetadataError> {
        loop {
            if let Some((at, _)) = self.coming.front() {
                tokio::time::sleep_until(*at).await;
                let (_, events) = self.coming.pop_front().expect("there is a front");
                return Ok(events);
            }
            let next = self.next;
            if !self.take()? && self.moved.wait_for(|revision| revision >= next).await.is_err() {
                return Err(MetadataError::Failed("simulated: store is gone".to_owned()));
            }
        }
    }
}
