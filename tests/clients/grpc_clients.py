"""The examples of gRPC clients (examples/python, examples/go) beside Kafka clients, on the same topics: what one writes the other reads.

Owns: how the examples are run, what is demanded of flights that were read. Does not own: the examples; groups,
connections that break and reflection (`grpc_groups`, `grpc_cuts`, `grpc_described`).
"""
import json
import subprocess
import tempfile
import threading
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
        path = written(CACHE / "work" / f"{topic}.{self.name}.lines", records)
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
        """Runs it to its end and yields the lines of JSON that it writes."""
        with tempfile.TemporaryFile() as errors:
            process = self.popen(tool, grpc, *arguments, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            yield from map(json.loads, process.stdout)
            timer.cancel()
            code = process.wait(SECONDS)
            errors.seek(0)
            check(code == 0, f"{self.name} {tool} exits {code} (it has {SECONDS} s): {errors.read().decode()[-1500:]}")


PYTHON = Language("python", lambda tool: [CACHE / "venv" / "bin" / "python", ROOT / "examples" / "python" / f"{tool}.py"])
GO = Language("go", lambda tool: [CACHE / "go-examples" / "esker", tool])
LANGUAGES = [PYTHON, GO]


def written(path, records):
    with open(path, "w") as out:
        out.writelines(line(*record) for record in records)
    return path


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
    """The flights as the example has them: null, empty and other keys and values, headers that repeat, are empty or null."""
    global _records
    if _records is None:
        written = stock.run(PYTHON.command("nycflights")).stdout.splitlines()
        _records = [read(json.loads(line)) for line in written]
        kinds = [sum(record[field] == kind for record in _records) for field in (0, 1) for kind in (None, b"")]
        equal([len(_records), *kinds], [flights.FLIGHTS, flights.WITHOUT_TAIL_NUMBER, 32, 8_255, 458], "flights, null and empty keys, null and empty values")
    return _records


def verify(places, what, count=flights.FLIGHTS):
    """Demands each of the first so many flights once, in order within its partition, at offsets without a gap. Returns the partition of each key."""
    seen, homes, expected = bytearray(count), {}, records()
    equal(sorted(places), list(range(PARTITIONS)), f"{what}: partitions with records")
    for partition, found in places.items():
        before = -1
        for nth, (offset, record) in enumerate(found):
            number = int(record[2][0][1])
            if (offset, record) != (nth, expected[number]):  # only then is there something to say
                equal((offset, record), (nth, expected[number]), f"{what}: partition {partition}")
            if number <= before or seen[number]:
                raise Failed(f"{what}: {partition}@{offset}: flight {number} after flight {before}, or again")
            seen[number], before = 1, number
            if record[0] is not None and homes.setdefault(record[0], partition) != partition:
                raise Failed(f"{what}: key {record[0]!r} in partitions {homes[record[0]]} and {partition}")
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


def read_with_console(bootstrap, topic):
    """The same by Java's console consumer, to which a header is text, and what is null a marker."""
    shown = [part for name in ("timestamp", "partition", "offset", "headers", "key") for part in ("--formatter-property", f"print.{name}=true")]
    command = stock.java_command(stock.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", 20_000,
                                 "--max-messages", flights.FLIGHTS, *shown, "--formatter-property", f"null.literal={stock.NULL_MARKER}")
    places = {}
    for line in stock.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout:
        when, partition, offset, headers, key, value = line.rstrip("\n").split("\t", 5)
        pairs = [header.split(":", 1) for header in headers.split(",")]
        record = unmarked(key), unmarked(value), [(name, unmarked(value)) for name, value in pairs], int(when.removeprefix("CreateTime:"))
        places.setdefault(int(partition.removeprefix("Partition:")), []).append((int(offset.removeprefix("Offset:")), record))
    return places


def unmarked(text):
    return None if text == stock.NULL_MARKER else text.encode()


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
    """The examples write the flights; Kafka clients read what they wrote, record for record, each key where the Java client puts it."""
    broker = context.shared()
    homes = homes_of_keys(context, broker.bootstrap)
    for language, kafka in ((PYTHON, read_with_librdkafka), (GO, read_with_console)):
        topic = stock.create_topic(broker.bootstrap, context.topic(f"flights-of-{language.name}"), PARTITIONS)
        acknowledged = timed(context, language.name, language.produce, broker.grpc, topic, records())
        found = timed(context, "librdkafka" if language is PYTHON else "console", kafka, broker.bootstrap, topic)
        equal(verify(found, f"{topic} by a Kafka client"), homes, f"{topic}: partitions of keys")
        stored = {int(record[2][0][1]): (partition, offset) for partition, some in found.items() for offset, record in some}
        equal(acknowledged, [stored[number] for number in range(flights.FLIGHTS)], f"{topic}: where the acks say that the flights are")


def homes_of_keys(context, bootstrap):
    """Where the Java client puts each key of the flights."""
    topic = stock.create_topic(bootstrap, context.topic("homes"), PARTITIONS)
    keys = {record[0] for record in records()} - {None}
    path = context.work / "keys"
    path.write_bytes(b"".join(key + b"\t\n" for key in sorted(keys)))
    with open(path, "rb") as lines:
        stock.run(stock.java_command(stock.CONSOLE_PRODUCER, "--bootstrap-server", bootstrap, "--topic", topic, "--reader-property", "parse.key=true",
                                     "--reader-property", "key.separator=\t"), stdin=lines)
    homes = {message.key(): partition for partition in range(PARTITIONS) for message in stock.read(bootstrap, topic, partition)}
    equal(set(homes), keys, "keys that the console producer has written")
    return homes


@case(grpc=True)
def errors_say_what_to_do(context):
    """What the examples say of errors: Kafka's code and name, whether it passes, advice; and of a batch that was refused in part what is stored."""
    broker = context.shared()
    small = stock.create_topic(broker.bootstrap, context.topic("small"), 2, max_message_bytes=2_000)
    records = [(b"key", b"x" * size, [], 0, partition) for partition, size in ((0, 10), (1, 5_000))]
    for language in LANGUAGES:
        said = fails(language, "produce", broker.grpc, "--topic", "no topic", lines="{}\n")
        check("(Kafka's 17, INVALID_TOPIC_EXCEPTION; stays)" in said and "use another name" in said, f"{language.name} of a wrong name: {said}")
        said = fails(language, "produce", broker.grpc, "--topic", small, lines="".join(line(*record) for record in records))
        for text in ("stored of batch 0", "(Kafka's 10, MESSAGE_TOO_LARGE; stays)", "raise max.message.bytes of the topic"):
            check(text in said, f"{language.name} of a record that is too large does not say {text}: {said}")
        said = fails(language, "consume", broker.grpc, "--topic", small + "-not")
        check("UNKNOWN_TOPIC_OR_PARTITION" in said and "create the topic" in said, f"{language.name} of a topic that does not exist: {said}")
        said = fails(language, "admin", broker.grpc, "create", small, "2")
        check("TOPIC_ALREADY_EXISTS" in said and "use the topic that exists" in said, f"{language.name} of a topic that exists: {said}")
    equal([m.value() for m in stock.read(broker.bootstrap, small, 0)], [b"x" * 10] * len(LANGUAGES), "what is stored of the batches")


def fails(language, tool, grpc, *arguments, lines=""):
    process = language.popen(tool, grpc, *arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.communicate(lines, timeout=SECONDS)[1]
    equal(process.returncode, 1, f"exit code of {language.name} {tool} {arguments}, which says {said[-1500:]}")
    return said
