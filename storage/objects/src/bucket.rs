//! The `object_store` crate behind our seam: S3 and what speaks its protocol, Google, Azure, memory.
//!
//! Owns: the only place that names that crate; which of its errors are certain failures; opening what a [`BucketUrl`] names.
//! Does not own: the local directory (`directory`; docs/decisions says why), retries, metrics, where credentials come from.
//!
//! Invariants: puts are plain overwrites, never conditional ones: with the first of several attempts applied and its answer
//! lost, a conditional put says "exists", and several servers have had non-atomic ones. The crate itself never repeats a
//! request: budgets for that are in `retrying`.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, CredentialProvider, Error, ObjectStoreExt, PutPayload, RetryConfig};

use crate::directory::Directory;
use crate::store::{ObjectKey, ObjectMeta, ObjectStore, StoreError};

mod aws;
pub mod clock;
mod keys;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod url;

use keys::{FixedKey, Keys};
pub use settings::BucketSettings;
pub use url::BucketUrl;
use url::Place;

/// Why a bucket was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This binary was built without it.
    #[error("this esker was built without support for {scheme}://; build it with the cargo feature {feature:?}")]
    NotBuilt {
        /// What the URL begins with.
        scheme: &'static str,
        /// What brings it.
        feature: &'static str,
    },
    /// Nobody says which region.
    #[error("no region for the bucket: set AWS_REGION, or `region` in the profile")]
    NoRegion,
    /// There are none, or they could not be had.
    #[error("no credentials for the bucket: {0}")]
    Credentials(String),
    /// The endpoint, or something else in the configuration, is wrong.
    #[error("object store cannot be configured: {0}")]
    Configuration(String),
    /// The local directory.
    #[error("cannot open {path:?}: {source}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Opens a bucket. Credentials are looked for now, so that a mistake is noticed early; the bucket is not asked anything.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(url: &BucketUrl, settings: BucketSettings) -> Result<Arc<dyn ObjectStore>, OpenError> {
    // The HTTP client takes the process's provider; that it was chosen before is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(match url {
        BucketUrl::Memory => Arc::new(Bucket::memory()),
        BucketUrl::Directory(path) => {
            let opened = Directory::open(path, settings.durability);
            Arc::new(opened.map_err(|source| OpenError::Directory {
                path: path.clone(),
                source,
            })?)
        }
        BucketUrl::S3(place) => Arc::new(Bucket::s3(place, settings).await?),
        BucketUrl::Gcs(place) => Arc::new(Bucket::gcs(place, &settings)?),
        BucketUrl::Azure(place) => Arc::new(Bucket::azure(place, &settings)?),
    })
}

/// A store of the `object_store` crate.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<dyn object_store::ObjectStore>,
    keys: Option<Arc<Keys>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.inner)
    }
}

/// Where S3 is when the environment names no region but an endpoint: servers of one's own rarely care.
const REGION_OF_ENDPOINTS: &str = "us-east-1";

impl Bucket {
    /// A bucket in memory, gone with the process.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            inner: Arc::new(object_store::memory::InMemory::new()),
            keys: None,
        }
    }

    async fn s3(place: &Place, settings: BucketSettings) -> Result<Self, OpenError> {
        let fixed = settings.access_key.clone();
        let complete = fixed.is_some() && settings.region.is_some() && settings.endpoint.is_some();
        let mut found = None;
        if !complete {
            found = Some(aws::environment(settings.region.as_deref()).await);
        }
        let found = found.as_mut();
        let (endpoint, region, sdk) = match found {
            Some(found) => (found.endpoint.take(), found.region.take(), found.keys.take()),
            None => (None, None, None),
        };
        let endpoint = settings.endpoint.clone().or(endpoint);
        // Said, but empty: not said. Some scripts unset variables so.
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty());
        endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
        let region = settings.region.clone().or(region);
        let region = region.or_else(|| endpoint.is_some().then(|| REGION_OF_ENDPOINTS.to_owned()));
        let wall_clock = Arc::clone(&settings.wall_clock);
        let keys = match (fixed, sdk) {
            (Some(key), _) => Keys::new(FixedKey(key), wall_clock),
            (None, Some(sdk)) => Keys::new(sdk, wall_clock),
            (None, None) => return Err(OpenError::Credentials("none are configured".to_owned())),
        };
        let keys = Arc::new(keys);
        keys.get().await.map_err(OpenError::Credentials)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(region.ok_or(OpenError::NoRegion)?)
            .with_credentials(Arc::new(Signing(Arc::clone(&keys))))
            .with_virtual_hosted_style_request(!settings.path_style.unwrap_or(endpoint.is_some()))
            .with_unsigned_payload(true)
            // One DELETE each: every server knows it, and its outcome is that of one object.
            .with_disable_bulk_delete(true)
            .with_client_options(client_options(&settings, endpoint.as_deref()))
            .with_http_connector(Connector(settings))
            .with_retry(no_retries());
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(configuration)?;
        Ok(Self {
            inner: within(store, place),
            keys: Some(keys),
        })
    }

    #[cfg(feature = "gcp")]
    fn gcs(place: &Place, settings: &BucketSettings) -> Result<Self, OpenError> {
        let store = object_store::gcp::GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&place.bucket)
            .with_client_options(client_options(settings, None))
            .with_http_connector(Connector(settings.clone()))
            .with_retry(no_retries())
            .build();
        Ok(Self {
            inner: within(store.map_err(configuration)?, place),
            keys: None,
        })
    }

    #[cfg(not(feature = "gcp"))]
    fn gcs(_place: &Place, _settings: &BucketSettings) -> Result<Self, OpenError> {
        Err(OpenError::NotBuilt {
            scheme: "gs",
            feature: "gcp",
        })
    }

    #[cfg(feature = "azure")]
    fn azure(place: &Place, settings: &BucketSettings) -> Result<Self, OpenError> {
        let store = object_store::azure::MicrosoftAzureBuilder::from_env()
            .with_container_name(&place.bucket)
            .with_client_options(client_options(settings, None))
            .with_http_connector(Connector(settings.clone()))
            .with_retry(no_retries())
            .build();
        Ok(Self {
            inner: within(store.map_err(configuration)?, place),
            keys: None,
        })
    }

    #[cfg(not(feature = "azure"))]
    fn azure(_place: &Place, _settings: &BucketSettings) -> Result<Self, OpenError> {
        Err(OpenError::NotBuilt {
            scheme: "az",
            feature: "azure",
        })
    }

    fn write_error(&self, key: &ObjectKey, error: &Error) -> StoreError {
        self.notice_expiry(error);
        if certainly_failed(error) {
            StoreError::failed(key, brief(error))
        } else {
            StoreError::unknown(key, brief(error))
        }
    }

    fn read_error(&self, key: &ObjectKey, error: &Error) -> StoreError {
        self.notice_expiry(error);
        // A bucket that is not there is no proof that the object is not.
        if matches!(error, Error::NotFound { .. }) && !error.to_string().contains("NoSuchBucket") {
            StoreError::NotFound(key.clone())
        } else {
            StoreError::failed(key, brief(error))
        }
    }

    /// A key may be taken back before its time, as when the role behind it was changed: the next call fetches another.
    fn notice_expiry(&self, error: &Error) {
        const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
        if let Some(keys) = &self.keys {
            let text = error.to_string();
            if EXPIRED.iter().any(|code| text.contains(code)) {
                keys.refused();
            }
        }
    }
}

fn within(store: impl object_store::ObjectStore, place: &Place) -> Arc<dyn object_store::ObjectStore> {
    if place.prefix.is_empty() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, place.prefix.as_str()))
    }
}

/// The crate panics at the first request to one that is no URL.
fn check_endpoint(endpoint: &str) -> Result<(), OpenError> {
    let usable = |url: &reqwest::Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    };
    if reqwest::Url::parse(endpoint).is_ok_and(|url| usable(&url)) {
        return Ok(());
    }
    Err(OpenError::Configuration(
        "the endpoint must be http://HOST[:PORT] or https://HOST[:PORT], without user, password or query".to_owned(),
    ))
}

fn configuration(error: Error) -> OpenError {
    OpenError::Configuration(error.to_string())
}

fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn client_options(settings: &BucketSettings, endpoint: Option<&str>) -> ClientOptions {
    // TCP_NODELAY is on unless it is turned off.
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_connect_timeout(settings.connect_timeout)
        .with_read_timeout(settings.idle_timeout)
        .with_timeout(settings.request_timeout)
        .with_pool_idle_timeout(settings.connection_idle_max)
        .with_pool_max_idle_per_host(settings.connections_idle_max)
}

/// Signs with the current key.
#[derive(Debug)]
struct Signing(Arc<Keys>);

#[async_trait]
impl CredentialProvider for Signing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let key = self.0.get().await.map_err(|reason| Error::Unauthenticated {
            path: String::new(),
            source: reason.into(),
        })?;
        Ok(Arc::new(AwsCredential {
            key_id: key.id.clone(),
            secret_key: key.secret.0.clone(),
            token: key.session_token.as_ref().map(|token| token.0.clone()),
        }))
    }
}

/// Looks at the clock in every answer.
struct Connector(BucketSettings);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Observed {
            inner,
            settings: self.0.clone(),
        }))
    }
}

#[derive(Debug)]
struct Observed {
    inner: HttpClient,
    settings: BucketSettings,
}

#[async_trait]
impl HttpService for Observed {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.inner.execute(request).await?;
        if let Some(date) = response.headers().get("date").and_then(|date| date.to_str().ok()) {
            let now = (self.settings.wall_clock)();
            self.settings.store_clock.observe(date, now);
        }
        Ok(response)
    }
}

/// Our keys are already what the crate calls a path; one that is not is refused before anything is sent.
fn path(key: &ObjectKey) -> Result<Path, StoreError> {
    Path::parse(&key.0).map_err(|error| StoreError::failed(key, error))
}

/// What the store said, on one line: stores answer with a page of XML.
fn brief(error: &Error) -> String {
    let text = error.to_string();
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0)
    };
    let Some(code) = between("Code") else {
        return text;
    };
    let status = text
        .split_once("status code: ")
        .and_then(|(_, rest)| rest.get(..3))
        .unwrap_or("error");
    match between("Message") {
        Some(message) => format!("{status} {code}: {message}"),
        None => format!("{status} {code}"),
    }
}

/// Whether the store certainly did nothing. An answer with a status of 500 and more proves nothing: a proxy may have given
/// it, after the store did what it was told.
fn certainly_failed(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::UnknownConfigurationKey { .. }
    ) || never_connected(error)
}

fn never_connected(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return http.kind() == HttpErrorKind::Connect;
        }
        source = cause.source();
    }
    false
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn create(&self, key: &ObjectKey, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let payload: PutPayload = chunks.into_iter().collect();
        match self.inner.put(&path(key)?, payload).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.write_error(key, &error)),
        }
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            // Some stores refuse an empty range; what there is to know is whether the object is there and long enough.
            let found = self
                .inner
                .head(&path(key)?)
                .await
                .map_err(|error| self.read_error(key, &error))?;
            return if range.start <= found.size {
                Ok(Bytes::new())
            } else {
                Err(beyond_end(key, &range))
            };
        }
        let bytes = self
            .inner
            .get_range(&path(key)?, range.clone())
            .await
            .map_err(|error| self.read_error(key, &error))?;
        if u64::try_from(bytes.len()) == Ok(wanted) {
            Ok(bytes)
        } else {
            Err(beyond_end(key, &range))
        }
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let asked = ObjectKey(prefix.to_owned());
        let failed = |error: Error| {
            self.notice_expiry(&error);
            StoreError::failed(&asked, brief(&error))
        };
        // The crate's prefixes are whole directories; the rest of ours is compared here.
        let directory = match prefix.rsplit_once('/') {
            Some((directory, _)) => Some(path(&ObjectKey(directory.to_owned()))?),
            None => None,
        };
        let mut stream = match after {
            Some(after) => self.inner.list_with_offset(directory.as_ref(), &path(after)?),
            None => self.inner.list(directory.as_ref()),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(meta) = stream.next().await else { break };
            let meta = meta.map_err(failed)?;
            let key = ObjectKey(meta.location.to_string());
            if key.0.starts_with(prefix) {
                found.push(ObjectMeta {
                    key,
                    size_bytes: meta.size,
                    modified: meta.last_modified.into(),
                });
            } else if key.0.as_str() > prefix {
                break;
            }
        }
        Ok(found)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self.inner.delete(&path(key)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.write_error(key, &error)),
        }
    }
}

/// What a read says whose range does not lie within the object.
pub(crate) fn beyond_end(key: &ObjectKey, range: &Range<u64>) -> StoreError {
    StoreError::failed(
        key,
        format_args!("range {} to {} ends beyond the object", range.start, range.end),
    )
}
