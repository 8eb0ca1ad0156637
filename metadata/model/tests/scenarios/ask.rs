//! Questions of scenario files, which begin with `?`.

use esker_model::unmerged::{Location, Source};
use esker_segment::id::{IncarnationNumber, Offset, ProducerId, Timestamp};

use crate::parse::{Words, partition};
use crate::show;
use crate::world::World;

pub(crate) fn answer(world: &World, question: &str) -> Vec<String> {
    let (kind, rest) = question.split_once(' ').unwrap_or((question, ""));
    let words = Words::of(rest);
    let fold = &world.fold;
    let at = || partition(&world.names, words.first());
    let from = || Offset(words.number("from").unwrap_or(0));
    match kind {
        "offsets" => one(fold.partition(at()).map(|partition| {
            let (start, stable, high) = (partition.log_start, partition.last_stable, partition.high_watermark);
            format!("start={start} stable={stable} high={high}")
        })),
        "aborted" => {
            let upto = Offset(words.number("upto").unwrap_or(i64::MAX));
            let aborted = fold.aborted(at(), from(), upto);
            list(aborted.map(|txn| format!("pid={} first={} marker={}", txn.producer, txn.first, txn.marker)))
        }
        "locate" => list(fold.locate(at(), from()).map(|found| location(&found))),
        "unmerged-start" => one(fold.unmerged_start(at()).map(|start| start.to_string())),
        "timestamp" => {
            let timestamp = Timestamp(words.number("ts").expect("ts="));
            one(fold
                .locate_timestamp(at(), from(), timestamp)
                .map(|found| location(&found)))
        }
        "max-timestamp" => one(fold
            .locate_max_timestamp(at(), Offset(0), Offset(i64::MAX))
            .map(|found| location(&found))),
        "epoch" => {
            let offset = Offset(words.number("at").expect("at="));
            one(fold.leader_epoch_at(at(), offset).map(|epoch| epoch.to_string()))
        }
        "epoch-end" => {
            let epoch = IncarnationNumber(words.number("epoch").expect("epoch="));
            one(fold
                .leader_epoch_end(at(), epoch)
                .map(|(epoch, end)| format!("epoch={epoch} end={end}")))
        }
        "producer" | "windows" | "open" => producers(world, kind, &words),
        "group" => group(world, &words, rest),
        "topics" | "topic-named" | "unmerged" | "dead" => overview(world, kind, &words),
        "index" => vec![fold.index().to_string()],
        _ => panic!("no such question: {question}"),
    }
}

fn producers(world: &World, kind: &str, words: &Words<'_>) -> Vec<String> {
    let fold = &world.fold;
    match kind {
        "producer" => {
            let at = partition(&world.names, words.first());
            let id = ProducerId(words.number("pid").expect("pid="));
            let Some(producer) = fold.producer(at, id) else {
                let anywhere = fold.may_begin_anywhere(at, id);
                return vec![
                    if anywhere {
                        "unknown, begins anywhere"
                    } else {
                        "unknown, begins at 0"
                    }
                    .into(),
                ];
            };
            let (epoch, next, touched) = (producer.epoch, producer.next_sequence, producer.touched);
            let open = producer.open_from.map_or("none".into(), |open| open.to_string());
            vec![format!("epoch={epoch} next={next} touched={touched} open={open}")]
        }
        "windows" => vec![fold.producer_windows().to_string()],
        _ => list(fold.open_transactions().map(|open| {
            let partitions = open
                .partitions()
                .map(|(at, first)| format!("{}@{first}", show::at(world, at)));
            let staged = open.staged();
            let staged = staged.map(|(group, at, commit)| format!("{group}:{}={}", show::at(world, at), commit.offset));
            let parts: Vec<_> = partitions.chain(staged).collect();
            format!(
                "pid={} epoch={} since={} {}",
                open.producer,
                open.epoch,
                open.opened_at,
                parts.join(" ")
            )
        })),
    }
}

fn overview(world: &World, kind: &str, words: &Words<'_>) -> Vec<String> {
    let fold = &world.fold;
    match kind {
        "topics" => list(fold.topics().map(|topic| {
            format!(
                "{} id={} partitions={} created={}",
                topic.name, topic.id.0, topic.partitions, topic.created_at
            )
        })),
        "topic-named" => one(fold
            .topic_named(words.first())
            .map(|topic| format!("id={}", topic.id.0))),
        "dead" => list(
            fold.dead_bytes()
                .iter()
                .map(|(name, bytes)| format!("s{} dead={bytes}", name.number)),
        ),
        _ => {
            let stats = fold.unmerged_stats();
            let (batches, live, dead) = (stats.batches, stats.live_bytes, stats.dead_bytes);
            vec![format!(
                "batches={batches} live={live} segments={} dead={dead}",
                stats.segments
            )]
        }
    }
}

/// One partition of a group, or all that it has committed.
fn group(world: &World, words: &Words<'_>, rest: &str) -> Vec<String> {
    let fold = &world.fold;
    let id = words.first();
    let shown = |commit: &esker_model::entry::OffsetCommit| {
        let epoch = commit.leader_epoch.map_or("none".into(), |epoch| epoch.to_string());
        format!(
            "offset={} epoch={epoch} meta={:?} ts={}",
            commit.offset, commit.metadata, commit.timestamp
        )
    };
    match rest.split_whitespace().nth(1) {
        Some(word) => {
            let found = fold.group_offset(id, partition(&world.names, word));
            let committed = found
                .committed
                .map_or("none".into(), |committed| shown(&committed.commit));
            vec![format!("{committed}{}", if found.pending { " pending" } else { "" })]
        }
        None => list(
            fold.group_offsets(id)
                .map(|(at, committed)| format!("{} {}", show::at(world, at), shown(&committed.commit))),
        ),
    }
}

fn one(answer: Option<String>) -> Vec<String> {
    vec![answer.unwrap_or_else(|| "none".into())]
}

fn list(answers: impl Iterator<Item = String>) -> Vec<String> {
    let answers: Vec<_> = answers.collect();
    if answers.is_empty() { one(None) } else { answers }
}

fn location(found: &Location<'_>) -> String {
    let (base, records, bytes, position) = (found.base, found.records, found.bytes, found.position);
    match found.source {
        Source::Segment(segment) => {
            format!(
                "base={base} count={records} in s{} at {position}+{bytes}",
                segment.name.number
            )
        }
        Source::Marker(marker) => {
            let how = show::outcome(marker.outcome);
            format!(
                "base={base} marker {how} pid={} epoch={} leader={}",
                marker.producer, marker.epoch, marker.incarnation
            )
        }
    }
}
