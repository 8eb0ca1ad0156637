//! `InitProducerId` for idempotent producers.

use std::sync::Arc;

use esker_kafka::ErrorCode;
use esker_kafka::messages::init_producer_id_request::InitProducerIdRequest;
use esker_kafka::messages::init_producer_id_response::InitProducerIdResponse;
use tracing::warn;

use crate::agent::Agent;
use crate::producer_ids::NoProducerId;

/// Makes every client try again. At COORDINATOR_NOT_AVAILABLE the Java producer would look for a coordinator of its
/// transactional id, which it has not.
const TRY_AGAIN: ErrorCode = ErrorCode::CoordinatorLoadInProgress;

/// Answers. Every call without a transactional id gets a fresh id, as in Kafka.
pub async fn answer(agent: &Arc<Agent>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let none = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    // An id without an epoch, an epoch without an id, and a name of no letters say nothing.
    let half_told = (request.producer_id == -1) != (request.producer_epoch == -1);
    if half_told || request.transactional_id.as_deref() == Some("") {
        return none(ErrorCode::InvalidRequest);
    }
    if let Some(id) = request.transactional_id {
        // Fatal for the client, which is right: it would wait for ever otherwise.
        warn!(transactional_id = %id, "transactions are not built yet");
        return none(ErrorCode::UnsupportedVersion);
    }
    match agent.producer_ids.next(&agent.log).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..none(ErrorCode::None)
        },
        Err(NoProducerId::Propose(error)) => {
            warn!(%error, "no producer id");
            none(TRY_AGAIN)
        }
        Err(NoProducerId::Exhausted) => none(TRY_AGAIN),
    }
}
