//! How a bucket is reached, apart from which one it is.
//!
//! Owns: defaults, and that nothing secret is ever shown.
//! Does not own: where unset values come from (`aws`).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bucket::clock::StoreClock;
use crate::directory::Durability;

/// Tells the wall clock's time: for the expiry of credentials and for comparing clocks.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An access key of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, which is no secret.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// Goes with temporary keys.
    pub session_token: Option<Secret>,
}

/// How a bucket is reached.
#[derive(Clone)]
pub struct BucketSettings {
    /// The service's URL. `None`: what the AWS SDK would take (environment, profile), else Amazon's.
    pub endpoint: Option<String>,
    /// The region. `None`: as the AWS SDK finds it.
    pub region: Option<String>,
    /// A fixed key. `None`: as the AWS SDK finds one, and refreshed before it expires.
    pub access_key: Option<AccessKey>,
    /// Whether the bucket's name is in the path (else in the host). `None`: in the path if there is an endpoint.
    pub path_style: Option<bool>,
    /// A connection that takes longer has failed.
    pub connect_timeout: Duration,
    /// A request whose answer makes no progress for so long has failed. Callers have shorter time-outs of their own.
    pub idle_timeout: Duration,
    /// A request that takes longer has failed whatever it does.
    pub request_timeout: Duration,
    /// A connection that was not used for so long is closed.
    pub connection_idle_max: Duration,
    /// Idle connections that are kept.
    pub connections_idle_max: usize,
    /// For a local directory.
    pub durability: Durability,
    /// The wall clock.
    pub wall_clock: WallClock,
    /// Hears what time it is at the store.
    pub store_clock: StoreClock,
}

impl BucketSettings {
    /// Everything as the environment has it.
    #[must_use]
    pub fn new(wall_clock: WallClock) -> Self {
        Self {
            endpoint: None,
            region: None,
            access_key: None,
            path_style: None,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(300),
            connection_idle_max: Duration::from_secs(60),
            connections_idle_max: 64,
            durability: Durability::Fsync,
            wall_clock,
            store_clock: StoreClock::default(),
        }
    }
}

impl fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketSettings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}
