//! Look-ups over several levels, gaps, and objects that are gone.

use super::*;

fn assert_send<T: Send>(_: T) {}

#[allow(dead_code)]
fn look_ups_can_be_spawned(reader: &MergedReader, at: TopicPartition) {
    assert_send(reader.locate(at, Offset(0), Offset(1), 1));
    assert_send(reader.locate_timestamp(at, Offset(0), Timestamp(1)));
    assert_send(reader.locate_max_timestamp(at, Offset(0), Offset(1)));
}
