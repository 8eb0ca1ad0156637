//! The conformance suite against real S3 servers: `infra/with-s3 -- cargo test -p esker-storage --test servers`.
//!
//! Does not own: starting servers. Each test has a prefix of its own in the one bucket.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::SystemTime;

use esker_storage::bucket::clock::StoreClock;
use esker_storage::bucket::settings::{AccessKey, Secret};
use esker_storage::bucket::{BucketSettings, open};
use esker_storage::check::{CheckSettings, Verdict, check};

use self::cases::{Subject, conformance};

#[path = "../conformance/cases.rs"]
mod cases;

fn said(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through infra/with-s3"))
}

fn settings(server: &str) -> BucketSettings {
    #[expect(clippy::disallowed_methods, reason = "a real server has a real clock")]
    let mut settings = BucketSettings::new(Arc::new(SystemTime::now));
    settings.endpoint = Some(said(server));
    settings.access_key = Some(AccessKey {
        id: said("ESKER_TEST_KEY"),
        secret: Secret(said("ESKER_TEST_SECRET")),
        session_token: None,
    });
    settings
}

async fn server(server: &str) -> Subject {
    let test = std::thread::current().name().unwrap().replace("::", "/");
    let url = format!("s3://esker/{}/{test}", std::process::id());
    let store = open(&url.parse().unwrap(), settings(server)).await.unwrap();
    Subject { store, _keep: None }
}

conformance! {
    minio: crate::server("ESKER_TEST_MINIO").await;
    seaweedfs: crate::server("ESKER_TEST_SEAWEEDFS").await;
}

/// What `esker check-store` says of it.
async fn has_every_property(server: &str) {
    let clock = StoreClock::default();
    let settings = BucketSettings {
        store_clock: clock.clone(),
        ..settings(server)
    };
    let store = open(&"s3://esker/checked".parse().unwrap(), settings).await.unwrap();
    let name = format!("{}-{server}", std::process::id());
    for finding in check(&*store, &clock, &CheckSettings::new(name, 1)).await {
        assert!(matches!(finding.verdict, Verdict::Holds(_)), "{finding:?}");
        println!("{server}: {finding:?}");
    }
}

#[tokio::test]
async fn minio_has_every_property() {
    has_every_property("ESKER_TEST_MINIO").await;
}

#[tokio::test]
async fn seaweedfs_has_every_property() {
    has_every_property("ESKER_TEST_SEAWEEDFS").await;
}

mod order {
    use crate::cases::conformance;

    conformance!(
        minio,
        crate::server("ESKER_TEST_MINIO").await,
        [the_slash_sorts_among_the_other_bytes]
    );
}
