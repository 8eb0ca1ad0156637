//! An hour of 200 flushes a second, accelerated: how many objects and how much metadata are there at any time, and how long does
//! a restart take afterwards?
//!
//! `cargo run --release -p esker-compaction --example hour [SEGMENTS [PARTITIONS]]`; 720,000 segments by default, about four
//! minutes. Stores are on disk without syncs; time is tokio's and moves 5 ms with each flush.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example may panic and print")]

#[path = "../tests/compaction/world.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod world;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use esker_compaction::check::check;
use esker_compaction::incarnation;
use esker_compaction::settings::Settings;
use esker_kafka::records::{Batch, BatchBuilder, Codec, Headers};
use esker_metadata::embedded::{self, EmbeddedStore};
use esker_metadata::log::{Cluster, bootstrap};
use esker_model::entry::Entry;
use esker_segment::id::TopicId;
use esker_storage::directory::{Directory, Durability};
use esker_storage::merged::Manifests;
use esker_storage::named::NamedObjects;
use tokio_util::sync::CancellationToken;
use world::{Node, Policies, at};

const FLUSHES_PER_MINUTE: u64 = 200 * 60;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("a number"));
    let segments = arguments.next().unwrap_or(60 * FLUSHES_PER_MINUTE);
    let partitions = u32::try_from(arguments.next().unwrap_or(12)).expect("a number of partitions");
    let dir = tempfile::tempdir().unwrap();
    let begun = now();
    let (cluster, objects, store) = open(dir.path()).await;
    let node = Node::start(cluster, objects, 8 << 20).await;
    let topic = node.create("hour", partitions).await;
    let stop = CancellationToken::new();
    let compaction = node.compaction(&Policies::default(), &Arc::new(AtomicI64::new(1)), Settings::local());
    let working = tokio::spawn(compaction.run(stop.clone()));
    produce(&node, topic, partitions, segments, dir.path()).await;
    // The last checkpoint, its merge, and the grace of what it left.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = node.replica.fold().partition_total();
    println!(
        "produced and settled in {:.1} s, {view} partitions",
        begun.elapsed().as_secs_f64()
    );
    report(dir.path(), "at rest");
    stop.cancel();
    working.await.unwrap();
    drop(node);
    store.close().await;
    restart(dir.path()).await;
}

async fn open(dir: &Path) -> (Cluster, NamedObjects, EmbeddedStore) {
    let settings = embedded::Settings {
        fsync: false,
        ..embedded::Settings::default()
    };
    let store = EmbeddedStore::open(&dir.join("metadata"), settings).await.unwrap();
    let cluster = bootstrap(Arc::new(store.clone()), 7).await.unwrap();
    let directory = Directory::open(dir.join("objects"), Durability::PageCache).unwrap();
    let objects = NamedObjects::new(Arc::new(directory), "hour".parse().unwrap());
    incarnation::claim(&objects, &cluster).await.unwrap();
    (cluster, objects, store)
}

async fn produce(node: &Node, topic: TopicId, partitions: u32, segments: u64, dir: &Path) {
    let batch = batch();
    for nth in 0..segments {
        let first = u32::try_from(nth * 3 % u64::from(partitions)).unwrap();
        let partition = |step: u32| at(topic, (first + step) % partitions);
        let batches: Vec<_> = (0..3.min(partitions))
            .map(|step| (partition(step), batch.clone()))
            .collect();
        let (_, entry, _) = node.upload(&batches).await;
        node.access.commit(vec![Entry::Segment(entry)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        if (nth + 1) % (FLUSHES_PER_MINUTE * 5) == 0 {
            report(dir, &format!("after {:>2} min", (nth + 1) / FLUSHES_PER_MINUTE));
        }
    }
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new(Codec::default());
    builder.append(1, None, Some(&[7; 200]), &Headers::new()).unwrap();
    builder.build().unwrap()
}

fn report(dir: &Path, when: &str) {
    let (objects, bytes) = size(&dir.join("objects"));
    let (_, metadata) = size(&dir.join("metadata"));
    println!(
        "{when}: {objects} objects of {} KiB, metadata {} KiB",
        bytes >> 10,
        metadata >> 10
    );
}

/// Files below a directory and their bytes.
fn size(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let Ok(entry) = entry else { continue };
        // Gone by now is fine.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let below = size(&entry.path());
            (files, bytes) = (files + below.0, bytes + below.1);
        } else {
            (files, bytes) = (files + 1, bytes + meta.len());
        }
    }
    (files, bytes)
}

async fn restart(dir: &Path) {
    let begun = now();
    let (cluster, objects, _store) = open(dir).await;
    let opened = begun.elapsed();
    let node = Node::start(cluster.clone(), objects.clone(), 8 << 20).await;
    println!(
        "restart: stores open after {:.1} ms, log followed to its end and session open after {:.1} ms more",
        opened.as_secs_f64() * 1e3,
        (begun.elapsed() - opened).as_secs_f64() * 1e3
    );
    let begun = now();
    let found = check(&cluster, &Manifests::new(objects, 8 << 20)).await.unwrap();
    println!(
        "check: {} offsets in {} batches in {} objects, {} problems, in {:.1} s",
        found.offsets,
        found.batches,
        found.objects,
        found.problems.len(),
        begun.elapsed().as_secs_f64()
    );
    drop(node);
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's clock stands still while this one measures"
)]
fn now() -> Instant {
    Instant::now()
}
