//! `esker group describe`: who is in a group, what is read by whom, and what has not been read yet.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use esker_kafka::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use esker_kafka::{ErrorCode, assignor};
use esker_kafka_client::{At, Client, Committed};
use serde::Serialize;

use super::unknown;
use crate::bootstrap::BootstrapArgs;
use crate::quantity;
use crate::rows::{FormArgs, NOTHING, Rows, number, or_nothing, text};

/// What a coordinator says of a group that does not exist.
pub(super) const DEAD: &str = "Dead";

/// Which groups.
#[derive(Args, Debug)]
pub(crate) struct DescribeArgs {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// A group as `--json` prints it.
#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    protocol_type: String,
    /// How partitions are divided.
    assignor: String,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Member {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    /// Partitions by topic.
    assigned: BTreeMap<String, Vec<i32>>,
}

/// A partition that a member reads, or that something was committed for.
#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    /// None if the topic is gone or nobody leads the partition.
    latest: Option<i64>,
    lag: Option<i64>,
    member: Option<String>,
    metadata: Option<String>,
}

pub(super) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let mut rows = Rows::stdout(args.form);
    for group in &args.groups {
        let described = describe(&client, group).await?;
        rows.one(&described, show)?;
    }
    Ok(())
}

/// A group that exists.
pub(super) async fn existing(client: &Client, group: &str) -> anyhow::Result<DescribedGroup> {
    match client.describe_group(group).await {
        Ok(described) if described.group_state != DEAD => Ok(described),
        Ok(_) => Err(unknown(client, group).await),
        Err(error) if error.is(ErrorCode::GroupIdNotFound) => Err(unknown(client, group).await),
        Err(error) => Err(error.into()),
    }
}

async fn describe(client: &Client, group: &str) -> anyhow::Result<Described> {
    let told = existing(client, group).await?;
    let committed = client.committed(group).await?;
    let members: Vec<Member> = told.members.into_iter().map(member).collect();
    let readers: BTreeMap<(String, i32), &str> = members
        .iter()
        .flat_map(|member| {
            let topics = member.assigned.iter();
            let all = topics.flat_map(|(topic, partitions)| partitions.iter().map(|one| (topic.clone(), *one)));
            all.map(|partition| (partition, member.member.as_str()))
        })
        .collect();
    let all: BTreeSet<(String, i32)> = readers.keys().chain(committed.keys()).cloned().collect();
    let ends = ends(client, &all).await?;
    let partitions = all.into_iter().map(|key| {
        let reader = readers.get(&key).map(|reader| (*reader).to_owned());
        partition(committed.get(&key), ends.get(&key).copied(), reader, key)
    });
    Ok(Described {
        group: told.group_id.into(),
        state: told.group_state.into(),
        protocol_type: told.protocol_type.into(),
        assignor: told.protocol_data.into(),
        partitions: partitions.collect(),
        members,
    })
}

fn partition(
    committed: Option<&Committed>,
    latest: Option<i64>,
    member: Option<String>,
    (topic, partition): (String, i32),
) -> Partition {
    let offset = committed.map(|committed| committed.offset);
    Partition {
        topic,
        partition,
        committed: offset,
        latest,
        lag: offset
            .zip(latest)
            .map(|(offset, latest)| latest.saturating_sub(offset).max(0)),
        member,
        metadata: committed
            .map(|committed| committed.metadata.clone())
            .filter(|words| !words.is_empty()),
    }
}

fn member(told: DescribedGroupMember) -> Member {
    // A member may speak another protocol than that of consumers.
    let assigned = assignor::decode(&told.member_assignment)
        .unwrap_or_default()
        .into_iter();
    Member {
        member: told.member_id.into(),
        instance: told.group_instance_id.map(String::from),
        client: told.client_id.into(),
        host: String::from(told.client_host).trim_start_matches('/').to_owned(),
        assigned: assigned.map(|(topic, partitions)| (topic.into(), partitions)).collect(),
    }
}

/// Ends of those of the partitions that exist and are led.
async fn ends(client: &Client, all: &BTreeSet<(String, i32)>) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
    let topics = client.topics().await?;
    let led: BTreeSet<(&str, i32)> = topics
        .iter()
        .flat_map(|topic| {
            let led = topic.partitions.iter().filter(|one| one.leader.is_some());
            led.map(|one| (topic.name.as_str(), one.index))
        })
        .collect();
    let asked: Vec<(String, i32)> = all
        .iter()
        .filter(|(topic, partition)| led.contains(&(topic.as_str(), *partition)))
        .cloned()
        .collect();
    let found = client.offsets(&asked, At::Latest).await?.into_iter();
    Ok(found.filter_map(|(key, found)| Some((key, found.offset?))).collect())
}

fn show<W: std::io::Write>(rows: &mut Rows<W>, described: &Described) -> std::io::Result<()> {
    let members = u64::try_from(described.members.len()).unwrap_or(u64::MAX);
    let lag: u64 = described
        .partitions
        .iter()
        .filter_map(|one| one.lag)
        .map(i64::cast_unsigned)
        .sum();
    let (members, lag) = (quantity::counted(members, "member"), quantity::grouped(lag));
    let Described {
        group, state, assignor, ..
    } = described;
    let assignor = if assignor.is_empty() {
        String::new()
    } else {
        format!(", {assignor}")
    };
    rows.line(&format!("{group}: {state}, {members}{assignor}, lag {lag}"))?;
    let columns = [
        text("TOPIC"),
        number("PARTITION"),
        number("COMMITTED"),
        number("LATEST"),
        number("LAG"),
        text("MEMBER"),
    ];
    let partitions = described.partitions.iter();
    rows.table(
        columns,
        partitions.map(|one| {
            [
                one.topic.clone(),
                one.partition.to_string(),
                or_nothing(one.committed),
                or_nothing(one.latest),
                or_nothing(one.lag),
                or_nothing(one.member.clone()),
            ]
        }),
    )?;
    let columns = [
        text("MEMBER"),
        text("INSTANCE"),
        text("CLIENT"),
        text("HOST"),
        text("READS"),
    ];
    let members = described.members.iter();
    rows.table(
        columns,
        members.map(|one| {
            [
                one.member.clone(),
                or_nothing(one.instance.clone()),
                one.client.clone(),
                one.host.clone(),
                reads(&one.assigned),
            ]
        }),
    )
}

/// `flights:0,1,2 orders:5`.
fn reads(assigned: &BTreeMap<String, Vec<i32>>) -> String {
    if assigned.is_empty() {
        return NOTHING.to_owned();
    }
    let topics = assigned.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{topic}:{}", partitions.join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}
