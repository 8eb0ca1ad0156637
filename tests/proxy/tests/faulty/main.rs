//! The object store stack through the faulty proxy, on a real server: `infra/with-s3 minio -- cargo test -p esker-proxy --test faulty`.
//!
//! What must hold whatever goes wrong: what was said to be stored is there, an outcome that is not known is not called
//! one, reads are right or refused, and everything works again when the faults are gone.

#![expect(clippy::unwrap_used, reason = "tests")]

mod check;
mod outcomes;
mod retries;
mod storm;

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use esker_proxy::Proxy;
use esker_storage::bucket::clock::StoreClock;
use esker_storage::bucket::settings::{AccessKey, Secret};
use esker_storage::bucket::{BucketSettings, open};
use esker_storage::hedged::{HedgeSettings, Hedged};
use esker_storage::metered::Metered;
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use esker_storage::store::{ObjectKey, ObjectStore};

/// A bucket behind a proxy of its own.
struct Behind {
    proxy: Proxy,
    /// Only the bucket: each call is one request.
    bare: Arc<dyn ObjectStore>,
    /// As an agent has it.
    stack: Arc<dyn ObjectStore>,
}

impl Deref for Behind {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

fn said(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through infra/with-s3"))
}

async fn bucket(endpoint: String, clock: StoreClock) -> Arc<dyn ObjectStore> {
    #[expect(clippy::disallowed_methods, reason = "a real server has a real clock")]
    let mut settings = BucketSettings::new(Arc::new(SystemTime::now));
    settings.endpoint = Some(endpoint);
    settings.store_clock = clock;
    settings.region = Some("us-east-1".to_owned());
    settings.access_key = Some(AccessKey {
        id: said("ESKER_TEST_KEY"),
        secret: Secret(said("ESKER_TEST_SECRET")),
        session_token: None,
    });
    let test = std::thread::current().name().unwrap().replace("::", "/");
    let url = format!("s3://esker/faulty/{}/{test}", std::process::id());
    open(&url.parse().unwrap(), settings).await.unwrap()
}

/// The bucket without the proxy: what is really there.
async fn direct() -> Arc<dyn ObjectStore> {
    bucket(said("ESKER_TEST_MINIO"), StoreClock::default()).await
}

fn impatient() -> RetrySettings {
    RetrySettings {
        attempt_timeout: Duration::from_millis(800),
        backoff_first: Duration::from_millis(5),
        backoff_max: Duration::from_millis(40),
        budget_retries: 20,
        ..RetrySettings::default()
    }
}

async fn behind(seed: u64, retries: RetrySettings) -> Behind {
    behind_with_clock(seed, retries, StoreClock::default()).await
}

async fn behind_with_clock(seed: u64, retries: RetrySettings, clock: StoreClock) -> Behind {
    let server = said("ESKER_TEST_MINIO");
    let server = server.strip_prefix("http://").unwrap();
    let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), server, seed)
        .await
        .unwrap();
    let bare = bucket(format!("http://{}", proxy.address()), clock).await;
    let metered = Arc::new(Metered::new(Arc::clone(&bare)));
    let hedged = Arc::new(Hedged::new(metered, HedgeSettings::default()));
    let stack = Arc::new(Retrying::new(hedged, retries, Random::new(seed)));
    Behind { proxy, bare, stack }
}

fn key(text: impl Into<String>) -> ObjectKey {
    ObjectKey(text.into())
}

/// Bytes that differ everywhere and from seed to seed.
fn pattern(seed: u64, length: usize) -> Bytes {
    let mut random = Random::new(seed);
    let words = (0..length.div_ceil(8)).flat_map(|_| random.number().to_le_bytes());
    words.take(length).collect()
}
