//! The etcd store on real servers: the conformance suite on one and three members of 3.4 and 3.6, faults, and the log over it.
//!
//! Needs `infra/parts/get etcd-3.4 etcd-3.6`; run it with `cargo xtask ci etcd`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[macro_use]
#[path = "../conformance/cases.rs"]
mod cases;
#[path = "../conformance/concurrency.rs"]
mod concurrency;
mod faults;
mod health;
#[path = "../conformance/leases.rs"]
mod leases;
mod log;
mod pool;
#[path = "../log/recorder.rs"]
mod recorder;
mod security;
mod servers;
#[path = "../conformance/subject.rs"]
mod subject;
#[path = "../conformance/transactions.rs"]
mod transactions;
#[path = "../conformance/watches.rs"]
mod watches;

pub(crate) use subject::{PATIENCE, Subject, bytes, describe, put, put_leased};

use pool::Pool;
use servers::Version;

static SINGLE_3_4: Pool = Pool::new(Version::V3_4, 1, 4);
static SINGLE_3_6: Pool = Pool::new(Version::V3_6, 1, 4);
static THREE_3_4: Pool = Pool::new(Version::V3_4, 3, 3);
static THREE_3_6: Pool = Pool::new(Version::V3_6, 3, 3);

macro_rules! run_on {
    ($backend:ident, $($module:ident::$case:ident,)*) => {
        #[expect(non_snake_case, reason = "named like the servers")]
        mod $backend {
            $(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::$backend.subject().await).await;
            })*
        }
    };
}

for_each_case!(run_on, SINGLE_3_4);
for_each_case!(run_on, SINGLE_3_6);
for_each_case!(run_on, THREE_3_4);
for_each_case!(run_on, THREE_3_6);
