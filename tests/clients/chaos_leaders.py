"""Leaders of all partitions change every two seconds, under idempotent producers with five requests in flight.

Owns: the changes, and two producers that number their records. Does not own: the verdict (`history.Exact`).

At any time one agent takes partitions. Every two seconds the next one starts, so that a part of the partitions moves while both live, and then the
first one is drained, so that the rest moves. CHAOS_KILLS above 40 makes it a million records instead of a hundred thousand; CHAOS_RECORDS says how
many.
"""
import collections
import json
import os
import subprocess
import threading
import time

import chaos
import history
import stock
from chaos_takeovers import metric
from harness import CLUSTER, case, check

PARTITIONS = 12
KEYS = 48
RECORDS = int(os.environ.get("CHAOS_RECORDS", "1000000" if chaos.KILLS > 40 else "100000"))
EVERY = 2.0
# Records a second of each producer: many changes pass while they are sent.
RATE = 6_000 if RECORDS > 200_000 else 2_000
PUT_MILLIS = 100
IN_FLIGHT = 5
GIVE_UP_MS = 120_000


class Numbered(threading.Thread):
    """Sends `count` numbered records; acks are (number, partition, offset)."""

    def __init__(self, name, bootstrap, topic, count):
        super().__init__(name=name, daemon=True)
        self.bootstrap, self.topic, self.count, self.acks, self.failure = bootstrap, topic, count, [], None

    def run(self):
        try:
            self.work()
        except Exception as error:  # a thread's failure must fail the case
            self.failure = f"{self.name}: {error!r}"


class Librdkafka(Numbered):
    """confluent-kafka; the number names the partition. in_flight counts, second by second, the requests that wait for an answer, all brokers together."""

    def work(self):
        self.in_flight = collections.Counter()
        producer = stock.producer(self.bootstrap, enable_idempotence=True, max_in_flight=IN_FLIGHT, acks="all", linger_ms=5, message_timeout_ms=GIVE_UP_MS,
                                  retries=2**31 - 1, retry_backoff_ms=50, retry_backoff_max_ms=200, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200,
                                  topic_metadata_refresh_interval_ms=500, batch_num_messages=100, statistics_interval_ms=250, stats_cb=self.on_stats)
        began = time.monotonic()
        for number in range(self.count):
            while number - (time.monotonic() - began) * RATE > RATE / 50 or len(producer) > 20_000:
                producer.poll(0.005)
            producer.produce(self.topic, value=f"{self.name}{number}", partition=number % PARTITIONS, on_delivery=self.on_delivery)
            producer.poll(0)
        left = producer.flush(60)
        check(left == 0, f"{left} records without an answer")

    def on_stats(self, text):
        brokers = json.loads(text)["brokers"].values()
        self.in_flight[sum(broker["waitresp_cnt"] for broker in brokers)] += 1

    def on_delivery(self, error, message):
        if error is not None:
            self.failure = self.failure or f"{self.name}: {message.value()}: {error}"
        else:
            self.acks.append((int(message.value()[len(self.name):]), message.partition(), message.offset()))

    def partition(self, number):
        return number % PARTITIONS


class Java(Numbered):
    """Kafka's VerifiableProducer: the key, which repeats, decides the partition, and its first acknowledgement says which."""

    def __init__(self, *args, properties):
        super().__init__(*args)
        self.properties, self.places = properties, {}

    def work(self):
        command = stock.java_command("VerifiableProducer", "--bootstrap-server", self.bootstrap, "--topic", self.topic, "--throughput", RATE,
                                     "--max-messages", self.count, "--repeating-keys", KEYS, "--command-config", self.properties)
        process = stock.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in process.stdout:
            report = json.loads(line)
            if report["name"] == "producer_send_success":
                number, partition = int(report["value"]), report["partition"]
                self.acks.append((number, partition, report["offset"]))
                self.places.setdefault(number % KEYS, partition)
            elif report["name"] == "producer_send_error":
                self.failure = self.failure or f"{self.name}: {report}"
        process.wait()

    def partition(self, number):
        return self.places[number % KEYS]


class Leaders(threading.Thread):
    """What a client is told, ten times a second: how often each partition's leader changes, and whether there ever is none."""

    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self.client, self.topic, self.stopping = stock.admin(bootstrap), topic, threading.Event()
        self.last, self.changes = {}, collections.Counter()

    def run(self):
        while not self.stopping.wait(0.1):
            try:
                found = self.client.list_topics(self.topic, timeout=2).topics[self.topic].partitions
            except stock.KafkaException:
                continue
            for number, partition in found.items():
                if partition.leader >= 0:
                    self.changes[number] += self.last.get(number, partition.leader) != partition.leader
                    self.last[number] = partition.leader


class Rotation:
    """One agent takes partitions, then the next."""

    def __init__(self, cluster):
        self.cluster, self.at, self.count, self.latest = cluster, 0, 0, 0.0
        self.seconds = 0.0  # that produce requests waited for their acknowledgement, at agents that are gone
        for agent in cluster.agents[1:]:
            agent.stop()

    @property
    def current(self):
        return self.cluster.agents[self.at]

    def turn(self):
        began, before = time.monotonic(), self.current
        self.at = (self.at + 1) % len(self.cluster.agents)
        self.current.start()
        self.seconds += waited(before)
        before.stop()
        self.count += 1
        self.latest = max(self.latest, time.monotonic() - began)


def waited(agent):
    return metric(agent, "esker_produce_ack_seconds_sum")


@case(own_broker=True, needs=CLUSTER)
def leader_changes_with_five_in_flight(context):
    """IDM-1, LOG-3: each producer and partition has exactly the sequence that was sent, with no gap, no duplicate and in order, although every
    partition gets another leader every two seconds, five requests are in flight and each PUT takes 100 ms."""
    cluster = context.cluster(proxy=chaos.PROXY, settings={"esker.flush.age": "40ms", "esker.flush.min.interval": "20ms"})
    cluster.set_faults([{"fault": "delay", "from_millis": PUT_MILLIS, "to_millis": PUT_MILLIS, "verbs": ["PUT"]}])
    topic = stock.create_topic(cluster.bootstrap, context.topic("leaders"), PARTITIONS)
    properties = stock.properties_file(
        context.work / "producer.properties", enable_idempotence="true", acks="all", retries=2**31 - 1, delivery_timeout_ms=GIVE_UP_MS, linger_ms=5,
        batch_size=2048, max_in_flight_requests_per_connection=IN_FLIGHT, metadata_max_age_ms=500, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200,
        retry_backoff_ms=50, request_timeout_ms=10_000)
    producers = [Librdkafka("c", cluster.bootstrap, topic, RECORDS // 2), Java("j", cluster.bootstrap, topic, RECORDS // 2, properties=properties)]
    leaders, rotation = Leaders(cluster.bootstrap, topic), Rotation(cluster)
    leaders.start()
    began = time.monotonic()
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        time.sleep(max(0, began + (rotation.count + 1) * EVERY - time.monotonic()))
        rotation.turn()
        check(time.monotonic() < began + 20 * RECORDS / RATE, f"still sending; {[len(p.acks) for p in producers]} acknowledged")
    elapsed = time.monotonic() - began
    leaders.stopping.set()
    failures = [producer.failure for producer in producers if producer.failure]
    check(not failures, "; ".join(failures))
    in_flight, seen = (rotation.seconds + waited(rotation.current)) / elapsed, list(leaders.changes.values())
    usual = sorted(producers[0].in_flight.elements())
    exact = judge(cluster, topic, producers)
    context.note(f"{RECORDS} records in {elapsed:.0f} s, {rotation.count} turns (longest {rotation.latest:.2f} s), {min(seen)} to {max(seen)} changes of each "
                 f"partition's leader seen by clients, {in_flight:.1f} requests in flight on average, of librdkafka's {usual[len(usual) // 2]} (median) and at "
                 f"most {usual[-1]}; {len(exact.verdicts)} verdicts, {sum(exact.next.values())} stored")
    check(not exact.verdicts, f"{len(exact.verdicts)} verdicts: " + "; ".join(map(json.dumps, exact.verdicts[:8])))
    check(min(seen) >= rotation.count // 2 and usual[-1] >= IN_FLIGHT, "too few changes of leaders, or too little in flight, to show anything")


def judge(cluster, topic, producers):
    """Reads everything and compares."""
    owners = {producer.name: producer.partition for producer in producers}
    exact = history.Exact(lambda producer, number: owners[producer](number))
    for producer in producers:
        exact.sent[producer.name] = producer.count
        for number, partition, offset in producer.acks:
            exact.on_ack(producer.name, number, partition, offset)
    for partition in range(PARTITIONS):
        for message in stock.read(cluster.bootstrap, topic, partition, 0, timeout=300):
            value = message.value().decode()
            name = value[0] if value[0].isalpha() else "j"
            exact.on_read(partition, message.offset(), name, int(value.removeprefix(name)))
    exact.finish()
    return exact
