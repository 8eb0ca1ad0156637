//! What is checked when all is well again: the whole log against everything that clients were told.
//!
//! Owns: the checks of the end.
//! Does not own: checks of single answers (`history`, `consumer`, `producer`), of the log itself (`oracle`).
//!
//! Invariants: LOG-1, LOG-2, LOG-3, LOG-5, IDM-1.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consumer::Consumer;
use crate::fleet::Fleet;
use crate::history::{History, RecordId};
use crate::oracle::Oracle;

/// Compares every node with the fold that never restarts (LOG-5).
pub(crate) async fn check_folds(fleet: &Fleet, oracle: &Oracle, history: &History) {
    for agent in fleet.agents().await {
        if let Err(error) = agent.barrier().await {
            return history.violate(format!("stuck: no read barrier in calm weather: {error}"));
        }
        let difference = oracle.difference(&agent.replica.fold());
        if let Some(difference) = difference {
            history.violate(format!("LOG-5: a node's fold is another one: {difference}"));
        }
    }
}

/// Reads everything and compares it with what was acknowledged and read before. `idempotent` says which producers are.
pub(crate) async fn check_log(
    reader: &mut Consumer,
    history: &Arc<History>,
    partitions: i32,
    idempotent: impl Fn(u32) -> bool,
) {
    let acknowledged = history.acknowledged();
    for partition in 0..partitions {
        let end = loop {
            if let Ok(end) = reader.read_all(partition).await {
                break end;
            }
        };
        check_partition(history, partition, end, &acknowledged, &idempotent);
    }
}

fn check_partition(
    history: &History,
    partition: i32,
    end: i64,
    acknowledged: &BTreeMap<RecordId, i64>,
    idempotent: &impl Fn(u32) -> bool,
) {
    let log = history.read_in(partition);
    if !log.iter().map(|(offset, _)| *offset).eq(0..end) {
        history.violate(format!(
            "LOG-2: {partition} does not hold every offset below {end} once"
        ));
    }
    let by_offset: BTreeMap<i64, RecordId> = log.iter().copied().collect();
    for (id, offset) in acknowledged.iter().filter(|(id, _)| id.partition == partition) {
        if by_offset.get(offset) != Some(id) {
            let found = by_offset.get(offset);
            history.violate(format!(
                "LOG-3: {id:?} was acknowledged at {offset}, where {found:?} is"
            ));
        }
    }
    let mut copies: BTreeMap<RecordId, u32> = BTreeMap::new();
    for (_, id) in &log {
        *copies.entry(*id).or_default() += 1;
    }
    for (id, copies) in copies {
        let sent = history.sent(id);
        if copies > sent {
            history.violate(format!(
                "IDM-1: {id:?} was sent {sent} times and is there {copies} times"
            ));
        }
    }
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for (offset, id) in log.iter().filter(|(_, id)| idempotent(id.producer)) {
        let expected = next.entry(id.producer).or_default();
        if id.number != *expected {
            history.violate(format!(
                "IDM-1: {id:?} is at {partition}@{offset}, number {expected} was next"
            ));
            return;
        }
        *expected += 1;
    }
}
