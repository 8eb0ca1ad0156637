//! The three rules, each with explicit times, and what they must never do.

use std::time::Duration;

use bytes::Bytes;
use esker_segment::id::{PartitionIndex, Timestamp, TopicId, TopicPartition};
use esker_segment::index::BatchMeta;
use esker_segment::segment::{OrderList, SegmentHeader};

use super::{Buffer, BufferSettings, FlushDecision, FlushReason, Ticket};

const SETTINGS: BufferSettings = BufferSettings {
    segment_bytes_max: 1000,
    index_bytes_max: 300,
    flush_age: Duration::from_millis(100),
    flush_interval_min: Duration::from_millis(40),
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
    }
}

fn push(buffer: &mut Buffer, now: u64, partition: u32, bytes: u32) -> Ticket {
    let meta = BatchMeta {
        records: 1,
        bytes,
        max_timestamp: Timestamp(0),
        crc: 0,
        producer: None,
    };
    buffer
        .push(ms(now), at(partition), meta, vec![0; bytes as usize].into())
        .unwrap()
}

/// A buffer whose last flush began at this time.
fn flushed_at(now: u64) -> Buffer {
    let mut buffer = Buffer::new(SETTINGS);
    push(&mut buffer, now, 0, 61);
    assert!(buffer.take(ms(now)).is_some());
    buffer
}

#[test]
fn nothing_is_flushed_while_nothing_is_buffered() {
    let mut buffer = Buffer::new(SETTINGS);
    assert_eq!(buffer.decide_flush(ms(0), 0), FlushDecision::Idle);
    assert!(buffer.take(ms(0)).is_none());
    let buffer = flushed_at(5);
    assert_eq!(buffer.decide_flush(ms(100_000), 0), FlushDecision::Idle);
}

#[test]
fn a_lone_record_does_not_wait() {
    let mut buffer = Buffer::new(SETTINGS);
    push(&mut buffer, 7, 0, 61);
    assert_eq!(
        buffer.decide_flush(ms(7), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
    let mut buffer = flushed_at(0);
    push(&mut buffer, 40, 0, 61);
    assert_eq!(
        buffer.decide_flush(ms(40), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn the_leading_edge_counts_from_the_begin_of_the_last_flush() {
    let mut buffer = flushed_at(10);
    push(&mut buffer, 20, 0, 61);
    assert_eq!(buffer.decide_flush(ms(20), 0), FlushDecision::WaitUntil(ms(50)));
    assert_eq!(buffer.decide_flush(ms(49), 0), FlushDecision::WaitUntil(ms(50)));
    assert_eq!(
        buffer.decide_flush(ms(50), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn an_upload_in_flight_that_takes_longer_than_the_interval_holds_nothing_back() {
    let mut buffer = flushed_at(0);
    push(&mut buffer, 20, 0, 61);
    assert_eq!(buffer.decide_flush(ms(20), 1), FlushDecision::WaitUntil(ms(40)));
    assert_eq!(
        buffer.decide_flush(ms(40), 1),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn a_short_interval_leaves_a_short_upload_time_to_end() {
    let mut buffer = flushed_at(0);
    buffer.set_settings(BufferSettings {
        flush_interval_min: ms(1),
        ..SETTINGS
    });
    push(&mut buffer, 2, 0, 61);
    assert_eq!(buffer.decide_flush(ms(2), 1), FlushDecision::WaitUntil(ms(10)));
    assert_eq!(
        buffer.decide_flush(ms(10), 1),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

/// A buffer on a quick disk: one batch was flushed at 0 and answered at 4 ms, when so many others waited.
fn answered(waiting: u64) -> Buffer {
    let mut buffer = Buffer::new(BufferSettings {
        flush_interval_min: ms(1),
        ..BufferSettings::LOCAL_DIRECTORY
    });
    push(&mut buffer, 0, 0, 61);
    assert!(buffer.take(ms(0)).is_some());
    (0..waiting).for_each(|_| _ = push(&mut buffer, 3, 0, 61));
    if waiting > 0 {
        // Uploaded, but not answered.
        assert_eq!(buffer.decide_flush(ms(3), 0), FlushDecision::WaitUntil(ms(8)));
    }
    buffer.on_answered(ms(4), 1);
    buffer
}

#[test]
fn a_small_flush_waits_until_who_was_answered_has_sent_again() {
    let mut buffer = answered(2);
    assert_eq!(buffer.decide_flush(ms(4), 0), FlushDecision::WaitUntil(ms(6)));
    push(&mut buffer, 5, 0, 61);
    assert_eq!(
        buffer.decide_flush(ms(5), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn a_small_flush_waits_for_half_a_flush_at_most() {
    assert_eq!(
        answered(2).decide_flush(ms(6), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn a_lone_producer_waits_for_nobody() {
    let mut buffer = answered(0);
    push(&mut buffer, 4, 0, 61);
    assert_eq!(
        buffer.decide_flush(ms(4), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
}

#[test]
fn a_large_flush_waits_for_uploads_only() {
    let mut buffer = answered(2);
    push(&mut buffer, 4, 0, 1 << 20);
    assert_eq!(
        buffer.decide_flush(ms(4), 0),
        FlushDecision::Flush(FlushReason::LeadingEdge)
    );
    assert_eq!(buffer.decide_flush(ms(4), 1), FlushDecision::WaitUntil(ms(8)));
}

#[test]
fn age_counts_from_the_oldest_record_of_the_open_segment() {
    let mut buffer = flushed_at(0);
    buffer.set_settings(BufferSettings {
        flush_interval_min: ms(1000),
        ..SETTINGS
    });
    push(&mut buffer, 10, 0, 61);
    buffer.take(ms(60));
    push(&mut buffer, 70, 0, 61);
    assert_eq!(buffer.decide_flush(ms(169), 3), FlushDecision::WaitUntil(ms(170)));
    assert_eq!(buffer.decide_flush(ms(170), 3), FlushDecision::Flush(FlushReason::Age));
}

#[test]
fn a_short_age_comes_before_the_edge() {
    let mut buffer = flushed_at(0);
    buffer.set_settings(BufferSettings {
        flush_age: ms(5),
        ..SETTINGS
    });
    push(&mut buffer, 1, 0, 61);
    assert_eq!(buffer.decide_flush(ms(1), 0), FlushDecision::WaitUntil(ms(6)));
    assert_eq!(buffer.decide_flush(ms(6), 0), FlushDecision::Flush(FlushReason::Age));
}

#[test]
fn enough_bytes_are_flushed_whatever_is_in_flight() {
    let mut buffer = flushed_at(0);
    push(&mut buffer, 1, 0, 999);
    assert_eq!(buffer.decide_flush(ms(1), 9), FlushDecision::WaitUntil(ms(40)));
    push(&mut buffer, 1, 0, 61);
    assert_eq!(buffer.decide_flush(ms(1), 9), FlushDecision::Flush(FlushReason::Full));
}

#[test]
fn enough_index_is_flushed_whatever_the_bytes() {
    let mut buffer = Buffer::new(BufferSettings {
        segment_bytes_max: u64::MAX,
        ..SETTINGS
    });
    let mut pushed = 0;
    while buffer.decide_flush(ms(0), 1) != FlushDecision::Flush(FlushReason::Full) {
        push(&mut buffer, 0, pushed, 61);
        pushed += 1;
    }
    let taken = buffer.take(ms(0)).unwrap();
    let segment = taken.batches.finish(&SegmentHeader::default(), &OrderList::default());
    let index_bytes = segment.index.encoded_len();
    assert!(
        (200..=340).contains(&index_bytes),
        "{index_bytes} bytes for a limit of 300"
    );
}

#[test]
fn one_request_of_many_partitions_becomes_several_segments_each_within_the_limits() {
    let mut buffer = Buffer::new(SETTINGS);
    let tickets: Vec<Ticket> = (0..100).map(|partition| push(&mut buffer, 0, partition, 100)).collect();
    assert_eq!(buffer.bytes(), 10_000);
    let mut seen = Vec::new();
    while let Some(taken) = buffer.take(ms(1)) {
        assert!(taken.batches.bytes() < 1000 + 100);
        seen.extend(taken.tickets());
    }
    assert_eq!(seen, tickets, "each once, in order");
    assert_eq!((buffer.bytes(), buffer.is_empty()), (0, true));
}

#[test]
fn tickets_of_a_segment_are_those_of_its_places() {
    let mut buffer = flushed_at(0);
    let tickets: Vec<Ticket> = [5, 3, 5].map(|partition| push(&mut buffer, 1, partition, 61)).to_vec();
    assert_eq!(tickets, [1, 2, 3].map(Ticket));
    let taken = buffer.take(ms(1)).unwrap();
    assert_eq!(taken.tickets().collect::<Vec<_>>(), tickets);
    let segment = taken.batches.finish(&SegmentHeader::default(), &OrderList::default());
    let runs: Vec<_> = segment
        .places
        .iter()
        .map(|place| (segment.index.runs[place.run].partition.0, place.batch))
        .collect();
    assert_eq!(runs, [(5, 0), (3, 0), (5, 1)]);
}

#[test]
fn a_refused_batch_takes_no_ticket_and_leaves_nothing_behind() {
    let mut buffer = Buffer::new(SETTINGS);
    let meta = BatchMeta {
        records: 1,
        bytes: 61,
        max_timestamp: Timestamp(0),
        crc: 0,
        producer: None,
    };
    assert!(buffer.push(ms(0), at(0), meta, Bytes::from_static(b"short")).is_err());
    assert!(buffer.is_empty());
    assert_eq!(push(&mut buffer, 0, 0, 61), Ticket(0));
}

#[test]
fn lowered_limits_flush_what_is_already_there() {
    let mut buffer = flushed_at(0);
    push(&mut buffer, 1, 0, 500);
    buffer.set_settings(BufferSettings {
        segment_bytes_max: 400,
        ..SETTINGS
    });
    assert_eq!(buffer.decide_flush(ms(1), 1), FlushDecision::Flush(FlushReason::Full));
}
