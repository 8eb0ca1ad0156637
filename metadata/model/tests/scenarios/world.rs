//! The state that a scenario runs against: a fold, the names of its topics, and what is needed to restart it.

use std::collections::BTreeMap;

use esker_model::fold::{CommitPosition, Fold};
use esker_model::{Applied, CommitRecord, Entry, EntryVerdict};
use esker_segment::checkpoint::IndexObject;
use esker_segment::id::{CommitNumber, LogIndex, SessionId, TopicId};

use crate::recent::RecentCommits;
use crate::{ask, parse, show};

/// How a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    RestartAlways,
    ThroughBytes,
}

/// A fold with names.
pub(crate) struct World {
    pub(crate) fold: Fold,
    pub(crate) names: Names,
    mode: Mode,
    recent: RecentCommits,
    index_objects: Vec<IndexObject>,
    merged_through: LogIndex,
}

/// Topic ids by the names that scenarios use. A name that is created again gets a new id.
#[derive(Default)]
pub(crate) struct Names {
    ids: BTreeMap<String, TopicId>,
    created: u128,
}

impl Names {
    /// The latest id of a name; one that was never created is unknown to the fold.
    pub(crate) fn id(&self, name: &str) -> TopicId {
        self.ids.get(name).copied().unwrap_or(TopicId(0xffff))
    }

    /// A fresh id. The name stands for it, unless it stands for a topic that exists.
    pub(crate) fn create(&mut self, name: &str, fold: &Fold) -> TopicId {
        self.created += 1;
        let id = TopicId(self.created);
        if fold.topic(self.id(name)).is_none() {
            self.ids.insert(name.to_owned(), id);
        }
        id
    }

    pub(crate) fn name(&self, id: TopicId) -> String {
        let found = self.ids.iter().find(|(_, known)| **known == id);
        found.map_or_else(|| format!("#{}", id.0), |(name, _)| name.clone())
    }
}

impl World {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            fold: Fold::new(),
            names: Names::default(),
            mode,
            recent: RecentCommits::default(),
            index_objects: Vec::new(),
            merged_through: LogIndex(0),
        }
    }

    /// Runs the commands of one commit, or one question; gives the answers of each.
    pub(crate) fn run(&mut self, commands: &[&str]) -> Vec<Vec<String>> {
        if let [only] = commands {
            if let Some(question) = only.strip_prefix("? ") {
                return vec![ask::answer(self, question)];
            }
            if *only == "restart" {
                self.restart();
                return vec![Vec::new()];
            }
            if let Some(through) = only.strip_prefix("merged through=") {
                self.merged_through = LogIndex(through.parse().expect("a log index"));
                self.fold.forget_merged(self.merged_through);
                return vec![Vec::new()];
            }
            if let Some(hex) = only.strip_prefix("bytes") {
                let applied = self.fold.apply_bytes(self.position(), &parse::hex(hex));
                return vec![match applied {
                    Ok(applied) => applied
                        .verdicts
                        .iter()
                        .flat_map(|verdict| show::verdict(self, verdict))
                        .collect(),
                    Err(unsupported) => vec![format!("stop: {unsupported}")],
                }];
            }
        }
        let (names, fold) = (&mut self.names, &self.fold);
        let parsed = commands
            .iter()
            .map(|command| parse::entry(names, fold, command.trim_start_matches("& ")));
        let entries: Vec<Entry> = parsed.collect();
        if let Some(stopped) = entries.iter().find_map(|entry| Fold::supports(entry).err()) {
            return commands.iter().map(|_| vec![format!("stop: {stopped}")]).collect();
        }
        let applied = self.apply(CommitRecord {
            entries: entries.clone(),
        });
        let answers = entries
            .iter()
            .zip(&applied.verdicts)
            .map(|(_, verdict)| show::verdict(self, verdict))
            .collect();
        if self.mode == Mode::RestartAlways {
            self.restart();
        }
        answers
    }

    fn position(&self) -> CommitPosition {
        let index = LogIndex(self.fold.index().0 + 1);
        CommitPosition {
            index,
            session: SessionId(1),
            number: CommitNumber(index.0),
        }
    }

    fn apply(&mut self, record: CommitRecord) -> Applied {
        let position = self.position();
        let before = self.fold.clone();
        let applied = if self.mode == Mode::ThroughBytes {
            let bytes = record.encode().expect("scenarios keep the limits of the format");
            self.fold.apply_bytes(position, &bytes).expect("asked before")
        } else {
            self.fold.apply(position, &record)
        };
        self.check_advanced(&before, &applied);
        self.check_refusals_change_nothing(&before, &applied);
        self.recent.push(position.index, record, &applied.verdicts);
        applied
    }

    /// `advanced` names exactly the partitions whose high watermark or last stable offset moved.
    fn check_advanced(&self, before: &Fold, applied: &Applied) {
        let mut moved = Vec::new();
        for topic in self.fold.topics() {
            for (partition, now) in self.fold.partitions_of(topic.id) {
                let at = esker_segment::id::TopicPartition {
                    topic: topic.id,
                    partition,
                };
                let then = before
                    .partition(at)
                    .map_or((0, 0), |then| (then.high_watermark.0, then.last_stable.0));
                assert!(
                    now.high_watermark.0 >= then.0 && now.last_stable.0 >= then.1,
                    "an offset went back in {at}"
                );
                if (now.high_watermark.0, now.last_stable.0) != then {
                    moved.push(at);
                }
            }
        }
        let mut advanced = applied.advanced.clone();
        advanced.sort_unstable();
        advanced.dedup();
        advanced.retain(|at| self.fold.partition(*at).is_some());
        assert_eq!(advanced, moved, "advanced partitions");
    }

    /// Entries that were refused as a whole leave the state as it was, but for index and digest.
    fn check_refusals_change_nothing(&self, before: &Fold, applied: &Applied) {
        let refused = |verdict: &EntryVerdict| match verdict {
            EntryVerdict::Rejected => true,
            EntryVerdict::Segment(batches) => batches
                .iter()
                .all(|batch| !matches!(batch, esker_model::BatchVerdict::Stored { .. })),
            other => !show::changes(other),
        };
        if applied.verdicts.iter().all(refused) {
            let body = |fold: &Fold| fold.encode_state().chunks[4..fold.encode_state().chunks.len() - 2].concat();
            assert_eq!(
                body(before),
                body(&self.fold),
                "a refused entry changed the state: {:?}",
                applied.verdicts
            );
        }
    }

    /// A checkpoint, and a new process that starts from it.
    fn restart(&mut self) {
        let last = self.fold.index();
        let first = LogIndex(self.index_objects.last().map_or(0, |object| object.last.0) + 1);
        if first <= last {
            let object = self.recent.index_object(first, last);
            let bytes = object.encode().concat();
            self.index_objects
                .push(IndexObject::decode(&bytes).expect("just written"));
            self.recent.forget(last);
        }
        let state = self.fold.encode_state();
        let mut restarted = Fold::decode_state(&state.concat()).expect("just written");
        for object in &self.index_objects {
            restarted.import_index(object, self.merged_through);
        }
        let all = (LogIndex(0), last);
        assert_eq!(
            restarted.export_unmerged(all.0, all.1),
            self.fold.export_unmerged(all.0, all.1)
        );
        assert_eq!(restarted.unmerged_stats(), self.fold.unmerged_stats());
        assert_eq!(restarted.encode_state().digest, state.digest);
        self.fold = restarted;
    }
}
