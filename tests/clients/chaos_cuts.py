"""Agents between which, or between which and their stores, nothing comes through for a long time.

Owns: the cuts, and what an agent may say right after one. Does not own: the traffic (`chaos`), nft (`chaos.cut`), the verdicts (`history`).
"""
import collections
import itertools
import os
import time

import chaos
import wire
import wire_groups
from chaos_takeovers import check_committed
from harness import CLUSTER, Failed, case, check, wait_until
from kill_loop import PARTITIONS

# Nobody is told that something is not there: ask again, or ask somebody else.
RETRIABLE = {wire.LEADER_NOT_AVAILABLE, wire.NOT_LEADER, wire.REQUEST_TIMED_OUT, wire.COORDINATOR_LOADING, wire.COORDINATOR_NOT_AVAILABLE,
             wire_groups.NOT_COORDINATOR}
CUT_SECONDS = float(os.environ.get("CHAOS_CUT_SECONDS", "60"))  # a minute is the point, in CI too
PEERS_CUT_SECONDS = 10 if chaos.KILLS <= 40 else 60
OUTAGE_MAX = 3.0
SILENT_MAX = 8.0
GROUP_MAX = 15.0  # 3 s until the agent says that its bucket is gone, 2.5 s until it gives its groups up; a commit that waits for its upload holds the member back for the 10 s of its patience


class Auditor:
    """Asks one agent about everything that was acknowledged, and counts its answers. LOG-6: a denial is one of

    an end below an acknowledged offset, OFFSET_OUT_OF_RANGE there, an empty answer that calls an acknowledged offset the end, no such topic for one
    that was created, and a committed offset below the one that was acknowledged."""

    def __init__(self, agent, traffic):
        self.agent, self.traffic = agent, traffic
        self.answers, self.denials, self.topics, self.asked = collections.Counter(), [], [], None

    def round(self):
        """Everything once. What is not answered at all within SILENT_MAX is no denial; a client would ask somebody else."""
        try:
            self.ask_everything()
        except TimeoutError:
            self.answers[f"{self.asked} unanswered"] += 1

    def ask_everything(self):
        with wire.Connection(self.agent.kafka, timeout=SILENT_MAX) as connection:
            known, committed = self.traffic.recorder.acknowledged(), dict(self.traffic.members[0].committed)
            for topic, name in self.traffic.topics.items():
                for partition in range(PARTITIONS):
                    least = known.get(f"{topic}/{partition}", 0)
                    self.ask_records(connection, topic, partition, least)
                    self.ask_end(connection, topic, partition, least)
                if name == "i":
                    self.ask_committed(connection, topic, committed)
            self.ask_topics(connection)

    def settle(self, what, error, denial):
        """denial is what is wrong with an answer without an error, or None."""
        if error in RETRIABLE:
            self.answers[f"{what} retriable"] += 1
        elif error or denial:
            self.answers[f"{what} DENIED"] += 1
            self.denials.append(f"{what}: {f'error {error}' if error else denial}")
        else:
            self.answers[what] += 1

    def ask_end(self, connection, topic, partition, least):
        self.asked = "end"
        error, _, offset = connection.list_offset(topic, -1, partition)
        self.settle("end", error, f"{topic}/{partition} ends at {offset}, {least} was acknowledged" if offset < least else None)

    def ask_records(self, connection, topic, partition, least):
        """First there where the agent itself may believe that its log ends, as long as nothing has made it look: then at the last acknowledged one."""
        if least == 0:
            return
        high = self.fetch(connection, topic, partition, 0, least)
        if 0 <= high < least:
            self.fetch(connection, topic, partition, high, least)
        self.fetch(connection, topic, partition, least - 1, least)

    def fetch(self, connection, topic, partition, offset, least):
        self.asked = "fetch"
        error, high, _, _, data = connection.fetch(topic, {partition: offset}, partition_max_bytes=1)[partition]
        end = not data and high <= offset < least
        self.settle("fetch", error, f"{topic}/{partition}@{offset} of {least} is empty, end {high}" if end else None)
        return high

    def ask_topics(self, connection):
        self.asked = "topic"
        for name in self.topics:
            error = connection.metadata([name], auto_create=False)[name][0]
            self.settle("topic", error, None)

    def ask_committed(self, connection, topic, committed):
        self.asked = "committed"
        error, found = wire_groups.committed(connection, "chaos", topic, sorted(committed))
        low = [f"{topic}/{p} committed {found.get(p)}, {least} was acknowledged" for p, least in committed.items() if found.get(p, -1) < least]
        self.settle("committed", error, low[0] if low and not error else None)

    def __str__(self):
        return ", ".join(f"{count} {what}" for what, count in sorted(self.answers.items()))


@case(own_broker=True, needs=CLUSTER)
def an_agent_cut_off_for_60_s(context):
    """LOG-6: an agent that reached neither etcd nor the bucket for a minute denies nothing, from the first request after that on, that others
    acknowledged meanwhile: no record, no end, no topic, no committed offset. While it is cut off, the others go on."""
    if os.geteuid() != 0:
        raise Failed("nft needs root")
    cluster = context.cluster(users=True)
    traffic = chaos.Traffic(context, cluster).start()
    traffic.live()
    victim = traffic.any_agent()
    others = [agent for agent in cluster.agents if agent is not victim]
    during, after = Auditor(victim, traffic), Auditor(victim, traffic)
    before = traffic.recorder.acknowledged()
    try:
        chaos.cut([victim.user], [*cluster.etcd_clients, cluster.s3_port])
        healed = time.monotonic() + CUT_SECONDS
        traffic.recovery.measure(traffic.producers)
        traffic.recorder.quiet()
        with wire.Connection(others[0].kafka) as connection:
            born = context.topic("born")
            check(connection.create_topic(born) == 0, "a topic is created while an agent is cut off")
        after.topics.append(born)
        wait_until(lambda: leads_nothing(victim, traffic.topics), 2 * chaos.TTL, f"{victim.name} sends its clients to others")
        while time.monotonic() < healed:
            during.round()
            time.sleep(min(5, max(0, healed - time.monotonic())))
        pause, pauses = traffic.recorder.longest_pause(), dict(traffic.recorder.pauses)
    finally:
        chaos.heal()
    moment, rounds = time.monotonic(), 0
    while time.monotonic() < moment + 10:
        after.round()
        rounds += 1
    wait_until(lambda: victim.readyz()[0] == 200, chaos.HEALED, f"{victim.name} is ready again")
    missed = sum(traffic.recorder.acknowledged().values()) - sum(before.values())
    context.note(f"{victim.name} cut off for {CUT_SECONDS} s and {missed} records; asked during it: {during}; asked {rounds} times after it: {after}")
    traffic.finish(f"longest pause during the cut {pause:.2f} s {pauses}")
    check(not after.denials, f"{len(after.denials)} denials after the cut: " + "; ".join(after.denials[:6]))
    check(pause <= chaos.TTL + 5, f"nothing was acknowledged for {pause:.1f} s while one agent was cut off")


def busiest(cluster, traffic):
    """The leader of the partition with the most records: an agent with nothing to do does not notice what it cannot do."""
    ends = traffic.recorder.acknowledged()
    topic, partition = max(ends, key=ends.get).rsplit("/", 1)
    with wire.Connection(cluster.agents[0].kafka) as connection:
        leader = connection.metadata_with_leaders([topic])[topic][1][int(partition)][1]
    return next(agent for agent in cluster.agents if agent.node == str(leader))


def leads_nothing(agent, topics, asked=None):
    """Whether a client that asks only this agent, or `asked`, is sent to others."""
    with wire.Connection((asked or agent).kafka) as connection:
        found = connection.metadata_with_leaders(list(topics), auto_create=False)
    return all(str(leader) != agent.node for _, partitions in found.values() for _, leader in partitions.values())


def member_at(context, cluster, traffic, agent):
    """A working member of a group that this agent coordinates."""
    groups = (context.topic(f"cut-{number}") for number in itertools.count())

    def coordinated():
        with wire.Connection(cluster.agents[0].kafka) as connection:
            return next((g for _, g in zip(range(100), groups) if wire_groups.find_coordinator(connection, g) == (0, agent.kafka)), None)
    # Shards move while agents are new.
    wait_until(lambda: coordinated(), 20, f"{agent.name} coordinates groups")
    time.sleep(4)
    group = wait_until(lambda: coordinated(), 20, f"{agent.name} coordinates groups")
    member = wire_groups.Member(group, next(iter(traffic.topics)), 0, lambda: [agent.kafka for agent in cluster.agents])
    began = time.monotonic()
    member.start()
    wait_until(lambda: member.works_since(began), 30, f"the group {group} has its first generation")
    check(member.coordinator == agent.kafka, f"{group} is coordinated by {member.coordinator}, not by {agent.name}")
    return member


@case(own_broker=True, needs=CLUSTER)
def an_agent_without_its_bucket(context):
    """One agent alone does not reach the bucket; its session lives. Its clients find the others all the same, from itself and from them, a group that
    it coordinated goes on elsewhere, and it takes partitions again when the bucket is back, although nobody sends it anything."""
    if os.geteuid() != 0:
        raise Failed("nft needs root")
    cluster = context.cluster(users=True)
    traffic = chaos.Traffic(context, cluster).start()
    victim = busiest(cluster, traffic)
    member = member_at(context, cluster, traffic, victim)
    before, floor = (member.member, member.generation, member.assignment), member.offset
    try:
        chaos.cut([victim.user], [cluster.s3_port])
        began = time.monotonic()
        wait_until(lambda: all(leads_nothing(victim, traffic.topics, agent) for agent in cluster.agents), 20, f"nobody names {victim.name} as a leader")
        aside = time.monotonic() - began
        wait_until(lambda: member.failure or member.works_since(began) and member.coordinator not in (None, victim.kafka), 60, "the group goes on elsewhere")
        check(not member.failure, f"{member.failure}")
        group = max(member.worked[kind] for kind in ("heartbeat", "commit")) - began
        check_committed(cluster, member.group, member.topic, [floor])
        traffic.recovery.measure(traffic.producers)
        traffic.recorder.quiet()
        time.sleep(10)
        pause, quiet = traffic.recorder.longest_pause(), time.monotonic() - min(member.worked[kind] for kind in ("heartbeat", "commit"))
    finally:
        chaos.heal()
    healed = time.monotonic()
    wait_until(lambda: not leads_nothing(victim, traffic.topics) and victim.readyz()[0] == 200, chaos.HEALED, f"{victim.name} leads again")
    back = time.monotonic() - healed
    kept = before == (member.member, member.generation, member.assignment)
    member.finish()
    context.note(f"the group went on elsewhere after {group:.1f} s, {'without' if kept else 'after'} joining again; errors {dict(member.errors)}")
    traffic.finish(f"nobody named it after {aside:.1f} s, then the longest pause was {pause:.2f} s; it led again {back:.1f} s after the cut")
    check(not member.failure, f"{member.failure}")
    check(group <= GROUP_MAX, f"a group whose coordinator was without its bucket waited {group:.1f} s")
    check(quiet <= OUTAGE_MAX, f"the group had not worked for {quiet:.1f} s at the end of the cut")
    check(kept, f"the member had to join again: {dict(member.errors)}")
    check(pause <= OUTAGE_MAX, f"a producer waited {pause:.2f} s while one agent was without its bucket")


@case(own_broker=True, needs=CLUSTER)
def agents_cut_from_each_other(context):
    """Each agent reaches etcd and the bucket, and no other agent: everyone believes to lead alone. Nothing is lost or reset and nobody waits long,
    because leadership is placement and never a precondition. First between all of them, then one of them in one direction only."""
    if os.geteuid() != 0:
        raise Failed("nft needs root")
    cluster = context.cluster(users=True)
    traffic = chaos.Traffic(context, cluster).start()
    traffic.live()
    pauses, leaders = [], []
    one = traffic.any_agent()
    try:
        for users in ([agent.user for agent in cluster.agents], [one.user]):
            traffic.recorder.quiet()
            chaos.cut(users, [agent.peer_port for agent in cluster.agents])
            time.sleep(PEERS_CUT_SECONDS)
            leaders.append(silent_peers(cluster))
            check(all(agent.readyz()[0] == 200 for agent in cluster.agents), f"/readyz: {[agent.readyz() for agent in cluster.agents]}")
            chaos.heal()
            time.sleep(PEERS_CUT_SECONDS / 3)
            pauses.append(traffic.recorder.longest_pause())
    finally:
        chaos.heal()
    traffic.finish(f"two cuts of {PEERS_CUT_SECONDS} s; agents noticed {leaders} silent peers; longest pause {max(pauses):.2f} s")
    check(leaders[0] == 6 and leaders[1] == 2, f"agents do not notice that their peers are silent: {leaders}")
    check(max(pauses) <= OUTAGE_MAX, f"a producer waited {max(pauses):.2f} s")


def silent_peers(cluster):
    """How many (agent, peer) pairs are silent now, as the agents' logs say."""
    silent = 0
    for agent in cluster.agents:
        lines = agent.log.read_text(errors="replace").splitlines()
        silent += sum("agent does not answer" in line for line in lines) - sum("agent answers again" in line for line in lines)
    return silent
