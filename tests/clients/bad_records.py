"""Batches, producer ids and topic names that must be refused: a clear error in Kafka's terms, nothing stored, memory bounded.

Every case runs beside a bystander (see `bystander`). The errors are those of Apache Kafka 4.3 (see `judge`), but where Kafka itself has none:
to a few corrupt batches it answers UNKNOWN_SERVER_ERROR, which no client can make sense of.
"""
import contextlib
import gzip
import struct
import time

import stock
import wire
from bad_input import ELSEWHERE, SETTINGS, new_topic
from bystander import undisturbed
from harness import case, check, equal, wait_until

CORRUPT, RECORD, CODEC = wire.CORRUPT_MESSAGE, wire.INVALID_RECORD, wire.UNSUPPORTED_COMPRESSION_TYPE
INVALID_PRODUCER_EPOCH, OUT_OF_ORDER, INVALID_TXN_STATE, TXN_AUTHORIZATION = 47, 45, 48, 53
ZSTD_BIT, GZIP_BIT, CONTROL_BIT, TRANSACTIONAL_BIT = 4, 1, 0x20, 0x10


def refused(bootstrap, topic, what, data, allowed, version=8):
    """Produces data and demands one of the allowed errors (None: or the end of the connection)."""
    with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
        try:
            code = connection.produce({topic: {0: data}}, version=version)[topic, 0][0]
        except wire.Closed:
            code = None
    check(code in allowed, f"{what}: error {code}, expected one of {sorted(allowed, key=str)}")


def end_of(bootstrap, topic):
    with wire.Connection(bootstrap) as connection:
        return connection.list_offset(topic, -1)[2]


@case(own_broker=True)
def corrupt_batches(context):
    """Each bit that the CRC covers flipped, one at a time; and headers that lie."""
    bootstrap, topic = new_topic(context)
    good = wire.batch(b"value", key=b"key")
    lies = [
        ("crc of zero", wire.batch(b"v", crc=0), {CORRUPT}),
        ("no bytes", b"", {RECORD, CORRUPT}),
        ("twelve bytes", good[:12], {CORRUPT, RECORD}),
        ("header only", good[:61], {CORRUPT, RECORD}),
        ("last byte missing", good[:-1], {CORRUPT, RECORD}),
        ("length of zero", wire.batch(b"v", length=0), {CORRUPT, RECORD}),
        ("length below the header's", wire.batch(b"v", length=48), {CORRUPT, RECORD}),
        ("negative length", wire.batch(b"v", length=-1), {CORRUPT, RECORD}),
        ("huge length", wire.batch(b"v", length=2**31 - 1), {CORRUPT, RECORD}),
        ("magic 3", wire.batch(b"v", magic=3), {CORRUPT, RECORD}),
        ("magic -1", wire.batch(b"v", magic=-1), {CORRUPT, RECORD}),
        ("two batches", good + wire.batch(b"second"), {RECORD}),
        ("message set version 0", wire.old_message(b"old", 0), {RECORD, CORRUPT, 43}),
        ("message set version 1", wire.old_message(b"old", 1), {RECORD, CORRUPT, 43}),
        ("control batch", wire.batch(b"v", attributes=CONTROL_BIT), {RECORD}),
        ("codec 5", wire.batch(b"v", attributes=5), {CORRUPT, RECORD, CODEC}),
        ("codec 7", wire.batch(b"v", attributes=7), {CORRUPT, RECORD, CODEC}),
    ]
    with undisturbed(context, context.shared(**SETTINGS)):
        for what, data, allowed in lies:
            refused(bootstrap, topic, what, data, allowed)
        refused(bootstrap, topic, "zstd in Produce 6", wire.batch(b"v", attributes=ZSTD_BIT), {CODEC}, version=6)
        with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
            for at in range(17, len(good)):
                for bit in range(8):
                    data = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1:]
                    equal(connection.produce_one(topic, data), (CORRUPT, -1), f"bit {bit} of byte {at} flipped")
    equal(end_of(bootstrap, topic), 1, "end of the topic")


@case(own_broker=True)
def lying_record_counts(context):
    """Counts and offset deltas that do not fit the records, with a correct CRC."""
    bootstrap, topic = new_topic(context)
    lies = [dict(count=1000), dict(count=1000, last_offset_delta=999), dict(count=2**31 - 1, last_offset_delta=2**31 - 2), dict(count=0),
            dict(count=-1), dict(count=-2**31), dict(last_offset_delta=5), dict(last_offset_delta=-1), dict(count=1, last_offset_delta=0),
            dict(count=0, last_offset_delta=-1), dict(last_offset_delta=2**31 - 1)]
    with undisturbed(context, context.shared(**SETTINGS)):
        for lie in lies:
            refused(bootstrap, topic, f"two records, {lie}", wire.batch(b"a", b"b", **lie), {RECORD, CORRUPT})
        refused(bootstrap, topic, "no records, count 0", wire.Batch([], last_offset_delta=0).encode(), {RECORD, CORRUPT})
        refused(bootstrap, topic, "no records, delta -1", wire.Batch([], last_offset_delta=-1).encode(), {RECORD, CORRUPT})
    equal(end_of(bootstrap, topic), 1, "end of the topic")


@case(own_broker=True)
def lying_records(context):
    """A correct header around records that lie about their own lengths and counts."""
    bootstrap, topic = new_topic(context)
    good = wire.record(0, b"key", b"value", [(b"h", b"x")])
    bodies = {
        "record length too long": wire.varint(1_000_000) + good[1:],
        "record length negative": wire.varint(-1) + good[1:],
        "record length too short": wire.varint(3) + good[1:],
        "key longer than the record": wire.varint(10) + b"\0\0\0" + wire.varint(1 << 30) + b"\0" * 6,
        "value of minus two": wire.varint(8) + b"\0\0\0" + wire.varint(-1) + wire.varint(-2) + b"\0" * 3,
        "two billion headers": wire.record(0, b"k", b"v", header_count=2**31 - 1),
        "minus one headers": wire.record(0, b"k", b"v", header_count=-1),
        "one header too many": wire.record(0, b"k", b"v", [(b"h", b"x")], header_count=2),
        "varint without end": b"\xff" * 12,
        "bytes behind the last record": good + b"\0\0\0",
    }
    with undisturbed(context, context.shared(**SETTINGS)):
        for what, body in bodies.items():
            refused(bootstrap, topic, what, wire.Batch([body]).encode(), {RECORD, CORRUPT})
    equal(end_of(bootstrap, topic), 1, "end of the topic")


@case(own_broker=True)
def lying_producers(context):
    """Producer fields that cannot be."""
    bootstrap, topic = new_topic(context)
    with wire.Connection(bootstrap) as connection:
        error, producer_id, epoch = wait_until(lambda: (lambda answer: answer if answer[0] == 0 else None)(connection.init_producer_id()), 10, "a producer id")
    any_of = {RECORD, CORRUPT, INVALID_PRODUCER_EPOCH, OUT_OF_ORDER, wire.UNKNOWN_PRODUCER_ID, INVALID_TXN_STATE, TXN_AUTHORIZATION}
    lies = [dict(producer_id=producer_id, producer_epoch=epoch, base_sequence=-1),
            dict(producer_id=producer_id, producer_epoch=epoch, base_sequence=-7),
            dict(producer_id=producer_id, producer_epoch=epoch, base_sequence=0, attributes=TRANSACTIONAL_BIT),
            dict(attributes=TRANSACTIONAL_BIT)]
    with undisturbed(context, context.shared(**SETTINGS)):
        for lie in lies:
            refused(bootstrap, topic, str(lie), wire.batch(b"v", **lie), any_of)
        with wire.Connection(bootstrap) as connection:
            data = wire.batch(b"good", producer_id=producer_id, producer_epoch=epoch, base_sequence=0)
            equal(connection.produce_one(topic, data), (0, 1), "the honest first batch of that producer")
    equal(end_of(bootstrap, topic), 2, "end of the topic")


@case(own_broker=True)
def compressed_garbage(context):
    """Payloads that do not unpack, with a correct CRC: refused where the broker must unpack; if stored elsewhere, nobody else suffers."""
    bootstrap, plain = new_topic(context)
    packed = stock.create_topic(bootstrap, context.topic("packed"), 1, compression_type="zstd")
    with undisturbed(context, context.shared(**SETTINGS)):
        for codec in (1, 2, 3, 4):
            data = wire.Batch([b"this is not compressed at all"], attributes=codec).encode()
            # As zstd it need not be unpacked, so it may be stored. Kafka itself answers UNKNOWN_SERVER_ERROR here.
            refused(bootstrap, packed, f"garbage as codec {codec} for a topic that stores zstd", data, {RECORD, CORRUPT} | ({0} if codec == 4 else set()))
            refused(bootstrap, plain, f"garbage as codec {codec}", data, {0, RECORD, CORRUPT})
        with wire.Connection(bootstrap) as connection:
            error, _, _ = connection.list_offset(plain, 1)
            check(error in (0, CORRUPT, wire.STORAGE_ERROR), f"ListOffsets by time over what cannot be unpacked: error {error}")
    check(end_of(bootstrap, packed) <= 1, "garbage in another codec than the topic's was stored")


@case(own_broker=True)
def decompression_bombs(context):
    """A batch of half a megabyte that unpacks to half a gigabyte, wherever the broker might unpack it. (Kafka has no limit and stores it.)"""
    bootstrap, plain = new_topic(context)
    packed = stock.create_topic(bootstrap, context.topic("packed"), 1, compression_type="zstd")
    size = 512 << 20
    head = b"\0\0\0" + wire.varint(-1) + wire.varint(size)
    bomb = gzip.compress(wire.varint(len(head) + size + 1) + head + bytes(size) + b"\0", 6)
    data = wire.Batch([bomb], attributes=GZIP_BIT).encode()
    with undisturbed(context, context.shared(**SETTINGS)):
        for _ in range(4):
            refused(bootstrap, packed, "bomb for a topic that stores zstd", data, {RECORD, CORRUPT, wire.MESSAGE_TOO_LARGE})
            refused(bootstrap, plain, "bomb for a topic that stores what comes", data, {0, RECORD, CORRUPT, wire.MESSAGE_TOO_LARGE})
        with wire.Connection(bootstrap, timeout=60) as connection:
            error, _, _ = connection.list_offset(plain, wire.now_ms() - 60_000)
            check(error in (0, CORRUPT, wire.STORAGE_ERROR), f"ListOffsets by time over a bomb: error {error}")
    context.note(f"{len(data) >> 10} KiB that unpack to {size >> 20} MiB")
    equal(end_of(bootstrap, packed), 0, "end of the topic that stores zstd")


PARTITIONS, ROUNDS = 200, 5_000


class PatchedBatch:
    """The same small batch for many producer ids, with the CRC put right by linearity: CRC(x ^ y) follows from CRC(x) and y alone."""

    def __init__(self):
        self.fields = {"producer_epoch": 0, "base_sequence": 0, "base_timestamp": wire.now_ms()}
        self.base = wire.batch(b"v", producer_id=0, **self.fields)
        zero = wire.crc32c(self.base[21:])
        self.tables = []
        for byte in range(8):
            at = 43 + byte - 21
            self.tables.append([wire.crc32c(self.base[21:21 + at] + bytes([value]) + self.base[22 + at:]) ^ zero for value in range(256)])
        self.zero = zero

    def encode(self, producer_id):
        packed, crc = struct.pack(">q", producer_id), self.zero
        for table, value in zip(self.tables, packed):
            crc ^= table[value]
        return self.base[:17] + struct.pack(">I", crc) + self.base[21:43] + packed + self.base[51:]


@case(own_broker=True)
def invented_producer_ids_by_the_million(context):
    """A million producer ids nobody was given, 200 a request: errors Kafka's clients know or bounded memory, and honest producers go on."""
    bootstrap, topic = new_topic(context, PARTITIONS)
    batch = PatchedBatch()
    equal(batch.encode(123_456_789_012), wire.batch(b"v", producer_id=123_456_789_012, **batch.fields), "a patched batch")
    codes, began = {}, time.monotonic()
    with undisturbed(context, context.shared(**SETTINGS)), wire.Connection(bootstrap, timeout=60, source=ELSEWHERE) as connection:
        base = 1 << 40
        for n in range(ROUNDS):
            parts = {p: batch.encode(base + n * PARTITIONS + p) for p in range(PARTITIONS)}
            for code, _ in connection.produce({topic: parts}).values():
                codes[code] = codes.get(code, 0) + 1
    check(wire.UNKNOWN_SERVER_ERROR not in codes, f"errors by number: {codes}")
    context.note(f"{ROUNDS * PARTITIONS} ids in {time.monotonic() - began:.0f} s, errors {codes}")


@case(own_broker=True)
def many_granted_producer_ids(context):
    """20,000 producers that ask for an id and write once: all stored once, and repeats recognised."""
    bootstrap, topic = new_topic(context)
    count, ids, window = 20_000, [], 500
    with undisturbed(context, context.shared(**SETTINGS)), wire.Connection(bootstrap, timeout=60, source=ELSEWHERE) as connection:
        body = wire.nullable_string(None) + struct.pack(">i", 60_000)
        while len(ids) < count:
            for n in range(window):
                connection.send_raw(wire.framed(wire.request(wire.INIT_PRODUCER_ID, 1, n, body)))
            for n in range(window):
                connection.correlation = n
                error, producer_id, epoch = connection.response().unpack("ihqh")[1:]
                check(error in (0, wire.COORDINATOR_LOADING) and epoch <= 0, f"InitProducerId: error {error}, epoch {epoch}")
                ids += [producer_id] * (error == 0)
        ids = ids[:count]
        equal(len(set(ids)), count, "distinct ids")
        batch, first = PatchedBatch(), end_of(bootstrap, topic)
        for start in range(0, count, window):
            pipeline(connection, topic, [batch.encode(i) for i in ids[start:start + window]], first + start)
        pipeline(connection, topic, [batch.encode(i) for i in ids[:window]], first)
    equal(end_of(bootstrap, topic), first + count, "end of the topic")


def pipeline(connection, topic, batches, offset):
    """Produces the batches with all requests in flight; they must get the offsets from `offset` on."""
    for n, data in enumerate(batches):
        connection.send_raw(wire.framed(wire.request(wire.PRODUCE, 8, n, wire.produce_body({topic: {0: data}}))))
    for n in range(len(batches)):
        connection.correlation = n
        equal(wire.read_produce_response(connection.response()), {(topic, 0): (0, offset + n)}, f"answer {n}")


@case(own_broker=True)
def impatient_producers(context):
    """Time-outs of 0, -1 and 1 ms: whatever becomes of these requests (stored, or REQUEST_TIMED_OUT), nobody else's record fails with them."""
    bootstrap, topic = new_topic(context)
    codes, deadline = {}, time.monotonic() + 4
    with undisturbed(context, context.shared(**SETTINGS)), wire.Connection(bootstrap, source=ELSEWHERE) as connection:
        while time.monotonic() < deadline:
            for timeout_ms in (0, -1, 1, -2**31):
                code = connection.produce({topic: {0: wire.batch(b"hurry")}}, timeout_ms=timeout_ms)[topic, 0][0]
                codes[code] = codes.get(code, 0) + 1
    check(set(codes) <= {0, wire.REQUEST_TIMED_OUT, wire.STORAGE_ERROR}, f"errors by number: {codes}")
    context.note(f"errors {codes}")


@case(own_broker=True)
def illegal_topic_names(context):
    """INVALID_TOPIC_EXCEPTION, by Metadata and CreateTopics alike; nothing is created; produce and fetch deny them too."""
    bootstrap, topic = new_topic(context)
    illegal = ["", ".", "..", "a/b", "a b", "ä", "a\0b", "a:b", "a,b", "x" * 250, "../../etc/passwd", "a\nb", "__" + "y" * 248, "\\", "*"]
    with undisturbed(context, context.shared(**SETTINGS)):
        with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
            before = set(connection.metadata(None))
            for name in illegal:
                equal(connection.metadata([name]), {name: (wire.INVALID_TOPIC, {})}, f"metadata of {name[:20]!r}")
                equal(connection.create_topic(name), wire.INVALID_TOPIC, f"creation of {name[:20]!r}")
                for code in (connection.produce({name: {0: wire.batch(b"v")}})[name, 0][0], connection.fetch(name, {0: 0})[0][0]):
                    check(code in (wire.INVALID_TOPIC, wire.UNKNOWN_TOPIC_OR_PARTITION), f"produce to or fetch from {name[:20]!r}: error {code}")
            equal(connection.create_topic("x" * 249), 0, "the longest legal name")
            wait_until(lambda: connection.metadata(["..."])["..."][0] == 0, 10, "three dots are legal")
            check(set(connection.metadata(None)) - before <= {"x" * 249, "..."}, "an illegal name was created")
        for name in [b"\xff\xfe", b"ok\xc3", b"\xed\xa0\x80"]:
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection, contextlib.suppress(wire.Closed):
                reader = connection.call(wire.CREATE_TOPICS, 4, wire.array([wire.string(name) + struct.pack(">ih", 1, 1) + wire.array([]) * 2])
                                         + struct.pack(">i?", 1000, False))
                check(struct.pack(">h", wire.INVALID_TOPIC) in reader.data, f"name {name!r} in no encoding was taken")
    equal(end_of(bootstrap, topic), 1, "end of the topic")
