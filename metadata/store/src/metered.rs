//! What the metadata store is asked for, as metrics: every implementation counts here, so that they can be compared.
//!
//! Owns: names and labels.

use crate::store::{MetadataError, Op, Txn, TxnOutcome};

/// Counts a call by what became of it.
pub(crate) fn count<T>(call: &'static str, answer: &Result<T, MetadataError>) {
    let outcome = match answer {
        Ok(_) => "ok",
        Err(MetadataError::Failed(_) | MetadataError::Compacted { .. }) => "failed",
        Err(MetadataError::Unknown(_)) => "unknown",
    };
    metrics::counter!("esker_metadata_requests_total", "op" => call, "outcome" => outcome).increment(1);
}

/// Bytes that each list of a transaction writes, for when the transaction itself has been given away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxnBytes {
    then: usize,
    otherwise: usize,
}

impl TxnBytes {
    /// Adds them up.
    pub(crate) fn of(txn: &Txn) -> Self {
        let sum = |ops: &[Op]| ops.iter().map(written_bytes).sum();
        Self {
            then: sum(&txn.then),
            otherwise: sum(&txn.otherwise),
        }
    }

    /// Counts the transaction, and what it certainly wrote.
    pub(crate) fn count(self, answer: &Result<TxnOutcome, MetadataError>) {
        count("txn", answer);
        let Ok(outcome) = answer else { return };
        let bytes = if outcome.succeeded { self.then } else { self.otherwise };
        metrics::counter!("esker_metadata_bytes_total").increment(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

fn written_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(key) => key.len(),
        Op::Get(_) => 0,
    }
}
