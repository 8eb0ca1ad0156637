//! Transactions as the coordinator writes them.

use esker_model::EntryVerdict;
use esker_model::entry::{Entry, ProducerFence, ProducerIds, TxnEnd, TxnOutcome};
use esker_model::verdict::IdsVerdict;
use esker_segment::id::{ProducerEpoch, ProducerId, Timestamp};

use crate::world::Node;

/// A producer that may begin transactions.
pub(crate) async fn begin(node: &Node) -> ProducerId {
    let granted = node
        .access
        .commit(vec![Entry::ProducerIds(ProducerIds { count: 1 })])
        .await
        .unwrap();
    let EntryVerdict::ProducerIds(IdsVerdict::Granted { first, .. }) = granted[0] else {
        panic!("{granted:?}")
    };
    let fence = ProducerFence {
        producer: first,
        epoch: ProducerEpoch(0),
    };
    node.access.commit(vec![Entry::ProducerFence(fence)]).await.unwrap();
    first
}

/// The end of its transaction.
pub(crate) async fn end(node: &Node, producer: ProducerId, commit: bool) {
    let end = TxnEnd {
        producer,
        epoch: ProducerEpoch(0),
        outcome: if commit { TxnOutcome::Commit } else { TxnOutcome::Abort },
        timestamp: Timestamp(77),
        next_epoch: ProducerEpoch(0),
    };
    let verdicts = node.access.commit(vec![Entry::TxnEnd(end)]).await.unwrap();
    assert!(format!("{verdicts:?}").contains("Ended"), "{verdicts:?}");
}
