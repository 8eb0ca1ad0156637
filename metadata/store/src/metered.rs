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

/// Counts a transaction, and what it certainly wrote.
pub(crate) fn count_txn(txn: &Txn, answer: &Result<TxnOutcome, MetadataError>) {
    count("txn", answer);
    let Ok(outcome) = answer else { return };
    let done = if outcome.succeeded { &txn.then } else { &txn.otherwise };
    let bytes: usize = done.iter().map(written_bytes).sum();
    metrics::counter!("esker_metadata_bytes_total").increment(u64::try_from(bytes).unwrap_or(u64::MAX));
}

fn written_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(key) => key.len(),
        Op::Get(_) => 0,
    }
}
