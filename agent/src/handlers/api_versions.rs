//! `ApiVersions`: what this agent speaks (KIP-35, KIP-511).

use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use esker_kafka::{ApiKey, ErrorCode, Reader};

use crate::kafka::connection::{CloseConnection, ReplyChunks};
use crate::kafka::dispatch::{ReplyHeader, SERVED};

/// Answers. A version that is not known gets a version 0 body with one key, its own, and the rest of the request is not
/// parsed.
///
/// # Errors
/// A body that does not decode closes the connection.
pub fn answer(version: i16, reply: ReplyHeader, mut body: Reader) -> Result<ReplyChunks, CloseConnection> {
    if !ApiKey::ApiVersions.stable_versions().contains(version) {
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: vec![listed(ApiKey::ApiVersions)],
            ..Default::default()
        };
        return reply.at_version(0).frame(&response);
    }
    let request = ApiVersionsRequest::decode(&mut body, version)
        .map_err(|cause| CloseConnection(format!("ApiVersions version {version}: {cause}")))?;
    // KIP-511: letters and digits, dashes and dots between them.
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let within = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let named = |text: &str| ends(text.bytes().next()) && ends(text.bytes().last()) && text.bytes().all(within);
    let invalid = version >= 3 && !(named(&request.client_software_name) && named(&request.client_software_version));
    let response = if invalid {
        ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        }
    } else {
        ApiVersionsResponse {
            api_keys: SERVED.iter().copied().map(listed).collect(),
            ..Default::default()
        }
    };
    reply.frame(&response)
}

fn listed(key: ApiKey) -> ApiVersion {
    let versions = key.advertised_versions();
    ApiVersion {
        api_key: key.code(),
        min_version: versions.first,
        max_version: versions.last,
    }
}
