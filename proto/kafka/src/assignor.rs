//! Who of a group reads which partitions, for whoever leads the group.
//!
//! Owns: the assignors `range` and `roundrobin`, the bytes in which consumers say what they subscribe to and are told what they
//! read (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//! Does not own: when a group assigns.

use std::collections::{BTreeMap, BTreeSet};

use crate::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use crate::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::messages::join_group_response::JoinGroupResponseMember;
use crate::{DecodeError, EncodeError, Reader, Str, Writer};
use bytes::Bytes;

/// Names that Kafka clients know these by, the preferred one first.
pub const ASSIGNORS: [&str; 2] = [RANGE, "roundrobin"];
const RANGE: &str = "range";
/// Version of what is written: the first has all that is needed, and every client reads it.
const VERSION: i16 = 0;

/// A member and the topics that it wants.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id.
    pub member: Str,
    /// Static members come first, by their instance.
    order: (bool, Str),
    topics: BTreeSet<Str>,
}

/// Partitions of each topic that each member reads.
pub type Assignment = BTreeMap<Str, BTreeMap<Str, Vec<i32>>>;

/// What a subscriber says when it joins.
///
/// # Errors
/// If there are more topics than the protocol can count.
pub fn subscription(topics: &[Str]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    let subscription = ConsumerProtocolSubscription {
        topics: topics.to_vec(),
        ..ConsumerProtocolSubscription::default()
    };
    subscription.encode(&mut writer, VERSION)?;
    writer.into_bytes()
}

impl Subscriber {
    /// What a member said. One whose words are not understood gets nothing.
    #[must_use]
    pub fn of(member: &JoinGroupResponseMember) -> Self {
        let mut reader = Reader::new(member.metadata.clone());
        let said = reader.i16().and_then(|version| {
            let known = version.min(ConsumerProtocolSubscription::VERSION_MAX);
            ConsumerProtocolSubscription::decode(&mut reader, known)
        });
        let order = match &member.group_instance_id {
            Some(instance) => (false, instance.clone()),
            None => (true, member.member_id.clone()),
        };
        Self {
            member: member.member_id.clone(),
            order,
            topics: said.map(|said| said.topics.into_iter().collect()).unwrap_or_default(),
        }
    }
}

/// All topics that somebody wants.
#[must_use]
pub fn wanted(subscribers: &[Subscriber]) -> BTreeSet<Str> {
    subscribers
        .iter()
        .flat_map(|subscriber| subscriber.topics.iter().cloned())
        .collect()
}

/// Assigns every partition of the topics to one of those who want it.
#[must_use]
pub fn assign(assignor: &str, mut subscribers: Vec<Subscriber>, topics: &BTreeMap<Str, i32>) -> Assignment {
    subscribers.sort_by(|a, b| a.order.cmp(&b.order));
    if assignor == RANGE {
        range(&subscribers, topics)
    } else {
        round_robin(&subscribers, topics)
    }
}

/// Each topic on its own: neighbouring partitions, one more for the first members if it does not divide.
fn range(subscribers: &[Subscriber], topics: &BTreeMap<Str, i32>) -> Assignment {
    let mut assignment = Assignment::new();
    for (topic, partitions) in topics {
        let wanting: Vec<&Subscriber> = subscribers.iter().filter(|one| one.topics.contains(topic)).collect();
        let Ok(members) = i32::try_from(wanting.len()) else {
            continue;
        };
        let mut next = 0;
        for (subscriber, nth) in wanting.iter().zip(0..) {
            let share = partitions / members + i32::from(nth < partitions % members);
            if share > 0 {
                let topics = assignment.entry(subscriber.member.clone()).or_default();
                topics.insert(topic.clone(), (next..next + share).collect());
            }
            next += share;
        }
    }
    assignment
}

/// All partitions in turn.
fn round_robin(subscribers: &[Subscriber], topics: &BTreeMap<Str, i32>) -> Assignment {
    let mut assignment = Assignment::new();
    let mut turns = subscribers.iter().cycle();
    for (topic, partitions) in topics {
        if !subscribers.iter().any(|one| one.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*partitions {
            let taker = turns.find(|one| one.topics.contains(topic));
            let taker = taker.expect("somebody wants it, and turns never end");
            let topics = assignment.entry(taker.member.clone()).or_default();
            topics.entry(topic.clone()).or_default().push(partition);
        }
    }
    assignment
}

/// A member's assignment as it is told.
///
/// # Errors
/// If there is more of it than the protocol can count.
pub fn encode(topics: Option<&BTreeMap<Str, Vec<i32>>>) -> Result<Bytes, EncodeError> {
    let assigned = topics.into_iter().flatten().map(|(topic, partitions)| TopicPartition {
        topic: topic.clone(),
        partitions: partitions.clone(),
    });
    let mut writer = Writer::new();
    writer.i16(VERSION);
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    assignment.encode(&mut writer, VERSION)?;
    writer.into_bytes()
}

/// A member's assignment as it was told; no bytes are no partitions.
///
/// # Errors
/// Bytes that are no assignment.
pub fn decode(told: &Bytes) -> Result<BTreeMap<Str, Vec<i32>>, DecodeError> {
    if told.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut reader = Reader::new(told.clone());
    let version = reader.i16()?.min(ConsumerProtocolAssignment::VERSION_MAX);
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, version)?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics.map(|one| (one.topic, one.partitions)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &'static str, instance: Option<&'static str>, topics: &[&'static str]) -> Subscriber {
        let topics: Vec<Str> = topics.iter().map(|topic| Str::from_static(topic)).collect();
        Subscriber::of(&JoinGroupResponseMember {
            member_id: Str::from_static(id),
            group_instance_id: instance.map(Str::from_static),
            metadata: subscription(&topics).unwrap(),
        })
    }

    fn topics(sizes: &[(&'static str, i32)]) -> BTreeMap<Str, i32> {
        sizes
            .iter()
            .map(|(name, size)| (Str::from_static(name), *size))
            .collect()
    }

    fn told(assignment: &Assignment, member: &str) -> Vec<(String, Vec<i32>)> {
        let found = assignment.get(member).into_iter().flatten();
        found
            .map(|(topic, partitions)| (String::from(topic.clone()), partitions.clone()))
            .collect()
    }

    #[test]
    fn ranges_are_neighbours_and_the_first_get_one_more() {
        let members = vec![
            member("b", None, &["t", "u"]),
            member("a", None, &["t"]),
            member("z", Some("1"), &["t"]),
        ];
        let found = assign("range", members, &topics(&[("t", 7), ("u", 2)]));
        assert_eq!(told(&found, "z"), [("t".to_owned(), vec![0, 1, 2])]);
        assert_eq!(told(&found, "a"), [("t".to_owned(), vec![3, 4])]);
        assert_eq!(
            told(&found, "b"),
            [("t".to_owned(), vec![5, 6]), ("u".to_owned(), vec![0, 1])]
        );
        let few = assign(
            "range",
            vec![member("a", None, &["t"]), member("b", None, &["t"])],
            &topics(&[("t", 1)]),
        );
        assert_eq!((told(&few, "a").len(), told(&few, "b").len()), (1, 0));
    }

    #[test]
    fn turns_pass_over_who_does_not_want_a_topic() {
        let members = vec![
            member("a", None, &["t"]),
            member("b", None, &["t", "u"]),
            member("c", None, &[]),
        ];
        let found = assign("roundrobin", members, &topics(&[("t", 3), ("u", 2), ("v", 1)]));
        assert_eq!(told(&found, "a"), [("t".to_owned(), vec![0, 2])]);
        assert_eq!(
            told(&found, "b"),
            [("t".to_owned(), vec![1]), ("u".to_owned(), vec![0, 1])]
        );
        assert_eq!(told(&found, "c"), []);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_told() {
        let told = BTreeMap::from([(Str::from_static("t"), vec![0, 2]), (Str::from_static("u"), vec![1])]);
        assert_eq!(decode(&encode(Some(&told)).unwrap()).unwrap(), told);
        assert_eq!(decode(&Bytes::new()).unwrap(), BTreeMap::new());
        assert!(decode(&Bytes::from_static(b"\x00")).is_err());
    }

    #[test]
    fn words_that_are_not_understood_get_nothing() {
        let garbled = Subscriber::of(&JoinGroupResponseMember {
            metadata: Bytes::from_static(b"\x00\x01\xff"),
            ..JoinGroupResponseMember::default()
        });
        assert!(garbled.topics.is_empty());
    }
}
