//! The commit log over a store that fails in every way it may.
//!
//! Owns: the small cluster that all cases use.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod chaos;
mod checkpoints;
mod commits;
mod election;
mod following;
mod recorder;
mod sessions;

use std::ops::Deref;
use std::sync::Arc;

use esker_metadata::log::bootstrap;
use esker_metadata::simulated::{Faults, SimulatedStore};
use esker_metadata::store::MetadataStore;
pub(crate) use recorder::{Entry, Following, Scene, TTL, commit, committed, run, text};

/// A cluster in a simulated store.
struct World {
    store: SimulatedStore,
    scene: Scene,
}

impl Deref for World {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl World {
    async fn new(seed: u64, faults: Faults) -> Self {
        let store = SimulatedStore::new(seed, Faults::calm());
        let dyn_store: Arc<dyn MetadataStore> = Arc::new(store.clone());
        let cluster = bootstrap(dyn_store, u128::from(seed)).await.unwrap();
        store.set_faults(faults);
        Self {
            store,
            scene: Scene::new(cluster),
        }
    }

    async fn calm() -> Self {
        Self::new(1, Faults::calm()).await
    }
}
