//! Measures the embedded store: `cargo run --release -p esker-metadata --example commit_latency -- DIRECTORY [--no-fsync]`.
//!
//! Owns: the numbers in `docs/decisions/0105-metadata-file-is-a-journal.md`. Each transaction is that of a commit with a
//! record of 1 KiB; records are removed again as checkpoints would.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers, which prints"
)]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::embedded::{EmbeddedStore, Settings};
use esker_metadata::store::{Compare, KeyRange, MetadataStore, Op, Txn};
use tokio::time::Instant;

const RECORD_BYTES: usize = 1024;
const TRUNCATE_EVERY: u64 = 2_000;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| ".".to_owned());
    let fsync = arguments.next().as_deref() != Some("--no-fsync");
    let path = Path::new(&directory).join("commit-latency");
    println!("write and fdatasync of 4 KiB: p50 {:?}", raw_sync(&path));
    let begun = Instant::now();
    let store = EmbeddedStore::open(
        &path,
        Settings {
            fsync,
            ..Settings::default()
        },
    )
    .await
    .unwrap();
    println!("open: {:?}, resident {} KiB", begun.elapsed(), resident_kib());
    for (concurrent, commits) in [(1, 1_000), (8, 4_000), (64, 20_000)] {
        measure(&store, &path, concurrent, commits).await;
    }
    reopen(store, &path, fsync).await;
}

/// What the disk itself can do.
fn raw_sync(path: &Path) -> Duration {
    use std::os::unix::fs::FileExt;
    std::fs::create_dir_all(path).unwrap();
    let file = std::fs::File::create(path.join("raw")).unwrap();
    file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|at| {
            let begun = Instant::now();
            file.write_all_at(&[2; 4096], at * 4096).unwrap();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

async fn measure(store: &EmbeddedStore, path: &Path, concurrent: u64, commits: u64) {
    let syncs = store.syncs();
    let (begun, cpu) = (Instant::now(), cpu_ticks());
    let tasks: Vec<_> = (0..concurrent)
        .map(|session| tokio::spawn(commit_many(store.clone(), session, commits / concurrent)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let (elapsed, cpu) = (begun.elapsed(), cpu_ticks() - cpu);
    times.sort_unstable();
    let at = |permille: usize| times[times.len() * permille / 1000];
    println!(
        "{concurrent} at a time: p50 {:?} p99 {:?} max {:?}, {:.0} commits/s, {:.1} commits a sync, {:.3} CPU-s per 1,000, file \
         {} KiB, resident {} KiB",
        at(500),
        at(990),
        times[times.len() - 1],
        f64::from(u32::try_from(times.len()).unwrap()) / elapsed.as_secs_f64(),
        f64::from(u32::try_from(times.len()).unwrap()) / f64::from(u32::try_from(store.syncs() - syncs).unwrap()),
        cpu * 10.0 / f64::from(u32::try_from(times.len()).unwrap()),
        std::fs::metadata(path.join("metadata.journal")).unwrap().len() >> 10,
        resident_kib(),
    );
}

async fn commit_many(store: EmbeddedStore, session: u64, commits: u64) -> Vec<Duration> {
    let counter = Bytes::from(format!("commit/{session:016x}"));
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    store
        .txn(Txn {
            then: vec![Op::put(counter.clone(), number(0))],
            ..Txn::default()
        })
        .await
        .unwrap();
    let mut times = Vec::new();
    for n in 1..=commits {
        let txn = Txn {
            compares: vec![Compare::Value(counter.clone(), number(n - 1))],
            then: vec![
                Op::put(counter.clone(), number(n)),
                Op::put(
                    format!("log/e/{session:016x}/{n:016x}").into(),
                    vec![7; RECORD_BYTES].into(),
                ),
                Op::put("log/head".into(), Bytes::from_static(&[1; 13])),
            ],
            otherwise: vec![Op::Get(counter.clone())],
        };
        let begun = Instant::now();
        assert!(store.txn(txn).await.unwrap().succeeded);
        times.push(begun.elapsed());
        if n % TRUNCATE_EVERY == 0 || n == commits {
            truncate(&store, session).await;
        }
    }
    times
}

async fn truncate(store: &EmbeddedStore, session: u64) {
    let prefix = KeyRange::Prefix(format!("log/e/{session:016x}/").into());
    let keys = store.snapshot(vec![prefix]).await.unwrap().ranges.remove(0);
    for some in keys.chunks(100) {
        let then = some.iter().map(|kv| Op::Delete(kv.key.clone())).collect();
        store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    }
}

/// How long a start takes with much in the store.
async fn reopen(store: EmbeddedStore, path: &Path, fsync: bool) {
    for group in 0..160 {
        let then = (0..8)
            .map(|at| Op::put(format!("big/{group}/{at}").into(), vec![9; 30_000].into()))
            .collect();
        store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    }
    println!("38 MB of live data: resident {} KiB", resident_kib());
    // A copy of an open file is what a kill leaves behind.
    let killed = path.join("killed");
    std::fs::create_dir_all(&killed).unwrap();
    std::fs::copy(path.join("metadata.journal"), killed.join("metadata.journal")).unwrap();
    let begun = Instant::now();
    EmbeddedStore::open(
        &killed,
        Settings {
            fsync,
            ..Settings::default()
        },
    )
    .await
    .unwrap()
    .close()
    .await;
    println!("opened after a kill, and closed, in {:?}", begun.elapsed());
    let begun = Instant::now();
    store.close().await;
    let closed = begun.elapsed();
    let begun = Instant::now();
    let store = EmbeddedStore::open(
        path,
        Settings {
            fsync,
            ..Settings::default()
        },
    )
    .await
    .unwrap();
    println!("closed in {closed:?}, opened in {:?}", begun.elapsed());
    store.close().await;
    std::fs::remove_dir_all(path).unwrap();
}

/// CPU time of the process, user and system, in hundredths of a second.
fn cpu_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold spaces; it ends with the last bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
