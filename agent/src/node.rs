//! A running agent: its parts, started in order and drained in order.
//!
//! Owns: which tasks an agent consists of.
//! Does not own: the stores, which are handed in; the process (`esker`).
//!
//! Invariants: connections are taken only when the log has been folded up to its head; a drained agent has settled
//! everything that entered its write-ahead buffer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::log::{Cluster, FollowEnd, Follower, FollowerSettings, LogHandle, SessionError};
use esker_metadata::replica::{Replica, ReplicaSink};
use esker_metadata::store::MetadataError;
use esker_model::entry::{Entry, FeatureLevel, Incarnation, Limits};
use esker_segment::id::{IncarnationId, IncarnationNumber, Timestamp};
use esker_segment::name::ClusterId;
use esker_storage::buffer::BufferSettings;
use esker_storage::cache::disk::{DiskCache, DiskCacheError};
use esker_storage::cache::{CacheSettings, SegmentCache};
use esker_storage::hedged::{HedgeSettings, Hedger};
use esker_storage::merged::{MergedReader, MergedSettings};
use esker_storage::named::NamedObjects;
use esker_storage::store::ObjectStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::agent::{Agent, Announcer};
use crate::clock::Clock;
use crate::group_parts::{FoldTopics, LogOffsets};
use crate::groups::coordinator::{Coordinator, OffsetExpiry, Parts as GroupParts};
use crate::groups::seams::Ownership;
use crate::groups::settings::GroupSettings;
use crate::grpc;
use crate::handlers::admin::merged_sizes::MergedSizes;
use crate::internal_topics::InternalTopics;
use crate::kafka::budget::ByteBudget;
use crate::kafka::connection::{ConnectionLimits, Service};
use crate::kafka::listener::{self, ListenerLimits};
use crate::load;
use crate::membership::Membership;
use crate::membership::identity::{Announcement, Identity};
use crate::offset_queue::OffsetQueue;
use crate::peers;
use crate::produce::throttle::{Throttle, UnmergedBound};
use crate::producer_ids::ProducerIds;
use crate::replica_view::View;
use crate::settings::Settings;
use crate::shards::Shards;
use crate::topics::TopicCatalog;
use crate::wake::Wakers;
use crate::writer::upload::Uploader;
use crate::writer::{Inbox, LogWriter, ProposeError, Writer, WriterParts};

/// How long it may take to tell others that this agent goes.
const HAND_OVER_TOLD_MAX: Duration = Duration::from_millis(500);
/// How long clients are told to go to others, before their connections are closed.
const HAND_OVER: Duration = Duration::from_millis(500);
/// How long it may take to settle what is in the write-ahead buffer.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What an agent is made of.
pub struct NodeParts {
    /// The metadata store and the cluster's incarnation.
    pub metadata: Cluster,
    /// The cluster's id, as keys in the bucket have it.
    pub cluster: ClusterId,
    /// The bucket.
    pub objects: Arc<dyn ObjectStore>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// 128 random bits.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
    /// Settings.
    pub settings: Arc<Settings>,
    /// What this agent says of itself.
    pub announcement: Announcement,
}

/// Why an agent did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The log can no longer be followed.
    #[error("the log cannot be followed: {0}")]
    Follow(FollowEnd),
    /// No session, or another incarnation.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The metadata store does not answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The cluster's first entries were not committed.
    #[error("the cluster could not be set up: {0}")]
    SetUp(#[from] ProposeError),
    /// The directory of the cache cannot be used.
    #[error(transparent)]
    Cache(#[from] DiskCacheError),
    /// What was in the write-ahead buffer could not be stored in time; nothing of it was acknowledged.
    #[error("records in flight could not be stored within {} s; they were not acknowledged", DRAIN_MAX.as_secs())]
    NotDrained,
    /// A task panicked.
    #[error("a task of the agent ended: {0}")]
    Task(tokio::task::JoinError),
}

/// A running agent.
pub struct Node {
    agent: Arc<Agent>,
    tasks: JoinSet<Result<(), NodeError>>,
    listeners: TaskTracker,
    stop_listening: CancellationToken,
    stop_writing: CancellationToken,
    budget: ByteBudget,
    /// A node that is dropped takes its connections with it.
    _connections: DropGuard,
}

/// What an agent reads from: the fold as it is followed, and the bucket.
struct Reading {
    replica: Arc<Replica>,
    catalog: Arc<TopicCatalog>,
    wakers: Arc<Wakers>,
    log: LogHandle,
    objects: NamedObjects,
    merged: MergedReader,
    cache: Arc<SegmentCache>,
    members: Arc<Membership>,
}

impl Reading {
    /// Follows the log; returns when it has been folded up to its head.
    async fn start(parts: &NodeParts, tasks: &mut JoinSet<Result<(), NodeError>>) -> Result<Self, NodeError> {
        let replica = Arc::new(Replica::new());
        let wakers = Arc::new(Wakers::default());
        let catalog = Arc::new(TopicCatalog::new(Arc::clone(&parts.settings)));
        let members = Membership::new(Identity::new(parts.announcement.clone()));
        replica.observe(Arc::new(Announcer {
            wakers: Arc::clone(&wakers),
            catalog: Arc::clone(&catalog),
            members: Arc::clone(&members),
        }));
        let objects = NamedObjects::new(Arc::clone(&parts.objects), parts.cluster.clone());
        let merged = MergedReader::new(objects.clone(), MergedSettings::default());
        let sink = ReplicaSink::new(Arc::clone(&replica), merged.clone(), objects.clone());
        let (follower, log) = Follower::new(parts.metadata.clone(), Box::new(sink), follower_settings());
        let following = follower.run();
        tasks.spawn(async { Err(NodeError::Follow(following.await)) });
        log.barrier().await?;
        let cache_settings = CacheSettings {
            bytes_max: usize::try_from(parts.settings.memory.cache_bytes_max).unwrap_or(usize::MAX),
            ..CacheSettings::default()
        };
        let mut cache = SegmentCache::new(Arc::clone(&parts.objects), cache_settings);
        let process = &parts.settings.process;
        if !process.cache_dir.is_empty() {
            let disk = DiskCache::open(Path::new(&process.cache_dir), process.cache_disk_bytes_max);
            cache = cache.with_disk(disk.await?);
        }
        Ok(Self {
            replica,
            catalog,
            wakers,
            log,
            objects,
            merged,
            cache: Arc::new(cache),
            members,
        })
    }
}

fn follower_settings() -> FollowerSettings {
    FollowerSettings {
        also: ReplicaSink::also(),
        ..FollowerSettings::default()
    }
}

async fn start_writer(
    parts: &NodeParts,
    reading: &Reading,
    tasks: &mut JoinSet<Result<(), NodeError>>,
    stop: CancellationToken,
) -> Result<LogWriter, NodeError> {
    let (handle, end) = LogWriter::new(Inbox::new(buffer_settings(&parts.settings)));
    let incarnation = parts.metadata.incarnation;
    let writer = Writer::open(WriterParts {
        end,
        uploader: Uploader {
            store: Arc::clone(&parts.objects),
            cache: Arc::clone(&reading.cache),
            cluster: parts.cluster.clone(),
            incarnation: (incarnation.number, IncarnationId(incarnation.id)),
            zone: Box::from(parts.announcement.zone.as_str()),
            puts: Arc::new(Hedger::puts(HedgeSettings::with_budget(
                parts.settings.flush.hedge_percent,
            ))),
            random: Arc::clone(&parts.random),
        },
        replica: Arc::clone(&reading.replica),
        log: reading.log.clone(),
        uploads_max: usize::try_from(parts.settings.flush.uploads_max).unwrap_or(usize::MAX),
        members: Arc::clone(&reading.members),
        stop,
    })
    .await?;
    // The session has brought the node id.
    reading.catalog.on_node(reading.members.identity().node());
    tasks.spawn(async { writer.run().await.map_err(NodeError::from) });
    Ok(handle)
}

impl Node {
    /// Starts everything but the listener: when this returns the agent has folded the log up to its head.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(parts: NodeParts) -> Result<Self, NodeError> {
        let mut tasks = JoinSet::new();
        let stop_listening = CancellationToken::new();
        let stop_writing = CancellationToken::new();
        let reading = Reading::start(&parts, &mut tasks).await?;
        let writer = start_writer(&parts, &reading, &mut tasks, stop_writing.clone()).await?;
        set_up(&parts, &reading.replica, &writer).await?;
        let shards = Shards::new(
            Arc::clone(&reading.members),
            Arc::clone(&parts.metadata.store),
            writer.sessions(),
        );
        let groups = coordinator(&parts, &reading, &writer, &shards);
        let claiming = Arc::clone(&shards).run(Arc::clone(&groups), stop_listening.clone());
        keep(&mut tasks, claiming);
        shards.begun().await;
        keep(&mut tasks, Arc::clone(&groups).run(stop_listening.clone()));
        let expiry = OffsetExpiry::new(Arc::clone(&groups), parts.settings.groups.offsets_retention);
        keep(&mut tasks, expiry.run(stop_listening.clone()));
        let bound = UnmergedBound {
            batches_max: u64::from(parts.settings.limits.unmerged_batches_max),
            bytes_max: parts.settings.limits.unmerged_bytes_max,
        };
        let throttle = Throttle::new(bound, Arc::clone(&reading.replica));
        let budget = usize::try_from(parts.settings.memory.buffer_bytes_max).unwrap_or(usize::MAX);
        let agent = Arc::new_cyclic(|this| Agent {
            this: this.clone(),
            cluster: parts.cluster.as_str().to_owned(),
            members: reading.members,
            settings: parts.settings,
            clock: parts.clock,
            random: parts.random,
            view: View::new(Arc::clone(&reading.replica)),
            replica: reading.replica,
            catalog: reading.catalog,
            internal_topics: InternalTopics::default(),
            wakers: reading.wakers,
            log: writer,
            throttle,
            follower: reading.log,
            objects: reading.objects,
            cache: reading.cache,
            merged: reading.merged,
            merged_sizes: MergedSizes::default(),
            producer_ids: ProducerIds::default(),
            groups,
            shards,
            leaving: CancellationToken::new(),
            stop: stop_listening.clone(),
        });
        Ok(Self {
            agent,
            tasks,
            listeners: TaskTracker::new(),
            _connections: stop_listening.clone().drop_guard(),
            stop_listening,
            stop_writing,
            budget: ByteBudget::new(budget),
        })
    }

    /// What the request handlers share.
    #[must_use]
    pub fn agent(&self) -> Arc<Agent> {
        Arc::clone(&self.agent)
    }

    /// Takes Kafka connections from now on.
    pub fn listen(&mut self, listener: TcpListener) {
        let network = &self.agent.settings.network;
        let count = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let limits = ListenerLimits {
            connections_max: count(network.connections_max),
            connections_per_address_max: count(network.connections_per_ip_max),
            connection: ConnectionLimits {
                request_bytes_max: count(network.request_bytes_max),
                idle_max: network.connection_idle_max,
            },
        };
        let service: Arc<dyn Service> = Arc::clone(&self.agent) as Arc<dyn Service>;
        let (budget, stop) = (self.budget.clone(), self.stop_listening.clone());
        self.listeners.spawn(load::watch(budget.clone(), stop.clone()));
        self.listeners
            .spawn(listener::run(listener, service, budget, limits, stop));
    }

    /// Takes gRPC connections from now on.
    pub fn listen_to_grpc(&mut self, listener: TcpListener) {
        let (agent, budget, stop) = (self.agent(), self.budget.clone(), self.stop_listening.clone());
        self.listeners.spawn(async move {
            if let Err(error) = grpc::serve(agent, budget, listener, stop).await {
                warn!(%error, "grpc is no longer served");
            }
        });
    }

    /// Answers other agents from now on, and asks them.
    pub fn listen_to_peers(&mut self, listener: TcpListener) {
        let stop = self.stop_listening.clone();
        let members = || Arc::clone(&self.agent.members);
        self.listeners.spawn(peers::listen(listener, members(), stop.clone()));
        self.listeners.spawn(peers::watch(members(), stop));
    }

    /// Runs until `stop`, or until a part ends by itself; then drains.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        let mut result = Ok(());
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(ended) = self.tasks.join_next() => result = ended.unwrap_or_else(|panic| Err(NodeError::Task(panic))),
        }
        info!("draining");
        self.hand_over().await;
        self.stop_listening.cancel();
        // First connections get the answers to what they had sent, then what else is in the buffer is settled.
        self.listeners.close();
        self.listeners.wait().await;
        self.stop_writing.cancel();
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            // The follower is the one that does not end by itself.
            while self.tasks.len() > 1 {
                if let Some(Err(panic)) = self.tasks.join_next().await {
                    return Err(NodeError::Task(panic));
                }
            }
            Ok(())
        });
        let drained = drained.await.unwrap_or(Err(NodeError::NotDrained));
        self.tasks.shutdown().await;
        result.and(drained)
    }
}

impl Node {
    /// Leaves placement and gives up coordination, and tells the clients that still come to go to others.
    async fn hand_over(&self) {
        let (agent, members) = (&self.agent, &self.agent.members);
        let store = &agent.follower.cluster().store;
        let told = async {
            members.identity().drain(&**store).await?;
            agent.shards.release_all().await
        };
        match tokio::time::timeout(HAND_OVER_TOLD_MAX, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "others are not told that this agent goes; they will notice"),
            Err(_elapsed) => warn!("others are not told in time that this agent goes; they will notice"),
        }
        members.on_identity();
        agent.leaving.cancel();
        if agent.is_leaving() {
            tokio::time::sleep(HAND_OVER).await;
        }
    }
}

/// A task that ends when it is told to, and never by itself.
fn keep(tasks: &mut JoinSet<Result<(), NodeError>>, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async {
        task.await;
        Ok(())
    });
}

fn buffer_settings(settings: &Settings) -> BufferSettings {
    BufferSettings {
        segment_bytes_max: settings.flush.bytes,
        index_bytes_max: usize::try_from(settings.flush.index_bytes).unwrap_or(usize::MAX),
        flush_age: settings.flush.age,
        flush_interval_min: settings.flush.min_interval,
    }
}

/// The first entries of a new cluster: its incarnation, and the limits that the fold enforces.
async fn set_up(parts: &NodeParts, replica: &Replica, writer: &LogWriter) -> Result<(), NodeError> {
    if replica.fold().incarnation().0 != IncarnationNumber(0) {
        return Ok(());
    }
    let found = parts.metadata.incarnation;
    let limits = Limits {
        partitions_max: parts.settings.limits.partitions_max,
        topic_partitions_max: parts.settings.limits.partitions_per_topic_max,
        producer_windows_max: parts.settings.producers.state_max,
        ..Limits::default()
    };
    let level = replica.fold().feature_level();
    let entries = vec![
        Entry::Incarnation(Incarnation {
            number: found.number,
            id: IncarnationId(found.id),
        }),
        Entry::FeatureLevel(FeatureLevel { level, limits }),
    ];
    writer.propose(entries).await?;
    Ok(())
}

fn coordinator(parts: &NodeParts, reading: &Reading, writer: &LogWriter, shards: &Arc<Shards>) -> Arc<Coordinator> {
    let groups = &parts.settings.groups;
    let limits = GroupSettings {
        session_timeout_min: groups.session_timeout_min,
        session_timeout_max: groups.session_timeout_max,
        initial_rebalance_delay: groups.initial_rebalance_delay,
        members_max: usize::try_from(groups.members_max).unwrap_or(usize::MAX),
        ..GroupSettings::default()
    };
    let clock = Arc::clone(&parts.clock);
    Coordinator::new(
        limits,
        GroupParts {
            offsets: Arc::new(LogOffsets {
                queue: OffsetQueue::new(writer.clone()),
                shards: Arc::clone(shards),
                replica: Arc::clone(&reading.replica),
                log: reading.log.clone(),
            }),
            topics: Arc::new(FoldTopics {
                replica: Arc::clone(&reading.replica),
                log: reading.log.clone(),
            }),
            store: Arc::new(shards.registry()),
            wall_clock: Arc::new(move || Timestamp(clock.now_ms())),
            random: Arc::clone(&parts.random),
            ownership: Arc::clone(shards) as Arc<dyn Ownership>,
        },
    )
}
