"""How the stock clients are called: kcat, the Java tools, confluent-kafka.

Owns: command lines and client settings. Does not own: what is expected of the broker.
"""
import subprocess
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import CACHE, Failed

JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", f"{CACHE / 'jars'}/*"]
TOOLS = "org.apache.kafka.tools."
LOG_LEVEL = 0  # of librdkafka, on stderr; 7 shows everything
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
NULL_MARKER = "\\N"
CONSOLE_PRODUCER = TOOLS + "ConsoleProducer"
CONSOLE_CONSUMER = TOOLS + "consumer.ConsoleConsumer"


_children = []


def popen(command, **options):
    """Starts a client that ends with the case at the latest (see end_children)."""
    process = subprocess.Popen(command, **options)
    _children.append(process)
    return process


def end_children():
    """Kills what popen() started and a failed case left behind."""
    while _children:
        process = _children.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def java_command(main, *args):
    return [*JAVA, main if "." in main else TOOLS + main, *map(str, args)]


def run(command, timeout=120, stdin=None, stdout=None, ok=True):
    """Runs a client to its end. stdin and stdout may be open files; without them text is captured."""
    result = subprocess.run(command, timeout=timeout, stdin=stdin if stdin is not None else subprocess.DEVNULL,
                            stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE)
    result.stderr = result.stderr.decode(errors="replace")
    if ok and result.returncode != 0:
        name = next((a for a in command if a.startswith(TOOLS)), command[0])
        raise Failed(f"{name} exited {result.returncode}: {result.stderr[-1500:]}")
    return result


def java(main, *args, timeout=120, ok=True):
    """Runs a Java tool and returns (stdout, stderr, exit code)."""
    result = run(java_command(main, *args), timeout=timeout, ok=ok)
    return result.stdout.decode(), result.stderr, result.returncode


def kcat(*args, stdin=None, stdout=None, timeout=120, ok=True):
    return run(["kcat", *map(str, args)], stdin=stdin, stdout=stdout, timeout=timeout, ok=ok)


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": LOG_LEVEL})


def create_topic(bootstrap, name, partitions=1, **config):
    """Creates a topic and waits for the answer; config names use `_` for `.`."""
    topic = NewTopic(name, partitions, 1, config={k.replace("_", "."): str(v) for k, v in config.items()})
    client = admin(bootstrap)  # must outlive the future
    client.create_topics([topic], operation_timeout=10)[name].result(20)
    return name


def describe(bootstrap, name):
    """TopicDescription of librdkafka: topic_id, partitions."""
    client = admin(bootstrap)
    return client.describe_topics(TopicCollection([name]), request_timeout=15)[name].result(20)


def dotted(config):
    """Keyword arguments as client settings: `_` is `.`, but for those that are spelled with `_`."""
    return {k if k in ("log_level", "stats_cb", "error_cb") else k.replace("_", "."): v for k, v in config.items()}


def producer(bootstrap, **config):
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": LOG_LEVEL, **dotted(config)})


def send(producer, topic, records, timeout=30):
    """Produces (key, value) pairs or dicts of produce() arguments, waits for all; returns the delivered messages in order of delivery."""
    delivered, failed = [], []

    def on_delivery(error, message):
        if error is None:
            delivered.append(message)
        else:
            failed.append(error)

    for record in records:
        arguments = record if isinstance(record, dict) else {"key": record[0], "value": record[1]}
        while True:
            try:
                producer.produce(topic, on_delivery=on_delivery, **arguments)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(timeout)
    if failed or left:
        raise Failed(f"{len(failed)} records failed, {left} unanswered; first error: {failed[0] if failed else 'time-out'}")
    return delivered


def consumer(bootstrap, group="unused", **config):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error",
                     "fetch.wait.max.ms": 100, "log_level": LOG_LEVEL, **dotted(config)})


def watermarks(bootstrap, topic, partition=0):
    """(log start offset, high watermark) as the broker says now."""
    client = consumer(bootstrap)
    try:
        return client.get_watermark_offsets(TopicPartition(topic, partition), timeout=15)
    finally:
        client.close()


def read(bootstrap, topic, partition=0, start=None, end=None, timeout=60, **config):
    """All messages of [start, end) of one partition, by a consumer without a group."""
    client = consumer(bootstrap, **config)
    try:
        low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=15)
        start, end = low if start is None else start, high if end is None else end
        client.assign([TopicPartition(topic, partition, start)])
        messages, deadline = [], time.monotonic() + timeout
        while start < end and (not messages or messages[-1].offset() < end - 1):
            if time.monotonic() > deadline:
                at = messages[-1].offset() if messages else start
                raise Failed(f"{topic}/{partition}: read {len(messages)} of [{start}, {end}) in {timeout} s, last offset {at}")
            left = end - (messages[-1].offset() + 1 if messages else start)
            for message in client.consume(min(left, 10_000), 0.5):
                if message.error():
                    raise Failed(f"{topic}/{partition}: {message.error()}")
                messages.append(message)
        return messages
    finally:
        client.close()


def properties_file(path, **config):
    path.write_text("".join(f"{k.replace('_', '.')}={v}\n" for k, v in config.items()))
    return path
