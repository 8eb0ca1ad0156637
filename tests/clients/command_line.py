"""The commands of `esker` as a client: of Esker beside kcat and librdkafka, and of a real Kafka, which it must serve as well.

Owns: which commands are tried. Does not own: what each prints in detail (`cli/tests`).
"""
import base64
import collections
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import termios
import time

import stock
from harness import CACHE, ROOT, Failed, case, check, equal, wait_until
from real_kafka import Kafka

SECONDS = 60
RECORDS = [(None, b"", []), (b"", None, [("a", b"1"), ("a", None), ("", b"")]), (b"k", b"v\n\t", []), (b"\xff\x00", b"\x00\xfe", [("b", b"\xff")]),
           ("ä".encode(), "ü".encode(), [])]


def esker(context, bootstrap, *args, stdin=b"", ok=True):
    command = [context.binary, *map(str, args), "--bootstrap", bootstrap]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS)
    if ok and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, args))} exited {done.returncode}: {done.stderr.decode(errors='replace')[-1500:]}")
    return done


class RealKafka:
    """One for all cases of the module."""

    def __init__(self):
        subprocess.run([sys.executable, ROOT / "tests" / "clients" / "setup", "--judge"], check=True)
        directory = CACHE / "work" / "command_line-kafka"
        shutil.rmtree(directory, ignore_errors=True)
        self.kafka = Kafka(directory).start()

    def close(self):
        self.kafka.kill()
        self.kafka.remove()


def both(function):
    """A case that is run on Esker, and one that is run on a real Kafka."""
    def on_esker(context):
        function(context, context.shared().bootstrap)

    def on_kafka(context):
        function(context, context.kept("kafka", RealKafka).kafka.bootstrap)

    for where, run in {"esker": on_esker, "kafka": on_kafka}.items():
        run.__module__ = __name__
        case(run, name=f"{function.__name__}/{where}")
    return function


def said(data):
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def as_json(record):
    key, value, headers = record
    return json.dumps({"key": said(key), "value": said(value), "headers": [[name, said(data)] for name, data in headers]})


@both
def what_it_writes_librdkafka_reads(context, bootstrap):
    for codec in stock.CODECS:
        topic = stock.create_topic(bootstrap, context.topic(codec))
        lines = "".join(as_json(record) + "\n" for record in RECORDS)
        esker(context, bootstrap, "produce", topic, "--input", "json", "--compression", codec, stdin=lines.encode())
        messages = stock.read(bootstrap, topic)
        equal([(m.key(), m.value(), m.headers() or []) for m in messages], RECORDS, f"records with {codec}")


@both
def what_librdkafka_writes_it_reads(context, bootstrap):
    for codec in stock.CODECS:
        topic = stock.create_topic(bootstrap, context.topic(codec))
        records = [{"key": key, "value": value, "headers": headers} for key, value, headers in RECORDS]
        stock.send(stock.producer(bootstrap, linger_ms=20, compression_type=codec), topic, records)
        told = [json.loads(line) for line in esker(context, bootstrap, "consume", topic, "--json").stdout.splitlines()]
        equal([{name: record[name] for name in ("key", "value", "headers")} for record in told], [json.loads(as_json(record)) for record in RECORDS],
              f"records with {codec}")


@both
def kcat_and_it_agree(context, bootstrap):
    """Same partitions for the same keys as librdkafka's murmur2, same text for the same format."""
    topic, other = (stock.create_topic(bootstrap, context.topic(name), 5) for name in ("ours", "theirs"))
    lines = "".join(f"key {n % 97}\tvalue {n}\n" for n in range(2000)).encode()
    esker(context, bootstrap, "produce", topic, "--key-separator", "\\t", stdin=lines)
    path = context.work / "lines"
    path.write_bytes(lines)
    with path.open("rb") as file:
        stock.kcat("-b", bootstrap, "-P", "-t", other, "-K", "\t", "-X", "topic.partitioner=murmur2_random", stdin=file)
    format = "%p %k=%s %S %K\\n"
    ours = esker(context, bootstrap, "consume", topic, "--format", format).stdout
    check(len(ours.splitlines()) == 2000, f"{len(ours.splitlines())} of 2000 records")
    for name in (topic, other):
        theirs = stock.kcat("-b", bootstrap, "-C", "-t", name, "-e", "-q", "-o", "beginning", "-f", format).stdout
        equal(collections.Counter(theirs.splitlines()), collections.Counter(ours.splitlines()), f"what kcat reads of {name}")


@both
def a_group_with_librdkafka(context, bootstrap):
    """Each member reads some partitions; when one leaves, the other reads all; nothing is read twice or lost."""
    topic, group = stock.create_topic(bootstrap, context.topic("shared"), 4), context.topic("group")
    output = context.work / "printed"
    with output.open("wb") as file:
        ours = stock.popen([context.binary, "consume", topic, "--group", group, "--bootstrap", bootstrap, "--format", "%p %s\\n"], stdout=file)
    theirs = stock.consumer(bootstrap, group, enable_auto_commit=True, auto_offset_reset="earliest", session_timeout_ms=10_000, heartbeat_interval_ms=500,
                            partition_assignment_strategy="range")
    theirs.subscribe([topic])
    try:
        wait_until(lambda: theirs.poll(0.1) or len(theirs.assignment()) == 2, 60, "both have two partitions each")
        sender = stock.producer(bootstrap)
        stock.send(sender, topic, [{"value": b"%d" % n, "partition": n % 4} for n in range(400)])
        read = []
        deadline = time.monotonic() + 30
        while len(read) + len(output.read_bytes().splitlines()) < 400 and time.monotonic() < deadline:
            read += [(m.partition(), m.value()) for m in theirs.consume(100, 0.2) if not m.error()]
        mine = {partition for partition, _ in read}
        printed = [line.split(b" ") for line in output.read_bytes().splitlines()]
        equal(sorted([int(value) for _, value in read] + [int(value) for _, value in printed]), list(range(400)), "what both have read")
        equal((len(mine), len({partition for partition, _ in printed})), (2, 2), "partitions of each")
        ours.send_signal(signal.SIGINT)
        equal(ours.wait(20), 0, "exit code after SIGINT")
        wait_until(lambda: theirs.poll(0.1) or len(theirs.assignment()) == 4, 20, "the other has all partitions")
        stock.send(sender, topic, [{"value": b"%d" % n, "partition": n % 4} for n in range(400, 440)])
        after = []
        deadline = time.monotonic() + 30
        while len(after) < 40 and time.monotonic() < deadline:
            after += [int(m.value()) for m in theirs.consume(100, 0.2) if not m.error()]
        equal(sorted(after), list(range(400, 440)), "what is read after one has left")
    finally:
        theirs.close()


@case
def only_what_kafka_has_committed(context):
    """Esker has no transactions yet."""
    bootstrap = context.kept("kafka", RealKafka).kafka.bootstrap
    topic = stock.create_topic(bootstrap, context.topic("transactions"))
    producer = stock.producer(bootstrap, transactional_id=context.topic("id"))
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(30)
        end(30)
    equal(esker(context, bootstrap, "consume", topic, "--read-committed").stdout, b"committed\n", "with --read-committed")
    equal(esker(context, bootstrap, "consume", topic).stdout, b"aborted\ncommitted\n", "without")


@both
def benches(context, bootstrap):
    topic = context.topic("bench")
    written = json.loads(esker(context, bootstrap, "bench", "produce", "--topic", topic, "--partitions", 3, "--rate", 800, "--duration", "2s", "--spread", 3,
                               "--idempotent", "--batch", "8KiB", "--json").stdout)
    check(800 <= written["records"] <= 1624, f"800 a second for 2 s are {written['records']}")
    read = json.loads(esker(context, bootstrap, "bench", "consume", "--topic", topic, "--check", "--json").stdout)
    equal(read["records"], written["records"], "records read")
    equal(sum(high - low for low, high in (stock.watermarks(bootstrap, topic, partition) for partition in range(3))), written["records"], "offsets")
    lone = json.loads(esker(context, bootstrap, "bench", "latency", "--rate", 100, "--duration", "2s", "--json").stdout)
    acknowledged, seen = lone["latency"]
    equal(acknowledged["count"], seen["count"], "records that were read")
    check(100 <= seen["count"] <= 201, f"100 a second for 2 s are {seen['count']}")
    context.note(f"lone records: p50 {acknowledged['p50_ms']} ms, read after {seen['p50_ms']} ms")


@case(own_broker=True)
def kills_while_it_writes(context):
    """Three times kill -9 under `esker produce`: every line is there once, and the summary knows."""
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, "killed", 3)
    writer = stock.popen([context.binary, "produce", topic, "--bootstrap", broker.bootstrap, "--json", "--key-separator", ","], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    count = 0
    for _ in range(3):
        before = time.monotonic()
        while time.monotonic() < before + 0.7:
            writer.stdin.write(b"".join(b"%d,%d\n" % (n % 11, n) for n in range(count, count + 500)))
            writer.stdin.flush()
            count += 500
        broker.kill()
        broker.start()
    summary, trouble = writer.communicate(timeout=SECONDS)
    equal(writer.returncode, 0, f"exit code ({trouble.decode()[-500:]})")
    told = json.loads(summary)
    equal((told["records"], told["unknown"], told["unwritten"]), (count, 0, 0), "what the summary says")
    read = esker(context, broker.bootstrap, "consume", topic, "--format", "%p %s\\n").stdout.splitlines()
    equal(sorted(int(line.split()[1]) for line in read), list(range(count)), "records")
    for partition in range(3):
        values = [int(line.split()[1]) for line in read if line.startswith(b"%d " % partition)]
        check(values == sorted(values), f"partition {partition} is out of order")
    context.note(f"{count} records")


@case
def an_end_by_signal_is_an_orderly_one(context):
    """Ctrl-C while input may still come: what was taken is acknowledged, and where it ended is said."""
    bootstrap = context.shared().bootstrap
    topic = stock.create_topic(bootstrap, context.topic("interrupted"))
    writer = stock.popen([context.binary, "produce", topic, "--bootstrap", bootstrap, "--linger-ms", "60000"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdin.write(b"1\n2\n3\n")
    writer.stdin.flush()
    wait_until(lambda: fcntl.ioctl(writer.stdin, termios.FIONREAD, b"\0" * 4) == b"\0" * 4, 20, "it has read what there is")
    writer.send_signal(signal.SIGINT)
    trouble = writer.stderr.read().decode()
    equal(writer.wait(20), 130, f"exit code ({trouble[-500:]})")
    # A signal that comes between reading and taking leaves nothing half done.
    count = int(trouble.split()[0])
    ended = "after stdin, line 3" if count else "before anything was read"
    check(" acknowledged in " in trouble and count in (0, 3) and ended in trouble, trouble)
    equal(esker(context, bootstrap, "consume", topic).stdout, b"1\n2\n3\n" if count else b"", "records")
