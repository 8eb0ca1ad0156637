//! `UpdateFeatures`: no feature can be switched on or off, and it is said as Kafka says it of a feature that it does not know.

use esker_kafka::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use esker_kafka::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};
use esker_kafka::{ErrorCode, Str};

/// Answers. Before version 2 each feature has a verdict of its own.
#[must_use]
pub fn answer(node: i32, version: i16, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if request.feature_updates.is_empty() {
        return UpdateFeaturesResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some(Str::from_static("no feature is named")),
            ..Default::default()
        };
    }
    let refused = |update: &FeatureUpdateKey| {
        let feature: String = update.feature.chars().take(100).collect();
        let level = update.max_version_level;
        format!(
            "Invalid update version {level} for feature {feature}. Local controller {node} does not support this feature."
        )
    };
    let code = ErrorCode::InvalidUpdateVersion.code();
    if version >= 2 {
        let first = request.feature_updates.first();
        return UpdateFeaturesResponse {
            error_code: code,
            error_message: first.map(|update| {
                let problem = refused(update);
                Str::from(format!(
                    "The update failed for all features since the following feature had an error: {problem}"
                ))
            }),
            ..Default::default()
        };
    }
    let results = request
        .feature_updates
        .into_iter()
        .map(|update| UpdatableFeatureResult {
            error_message: Some(Str::from(refused(&update))),
            feature: update.feature,
            error_code: code,
        });
    UpdateFeaturesResponse {
        error_message: None,
        results: results.collect(),
        ..Default::default()
    }
}
