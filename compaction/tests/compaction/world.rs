//! A cluster with one writer, small enough to know everything that is in it.
//!
//! Owns: stores, a node that produces and reads as an agent does, the list of what was stored where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use esker_compaction::check::{Report, check};
use esker_compaction::incarnation;
use esker_compaction::seams::{LogAccess, NotApplied, TopicPolicies, TopicPolicy};
use esker_compaction::service::{Compaction, Parts};
use esker_compaction::settings::{MergeSettings, Settings};
use esker_kafka::records::{Batch, BatchBuilder, Codec, EndTxn, Headers, TransactionMarker};
use esker_metadata::checkpoint::{LiveSession, load};
use esker_metadata::keys::leader;
use esker_metadata::keys::root::Root;
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::log::{
    Cluster, Commit, CommitResult, Committer, CommitterSettings, Follower, FollowerSettings, LogHandle, Session,
    bootstrap, read_log,
};
use esker_metadata::replica::{Replica, ReplicaSink};
use esker_metadata::store::{Op, Txn};
use esker_model::entry::{Entry, FeatureLevel, Incarnation, Limits, SegmentEntry, TopicCreate, TopicDelete};
use esker_model::unmerged::{Location, MarkerInfo, Source};
use esker_model::{BatchVerdict, CommitPosition, CommitRecord, EntryVerdict, Fold};
use esker_segment::id::{
    IncarnationId, Offset, PartitionIndex, ProducerEpoch, ProducerId, SegmentNumber, Sequence, Timestamp, TopicId,
    TopicPartition,
};
use esker_segment::index::{BatchMeta, ProducerStamp};
use esker_segment::name::{ObjectName, SegmentName};
use esker_segment::segment::{OrderList, SegmentBuilder, SegmentHeader};
use esker_storage::merged::{Manifests, MergedReader, MergedSettings};
use esker_storage::named::NamedObjects;
use esker_storage::random::Random as Dice;
use esker_storage::simulated::SimulatedStore as Bucket;
use tokio::task::JoinHandle;

/// A batch as it must come back, by its base offset.
pub(crate) type Stored = BTreeMap<TopicPartition, BTreeMap<Offset, Bytes>>;

/// Policies that tests change.
pub(crate) type Policies = Arc<Mutex<BTreeMap<TopicId, TopicPolicy>>>;

/// Stores, and what was put into them.
pub(crate) struct World {
    pub(crate) metadata: esker_metadata::simulated::SimulatedStore,
    pub(crate) bucket: Bucket,
    pub(crate) cluster: Cluster,
    pub(crate) objects: NamedObjects,
    pub(crate) policies: Policies,
    /// Milliseconds of the wall clock.
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) stored: Stored,
    pub(crate) serial: u64,
}

/// Settings under which a few kilobytes are much.
pub(crate) fn small() -> Settings {
    let mut settings = Settings::local();
    settings.checkpoint.commits_max = 1;
    settings.merge = MergeSettings {
        segments_min: 1,
        age_max: Duration::ZERO,
        chunk_bytes_max: 8 << 10,
        round_bytes_max: 64 << 10,
        object_bytes_max: 16 << 10,
        object_batches_max: 64,
        fan_in: 4,
        slice_bytes_max: 4 << 10,
        read_bytes: 1 << 10,
        page_slices_max: 8,
        ..MergeSettings::default()
    };
    settings.retention.interval = Duration::ZERO;
    settings
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let metadata = esker_metadata::simulated::SimulatedStore::new(seed, calm());
        let bucket = Bucket::new(Dice::new(seed), esker_storage::simulated::Faults::NONE);
        let cluster = bootstrap(Arc::new(metadata.clone()), u128::from(seed)).await.unwrap();
        let objects = NamedObjects::new(Arc::new(bucket.clone()), "test".parse().unwrap());
        incarnation::claim(&objects, &cluster).await.unwrap();
        Self {
            metadata,
            bucket,
            cluster,
            objects,
            policies: Policies::default(),
            now: Arc::new(AtomicI64::new(1_000_000_000)),
            stored: Stored::new(),
            serial: 0,
        }
    }

    /// A node on the stores as they are.
    pub(crate) async fn node(&self) -> Node {
        self.node_on(self.cluster.clone(), self.objects.clone()).await
    }

    /// A node that sees the stores through something else.
    pub(crate) async fn node_on(&self, cluster: Cluster, objects: NamedObjects) -> Node {
        Node::start(cluster, objects, 1 << 20).await
    }

    /// Compaction as part of a node.
    pub(crate) fn compaction(&self, node: &Node, settings: Settings) -> Compaction {
        node.compaction(&self.policies, &self.now, settings)
    }

    pub(crate) fn set_policy(&self, topic: TopicId, policy: TopicPolicy) {
        self.policies.lock().unwrap().insert(topic, policy);
    }

    /// Produces one segment; every batch is `(partition, records, bytes of each value)`.
    pub(crate) async fn produce(&mut self, node: &Node, batches: &[(TopicPartition, u32, usize)]) -> SegmentName {
        let batches = batches
            .iter()
            .map(|(at, records, bytes)| (*at, self.batch(*records, *bytes)))
            .collect();
        self.produce_batches(node, batches).await
    }

    /// Uploads each batch as a segment of its own, and commits them all only after a pause.
    pub(crate) async fn produce_slowly(
        &mut self,
        node: &Node,
        batches: &[(TopicPartition, u32, usize)],
        pause: Duration,
    ) {
        let mut uploaded = Vec::new();
        for (at, records, bytes) in batches {
            let batches = vec![(*at, self.batch(*records, *bytes))];
            let (name, entry, order) = node.upload_uncommitted(&batches).await;
            uploaded.push((name, entry, order, batches));
        }
        tokio::time::sleep(pause).await;
        for (name, entry, order, batches) in uploaded {
            node.access.segments.store(name.number.0, Ordering::SeqCst);
            let verdicts = node.access.commit(vec![Entry::Segment(entry)]).await.unwrap();
            self.note(name, &batches, &order, &verdicts[0]);
        }
    }

    /// A batch unlike any other.
    pub(crate) fn batch(&mut self, records: u32, bytes: usize) -> Batch {
        self.build(BatchBuilder::new(Codec::default()), records, bytes)
    }

    /// A batch of a transaction.
    pub(crate) fn transactional(&mut self, producer: ProducerId, sequence: i32, records: u32) -> Batch {
        let builder = BatchBuilder::new(Codec::default())
            .producer(producer.0, 0, sequence)
            .transactional();
        self.build(builder, records, 50)
    }

    fn build(&mut self, mut builder: BatchBuilder, records: u32, bytes: usize) -> Batch {
        for _ in 0..records {
            self.serial += 1;
            let mut value = self.serial.to_be_bytes().to_vec();
            let fill = Dice::new(self.serial).number().to_le_bytes();
            value.extend(fill.iter().cycle().take(bytes.saturating_sub(8)));
            let now = self.now.load(Ordering::SeqCst);
            builder.append(now, None, Some(&value), &Headers::new()).unwrap();
        }
        builder.build().unwrap()
    }

    /// Produces these batches in one segment, and remembers those that were stored.
    pub(crate) async fn produce_batches(&mut self, node: &Node, batches: Vec<(TopicPartition, Batch)>) -> SegmentName {
        let (name, entry, order) = node.upload(&batches).await;
        let verdicts = node.access.commit(vec![Entry::Segment(entry)]).await.unwrap();
        self.note(name, &batches, &order, &verdicts[0]);
        name
    }

    /// Remembers what a segment brought.
    pub(crate) fn note(
        &mut self,
        name: SegmentName,
        batches: &[(TopicPartition, Batch)],
        order: &[usize],
        verdict: &EntryVerdict,
    ) {
        let EntryVerdict::Segment(verdicts) = verdict else {
            panic!("not a segment: {verdict:?}")
        };
        for (pushed, verdict) in order.iter().zip(verdicts) {
            if let BatchVerdict::Stored { base } = verdict {
                let (at, batch) = &batches[*pushed];
                let bytes = patched(batch.bytes(), *base, name.incarnation.0);
                self.stored.entry(*at).or_default().insert(*base, bytes);
            }
        }
    }

    /// What must be readable is, byte for byte, through this node; and the check of everything agrees.
    pub(crate) async fn verify(&self, node: &Node) -> Report {
        node.log.barrier().await.unwrap();
        for (at, stored) in &self.stored {
            let Some(view) = node.replica.fold().partition(*at) else {
                continue;
            };
            let read = node.read(*at).await;
            let wanted = stored
                .iter()
                .filter(|(base, bytes)| end_of(**base, bytes) > view.log_start);
            for (base, bytes) in wanted {
                assert_eq!(read.get(base), Some(bytes), "{at} at {base}");
            }
        }
        let report = self.check().await;
        assert!(report.is_clean(), "{:#?}", report.problems);
        report
    }

    /// Nothing is in the bucket that nobody refers to. True only when everything has come to rest.
    pub(crate) async fn verify_no_orphans(&self) {
        let manifests = Manifests::new(self.objects.clone(), 1 << 20);
        let standing = esker_compaction::garbage::read(&self.cluster, &manifests)
            .await
            .unwrap();
        for key in self.keys() {
            if let Some(name) = ObjectName::parse(&self.objects.cluster, &key) {
                assert!(standing.references.names.contains(&name), "{key} is an orphan");
            }
        }
    }

    /// The check of everything at rest.
    pub(crate) async fn check(&self) -> Report {
        let manifests = Manifests::new(self.objects.clone(), 1 << 20);
        check(&self.cluster, &manifests).await.unwrap()
    }

    /// What is in the bucket, by kind of directory.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.bucket.keys().into_iter().map(|key| key.0).collect()
    }

    /// Objects of a kind (`merged`, `state`, …); fresh segments are `segment`.
    pub(crate) fn count(&self, kind: &str) -> usize {
        let of_kind = |key: &&String| match ObjectName::parse(&self.objects.cluster, key) {
            Some(ObjectName::Segment(_)) => kind == "segment",
            Some(ObjectName::Other { kind: other, .. }) => other.directory() == kind,
            None => false,
        };
        self.keys().iter().filter(of_kind).count()
    }

    /// Takes their duties from all who hold one, without a word.
    pub(crate) async fn dethrone(&self) {
        let keys = [
            leader::key(leader::Duty::Checkpoint),
            leader::key(leader::Duty::Compaction),
        ];
        let delete = Txn {
            then: keys.map(Op::Delete).to_vec(),
            ..Txn::default()
        };
        // What fails, or is not answered, is one change of leader less.
        drop(self.cluster.store.txn(delete).await);
    }

    /// The published root.
    pub(crate) async fn root(&self) -> Option<Root> {
        read_log(&self.cluster).await.unwrap().root.map(|root| root.root)
    }
}

pub(crate) fn calm() -> esker_metadata::simulated::Faults {
    esker_metadata::simulated::Faults::default()
}

/// Cycles until nothing more is due, and garbage is gone.
pub(crate) async fn settle(compaction: &mut Compaction) {
    let mut quiet = 0;
    for _ in 0..1_000 {
        // The follower sees what was published, and the grace of garbage passes.
        tokio::time::sleep(Duration::from_millis(700)).await;
        if compaction.cycle().await {
            quiet = 0;
        } else {
            quiet += 1;
        }
        if quiet > 12 {
            return;
        }
    }
    panic!("compaction never comes to rest");
}

pub(crate) fn at(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    }
}

fn patched(bytes: &Bytes, base: Offset, epoch: u32) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    bytes[0..8].copy_from_slice(&base.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes.freeze()
}

fn end_of(base: Offset, batch: &Bytes) -> Offset {
    let delta = u32::from_be_bytes(batch[23..27].try_into().unwrap());
    base.plus(delta + 1)
}

/// The writer of a node: session, committer, and the numbers of segments.
pub(crate) struct Access {
    pub(crate) cluster: Cluster,
    session: Session,
    committer: Committer,
    replica: Arc<Replica>,
    /// Segments that were uploaded.
    uploads: AtomicU64,
    /// Segments that the next commit speaks for.
    segments: AtomicU64,
}

impl Access {
    /// Commits entries and waits for their verdicts.
    pub(crate) async fn commit(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        let record = CommitRecord { entries }.encode().unwrap();
        let segments_through = SegmentNumber(self.segments.load(Ordering::SeqCst));
        let commit = Commit {
            record: record.into(),
            segments_through,
            ..Commit::default()
        };
        let failed = |error: &dyn std::fmt::Debug| NotApplied(format!("{error:?}"));
        let pending = self.committer.submit(commit).await.map_err(|error| failed(&error))?;
        let number = pending.number();
        match pending.await {
            CommitResult::Committed { .. } => {}
            other => return Err(failed(&other)),
        }
        let verdicts = self.replica.own_verdicts(self.session.id(), number).await;
        verdicts.ok_or_else(|| NotApplied("verdicts unknown".to_owned()))
    }
}

#[async_trait]
impl LogAccess for Access {
    fn session(&self) -> Option<LiveSession> {
        (!self.session.is_lost()).then(|| LiveSession::of(&self.session))
    }

    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        self.commit(entries).await
    }
}

/// One process.
pub(crate) struct Node {
    pub(crate) replica: Arc<Replica>,
    pub(crate) log: LogHandle,
    pub(crate) merged: MergedReader,
    pub(crate) access: Arc<Access>,
    objects: NamedObjects,
    following: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Node {
    /// Starts it; `decoded_bytes_max` is for pages and indexes.
    pub(crate) async fn start(cluster: Cluster, objects: NamedObjects, decoded_bytes_max: usize) -> Self {
        let replica = Arc::new(Replica::new());
        let merged = MergedReader::new(objects.clone(), MergedSettings { decoded_bytes_max });
        let sink = ReplicaSink::new(Arc::clone(&replica), merged.clone(), objects.clone());
        let (follower, log) = Follower::new(cluster.clone(), Box::new(sink), FollowerSettings::default());
        let following = tokio::spawn(async move {
            let end = follower.run().await;
            panic!("following has ended: {end:?}");
        });
        log.barrier().await.unwrap();
        let ttl = Duration::from_secs(5);
        let session = Session::open(&cluster, |_| SessionInfo::default(), ttl).await.unwrap();
        replica.expect_session(session.id());
        let committer = Committer::start(&session, Some(log.position()), CommitterSettings::default());
        let access = Access {
            cluster: cluster.clone(),
            session,
            committer,
            replica: Arc::clone(&replica),
            uploads: AtomicU64::new(0),
            segments: AtomicU64::new(0),
        };
        let node = Self {
            replica,
            log,
            merged,
            access: Arc::new(access),
            objects,
            following,
        };
        if node.replica.fold().incarnation().0.0 == 0 {
            let found = cluster.incarnation;
            let id = IncarnationId(found.id);
            let limits = Limits::default();
            let entries = vec![
                Entry::Incarnation(Incarnation {
                    number: found.number,
                    id,
                }),
                Entry::FeatureLevel(FeatureLevel {
                    level: node.replica.fold().feature_level(),
                    limits,
                }),
            ];
            node.access.commit(entries).await.unwrap();
        }
        node
    }

    /// Compaction as part of this process.
    pub(crate) fn compaction(&self, policies: &Policies, now: &Arc<AtomicI64>, settings: Settings) -> Compaction {
        let (now, policies) = (Arc::clone(now), Arc::clone(policies));
        let policies = move |topic: TopicId| policies.lock().unwrap().get(&topic).copied().unwrap_or_default();
        let random = AtomicU64::new(7);
        Compaction::new(
            Parts {
                cluster: self.access.cluster.clone(),
                log: self.log.clone(),
                replica: Arc::clone(&self.replica),
                merged: self.merged.clone(),
                access: Arc::clone(&self.access) as Arc<dyn LogAccess>,
                policies: Arc::new(policies) as Arc<dyn TopicPolicies>,
                clock: Arc::new(move || Timestamp(now.load(Ordering::SeqCst))),
                random: Arc::new(move || u128::from(random.fetch_add(0x9e37_79b9, Ordering::SeqCst))),
            },
            settings,
        )
    }

    /// Its fold stands still from now on.
    pub(crate) fn freeze(&self) {
        self.following.abort();
    }

    /// Creates a topic.
    pub(crate) async fn create(&self, name: &str, partitions: u32) -> TopicId {
        let topic = TopicId(name.bytes().fold(1, |id, byte| id * 257 + u128::from(byte)));
        let create = TopicCreate {
            topic,
            name: name.into(),
            partitions,
        };
        let verdicts = self.access.commit(vec![Entry::TopicCreate(create)]).await.unwrap();
        assert!(format!("{verdicts:?}").contains("Created"), "{verdicts:?}");
        topic
    }

    pub(crate) async fn delete(&self, topic: TopicId) {
        self.access
            .commit(vec![Entry::TopicDelete(TopicDelete { topic })])
            .await
            .unwrap();
    }

    /// Uploads a segment. The last value says for each batch of the index which one it was.
    pub(crate) async fn upload(&self, batches: &[(TopicPartition, Batch)]) -> (SegmentName, SegmentEntry, Vec<usize>) {
        let uploaded = self.upload_uncommitted(batches).await;
        // The next commit says that this segment is in the log, or never will be.
        self.access.segments.store(uploaded.0.number.0, Ordering::SeqCst);
        uploaded
    }

    /// The same, when other commits may come before that of the segment.
    pub(crate) async fn upload_uncommitted(
        &self,
        batches: &[(TopicPartition, Batch)],
    ) -> (SegmentName, SegmentEntry, Vec<usize>) {
        let number = SegmentNumber(self.access.uploads.fetch_add(1, Ordering::SeqCst) + 1);
        let incarnation = self.access.cluster.incarnation;
        let name = SegmentName {
            incarnation: incarnation.number,
            session: self.access.session.id(),
            number,
            attempt: 0,
        };
        let mut builder = SegmentBuilder::new();
        for (at, batch) in batches {
            builder.push(*at, meta(batch), batch.bytes().clone()).unwrap();
        }
        let header = SegmentHeader {
            incarnation: incarnation.number,
            incarnation_id: IncarnationId(incarnation.id),
            session: name.session,
            number,
        };
        let order = OrderList {
            commits: self.replica.take_order(),
        };
        let segment = builder.finish(&header, &order);
        let mut order: Vec<usize> = (0..batches.len()).collect();
        order.sort_by_key(|&pushed| segment.places[pushed].position);
        self.objects
            .create(&ObjectName::Segment(name), segment.chunks)
            .await
            .unwrap();
        let entry = SegmentEntry {
            name,
            bytes: segment.length_bytes,
            content_hash: segment.content_hash,
            index: segment.index,
            ..SegmentEntry::default()
        };
        (name, entry, order)
    }

    /// Every batch of a partition from the log start to the high watermark, as an agent would serve it.
    pub(crate) async fn read(&self, at: TopicPartition) -> BTreeMap<Offset, Bytes> {
        let view = self.replica.fold().partition(at).expect("the partition exists");
        let mut read = BTreeMap::new();
        let mut next = view.log_start;
        while next < view.high_watermark {
            let found = self.read_at(at, next, view.high_watermark).await;
            assert!(
                !found.is_empty(),
                "{at}: nothing at {next}, high watermark {}",
                view.high_watermark
            );
            for (base, bytes) in found {
                assert!(base <= next, "{at}: a gap before {base}, expected {next}");
                next = end_of(base, &bytes);
                read.insert(base, bytes);
            }
        }
        read
    }

    async fn read_at(&self, at: TopicPartition, from: Offset, end: Offset) -> Vec<(Offset, Bytes)> {
        let unmerged = {
            let fold = self.replica.fold();
            let start = fold.unmerged_start(at).unwrap();
            (from >= start).then(|| {
                fold.locate(at, from)
                    .map(|found| unmerged_place(&found))
                    .collect::<Vec<_>>()
            })
        };
        let mut read = Vec::new();
        if let Some(places) = unmerged {
            for place in places {
                read.push((place.base, place.read(&self.objects).await));
            }
            return read;
        }
        for place in self.merged.locate(at, from, end, 1_000).await.unwrap() {
            let range = place.position..place.position + u64::from(place.bytes);
            let bytes = self.objects.read(&place.name, range).await.unwrap();
            let bytes = match place.epoch {
                Some(epoch) => patched(&bytes, place.base, epoch.0),
                None => bytes,
            };
            read.push((place.base, bytes));
        }
        read
    }
}

/// An unmerged batch, copied out of the fold.
struct Place {
    base: Offset,
    from: Result<(SegmentName, u64, u32), MarkerInfo>,
}

fn unmerged_place(found: &Location<'_>) -> Place {
    let from = match found.source {
        Source::Segment(segment) => Ok((segment.name, u64::from(found.position), found.bytes)),
        Source::Marker(marker) => Err(*marker),
    };
    Place { base: found.base, from }
}

impl Place {
    async fn read(&self, objects: &NamedObjects) -> Bytes {
        match &self.from {
            Ok((name, position, bytes)) => {
                let range = *position..position + u64::from(*bytes);
                let read = objects.read(&ObjectName::Segment(*name), range).await.unwrap();
                patched(&read, self.base, name.incarnation.0)
            }
            Err(marker) => marker_bytes(self.base, marker),
        }
    }
}

/// The marker as an agent makes it.
pub(crate) fn marker_bytes(offset: Offset, marker: &MarkerInfo) -> Bytes {
    let batch = TransactionMarker {
        offset: offset.0,
        leader_epoch: i32::try_from(marker.incarnation.0).unwrap(),
        timestamp: marker.timestamp.0,
        producer_id: marker.producer.0,
        producer_epoch: marker.epoch.0,
        coordinator_epoch: 0,
        end: match marker.outcome {
            esker_model::entry::TxnOutcome::Commit => EndTxn::Commit,
            esker_model::entry::TxnOutcome::Abort => EndTxn::Abort,
        },
    }
    .to_batch();
    batch.bytes().clone()
}

/// What the index says of a batch.
pub(crate) fn meta(batch: &Batch) -> BatchMeta {
    let header = batch.header();
    BatchMeta {
        records: u32::try_from(header.last_offset_delta + 1).unwrap(),
        bytes: u32::try_from(batch.bytes().len()).unwrap(),
        max_timestamp: Timestamp(header.max_timestamp),
        crc: header.crc,
        producer: header.has_producer().then(|| ProducerStamp {
            id: ProducerId(header.producer_id),
            epoch: ProducerEpoch(header.producer_epoch),
            first_sequence: Sequence(header.base_sequence),
            transactional: header.is_transactional(),
            verified_at: None,
        }),
    }
}

/// The fold of a process that has never restarted and one that loads the published root now, side by side.
pub(crate) async fn reload(world: &World) -> Fold {
    let log = read_log(&world.cluster).await.unwrap();
    let root = log.root.expect("a root is published");
    let mut fold = load(&root.root, &world.objects).await.unwrap();
    for commit in log.records.iter().filter(|commit| commit.index > root.root.index) {
        let at = CommitPosition {
            index: commit.index,
            session: commit.session,
            number: commit.number,
        };
        fold.apply_bytes(at, &commit.record).unwrap();
    }
    fold
}
