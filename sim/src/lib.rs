//! Deterministic simulation of a cluster: production code over simulated stores, with simulated clients and a checker.
//!
//! Owns: the scenario (`scenario`), machines that crash (`fleet`, `host`, `process`), clients (`link`, `producer`, `consumer`),
//! what they saw (`history`), the fold that never restarts (`oracle`), bugs planted on purpose (`planted`).
//! Does not own: anything that it tests; the faults of the stores (`esker_metadata::simulated`,
//! `esker_storage::simulated`). Must run on a current-thread runtime with paused time.
//!
//! Invariants: everything follows from the seed: the same seed gives the same trace. `docs/simulation.md` says what is
//! checked and how a seed is replayed.

mod consumer;
mod dice;
mod fleet;
mod history;
mod host;
mod link;
mod oracle;
mod planted;
mod process;
mod producer;
mod scenario;
mod trace;
mod upkeep;
mod verdict;
mod weather;

pub use planted::Bug;
pub use scenario::{Report, Scenario, run};
