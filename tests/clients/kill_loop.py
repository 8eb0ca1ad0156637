"""kill -9 in a loop under live producers and consumers; the history checker decides. And under groups that commit offsets.

Owns: the loop, and how each client's history is recorded. Does not own: the verdicts (`history`).
Kills come at random times: in the middle of traffic after a random number of acknowledgements, right after the ready line, and
before it, while the broker is still recovering from the previous kill.
"""
import collections
import dataclasses
import json
import os
import random
import signal
import subprocess
import threading
import time

import history
import stock
import wire
from harness import Failed, case, check, equal, wait_until

PARTITIONS = 3
KEYS = 7
GIVE_UP_MS = 240_000  # producers retry for longer than the loop lasts: an acknowledgement is all they accept

BACKLOG_MAX = 20_000  # records a producer holds while the broker is down


class Recorder:
    """Appends events to the history and counts acknowledgements by producer. Called from several threads."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "w")
        self.lock = threading.Lock()
        self.acks = collections.Counter()
        self.errors = []

    def event(self, e, **facts):
        with self.lock:
            self.file.write(json.dumps({"e": e, **facts}) + "\n")
            if e == "ack":
                self.acks[facts["id"]] += 1

    def error(self, text):
        with self.lock:
            self.errors.append(text)

    def check(self):
        check(not self.errors, f"{len(self.errors)} client errors: " + "; ".join(self.errors[:5]))
        return True

    def close(self):
        self.file.close()


class Client(threading.Thread):
    """A producer or reader of the history, running until told to stop."""

    def __init__(self, name, bootstrap, topic, recorder):
        super().__init__(name=name, daemon=True)
        self.bootstrap, self.topic, self.recorder, self.stopping = bootstrap, topic, recorder, threading.Event()

    def run(self):
        try:
            self.work()
        except Exception as error:  # a thread's failure must fail the case
            self.recorder.error(f"{self.name}: {error!r}")

    def finish(self, timeout=60):
        self.stopping.set()
        self.join(timeout)
        if self.is_alive():
            self.recorder.error(f"{self.name}: still busy {timeout} s after the last restart")


class Confluent(Client):
    """confluent-kafka: idempotent, or plain with one request in flight."""

    def __init__(self, *args, idempotent, ordered=True, **config):
        super().__init__(*args)
        self.idempotent, self.ordered, self.config, self.count = idempotent, ordered, config, 0

    def work(self):
        self.recorder.event("producer", id=self.name, idempotent=self.idempotent, ordered=self.ordered)
        order = {} if self.idempotent else {"max_in_flight": 1}
        producer = stock.producer(self.bootstrap, enable_idempotence=self.idempotent, message_timeout_ms=GIVE_UP_MS,
                                  retries=2**31 - 1, retry_backoff_ms=50, retry_backoff_max_ms=200, reconnect_backoff_ms=20,
                                  reconnect_backoff_max_ms=200, **{**order, "acks": "all", "linger_ms": 2, **self.config})
        while not self.stopping.wait(0.01):
            for _ in range(10 if len(producer) < BACKLOG_MAX else 0):
                self.send(producer)
            producer.poll(0)
        left = producer.flush(60)
        check(left == 0, f"{left} records without an answer")

    def send(self, producer):
        value = f"{self.name}{self.count}"
        padding = "x" * (self.count * 7919 % 500)
        self.recorder.event("send", id=self.name, v=value)
        key = str(self.count % KEYS)
        self.count += 1
        producer.produce(self.topic, key=key, value=f"{value}|{padding}", on_delivery=lambda error, m: self.on_delivery(value, error, m))

    def on_delivery(self, value, error, message):
        if error is None:
            self.recorder.event("ack", id=self.name, v=value, p=f"{self.topic}/{message.partition()}", o=message.offset())
        else:
            self.recorder.error(f"{self.name}: {value} failed: {error}")


class Kcat(Client):
    """kcat says nothing about single records; exit code 0 at the end acknowledges them all."""

    def work(self):
        self.recorder.event("producer", id=self.name, idempotent=False, ordered=True)
        options = ["acks=all", "max.in.flight=1", f"message.timeout.ms={GIVE_UP_MS}", "message.send.max.retries=1000000", "retry.backoff.ms=50",
                   "reconnect.backoff.ms=20", "reconnect.backoff.max.ms=200", "log_level=0", "linger.ms=2"]
        command = ["kcat", "-P", "-E", "-b", self.bootstrap, "-t", self.topic, "-K", ":", *[a for o in options for a in ("-X", o)]]
        process = stock.popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        errors = []
        drain = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
        drain.start()
        count = 0
        while not self.stopping.wait(0.02):
            for _ in range(5):
                self.recorder.event("send", id=self.name, v=f"{self.name}{count}")
                process.stdin.write(f"{count % KEYS}:{self.name}{count}|\n")
                count += 1
        process.stdin.close()
        code = process.wait(60)
        drain.join()
        failed = [line.strip() for line in errors if "Delivery failed" in line]
        check(code == 0 and not failed, f"exit code {code}, {failed or ''.join(errors)[-300:]}")
        for n in range(count):
            self.recorder.event("ack", id=self.name, v=f"{self.name}{n}", p=None, o=None)


class Java(Client):
    """VerifiableProducer, idempotent: rising integers as values, one JSON line for each acknowledgement."""

    def __init__(self, *args, properties):
        super().__init__(*args)
        self.properties = properties

    def work(self):
        self.recorder.event("producer", id=self.name, idempotent=True, ordered=True)
        command = stock.java_command("VerifiableProducer", "--bootstrap-server", self.bootstrap, "--topic", self.topic, "--throughput", 400,
                                     "--repeating-keys", KEYS, "--command-config", self.properties)
        process = stock.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=lambda: (self.stopping.wait(), process.send_signal(signal.SIGTERM)), daemon=True).start()
        sent = 0
        for line in process.stdout:
            report = json.loads(line)
            if report["name"] == "producer_send_success":
                # It does not say when it sends, only that it counts upwards.
                sent = self.sent_up_to(sent, int(report["value"]) + 1)
                self.recorder.event("ack", id=self.name, v=self.name + report["value"], p=f"{report['topic']}/{report['partition']}",
                                    o=report["offset"])
            elif report["name"] == "producer_send_error":
                raise Failed(f"{report}")
            elif report["name"] == "tool_data":
                sent = self.sent_up_to(sent, report["sent"])
        process.wait()

    def sent_up_to(self, sent, end):
        for n in range(sent, end):
            self.recorder.event("send", id=self.name, v=f"{self.name}{n}")
        return max(sent, end)


class LiveReader(Client):
    """Reads everything as it comes, through every restart; what it saw must still be there at the end."""

    def __init__(self, name, bootstrap, topics, recorder):
        super().__init__(name, bootstrap, None, recorder)
        self.topics = topics

    def work(self):
        consumer = stock.consumer(self.bootstrap, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200, fetch_error_backoff_ms=20)
        places = [(t, p) for t in self.topics for p in range(PARTITIONS)]
        for topic, partition in places:
            self.recorder.event("seek", r=self.name, p=f"{topic}/{partition}", o=0)
        consumer.assign([stock.TopicPartition(t, p, 0) for t, p in places])
        while not self.stopping.is_set():
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is None:
                    record_read(self.recorder, self.name, self.topics, message)
                elif error.code() not in (stock.KafkaError._ALL_BROKERS_DOWN, stock.KafkaError._TRANSPORT):
                    self.recorder.error(f"{self.name}: {error}")
        consumer.close()


def record_read(recorder, reader, topics, message):
    value = message.value().decode().split("|")[0]
    owner = topics[message.topic()]
    if not value.startswith(owner):  # VerifiableProducer's values are bare numbers
        value = owner + value
    recorder.event("read", r=reader, p=f"{message.topic()}/{message.partition()}", o=message.offset(), v=value)


def record_ends(broker, topics, recorder):
    with wire.Connection(broker.bootstrap) as connection:
        for topic in topics:
            for partition in range(PARTITIONS):
                end = wait_until(lambda: latest(connection, topic, partition), 20, f"ListOffsets {topic}/{partition} without a retriable error")
                recorder.event("end", p=f"{topic}/{partition}", o=end.offset)


@dataclasses.dataclass
class End:
    offset: int


def latest(connection, topic, partition):
    """The high watermark, or None while the answer is retriable; any other error fails the case."""
    error, _, offset = connection.list_offset(topic, -1, partition)
    check(error in (0, wire.LEADER_NOT_AVAILABLE, wire.NOT_LEADER), f"ListOffsets {topic}/{partition}: error {error}")
    return End(offset) if error == 0 else None


def record_log(broker, topics, recorder):
    """The final, complete read."""
    for topic in topics:
        for partition in range(PARTITIONS):
            low, high = stock.watermarks(broker.bootstrap, topic, partition)
            equal(low, 0, f"log start offset of {topic}/{partition}")
            recorder.event("seek", r="final", p=f"{topic}/{partition}", o=0)
            for message in stock.read(broker.bootstrap, topic, partition, 0, high):
                record_read(recorder, "final", topics, message)
            recorder.event("complete", r="final", p=f"{topic}/{partition}", o=high)


def one_life(broker, dice, topics, recorder, patience):
    """Lets the running broker live for a random while, kills it, starts it again."""
    kind = dice.choice(["traffic", "traffic", "traffic", "moment"])
    if kind == "traffic":
        target = recorder.acks.total() + dice.randrange(1, 1_500)
        deadline = time.monotonic() + patience
        while recorder.acks.total() < target and time.monotonic() < deadline:
            time.sleep(0.001)
        if dice.random() < 0.3:
            record_ends(broker, topics, recorder)
    else:
        time.sleep(dice.uniform(0, 0.05))
    broker.kill()
    if dice.random() < 0.3:  # and once more while it is getting up
        broker.spawn()
        time.sleep(dice.uniform(0, 0.15))
        broker.kill()
    broker.start()
    record_ends(broker, topics, recorder)


def run_loop(context, kills, patience, make_clients, topics_of, **settings):
    seed = int(os.environ.get("ESKER_KILL_SEED", random.SystemRandom().randrange(1_000_000)))
    dice = random.Random(seed)
    broker = context.broker(**settings)
    topics = {stock.create_topic(broker.bootstrap, context.topic(name), PARTITIONS): name for name in topics_of}
    recorder = Recorder(context.work / "history.jsonl")
    clients = make_clients(broker.bootstrap, {name: topic for topic, name in topics.items()}, recorder)
    clients.append(LiveReader("live", broker.bootstrap, topics, recorder))
    try:
        quiet = live_and_die(broker, dice, kills, patience, clients, topics, recorder)
        for client in clients:
            client.finish()
    finally:
        for client in clients:
            client.stopping.set()
    record_log(broker, topics, recorder)
    recorder.close()
    with open(recorder.path) as events:
        verdicts, counts = history.check(events)
    context.note(f"seed {seed}, {kills} kills, " + ", ".join(f"{v} {k}" for k, v in counts.items()))
    recorder.check()
    check(not verdicts, f"seed {seed}: {len(verdicts)} verdicts: " + "; ".join(map(json.dumps, verdicts[:8])))
    check(quiet <= kills // 2, f"only {kills - quiet} of {kills} lives acknowledged anything: the loop proves nothing")
    broker.stop()
    code, said = broker.check_data()
    check(code == 0, f"check-data exits {code} on what the loop left: {said[-800:]}")


def live_and_die(broker, dice, kills, patience, clients, topics, recorder):
    """The loop itself; returns how many lives passed without an acknowledgement."""
    for client in clients:
        client.start()
    talkative = [c.name for c in clients if not isinstance(c, (Kcat, LiveReader))]
    wait_until(lambda: recorder.check() and all(recorder.acks[n] for n in talkative), 30, "a first acknowledgement for each producer")
    quiet = 0
    for _ in range(kills):
        before = recorder.acks.total()
        one_life(broker, dice, topics, recorder, patience)
        quiet += recorder.acks.total() == before
    marks = dict(recorder.acks)
    wait_until(lambda: recorder.check() and all(recorder.acks[n] > marks[n] for n in talkative), 60,
               "every producer goes on after the last restart")
    return quiet


@case(own_broker=True)
def idempotent_and_plain_producers(context):
    """One idempotent and two plain producers of confluent-kafka and one of kcat, 40 kills."""
    def clients(bootstrap, topics, recorder):
        return [Confluent("i", bootstrap, topics["i"], recorder, idempotent=True),
                Confluent("p", bootstrap, topics["p"], recorder, idempotent=False),
                Confluent("q", bootstrap, topics["q"], recorder, idempotent=False, acks=1),
                Kcat("k", bootstrap, topics["k"], recorder)]
    run_loop(context, 40, 4.0, clients, "ipqk")


@case(own_broker=True)
def java_idempotent_producer(context):
    """Kafka's own VerifiableProducer, idempotent as Java producers are by default, beside a compressing one of confluent-kafka, 15 kills."""
    def clients(bootstrap, topics, recorder):
        properties = stock.properties_file(
            context.work / "producer.properties", enable_idempotence="true", acks="all", retries=2**31 - 1, delivery_timeout_ms=GIVE_UP_MS,
            linger_ms=2, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200, retry_backoff_ms=50, request_timeout_ms=5000)
        return [Java("j", bootstrap, topics["j"], recorder, properties=properties),
                Confluent("z", bootstrap, topics["z"], recorder, idempotent=True, compression_type="zstd", linger_ms=20)]
    run_loop(context, 15, 4.0, clients, "jz")


@case(own_broker=True)
def checkpoints_merges_and_kills(context):
    """A checkpoint every few commits, objects collected at once and hardly a cache: kills hit every kind of upkeep. 30 kills."""
    def clients(bootstrap, topics, recorder):
        return [Confluent("i", bootstrap, topics["i"], recorder, idempotent=True, linger_ms=0),
                Confluent("p", bootstrap, topics["p"], recorder, idempotent=False)]
    run_loop(context, 30, 4.0, clients, "ip", esker_checkpoint_commits=8, esker_checkpoint_interval="200ms", esker_gc_grace="0ms",
             esker_cache_bytes="64KiB", esker_flush_age="1ms", esker_flush_min_interval="0ms", esker_merge_segments=4, esker_merge_age="100ms")


class Committer(Client):
    """Commits rising offsets for a group of its own, one after the other, and remembers which were acknowledged."""

    def __init__(self, *args):
        super().__init__(*args)
        self.tried = self.acked = 0

    def work(self):
        consumer = stock.consumer(self.bootstrap, self.name, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200)
        while not self.stopping.is_set():
            self.tried += 1
            asked = stock.TopicPartition(self.topic, 0, self.tried, metadata=f"commit {self.tried}")
            try:
                answers = consumer.commit(offsets=[asked], asynchronous=False)
            except stock.KafkaException:
                time.sleep(0.02)
                continue
            if all(answer.error is None for answer in answers):
                self.acked = self.tried
        consumer.close()

    def judge(self, least):
        """What is committed is at least what was acknowledged before the kill, and was asked for."""
        consumer = stock.consumer(self.bootstrap, self.name)
        found, = consumer.committed([stock.TopicPartition(self.topic, 0)], timeout=30)
        consumer.close()
        check(least <= found.offset <= self.tried, f"{self.name}: offset {found.offset}, acknowledged {least}, tried {self.tried}")
        equal(found.metadata, f"commit {found.offset}", "what was committed with it")


@case(own_broker=True)
def offset_commits(context):
    """Groups commit all the time, 20 kills: an acknowledged commit is there after each."""
    seed = int(os.environ.get("ESKER_KILL_SEED", random.SystemRandom().randrange(1_000_000)))
    dice, kills, recorder = random.Random(seed), 20, Recorder(context.work / "history.jsonl")
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, context.topic("committed"), 1)
    committers = [Committer(context.topic(f"group{n}"), broker.bootstrap, topic, recorder) for n in range(5)]
    for committer in committers:
        committer.start()
    try:
        for _ in range(kills):
            marks, more = [c.acked for c in committers], dice.randrange(1, 100)
            wait_until(lambda: recorder.check() and all(c.acked >= mark + more for c, mark in zip(committers, marks)), 60, "every group goes on")
            broker.kill()
            acked = [c.acked for c in committers]
            broker.start()
            for committer, least in zip(committers, acked):
                committer.judge(least)
    finally:
        for committer in committers:
            committer.finish()
    recorder.check()
    context.note(f"seed {seed}, {kills} kills, {sum(c.acked for c in committers)} commits")
