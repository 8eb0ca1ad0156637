//! Which merged objects are merged again. Pure.
//!
//! Owns: the rules: too many small objects, too many slices of each partition, too many dead bytes, topics that may no
//! longer share an object.
//!
//! Invariants: a plan is bounded: what it merges fits in a round, and the indexes of its inputs in memory.

use std::collections::{BTreeMap, BTreeSet};

use esker_segment::manifest::MergedObject;
use esker_segment::name::ObjectName;

use crate::intake::SLICE_BYTES_GOOD;
use crate::seams::TopicPolicy;
use crate::settings::MergeSettings;
use crate::survey::{ObjectFacts, Survey};

/// Objects with less than this part alive are rewritten.
const LIVE_PARTS: u64 = 2;
/// Batches of all inputs of a plan, in parts of the most that one object has.
const INPUT_INDEXES: usize = 4;

/// What is to be done, at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelPlan {
    /// Objects that become new ones.
    pub merge: Vec<MergedObject>,
    /// The level of the new ones.
    pub level: u8,
    /// Objects of which nothing counts any more.
    pub drop: BTreeSet<ObjectName>,
    /// Pages that name any of them.
    pub touch: BTreeSet<ObjectName>,
}

/// Decides what is to be merged next; `None` when all is well. Objects in `avoid` cannot be read.
#[must_use]
pub fn plan(survey: &Survey, avoid: &BTreeSet<ObjectName>, settings: &MergeSettings) -> Option<LevelPlan> {
    let mut plan = LevelPlan::default();
    for facts in survey.objects.values().filter(|facts| facts.live_slices == 0) {
        plan.drop.insert(facts.object.name);
        plan.touch.extend(&facts.pages);
    }
    let readable = |facts: &&ObjectFacts| {
        facts.live_slices > 0
            && matches!(facts.object.name, ObjectName::Other { .. })
            && !avoid.contains(&facts.object.name)
    };
    let objects: Vec<&ObjectFacts> = survey.objects.values().filter(readable).collect();
    if let Some((inputs, level)) = inputs(survey, &objects, settings) {
        for facts in inputs {
            plan.merge.push(facts.object);
            plan.touch.extend(&facts.pages);
        }
        plan.level = level;
    }
    (!plan.touch.is_empty()).then_some(plan)
}

type Inputs<'a> = (Vec<&'a ObjectFacts>, u8);

fn inputs<'a>(survey: &Survey, objects: &[&'a ObjectFacts], settings: &MergeSettings) -> Option<Inputs<'a>> {
    // Topics whose policies have become different since.
    let mixed: Vec<_> = objects.iter().copied().filter(|facts| facts.policy.is_none()).collect();
    if let Some(first) = mixed.first() {
        return Some((fitting(mixed.iter().copied(), settings, 1), first.level));
    }
    let mut classes: BTreeMap<(u8, TopicPolicy), Vec<&ObjectFacts>> = BTreeMap::new();
    for facts in objects {
        if let Some(policy) = facts.policy {
            classes.entry((facts.level, policy)).or_default().push(*facts);
        }
    }
    for (&(level, _), of_class) in &classes {
        let small: Vec<_> = of_class
            .iter()
            .copied()
            .filter(|facts| is_small(facts, settings))
            .collect();
        if small.len() >= settings.fan_in {
            let chosen = fitting(small.into_iter(), settings, 2);
            if becomes_fewer(&chosen, settings) {
                return Some((chosen, (level + 1).min(settings.level_max)));
            }
        }
    }
    for (&(level, _), of_class) in &classes {
        let wasted: Vec<_> = of_class.iter().copied().filter(|facts| is_wasted(facts)).collect();
        if !wasted.is_empty() {
            return Some((fitting(wasted.into_iter(), settings, 1), level));
        }
    }
    for (&(level, policy), of_class) in &classes {
        let depth = survey.depth.get(&(level, policy)).copied().unwrap_or_default();
        let cut_up = depth.slices >= depth.partitions * u64::try_from(settings.fan_in).unwrap_or(u64::MAX);
        let short = depth.bytes < depth.slices * SLICE_BYTES_GOOD;
        if cut_up && short && level < settings.level_max {
            let chosen = fitting(overlapping(of_class), settings, 2);
            if chosen.len() > 1 {
                return Some((chosen, level + 1));
            }
        }
    }
    None
}

fn is_small(facts: &ObjectFacts, settings: &MergeSettings) -> bool {
    facts.live_bytes < settings.object_bytes_max / 2 && facts.batches_estimate() < settings.object_batches_max / 2
}

/// Whether merging these leaves at most two thirds as many. Every merge must get somewhere, or it would go on for ever.
fn becomes_fewer(objects: &[&ObjectFacts], settings: &MergeSettings) -> bool {
    // An object that is not the last of its kind is at least half full.
    let bytes: u64 = objects.iter().map(|facts| facts.live_bytes).sum();
    let batches: usize = objects.iter().map(|facts| facts.batches_estimate()).sum();
    let by_bytes = usize::try_from(2 * bytes / settings.object_bytes_max.max(1)).unwrap_or(usize::MAX);
    let by_batches = batches.saturating_mul(2) / settings.object_batches_max.max(1);
    let expected = by_bytes.max(by_batches).saturating_add(1);
    objects.len().saturating_mul(2) >= expected.saturating_mul(3)
}

fn is_wasted(facts: &ObjectFacts) -> bool {
    facts.live_bytes * LIVE_PARTS < facts.data_bytes()
}

/// The objects that share partitions with the one whose partitions come first, oldest first.
fn overlapping<'a>(objects: &[&'a ObjectFacts]) -> impl Iterator<Item = &'a ObjectFacts> {
    let last = objects.iter().map(|facts| facts.span).min().map(|(_, last)| last);
    let of_range = |facts: &&&ObjectFacts| last.is_some_and(|last| facts.span.0 <= last);
    let chosen: Vec<&ObjectFacts> = objects.iter().filter(of_range).copied().collect();
    chosen.into_iter()
}

/// As many as a round may merge, at least `least`.
fn fitting<'a>(
    objects: impl Iterator<Item = &'a ObjectFacts>,
    settings: &MergeSettings,
    least: usize,
) -> Vec<&'a ObjectFacts> {
    let batches_max = settings.object_batches_max.saturating_mul(INPUT_INDEXES);
    let (mut bytes, mut batches, mut chosen) = (0, 0_usize, Vec::new());
    for facts in objects {
        bytes += facts.live_bytes;
        batches = batches.saturating_add(facts.batches_estimate());
        if chosen.len() >= least && (bytes > settings.round_bytes_max || batches > batches_max) {
            break;
        }
        chosen.push(facts);
    }
    chosen
}
