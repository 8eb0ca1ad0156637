"""Records and topics behave as Kafka's documentation says: what is sent is what is read, and errors are the ones clients expect.

Every case passes on Apache Kafka 4.3 (see `judge`), but for the one that says otherwise.
"""
import struct
import threading
import time
import uuid

import stock
import wire
from harness import case, check, equal, wait_until

CODEC_BITS = {"none": 0, "uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
INVALID_REQUIRED_ACKS, OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS, INVALID_CONFIG = 21, 45, 46, 36, 37, 40


def fresh_topic(context, stem, partitions=1, **config):
    bootstrap = context.shared().bootstrap
    return bootstrap, stock.create_topic(bootstrap, context.topic(stem), partitions, **config)


def contents(messages):
    return [(m.key(), m.value()) for m in messages]


@case
def acks_0_1_all(context):
    """acks=0 gets no answer at all, 1 and all get one with the offset, anything else is refused."""
    bootstrap, topic = fresh_topic(context, "acks")
    with wire.Connection(bootstrap) as connection:
        wait_until(lambda: connection.produce_one(topic, wire.batch(b"first"))[0] == 0, 10, "the topic takes records")
        connection.correlation += 1
        connection.send_raw(wire.framed(wire.request(wire.PRODUCE, 8, connection.correlation, wire.produce_body({topic: {0: wire.batch(b"zero")}}, 0))))
        equal(connection.produce({topic: {0: wire.batch(b"one")}}, acks=1), {(topic, 0): (0, 2)}, "the next answer on the connection, acks=1")
        equal(connection.produce({topic: {0: wire.batch(b"all")}}, acks=-1), {(topic, 0): (0, 3)}, "acks=all")
        equal(connection.produce({topic: {0: wire.batch(b"two")}}, acks=2)[topic, 0][0], INVALID_REQUIRED_ACKS, "error of acks=2")
    equal([m.value() for m in stock.read(bootstrap, topic)], [b"first", b"zero", b"one", b"all"], "records")


@case
def null_and_empty_keys_and_values(context):
    bootstrap, topic = fresh_topic(context, "nulls")
    records = [(None, None), (b"", b""), (None, b""), (b"", None), (b"k", None), (None, b"v")]
    for codec in stock.CODECS:
        stock.send(stock.producer(bootstrap, linger_ms=20, compression_type=codec), topic, records)
    equal(contents(stock.read(bootstrap, topic)), records * len(stock.CODECS), "records")


@case
def headers_are_a_list(context):
    """Order, duplicates, null and empty values of headers survive."""
    bootstrap, topic = fresh_topic(context, "headers")
    headers = [("a", b"1"), ("b", None), ("a", b"2"), ("", b"empty name"), ("a", b"1"), ("c", b"")]
    stock.send(stock.producer(bootstrap), topic, [{"value": b"v", "headers": headers}])
    equal(stock.read(bootstrap, topic)[0].headers(), headers, "headers")
    output, _, _ = stock.java(stock.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--max-messages", 1,
                              "--timeout-ms", 15000, "--formatter-property", "print.headers=true", "--formatter-property", "null.literal=NULL")
    equal(output, "a:1,b:NULL,a:2,:empty name,a:1,c:\tv\n", "headers as the console consumer prints them")


@case
def large_records(context):
    """Just under the limit; and a consumer whose limits are smaller than the batch still makes progress."""
    bootstrap, topic = fresh_topic(context, "large")
    values = [bytes([n]) * (1_048_576 - 200) for n in range(4)] + [b"small"]
    stock.send(stock.producer(bootstrap, message_max_bytes=1_100_000), topic, [(None, v) for v in values])
    equal([m.value() for m in stock.read(bootstrap, topic)], values, "values")
    tiny = stock.read(bootstrap, topic, fetch_message_max_bytes=100, fetch_max_bytes=1_000, message_max_bytes=1_000)
    equal([m.value() for m in tiny], values, "values read with tiny fetch limits")
    with wire.Connection(bootstrap) as connection:
        data = connection.fetch(topic, {0: 1}, max_bytes=1, partition_max_bytes=1)[0][4]
        equal([b[:2] for b in wire.decode_batches(data)], [(1, 1)], "a whole batch although max bytes is 1")


@case
def record_too_large(context):
    """MESSAGE_TOO_LARGE by the broker's limit and by the topic's; the connection and the partition go on."""
    bootstrap, topic = fresh_topic(context, "too-large")
    small = stock.create_topic(bootstrap, context.topic("too-large-topic"), 1, max_message_bytes=2_000)
    with wire.Connection(bootstrap) as connection:
        for name, size in [(topic, 1_048_588), (small, 2_000)]:
            equal(connection.produce_one(name, batch_of_size(size + 1))[0], wire.MESSAGE_TOO_LARGE, f"one byte above {size}")
            equal(connection.produce_one(name, batch_of_size(size)), (0, 0), f"exactly {size} bytes")
    for name, size in [(topic, 2_000_000), (small, 5_000)]:
        errors = []
        producer = stock.producer(bootstrap, message_max_bytes=3_000_000)
        producer.produce(name, bytes(size), on_delivery=lambda error, _: errors.append(error))
        equal(producer.flush(20), 0, "unanswered records")
        equal(errors[0].code() if errors[0] else None, stock.KafkaError.MSG_SIZE_TOO_LARGE, "error a producer sees")


def batch_of_size(size):
    value = size - 100
    while len(data := wire.batch(bytes(value))) != size:
        value += size - len(data)
    return data


@case
def log_append_time(context):
    """The broker's clock stamps the records, and finds them again."""
    bootstrap, topic = fresh_topic(context, "append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    for codec in stock.CODECS:
        stock.send(stock.producer(bootstrap, compression_type=codec), topic, [{"value": b"v", "timestamp": 1_000_000_000_000}])
    after = int(time.time() * 1000)
    for message in stock.read(bootstrap, topic):
        kind, stamp = message.timestamp()
        equal(kind, 2, "timestamp type (2 is LogAppendTime)")
        check(before <= stamp <= after, f"timestamp {stamp} is not in [{before}, {after}]")
    with wire.Connection(bootstrap) as connection:
        equal(connection.list_offset(topic, before)[2], 0, "first offset since the test began")
        equal(connection.list_offset(topic, after + 1)[2], -1, "offset of the future")


@case
def compression_type_of_the_topic(context):
    """compression.type decides how batches are stored, whatever the producer used; `producer` keeps them."""
    for wanted in ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]:
        bootstrap, topic = fresh_topic(context, f"stored-{wanted}", compression_type=wanted)
        records = [(b"key", b"value %d " % n * 50) for n in range(20)]
        for codec in stock.CODECS:
            stock.send(stock.producer(bootstrap, compression_type=codec, linger_ms=50), topic, records)
        equal(contents(stock.read(bootstrap, topic)), records * len(stock.CODECS), f"records stored as {wanted}")
        expected = {CODEC_BITS[c] for c in (stock.CODECS if wanted == "producer" else [wanted])}
        with wire.Connection(bootstrap) as connection:
            equal(stored_codecs(connection, topic), expected, f"codecs in the log with compression.type={wanted}")


def stored_codecs(connection, topic):
    found, at, (_, _, end) = set(), 0, connection.list_offset(topic, -1)
    while at < end:
        data = connection.fetch(topic, {0: at})[0][4]
        position = 0
        for _, last, _ in wire.decode_batches(data):
            found.add(struct.unpack_from(">h", data, position + 21)[0] & 7)
            position += 12 + struct.unpack_from(">i", data, position + 8)[0]
            at = last + 1
    return found


@case
def create_delete_create_again(context):
    """A topic of the same name is a new topic: new id, empty, offsets from 0. With Kafka's own command-line tool."""
    bootstrap, name = context.shared().bootstrap, context.topic("again")

    def topics(*args, ok=True):
        return stock.java("TopicCommand", "--bootstrap-server", bootstrap, *args, ok=ok)

    topics("--create", "--topic", name, "--partitions", 3, "--config", "max.message.bytes=4000")
    old = stock.describe(bootstrap, name)
    equal(len(old.partitions), 3, "partitions of the new topic")
    again, errors, code = topics("--create", "--topic", name, ok=False)
    check(code != 0 and "already exists" in again + errors, f"creating it twice: exit {code}, {errors[-300:]}")
    stock.send(stock.producer(bootstrap), name, [(b"k", b"old")])
    topics("--delete", "--topic", name)
    wait_until(lambda: name not in topics("--list")[0].split(), 15, "the deleted topic is gone from the list")
    topics("--create", "--topic", name, "--partitions", 1)
    new = stock.describe(bootstrap, name)
    check(str(new.topic_id) != str(old.topic_id), "the new topic has the old one's id")
    equal(len(new.partitions), 1, "partitions of the topic of the same name")
    wait_until(lambda: stock.watermarks(bootstrap, name) == (0, 0), 10, "the new topic is empty")
    # 5,000 bytes were too many for the old topic.
    delivered = stock.send(stock.producer(bootstrap), name, [(b"k", bytes(5_000))])
    equal(delivered[0].offset(), 0, "first offset of the new topic")
    equal(contents(stock.read(bootstrap, name)), [(b"k", bytes(5_000))], "records of the new topic")


@case
def create_topic_errors(context):
    bootstrap, name = context.shared().bootstrap, context.topic("errors")
    with wire.Connection(bootstrap) as connection:
        equal(connection.create_topic(name), 0, "create")
        equal(connection.create_topic(name), TOPIC_ALREADY_EXISTS, "create again")
        equal(connection.create_topic(name + "-0", partitions=0), INVALID_PARTITIONS, "no partitions")
        equal(connection.create_topic(name + "-c", configs=[("no.such.config", "1")]), INVALID_CONFIG, "unknown config")
        equal(connection.create_topic(name + "-v", configs=[("retention.ms", "soon")]), INVALID_CONFIG, "config that is not a number")
        equal(connection.metadata([name + "-0", name + "-c", name + "-v"], auto_create=False),
              {name + s: (wire.UNKNOWN_TOPIC_OR_PARTITION, {}) for s in ("-0", "-c", "-v")}, "what was refused does not exist")


@case
def auto_creation(context):
    """Metadata creates what it is asked for, unless it is told not to; the default is one partition."""
    bootstrap, wanted, unwanted = context.shared().bootstrap, context.topic("auto"), context.topic("not-auto")
    with wire.Connection(bootstrap) as connection:
        for _ in range(3):
            equal(connection.metadata([unwanted], auto_create=False)[unwanted][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "metadata without creation")
        wait_until(lambda: connection.metadata([wanted])[wanted][0] == 0, 10, "the topic is created")
        equal(list(connection.metadata([wanted])[wanted][1]), [0], "its partitions")
        check(unwanted not in connection.metadata(None), "listing the topics creates nothing")
        equal(connection.metadata([]), {}, "topics=[] names none")
    fresh = context.topic("auto-kcat")
    stock.kcat("-P", "-b", bootstrap, "-t", fresh, "-X", "topic.metadata.propagation.max.ms=10000", stdin=None)
    stock.send(stock.producer(bootstrap), fresh, [(None, b"v")])
    equal(len(stock.read(bootstrap, fresh)), 1, "records in the topic a producer created")


@case
def fetch_from_inside_a_batch(context):
    """The whole batch that contains the offset comes back; consumers skip to what they asked for."""
    bootstrap, topic = fresh_topic(context, "inside")
    with wire.Connection(bootstrap) as connection:
        for base in range(0, 30, 10):
            batch = wire.batch(*[b"%d" % n for n in range(base, base + 10)])
            wait_until(lambda: connection.produce_one(topic, batch) == (0, base), 10, f"the batch at {base} is stored")
        for offset in [0, 5, 9, 10, 29]:
            first = wire.decode_batches(connection.fetch(topic, {0: offset})[0][4])[0]
            equal(first[:2], (offset // 10 * 10, offset // 10 * 10 + 9), f"batch returned for offset {offset}")
        equal(connection.fetch(topic, {0: 30})[0][0::4], (0, b""), "fetch at the end")
        equal(connection.fetch(topic, {0: 31})[0][0], wire.OFFSET_OUT_OF_RANGE, "fetch beyond the end")
    for start in [5, 9, 29]:
        equal([int(m.value()) for m in stock.read(bootstrap, topic, start=start)], list(range(start, 30)), f"values from {start}")


@case
def empty_topic(context):
    bootstrap, topic = fresh_topic(context, "empty", 2)
    equal([stock.watermarks(bootstrap, topic, p) for p in range(2)], [(0, 0), (0, 0)], "watermarks")
    equal(stock.read(bootstrap, topic), [], "records")
    output, errors, _ = stock.java(stock.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning",
                                   "--timeout-ms", 3000, ok=False)
    check(output == "" and "Processed a total of 0 messages" in errors, f"console consumer: {output!r} {errors[-300:]}")


@case
def long_polling(context):
    """Fetch waits for max_wait when there is nothing, and wakes up for an append."""
    bootstrap, topic = fresh_topic(context, "poll")
    with wire.Connection(bootstrap) as reader, wire.Connection(bootstrap) as writer:
        wait_until(lambda: writer.produce_one(topic, wire.batch(b"x"))[0] == 0, 10, "the topic takes records")
        end = writer.list_offset(topic, -1)[2]
        began = time.monotonic()
        equal(reader.fetch(topic, {0: end}, max_wait_ms=700, min_bytes=1)[0][0::4], (0, b""), "fetch with nothing to read")
        waited = time.monotonic() - began
        check(0.6 <= waited < 2.0, f"max_wait 0.7 s took {waited:.2f} s")
        later = threading.Timer(0.3, lambda: writer.produce_one(topic, wire.batch(b"wake")))
        later.start()
        began = time.monotonic()
        data = reader.fetch(topic, {0: end}, max_wait_ms=10_000, min_bytes=1)[0][4]
        waited = time.monotonic() - began
        later.join()
        equal(wire.decode_batches(data)[0][0], end, "offset of the append that ended the wait")
        check(0.2 <= waited < 2.0, f"woke {waited:.2f} s after the fetch began; the append came after 0.3 s")
        context.note(f"woke {1000 * (waited - 0.3):.0f} ms after the append began")


@case
def pipelined_requests(context):
    """Many requests in flight on one connection: answers in request order, offsets too."""
    bootstrap, topic = fresh_topic(context, "pipeline", 2)
    with wire.Connection(bootstrap) as connection:
        wait_until(lambda: connection.produce({topic: {0: wire.batch(b"x"), 1: wire.batch(b"x")}}) and connection.list_offset(topic, -1, 1)[0] == 0,
                   10, "the topic takes records")
        starts = [connection.list_offset(topic, -1, p)[2] for p in range(2)]
        first = connection.correlation + 1
        for n in range(60):
            body = wire.produce_body({topic: {n % 2: wire.batch(b"%d" % n)}})
            connection.send_raw(wire.framed(wire.request(wire.PRODUCE, 8, first + n, body)))
        for n in range(60):
            connection.correlation = first + n
            equal(wire.read_produce_response(connection.response()), {(topic, n % 2): (0, starts[n % 2] + n // 2)}, f"answer {n}")


@case
def idempotent_window_of_five(context):
    """A repeat of any of the last five batches gets its old offset; a gap is refused; an older repeat is never stored again."""
    bootstrap, topic = fresh_topic(context, "window")
    with wire.Connection(bootstrap) as connection:
        fill_window(connection, topic, new_producer(connection))
        producer_id, epoch = new_producer(connection)
        code = connection.produce_one(topic, wire.batch(b"gap", producer_id=producer_id, producer_epoch=epoch, base_sequence=0))[0]
        equal(code, 0, "first batch of a new producer")
        code = connection.produce_one(topic, wire.batch(b"gap", producer_id=producer_id, producer_epoch=epoch, base_sequence=5))[0]
        equal(code, OUT_OF_ORDER_SEQUENCE, "error after a gap")


def new_producer(connection):
    """(producer id, epoch); a coordinator that is just starting may want to be asked again."""
    def ask():
        error, producer_id, epoch = connection.init_producer_id()
        check(error in (0, wire.COORDINATOR_LOADING, wire.COORDINATOR_NOT_AVAILABLE), f"InitProducerId: error {error}")
        return (producer_id, epoch) if error == 0 else None
    return wait_until(ask, 10, "InitProducerId without a retriable error")


def produce_numbered(connection, topic, producer, n):
    """Sends the n-th batch of two records of a producer (id, epoch), for the first time or again."""
    producer_id, epoch = producer
    return connection.produce_one(topic, wire.batch(b"%d" % (2 * n), b"%d" % (2 * n + 1), producer_id=producer_id, producer_epoch=epoch,
                                                    base_sequence=2 * n))


def fill_window(connection, topic, producer):
    """Seven batches of two records, then the repeats."""
    wait_until(lambda: produce_numbered(connection, topic, producer, 0) == (0, 0), 10, "the first batch is stored")
    for n in range(1, 7):
        equal(produce_numbered(connection, topic, producer, n), (0, 2 * n), f"batch {n}")
    repeat_window(connection, topic, producer)
    check(produce_numbered(connection, topic, producer, 0)[0] in (OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE), "a repeat from before the window is not refused")


def repeat_window(connection, topic, producer):
    for n in [2, 6, 3, 4, 5]:
        equal(produce_numbered(connection, topic, producer, n), (0, 2 * n), f"repeat of batch {n}")
    equal(connection.list_offset(topic, -1)[2], 14, "end after the repeats")


@case(own_broker=True)
def idempotent_window_survives_kill(context):
    """The same five repeats after kill -9. (Apache Kafka 4.3 fails this one and stores the batch again.)"""
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, "window")
    with wire.Connection(broker.bootstrap) as connection:
        producer = new_producer(connection)
        fill_window(connection, topic, producer)
    broker.kill()
    broker.start()
    with wire.Connection(broker.bootstrap) as connection:
        repeat_window(connection, topic, producer)


@case
def read_committed_reads_plain_data(context):
    bootstrap, topic = fresh_topic(context, "committed")
    records = [(b"k", b"%d" % n) for n in range(500)]
    stock.send(stock.producer(bootstrap, enable_idempotence=True), topic, records)
    equal(contents(stock.read(bootstrap, topic, isolation_level="read_committed")), records, "confluent-kafka, read_committed")
    output, _, _ = stock.java(stock.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning",
                              "--isolation-level", "read_committed", "--max-messages", 500, "--timeout-ms", 15000)
    equal(output.split(), [str(n) for n in range(500)], "console consumer, read_committed")
    with wire.Connection(bootstrap) as connection:
        code, high, stable, start, _ = connection.fetch(topic, {0: 0}, isolation=1)[0]
        equal((code, high, stable, start), (0, 500, 500, 0), "error, high watermark, last stable offset, log start offset")
        equal(connection.list_offset(topic, -1, isolation=1), (0, -1, 500), "latest for read_committed")


@case
def unknown_topics_and_partitions(context):
    bootstrap, topic = fresh_topic(context, "known")
    missing = f"missing-{uuid.uuid4().hex}"
    with wire.Connection(bootstrap) as connection:
        equal(connection.produce_one(missing, wire.batch(b"v"))[0], wire.UNKNOWN_TOPIC_OR_PARTITION, "produce to an unknown topic")
        equal(connection.produce({topic: {7: wire.batch(b"v")}})[topic, 7][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "produce to an unknown partition")
        equal(connection.fetch(missing, {0: 0})[0][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "fetch from an unknown topic")
        equal(connection.fetch(topic, {7: 0})[7][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "fetch from an unknown partition")
        equal(connection.list_offset(missing, -1)[0], wire.UNKNOWN_TOPIC_OR_PARTITION, "offsets of an unknown topic")
        equal(connection.metadata([missing], auto_create=False)[missing][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "Produce and Fetch create nothing")
        mixed = connection.produce({topic: {0: wire.batch(b"good"), 7: wire.batch(b"bad")}})
        equal((mixed[topic, 0][0], mixed[topic, 7][0]), (0, wire.UNKNOWN_TOPIC_OR_PARTITION), "one good and one unknown partition in a request")
