//! `UpdateFeatures`: no feature can be switched on or off; what is finalised is so in every cluster.

use esker_kafka::messages::update_features_request::UpdateFeaturesRequest;
use esker_kafka::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};
use esker_kafka::{ErrorCode, Str};

/// Answers. Before version 2 each feature has a verdict of its own.
#[must_use]
pub fn answer(version: i16, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if request.feature_updates.is_empty() {
        return UpdateFeaturesResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some(Str::from_static("no feature is named")),
            ..Default::default()
        };
    }
    let refused = |feature: &Str| {
        let feature: String = feature.chars().take(100).collect();
        Some(Str::from(format!("feature {feature} cannot be changed")))
    };
    let code = ErrorCode::InvalidUpdateVersion.code();
    if version >= 2 {
        let first = request.feature_updates.first();
        return UpdateFeaturesResponse {
            error_code: code,
            error_message: first.and_then(|update| refused(&update.feature)),
            ..Default::default()
        };
    }
    let results = request
        .feature_updates
        .into_iter()
        .map(|update| UpdatableFeatureResult {
            error_message: refused(&update.feature),
            feature: update.feature,
            error_code: code,
        });
    UpdateFeaturesResponse {
        error_message: None,
        results: results.collect(),
        ..Default::default()
    }
}
