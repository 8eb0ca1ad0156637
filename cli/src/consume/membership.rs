//! Reading as a member of a group.
//!
//! Owns: when offsets are committed, where reading begins where nothing is.
//! Does not own: the protocol of groups (`esker_kafka_client::Member`).
//!
//! Invariants: an offset is committed after the records before it were printed and flushed, never before.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use esker_kafka_client::{At, Client, Found, Member, TopicPartition};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::places::{self, Wanted};
use super::{ConsumeArgs, Reader};

/// What was printed is committed within this time.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Reads until a signal comes or enough was printed; then commits and leaves.
pub(super) async fn consume(
    args: &ConsumeArgs,
    group: &str,
    client: &Client,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    for topic in &args.topics {
        client.topic(topic, false).await?;
    }
    let mut membership = Membership {
        args,
        group,
        client,
        member: Member::new(client.clone(), group, &args.topics),
        reader: Reader::new(client, args),
        uncommitted: BTreeMap::new(),
        commit_due: Instant::now(),
    };
    let read = membership.read(stop).await;
    // Also after a failure, so that what was printed is not printed again.
    let committed = membership.commit().await;
    membership.member.leave().await;
    read.and(committed)
}

struct Membership<'a> {
    args: &'a ConsumeArgs,
    group: &'a str,
    client: &'a Client,
    member: Member,
    reader: Reader,
    /// Where reading goes on, by partitions of which something was printed.
    uncommitted: BTreeMap<TopicPartition, i64>,
    commit_due: Instant,
}

impl Membership<'_> {
    async fn read(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            let assigned = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                assigned = self.member.join() => assigned?,
            };
            let starts = self.starts(assigned).await?;
            self.reader.fetcher.assign(starts);
            if !self.read_assigned(stop).await? {
                return Ok(());
            }
            self.reader.fetcher.assign(BTreeMap::new());
            self.commit().await?;
        }
    }

    /// False if that was all, true if the group divides partitions anew.
    async fn read_assigned(&mut self, stop: &CancellationToken) -> anyhow::Result<bool> {
        loop {
            let due = self.commit_due;
            let fetched = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                rebalance = self.member.until_rebalance() => {
                    rebalance?;
                    return Ok(true);
                }
                () = sleep_until(due), if !self.uncommitted.is_empty() => {
                    self.commit().await?;
                    continue;
                }
                fetched = self.reader.next() => fetched?,
            };
            if self.uncommitted.is_empty() {
                self.commit_due = Instant::now() + COMMIT_EVERY;
            }
            let of = fetched.of.clone();
            let printed = self.reader.print(fetched, i64::MAX)?;
            self.uncommitted.insert(of, printed.next);
            if !printed.more {
                return Ok(false);
            }
        }
    }

    /// Where the group goes on, or where the command line says: where nothing is committed, or something that is not there.
    async fn starts(&self, assigned: Vec<TopicPartition>) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let committed = self.client.stable_committed(self.group).await?;
        let places: Vec<_> = assigned
            .iter()
            .map(|of| (String::from(of.topic.clone()), of.partition))
            .collect();
        let going_on: Vec<_> = places
            .iter()
            .filter(|place| committed.contains_key(place))
            .cloned()
            .collect();
        let first = self.client.offsets(&going_on, At::Earliest).await?;
        let end = self.client.offsets(&going_on, At::Latest).await?;
        let mut starts = BTreeMap::new();
        let mut unknown: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (of, place) in assigned.into_iter().zip(places) {
            let told = |found: &BTreeMap<_, Found>| found.get(&place).and_then(|found| found.offset).unwrap_or(0);
            let there = told(&first)..=told(&end);
            let offset = committed.get(&place).map(|committed| committed.offset);
            if let Some(offset) = offset.filter(|offset| !there.contains(offset)) {
                self.warn(&of, offset, &there);
            }
            match offset.filter(|offset| there.contains(offset)) {
                Some(offset) => {
                    starts.insert(of, offset);
                }
                None => unknown.entry(place.0).or_default().push(of.partition),
            }
        }
        for (topic, partitions) in unknown {
            let wanted = Wanted {
                from: self.args.from,
                read_committed: self.args.read_committed,
            };
            let found = places::of_topic(self.client, &topic, &partitions, wanted).await?;
            for (partition, (start, _)) in found {
                let topic = topic.as_str().into();
                starts.insert(TopicPartition { topic, partition }, start);
            }
        }
        Ok(starts)
    }

    /// Says that records are left out or come again.
    fn warn(&self, of: &TopicPartition, committed: i64, there: &RangeInclusive<i64>) {
        let TopicPartition { topic, partition } = of;
        let (group, first, end) = (self.group, there.start(), there.end());
        // Without stderr there is nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "warning: group {group} has committed offset {committed} of partition {partition} of topic {topic}, which begins at {first}, \
             and {end} comes next: --from says where it goes on"
        );
    }

    /// Commits what was printed. What cannot be committed because the partition is somebody else's now will be read again there.
    async fn commit(&mut self) -> anyhow::Result<()> {
        self.reader.output.flush()?;
        if !self.uncommitted.is_empty() {
            self.member.commit(&self.uncommitted).await?;
            self.uncommitted.clear();
        }
        Ok(())
    }
}
