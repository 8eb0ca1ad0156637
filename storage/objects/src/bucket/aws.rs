//! Region, endpoint and credentials as the AWS SDK finds them: environment, profile, web identity, container and
//! instance roles.
//!
//! Owns: the only place that names `aws-config`.
//! Does not own: keeping credentials until they expire (`keys`).

use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_types::service_config::ServiceConfigKey;

use super::keys::{FoundKey, KeySource};
use super::settings::{AccessKey, Secret};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the environment says.
pub(super) struct Environment {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) keys: Option<SdkKeys>,
}

/// Reads it. Credentials are not asked for yet.
pub(super) async fn environment(region: Option<&str>) -> Environment {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .timeout_config(timeouts);
    if let Some(region) = region {
        // Keeps the SDK from asking the instance.
        loader = loader.region(aws_config::Region::new(region.to_owned()));
    }
    let found = loader.load().await;
    // The names of the setting that every service has for itself: AWS_ENDPOINT_URL_S3, `services` of the profile.
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three are given");
    let own = found.service_config().and_then(|config| config.load_config(key));
    Environment {
        region: found.region().map(ToString::to_string),
        endpoint: own.or_else(|| found.endpoint_url().map(str::to_owned)),
        keys: found.credentials_provider().map(SdkKeys),
    }
}

/// The SDK's chain of providers. It asks anew at every call.
pub(super) struct SdkKeys(SharedCredentialsProvider);

#[async_trait]
impl KeySource for SdkKeys {
    async fn find(&self) -> Result<FoundKey, String> {
        let found = self.0.provide_credentials().await.map_err(|error| chain(&error))?;
        Ok(FoundKey {
            key: AccessKey {
                id: found.access_key_id().to_owned(),
                secret: Secret(found.secret_access_key().to_owned()),
                session_token: found.session_token().map(|token| Secret(token.to_owned())),
            },
            expires: found.expiry(),
        })
    }
}

/// An error with everything that it says is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
