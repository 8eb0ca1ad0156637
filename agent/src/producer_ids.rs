//! Producer ids: a block is taken from the log and handed out one by one.
//!
//! Owns: the rest of the current block. A block that is lost with the process leaves a gap, no more.

use esker_model::EntryVerdict;
use esker_model::entry::{Entry, ProducerIds as Grant};
use esker_model::verdict::IdsVerdict;
use esker_segment::id::ProducerId;
use tokio::sync::Mutex;

use crate::writer::{LogWriter, ProposeError};

/// Ids of one block.
const BLOCK_IDS: u32 = 1_000;

/// Hands out producer ids.
#[derive(Default)]
pub struct ProducerIds {
    block: Mutex<(i64, u32)>,
}

/// Why there is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProducerId {
    /// The log did not take the entry.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// All are used up.
    #[error("producer ids are exhausted")]
    Exhausted,
}

impl ProducerIds {
    /// A fresh id.
    ///
    /// # Errors
    /// See [`NoProducerId`].
    pub async fn next(&self, log: &LogWriter) -> Result<ProducerId, NoProducerId> {
        let mut block = self.block.lock().await;
        if block.1 == 0 {
            let verdicts = log
                .propose(vec![Entry::ProducerIds(Grant { count: BLOCK_IDS })])
                .await?;
            match verdicts.first() {
                Some(EntryVerdict::ProducerIds(IdsVerdict::Granted { first, count })) => *block = (first.0, *count),
                _ => return Err(NoProducerId::Exhausted),
            }
        }
        let id = block.0;
        *block = (id + 1, block.1 - 1);
        Ok(ProducerId(id))
    }
}
