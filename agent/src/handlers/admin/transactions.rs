//! `DescribeTransactions` and `ListTransactions`: there are no transactional ids.

use esker_kafka::ErrorCode;
use esker_kafka::messages::describe_transactions_request::DescribeTransactionsRequest;
use esker_kafka::messages::describe_transactions_response::{DescribeTransactionsResponse, TransactionState};
use esker_kafka::messages::list_transactions_request::ListTransactionsRequest;
use esker_kafka::messages::list_transactions_response::ListTransactionsResponse;

/// What a transaction may be, as Kafka 4.3 calls it.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Answers; every id of the request is in the answer.
#[must_use]
pub fn describe(request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let missing = request.transactional_ids.into_iter().map(|transactional_id| {
        let code = if transactional_id.is_empty() {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TransactionalIdNotFound
        };
        TransactionState {
            error_code: code.code(),
            transactional_id,
            ..Default::default()
        }
    });
    DescribeTransactionsResponse {
        transaction_states: missing.collect(),
        ..Default::default()
    }
}

/// Answers: none, and which of the states that it asks for do not exist.
#[must_use]
pub fn list(request: ListTransactionsRequest) -> ListTransactionsResponse {
    let mut unknown = request.state_filters;
    unknown.retain(|state| !STATES.contains(&state.as_str()));
    ListTransactionsResponse {
        unknown_state_filters: unknown,
        ..Default::default()
    }
}
