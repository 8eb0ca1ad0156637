"""kafka-python with records: codecs, headers, seeking by time, an idempotent producer, a group of two.

Owns: what KafkaProducer and KafkaConsumer do. Does not own: the administrator (`kafka_python`).
"""
import threading

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

from harness import check, equal, wait_until
from other.kafka_python import NOON, admin, created, filled, subscribed

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def addresses(context):
    return context.shared().bootstrap.split(",")


def new_topic(context, stem, partitions=1):
    with admin(context) as client:
        return created(context, client, stem, partitions)


def read(consumer, count, timeout=30):
    """That many records, in the order they come."""
    found = []
    wait_until(lambda: found.extend(r for batch in consumer.poll(200).values() for r in batch) or len(found) >= count, timeout, f"{count} records")
    return found


def codecs_and_headers(context):
    """Keys, values, timestamps and headers come back as they were, whatever the codec; null too."""
    topic = new_topic(context, "kp-codecs")
    headers = [("a", b"1"), ("a", b"2"), ("long", b"x" * 300)]
    expected = []
    for number, codec in enumerate(CODECS):
        producer = KafkaProducer(bootstrap_servers=addresses(context), compression_type=codec, linger_ms=50)
        values = [f"{codec} {n} ".encode() * 40 for n in range(100)] + [None]
        sent = [producer.send(topic, value, b"key", headers, partition=0, timestamp_ms=NOON + number) for value in values]
        expected += [(sent[0].get(20).offset + n, b"key", value, NOON + number, headers) for n, value in enumerate(values)]
        equal([f.get(20).offset for f in sent], [found[0] for found in expected[-101:]], f"offsets with {codec}")
        producer.close()
    consumer = KafkaConsumer(bootstrap_servers=addresses(context), auto_offset_reset="earliest", max_poll_records=1000)
    consumer.assign([TopicPartition(topic, 0)])
    found = read(consumer, len(expected))
    equal([(r.offset, r.key, r.value, r.timestamp, r.headers) for r in found], expected, "what was read")
    consumer.close()


def seeking(context):
    """By offset, by time, to both ends; what is paused is not read."""
    topic = new_topic(context, "kp-seek", 2)
    filled(context, topic, 2, 50)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = KafkaConsumer(bootstrap_servers=addresses(context), fetch_max_wait_ms=100)
    equal(consumer.partitions_for_topic(topic), {0, 1}, "partitions")
    equal((consumer.beginning_offsets([zero]), consumer.end_offsets([one])), ({zero: 0}, {one: 50}), "both ends")
    found = consumer.offsets_for_times({zero: NOON + 20_500, one: NOON + 99_000})
    equal((found[zero].offset, found[zero].timestamp, found[one]), (21, NOON + 21_000, None), "offsets by time")
    consumer.assign([zero, one])
    consumer.pause(one)
    consumer.seek(zero, found[zero].offset)
    consumer.seek(one, 0)
    equal([(r.partition, r.offset) for r in read(consumer, 29)], [(0, n) for n in range(21, 50)], "from a time on, the other partition paused")
    equal(consumer.position(zero), 50, "where it stands")
    consumer.seek_to_beginning(zero)
    equal(read(consumer, 50)[0].offset, 0, "from the beginning")
    consumer.pause(zero)
    consumer.resume(one)
    consumer.seek(one, 45)
    equal([(r.partition, r.offset) for r in read(consumer, 5)], [(1, n) for n in range(45, 50)], "from an offset on, after the pause")
    consumer.close()


class Member(threading.Thread):
    """A consumer of a group in a thread of its own, which commits what it has read."""

    def __init__(self, context, topic, group):
        super().__init__(daemon=True)
        # A member that leaves just when its coordinator changes is asked for until its session ends, here as on Kafka.
        self.consumer = subscribed(context, topic, group, fetch_max_wait_ms=100, heartbeat_interval_ms=200, session_timeout_ms=10_000)
        self.read, self.assigned, self.ending, self.failed = [], set(), threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.ending.is_set():
                batches = self.consumer.poll(100)
                self.read += [(r.partition, r.offset, r.value) for batch in batches.values() for r in batch]
                if batches:
                    self.consumer.commit()
                self.assigned = {tp.partition for tp in self.consumer.assignment()}
            self.consumer.close(autocommit=False)
        except Exception as error:  # told by end()
            self.failed = error

    def end(self):
        self.ending.set()
        self.join(30)
        check(not self.is_alive() and self.failed is None, f"a member failed: {self.failed!r}")


def group_of_two(context):
    """A second member takes half of the partitions, gives them back, and every record is read once, before and after."""
    topic, group = new_topic(context, "kp-group", 4), context.topic("kp-group")
    filled(context, topic, 4, 25)
    first = Member(context, topic, group)
    wait_until(lambda: len(first.read) == 100, 30, "the first member has read everything")
    wait_until(lambda: first.assigned == {0, 1, 2, 3}, 30, "the only member has all partitions")
    second = Member(context, topic, group)
    wait_until(lambda: len(first.assigned) == len(second.assigned) == 2 and first.assigned | second.assigned == {0, 1, 2, 3}, 30, "two partitions each")
    producer = KafkaProducer(bootstrap_servers=addresses(context))
    for n in range(40):
        producer.send(topic, b"later %d" % n, partition=n % 4)
    producer.flush(20)
    wait_until(lambda: len(first.read) + len(second.read) == 140, 30, "both have read the rest")
    equal(len(second.read), 20, "records of the second member")
    first.end()
    wait_until(lambda: len(second.assigned) == 4, 30, "the second member has all partitions")
    producer.send(topic, b"last", partition=next(iter(first.assigned))).get(20)
    wait_until(lambda: len(second.read) == 21, 30, "the second member has read the last record")
    second.end()
    every = first.read + second.read
    equal((len(every), len(set(every))), (141, 141), "records, and different ones")
    with admin(context) as client:
        committed = {tp.partition: found.offset for tp, found in client.list_group_offsets(group)[group].items()}
    equal(sum(committed.values()), 141, f"committed offsets {committed}")
    reader = KafkaConsumer(bootstrap_servers=addresses(context), group_id=group, enable_auto_commit=False)
    reader.assign([TopicPartition(topic, 0)])
    reader.commit({TopicPartition(topic, 0): OffsetAndMetadata(7, "by hand", -1)})
    equal(reader.committed(TopicPartition(topic, 0), metadata=True)[:2], (7, "by hand"), "what a consumer committed and reads back")
    reader.close(autocommit=False)
    producer.close()


CASES = [codecs_and_headers, seeking, group_of_two]
