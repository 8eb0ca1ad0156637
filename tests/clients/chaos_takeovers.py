"""A cluster that loses agents while somebody has a stopwatch: groups and partitions that are taken over, agents that come before their etcd.

Owns: the stopwatches and what they may show. Does not own: the traffic beside them (`chaos`), the members with a stopwatch (`wire_groups`), the
verdicts (`history`). CHAOS_KILLS (40) says how often partitions are taken over, in CI a quarter of it; of groups there are an eighth of it.
"""
import collections
import random
import re
import statistics
import threading
import time
import urllib.request

import chaos
import history
import stock
import wire
import wire_groups
from harness import CLUSTER, case, check, wait_until
from kill_loop import PARTITIONS, record_log

LONG = chaos.KILLS > 40
AT_MOST = 0.3  # seconds, beside what the store takes


def figures(seconds):
    """p50, p99 and max in ms, as they are published."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {ordered[-1] * 1e3:.0f} ms"


def metric(agent, name):
    """The sum of all series of one metric."""
    with urllib.request.urlopen(f"http://{agent.http}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


@case(own_broker=True, needs=CLUSTER)
def groups_taken_over(context):
    """kill -9 of a group's coordinator: heartbeats and commits work again within the session's TTL and 2 s, and no member has to join again. GRP-1: no
    commit is lost or goes back.

    Two members of a group with a stopwatch, beside the traffic of every chaos case; the etcd is a real one, so a dead session ends when its lease
    does."""
    cluster = context.cluster(settings={"group.initial.rebalance.delay.ms": "0"})
    traffic = chaos.Traffic(context, cluster).start()
    topic, group = next(iter(traffic.topics)), context.topic("taken")
    members = [wire_groups.Member(group, topic, partition, lambda: [agent.kafka for agent in cluster.agents if agent.alive()]) for partition in range(2)]
    began = time.monotonic()
    for member in members:
        member.start()
    wait_until(lambda: all(member.works_since(began) for member in members), 30, "the group has its first generation")
    rounds, seconds, kept = max(5, chaos.KILLS // 8), [], 0
    for _ in range(rounds):
        traffic.live()
        wait_until(lambda: settled(members), 20, "both members have one coordinator and one generation")
        victim = next(agent for agent in cluster.agents if agent.kafka == members[0].coordinator)
        before, floor = [(m.member, m.generation, m.assignment) for m in members], [m.offset for m in members]
        killed = time.monotonic()
        victim.kill()
        wait_until(lambda: any(m.failure for m in members) or all(m.works_since(killed) for m in members), 60, "heartbeats and commits work again")
        check(not any(m.failure for m in members), f"{[m.failure for m in members]}")
        seconds.append(max(m.worked[kind] for m in members for kind in ("heartbeat", "commit")) - killed)
        kept += before == [(m.member, m.generation, m.assignment) for m in members]
        check_committed(cluster, group, topic, floor)
        victim.start()
    for member in members:
        member.finish()
    errors = sum((member.errors for member in members), collections.Counter())
    context.note(f"commits and heartbeats again after {figures(seconds)}; {kept} of {rounds} times without joining again; errors {dict(errors)}")
    traffic.finish(f"{rounds} coordinators killed")
    check(kept == rounds, f"{rounds - kept} of {rounds} times members had to join again: {dict(errors)}")
    check(max(seconds) <= chaos.TTL + 2, f"{max(seconds):.2f} s until commits and heartbeats worked again, TTL {chaos.TTL} s")


def settled(members):
    one = len({(member.coordinator, member.generation) for member in members}) == 1
    return one and members[0].coordinator and all(member.assignment is not None for member in members)


def check_committed(cluster, group, topic, floor):
    """GRP-1: every living agent knows at least what members were told is committed."""
    for agent in cluster.agents:
        if not agent.alive():
            continue
        with wire.Connection(agent.kafka) as connection:
            def ask():
                error, found = wire_groups.committed(connection, group, topic, range(len(floor)))
                return found if error == 0 else None
            found = wait_until(ask, 20, f"{agent.name} says what is committed")
        for partition, least in enumerate(floor):
            check(found[partition] >= least, f"{agent.name}: committed offset of {topic}/{partition} is {found[partition]}, {least} was acknowledged")


class Prober(threading.Thread):
    """Produces to one agent, one record at a time, or fetches from it, and keeps the times. Ends with its agent."""

    def __init__(self, agent, world):
        super().__init__(daemon=True)
        self.agent, self.address, self.world, self.stopping = agent, agent.kafka, world, threading.Event()

    def run(self):
        try:
            with wire.Connection(self.address, timeout=10) as connection:
                while not self.stopping.is_set():
                    self.step(connection)
        except (OSError, wire.Closed) as error:
            if self.agent is not self.world.victim and not self.stopping.is_set():
                self.world.recorder.error(f"{self.agent.name}: {error!r}")
        except Exception as error:  # a thread's failure must fail the case
            self.world.recorder.error(f"{self.agent.name}: {error!r}")


class Producing(Prober):
    def __init__(self, agent, world):
        super().__init__(agent, world)
        self.id, self.acks = world.new_id(), []
        world.recorder.event("producer", id=self.id, idempotent=False, ordered=True)

    def step(self, connection):
        world, value, number = self.world, f"{self.id}-{len(self.acks)}", len(self.acks)
        world.recorder.event("send", id=self.id, v=value)
        sent = time.monotonic()
        world.sent[value] = sent
        error, offset = connection.produce_one(world.topic, wire.batch(f"{value}|".encode()), number % PARTITIONS)
        check(error == 0, f"produce: error {error}")
        world.recorder.event("ack", id=self.id, v=value, p=f"{world.topic}/{number % PARTITIONS}", o=offset)
        self.acks.append((sent, time.monotonic()))


class Fetching(Prober):
    def __init__(self, agent, world):
        super().__init__(agent, world)
        self.next, self.seen = dict(world.start), []

    def step(self, connection):
        answer = connection.fetch(self.world.topic, self.next, max_wait_ms=500, min_bytes=1)
        now = time.monotonic()
        for partition, (error, _, _, _, data) in answer.items():
            check(error == 0, f"fetch: error {error}")
            for _, last, records in wire.decode_batches(data):
                self.next[partition] = last + 1
                self.seen += [(self.world.sent[value.decode().split("|")[0]], now) for _, _, value in records]


class Probed:
    """What the probers share: the topic, the history, and when each value was sent."""

    def __init__(self, context, cluster):
        self.cluster, self.topic = cluster, stock.create_topic(cluster.bootstrap, context.topic("taken"), PARTITIONS)
        self.recorder, self.sent, self.start, self.count = chaos.Watched(context.work / "history.jsonl"), {}, {p: 0 for p in range(PARTITIONS)}, 0
        self.probers, self.victim = {}, None
        for agent in cluster.agents:
            self.begin(agent)

    def new_id(self):
        self.count += 1
        return f"w{self.count}"

    def begin(self, agent):
        self.victim = None
        ends = self.recorder.acknowledged()
        self.start = {p: ends.get(f"{self.topic}/{p}", 0) for p in range(PARTITIONS)}
        self.probers[agent] = [Producing(agent, self), Fetching(agent, self)]
        for prober in self.probers[agent]:
            prober.start()

    def end(self):
        for prober in [prober for both in self.probers.values() for prober in both]:
            prober.stopping.set()
            prober.join(15)

    def takeover(self, victim, limit=20):
        """Kills an agent. How long until every other one acknowledged what it was sent afterwards, and until it served such a record."""
        survivors = [agent for agent in self.cluster.agents if agent is not victim]
        self.victim, killed = victim, time.monotonic()
        victim.kill()

        def first(times):
            return next((done - killed for sent, done in reversed_until(times, killed) if sent > killed), None)
        gaps = {}
        for agent in survivors:
            producing, fetching = self.probers[agent]
            for kind, times in (("produce", producing.acks), ("fetch", fetching.seen)):
                gaps[agent, kind] = wait_until(lambda: self.recorder.check() and first(times), limit, f"{agent.name}: {kind} after the kill", 0.005)
        return [max(gap for (_, k), gap in gaps.items() if k == kind) for kind in ("produce", "fetch")]


def reversed_until(times, moment):
    """Those at the end of a list, in order, whose second time is after a moment."""
    start = len(times)
    while start > 0 and times[start - 1][1] > moment:
        start -= 1
    return times[start:]


@case(own_broker=True, needs=CLUSTER)
def one_partition_survives_takeovers(context):
    """kill -9 of one agent does not interrupt the others: LOG-3, and produce and fetch through each survivor within 300 ms plus the store's latency.

    Every agent has a producer with one record at a time and a fetcher of its own, on the same partitions. The gap is the time from the kill until a
    record that was *sent after it* is acknowledged by, and until one is fetched from, the slower of the two survivors. Segments are flushed every
    10 ms, so that what is measured is not how long a flush waits for its turn."""
    cluster = context.cluster(settings={"esker.flush.age": "50ms", "esker.flush.min.interval": "10ms"})
    world, dice = Probed(context, cluster), random.Random(context.name)
    wait_until(lambda: world.recorder.check() and all(len(p.acks) > 8 for p, _ in world.probers.values()), 30, "every agent acknowledges")
    usual = [done - sent for producing, _ in world.probers.values() for sent, done in producing.acks[2:]]
    put = max(metric(agent, "esker_store_seconds_sum") / max(1, metric(agent, "esker_store_seconds_count")) for agent in cluster.agents)
    kills, gaps = max(10, chaos.KILLS if LONG or chaos.KILLS < 40 else 10), []
    for _ in range(kills):
        time.sleep(dice.uniform(0.5, 1.2))
        victim = dice.choice(cluster.agents)
        gaps.append(world.takeover(victim))
        victim.start()
        world.begin(victim)
    world.end()
    world.recorder.check()
    record_log(cluster, {world.topic: "w"}, world.recorder)
    world.recorder.close()
    with open(world.recorder.path) as events:
        verdicts, counts = history.check(events)
    produce, fetch = zip(*gaps)
    context.note(f"{kills} kills, produce {figures(produce)}; fetch {figures(fetch)}; without kills an acknowledgement takes {figures(usual)}, "
                 f"a request to the store {put * 1e3:.0f} ms on average, " + ", ".join(f"{v} {k}" for k, v in counts.items()))
    check(not verdicts, f"{len(verdicts)} verdicts: {verdicts[:8]}")
    slowest = max(map(max, gaps))
    check(slowest <= AT_MOST + max(usual), f"a gap of {slowest * 1e3:.0f} ms")


@case(own_broker=True, needs=CLUSTER)
def agent_starts_before_etcd(context):
    """An agent that is there before etcd, or while etcd has no quorum, waits, says so in /readyz and its log, and serves as soon as etcd does."""
    cluster = context.new_cluster(compactor=False)
    cluster.work.mkdir(parents=True, exist_ok=True)
    cluster.start_s3()
    cluster.agents = [cluster.new_agent(number, zone) for number, zone in enumerate(cluster.zones, 1)]
    waits(cluster, lambda: cluster.start_etcd(), context, "before etcd")
    topic = stock.create_topic(cluster.bootstrap, context.topic("early"))
    stock.send(stock.producer(cluster.bootstrap), topic, [(b"k", b"first")])
    for agent in cluster.agents:
        agent.stop()
    for member in cluster.etcd[:2]:
        member.kill()
    waits(cluster, lambda: [member.spawn() for member in cluster.etcd[:2]], context, "without quorum")
    stock.send(stock.producer(cluster.bootstrap), topic, [(b"k", b"second")])
    values = [message.value() for message in stock.read(cluster.bootstrap, topic)]
    check(values == [b"first", b"second"], f"read {values}")


def waits(cluster, bring_etcd, context, what):
    """Starts all agents, watches them wait, brings etcd, and measures until they are ready."""
    begins = [agent.log.stat().st_size if agent.log.exists() else 0 for agent in cluster.agents]
    for agent in cluster.agents:
        agent.spawn()
    wait_until(lambda: all(agent.readyz()[0] for agent in cluster.agents), 10, "every agent answers /readyz")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        said = [agent.readyz() for agent in cluster.agents]
        check(all(agent.alive() for agent in cluster.agents), "an agent has ended because there is no etcd")
        check(all(status == 503 for status, _ in said), f"/readyz {what}: {said}")
        time.sleep(0.2)
    for agent, begin in zip(cluster.agents, begins):
        lines = [line for line in agent.log.read_text(errors="replace")[begin:].splitlines() if "etcd" in line]
        check(0 < len(lines) <= 40, f"{agent.name} says {len(lines)} times {what} that etcd is missing: {lines[:3]}")
    bring_etcd()
    began = time.monotonic()
    for agent, begin in zip(cluster.agents, begins):
        agent.wait_ready(begin)
        wait_until(lambda: agent.readyz()[0] == 200, chaos.HEALED, f"{agent.name} is ready")
    context.note(f"{what}: /readyz said {said[0][1].strip()!r}; ready {time.monotonic() - began:.1f} s after etcd")
