"""The examples of gRPC clients (examples/python, examples/go) beside Kafka clients, on the same topics: what one writes the other reads.

Owns: the flights as records with everything that a record may have, how the examples are run. Does not own: the examples; groups,
connections that break and reflection (`grpc_groups`, `grpc_cuts`, `grpc_described`).
"""
import calendar
import json
import subprocess
import time

import flights
import stock
from harness import CACHE, ROOT, Failed, case, check, equal

PARTITIONS = 4
SECONDS = 120


class Language:
    """How the examples of one language are called."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def popen(self, tool, grpc, *arguments, **options):
        return stock.popen([*self.command(tool), "--agents", grpc, "--client-id", self.name, *map(str, arguments)], **options)

    def produce(self, grpc, topic, records, *arguments):
        """Writes (key, value, headers, timestamp) and perhaps a partition; returns partition and offset of each record as it was acknowledged."""
        path = CACHE / "work" / f"{topic}.{self.name}.lines"
        with open(path, "w") as out:
            out.writelines(line(*record) for record in records)
        try:
            return [(place["partition"], place["offset"]) for place in self.run("produce", grpc, "--topic", topic, *arguments, path)]
        finally:
            path.unlink()

    def consume(self, grpc, topic, count, *arguments):
        """{partition: [(offset, record)]} of the first so many records of a topic."""
        places = {}
        for found in self.run("consume", grpc, "--topic", topic, "--count", count, *arguments):
            equal(found["topic"], topic, "topic of a record")
            places.setdefault(found["partition"], []).append((found["offset"], read(found)))
        return places

    def run(self, tool, grpc, *arguments):
        """Runs it to its end and returns the lines of JSON that it has written."""
        process = self.popen(tool, grpc, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"{self.name} {tool} does not end within {SECONDS} s: {process.communicate()[1].decode()[-1500:]}") from None
        check(process.returncode == 0, f"{self.name} {tool} exits {process.returncode}: {err.decode()[-1500:]}")
        return [json.loads(line) for line in out.splitlines()]


PYTHON = Language("python", lambda tool: [CACHE / "venv" / "bin" / "python", ROOT / "examples" / "python" / f"{tool}.py"])
GO = Language("go", lambda tool: [CACHE / "go-examples" / "esker", tool])
LANGUAGES = [PYTHON, GO]


def line(key, value, headers, timestamp, partition=None):
    """A record as the examples take it."""
    fields = {"key": text(key), "value": text(value), "headers": [(name, text(data)) for name, data in headers], "timestamp": timestamp}
    return json.dumps(fields if partition is None else fields | {"partition": partition}) + "\n"


def read(fields):
    """A record as the examples tell it: (key, value, headers, timestamp)."""
    headers = [(name, data(value)) for name, value in fields["headers"]]
    return data(fields["key"]), data(fields["value"]), headers, fields["timestamp"]


def text(data):
    return None if data is None else data.decode()


def data(text):
    return None if text is None else text.encode()


_records = None


def records():
    """The flights as records. Cancelled ones have a null value, those that did not arrive an empty one; SkyWest's keys are empty."""
    global _records
    if _records is None:
        data, _records = flights.dataset(), []
        for number, (key, value) in enumerate(zip(data.keys, data.values)):
            flight = json.loads(value)
            delay = flight["arr_delay"]
            headers = [("line", b"%d" % number), ("stop", flight["origin"].encode()), ("stop", flight["dest"].encode()), ("gate", b""),
                       ("delay", None if delay is None else b"%d" % delay)]
            key = b"" if flight["carrier"] == "OO" and key is not None else key
            value = None if flight["dep_time"] is None else b"" if flight["arr_time"] is None else value
            when = calendar.timegm(time.strptime(flight["time_hour"], "%Y-%m-%dT%H:%M:%SZ")) * 1000 + number % 1000
            _records.append((key, value, headers, when))
        equal([sum(r[0] is None for r in _records), sum(r[0] == b"" for r in _records), sum(r[1] is None for r in _records), sum(r[1] == b"" for r in _records)],
              [flights.WITHOUT_TAIL_NUMBER, 32, 8_255, 458], "null keys, empty keys, null values, empty values")
    return _records


def verify(places, what, count=flights.FLIGHTS):
    """Demands each of the first so many flights once, in order within its partition, at offsets without a gap. Returns the partition of each key."""
    seen, homes = bytearray(count), {}
    equal(sorted(places), list(range(PARTITIONS)), f"{what}: partitions with records")
    for partition, found in places.items():
        before = -1
        for nth, (offset, record) in enumerate(found):
            equal(offset, nth, f"{what}: next offset of partition {partition}")
            number = int(record[2][0][1])
            equal(record, records()[number], f"{what}: {partition}@{offset}")
            check(number > before and not seen[number], f"{what}: {partition}@{offset}: flight {number} after flight {before}, or again")
            seen[number], before = 1, number
            if record[0] is not None:
                equal(homes.setdefault(record[0], partition), partition, f"{what}: partition of key {record[0]!r}")
    equal(sum(seen), count, f"{what}: flights")
    return homes


def send_flights(bootstrap, topic, flights, **settings):
    """By librdkafka, in order; keys go where the Java client sends them."""
    producer = stock.producer(bootstrap, enable_idempotence=True, partitioner="murmur2_random", linger_ms=20, **settings)
    stock.send(producer, topic, ({"key": key, "value": value, "headers": headers, "timestamp": when} for key, value, headers, when in flights), timeout=60)


def produce_with_librdkafka(bootstrap, topic):
    """A part of the flights with each codec."""
    each = -(-flights.FLIGHTS // len(stock.CODECS))
    for nth, codec in enumerate(stock.CODECS):
        send_flights(bootstrap, topic, records()[nth * each:(nth + 1) * each], compression_type=codec)


def read_with_librdkafka(bootstrap, topic):
    places = {}
    for partition in range(PARTITIONS):
        messages = stock.read(bootstrap, topic, partition)
        places[partition] = [(m.offset(), (m.key(), m.value(), m.headers(), m.timestamp()[1])) for m in messages]
    return places


def timed(context, what, function, *arguments):
    began = time.monotonic()
    result = function(*arguments)
    context.note(f"{what} {time.monotonic() - began:.1f} s")
    return result


@case(grpc=True)
def flights_of_kafka_clients(context):
    """librdkafka writes the flights with every codec; the examples read what it wrote, record for record."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("flights-to-grpc"), PARTITIONS)
    records()
    timed(context, "librdkafka", produce_with_librdkafka, broker.bootstrap, topic)
    for language in LANGUAGES:
        found = timed(context, language.name, language.consume, broker.grpc, topic, flights.FLIGHTS)
        verify(found, f"{topic} by {language.name}")


@case(grpc=True)
def flights_of_grpc_clients(context):
    """The examples write the flights; Kafka clients read what they wrote, record for record, each key where a Kafka client puts it."""
    broker = context.shared()
    homes = homes_of_keys(broker.bootstrap, context.topic("homes"))
    for language in LANGUAGES:
        topic = stock.create_topic(broker.bootstrap, context.topic(f"flights-of-{language.name}"), PARTITIONS)
        acknowledged = timed(context, language.name, language.produce, broker.grpc, topic, records())
        found = read_with_librdkafka(broker.bootstrap, topic)
        equal(verify(found, f"{topic} by librdkafka"), homes, f"{topic}: partitions of keys")
        stored = {int(record[2][0][1]): (partition, offset) for partition, some in found.items() for offset, record in some}
        equal(acknowledged, [stored[number] for number in range(flights.FLIGHTS)], f"{topic}: where the acks say that the flights are")


def homes_of_keys(bootstrap, topic):
    """Where librdkafka, as the Java client does, puts each key of the flights."""
    stock.create_topic(bootstrap, topic, PARTITIONS)
    keys = {record[0] for record in records()} - {None}
    producer = stock.producer(bootstrap, partitioner="murmur2_random", linger_ms=20)
    return {m.key(): m.partition() for m in stock.send(producer, topic, ((key, b"") for key in keys))}
