"""Objects that vanish or change while the broker is down: exactly the records in them answer with a loud, retriable error.

Owns: the damage. Finds objects by the records they hold, so it knows nothing of names and formats.
"""
import re
import time
import uuid

import stock
import wire
from harness import case, check, equal, wait_until

LOUD = {wire.CORRUPT_MESSAGE: "CORRUPT_MESSAGE", wire.STORAGE_ERROR: "KAFKA_STORAGE_ERROR"}
ROUNDS, BATCH = 6, 3
TOPICS = ["damaged-a", "damaged-b"]
REMOVED, FLIPPED = 1, 3  # the rounds whose objects suffer


def value_of(topic, number, token):
    return f"{topic} record {number:04} {token}".encode()


def write_rounds(context, **settings):
    """Each round is one request with a batch for both topics; a round answered before the next begins is an object of its own."""
    broker = context.broker(**{"esker_checkpoint_interval": "1h", **settings})
    token = uuid.uuid4().hex
    for topic in TOPICS + ["untouched"]:
        stock.create_topic(broker.bootstrap, topic)
    with wire.Connection(broker.bootstrap) as connection:
        for n in range(ROUNDS):
            batches = {t: {0: wire.batch(*[value_of(t, n * BATCH + i, token) for i in range(BATCH)])} for t in TOPICS}
            wait_until(lambda: connection.produce(batches) == {(t, 0): (0, n * BATCH) for t in TOPICS}, 10, f"round {n} is stored")
        equal(connection.produce_one("untouched", wire.batch(b"calm")), (0, 0), "the other topic")
    broker.stop()
    return broker, token


def object_of(broker, topic, number, token):
    """(path, position of the value in it) of the one file that holds this record."""
    value, found = value_of(topic, number, token), []
    for path in sorted(broker.data_dir.rglob("*")):
        if path.is_file() and (at := path.read_bytes().find(value)) >= 0:
            found.append((path, at))
    equal(len(found), 1, f"files that hold {value!r}")
    return found[0]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def inspect(broker, token, damaged, certainly=True):
    """Fetches from every offset of both topics: the damaged ones fail loudly and give nothing, all others give exactly what was sent.

    Unless certainly damaged, there may be a whole copy: then these, too, give exactly what was sent or fail loudly.
    """
    with wire.Connection(broker.bootstrap) as connection:
        for topic in TOPICS:
            equal(connection.list_offset(topic, -1)[::2], (0, ROUNDS * BATCH), f"end of {topic}")
            for offset in range(ROUNDS * BATCH):
                code, _, _, _, data = connection.fetch(topic, {0: offset})[0]
                if offset in damaged[topic] and (certainly or code != 0):
                    check(code in LOUD and not data, f"{topic}@{offset} is damaged, but fetch says error {code} and gives {len(data)} bytes")
                    continue
                equal(code, 0, f"error of fetch {topic}@{offset}")
                records = [record for _, _, records in wire.decode_batches(data) for record in records]
                expected = [(o, None, value_of(topic, o, token)) for o in range(offset // BATCH * BATCH, ROUNDS * BATCH)]
                check(records and records == expected[:len(records)], f"fetch {topic}@{offset} gives {records[:2]}")
                given = {o for o, _, _ in records}
                check(records[-1][0] >= offset and not (certainly and damaged[topic] & given), f"fetch {topic}@{offset} gives damaged records")
        equal(wire.decode_batches(connection.fetch("untouched", {0: 0})[0][4])[0][2], [(0, None, b"calm")], "the untouched topic")


def consumer_does_not_skip(broker, topic, damaged):
    """A stock consumer stops at the damage; it must not be handed what lies behind."""
    consumer = stock.consumer(broker.bootstrap)
    consumer.assign([stock.TopicPartition(topic, 0, 0)])
    seen, deadline = [], time.monotonic() + 3
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            seen.append(message.offset())
    consumer.close()
    equal(seen, list(range(min(damaged))), f"offsets of {topic} that a consumer got from 0 on in 3 s")


class Damage:
    """One object removed, and one bit of one batch in another changed."""

    def __init__(self, broker, token):
        self.removed, _ = object_of(broker, TOPICS[0], REMOVED * BATCH, token)
        self.changed, at = object_of(broker, TOPICS[0], FLIPPED * BATCH + 1, token)
        other, _ = object_of(broker, TOPICS[1], FLIPPED * BATCH, token)
        equal(self.changed, other, "object of both batches of a round")
        self.at = at + 5
        self.kept = self.removed.read_bytes()
        self.gone, self.bad = (set(range(n * BATCH, n * BATCH + BATCH)) for n in (REMOVED, FLIPPED))
        self.offsets = {TOPICS[0]: self.gone | self.bad, TOPICS[1]: self.gone}
        self.removed.unlink()
        flip(self.changed, self.at)

    def repair(self):
        self.removed.write_bytes(self.kept)
        flip(self.changed, self.at)


@case(own_broker=True)
def removed_and_flipped_objects(context):
    """Exactly the records in the damaged places fail, loudly; the partitions go on; put back, the records are readable again."""
    broker, token = write_rounds(context)
    damage = Damage(broker, token)
    broker.start()
    inspect(broker, token, damage.offsets)
    consumer_does_not_skip(broker, TOPICS[0], damage.offsets[TOPICS[0]])
    with wire.Connection(broker.bootstrap) as connection:
        equal(connection.produce_one(TOPICS[0], wire.batch(b"next")), (0, ROUNDS * BATCH), "the next record of a damaged topic")
        equal(connection.fetch(TOPICS[0], {0: ROUNDS * BATCH})[0][0], 0, "fetch of the next record")
        damage.repair()
        for topic, offset in [(TOPICS[0], min(damage.gone)), (TOPICS[0], min(damage.bad)), (TOPICS[1], min(damage.gone))]:
            wait_until(lambda: connection.fetch(topic, {0: offset})[0][0] == 0, 15, f"{topic}@{offset} is readable once its object is whole again")
    broker.stop()


@case(own_broker=True)
def flipped_bit_in_a_merged_object(context):
    """Merged objects hold many batches: exactly the one with the changed bit fails, loudly; changed back, it is readable again."""
    broker, token = write_rounds(context, esker_checkpoint_interval="100ms", esker_merge_age="100ms", esker_gc_grace="0ms")
    broker.start()

    def in_one_merged_object():
        value = value_of(TOPICS[0], FLIPPED * BATCH + 1, token)
        holding = [path for path in broker.data_dir.rglob("*") if path.is_file() and value in path.read_bytes()]
        return len(holding) == 1 and "/merged/" in str(holding[0])
    wait_until(in_one_merged_object, 30, "everything is merged")
    broker.stop()
    path, at = object_of(broker, TOPICS[0], FLIPPED * BATCH + 1, token)
    flip(path, at + 5)
    bad = set(range(FLIPPED * BATCH, FLIPPED * BATCH + BATCH))
    broker.start()
    inspect(broker, token, {TOPICS[0]: bad, TOPICS[1]: set()})
    consumer_does_not_skip(broker, TOPICS[0], bad)
    flip(path, at + 5)
    with wire.Connection(broker.bootstrap) as connection:
        wait_until(lambda: connection.fetch(TOPICS[0], {0: min(bad)})[0][0] == 0, 15, "it is readable once its object is whole again")
    broker.stop()


@case(own_broker=True)
def check_data_names_the_damage(context):
    """check-data exits 0 on a healthy node, 1 on a damaged one, naming topics and offsets, and 0 again after the repair."""
    broker, token = write_rounds(context)
    code, said = broker.check_data()
    check(code == 0, f"check-data exits {code} on a healthy node: {said[-800:]}")
    damage = Damage(broker, token)
    code, said = broker.check_data()
    equal(code, 1, f"exit code of check-data on a damaged node, which said {said[-800:]}")
    for topic, first in [(TOPICS[0], min(damage.gone)), (TOPICS[1], min(damage.gone)), (TOPICS[0], min(damage.bad))]:
        check(re.search(rf"{topic}\D.*\b{first}\b", said), f"check-data does not name offset {first} of {topic}: {said[-1500:]}")
    check("untouched" not in said, f"check-data blames the untouched topic: {said[-1500:]}")
    damage.repair()
    code, said = broker.check_data()
    equal(code, 0, f"exit code of check-data on the repaired node, which said {said[-800:]}")


@case(own_broker=True)
def removed_while_running(context):
    """The object of a record nobody has read since the start vanishes under the running broker: loud (or read from a
    copy, if upkeep had made one by then), and nothing else suffers."""
    broker, token = write_rounds(context)
    broker.start()
    removed, _ = object_of(broker, TOPICS[0], REMOVED * BATCH, token)
    removed.unlink()
    gone = set(range(REMOVED * BATCH, REMOVED * BATCH + BATCH))
    inspect(broker, token, {t: gone for t in TOPICS}, certainly=False)
    broker.stop()


@case(own_broker=True)
def every_byte_of_an_object(context):
    """Bytes all over an object changed in turn under the running broker: a fetch answers loudly or with what was sent, never with anything else."""
    broker, token = write_rounds(context, esker_cache_bytes=0)
    path, _ = object_of(broker, TOPICS[0], FLIPPED * BATCH, token)
    whole, first, last = path.read_bytes(), FLIPPED * BATCH, FLIPPED * BATCH + BATCH
    positions, loud = range(0, len(whole), max(1, len(whole) // 200)), 0
    broker.start()
    with wire.Connection(broker.bootstrap) as connection:
        for at in positions:
            path.write_bytes(whole)
            flip(path, at)
            for topic in TOPICS:
                code, _, _, _, data = connection.fetch(topic, {0: first}, partition_max_bytes=1, max_bytes=1)[0]
                check(code in LOUD or code == 0 and data, f"byte {at}: error {code}, {len(data)} bytes")
                loud += code != 0
                for _, _, records in wire.decode_batches(data)[:1]:
                    equal(records, [(o, None, value_of(topic, o, token)) for o in range(first, last)], f"records with byte {at} changed")
    check(loud > 0, "no changed byte was noticed: was the object read at all?")
    context.note(f"{loud} of {2 * len(positions)} fetches refused over {len(whole)} bytes")


@case(own_broker=True)
def check_data_survives_any_byte(context):
    """check-data with bytes all over an object changed: it reports, it does not crash, and a changed record is never called whole."""
    broker, token = write_rounds(context)
    path, at_value = object_of(broker, TOPICS[0], FLIPPED * BATCH, token)
    whole, noticed = path.read_bytes(), 0
    code, said = broker.check_data()
    equal(code, 0, f"exit code of check-data on a healthy node, which said {said[-800:]}")
    positions = [*range(0, len(whole), max(1, len(whole) // 30)), at_value]
    for at in positions:
        flip(path, at)
        code, said = broker.check_data()
        check(code in (0, 1) and "panicked" not in said, f"check-data exits {code} with byte {at} of {len(whole)} changed: {said[-500:]}")
        noticed += code
        path.write_bytes(whole)
    equal(code, 1, "exit code with a byte of a record changed")
    context.note(f"noticed {noticed} of {len(positions)} changed bytes")
