//! The scenario: produce, crash, send again, checkpoint, truncate, fetch; then calm weather and the reckoning.
//!
//! Owns: what happens when, how long it may take.
//! Does not own: faults (`weather`), checks (`verdict`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::Str;
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_metadata::log::bootstrap;
use esker_metadata::simulated::SimulatedStore as SimulatedMetadata;
use esker_storage::named::NamedObjects;
use esker_storage::random::Random;
use esker_storage::simulated::SimulatedStore as SimulatedObjects;
use tokio::task::JoinSet;

use crate::consumer::Consumer;
use crate::dice::{Dice, Seed};
use crate::fleet::Fleet;
use crate::history::History;
use crate::host::Machine;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::planted::{self, Bug};
use crate::producer::{Producer, ProducerParts};
use crate::trace::Trace;
use crate::{host, upkeep, verdict, weather};

/// The one topic.
pub(crate) const TOPIC: &str = "t";
/// Its partitions.
pub(crate) const PARTITIONS: u32 = 2;
/// Producers below this number are idempotent, the one with it is plain.
const IDEMPOTENT: u32 = 2;
/// In calm weather everything is done by then.
const CALM_MAX: Duration = Duration::from_secs(120);
const CREATE_VERSION: i16 = 7;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// A bug to plant.
    pub bug: Option<Bug>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Invariants that were broken, in order.
    pub violations: Vec<String>,
    /// A hash over everything that happened: events of clients and of the machine, calls and faults of both stores.
    pub trace_hash: u64,
    /// The newest lines of the trace, with those of the stores.
    pub trace: Vec<String>,
    /// Commits in the log.
    pub commits: u64,
    /// Log index of the last checkpoint.
    pub checkpoint: u64,
    /// Everything up to this log index is merged.
    pub merged: u64,
    /// Objects that were deleted, at least.
    pub deleted: usize,
    /// Records that were acknowledged.
    pub acknowledged: usize,
}

/// A world of its own.
struct World {
    seed: Seed,
    bug: Option<Bug>,
    metadata: SimulatedMetadata,
    objects: SimulatedObjects,
    fleet: Arc<Fleet>,
    oracle: Arc<Oracle>,
    history: Arc<History>,
    trace: Trace,
}

/// Runs a scenario. Must be called on a current-thread runtime with paused time, one for each run.
pub async fn run(scenario: Scenario) -> Report {
    let world = World::new(scenario);
    let mut clients = JoinSet::new();
    if world.within(world.play(&mut clients)).await {
        world.reckon().await;
    }
    clients.shutdown().await;
    world.report()
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let seed = Seed(scenario.seed);
        let mut dice = seed.dice("weather");
        let metadata = SimulatedMetadata::new(seed.of("metadata"), weather::metadata_faults(&mut dice));
        let random = Random::new(seed.of("objects"));
        let objects = SimulatedObjects::new(random, weather::object_faults(&mut dice));
        let trace = Trace::new();
        let history = Arc::new(History::new(trace.clone()));
        let oracle = Arc::new(Oracle::new(metadata.clone(), Arc::clone(&history)));
        let bug = scenario.bug;
        // One machine in four runs: what goes wrong there is easier to read.
        let machines = dice.count(1..5).min(3);
        let machine = Machine {
            seed,
            metadata: planted::metadata(bug, Arc::new(metadata.clone()), seed.dice("broken metadata")),
            objects: planted::objects(bug, Arc::new(objects.clone()), seed.dice("broken objects")),
            settings: Arc::new(weather::settings(&mut dice)),
            compaction: upkeep::settings(&mut dice),
            oracle: Arc::clone(&oracle),
            history: Arc::clone(&history),
            trace: trace.clone(),
            bug,
        };
        Self {
            seed,
            bug,
            metadata,
            objects,
            fleet: Fleet::new(&machine, machines, seed.dice("fleet")),
            oracle,
            history,
            trace,
        }
    }

    /// Clients at work while the machine crashes; ends in calm weather when every batch is acknowledged.
    async fn play(&self, readers: &mut JoinSet<()>) {
        self.fleet.start();
        create_topic(&self.fleet, self.seed.dice("create")).await;
        let mut producers = JoinSet::new();
        for number in 0..=IDEMPOTENT {
            producers.spawn(Producer::new(self.producer(number)).run());
        }
        for partition in 0..i32::try_from(PARTITIONS).expect("few") {
            readers.spawn(self.consumer(&format!("tail {partition}")).follow(partition));
        }
        readers.spawn(self.consumer("probe").probe());
        self.blows().await;
        self.clear_up();
        while let Some(done) = producers.join_next().await {
            done.expect("producers do not panic");
        }
    }

    /// What befalls the node and its stores, one thing after the other.
    async fn blows(&self) {
        let mut dice = self.seed.dice("blows");
        for _ in 0..dice.count(2..7) {
            dice.pause_ms(50..1_500).await;
            let host = self.fleet.any(&mut dice);
            // Only a session that is lost in the middle of a commit shows this one.
            let sessions_end = self.bug == Some(Bug::UnknownTakenForFailed) && dice.percent(70);
            match if sessions_end { 6 } else { dice.count(0..14) } {
                0..6 => {
                    host.crash(dice.percent(30));
                    dice.pause_ms(0..400).await;
                    host.start();
                }
                6..8 => self.metadata.end_all_leases(),
                8 => self.metadata.compact_all(),
                9 => {
                    self.metadata.set_available(false);
                    dice.pause_ms(10..7_000).await;
                    self.metadata.set_available(true);
                }
                // Longer than the lease, or not.
                10..12 => host.stall(dice.ms(500..9_000)),
                12 => host.lag(dice.ms(500..12_000)),
                _ => {
                    self.fleet.crash(dice.percent(30));
                    dice.pause_ms(0..400).await;
                    self.fleet.start();
                }
            }
        }
        dice.pause_ms(0..1_500).await;
    }

    fn clear_up(&self) {
        self.trace.note(format_args!("calm weather"));
        self.metadata.set_faults(weather::calm_metadata());
        self.objects.set_faults(weather::calm_objects());
    }

    /// All is well: the node that runs, and one that starts afresh, must say the same and the truth.
    async fn reckon(&self) {
        self.within(verdict::check_folds(&self.fleet, &self.oracle, &self.history))
            .await;
        self.fleet.crash(false);
        // What was under way when it crashed may still land.
        tokio::time::sleep(Duration::from_secs(15)).await;
        self.fleet.start();
        self.within(verdict::check_folds(&self.fleet, &self.oracle, &self.history))
            .await;
        // Compaction gets everything done.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut reader = self.consumer("reader");
        let partitions = i32::try_from(PARTITIONS).expect("few");
        let idempotent = |producer| producer < IDEMPOTENT;
        self.within(verdict::check_log(&mut reader, &self.history, partitions, idempotent))
            .await;
        self.fleet.crash(true);
        self.within(self.check_at_rest()).await;
    }

    async fn check_at_rest(&self) {
        let objects = NamedObjects::new(Arc::new(self.objects.clone()), host::cluster_id());
        match bootstrap(Arc::new(self.metadata.clone()), 0).await {
            Ok(cluster) => upkeep::check_at_rest(&cluster, objects, &self.history).await,
            Err(error) => self
                .history
                .violate(format!("stuck: no metadata in calm weather: {error}")),
        }
    }

    /// Whether it was done in time.
    async fn within(&self, work: impl Future<Output = ()>) -> bool {
        let done = tokio::time::timeout(CALM_MAX, work).await.is_ok();
        if !done {
            self.history
                .violate(format!("stuck: not done after {} s", CALM_MAX.as_secs()));
        }
        done
    }

    fn producer(&self, number: u32) -> ProducerParts {
        ProducerParts {
            number,
            idempotent: number < IDEMPOTENT,
            batches: 40,
            fleet: Arc::clone(&self.fleet),
            history: Arc::clone(&self.history),
            oracle: Arc::clone(&self.oracle),
            dice: self.seed.dice(&format!("producer {number}")),
            trace: self.trace.clone(),
            bug: self.bug,
        }
    }

    fn consumer(&self, part: &str) -> Consumer {
        Consumer {
            fleet: Arc::clone(&self.fleet),
            history: Arc::clone(&self.history),
            dice: self.seed.dice(part),
            trace: self.trace.clone(),
        }
    }

    fn report(&self) -> Report {
        self.oracle.catch_up();
        let mut hasher = std::hash::DefaultHasher::new();
        (
            self.trace.hash(),
            self.metadata.trace_hash(),
            self.objects.trace_digest(),
        )
            .hash(&mut hasher);
        let mut trace = self.trace.lines();
        trace.push("-- metadata store".to_owned());
        trace.extend(self.metadata.trace());
        trace.push("-- bucket".to_owned());
        let bucket = self.objects.trace();
        trace.extend(bucket.iter().map(ToString::to_string));
        let (commits, checkpoint, merged) = self.oracle.extent();
        Report {
            violations: self.history.violations(),
            trace_hash: hasher.finish(),
            trace,
            commits,
            checkpoint,
            merged,
            deleted: bucket.iter().filter(|event| event.what.starts_with("gone")).count(),
            acknowledged: self.history.acknowledged().len(),
        }
    }
}

/// Creates the topic; it may turn out to be there already, from an attempt whose answer was lost.
async fn create_topic(fleet: &Fleet, mut dice: Dice) {
    const EXISTS: i16 = 36;
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from_static(TOPIC),
            num_partitions: i32::try_from(PARTITIONS).expect("few"),
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: 5_000,
        ..CreateTopicsRequest::default()
    };
    loop {
        let mut link = Link::open(fleet).await;
        if let Ok(answer) = link.call(CREATE_VERSION, &request).await
            && answer.topics.iter().all(|topic| matches!(topic.error_code, 0 | EXISTS))
        {
            return;
        }
        dice.pause_ms(20..200).await;
    }
}
