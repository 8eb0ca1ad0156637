//! `esker group reset-offsets`: moving what a group reads next.
//!
//! Owns: the ways of saying where to, the plan, that nothing happens without `--execute` or while members live.
//!
//! Invariants: an offset that is committed lies within its partition.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use esker_agent::clock::{Clock as _, SystemClock};
use esker_kafka::ErrorCode;
use esker_kafka_client::{At, Client, Committed, Found};
use serde::Serialize;

use super::describe::DEAD;
use crate::advice;
use crate::bootstrap::BootstrapArgs;
use crate::rows::{FormArgs, Rows, number, or_nothing, text};

/// What a coordinator says of a group without members.
const EMPTY: &str = "Empty";

type Offsets = BTreeMap<(String, i32), i64>;

/// Which group is to read from where.
#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// The group; it may be one that does not exist yet
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// A topic, or some of its partitions; may be repeated
    #[arg(long, short, value_name = "TOPIC[:N,N…]", value_parser = Chosen::parse, required_unless_present = "all_topics")]
    topic: Vec<Chosen>,
    /// All partitions that the group has committed something for
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    #[command(flatten)]
    place: Place,
    /// Commit the new offsets; without this, they are only shown
    #[arg(long)]
    execute: bool,
}

/// Where to; one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// The first record that there is
    #[arg(long)]
    to_earliest: bool,
    /// The end: only what comes from now on
    #[arg(long)]
    to_latest: bool,
    /// This offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// The first record of this time (UTC) or later, as in 2026-11-23T07:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_datetime: Option<i64>,
    /// The first record that is not older than this, as in 90m or 1day
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    by_duration: Option<Duration>,
    /// So many offsets on, or back if it is negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Where it is; commits the end where nothing was committed
    #[arg(long)]
    to_current: bool,
}

/// Partitions of a topic; all of them, if none is named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen {
    topic: String,
    partitions: Vec<i32>,
}

impl Chosen {
    fn parse(text: &str) -> Result<Self, String> {
        let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
        let numbers = partitions.split(',').filter(|_| !partitions.is_empty());
        let numbers = numbers.map(|number| number.parse::<i32>().ok().filter(|number| *number >= 0));
        match numbers.collect::<Option<Vec<i32>>>() {
            Some(partitions) if !topic.is_empty() => Ok(Self {
                topic: topic.to_owned(),
                partitions,
            }),
            _ => Err("TOPIC or TOPIC:N,N… is needed".to_owned()),
        }
    }
}

/// Milliseconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    let needed = || "a time in UTC is needed, as in 2026-11-23T07:00:00Z".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| needed())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| needed())?;
    i64::try_from(since.as_millis()).map_err(|_| needed())
}

/// What happens to one partition.
#[derive(Serialize)]
struct Step {
    group: String,
    topic: String,
    partition: i32,
    committed: Option<i64>,
    new: i64,
    executed: bool,
}

pub(super) async fn run(args: ResetArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    refuse_members(&client, &args.group).await?;
    let committed = client.committed(&args.group).await?;
    let partitions = partitions(&client, &args, &committed).await?;
    let new = targets(&client, &args.place, &partitions, &committed).await?;
    if args.execute && !new.is_empty() {
        let done = client.commit(&args.group, &new).await;
        done.with_context(|| format!("cannot commit offsets of group {}", args.group))?;
    }
    let steps: Vec<Step> = new
        .into_iter()
        .map(|(key, new)| Step {
            group: args.group.clone(),
            committed: committed.get(&key).map(|committed| committed.offset),
            topic: key.0,
            partition: key.1,
            new,
            executed: args.execute,
        })
        .collect();
    let mut rows = Rows::stdout(args.form);
    let columns = [text("TOPIC"), number("PARTITION"), number("COMMITTED"), number("NEW")];
    rows.all(columns, &steps, |step| {
        let (committed, new) = (or_nothing(step.committed), step.new.to_string());
        [step.topic.clone(), step.partition.to_string(), committed, new]
    })?;
    if !rows.are_json() {
        rows.line(match (steps.is_empty(), args.execute) {
            (true, _) => "the group has committed nothing",
            (false, true) => "committed",
            (false, false) => "nothing was changed; --execute commits these offsets",
        })?;
    }
    Ok(())
}

/// A member would go on where it is, and commit that over what is committed here.
async fn refuse_members(client: &Client, group: &str) -> anyhow::Result<()> {
    let told = match client.describe_group(group).await {
        Ok(told) => told,
        Err(error) if error.is(ErrorCode::GroupIdNotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if told.group_state == EMPTY || told.group_state == DEAD {
        return Ok(());
    }
    let who = told.members.iter().map(|one| {
        let host = one.client_host.trim_start_matches('/');
        format!("{} on {host}", one.client_id)
    });
    bail!(
        "group {group} is {} and has members ({}); stop them, then reset its offsets",
        told.group_state,
        who.collect::<Vec<_>>().join(", ")
    );
}

async fn partitions(
    client: &Client,
    args: &ResetArgs,
    committed: &BTreeMap<(String, i32), Committed>,
) -> anyhow::Result<Vec<(String, i32)>> {
    let topics = client.topics().await?;
    if args.all_topics {
        let there = |key: &&(String, i32)| {
            let mut of = topics.iter().filter(|topic| topic.name == key.0);
            of.any(|topic| topic.partitions.iter().any(|one| one.index == key.1))
        };
        return Ok(committed.keys().filter(there).cloned().collect());
    }
    let mut all = Vec::new();
    for Chosen { topic, partitions } in &args.topic {
        let Some(known) = topics.iter().find(|one| one.name == *topic) else {
            return Err(advice::unknown_topic(client, topic).await);
        };
        let there: Vec<i32> = known.partitions.iter().map(|one| one.index).collect();
        if let Some(missing) = partitions.iter().find(|one| !there.contains(one)) {
            bail!(
                "topic {topic} has no partition {missing}; it has {} of them, from 0",
                there.len()
            );
        }
        let chosen = if partitions.is_empty() { &there } else { partitions };
        all.extend(chosen.iter().map(|partition| (topic.clone(), *partition)));
    }
    Ok(all)
}

/// The new offset of each partition.
async fn targets(
    client: &Client,
    place: &Place,
    partitions: &[(String, i32)],
    committed: &BTreeMap<(String, i32), Committed>,
) -> anyhow::Result<Offsets> {
    let ago = |ago: &Duration| {
        SystemClock
            .now_ms()
            .saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
    };
    let time = place.to_datetime.or(place.by_duration.as_ref().map(ago));
    let earliest = client.offsets(partitions, At::Earliest).await?;
    let latest = client.offsets(partitions, At::Latest).await?;
    let at_time = match time {
        Some(time) => client.offsets(partitions, At::Time(time.max(0))).await?,
        None => BTreeMap::new(),
    };
    let mut new = Offsets::new();
    for key in partitions {
        let offset = |found: &BTreeMap<(String, i32), Found>| found.get(key).and_then(|found| found.offset);
        let (first, end) = (offset(&earliest).unwrap_or(0), offset(&latest).unwrap_or(0));
        let current = committed.get(key).map(|committed| committed.offset);
        let wanted = if place.to_earliest {
            first
        } else if place.to_latest {
            end
        } else if let Some(offset) = place.to_offset {
            offset
        } else if let Some(shift) = place.shift_by {
            let (topic, partition) = key;
            let refusal =
                || format!("nothing is committed for partition {partition} of topic {topic}, so it cannot be shifted");
            current.with_context(refusal)?.saturating_add(shift)
        } else if place.to_current {
            current.unwrap_or(end)
        } else {
            // No record is that young: what comes next will be.
            offset(&at_time).unwrap_or(end)
        };
        new.insert(key.clone(), wanted.clamp(first, end.max(first)));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_a_colon() {
        let chosen = Chosen::parse("flights:0,2").unwrap();
        assert_eq!((chosen.topic.as_str(), chosen.partitions), ("flights", vec![0, 2]));
        assert_eq!(Chosen::parse("flights").unwrap().partitions, Vec::<i32>::new());
        for wrong in [":1", "flights:x", "flights:1,", "flights:-1", ""] {
            assert!(Chosen::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_one_of_utc() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(time("1970-01-01 00:00:01.5"), Ok(1_500));
        assert!(time("yesterday").is_err());
    }
}
