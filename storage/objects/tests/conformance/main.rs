//! The conformance suite against every store that needs no server.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use esker_storage::bucket::Bucket;
use esker_storage::directory::{Directory, Durability};
use esker_storage::metered::Metered;
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use esker_storage::simulated::{Faults, SimulatedStore};
use esker_storage::store::ObjectStore;

use self::cases::{Subject, conformance};

mod cases;

fn directory(durability: Durability) -> Subject {
    let keep = tempfile::tempdir().unwrap();
    let store = Directory::open(keep.path().join("bucket"), durability).unwrap();
    Subject {
        store: Arc::new(store),
        _keep: Some(keep),
    }
}

fn lone(store: impl ObjectStore) -> Subject {
    Subject {
        store: Arc::new(store),
        _keep: None,
    }
}

fn simulated(faults: Faults) -> Subject {
    lone(SimulatedStore::new(Random::new(1), faults))
}

fn stacked() -> Subject {
    let metered = Arc::new(Metered::new(Arc::new(Bucket::memory())));
    lone(Retrying::new(metered, RetrySettings::default(), Random::new(1)))
}

conformance! {
    memory: crate::lone(crate::Bucket::memory());
    local_directory: crate::directory(crate::Durability::Fsync);
    local_directory_without_fsync: crate::directory(crate::Durability::PageCache);
    stack: crate::stacked();
    simulated_without_faults: crate::simulated(crate::Faults::NONE);
}

mod order {
    use crate::cases::conformance;

    conformance!(
        memory,
        crate::lone(crate::Bucket::memory()),
        [the_slash_sorts_among_the_other_bytes]
    );
    conformance!(
        local_directory,
        crate::directory(crate::Durability::Fsync),
        [the_slash_sorts_among_the_other_bytes]
    );
    conformance!(
        local_directory_without_fsync,
        crate::directory(crate::Durability::PageCache),
        [the_slash_sorts_among_the_other_bytes]
    );
    conformance!(stack, crate::stacked(), [the_slash_sorts_among_the_other_bytes]);
    conformance!(
        simulated_without_faults,
        crate::simulated(crate::Faults::NONE),
        [the_slash_sorts_among_the_other_bytes]
    );
}
