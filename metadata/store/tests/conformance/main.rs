//! One suite for every metadata store: each line of the contract in `store.rs` is a case here.
//!
//! Owns: the cases and the list of stores they run on. A new implementation is added below and must pass all of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod concurrency;
mod leases;
mod transactions;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_metadata::embedded::{EmbeddedStore, Settings};
use esker_metadata::keyspace::Limits;
use esker_metadata::simulated::{Faults, SimulatedStore};
use esker_metadata::store::{
    Compare, KeyRange, KeyValue, LeaseId, MetadataStore, Op, Revision, Txn, TxnOutcome, Watch, WatchEvent,
};

/// A store under test, and what must live as long as it.
struct Subject {
    store: Arc<dyn MetadataStore>,
    _directory: Option<tempfile::TempDir>,
}

async fn embedded_on_disk() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Settings::default())
        .await
        .unwrap();
    Subject {
        store: Arc::new(store),
        _directory: Some(directory),
    }
}

async fn embedded_in_memory() -> Subject {
    Subject {
        store: Arc::new(EmbeddedStore::in_memory(Limits::default())),
        _directory: None,
    }
}

async fn simulated() -> Subject {
    Subject {
        store: Arc::new(SimulatedStore::new(1, Faults::calm())),
        _directory: None,
    }
}

macro_rules! run_on {
    ($backend:ident, $($module:ident::$case:ident,)*) => {
        mod $backend {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                crate::$module::$case(crate::$backend().await).await;
            })*
        }
    };
}

macro_rules! suite {
    ($($cases:tt)*) => {
        run_on!(embedded_on_disk, $($cases)*);
        run_on!(embedded_in_memory, $($cases)*);
        run_on!(simulated, $($cases)*);
    };
}

suite! {
    transactions::absent_holds_only_without_the_key,
    transactions::create_revision_holds_for_one_life_of_a_key,
    transactions::mod_revision_holds_until_the_next_put,
    transactions::value_holds_only_for_that_value,
    transactions::all_compares_must_hold,
    transactions::a_put_answers_what_was_there,
    transactions::versions_count_puts_and_begin_anew_after_a_delete,
    transactions::a_delete_answers_whether_there_was_a_key,
    transactions::a_read_sees_what_stands_before_it,
    transactions::revisions_rise_by_one_for_each_change,
    transactions::what_changes_nothing_keeps_the_revision,
    transactions::values_of_a_mebibyte_are_fine,
    transactions::too_many_bytes_are_refused,
    transactions::a_list_has_at_most_128_operations,
    transactions::one_key_is_not_changed_twice,
    transactions::an_empty_key_is_refused,
    transactions::a_prefix_ends_where_it_ends,
    transactions::a_snapshot_reads_all_ranges_at_one_revision,
    watches::an_old_revision_gives_everything_in_order,
    watches::a_revision_is_never_split,
    watches::only_the_prefix_is_watched,
    watches::a_watch_waits_for_the_future,
    watches::a_cancelled_wait_loses_nothing,
    watches::no_gap_between_a_snapshot_and_a_watch,
    watches::compacted_history_cannot_be_watched,
    watches::compaction_keeps_live_keys,
    leases::keys_go_when_the_lease_runs_out,
    leases::all_keys_of_a_lease_go_at_one_revision,
    leases::keep_alive_puts_the_end_off,
    leases::a_lease_that_ran_out_cannot_be_kept_alive,
    leases::a_revoked_lease_takes_its_keys_along,
    leases::revoking_twice_is_fine,
    leases::a_lease_that_does_not_exist_refuses_the_transaction,
    leases::a_put_moves_a_key_to_another_lease,
    leases::a_key_put_again_after_its_lease_is_a_new_key,
    concurrency::compared_increments_count_exactly,
    concurrency::one_of_many_claims_wins,
    concurrency::an_answered_transaction_is_seen_by_every_later_read,
    concurrency::a_refused_transaction_takes_no_other_along,
    concurrency::the_identical_transaction_applies_once,
}

/// Longer than any store in this suite needs for anything.
const PATIENCE: Duration = Duration::from_secs(30);

impl Subject {
    async fn txn(&self, compares: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> TxnOutcome {
        self.store
            .txn(Txn {
                compares,
                then,
                otherwise,
            })
            .await
            .unwrap()
    }

    /// Puts one key and says the revision.
    async fn put(&self, key: &'static str, value: &'static str) -> Revision {
        self.txn(vec![], vec![put(key, value)], vec![]).await.revision
    }

    async fn delete(&self, key: &'static str) -> Revision {
        self.txn(vec![], vec![Op::Delete(bytes(key))], vec![]).await.revision
    }

    async fn get(&self, key: &'static str) -> Option<KeyValue> {
        let snapshot = self.store.snapshot(vec![KeyRange::Key(bytes(key))]).await.unwrap();
        snapshot.ranges.into_iter().next().unwrap().pop()
    }

    /// Whether a compare holds now.
    async fn holds(&self, compare: Compare) -> bool {
        self.txn(vec![compare], vec![], vec![]).await.succeeded
    }

    /// Reads events until there are at least so many.
    async fn events(&self, watch: &mut Box<dyn Watch>, at_least: usize) -> Vec<WatchEvent> {
        let mut all = Vec::new();
        while all.len() < at_least {
            let events = tokio::time::timeout(PATIENCE, watch.next())
                .await
                .expect("events come")
                .unwrap();
            assert!(!events.is_empty(), "a batch is never empty");
            all.extend(events);
        }
        all
    }
}

const fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

const fn put(key: &'static str, value: &'static str) -> Op {
    Op::put(bytes(key), bytes(value))
}

const fn put_leased(key: &'static str, value: &'static str, lease: LeaseId) -> Op {
    Op::Put {
        key: bytes(key),
        value: bytes(value),
        lease,
    }
}

fn describe(event: &WatchEvent) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match event {
        WatchEvent::Put(kv) => format!("{}={}", text(&kv.key), text(&kv.value)),
        WatchEvent::Delete { key, .. } => format!("-{}", text(key)),
    }
}
