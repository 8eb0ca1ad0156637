//! Where reading begins and ends in each partition.
//!
//! Owns: turning `--from` into offsets, which partitions are still to be read.
//! Does not own: asking for offsets (`esker_kafka_client`).

use std::collections::BTreeMap;

use esker_agent::clock::{Clock as _, SystemClock};
use esker_kafka_client::{At, Client, Found, TopicPartition};

use crate::UsageError;

use super::ConsumeArgs;
use super::from::From;

/// What is to be read.
pub(super) struct Places {
    /// Start and end; nothing is read at the end or after it.
    unread: BTreeMap<TopicPartition, (i64, i64)>,
}

impl Places {
    /// All partitions that were asked for. Without --follow, those that are empty are done already.
    pub(super) async fn find(client: &Client, args: &ConsumeArgs) -> anyhow::Result<Self> {
        let mut unread = BTreeMap::new();
        for topic in &args.topics {
            let known = client.topic(topic, false).await?;
            let all: Vec<i32> = known.partitions.iter().map(|one| one.index).collect();
            if let Some(missing) = args.partition.iter().find(|one| !all.contains(one)) {
                let count = all.len();
                let words = format!("there is no partition {missing}; topic {topic} has {count}, from 0 on");
                return Err(UsageError(words).into());
            }
            let wanted = if args.partition.is_empty() {
                &all
            } else {
                &args.partition
            };
            let of_args = Wanted {
                from: args.from,
                read_committed: args.read_committed,
            };
            let starts_and_ends = of_topic(client, topic, wanted, of_args).await?;
            for (partition, (start, end)) in starts_and_ends {
                let topic = topic.as_str().into();
                unread.insert(TopicPartition { topic, partition }, (start, end));
            }
        }
        if args.follow {
            for (_, end) in unread.values_mut() {
                *end = i64::MAX;
            }
        }
        unread.retain(|_, (start, end)| start < end);
        Ok(Self { unread })
    }

    pub(super) fn starts(&self) -> BTreeMap<TopicPartition, i64> {
        self.unread
            .iter()
            .map(|(of, (start, _))| (of.clone(), *start))
            .collect()
    }

    /// Records of this offset or later are not to be printed.
    pub(super) fn end(&self, of: &TopicPartition) -> i64 {
        self.unread.get(of).map_or(0, |(_, end)| *end)
    }

    /// True if there is nothing more to be read of it.
    pub(super) fn reached(&mut self, of: &TopicPartition, next: i64) -> bool {
        let done = next >= self.end(of);
        if done {
            self.unread.remove(of);
        }
        done
    }

    pub(super) fn is_done(&self) -> bool {
        self.unread.is_empty()
    }
}

/// Where reading is to begin, and what is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) from: From,
    pub(super) read_committed: bool,
}

/// Start and end of some partitions of a topic.
pub(super) async fn of_topic(
    client: &Client,
    topic: &str,
    partitions: &[i32],
    args: Wanted,
) -> anyhow::Result<BTreeMap<i32, (i64, i64)>> {
    let all: Vec<_> = partitions
        .iter()
        .map(|partition| (topic.to_owned(), *partition))
        .collect();
    let end_at = if args.read_committed {
        At::LatestStable
    } else {
        At::Latest
    };
    let ends = client.offsets(&all, end_at).await?;
    let earliest = client.offsets(&all, At::Earliest).await?;
    let at_time = match args.from {
        From::Time(ms) => Some(At::Time(ms)),
        From::Ago(ago) => {
            let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            Some(At::Time(SystemClock.now_ms().saturating_sub(ago).max(0)))
        }
        From::Earliest | From::Latest | From::Offset(_) | From::Last(_) => None,
    };
    let at_time = match at_time {
        Some(at) => client.offsets(&all, at).await?,
        None => BTreeMap::new(),
    };
    let mut found = BTreeMap::new();
    for place in &all {
        let told = |offsets: &BTreeMap<_, Found>| offsets.get(place).and_then(|found| found.offset);
        let (first, end) = (told(&earliest).unwrap_or(0), told(&ends).unwrap_or(0));
        let partition = place.1;
        let start = match args.from {
            From::Earliest => first,
            From::Latest => end,
            From::Last(count) => end.saturating_sub(count).max(first),
            // Nothing is as late as that.
            From::Time(_) | From::Ago(_) => told(&at_time).unwrap_or(end),
            From::Offset(offset) if (first..=end).contains(&offset) => offset,
            From::Offset(offset) => {
                let words = format!(
                    "partition {partition} of topic {topic} has no offset {offset}: it begins at {first}, and {end} comes next; \
                     say --from earliest, latest or one of these"
                );
                return Err(UsageError(words).into());
            }
        };
        found.insert(partition, (start, end));
    }
    Ok(found)
}
