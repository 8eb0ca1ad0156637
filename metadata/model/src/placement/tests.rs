//! Placement is balanced, moves little, and keeps clients in their zone.

use std::collections::BTreeMap;

use esker_segment::id::{PartitionIndex, SessionId, TopicId, TopicPartition};

use super::{Placed, Placement, SHARDS, ShardPlan, plan_shards, shard_of};

fn agents(zones: &[&str]) -> Vec<Placed> {
    (1..)
        .zip(zones)
        .map(|(node, zone)| Placed {
            node,
            zone: Box::from(*zone),
        })
        .collect()
}

fn partitions() -> Vec<TopicPartition> {
    let of = |topic: u128| {
        (0..100).map(move |index| TopicPartition {
            topic: TopicId(topic.wrapping_mul(0x1234_5678_9abc_def0_0fed_cba9_8765_4321)),
            partition: PartitionIndex(index),
        })
    };
    (1..=30).flat_map(of).collect()
}

#[test]
fn leaders_are_balanced() {
    let placement = Placement::new(agents(&["a", "b", "c", "a", "b"]));
    let mut led = BTreeMap::new();
    for at in partitions() {
        *led.entry(placement.leader(at, None).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(led.len(), 5);
    // 600 each on average; four standard deviations are 88.
    assert!(led.values().all(|count| (512..=688).contains(count)), "{led:?}");
}

#[test]
fn only_the_partitions_of_one_that_goes_move() {
    let all = agents(&["a", "a", "a", "a"]);
    let before = Placement::new(all.clone());
    let after = Placement::new(all.into_iter().filter(|agent| agent.node != 3).collect());
    let mut moved = 0;
    for at in partitions() {
        let (was, is) = (before.leader(at, None).unwrap(), after.leader(at, None).unwrap());
        assert!(was == is || was == 3, "{was} to {is}");
        moved += usize::from(was != is);
    }
    assert!((600..=900).contains(&moved), "{moved} of 3000");
}

#[test]
fn clients_of_a_zone_stay_in_it() {
    let placement = Placement::new(agents(&["a", "b", "b", "c"]));
    for at in partitions() {
        assert_eq!(placement.leader(at, Some("a")), Some(1));
        assert!([2, 3].contains(&placement.leader(at, Some("b")).unwrap()));
        // A zone without agents is served by all.
        assert_eq!(placement.leader(at, Some("z")), placement.leader(at, None));
        let replicas = placement.replicas(at, Some("c"));
        assert_eq!(replicas.len(), 3);
        assert_eq!((replicas[0], replicas[1]), (4, 1));
        assert!([2, 3].contains(&replicas[2]));
    }
}

#[test]
fn agents_without_a_zone_are_one_replica() {
    let placement = Placement::new(agents(&["", "", ""]));
    for at in partitions() {
        assert_eq!(placement.replicas(at, None), [placement.leader(at, None).unwrap()]);
    }
    assert_eq!(Placement::default().replicas(partitions()[0], None), [0; 0]);
}

#[test]
fn the_shard_of_a_group_never_changes() {
    // Committed: another hash would move every group of a running cluster.
    assert_eq!((shard_of(""), shard_of("g"), shard_of("orders")), (2, 23, 59));
    let mut groups = vec![0; usize::from(SHARDS)];
    for number in 0..6_400 {
        groups[usize::from(shard_of(&format!("group-{number}")))] += 1;
    }
    assert!(groups.iter().all(|count| (50..=150).contains(count)), "{groups:?}");
}

fn apply(owners: &mut [Option<SessionId>], plan: &ShardPlan) {
    for (shard, agent) in &plan.claims {
        owners[usize::from(*shard)] = Some(*agent);
    }
    for (shard, agent) in &plan.releases {
        assert_eq!(owners[usize::from(*shard)], Some(*agent));
        owners[usize::from(*shard)] = None;
    }
}

fn settled(owners: &mut [Option<SessionId>], agents: &[SessionId]) -> Vec<usize> {
    for _ in 0..3 {
        let plan = plan_shards(owners, agents);
        apply(owners, &plan);
    }
    assert_eq!(plan_shards(owners, agents), ShardPlan::default());
    let count = |agent: &SessionId| owners.iter().filter(|owner| **owner == Some(*agent)).count();
    agents.iter().map(count).collect()
}

#[test]
fn shards_are_sticky_and_balanced() {
    let [a, b, c] = [SessionId(1), SessionId(2), SessionId(3)];
    let mut owners = vec![None; usize::from(SHARDS)];
    assert_eq!(settled(&mut owners, &[a]), [64]);
    let before = owners.clone();
    assert_eq!(settled(&mut owners, &[a, b]), [32, 32]);
    let moved = before.iter().zip(&owners).filter(|(was, is)| was != is).count();
    assert_eq!(moved, 32);
    let before = owners.clone();
    let mut counts = settled(&mut owners, &[a, b, c]);
    counts.sort_unstable();
    assert_eq!(counts, [21, 21, 22]);
    let moved = before.iter().zip(&owners).filter(|(was, is)| was != is).count();
    assert_eq!(moved, counts[0], "only what the new one gets");
    // One goes: only its shards move.
    for owner in &mut owners {
        *owner = owner.filter(|owner| *owner != b);
    }
    let before = owners.clone();
    assert_eq!(settled(&mut owners, &[a, c]), [32, 32]);
    assert!(before.iter().zip(&owners).all(|(was, is)| was.is_none() || was == is));
}

#[test]
fn one_that_drains_keeps_its_shards_until_it_lets_go() {
    let [a, b] = [SessionId(1), SessionId(2)];
    let owners: Vec<_> = (0..SHARDS).map(|shard| Some(if shard < 32 { a } else { b })).collect();
    assert_eq!(plan_shards(&owners, &[b]), ShardPlan::default());
    assert_eq!(plan_shards(&[None, None], &[]), ShardPlan::default());
}
