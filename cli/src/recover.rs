//! `esker recover`: a new life of a cluster from what is in its bucket.
//!
//! Owns: which cluster of the bucket is meant, the report on the terminal.
//! Does not own: putting the log together (`esker_compaction::recover`).

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use esker_agent::settings::Profile;
use esker_compaction::recover::{self, Admin, Begun, Left, Recovered};
use esker_metadata::keys::topic::{self, Topic};
use esker_metadata::keys::{config, quota, scram};
use esker_metadata::store::{Compare, KeyRange, MetadataStore, Op, Txn};
use esker_segment::id::TopicId;
use esker_segment::name::ClusterId;
use esker_storage::named::NamedObjects;
use esker_storage::store::ObjectStore;

use crate::args::{SettingArgs, StoreArgs};
use crate::{logging, process, stores};

/// Lines about what was left out; more are counted.
const LEFT_SHOWN: usize = 1_000;

/// Begin a new life of a cluster from what is in its bucket.
///
/// For when etcd is lost, or was restored from an old copy. The last checkpoint and the order that segments carry say what the
/// log was; what cannot be ordered is listed, and stays in the bucket. Agents of the old life stop by themselves; consumers are
/// told where the old log ended by the leader epoch.
///
/// Without --new-incarnation nothing is changed: it only says what would be recovered.
#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// Do it: give the cluster a new incarnation
    #[arg(long)]
    new_incarnation: bool,
    /// Do it even though objects of the checkpoint are damaged or not in the bucket: what they hold is lost
    #[arg(long, requires = "new_incarnation")]
    despite_damage: bool,
    /// The cluster, if the bucket holds several and etcd does not say
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
    #[command(flatten)]
    settings: SettingArgs,
}

/// Says what is in the bucket, and begins a new life with it if asked to.
pub(crate) fn run(args: RecoverArgs) -> anyhow::Result<()> {
    let said = args.stores.assignments();
    logging::install(args.settings.log_format)?;
    let settings = args.settings.resolve(Profile::Standard, said)?;
    let (new, despite_damage, cluster) = (args.new_incarnation, args.despite_damage, args.cluster);
    process::block_on(async move {
        let (metadata, objects) = stores::open_bare(&settings.process).await?;
        let cluster = cluster_id(&*metadata, &*objects, cluster).await?;
        let objects = NamedObjects::new(objects, cluster.clone());
        let before = recover::look(&*metadata).await?;
        let bucket = recover::gather(&objects).await?;
        let newest = bucket.newest;
        let recovered = recover::recover(&objects, bucket, &topics(&*metadata).await?).await?;
        say(&summary(&cluster, &recovered))?;
        if !new {
            return say("nothing was changed; say --new-incarnation to begin a new life with this\n");
        }
        let damaged = recovered.left.iter().any(|left| matches!(left, Left::Damaged { .. }));
        if damaged && !despite_damage {
            bail!(
                "objects of the checkpoint are damaged or missing; put them back, or say --despite-damage to begin without \
                 what they hold"
            );
        }
        claim_id(&*metadata, &cluster).await?;
        let begun = recover::begin(&*metadata, &objects, recovered, stores::random(), newest, &before).await?;
        say(&outcome(&begun))
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")
}

async fn cluster_id(
    metadata: &dyn MetadataStore,
    objects: &dyn ObjectStore,
    said: Option<ClusterId>,
) -> anyhow::Result<ClusterId> {
    let found = metadata.snapshot(vec![KeyRange::Key(stores::CLUSTER_KEY)]).await?;
    let known = found.ranges.into_iter().flatten().next();
    if let Some(kv) = known {
        let known: ClusterId = std::str::from_utf8(&kv.value)?.parse()?;
        if said.is_some_and(|said| said != known) {
            bail!("etcd holds cluster {known}; use another prefix for another cluster");
        }
        return Ok(known);
    }
    if let Some(said) = said {
        return Ok(said);
    }
    let mut clusters = recover::clusters(objects).await?;
    match (clusters.pop_first(), clusters.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => bail!("the bucket holds no cluster"),
        (Some(first), _) => {
            let rest: Vec<String> = clusters.iter().map(ToString::to_string).collect();
            bail!(
                "the bucket holds several clusters, say --cluster: {first}, {}",
                rest.join(", ")
            )
        }
    }
}

/// A store that was empty belongs to this cluster from now on.
async fn claim_id(metadata: &dyn MetadataStore, cluster: &ClusterId) -> anyhow::Result<()> {
    let id = Bytes::from(cluster.as_str().to_owned());
    let claim = Txn {
        compares: vec![Compare::Absent(stores::CLUSTER_KEY)],
        then: vec![Op::put(stores::CLUSTER_KEY, id)],
        otherwise: Vec::new(),
    };
    metadata.txn(claim).await.context("cannot write the cluster's id")?;
    Ok(())
}

/// Names of topics that an old copy of etcd knows.
async fn topics(metadata: &dyn MetadataStore) -> anyhow::Result<BTreeMap<TopicId, String>> {
    let prefix = KeyRange::Prefix(Bytes::from_static(topic::PREFIX.as_bytes()));
    let found = metadata.snapshot(vec![prefix]).await?.ranges.into_iter().flatten();
    let named = found.filter_map(|kv| {
        let topic = Topic::decode(&kv.value).ok()?;
        Some((topic.id, topic::parse_key(&kv.key)?.to_owned()))
    });
    Ok(named.collect())
}

fn summary(cluster: &ClusterId, recovered: &Recovered) -> String {
    let topics = recovered.fold.topics().count();
    let set = match &recovered.admin {
        Some(keys) => format!(
            "{} configs of topics, {} of brokers and others, {} quotas, {} credentials",
            keys.of(topic::PREFIX).count(),
            keys.of(config::PREFIX).count(),
            keys.of(quota::PREFIX).count(),
            keys.of(scram::PREFIX).count(),
        ),
        None => "unknown: the checkpoint is of a version that did not keep configs, quotas and credentials".to_owned(),
    };
    let mut text = format!(
        "cluster      {cluster}\nincarnation  {}\ncheckpoint   {}\nreplayed     {}\nlog index    {}\ntopics       {topics}\nset          {set}\nleft out     {}\n",
        recovered.incarnation,
        recovered.checkpoint,
        recovered.replayed,
        recovered.fold.index(),
        recovered.left.len(),
    );
    for left in recovered.left.iter().take(LEFT_SHOWN) {
        text.push_str(&line(recovered, left));
    }
    text
}

/// Partitions by the names of their topics, where they are known.
fn line(recovered: &Recovered, left: &Left) -> String {
    let mut line = format!("  {left}\n");
    for topic in recovered.fold.topics() {
        line = line.replace(&topic.id.to_string(), topic.name);
    }
    line
}

fn outcome(begun: &Begun) -> String {
    let mut text = format!(
        "begun        incarnation {}, id {:032x}, after log index {}\n",
        begun.incarnation.number, begun.incarnation.id, begun.incarnation.base
    );
    text.push_str(match begun.admin {
        Admin::Kept => "set          as etcd has it, which is newer than the checkpoint\n",
        Admin::Restored { .. } => {
            "set          as it was at the checkpoint; what was altered since, of topics, brokers, quotas and users, is lost\n"
        }
        Admin::Unknown => {
            "set          only what etcd has: configs of brokers and groups, quotas and credentials that it does not have are lost\n"
        }
    });
    for topic in &begun.without_configs {
        text.push_str(&format!(
            "  topic {topic}: its configs are not known any more; it keeps all records until retention.ms and retention.bytes are set\n"
        ));
    }
    text
}
