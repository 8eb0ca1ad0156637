//! Opening the two stores: what is durable of a cluster.
//!
//! Owns: which stores a data directory holds, what `--etcd` and `--store` say, the cluster's id, that bucket and metadata store
//! belong together.
//! Does not own: the stores (`esker_metadata`, `esker_storage`), what runs on them.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use esker_agent::health::{StoreHealth, WatchedStore};
use esker_agent::settings::ProcessSettings;
use esker_compaction::incarnation::{self, IncarnationError};
use esker_metadata::embedded::{self, EmbeddedStore};
use esker_metadata::etcd::{EtcdSettings, EtcdStore, EtcdTls, EtcdUser, Secret};
use esker_metadata::log::{Cluster, bootstrap};
use esker_metadata::store::{Compare, MetadataError, MetadataStore, Op, OpResult, Txn};
use esker_segment::id::TopicId;
use esker_segment::name::ClusterId;
use esker_storage::bucket::settings::WallClock;
use esker_storage::bucket::{self, BucketSettings, BucketUrl};
use esker_storage::directory::{Directory, Durability};
use esker_storage::hedged::{HedgeSettings, Hedged};
use esker_storage::metered::Metered;
use esker_storage::named::NamedObjects;
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use esker_storage::store::ObjectStore;
use tracing::warn;

use crate::UsageError;

/// Where the metadata store lies in a data directory.
pub(crate) const METADATA: &str = "metadata";
/// Where the objects lie.
pub(crate) const OBJECTS: &str = "objects";
/// The key that holds the cluster's id.
pub(crate) const CLUSTER_KEY: Bytes = Bytes::from_static(b"cluster");

/// How long to wait before a store that is away is asked again. A question has a time-out of its own.
const START_PAUSE: Duration = Duration::from_secs(1);

/// The stores of a cluster.
pub(crate) struct Stores {
    /// The metadata store, and the life of the cluster found in it.
    pub(crate) joined: Cluster,
    /// The cluster's id.
    pub(crate) cluster: ClusterId,
    /// The bucket, with metrics and retries.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Whether the bucket answers.
    pub(crate) health: StoreHealth,
    /// What has to be closed at the end.
    embedded: Option<EmbeddedStore>,
    /// Both stores in the words of the settings.
    said: String,
}

impl Stores {
    /// The objects by name.
    pub(crate) fn named(&self) -> NamedObjects {
        NamedObjects::new(Arc::clone(&self.objects), self.cluster.clone())
    }

    /// Makes sure that bucket and metadata store belong together, before anything is done to either.
    async fn claim(&self) -> anyhow::Result<()> {
        let (objects, cluster) = (self.named(), &self.joined);
        let claim = || incarnation::claim(&objects, cluster);
        together(&self.said, self.embedded.is_none(), claim).await
    }

    /// What has to be closed after everything else has ended.
    pub(crate) fn closer(&self) -> Option<EmbeddedStore> {
        self.embedded.clone()
    }

    async fn of(
        metadata: Arc<dyn MetadataStore>,
        objects: Arc<dyn ObjectStore>,
        embedded: Option<EmbeddedStore>,
        hedges: HedgeSettings,
        said: String,
    ) -> anyhow::Result<Self> {
        let seed = u64::try_from(random() & u128::from(u64::MAX)).expect("masked");
        let health = StoreHealth::default();
        let metered = Arc::new(Metered::new(objects));
        let metered: Arc<dyn ObjectStore> = Arc::new(Hedged::new(metered, hedges));
        let metered: Arc<dyn ObjectStore> = Arc::new(WatchedStore::new(metered, health.clone()));
        let objects = Arc::new(Retrying::new(metered, RetrySettings::default(), Random::new(seed)));
        let may_found = || incarnation::verify_founding(&*objects, &*metadata);
        together(&said, embedded.is_none(), may_found).await?;
        let join = async || -> anyhow::Result<(ClusterId, Cluster)> {
            let cluster = cluster_id(&*metadata).await?;
            let joined = bootstrap(Arc::clone(&metadata), random()).await;
            Ok((cluster, joined.context("cannot join the cluster")?))
        };
        let (cluster, joined) = if embedded.is_some() {
            join().await?
        } else {
            patiently("etcd", join, |error| error.downcast_ref::<MetadataError>().is_some()).await?
        };
        Ok(Self {
            joined,
            cluster,
            objects,
            health,
            embedded,
            said,
        })
    }
}

/// Asks whether bucket and metadata store belong together, again and again where one of them may be away.
async fn together(
    said: &str,
    waits: bool,
    ask: impl AsyncFnMut() -> Result<(), IncarnationError>,
) -> anyhow::Result<()> {
    let refused = match patiently("the metadata store and the bucket", ask, |error| {
        waits && error.passes()
    })
    .await
    {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    let advice = match &refused {
        IncarnationError::Lost { .. } => {
            "; nothing was changed. For that cluster: name its metadata store, or, if that is lost, begin a new life from the \
             bucket with `esker recover --new-incarnation`. For a new cluster: name an empty bucket, or a prefix of its own in \
             this one (s3://BUCKET/PREFIX)"
        }
        IncarnationError::Elsewhere { .. } => {
            "; nothing was changed. For that cluster: name its bucket. For what the bucket holds: name its metadata store. If \
             the bucket lost the object that says whose it is, begin a new life with `esker recover --new-incarnation`"
        }
        IncarnationError::Different { .. } => {
            "; nothing was changed. One of the two is a copy: name the one that belongs to the other, or, if the metadata store \
             was restored from a copy, begin a new life with `esker recover --new-incarnation`"
        }
        IncarnationError::Unclaimed
        | IncarnationError::Moved
        | IncarnationError::Succeeded { .. }
        | IncarnationError::Damaged(_)
        | IncarnationError::Store(_)
        | IncarnationError::Metadata(_) => {
            return Err(refused).context("cannot make sure that the bucket and the metadata store belong together");
        }
    };
    // Trying again is pointless.
    Err(UsageError(format!("{said} do not belong together: {refused}{advice}")).into())
}

/// Stores that belong together.
pub(crate) async fn claimed(open: impl Future<Output = anyhow::Result<Stores>>) -> anyhow::Result<Stores> {
    let stores = open.await?;
    stores.claim().await?;
    Ok(stores)
}

/// Opens the stores of a data directory; creates them when it is new.
pub(crate) async fn open_directory(dir: &Path, fsync: bool) -> anyhow::Result<Stores> {
    let settings = embedded::Settings {
        fsync,
        ..embedded::Settings::default()
    };
    let metadata = EmbeddedStore::open(&dir.join(METADATA), settings)
        .await
        .context("cannot open the metadata store")?;
    let durability = if fsync {
        Durability::Fsync
    } else {
        Durability::PageCache
    };
    let objects = Directory::open(dir.join(OBJECTS), durability).context("cannot open the object directory")?;
    Stores::of(
        Arc::new(metadata.clone()),
        Arc::new(objects),
        Some(metadata),
        HedgeSettings::with_budget(0),
        format!("{METADATA} and {OBJECTS} in {}", dir.display()),
    )
    .await
}

/// Opens the stores that the agents of a cluster share. Waits for etcd as long as it is away.
pub(crate) async fn open_shared(settings: &ProcessSettings, hedge_percent: u32) -> anyhow::Result<Stores> {
    let (store, etcd) = (bucket_url(settings)?, etcd_settings(settings)?);
    // What is wrong with the settings does not pass.
    EtcdStore::lazy(etcd.clone()).map_err(|error| UsageError(format!("--etcd: {error}")))?;
    let connect = || EtcdStore::connect(etcd.clone());
    let metadata = patiently(&format!("etcd at {}", settings.etcd), connect, |_| true).await?;
    let objects = open_bucket(settings, &store).await?;
    Stores::of(
        Arc::new(metadata),
        objects,
        None,
        HedgeSettings::with_budget(hedge_percent),
        format!("etcd at {} and the bucket {store}", settings.etcd),
    )
    .await
}

/// Attempts something until it works, or fails with what does not pass by itself. Only for the start: `/readyz` says no meanwhile.
async fn patiently<T, E: Display>(
    who: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    loop {
        match attempt().await {
            Err(cause) if passes(&cause) => warn!("waiting for {who}: {cause:#}"),
            outcome => return outcome,
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// The stores as they are, whatever is in them.
pub(crate) async fn open_bare(
    settings: &ProcessSettings,
) -> anyhow::Result<(Arc<dyn MetadataStore>, Arc<dyn ObjectStore>)> {
    let store = bucket_url(settings)?;
    let etcd = etcd_settings(settings)?;
    let metadata = EtcdStore::connect(etcd)
        .await
        .with_context(|| format!("cannot reach etcd at {}", settings.etcd))?;
    Ok((Arc::new(metadata), open_bucket(settings, &store).await?))
}

fn bucket_url(settings: &ProcessSettings) -> Result<BucketUrl, UsageError> {
    required("esker.store", "--store", &settings.store)?
        .parse()
        // Without the text: one that is refused may hold a secret.
        .map_err(|error| UsageError(format!("--store: {error}")))
}

async fn open_bucket(settings: &ProcessSettings, store: &BucketUrl) -> anyhow::Result<Arc<dyn ObjectStore>> {
    bucket::open(store, BucketSettings::new(wall_clock()))
        .await
        .with_context(|| format!("cannot open the bucket {}", settings.store))
}

fn required<'a>(key: &str, flag: &str, value: &'a str) -> Result<&'a str, UsageError> {
    if value.is_empty() {
        return Err(UsageError(format!("{flag} is needed (setting {key})")));
    }
    Ok(value)
}

/// `H:P[,H:P…][/prefix]`, with TLS and a user if they are set.
fn etcd_settings(settings: &ProcessSettings) -> anyhow::Result<EtcdSettings> {
    let said = required("esker.etcd", "--etcd", &settings.etcd)?;
    if said.contains(['@', '?', '#']) {
        // It may hold a password, so it is not repeated.
        return Err(UsageError(
            "--etcd: an address has no user and no query; say esker.etcd.user and esker.etcd.password.file".to_owned(),
        )
        .into());
    }
    let (scheme, rest) = match said.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), said),
    };
    let (endpoints, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let endpoints: Vec<String> = endpoints
        .split(',')
        .map(|one| format!("{scheme}{}", one.trim()))
        .collect();
    if endpoints.iter().any(|one| one.len() == scheme.len()) {
        return Err(UsageError(format!("--etcd {said}: HOST:PORT[,HOST:PORT…][/PREFIX] is needed")).into());
    }
    let mut etcd = EtcdSettings::new(endpoints, prefix);
    etcd.seed = u64::try_from(random() & u128::from(u64::MAX)).expect("masked");
    if !settings.etcd_ca_file.is_empty() {
        let identity = if settings.etcd_cert_file.is_empty() {
            None
        } else {
            let key = Secret::new(read("esker.etcd.key.file", &settings.etcd_key_file)?);
            Some((read("esker.etcd.cert.file", &settings.etcd_cert_file)?, key))
        };
        etcd.tls = Some(EtcdTls {
            authorities: read("esker.etcd.ca.file", &settings.etcd_ca_file)?,
            identity,
            server_name: None,
        });
    }
    if !settings.etcd_user.is_empty() {
        let password = read("esker.etcd.password.file", &settings.etcd_password_file)?;
        etcd.user = Some(EtcdUser {
            name: settings.etcd_user.clone(),
            password: Secret::new(password.trim_end_matches(['\n', '\r']).to_owned()),
        });
    }
    Ok(etcd)
}

fn read(key: &str, path: &str) -> Result<String, UsageError> {
    std::fs::read_to_string(path).map_err(|error| UsageError(format!("{key}: cannot read {path:?}: {error}")))
}

/// The cluster's id; chosen at random when the store is new.
async fn cluster_id(store: &dyn MetadataStore) -> anyhow::Result<ClusterId> {
    // A random topic id in Kafka's notation is what Kafka's cluster ids look like.
    let fresh = TopicId(random()).to_string();
    let outcome = store
        .txn(Txn {
            compares: vec![Compare::Absent(CLUSTER_KEY)],
            then: vec![Op::put(CLUSTER_KEY, Bytes::from(fresh.clone()))],
            otherwise: vec![Op::Get(CLUSTER_KEY)],
        })
        .await
        .context("cannot read the cluster's id")?;
    if outcome.succeeded {
        return Ok(ClusterId::from_str(&fresh)?);
    }
    let found = outcome
        .results
        .into_iter()
        .next()
        .and_then(OpResult::into_get)
        .context("the cluster's id is gone")?;
    Ok(ClusterId::from_str(std::str::from_utf8(&found.value)?)?)
}

/// The system's wall clock, as a bucket wants it.
#[expect(clippy::disallowed_methods, reason = "clocks enter here")]
pub(crate) fn wall_clock() -> WallClock {
    Arc::new(std::time::SystemTime::now)
}

/// 128 bits from the system's generator.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a random number generator");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(said: &str) -> anyhow::Result<EtcdSettings> {
        etcd_settings(&ProcessSettings {
            etcd: said.to_owned(),
            ..ProcessSettings::default()
        })
    }

    #[test]
    fn etcd_is_endpoints_and_a_prefix() {
        let one = etcd("a:1").unwrap();
        assert_eq!((one.endpoints, one.prefix.as_str()), (vec!["a:1".to_owned()], ""));
        let three = etcd("a:1,b:2,[::1]:3/my/cluster").unwrap();
        assert_eq!(three.endpoints, ["a:1", "b:2", "[::1]:3"]);
        assert_eq!(three.prefix, "my/cluster");
        let url = etcd("https://a:1,b:2/p").unwrap();
        assert_eq!(url.endpoints, ["https://a:1", "https://b:2"]);
        for wrong in ["", ",", "a:1,", "/p"] {
            let refused = etcd(wrong).expect_err("must be refused");
            assert!(
                refused.is::<UsageError>() && refused.to_string().contains("--etcd"),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn what_may_hold_a_secret_is_refused_and_not_repeated() {
        let urls = [
            "s3://key:hunter2@bucket",
            "s3://bucket?secret=hunter2",
            "http://key:hunter2@bucket",
        ];
        for (store, etcd) in urls.map(|url| (url, "a:1")).into_iter().chain([
            ("s3://bucket", "http://root:hunter2@a:1"),
            ("s3://bucket", "a:1,root:hunter2@b:2/p"),
        ]) {
            let settings = ProcessSettings {
                store: store.to_owned(),
                etcd: etcd.to_owned(),
                ..ProcessSettings::default()
            };
            let refused = open_bare(&settings).await.err().expect("must be refused");
            assert!(refused.is::<UsageError>(), "{refused:?}");
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn a_user_needs_a_password_file() {
        let settings = ProcessSettings {
            etcd: "a:1".to_owned(),
            etcd_user: "u".to_owned(),
            ..ProcessSettings::default()
        };
        let refused = etcd_settings(&settings).expect_err("must be refused").to_string();
        assert!(refused.contains("esker.etcd.password.file"), "{refused}");
    }
}
