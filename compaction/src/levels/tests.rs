//! Which objects are merged again, and that it comes to an end.

use esker_segment::id::{IncarnationNumber, PartitionIndex, SegmentNumber, SessionId, TopicId, TopicPartition};
use esker_segment::name::{ObjectKind, SegmentName};

use super::*;
use crate::seams::TopicPolicy;
use crate::survey::{Depth, ObjectFacts, Survey};

fn name(number: u64) -> ObjectName {
    let name = SegmentName {
        incarnation: IncarnationNumber(1),
        session: SessionId(1),
        number: SegmentNumber(number),
        attempt: 0,
    };
    ObjectName::Other {
        kind: ObjectKind::Merged,
        name,
    }
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(number),
    }
}

/// An object of so many bytes, all alive.
fn facts(number: u64, level: u8, bytes: u64) -> ObjectFacts {
    let page = ObjectName::Other {
        kind: ObjectKind::Page,
        name: SegmentName::default(),
    };
    ObjectFacts {
        object: MergedObject {
            name: name(number),
            length_bytes: 64 + bytes + 100,
            index_position: 64 + bytes,
            content_hash: 0,
        },
        level,
        policy: Some(TopicPolicy::default()),
        live_bytes: bytes,
        live_slices: 1,
        dead_slices: 0,
        span: (partition(0), partition(9)),
        pages: BTreeSet::from([page]),
    }
}

fn survey(objects: impl IntoIterator<Item = ObjectFacts>) -> Survey {
    let mut survey = Survey::default();
    for facts in objects {
        let class = (facts.level, facts.policy.unwrap_or_default());
        let depth = survey.depth.entry(class).or_insert(Depth {
            partitions: 1,
            ..Depth::default()
        });
        depth.slices += facts.live_slices;
        depth.bytes += facts.live_bytes;
        survey.objects.insert(facts.object.name, facts);
    }
    survey
}

fn settings() -> MergeSettings {
    MergeSettings {
        object_bytes_max: 32 << 20,
        fan_in: 8,
        ..MergeSettings::default()
    }
}

fn plan_of(survey: &Survey) -> Option<LevelPlan> {
    plan(survey, &BTreeSet::new(), &settings())
}

fn merged(plan: &LevelPlan) -> Vec<ObjectName> {
    plan.merge.iter().map(|object| object.name).collect()
}

#[test]
fn few_small_objects_are_left_alone_and_many_go_to_the_next_level() {
    assert_eq!(plan_of(&survey((0..7).map(|nth| facts(nth, 1, 1 << 20)))), None);
    let plan = plan_of(&survey((0..8).map(|nth| facts(nth, 1, 1 << 20)))).unwrap();
    assert_eq!((merged(&plan), plan.level), ((0..8).map(name).collect(), 2));
    assert!(plan.drop.is_empty() && plan.touch.len() == 1);
}

#[test]
fn objects_that_would_not_become_fewer_are_left_alone() {
    // Just below half of an object: two of them make one, but topics with objects of their own leave halves.
    let halves = (0..8).map(|nth| facts(nth, 1, (16 << 20) - 1));
    assert_eq!(plan_of(&survey(halves)), None);
}

#[test]
fn levels_and_policies_are_not_mixed() {
    let other = TopicPolicy {
        deletes: true,
        ..TopicPolicy::default()
    };
    let objects = (0..8).map(|nth| ObjectFacts {
        policy: Some(if nth < 4 { other } else { TopicPolicy::default() }),
        ..facts(nth, 1, 1 << 20)
    });
    assert_eq!(plan_of(&survey(objects)), None);
    let objects = (0..8).map(|nth| facts(nth, if nth < 4 { 1 } else { 2 }, 1 << 20));
    assert_eq!(plan_of(&survey(objects)), None);
}

#[test]
fn objects_without_anything_alive_are_dropped_without_being_read() {
    let dead = ObjectFacts {
        live_bytes: 0,
        live_slices: 0,
        dead_slices: 3,
        ..facts(1, 2, 5 << 20)
    };
    let plan = plan_of(&survey([dead, facts(2, 2, 1)])).unwrap();
    assert_eq!((plan.drop, plan.merge.len()), (BTreeSet::from([name(1)]), 0));
}

#[test]
fn objects_that_are_mostly_dead_are_rewritten_on_their_level() {
    let wasted = ObjectFacts {
        live_bytes: 2 << 20,
        dead_slices: 1,
        ..facts(1, 3, 5 << 20)
    };
    let plan = plan_of(&survey([wasted.clone(), facts(2, 3, 20 << 20)])).unwrap();
    assert_eq!((merged(&plan), plan.level), (vec![name(1)], 3));
    let avoid = BTreeSet::from([name(1)]);
    assert_eq!(
        super::plan(&survey([wasted]), &avoid, &settings()),
        None,
        "it cannot be read"
    );
}

#[test]
fn large_objects_with_short_slices_are_merged_until_slices_are_long() {
    let cut_up = |nth| ObjectFacts {
        live_slices: 1_000,
        ..facts(nth, 1, 32 << 20)
    };
    let plan = plan_of(&survey((0..8).map(cut_up))).unwrap();
    assert_eq!((plan.merge.len(), plan.level), (8, 2), "as much as a round may merge");
    let long = |nth| ObjectFacts {
        live_slices: 8,
        ..facts(nth, 1, 32 << 20)
    };
    assert_eq!(plan_of(&survey((0..8).map(long))), None);
}

#[test]
fn a_plan_fits_in_a_round() {
    let objects = (0..100).map(|nth| ObjectFacts {
        live_slices: 100,
        ..facts(nth, 1, 15 << 20)
    });
    let plan = plan_of(&survey(objects)).unwrap();
    let bytes: u64 = plan.merge.iter().map(|object| object.length_bytes).sum();
    assert!(bytes <= settings().round_bytes_max, "{bytes}");
}

#[test]
fn fresh_segments_in_a_manifest_are_never_merged_again() {
    let mut unread = facts(1, 0, 1 << 20);
    unread.object.name = ObjectName::Segment(SegmentName::default());
    unread.live_bytes = 1;
    assert_eq!(plan_of(&survey([unread])), None);
}
