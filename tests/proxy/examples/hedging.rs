//! What second requests do to the tail of a real server's uploads and reads, behind a proxy that delays them.
//!
//! `infra/with-s3 minio -- cargo run --release -p esker-proxy --example hedging`: 100 to 140 ms for every request, one to five
//! seconds more for three in a hundred; eight lanes, 64 KiB objects. Takes about two minutes.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use esker_proxy::Proxy;
use esker_proxy::faults::{Fault, Rule};
use esker_storage::bucket::settings::{AccessKey, Secret};
use esker_storage::bucket::{BucketSettings, open};
use esker_storage::hedged::{HedgeSettings, Hedged, Hedger};
use esker_storage::store::{ObjectKey, ObjectStore};
use futures::future::join_all;
use tokio::time::Instant;

const LANES: usize = 8;
const EACH: usize = 250;
const OBJECT_BYTES: usize = 64 << 10;

fn delays() -> Vec<Rule> {
    let delay = |from_millis, to_millis| Fault::Delay { from_millis, to_millis };
    vec![
        Rule::of(delay(100, 140), &[]),
        Rule::of(delay(1_000, 5_000), &[]).per_million(30_000),
    ]
}

async fn bucket(endpoint: String, name: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    #[expect(clippy::disallowed_methods, reason = "a real server has a real clock")]
    let mut settings = BucketSettings::new(Arc::new(SystemTime::now));
    settings.endpoint = Some(endpoint);
    settings.region = Some("us-east-1".to_owned());
    settings.access_key = Some(AccessKey {
        id: std::env::var("ESKER_TEST_KEY")?,
        secret: Secret(std::env::var("ESKER_TEST_SECRET")?),
        session_token: None,
    });
    Ok(open(&format!("s3://esker/hedging/{name}").parse()?, settings).await?)
}

/// Uploads everything in lanes; sorted latencies.
async fn uploads(store: &dyn ObjectStore, settings: HedgeSettings) -> Vec<Duration> {
    let puts = &Hedger::puts(settings);
    let chunks = &[Bytes::from(vec![7; OBJECT_BYTES])];
    let lane = |lane| async move {
        let mut took = Vec::with_capacity(EACH);
        for nth in 0..EACH {
            let mut attempt = 0;
            let mut next = || {
                attempt += 1;
                ((), ObjectKey(format!("{lane}/{nth}/{attempt}")))
            };
            let began = Instant::now();
            while puts.create(store, chunks, &mut next).await.is_err() {}
            took.push(began.elapsed());
        }
        took
    };
    sorted(join_all((0..LANES).map(lane)).await)
}

async fn reads(store: &dyn ObjectStore, key: &ObjectKey) -> Vec<Duration> {
    let end = u64::try_from(OBJECT_BYTES).unwrap_or(u64::MAX);
    let lane = |_| async move {
        let mut took = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            let began = Instant::now();
            while store.read(key, 0..end).await.is_err() {}
            took.push(began.elapsed());
        }
        took
    };
    sorted(join_all((0..LANES).map(lane)).await)
}

fn sorted(lanes: Vec<Vec<Duration>>) -> Vec<Duration> {
    let mut all = lanes.concat();
    all.sort_unstable();
    all
}

fn at(sorted: &[Duration], per_mille: usize) -> Duration {
    sorted[(sorted.len() * per_mille / 1_000).min(sorted.len() - 1)]
}

fn line(what: &str, took: &[Duration], requests: u64) -> String {
    let [p50, p99, p999] = [500, 990, 999].map(|place| at(took, place).as_millis());
    format!(
        "{what:16} p50 {p50:5} ms   p99 {p99:5} ms   p99.9 {p999:5} ms   {requests} requests for {}\n",
        took.len()
    )
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::var("ESKER_TEST_MINIO").context("run this through infra/with-s3 minio --")?;
    let server = server.strip_prefix("http://").context("a URL of with-s3")?;
    let mut tails = Vec::new();
    for percent in [0, HedgeSettings::default().budget_percent] {
        let settings = HedgeSettings::with_budget(percent);
        let proxy = Proxy::start("127.0.0.1:0".parse()?, server, 1).await?;
        let store = bucket(format!("http://{}", proxy.address()), &percent.to_string()).await?;
        let key = ObjectKey("read".to_owned());
        store.create(&key, vec![Bytes::from(vec![7; OBJECT_BYTES])]).await?;
        proxy.set(delays());
        let puts = uploads(&*store, settings).await;
        let gets = reads(&Hedged::new(store, settings), &key).await;
        let asked = proxy.counts().requests;
        let text = line(&format!("put, {percent} %"), &puts, asked["PUT"] - 1)
            + &line(&format!("get, {percent} %"), &gets, asked["GET"]);
        std::io::stdout().write_all(text.as_bytes())?;
        tails.push([at(&puts, 990), at(&gets, 990)]);
    }
    for (verb, (without, with)) in ["put", "get"].iter().zip(tails[0].iter().zip(tails[1])) {
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        writeln!(
            std::io::stdout(),
            "{verb}: p99 with second requests is {ratio:.2} of that without"
        )?;
        anyhow::ensure!(ratio <= 0.35, "more than 0.35");
    }
    Ok(())
}
