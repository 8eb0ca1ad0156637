"""Groups whose members are the examples in Python and Go, librdkafka and Java: they share partitions, and go on where another has left off.

Owns: members that write down which offsets they have read. Does not own: the examples, and how they are run (`grpc_clients`).
"""
import json
import signal
import subprocess
import threading
import time

import groups
import stock
from grpc_clients import GO, LANGUAGES, PYTHON
from harness import case, check, equal, wait_until

PARTITIONS = 8


class GrpcMember:
    """A member of an example's. `seen` is what it has written: (partition, offset)."""

    def __init__(self, language, grpc, group, topic, log):
        self.client_id, self.seen = language.name, set()
        self.process = language.popen("consume", grpc, "--topic", topic, "--group", group, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            found = json.loads(line)
            self.seen.add((found["partition"], found["offset"]))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(30), 0, f"exit code of {self.client_id} after SIGTERM")

    def kill(self):
        self.process.kill()
        self.process.wait()


class LibrdkafkaMember(groups.Member):
    def __init__(self, bootstrap, group, topic):
        self.client_id, self.seen = "librdkafka", set()
        super().__init__(bootstrap, group, topic, client_id=self.client_id)

    def work(self):
        while not self.stopping.is_set():
            messages = [m for m in self.consumer.consume(100, 0.1) if m.error() is None]
            self.seen.update((m.partition(), m.offset()) for m in messages)
            if messages:
                self.commit()
        self.consumer.close()


class JavaMember(groups.JavaMember):
    client_id = "java"

    @property
    def seen(self):
        ranges = [part for event in list(self.events) if event["name"] == "records_consumed" for part in event["partitions"]]
        return {(part["partition"], offset) for part in ranges for offset in range(part["minOffset"], part["maxOffset"] + 1)}


class Feeder:
    """Writes records to all partitions until it is stopped."""

    def __init__(self, bootstrap, topic):
        self.stopping, self.sent = threading.Event(), set()
        self.thread = threading.Thread(target=self.work, args=(stock.producer(bootstrap), topic), daemon=True)
        self.thread.start()

    def work(self, producer, topic):
        while not self.stopping.wait(0.02):
            delivered = stock.send(producer, topic, [{"value": b"x", "partition": partition} for partition in range(PARTITIONS)])
            self.sent.update((m.partition(), m.offset()) for m in delivered)

    def stop(self):
        self.stopping.set()
        self.thread.join(30)


def shared_by(bootstrap, group, members):
    """Waits until these clients, and no others, share all partitions, each of which has one reader. Returns seconds."""
    began, expected = time.monotonic(), sorted(name(member) for member in members)

    def settled():
        try:
            found = groups.described(bootstrap, group)
        except stock.KafkaException:
            return False
        held = [sorted(p.partition for p in member.assignment.topic_partitions) for member in found.members]
        return (found.state == groups.ConsumerGroupState.STABLE and sorted(map(called, found.members)) == expected and all(held)
                and sorted(sum(held, [])) == list(range(PARTITIONS)))

    wait_until(settled, 60, f"{', '.join(expected)} share {PARTITIONS} partitions", every=0.1)
    return time.monotonic() - began


def name(member):
    return member.client_id


def called(described):
    # VerifiableConsumer makes up its own.
    return described.client_id if described.client_id in ("python", "go", "librdkafka") else "java"


@case(grpc=True)
def members_of_four_kinds(context):
    """Python, Go, librdkafka and Java share a topic while it is written; members leave, are killed and come. Every record is read, none skipped."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("mixed"), PARTITIONS)
    group = topic + "-group"
    started = []

    def start(kind):
        member = {"python": lambda: GrpcMember(PYTHON, broker.grpc, group, topic, context.work / f"{len(started)}.log"),
                  "go": lambda: GrpcMember(GO, broker.grpc, group, topic, context.work / f"{len(started)}.log"),
                  "librdkafka": lambda: LibrdkafkaMember(broker.bootstrap, group, topic),
                  "java": lambda: JavaMember(broker.bootstrap, group, topic, context.work / f"java-{len(started)}.log")}[kind]()
        started.append(member)
        return member

    feeder = Feeder(broker.bootstrap, topic)
    members = {kind: start(kind) for kind in ("python", "go", "librdkafka", "java")}
    try:
        for step in (None, ("stop", "python"), ("start", "python"), ("kill", "go"), ("start", "go"), ("stop", "librdkafka"), ("stop", "java")):
            if step is not None and step[0] == "start":
                members[step[1]] = start(step[1])
            elif step is not None:
                getattr(members.pop(step[1]), step[0])()
            seconds = shared_by(broker.bootstrap, group, members.values())
            context.note(f"{' '.join(step or ('all',))} {seconds:.1f} s")
            read_by_each(members.values())
        feeder.stop()
        wait_until(lambda: feeder.sent <= set().union(*(member.seen for member in started)), 30, "every record is read")
        ends = {partition: 1 + max(o for p, o in feeder.sent if p == partition) for partition in range(PARTITIONS)}
        equal(len(feeder.sent), sum(ends.values()), "records that were written")
        check_commits(broker, group, topic, ends)
    finally:
        feeder.stop()
        for member in members.values():
            member.stop()
    context.note(f"{len(feeder.sent)} records")


def read_by_each(members):
    """Waits until each of the members has read something new."""
    before = {member: len(member.seen) for member in members}
    wait_until(lambda: all(len(member.seen) > before[member] for member in members), 30, "each of the members reads")


def check_commits(broker, group, topic, ends):
    """Kafka's tool and the examples' show the same offsets, the ends of all partitions."""
    def described():
        output, _, _ = stock.java(groups.GROUPS, "--bootstrap-server", broker.bootstrap, "--describe", "--group", group)
        lines = [line.split() for line in output.splitlines() if line.startswith(group)]
        return {int(line[2]): (int(line[3]), int(line[5])) for line in lines}

    wait_until(lambda: described() == {partition: (end, 0) for partition, end in ends.items()}, 30, "kafka-consumer-groups shows the ends as committed")
    for language in LANGUAGES:
        process = language.popen("admin", broker.grpc, "lag", group, stdout=subprocess.PIPE, text=True)
        expected = {f"{topic}/{partition}: committed {end} of {end}, 0 to go" for partition, end in ends.items()}
        equal(set(process.communicate(timeout=30)[0].splitlines()), expected, f"what {language.name} says of the group")


@case(grpc=True)
def each_goes_on_where_another_left_off(context):
    """One member after the other reads a thousand records: what one kind of client has committed is where the next one begins."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("relay"), 1)
    group, count = topic + "-group", 1_000
    stock.send(stock.producer(broker.bootstrap, linger_ms=5), topic, ({"value": b"%d" % n} for n in range(6 * count)))
    runners = [(lambda language=language: grpc_offsets(language, broker, topic, group, count)) for language in LANGUAGES]
    runners += [lambda: librdkafka_offsets(broker, topic, group, count), lambda: java_offsets(broker, topic, group, count)]
    for nth, runner in enumerate([*runners, *runners[:2]]):
        equal(runner(), list(range(nth * count, (nth + 1) * count)), f"what reader {nth} reads")


def grpc_offsets(language, broker, topic, group, count):
    return [offset for offset, _ in language.consume(broker.grpc, topic, count, "--group", group)[0]]


def librdkafka_offsets(broker, topic, group, count):
    consumer, offsets = stock.consumer(broker.bootstrap, group), []
    consumer.subscribe([topic])
    deadline = time.monotonic() + 30
    while len(offsets) < count:
        check(time.monotonic() < deadline, f"librdkafka reads only {len(offsets)} records")
        offsets += [m.offset() for m in consumer.consume(count - len(offsets), 0.5) if m.error() is None]
    consumer.commit(offsets=[stock.TopicPartition(topic, 0, offsets[-1] + 1)], asynchronous=False)
    consumer.close()
    return offsets


def java_offsets(broker, topic, group, count):
    output, _, _ = stock.java(stock.CONSOLE_CONSUMER, "--bootstrap-server", broker.bootstrap, "--topic", topic, "--group", group, "--max-messages", count,
                              "--timeout-ms", 20_000, "--formatter-property", "print.offset=true", "--formatter-property", "print.value=false")
    return [int(line.removeprefix("Offset:")) for line in output.splitlines()]
