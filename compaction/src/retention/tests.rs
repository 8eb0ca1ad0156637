//! When a partition is trimmed, and to where.

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn pieces(of: &[(i64, u64, i64)]) -> Vec<Piece> {
    let piece = |(end, bytes, timestamp): &(i64, u64, i64)| Piece {
        end: Offset(*end),
        bytes: *bytes,
        max_timestamp: Timestamp(*timestamp),
    };
    of.iter().map(piece).collect()
}

fn view(log_start: i64, last_stable: i64) -> PartitionView {
    PartitionView {
        log_start: Offset(log_start),
        last_stable: Offset(last_stable),
        high_watermark: Offset(last_stable + 5),
    }
}

fn by_time(seconds: u64) -> TopicPolicy {
    TopicPolicy {
        retention: Some(Duration::from_secs(seconds)),
        deletes: true,
        ..TopicPolicy::default()
    }
}

fn by_size(bytes: u64) -> TopicPolicy {
    TopicPolicy {
        retention_bytes: Some(bytes),
        deletes: true,
        ..TopicPolicy::default()
    }
}

#[test]
fn pieces_whose_newest_record_is_too_old_go() {
    let all = pieces(&[(10, 1, 900_000), (20, 1, 989_999), (30, 1, 990_000), (40, 1, 1)]);
    assert_eq!(
        decide(view(0, 40), &all, by_time(10), NOW),
        Some(Offset(20)),
        "only a prefix goes"
    );
    assert_eq!(decide(view(0, 40), &all, by_time(1_000), NOW), None);
}

#[test]
fn records_without_a_time_are_never_too_old() {
    assert_eq!(decide(view(0, 10), &pieces(&[(10, 1, -1)]), by_time(1), NOW), None);
}

#[test]
fn pieces_go_as_long_as_enough_is_left() {
    let all = pieces(&[(10, 100, 1), (20, 100, 1), (30, 100, 1)]);
    assert_eq!(
        decide(view(0, 30), &all, by_size(250), NOW),
        None,
        "never below the limit"
    );
    assert_eq!(decide(view(0, 30), &all, by_size(200), NOW), Some(Offset(10)));
    assert_eq!(decide(view(0, 30), &all, by_size(0), NOW), Some(Offset(30)));
}

#[test]
fn nothing_goes_past_the_last_stable_offset() {
    let all = pieces(&[(10, 100, 1), (20, 100, 1)]);
    assert_eq!(decide(view(0, 15), &all, by_time(1), NOW), Some(Offset(10)));
}

#[test]
fn a_topic_without_delete_keeps_everything() {
    let policy = TopicPolicy {
        deletes: false,
        ..by_time(1)
    };
    assert_eq!(decide(view(0, 10), &pieces(&[(10, 1, 1)]), policy, NOW), None);
}

#[test]
fn a_clock_far_off_does_not_overflow() {
    let all = pieces(&[(10, 1, i64::MAX)]);
    assert_eq!(decide(view(0, 10), &all, by_time(1), Timestamp(i64::MIN)), None);
}
