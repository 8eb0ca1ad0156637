"""Records on their way in, beside a real Kafka: acknowledgements, idempotent producers, batches that lie."""
import gzip
import time

import wire
from differential import ABSENT, RESPONSE, SILENT, scenario
from differential_topics import create, topic

VERSIONS = (3, 7, 8, 9, 12)
# With what is wrong in a batch Kafka tells where the log begins or does not, as its code happens to find it.
LOG_START = ["responses[*].partitionResponses[*].logStartOffset"]
NOBODY = 4_000_000_000  # a producer id that was never granted


def made(both, *names, partitions=1, **configs):
    """Topics that take records; the ids by name."""
    created = create(both, 7, *(topic(name, partitions, configs=[{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]) for name in names))
    for name in names:
        listed = {"topics": [{"name": name, "partitions": [{"partitionIndex": p, "timestamp": -1} for p in range(partitions)]}]}
        both.until(lambda found: all(p["errorCode"] == "NONE" for p in found["topics"][0]["partitions"]), "LIST_OFFSETS", 5, listed)
    return [created.at("topics", {"name": name}, "topicId") for name in names]


def produce(both, version, name, records, *, partition=0, acks=-1, what="", **options):
    both.saying = what
    if what or options.get("differs"):
        options["ignore"] = LOG_START
    return both.call("PRODUCE", version, {"acks": acks, "timeoutMs": 9000, "topicData": [
        {"name": name, "partitionData": [{"index": partition, "records": records}]}]}, **options)


def producer(both, version=4):
    """(producer id, epoch) of each broker."""
    granted = both.until(lambda found: found["errorCode"] == "NONE", "INIT_PRODUCER_ID", version, {"transactionalId": None, "transactionTimeoutMs": 60000})
    return granted.at("producerId")


def end(both, name, partition=0):
    both.call("LIST_OFFSETS", 7, {"isolationLevel": 0, "topics": [{"name": name, "partitions": [{"partitionIndex": partition, "timestamp": -1}]}]})


def read(both, name, offset=0, partition=0, **options):
    both.call("FETCH", 12, {"maxWaitMs": 0, "minBytes": 0, "isolationLevel": 0, "sessionEpoch": -1, "topics": [
        {"topic": name, "partitions": [{"partition": partition, "currentLeaderEpoch": -1, "fetchOffset": offset, "partitionMaxBytes": 1 << 20}]}]}, **options)


def sent(pid, epoch, sequence, *values, **fields):
    """A batch of an idempotent producer, for each broker its own."""
    values = values or (b"v",)
    return pid.map(lambda one: wire.batch(*values, producer_id=one, producer_epoch=epoch, base_sequence=sequence, **fields))


def instead(reason, version, kafka, esker, kafkas_base=0, eskers_base=-1):
    """What Kafka and Esker make of one batch: an error, or NONE."""
    listed = {"responses[*].partitionResponses[*].errorCode": (reason, kafka, esker)}
    if "NONE" in (kafka, esker):
        listed["responses[*].partitionResponses[*].baseOffset"] = (reason, kafkas_base, eskers_base)
    return listed


@scenario
def plain(both):
    name, = both.name("plain"),
    made(both, name)
    for version in VERSIONS:
        for acks in (-1, 1):
            produce(both, version, name, wire.batch(b"a", b"b"), acks=acks)
        for acks in (2, -2, 32767):
            produce(both, version, name, wire.batch(b"a"), acks=acks)
        produce(both, version, name, wire.batch(b"a"), acks=0, wait=0.3, keep=True)
        produce(both, version, name, wire.batch(b"a"), partition=1)
        produce(both, version, name, wire.batch(b"a"), partition=-1)
        produce(both, version, both.name("unknown"), wire.batch(b"a"))
        produce(both, version, "a b", wire.batch(b"a"))
        produce(both, version, "", wire.batch(b"a"))
        if version == 3:
            produce(both, version, name, None, wait=1, differs={"": ("kafka-breaks", SILENT, RESPONSE)})
        produce(both, version, name, b"")
        both.call("PRODUCE", version, {"acks": -1, "timeoutMs": 9000, "topicData": []})
        both.call("PRODUCE", version, {"acks": -1, "timeoutMs": 9000, "topicData": [{"name": name, "partitionData": []}]})
        end(both, name)
    produce(both, 9, both.name("unknown"), wire.batch(b"a"), acks=0, wait=1)
    read(both, name)


@scenario
def to_ids(both):
    name = both.name("ids")
    topic_id, = made(both, name)

    def send(id_, partition=0):
        both.call("PRODUCE", 13, {"acks": -1, "timeoutMs": 9000, "topicData": [{"topicId": id_, "partitionData": [{"index": partition, "records": wire.batch(b"a")}]}]})
    send(topic_id)
    send(topic_id, 1)
    send("AAAAAAAAAAAAAAAAAAAAAA")
    send("AAAAAAAAAAAAAAAAAAAAAQ")
    end(both, name)


@scenario
def twice_in_a_request(both):
    for version in (3, 9, 12):
        names = [both.name(f"a{version}"), both.name(f"b{version}")]
        made(both, *names, partitions=2)

        def send(*topics, **options):
            both.call("PRODUCE", version, {"acks": -1, "timeoutMs": 9000, "topicData": [
                {"name": name, "partitionData": [{"index": index, "records": records} for index, records in partitions]} for name, partitions in topics]}, **options)
        once = both.name(f"once{version}")
        made(both, once)
        send((once, [(0, wire.batch(b"a")), (0, wire.batch(b"b"))]), differs={"responses[*].partitionResponses[0']": ("any-of-one-partition", ABSENT, ...)})
        send((names[0], [(0, wire.batch(b"a"))]), (names[0], [(1, wire.batch(b"b"))]))
        send((names[0], [(1, wire.batch(b"a")), (0, wire.batch(b"b", magic=1)), (7, wire.batch(b"c"))]), (names[1], [(0, wire.batch(b"d"))]))
        for name in names:
            end(both, name)
            end(both, name, 1)


@scenario
def several_batches(both):
    for version in (3, 8, 12):
        name = both.name(f"several{version}")
        made(both, name, partitions=8)
        produce(both, version, name, wire.batch(b"a") + wire.batch(b"b"))
        produce(both, version, name, wire.batch(b"a") + wire.batch(b"b", crc=1))
        end(both, name)
        produce(both, version, name, wire.batch(b"a") + b"\0", partition=1, differs=instead("bytes-after-batches", version, "NONE", "INVALID_RECORD"))
        produce(both, version, name, wire.batch(b"a") + wire.batch(b"b")[:30], partition=2, differs=instead("bytes-after-batches", version, "NONE", "INVALID_RECORD"))
        produce(both, version, name, wire.batch(b"a")[:-1], partition=3, differs=instead("another-word", version, "INVALID_RECORD", "CORRUPT_MESSAGE"))
        produce(both, version, name, b"\0" * 61, partition=4, differs=instead("another-word", version, "CORRUPT_MESSAGE", "INVALID_RECORD"))
        produce(both, version, name, b"nonsense", partition=5, differs=instead("another-word", version, "INVALID_RECORD", "CORRUPT_MESSAGE"))
        pid = producer(both)
        produce(both, version, name, pid.map(lambda one: wire.batch(b"a", producer_id=one, producer_epoch=0, base_sequence=0)
                                             + wire.batch(b"b", producer_id=one, producer_epoch=0, base_sequence=1)), partition=6)


@scenario
def lying_batches(both):
    one, two = [wire.record(0, None, b"a")], [wire.record(0, None, b"a"), wire.record(1, None, b"b")]
    batches = {
        "count too large": wire.Batch(two, count=3), "count too small": wire.Batch(two, count=1), "count 0": wire.Batch(two, count=0),
        "count negative": wire.Batch(two, count=-1), "empty": wire.Batch([], last_offset_delta=0), "empty, delta -1": wire.Batch([]),
        "delta too large": wire.Batch(two, last_offset_delta=5), "delta too small": wire.Batch(two, last_offset_delta=0),
        "delta negative": wire.Batch(two, last_offset_delta=-1), "crc": wire.Batch(one, crc=1), "magic 1": wire.Batch(one, magic=1), "magic 0": wire.Batch(one, magic=0),
        "magic 3": wire.Batch(one, magic=3), "magic -1": wire.Batch(one, magic=-1), "length too large": wire.Batch(one, length=1000),
        "length too small": wire.Batch(one, length=20), "length negative": wire.Batch(one, length=-1), "base offset 5": wire.Batch(one, base_offset=5),
        "base offset -1": wire.Batch(one, base_offset=-1), "offset deltas not from 0": wire.Batch([wire.record(1, None, b"a")]),
        "offset deltas with a gap": wire.Batch([wire.record(0, None, b"a"), wire.record(2, None, b"b")]),
        "offset deltas twice": wire.Batch([wire.record(0, None, b"a"), wire.record(0, None, b"b")]),
        "unknown codec": wire.Batch(one, attributes=5), "codec 7": wire.Batch(one, attributes=7), "gzip that is none": wire.Batch(one, attributes=1),
        "append time set": wire.Batch(one, attributes=8), "transactional without producer": wire.Batch(one, attributes=16),
        "control without producer": wire.Batch(one, attributes=32), "unused bits": wire.Batch(one, attributes=0x7f80 & ~0x40),
        "delete horizon": wire.Batch(one, attributes=64), "more headers than there are": wire.Batch([wire.record(0, None, b"a", header_count=2)]),
        "negative headers": wire.Batch([wire.record(0, None, b"a", header_count=-1)]), "old timestamp": wire.Batch(one, base_timestamp=1),
        "no timestamp": wire.Batch(one, base_timestamp=-1), "timestamp below -1": wire.Batch(one, base_timestamp=-5),
        "far future": wire.Batch(one, base_timestamp=int(time.time() * 1000) + 10_000_000_000), "record with bytes after it": wire.Batch([one[0] + b"x"], count=1),
    }
    otherwise = {
        "magic -1": ("another-word", "CORRUPT_MESSAGE", "INVALID_RECORD"), "more headers than there are": ("another-word", "INVALID_RECORD", "CORRUPT_MESSAGE"),
        "negative headers": ("another-word", "INVALID_RECORD", "CORRUPT_MESSAGE"), "record with bytes after it": ("another-word", "INVALID_RECORD", "CORRUPT_MESSAGE"),
        "magic 3": ("another-word", "CORRUPT_MESSAGE", "INVALID_RECORD"), "length too large": ("another-word", "INVALID_RECORD", "CORRUPT_MESSAGE"),
        "offset deltas not from 0": ("offset-deltas", "NONE", "CORRUPT_MESSAGE"), "offset deltas with a gap": ("offset-deltas", "NONE", "CORRUPT_MESSAGE"),
        "offset deltas twice": ("offset-deltas", "NONE", "CORRUPT_MESSAGE"), "unknown codec": ("kafka-breaks", "UNKNOWN_SERVER_ERROR", "UNSUPPORTED_COMPRESSION_TYPE"),
        "codec 7": ("kafka-breaks", "UNKNOWN_SERVER_ERROR", "UNSUPPORTED_COMPRESSION_TYPE"), "gzip that is none": ("not-unpacked", "UNKNOWN_SERVER_ERROR", "NONE", -1, 0),
        "append time set": ("unused-attributes", "NONE", "INVALID_TIMESTAMP"), "delete horizon": ("unused-attributes", "NONE", "INVALID_RECORD"),
        "transactional without producer": ("transactions", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "INVALID_RECORD"),
    }
    for version in (3, 8, 12):
        name = both.name(f"lies{version}")
        made(both, name, partitions=len(batches))
        for partition, (what, batch) in enumerate(batches.items()):
            listed = instead(otherwise[what][0], version, *otherwise[what][1:]) if what in otherwise else {}
            produce(both, version, name, batch.encode(), partition=partition, what=what, differs=listed)


def old_set(*values, magic):
    return b"".join(wire.old_message(value, magic) for value in values)


@scenario
def old_formats(both):
    name = both.name("old")
    made(both, name)
    for version in (3, 8, 12):
        for magic in (0, 1):
            produce(both, version, name, old_set(b"a", magic=magic))
            produce(both, version, name, old_set(b"a", b"b", magic=magic))
    end(both, name)


def packed(values, codec, data=None):
    """A batch whose records are packed with gzip (1) or claimed to be packed with another codec."""
    records = b"".join(wire.record(n, None, value) for n, value in enumerate(values))
    return wire.Batch([gzip.compress(records) if data is None else data], attributes=codec, count=len(values), last_offset_delta=len(values) - 1).encode()


@scenario
def packed_batches(both):
    name, uncompressed = both.name("packed"), both.name("uncompressed")
    made(both, name)
    made(both, uncompressed, compression_type="uncompressed")
    for version in (3, 6, 7, 12):
        for into in (name, uncompressed):
            produce(both, version, into, packed([b"a", b"b"], 1))
            produce(both, version, into, packed([b"a"], 4, b"\x28\xb5\x2f\xfd\x20\x08\x41\x00\x00" + wire.record(0, None, b"a")))
            end(both, into)
    read(both, uncompressed)


@scenario
def large_records(both):
    name = both.name("small")
    made(both, name, max_message_bytes="200")
    for version in (3, 8, 12):
        for size in (100, 129, 130, 131, 132, 300, 5000):
            produce(both, version, name, wire.batch(b"x" * size))
        produce(both, version, name, wire.batch(b"a") + wire.batch(b"x" * 300))
        end(both, name)


@scenario
def compacted_topics(both):
    name = both.name("compacted")
    made(both, name, cleanup_policy="compact")
    for version in (3, 8, 12):
        produce(both, version, name, wire.batch(b"a", key=b"k"))
        produce(both, version, name, wire.batch(b"a"))
        produce(both, version, name, wire.Batch([wire.record(0, b"k", b"a"), wire.record(1, None, b"b"), wire.record(2, None, None)]).encode())
        produce(both, version, name, wire.batch(b"a", key=b""))
        produce(both, version, name, wire.batch(None, key=b"k"))
        end(both, name)


@scenario
def timestamps(both):
    now = int(time.time() * 1000)
    bounded, appended = both.name("bounded"), both.name("appended")
    made(both, bounded, message_timestamp_before_max_ms="1000000", message_timestamp_after_max_ms="1000000")
    made(both, appended, message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms="1000")
    for version in (3, 8, 12):
        for stamp in (now, now - 900_000, now - 1_100_000, now + 900_000, now + 1_100_000, -1, 0):
            produce(both, version, bounded, wire.batch(b"a", base_timestamp=stamp))
            produce(both, version, appended, wire.batch(b"a", base_timestamp=stamp))
        produce(both, version, bounded, wire.Batch([wire.record(0, None, b"a"), wire.record(1, None, b"b", timestamp_delta=-2_000_000)], base_timestamp=now).encode())
    end(both, bounded)
    read(both, appended)


@scenario
def idempotent(both):
    name = both.name("idempotent")
    made(both, name, partitions=12)
    for at, version in enumerate((3, 8, 12)):
        def send(epoch, sequence, *values, partition=at, **options):
            produce(both, version, name, sent(pid, epoch, sequence, *values), partition=partition, **options)

        pid = producer(both)
        for sequence in range(7):
            send(0, sequence)
        untimed = {"responses[*].partitionResponses[*].logAppendTimeMs": ("duplicate-time", ..., -1)}
        for sequence in (6, 5, 2):  # repeats of the last five
            send(0, sequence, differs=untimed)
        for sequence in (1, 0):  # repeats of what is older
            send(0, sequence)
        send(0, 6, b"v", b"w")  # begins like one that was there
        send(0, 9)  # a gap
        send(0, 7, b"v", b"w")
        send(0, 8)  # inside one that was there
        send(1, 5)  # a new epoch does not begin with 0
        send(1, 0)
        send(0, 9)  # an epoch of the past
        send(1, 0, differs=untimed)
        send(1, 1)
        send(3, 0)
        send(2, 0)
        send(-1, 0, differs=instead("epoch-of-none", version, "INVALID_PRODUCER_EPOCH", "INVALID_RECORD"))
        send(3, -1, what="no sequence")
        end(both, name, at)

        pid = producer(both)
        send(0, 5, partition=at + 3, differs=instead("first-sequence", version, "NONE", "OUT_OF_ORDER_SEQUENCE_NUMBER"))
        pid = producer(both)
        send(7, 0, partition=at + 6)  # an epoch that was not granted
        send(0, 0, partition=at + 6)


@scenario
def odd_producers(both):
    for version in (3, 8, 12):
        name = both.name(f"odd{version}")
        made(both, name, partitions=12)
        refused = instead("granted-ids-only", version, "NONE", "INVALID_PRODUCER_ID_MAPPING")
        for partition, (pid, epoch, sequence, differs) in enumerate((
                (NOBODY, 0, 0, refused), (-1, 0, 0, {}), (-1, -1, 5, {}), (-1, 3, -1, {}), (-2, 0, 0, {}), (NOBODY, -1, -1, {}), (NOBODY, 0, -1, {}))):
            produce(both, version, name, wire.batch(b"a", producer_id=pid, producer_epoch=epoch, base_sequence=sequence), partition=partition,
                    what=f"producer {pid}, epoch {epoch}, sequence {sequence}", differs=differs)
        pid, none = producer(both), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
        produce(both, version, name, sent(pid, 0, 0, attributes=16), partition=8, differs=instead("transactions", version, none, "INVALID_TXN_STATE"))
        produce(both, version, name, sent(pid, 0, 0, attributes=32), partition=9, what="a control batch")
        produce(both, version, name, sent(pid, 0, 0, attributes=48), partition=10, differs=instead("transactions", version, none, "INVALID_RECORD"))


@scenario
def producer_ids(both):
    for version in range(6):
        def init(**fields):
            return both.call("INIT_PRODUCER_ID", version, {"transactionalId": None, "transactionTimeoutMs": 60000, **fields})
        granted = init()
        for timeout in (0, -1, 2**31 - 1):
            init(transactionTimeoutMs=timeout)
        init(transactionalId="")
        if version >= 3:
            pid = granted.at("producerId")
            init(producerId=pid, producerEpoch=0)
            init(producerId=pid, producerEpoch=5)
            init(producerId=-1, producerEpoch=5)
            init(producerId=pid, producerEpoch=-1)
            init(producerId=-5, producerEpoch=-1)
            init(producerId=NOBODY, producerEpoch=0)
