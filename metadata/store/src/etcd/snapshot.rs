//! Reading many keys at one revision, a page at a time.
//!
//! Invariants: all pages are of the revision of the first; if it is compacted meanwhile, everything is read anew.

use etcd_client::{GetOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse};

use super::calls::Calls;
use super::fault::Fault;
use super::translate::{Namespace, from_etcd, to_etcd};
use crate::store::{KeyRange, KeyValue, MetadataError, Revision, Snapshot, TXN_OPS_MAX};

/// Keys on the first page of a range: at most 48 MiB even if each is as large as etcd allows.
const FIRST_PAGE_KEYS: usize = 32;
/// Most keys on a page.
const PAGE_KEYS_MAX: usize = 4096;
/// Bytes that a page is to have, judging by those before it.
const PAGE_BYTES: usize = 4 << 20;
/// How often a snapshot is begun anew.
const ATTEMPTS: usize = 3;

/// Reads ranges at one revision, the newest.
pub(super) async fn read(calls: &Calls, namespace: &Namespace, ranges: &[KeyRange]) -> Result<Snapshot, MetadataError> {
    if ranges.len() > TXN_OPS_MAX {
        let why = format!("snapshot of {} ranges, at most {TXN_OPS_MAX} are allowed", ranges.len());
        return Err(MetadataError::Failed(why));
    }
    let mut attempt = 1;
    loop {
        match read_once(calls, namespace, ranges).await {
            Err(fault) if fault.compacted && attempt < ATTEMPTS => attempt += 1,
            read => return read.map_err(Fault::into_failed),
        }
    }
}

async fn read_once(calls: &Calls, namespace: &Namespace, ranges: &[KeyRange]) -> Result<Snapshot, Fault> {
    let (revision, firsts) = first_pages(calls, namespace, ranges).await?;
    let mut all = Vec::with_capacity(ranges.len());
    for (range, (mut keys, more)) in ranges.iter().zip(firsts) {
        if let (KeyRange::Prefix(prefix), true) = (range, more) {
            read_rest(calls, namespace, prefix, revision, &mut keys).await?;
        }
        all.push(keys);
    }
    Ok(Snapshot { revision, ranges: all })
}

/// The first page of every range, all at once.
async fn first_pages(
    calls: &Calls,
    namespace: &Namespace,
    ranges: &[KeyRange],
) -> Result<(Revision, Vec<(Vec<KeyValue>, bool)>), Fault> {
    let get = |range: &KeyRange| match range {
        KeyRange::Key(key) => TxnOp::get(namespace.key(key), None),
        KeyRange::Prefix(prefix) => {
            let (begin, end) = namespace.range(prefix);
            TxnOp::get(begin, Some(page(end, FIRST_PAGE_KEYS)))
        }
    };
    let mut gets: Vec<TxnOp> = ranges.iter().map(get).collect();
    if gets.is_empty() {
        gets.push(namespace.touch());
    }
    let answer = calls.read(EtcdTxn::new().and_then(gets)).await?;
    let header = answer
        .header()
        .ok_or_else(|| Fault::nonsense("an answer without a header"))?;
    let revision = from_etcd(header.revision());
    let mut pages = Vec::with_capacity(ranges.len());
    for response in answer.op_responses().into_iter().take(ranges.len()) {
        let TxnOpResponse::Get(mut got) = response else {
            return Err(Fault::nonsense("an answer of another kind"));
        };
        let more = got.more();
        pages.push((keys(namespace, got.take_kvs())?, more));
    }
    if pages.len() != ranges.len() {
        return Err(Fault::nonsense("another number of answers than ranges"));
    }
    Ok((revision, pages))
}

async fn read_rest(
    calls: &Calls,
    namespace: &Namespace,
    prefix: &[u8],
    revision: Revision,
    read: &mut Vec<KeyValue>,
) -> Result<(), Fault> {
    let (_, end) = namespace.range(prefix);
    let mut limit = next_limit(read, FIRST_PAGE_KEYS);
    loop {
        let last = read.last().ok_or_else(|| Fault::nonsense("an empty page, and more"))?;
        // The very next key there can be.
        let mut begin = namespace.key(&last.key);
        begin.push(0);
        let options = page(end.clone(), limit).with_revision(to_etcd(revision));
        let mut got = match calls.get(&begin, options).await {
            Err(fault) if fault.too_large && limit > 1 => {
                limit /= 2;
                continue;
            }
            got => got?,
        };
        let more = got.more();
        let page = keys(namespace, got.take_kvs())?;
        if page.is_empty() && more {
            return Err(Fault::nonsense("an empty page, and more"));
        }
        limit = next_limit(&page, limit);
        read.extend(page);
        if !more {
            return Ok(());
        }
    }
}

fn page(end: Vec<u8>, limit: usize) -> GetOptions {
    let limit = i64::try_from(limit).expect("a page is small");
    GetOptions::new().with_range(end).with_limit(limit)
}

/// How many keys the next page is to have, so that it is of a good size if they are like these.
fn next_limit(page: &[KeyValue], last: usize) -> usize {
    let bytes: usize = page.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let fitting = PAGE_BYTES * page.len() / bytes.max(1);
    fitting.clamp(1, PAGE_KEYS_MAX).min(last * 4)
}

fn keys(namespace: &Namespace, found: Vec<etcd_client::KeyValue>) -> Result<Vec<KeyValue>, Fault> {
    let ours = found.into_iter().map(|kv| namespace.key_value(kv));
    ours.collect::<Option<Vec<KeyValue>>>()
        .ok_or_else(|| Fault::nonsense("a key outside the range"))
}
