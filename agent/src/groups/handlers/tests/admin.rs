//! Groups as operators see and remove them.

use super::*;

#[tokio::test(start_paused = true)]
async fn groups_are_described_as_people_know_them() {
    let bench = bench();
    let joined = settled(&bench).await;
    bench.log.put("offsets-only", at(ORDERS, 0), 5);
    let request = DescribeGroupsRequest {
        groups: vec![Str::from("g"), Str::from("offsets-only"), Str::from("nothing")],
        include_authorized_operations: false,
    };
    for version in 0..=6 {
        let response = wire_trip(
            &bench.coordinator.describe_groups(&request, &ctx(version)).await,
            version,
        );
        let states: Vec<(&str, i16)> = response
            .groups
            .iter()
            .map(|g| (&*g.group_state, g.error_code))
            .collect();
        let not_found = if version >= 6 {
            ErrorCode::GroupIdNotFound.code()
        } else {
            0
        };
        assert_eq!(states, [("Stable", 0), ("Empty", 0), ("Dead", not_found)]);
        let group = &response.groups[0];
        assert_eq!((&*group.protocol_type, &*group.protocol_data), ("consumer", "range"));
        let member = &group.members[0];
        assert_eq!((&member.member_id, &*member.client_id), (&joined.member_id, "app"));
        assert_eq!(
            (&*member.client_host, &member.member_assignment[..]),
            ("/10.0.0.7", &b"all"[..])
        );
        assert_eq!(member.member_metadata, subscription(&["orders"]));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_may_be_done_with_a_group_that_does_not_exist() {
    let bench = bench();
    settled(&bench).await;
    let request = DescribeGroupsRequest {
        groups: vec![Str::from("g"), Str::from("nothing")],
        include_authorized_operations: true,
    };
    let operations = async |version| {
        let response = bench.coordinator.describe_groups(&request, &ctx(version)).await;
        let groups = wire_trip(&response, version).groups.into_iter();
        groups.map(|group| group.authorized_operations).collect::<Vec<_>>()
    };
    let all = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
    // Before version 6 it is a dead group, and no error.
    assert_eq!(operations(5).await, [all, all]);
    assert_eq!(operations(6).await, [all, i32::MIN]);
}

#[tokio::test(start_paused = true)]
async fn list_knows_members_and_offsets_and_filters() {
    let bench = bench();
    settled(&bench).await;
    bench.log.put("g", at(ORDERS, 0), 5);
    bench.log.put("offsets-only", at(ORDERS, 0), 5);
    let list = async |states: &[&str], types: &[&str], version| {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|text| Str::from(*text)).collect(),
            types_filter: types.iter().map(|text| Str::from(*text)).collect(),
        };
        let response = wire_trip(&bench.coordinator.list_groups(&request).await, version);
        let groups = response.groups.into_iter();
        groups
            .map(|g| (g.group_id.to_string(), g.group_state.to_string()))
            .collect::<Vec<_>>()
    };
    let named = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    for version in 0..=3 {
        assert_eq!(
            list(&[], &[], version).await,
            [named("g", ""), named("offsets-only", "")]
        );
    }
    for version in 4..=5 {
        assert_eq!(
            list(&[], &[], version).await,
            [named("g", "Stable"), named("offsets-only", "Empty")]
        );
        assert_eq!(list(&["empty"], &[], version).await, [named("offsets-only", "Empty")]);
    }
    assert_eq!(list(&["Stable"], &["classic"], 5).await, [named("g", "Stable")]);
    assert_eq!(list(&[], &["consumer"], 5).await, []);
    // A list denies what it does not have.
    *bench.topics.cut_off.lock().unwrap() = true;
    let cut_off = bench.coordinator.list_groups(&ListGroupsRequest::default()).await;
    assert_eq!(cut_off.error_code, ErrorCode::CoordinatorLoadInProgress.code());
    assert!(cut_off.groups.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_empty_groups_are_deleted() {
    let bench = bench();
    settled(&bench).await;
    bench.log.put("offsets-only", at(ORDERS, 0), 5);
    let names = ["g", "offsets-only", "nothing", "", "offsets-only"];
    let request = DeleteGroupsRequest {
        groups_names: names.iter().map(|name| Str::from(*name)).collect(),
    };
    let response = wire_trip(&bench.coordinator.delete_groups(&request).await, 2);
    let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
    let missing = ErrorCode::GroupIdNotFound.code();
    // Who is named twice is answered once.
    assert_eq!(codes, [ErrorCode::NonEmptyGroup.code(), 0, missing, missing]);
    assert_eq!(bench.log.committed("offsets-only", at(ORDERS, 0)), None);
}

fn to_delete(topic: &str, partition_index: i32) -> OffsetDeleteRequestTopic {
    OffsetDeleteRequestTopic {
        name: Str::from(topic),
        partitions: vec![OffsetDeleteRequestPartition { partition_index }],
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_topics_that_members_read_are_not_deleted() {
    let bench = bench();
    bench.log.put("g", at(ORDERS, 0), 5);
    bench.log.put("g", at(LATE, 0), 5);
    settled(&bench).await;
    let mut request = OffsetDeleteRequest {
        group_id: Str::from("g"),
        topics: vec![
            to_delete("orders", 0),
            to_delete("late", 0),
            to_delete("nothing", 0),
            to_delete("orders", 99),
        ],
    };
    let response = wire_trip(&bench.coordinator.offset_delete(&request).await, 0);
    let codes: Vec<i16> = response
        .topics
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    let subscribed = ErrorCode::GroupSubscribedToTopic.code();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!((response.error_code, codes), (0, vec![subscribed, 0, unknown, unknown]));
    assert!(bench.log.committed("g", at(ORDERS, 0)).is_some());
    assert!(bench.log.committed("g", at(LATE, 0)).is_none());
    request.group_id = Str::from("nothing");
    let response = bench.coordinator.offset_delete(&request).await;
    assert_eq!(response.error_code, ErrorCode::GroupIdNotFound.code());
    request.group_id = Str::new();
    let response = bench.coordinator.offset_delete(&request).await;
    assert_eq!(response.error_code, ErrorCode::InvalidGroupId.code());
}

#[tokio::test(start_paused = true)]
async fn offsets_stay_where_a_subscription_cannot_be_read() {
    let bench = bench();
    bench.log.put("g", at(LATE, 0), 5);
    let mut joins = join_request(&Str::new());
    joins.protocols[0].metadata = Bytes::from_static(b"\0");
    // Version 3 needs no second request.
    assert_eq!(bench.coordinator.join_group(&joins, &ctx(3)).await.error_code, 0);
    let request = OffsetDeleteRequest {
        group_id: Str::from("g"),
        topics: vec![to_delete("late", 0), to_delete("nothing", 0)],
    };
    let response = wire_trip(&bench.coordinator.offset_delete(&request).await, 0);
    let codes = response.topics.iter().map(|topic| topic.partitions[0].error_code);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(
        (response.error_code, codes.collect::<Vec<_>>()),
        (0, vec![ErrorCode::GroupSubscribedToTopic.code(), unknown])
    );
    assert!(bench.log.committed("g", at(LATE, 0)).is_some());
}
