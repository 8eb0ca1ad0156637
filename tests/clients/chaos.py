"""A cluster under fire: agents killed, paused and cut off, etcd without its leader, a bucket in which things go wrong.

Owns: the faults and when they come; groups that read under them. Does not own: the cluster (infra/local/cluster.py), producers and
recording (`kill_loop`), the verdicts (`history`).

Three agents on three etcd members and MinIO serve an idempotent and a plain producer, a reader and a group of two. Whatever happens: nothing
that was acknowledged is lost, idempotent producers are stored once and in order, no consumer is reset or told OFFSET_OUT_OF_RANGE, committed
offsets never go back, and 30 s after the last fault everything works again. CHAOS_KILLS (40) says how long, ESKER_KILL_SEED which, CHAOS_ETCD
(etcd-3.6) on which etcd. More of it: `chaos_leaders`, `chaos_cuts`, `chaos_takeovers`.
"""
import collections
import json
import os
import random
import statistics
import subprocess
import threading
import time

import history
import stock
import wire
from harness import CLUSTER, ROOT, Failed, case, check, wait_until
from kill_loop import PARTITIONS, Client, Confluent, LiveReader, Recorder, latest, record_log

KILLS = int(os.environ.get("CHAOS_KILLS", "40"))
TTL = 5.0
HEALED = 30.0
PROXY = ROOT / "target" / "release" / "esker-proxy"
# librdkafka's words for "nobody answers right now"; anything else that a consumer is told is a failure.
TRANSIENT = {"_ALL_BROKERS_DOWN", "_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_RESOLVE", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "REQUEST_TIMED_OUT",
             "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "COORDINATOR_LOAD_IN_PROGRESS", "REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION",
             "UNKNOWN_MEMBER_ID", "_WAIT_COORD", "_NO_OFFSET", "_STATE", "_ASSIGNMENT_LOST", "_FENCED"}


class Member(Client):
    """One consumer of a group that commits what it read. Positions it is given never lie below what the group is known to have committed."""

    def __init__(self, name, bootstrap, topic, recorder, committed):
        super().__init__(name, bootstrap, topic, recorder)
        self.committed, self.read, self.assigned, self.unsure = committed, 0, 0, collections.Counter()

    def work(self):
        consumer = stock.consumer(self.bootstrap, "chaos", session_timeout_ms=10_000, heartbeat_interval_ms=500, reconnect_backoff_ms=20,
                                  reconnect_backoff_max_ms=200, fetch_error_backoff_ms=20, auto_offset_reset="earliest", socket_timeout_ms=5_000)
        consumer.subscribe([self.topic], on_assign=self.on_assign)
        while not self.stopping.is_set():
            messages = consumer.consume(500, 0.2)
            ends = {}
            for message in messages:
                if message.error() is not None:
                    self.tolerate(message.error())
                else:
                    ends[message.partition()] = message.offset() + 1
                    self.read += 1
            if ends:
                self.commit(consumer, ends)
        consumer.close()

    def on_assign(self, consumer, partitions):
        self.assigned += 1
        try:
            found = consumer.committed(partitions, timeout=20)
        except stock.KafkaException as error:
            return self.tolerate(error.args[0])
        for place in found:
            known = self.committed.get(place.partition, 0)
            if max(place.offset, 0) < known:
                self.recorder.error(f"{self.name}: committed offset of {place.topic}/{place.partition} is {place.offset}, was {known}")

    def commit(self, consumer, ends):
        places = [stock.TopicPartition(self.topic, p, o) for p, o in ends.items()]
        try:
            done = consumer.commit(offsets=places, asynchronous=False)
        except stock.KafkaException as error:
            self.unsure[error.args[0].name()] += 1
            return self.tolerate(error.args[0])
        for place in done:
            if place.error is None:
                # A member that was fenced is told so; one that is not has the partition.
                self.committed[place.partition] = max(self.committed.get(place.partition, 0), place.offset)

    def tolerate(self, error):
        if error.name() not in TRANSIENT:
            self.recorder.error(f"{self.name}: {error.name()}: {error}")


class Watched(Recorder):
    """Knows besides, at any moment, how far each partition was acknowledged, and each producer's longest pause since quiet() was called."""

    def __init__(self, path):
        super().__init__(path)
        self.ends, self.last, self.pauses = collections.Counter(), {}, collections.Counter()

    def event(self, e, **facts):
        super().event(e, **facts)
        if e == "ack" and facts["p"] is not None:
            with self.lock:
                now, name = time.monotonic(), facts["id"]
                self.pauses[name] = max(self.pauses[name], now - self.last.get(name, now))
                self.last[name] = now
                self.ends[facts["p"]] = max(self.ends[facts["p"]], facts["o"] + 1)

    def acknowledged(self):
        """The least that every answer to a request sent from now on must know: partition -> end."""
        with self.lock:
            return dict(self.ends)

    def quiet(self):
        with self.lock:
            self.pauses.clear()

    def longest_pause(self):
        """Counts a pause that has not ended yet."""
        with self.lock:
            now = time.monotonic()
            return max(max(self.pauses[name], now - last) for name, last in self.last.items())


class Recovery:
    """How long nothing was acknowledged after each fault."""

    def __init__(self, recorder):
        self.recorder, self.seconds = recorder, []

    def measure(self, names, limit=60):
        began, marks = time.monotonic(), dict(self.recorder.acks)
        wait_until(lambda: self.recorder.check() and all(self.recorder.acks[n] > marks.get(n, 0) for n in names), limit,
                   "every producer is acknowledged something again")
        self.seconds.append(time.monotonic() - began)

    def __str__(self):
        if not self.seconds:
            return "no recovery measured"
        ordered = sorted(self.seconds)
        return f"next ack of both after p50 {statistics.median(ordered):.2f} s, max {ordered[-1]:.2f} s"


class Traffic:
    """Producers, a reader and a group on a cluster."""

    def __init__(self, context, cluster):
        self.context, self.cluster = context, cluster
        self.seed = int(os.environ.get("ESKER_KILL_SEED", random.SystemRandom().randrange(1_000_000)))
        self.dice = random.Random(self.seed)
        names = ["i", "p"]
        self.topics = {stock.create_topic(cluster.bootstrap, context.topic(f"chaos-{n}"), PARTITIONS): n for n in names}
        self.recorder = Watched(context.work / "history.jsonl")
        self.recovery = Recovery(self.recorder)
        by_name = {n: t for t, n in self.topics.items()}
        committed = {}
        bootstrap = cluster.bootstrap
        self.producers = names
        self.members = [Member(f"g{n}", bootstrap, by_name["i"], self.recorder, committed) for n in range(2)]
        # A paused process keeps its connections: the client's patience decides how long it waits for an answer.
        patience = {"request_timeout_ms": 3_000, "socket_timeout_ms": 5_000}
        # Without idempotence Kafka promises no order when the leader changes: a refused batch may come after its successor.
        self.clients = [Confluent("i", bootstrap, by_name["i"], self.recorder, idempotent=True, **patience),
                        Confluent("p", bootstrap, by_name["p"], self.recorder, idempotent=False, ordered=False, **patience),
                        LiveReader("live", bootstrap, self.topics, self.recorder), *self.members]

    def start(self):
        for client in self.clients:
            client.start()
        self.recovery.measure(self.producers)
        self.recovery.seconds.clear()
        return self

    def any_agent(self):
        return self.dice.choice(self.cluster.agents)

    def live(self, most_seconds=1.5, records=600):
        """Lets traffic flow for a random while."""
        target = self.recorder.acks.total() + self.dice.randrange(1, records)
        deadline = time.monotonic() + self.dice.uniform(0.05, most_seconds)
        while self.recorder.acks.total() < target and time.monotonic() < deadline:
            time.sleep(0.002)

    def check_ends(self, agent):
        """LOG-6: what this agent, used at once, says is the end of the log does not lie below what was acknowledged."""
        known = self.recorder.acknowledged()
        with wire.Connection(agent.kafka) as connection:
            for topic in self.topics:
                for partition in range(PARTITIONS):
                    end = wait_until(lambda: latest(connection, topic, partition), 20, "ListOffsets without a retriable error")
                    self.recorder.event("end", p=f"{topic}/{partition}", o=end.offset)
                    least = known.get(f"{topic}/{partition}", 0)
                    check(end.offset >= least, f"{agent.name} says {topic}/{partition} ends at {end.offset}, {least} was acknowledged")

    def finish(self, what):
        """Everything works again within 30 s, and the history is sound."""
        self.recovery.measure(self.producers, HEALED)
        read = [member.read for member in self.members]
        wait_until(lambda: sum(m.read for m in self.members) > sum(read) and self.recorder.check(), HEALED, "the group reads again")
        for client in self.clients:
            client.finish(90)
        self.recorder.check()
        record_log(self.cluster, self.topics, self.recorder)
        self.recorder.close()
        with open(self.recorder.path) as events:
            verdicts, counts = history.check(events)
        group = f"{sum(m.read for m in self.members)} by the group in {sum(m.assigned for m in self.members)} assignments, {sum(sum(m.unsure.values()) for m in self.members)} commits refused or unsure"
        self.context.note(f"seed {self.seed}, {what}, " + ", ".join(f"{v} {k}" for k, v in counts.items()) + f", {group}; {self.recovery}")
        check(not verdicts, f"seed {self.seed}: {len(verdicts)} verdicts: " + "; ".join(map(json.dumps, verdicts[:8])))


@case(own_broker=True, needs=CLUSTER)
def agents_killed(context):
    """kill -9 of a random agent, again and again; one time in four two at once, and started again after a random while."""
    traffic = Traffic(context, context.cluster()).start()
    kills = 0
    while kills < KILLS:
        traffic.live()
        count = 2 if traffic.dice.random() < 0.25 else 1
        victims = traffic.dice.sample(traffic.cluster.agents, count)
        for agent in victims:
            agent.kill()
        kills += count
        if traffic.dice.random() < 0.7:
            traffic.recovery.measure(traffic.producers)
        if traffic.dice.random() < 0.3:
            time.sleep(traffic.dice.uniform(0, TTL + 1))
        for agent in victims:
            agent.start()
        traffic.check_ends(victims[0])
    traffic.finish(f"{kills} kills")


@case(own_broker=True, needs=CLUSTER)
def all_agents_killed(context):
    """All agents at once, back without anything of their own."""
    traffic = Traffic(context, context.cluster()).start()
    rounds = max(2, KILLS // 10)
    for _ in range(rounds):
        traffic.live()
        for agent in traffic.cluster.agents:
            agent.kill()
        for agent in traffic.cluster.agents:
            agent.start()
        traffic.recovery.measure(traffic.producers)
    traffic.finish(f"{rounds} times all {len(traffic.cluster.agents)} agents")


@case(own_broker=True, needs=CLUSTER)
def agents_paused(context):
    """SIGSTOP for longer than the session's TTL, and used at once afterwards."""
    traffic = Traffic(context, context.cluster()).start()
    rounds = max(2, KILLS // 10)
    for _ in range(rounds):
        traffic.live()
        agent = traffic.any_agent()
        agent.pause()
        time.sleep(TTL + traffic.dice.uniform(0.5, 3))
        traffic.recovery.measure(traffic.producers)
        agent.resume()
        traffic.check_ends(agent)
    traffic.finish(f"{rounds} pauses beyond the TTL")


@case(own_broker=True, needs=CLUSTER)
def agents_drained(context):
    """SIGTERM: no client error, and acknowledgements go on within a second."""
    traffic = Traffic(context, context.cluster()).start()
    rounds, longest = max(3, KILLS // 5), []
    for _ in range(rounds):
        traffic.live()
        agent = traffic.any_agent()
        stopping = threading.Thread(target=lambda: longest.append(agent.stop()))
        stopping.start()
        traffic.recovery.measure(traffic.producers)
        stopping.join()
        agent.start()
    slowest = max(traffic.recovery.seconds)
    traffic.finish(f"{rounds} drains, {max(longest):.2f} s the longest, pause at most {slowest:.2f} s")
    check(len(longest) == rounds, "an agent did not end with exit code 0")


@case(own_broker=True, needs=CLUSTER)
def etcd_without_its_leader(context):
    """The leader of etcd is killed, and started again."""
    cluster = context.cluster()
    traffic = Traffic(context, cluster).start()
    rounds = max(2, KILLS // 10)
    for _ in range(rounds):
        traffic.live()
        leader = cluster.etcd_leader()
        leader.kill()
        traffic.recovery.measure(traffic.producers)
        leader.spawn()
        wait_until(lambda: cluster.etcd_healthy() == len(cluster.etcd), 30, "etcd has all its members again")
    traffic.finish(f"{rounds} leaders killed")


@case(own_broker=True, needs=CLUSTER)
def etcd_gone(context):
    """No quorum: nothing is acknowledged, what is known can be read, /readyz says why; afterwards everything goes on by itself."""
    cluster = context.cluster()
    traffic = Traffic(context, cluster).start()
    time.sleep(2)
    for member in cluster.etcd[:2]:
        member.kill()
    time.sleep(TTL + 6)
    before = traffic.recorder.acks.total()
    said = [agent.readyz() for agent in cluster.agents]
    check(all(status == 503 and "session" in body for status, body in said), f"/readyz without etcd: {said}")
    check_known_data(traffic)
    time.sleep(2)
    check(traffic.recorder.acks.total() == before, "something was acknowledged without etcd")
    for member in cluster.etcd[:2]:
        member.spawn()
    traffic.recovery.measure(traffic.producers)
    wait_until(lambda: all(agent.readyz()[0] == 200 for agent in cluster.agents), HEALED, "all agents are ready again")
    traffic.finish("quorum lost for 13 s")


def check_known_data(traffic):
    """Each agent serves the first record of each partition; what it does not know it does not deny."""
    for agent in traffic.cluster.agents:
        with wire.Connection(agent.kafka) as connection:
            for topic in traffic.topics:
                for partition, (error, high, _, _, records) in connection.fetch(topic, {p: 0 for p in range(PARTITIONS)}).items():
                    served = error == 0 and high >= 0 and (records or high == 0)
                    check(served, f"{agent.name} does not serve {topic}/{partition}@0 of {high} without etcd: error {error}")
                error = connection.fetch(topic, {0: 1 << 40})[0][0]
                check(error in (wire.LEADER_NOT_AVAILABLE, wire.NOT_LEADER), f"{agent.name} denies an offset without etcd: error {error}")


@case(own_broker=True, needs=CLUSTER)
def bucket_with_faults(context):
    """Errors before and after the effect, lost answers, late PUTs, SlowDown, truncated answers; then nothing at all for a while."""
    cluster = context.cluster(proxy=PROXY)
    traffic = Traffic(context, cluster).start()
    kinds = [{"fault": "error-before", "status": 503, "per_million": 200_000}, {"fault": "error-after", "status": 500, "verbs": ["PUT"], "per_million": 200_000},
             {"fault": "lost-answer", "verbs": ["PUT"], "per_million": 100_000}, {"fault": "late", "millis": 2_000, "verbs": ["PUT"], "per_million": 100_000},
             {"fault": "truncate", "verbs": ["GET"], "per_million": 100_000}, {"fault": "delay", "from_millis": 0, "to_millis": 800}]
    for _ in range(max(2, KILLS // 10)):
        cluster.set_faults(traffic.dice.sample(kinds, 3))
        traffic.live(6, 4_000)
        if traffic.dice.random() < 0.5:
            agent = traffic.any_agent()
            agent.kill()
            agent.start()
        traffic.live(4, 2_000)
    cluster.set_faults([{"fault": "hang"}])
    time.sleep(12)
    said = [agent.readyz() for agent in cluster.agents]
    unready = sum(status == 503 and "bucket" in body for status, body in said)
    cluster.set_faults([])
    traffic.recovery.measure(traffic.producers)
    wait_until(lambda: all(agent.readyz()[0] == 200 for agent in cluster.agents), HEALED, "all agents are ready again")
    counts = cluster.fault_counts()
    traffic.finish(f"{sum(counts['faults'].values())} faults in {sum(counts['requests'].values())} requests, bucket hung 12 s, {unready} agents said so")
    check(unready >= 1, f"no agent noticed that the bucket hangs: {said}")


@case(own_broker=True, needs=CLUSTER)
def agents_cut_off(context):
    """nft drops what one agent sends to etcd, to the bucket, or to both, for longer than the TTL; the agent is used at once afterwards."""
    if os.geteuid() != 0:
        raise Failed("nft needs root")
    cluster = context.cluster(users=True)
    traffic = Traffic(context, cluster).start()
    rounds = max(3, KILLS // 8)
    try:
        for number in range(rounds):
            traffic.live()
            agent = traffic.any_agent()
            ports = {"etcd": cluster.etcd_clients, "bucket": [cluster.s3_port]}
            parties = [["etcd"], ["bucket"], ["etcd", "bucket"]][number % 3]
            cut([agent.user], [port for party in parties for port in ports[party]])
            time.sleep(TTL + traffic.dice.uniform(2, 6))
            heal()
            traffic.check_ends(agent)
            traffic.recovery.measure(traffic.producers)
    finally:
        heal()
    traffic.finish(f"{rounds} cuts beyond the TTL")


def cut(users, ports):
    """Drops what these users send to these ports, open connections included."""
    users, ports = (", ".join(map(str, numbers)) for numbers in (users, ports))
    rules = f"""table ip esker_chaos {{
    chain out {{
        type filter hook output priority 0
        meta skuid {{ {users} }} tcp dport {{ {ports} }} drop
    }}
}}
"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def heal():
    subprocess.run(["nft", "delete", "table", "ip", "esker_chaos"], stderr=subprocess.DEVNULL)
