//! OffsetCommit and OffsetFetch.

use super::*;

/// A commit of offset 42 with an epoch and metadata, to partitions of topics.
pub(super) fn commit_request(version: i16, topics: &[(&str, Uuid, &[i32])]) -> OffsetCommitRequest {
    let topics = topics
        .iter()
        .map(|(name, topic_id, partitions)| OffsetCommitRequestTopic {
            name: if version < 10 { Str::from(*name) } else { Str::new() },
            topic_id: if version < 10 { Uuid::ZERO } else { *topic_id },
            partitions: partitions
                .iter()
                .map(|index| OffsetCommitRequestPartition {
                    partition_index: *index,
                    committed_offset: 42,
                    committed_leader_epoch: 3,
                    committed_metadata: Some(Str::from("stream time é")),
                })
                .collect(),
        });
    OffsetCommitRequest {
        group_id: Str::from("g"),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

const ORDERS_ID: Uuid = Uuid(ORDERS.0);
const UNKNOWN_ID: Uuid = Uuid(99);

async fn commit(bench: &Bench, request: &OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let request = wire_trip(request, version);
    wire_trip(&bench.coordinator.offset_commit(&request, &ctx(version)).await, version)
}

fn commit_codes(response: &OffsetCommitResponse) -> Vec<Vec<i16>> {
    let topics = response.topics.iter();
    topics
        .map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn offset_epoch_metadata_and_time_are_committed_in_every_version() {
    for version in 2..=10 {
        let bench = bench();
        let request = commit_request(version, &[("orders", ORDERS_ID, &[1])]);
        assert_eq!(commit_codes(&commit(&bench, &request, version).await), [[0]]);
        let committed = bench.log.committed("g", at(ORDERS, 1)).unwrap();
        assert_eq!((committed.offset.0, &*committed.metadata), (42, "stream time é"));
        assert_eq!(committed.leader_epoch, (version >= 6).then_some(3));
        assert_eq!(committed.timestamp, crate::groups::fakes::WALL_CLOCK);
    }
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_no_partition_can_have_is_kept() {
    let bench = bench();
    let mut request = commit_request(9, &[("orders", ORDERS_ID, &[0, 1])]);
    assert_eq!(commit_codes(&commit(&bench, &request, 9).await), [[0, 0]]);
    for offset in [-2, -1, i64::MIN] {
        request.topics[0].partitions[1].committed_offset = offset;
        assert_eq!(commit_codes(&commit(&bench, &request, 9).await), [[0, 0]], "{offset}");
        assert_eq!(bench.log.committed("g", at(ORDERS, 1)).unwrap().offset.0, offset);
        assert_eq!(bench.log.committed("g", at(ORDERS, 0)).unwrap().offset.0, 42);
    }
}

#[tokio::test(start_paused = true)]
async fn partition_that_is_refused_does_not_hold_back_the_others() {
    for (version, unknown) in [(9, ErrorCode::UnknownTopicOrPartition), (10, ErrorCode::UnknownTopicId)] {
        let bench = bench();
        let topics: [(&str, Uuid, &[i32]); 3] = [
            ("orders", ORDERS_ID, &[0, 4, -1, 1]),
            ("nothing", UNKNOWN_ID, &[0]),
            ("late", Uuid(LATE.0), &[0]),
        ];
        let mut request = commit_request(version, &topics);
        request.topics[0].partitions[3].committed_metadata = Some(Str::from("é".repeat(4097)));
        let response = commit(&bench, &request, version).await;
        let no_partition = ErrorCode::UnknownTopicOrPartition.code();
        let too_large = ErrorCode::OffsetMetadataTooLarge.code();
        assert_eq!(
            commit_codes(&response),
            [
                vec![0, no_partition, no_partition, too_large],
                vec![unknown.code()],
                vec![0]
            ]
        );
        let echoed: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (&*topic.name, topic.topic_id))
            .collect();
        let asked: Vec<_> = request
            .topics
            .iter()
            .map(|topic| (&*topic.name, topic.topic_id))
            .collect();
        assert_eq!(echoed, asked);
        assert!(bench.log.committed("g", at(ORDERS, 0)).is_some());
        assert!(bench.log.committed("g", at(ORDERS, 1)).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_of_the_longest_length_is_kept() {
    let bench = bench();
    let mut request = commit_request(9, &[("orders", ORDERS_ID, &[0])]);
    request.topics[0].partitions[0].committed_metadata = Some(Str::from("é".repeat(4096)));
    assert_eq!(commit_codes(&commit(&bench, &request, 9).await), [[0]]);
    request.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(commit_codes(&commit(&bench, &request, 9).await), [[0]]);
    assert_eq!(&*bench.log.committed("g", at(ORDERS, 0)).unwrap().metadata, "");
}

#[tokio::test(start_paused = true)]
async fn commit_that_the_group_or_the_log_refuses_fails_for_each_partition() {
    let bench = bench();
    let joined = settled(&bench).await;
    let mut request = commit_request(9, &[("orders", ORDERS_ID, &[0, 9]), ("nothing", UNKNOWN_ID, &[0])]);
    let no_partition = ErrorCode::UnknownTopicOrPartition.code();
    let with = |code: ErrorCode| [vec![code.code(), no_partition], vec![no_partition]];
    assert_eq!(
        commit_codes(&commit(&bench, &request, 9).await),
        with(ErrorCode::UnknownMemberId)
    );
    request.member_id = joined.member_id;
    request.generation_id_or_member_epoch = 7;
    assert_eq!(
        commit_codes(&commit(&bench, &request, 9).await),
        with(ErrorCode::IllegalGeneration)
    );
    request.generation_id_or_member_epoch = 1;
    for (error, code) in [
        (OffsetLogError::Unavailable, ErrorCode::CoordinatorNotAvailable),
        (OffsetLogError::OutcomeUnknown, ErrorCode::CoordinatorNotAvailable),
        (OffsetLogError::Fenced, ErrorCode::NotCoordinator),
        (OffsetLogError::TooLarge, ErrorCode::InvalidCommitOffsetSize),
        (OffsetLogError::Full, ErrorCode::CoordinatorNotAvailable),
    ] {
        *bench.log.commit_error.lock().unwrap() = Some(error);
        assert_eq!(commit_codes(&commit(&bench, &request, 9).await), with(code));
    }
    *bench.log.commit_error.lock().unwrap() = None;
    assert_eq!(commit_codes(&commit(&bench, &request, 9).await), with(ErrorCode::None));
}

#[tokio::test(start_paused = true)]
async fn topic_that_may_exist_is_not_denied_without_the_barrier() {
    let bench = bench();
    *bench.topics.cut_off.lock().unwrap() = true;
    let request = commit_request(10, &[("late", Uuid(LATE.0), &[0])]);
    let try_again = ErrorCode::CoordinatorLoadInProgress.code();
    assert_eq!(commit_codes(&commit(&bench, &request, 10).await), [[try_again]]);
    let asked = fetch_request(9, Some(&[("late", Uuid::ZERO, &[0])]));
    assert_eq!(fetch(&bench, &asked, 9).await.groups[0].error_code, try_again);
}

/// A fetch for group "g" in the form of its version.
pub(super) fn fetch_request(version: i16, topics: Option<&[(&str, Uuid, &[i32])]>) -> OffsetFetchRequest {
    if version < 8 {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|(name, _, partitions)| OffsetFetchRequestTopic {
                name: Str::from(*name),
                partition_indexes: partitions.to_vec(),
            });
            topics.collect()
        });
        return OffsetFetchRequest {
            group_id: Str::from("g"),
            topics,
            ..OffsetFetchRequest::default()
        };
    }
    let topics = topics.map(|topics| {
        let topics = topics
            .iter()
            .map(|(name, topic_id, partitions)| OffsetFetchRequestTopics {
                name: if version < 10 { Str::from(*name) } else { Str::new() },
                topic_id: if version < 10 { Uuid::ZERO } else { *topic_id },
                partition_indexes: partitions.to_vec(),
            });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: Str::from("g"),
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    OffsetFetchRequest {
        groups: vec![group],
        ..OffsetFetchRequest::default()
    }
}

async fn fetch(bench: &Bench, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let request = wire_trip(request, version);
    wire_trip(&bench.coordinator.offset_fetch(&request, &ctx(version)).await, version)
}

/// (partition, offset, error) of each topic of the first group.
fn fetched(response: &OffsetFetchResponse) -> Vec<Vec<(i32, i64, i16)>> {
    if let Some(group) = response.groups.first() {
        let topics = group.topics.iter().map(|topic| {
            topic
                .partitions
                .iter()
                .map(|p| (p.partition_index, p.committed_offset, p.error_code))
                .collect()
        });
        return topics.collect();
    }
    let topics = response.topics.iter().map(|topic| {
        topic
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.committed_offset, p.error_code))
            .collect()
    });
    topics.collect()
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_come_back_and_missing_ones_are_minus_one_without_error() {
    for version in 1..=10 {
        let bench = bench();
        let commit_version = version.max(2);
        commit(
            &bench,
            &commit_request(commit_version, &[("orders", ORDERS_ID, &[2])]),
            commit_version,
        )
        .await;
        let asked: [(&str, Uuid, &[i32]); 2] = [("orders", ORDERS_ID, &[1, 2, 77, -3]), ("nothing", UNKNOWN_ID, &[0])];
        let response = fetch(&bench, &fetch_request(version, Some(&asked)), version).await;
        let missing_topic = if version < 10 {
            0
        } else {
            ErrorCode::UnknownTopicId.code()
        };
        assert_eq!(
            fetched(&response),
            [
                vec![(1, -1, 0), (2, 42, 0), (77, -1, 0), (-3, -1, 0)],
                vec![(0, -1, missing_topic)]
            ],
            "version {version}"
        );
        let metadata = match response.groups.first() {
            Some(group) => group.topics[0].partitions[1].metadata.clone(),
            None => response.topics[0].partitions[1].metadata.clone(),
        };
        assert_eq!(metadata.as_deref(), Some("stream time é"));
    }
}

#[tokio::test(start_paused = true)]
async fn missing_group_has_no_offsets_and_no_error() {
    let bench = bench();
    for version in 1..=10 {
        let response = fetch(
            &bench,
            &fetch_request(version, Some(&[("orders", ORDERS_ID, &[0])])),
            version,
        )
        .await;
        assert_eq!(fetched(&response), [[(0, -1, 0)]]);
        assert_eq!(response.error_code, 0);
        if version >= 2 {
            let response = fetch(&bench, &fetch_request(version, None), version).await;
            assert_eq!(fetched(&response), Vec::<Vec<_>>::new());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_topics_are_fetched_when_none_is_named() {
    for version in 2..=10 {
        let bench = bench();
        bench.log.put("g", at(ORDERS, 3), 30);
        bench.log.put("g", at(ORDERS, 0), 10);
        bench.log.put("g", at(esker_segment::id::TopicId(5), 0), 99);
        let response = fetch(&bench, &fetch_request(version, None), version).await;
        assert_eq!(
            fetched(&response),
            [[(0, 10, 0), (3, 30, 0)]],
            "a deleted topic is left out"
        );
        if version >= 10 {
            assert_eq!(response.groups[0].topics[0].topic_id, ORDERS_ID);
        } else if version >= 8 {
            assert_eq!(&*response.groups[0].topics[0].name, "orders");
        } else {
            assert_eq!(&*response.topics[0].name, "orders");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_groups_are_answered_in_their_order() {
    let bench = bench();
    bench.log.put("h", at(ORDERS, 0), 5);
    let mut request = fetch_request(8, Some(&[("orders", ORDERS_ID, &[0])]));
    let other = OffsetFetchRequestGroup {
        group_id: Str::from("h"),
        ..request.groups[0].clone()
    };
    request.groups.push(other);
    let response = fetch(&bench, &request, 8).await;
    let offsets: Vec<_> = response
        .groups
        .iter()
        .map(|group| (&*group.group_id, group.topics[0].partitions[0].committed_offset))
        .collect();
    assert_eq!(offsets, [("g", -1), ("h", 5)]);
}

#[tokio::test(start_paused = true)]
async fn offset_with_a_staged_successor_is_held_back_from_those_who_insist() {
    let bench = bench();
    bench.log.put("g", at(ORDERS, 0), 5);
    bench.log.stage("g", at(ORDERS, 0));
    bench.log.stage("g", at(ORDERS, 1));
    let unstable = ErrorCode::UnstableOffsetCommit.code();
    for topics in [Some(&[("orders", ORDERS_ID, &[0, 1][..])][..]), None] {
        let mut request = fetch_request(9, topics);
        request.require_stable = true;
        assert_eq!(
            fetched(&fetch(&bench, &request, 9).await),
            [[(0, -1, unstable), (1, -1, unstable)]]
        );
    }
    let response = fetch(&bench, &fetch_request(9, Some(&[("orders", ORDERS_ID, &[0, 1])])), 9).await;
    assert_eq!(fetched(&response), [[(0, 5, 0), (1, -1, 0)]]);
    assert_eq!(fetched(&fetch(&bench, &fetch_request(9, None), 9).await), [[(0, 5, 0)]]);
}

#[tokio::test(start_paused = true)]
async fn offsets_that_cannot_be_known_are_not_denied() {
    let bench = bench();
    *bench.log.fetch_error.lock().unwrap() = Some(OffsetLogError::Unavailable);
    let try_again = ErrorCode::CoordinatorLoadInProgress.code();
    let asked: [(&str, Uuid, &[i32]); 1] = [("orders", ORDERS_ID, &[0])];
    for version in 1..=10 {
        let response = fetch(&bench, &fetch_request(version, Some(&asked)), version).await;
        let seen = match version {
            1 => response.topics[0].partitions[0].error_code,
            2..=7 => response.error_code,
            _ => response.groups[0].error_code,
        };
        assert_eq!(seen, try_again, "version {version}");
    }
}
