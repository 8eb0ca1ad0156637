"""Consumer groups with stock clients: what a restart, a kill or a drain of the coordinator does to members (nothing), and what people
see of groups.

Owns: members that write down every rebalance. Does not own: the cluster (infra/local/cluster.py), how clients are called (`stock`).
"""
import json
import subprocess
import threading
import time

import stock
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, ConsumerGroupType
from harness import CLUSTER, Failed, case, check, equal, wait_until

SESSION = 8.0
PARTITIONS = 4
GROUPS = stock.TOOLS + "consumer.group.ConsumerGroupCommand"


class Member:
    """A member of librdkafka's. Commits what it reads; `rebalances` has one line for each time it was given or lost partitions."""

    def __init__(self, bootstrap, group, topic, **config):
        self.rebalances, self.read, self.refused, self.fatal, self.stopping = [], 0, [], None, threading.Event()
        def on_error(error):
            self.fatal = error.name() if error.fatal() or error.name() == "_FATAL" else self.fatal

        config = {"auto_offset_reset": "earliest", "session_timeout_ms": int(SESSION * 1000), "heartbeat_interval_ms": 500,
                  "reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200, **config}
        self.consumer = stock.consumer(bootstrap, group, error_cb=on_error, **config)

        def noted(what):
            return lambda _consumer, partitions: self.rebalances.append((what, sorted(p.partition for p in partitions)))

        self.consumer.subscribe([topic], on_assign=noted("assigned"), on_revoke=noted("revoked"), on_lost=noted("lost"))
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.stopping.is_set():
            messages = self.consumer.consume(100, 0.1)
            self.fatal = next((m.error().name() for m in messages if m.error() is not None and m.error().name() == "_FATAL"), self.fatal)
            messages = [m for m in messages if m.error() is None]
            self.read += len(messages)
            if messages:
                self.commit()
        self.consumer.close()

    def commit(self):
        """Tries until the commit is taken; a refusal that says that the membership is gone is noted."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return self.consumer.commit(asynchronous=False)
            except stock.KafkaException as error:
                if error.args[0].name() in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_INSTANCE_ID", "REBALANCE_IN_PROGRESS"):
                    self.refused.append(error.args[0].name())
                    return None
                if error.args[0].name() == "_NO_OFFSET":
                    return None
            time.sleep(0.1)
        self.refused.append("no commit in 30 s")

    def partitions(self):
        held = set()
        for what, partitions in list(self.rebalances):
            held = held | set(partitions) if what == "assigned" else held - set(partitions)
        return sorted(held)

    def stop(self):
        self.stopping.set()
        self.thread.join(30)


class JavaMember:
    """A member of Java's: VerifiableConsumer writes a line of JSON for each event.

    Its client forgets all topics when the last broker that it knows is gone (`metadata.recovery.strategy`), and a leader that sees
    topics change joins again by itself: with one broker that would hide what is judged here.
    """

    def __init__(self, bootstrap, group, topic, log):
        settings = stock.properties_file(log.with_suffix(".properties"), metadata_recovery_strategy="none", retry_backoff_max_ms=200)
        command = stock.java_command("VerifiableConsumer", "--command-config", settings, "--bootstrap-server", bootstrap, "--topic", topic, "--group-id", group,
                                     "--session-timeout", int(SESSION * 1000), "--reset-policy", "earliest")
        command = [word.replace("defaultLogLevel=warn", "defaultLogLevel=info") for word in command]  # it says why it joins again
        self.process = stock.popen(command, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)
        self.events = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append(json.loads(line))

    @property
    def rebalances(self):
        return [(e["name"], sorted(p["partition"] for p in e["partitions"])) for e in list(self.events) if e["name"].startswith("partitions_")]

    @property
    def read(self):
        return sum(e["count"] for e in list(self.events) if e["name"] == "records_consumed")

    @property
    def refused(self):
        return [e["error"] for e in list(self.events) if e["name"] == "offsets_committed" and not e["success"]]

    def partitions(self):
        lines = self.rebalances
        return lines[-1][1] if lines and lines[-1][0] == "partitions_assigned" else []

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def settled(members, partitions=PARTITIONS):
    """Waits until the members share all partitions."""
    def shared():
        held = [m.partitions() for m in members]
        return all(held) and sorted(p for some in held for p in some) == list(range(partitions))
    wait_until(shared, 60, f"a group of {len(members)} shares {partitions} partitions")


def described(bootstrap, group, timeout=3):
    client = stock.admin(bootstrap)
    return client.describe_consumer_groups([group], request_timeout=timeout)[group].result(timeout + 5)


def ids(bootstrap, group):
    """Member ids and what each has, once the group is stable."""
    def stable():
        try:
            found = described(bootstrap, group)
        except stock.KafkaException:
            return None
        return found if found.state == ConsumerGroupState.STABLE else None
    found = wait_until(stable, 30, f"{group} is stable")
    return sorted((m.member_id, sorted(p.partition for p in m.assignment.topic_partitions)) for m in found.members)


def feed(bootstrap, topic, count):
    stock.send(stock.producer(bootstrap), topic, [{"value": b"%d" % n, "partition": n % PARTITIONS} for n in range(count)], timeout=60)


def undisturbed(context, bootstrap, groups, disturb):
    """Runs disturb() below groups {name: (topic, members)}: afterwards everybody has what it had, under the id it had, and nobody heard of it."""
    before = {}
    for group, (topic, members) in groups.items():
        settled(members)
        before[group] = (ids(bootstrap(), group), [list(m.rebalances) for m in members], sum(m.read for m in members))
    disturb()
    began = time.monotonic()
    for group, (topic, members) in groups.items():
        feed(bootstrap(), topic, 40)
    for group, (topic, members) in groups.items():
        read = before[group][2]
        wait_until(lambda: sum(m.read for m in members) >= read + 40, 60, f"{group} reads on")
    # Who has not been heard of within a session is thrown out then.
    time.sleep(max(0.0, SESSION + 3 - (time.monotonic() - began)))
    for group, (topic, members) in groups.items():
        stood, rebalances, _ = before[group]
        equal([list(m.rebalances) for m in members], rebalances, f"{group}: rebalances that members saw")
        equal(ids(bootstrap(), group), stood, f"{group}: members and what they have")
        equal([m.refused for m in members], [[] for _ in members], f"{group}: commits that were refused")


def two_groups(context, bootstrap):
    """A group of librdkafka and one of Java, each of two members."""
    topics = [stock.create_topic(bootstrap, context.topic(stem), PARTITIONS) for stem in ("librdkafka", "java")]
    groups = {}
    members = [Member(bootstrap, topics[0] + "-group", topics[0]) for _ in range(2)]
    groups[topics[0] + "-group"] = (topics[0], members)
    members = [JavaMember(bootstrap, topics[1] + "-group", topics[1], context.work / f"java-{n}.log") for n in range(2)]
    groups[topics[1] + "-group"] = (topics[1], members)
    return groups


def stop(groups):
    for _, members in groups.values():
        for member in members:
            member.stop()


@case(own_broker=True)
def restart_of_dev_keeps_the_generation(context):
    """kill -9 and SIGTERM of `esker dev`: members of librdkafka and Java go on, under the ids and with the partitions they had."""
    broker = context.broker()
    groups = two_groups(context, broker.bootstrap)
    try:
        undisturbed(context, lambda: broker.bootstrap, groups, lambda: (broker.kill(), broker.start()))
        undisturbed(context, lambda: broker.bootstrap, groups, lambda: (broker.stop(), broker.start()))
    finally:
        stop(groups)


@case(needs=CLUSTER)
def another_coordinator_keeps_the_generation(context):
    """The agent that coordinates is killed with -9, another one drained: members of librdkafka and Java go on as before."""
    cluster = context.cluster(settings={"group.initial.rebalance.delay.ms": "500"})
    groups = two_groups(context, cluster.bootstrap)

    def coordinator(group):
        node = described(cluster.bootstrap, group).coordinator
        return next(agent for agent in cluster.agents if agent.kafka == f"{node.host}:{node.port}")

    def replaced(how):
        def disturb():
            for group in groups:
                old = coordinator(group)
                began = time.monotonic()
                getattr(old, how)()
                wait_until(lambda: known(group, old), 30, f"{group} has another coordinator")
                context.note(f"{how} of a coordinator: {time.monotonic() - began:.1f} s until the next one answered")
                old.start()
        return disturb

    def known(group, old):
        try:
            found = described(cluster.bootstrap, group)
            return found.coordinator.port != int(old.kafka.split(":")[1]) and found.state == ConsumerGroupState.STABLE
        except stock.KafkaException:
            return False

    try:
        undisturbed(context, lambda: cluster.bootstrap, groups, replaced("kill"))
        undisturbed(context, lambda: cluster.bootstrap, groups, replaced("stop"))
    finally:
        stop(groups)


@case(own_broker=True)
def members_are_known_right_after_a_restart(context):
    """DeleteGroups, OffsetDelete and a reset of offsets are refused for a group whose members have not said a word since the restart."""
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, "known", PARTITIONS)
    member = Member(broker.bootstrap, "known-group", topic)
    settled([member])
    feed(broker.bootstrap, topic, 20)
    wait_until(lambda: member.read == 20, 30, "everything is read")
    broker.kill()
    # It never comes back: its broker has another port now, and all that knows of it is what was stored.
    broker.port += 1
    broker.start()
    bootstrap, client = broker.bootstrap, stock.admin(broker.bootstrap)
    found = described(bootstrap, "known-group")
    equal((found.state, len(found.members)), (ConsumerGroupState.STABLE, 1), "state and members")
    refused(lambda: client.delete_consumer_groups(["known-group"], request_timeout=15)["known-group"].result(20), "NON_EMPTY_GROUP")
    output, errors, _ = stock.java(GROUPS, "--bootstrap-server", bootstrap, "--delete-offsets", "--group",
                                      "known-group", "--topic", topic, ok=False)
    check("subscribed" in (output + errors).lower(), f"deleting offsets that are read: {output} {errors}")
    wait_until(lambda: described(bootstrap, "known-group").state == ConsumerGroupState.EMPTY, SESSION + 15, "the member's session ends")
    client.delete_consumer_groups(["known-group"], request_timeout=15)["known-group"].result(20)
    broker.kill()
    broker.start()
    listed = [g.group_id for g in stock.admin(broker.bootstrap).list_consumer_groups(request_timeout=15).result(20).valid]
    equal(listed, [], "groups after the deletion and a restart")
    member.stopping.set()


def refused(call, name):
    try:
        call()
    except stock.KafkaException as error:
        return equal(error.args[0].name(), name, "refusal")
    raise Failed(f"not refused with {name}")


@case
def a_static_member_comes_back_unnoticed(context):
    """A static member that is started again within its session has its partitions at once, and the others hear nothing (KIP-345)."""
    bootstrap = context.shared().bootstrap
    topic = stock.create_topic(bootstrap, context.topic("static"), PARTITIONS)
    group = topic + "-group"
    stays, goes = (Member(bootstrap, group, topic, group_instance_id=name) for name in ("stays", "goes"))
    try:
        settled([stays, goes])
        had, heard = goes.partitions(), list(stays.rebalances)
        goes.stop()
        goes = Member(bootstrap, group, topic, group_instance_id="goes")
        wait_until(lambda: goes.partitions() == had, 20, "the member has its partitions again")
        equal(stays.rebalances, heard, "rebalances that the other one saw")
    finally:
        stays.stop()
        goes.stop()


@case
def a_second_process_fences_a_static_member(context):
    bootstrap = context.shared().bootstrap
    topic = stock.create_topic(bootstrap, context.topic("fenced"), PARTITIONS)
    first = Member(bootstrap, topic + "-group", topic, group_instance_id="one")
    settled([first])
    second = Member(bootstrap, topic + "-group", topic, group_instance_id="one")
    try:
        wait_until(lambda: second.partitions() == list(range(PARTITIONS)), 30, "the second process has the partitions")
        wait_until(lambda: first.fatal, 30, "the first process is told that it is fenced")
    finally:
        first.stop()
        second.stop()


@case
def cooperative_members_keep_what_they_need_not_give_up(context):
    """cooperative-sticky: who comes later gets its share, the first one gives up that share and nothing else."""
    bootstrap = context.shared().bootstrap
    topic = stock.create_topic(bootstrap, context.topic("cooperative"), PARTITIONS)
    first = Member(bootstrap, topic + "-group", topic, partition_assignment_strategy="cooperative-sticky")
    settled([first])
    second = Member(bootstrap, topic + "-group", topic, partition_assignment_strategy="cooperative-sticky")
    try:
        settled([first, second])
        given_up = [p for what, partitions in first.rebalances if what != "assigned" for p in partitions]
        equal(sorted(given_up), second.partitions(), "what the first one gave up")
        equal(len(second.partitions()), PARTITIONS // 2, "the share of the second")
    finally:
        first.stop()
        second.stop()


@case
def groups_are_listed_and_described(context):
    """What AdminClient and kafka-consumer-groups show: states, types, members, what they read, offsets and metadata."""
    bootstrap = context.shared().bootstrap
    topic = stock.create_topic(bootstrap, context.topic("shown"), PARTITIONS)
    alive, left = topic + "-alive", topic + "-left"
    members = [Member(bootstrap, alive, topic, client_id=f"shown-{n}") for n in range(2)]
    gone = Member(bootstrap, left, topic)
    settled(members)
    settled([gone])
    feed(bootstrap, topic, 8)
    wait_until(lambda: sum(m.read for m in members) == 8 and gone.read == 8, 30, "everything is read")
    gone.stop()
    client = stock.admin(bootstrap)

    def listed(**filters):
        found = client.list_consumer_groups(request_timeout=15, **filters).result(20).valid
        return {g.group_id: (g.state, g.type) for g in found if g.group_id in (alive, left)}

    wait_until(lambda: listed().get(left, (None,))[0] == ConsumerGroupState.EMPTY, 20, "the group that was left is empty")
    kind = ConsumerGroupType.CLASSIC
    equal(listed(), {alive: (ConsumerGroupState.STABLE, kind), left: (ConsumerGroupState.EMPTY, kind)}, "all groups")
    equal(set(listed(states={ConsumerGroupState.STABLE})), {alive}, "stable groups")
    equal(set(listed(states={ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD})), {left}, "groups without members")
    equal(set(listed(types={ConsumerGroupType.CLASSIC})), {alive, left}, "classic groups")
    equal(listed(types={ConsumerGroupType.CONSUMER}), {}, "groups of the new protocol")
    found = described(bootstrap, alive)
    equal((found.partition_assignor, sorted(m.client_id for m in found.members)), ("range", ["shown-0", "shown-1"]), "assignor and clients")
    equal(sorted(p.partition for m in found.members for p in m.assignment.topic_partitions), list(range(PARTITIONS)), "assignments")
    output, _, _ = stock.java(GROUPS, "--bootstrap-server", bootstrap, "--describe", "--group", alive, "--members", "--verbose")
    check(output.count("shown-") >= 2 and topic in output, f"members: {output}")
    output, _, _ = stock.java(GROUPS, "--bootstrap-server", bootstrap, "--describe", "--group", alive)
    lines = [line.split() for line in output.splitlines() if line.startswith(alive)]
    equal(sorted((int(l[2]), l[3], l[5]) for l in lines), [(p, "2", "0") for p in range(PARTITIONS)], "offsets and lag")
    output, _, _ = stock.java(GROUPS, "--bootstrap-server", bootstrap, "--list", "--state", "Stable")
    check(alive in output and left not in output, f"list of stable groups: {output}")
    offsets = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(left)], request_timeout=15)[left].result(20)
    equal(sorted((p.partition, p.offset) for p in offsets.topic_partitions), [(p, 2) for p in range(PARTITIONS)], "offsets of the group that was left")
    for member in members:
        member.stop()
    client.delete_consumer_groups([left], request_timeout=15)[left].result(20)
    equal(set(listed()), {alive}, "groups after one was deleted")


@case
def many_members_come_at_once(context):
    """Twelve members start together and none is turned away; when six leave, the others take over."""
    bootstrap = context.shared().bootstrap
    partitions = 24
    topic = stock.create_topic(bootstrap, context.topic("crowd"), partitions)
    members = [Member(bootstrap, topic + "-group", topic) for _ in range(12)]
    try:
        wait_until(lambda: all(len(m.partitions()) == 2 for m in members), 60, "each of twelve has two partitions")
        for member in members[:6]:
            member.stop()
        wait_until(lambda: all(len(m.partitions()) == 4 for m in members[6:]), 60, "each of six has four")
    finally:
        for member in members:
            member.stop()
