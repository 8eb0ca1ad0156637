//! Esker's gRPC API: what is in `esker/v1/*.proto`, as Rust types, clients and servers.
//!
//! Owns: the public API (the .proto files are its documentation), the frame in which errors travel.
//! Does not own: what the calls do (`esker-agent`), connections.
//!
//! Invariants: a field of a released .proto never changes its number or its type. MEM-1 (`codec`).

pub mod codec;

use bytes::Bytes;
use prost::Message;

/// Version 1 of the API.
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated; what has no comment in the .proto explains itself"
)]
pub mod v1 {
    tonic::include_proto!("esker.v1");
}

/// Description of all services and messages, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("esker");

/// The type by which an [`v1::ErrorDetail`] is known among the details of a status.
const ERROR_DETAIL_TYPE: &str = "type.googleapis.com/esker.v1.ErrorDetail";

/// `google.rpc.Status`: what gRPC libraries expect in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// A status that carries this detail.
#[must_use]
pub fn status(code: tonic::Code, message: impl Into<String>, detail: &v1::ErrorDetail) -> tonic::Status {
    let message = message.into();
    let rich = RichStatus {
        code: i32::from(code),
        message: message.clone(),
        details: vec![AnyMessage {
            type_url: ERROR_DETAIL_TYPE.to_owned(),
            value: Bytes::from(detail.encode_to_vec()),
        }],
    };
    tonic::Status::with_details(code, message, Bytes::from(rich.encode_to_vec()))
}

/// The detail that a status carries, if it is one of Esker's.
#[must_use]
pub fn error_detail(status: &tonic::Status) -> Option<v1::ErrorDetail> {
    let rich = RichStatus::decode(status.details()).ok()?;
    let detail = rich
        .details
        .into_iter()
        .find(|detail| detail.type_url == ERROR_DETAIL_TYPE)?;
    v1::ErrorDetail::decode(detail.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_carries_is_found_again() {
        let detail = v1::ErrorDetail {
            kafka_code: 3,
            kafka_name: "UNKNOWN_TOPIC_OR_PARTITION".to_owned(),
            retriable: true,
            what_to_do: "create the topic".to_owned(),
            ..Default::default()
        };
        let status = status(tonic::Code::NotFound, "no such topic", &detail);
        assert_eq!(error_detail(&status), Some(detail));
        assert_eq!(error_detail(&tonic::Status::not_found("another one")), None);
    }
}
