"""Consumer groups over `wire`: the requests of the classic protocol, and a member that can say how each of them went.

Owns: FindCoordinator 1, JoinGroup 2, SyncGroup 1, Heartbeat 1, OffsetCommit 5, OffsetFetch 3; one member with a fixed topic. Does not own: verdicts.
"""
import collections
import struct
import threading
import time

import wire

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 8, 9, 10, 11, 12, 14
NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS = 16, 22, 25, 27
# What a member answers by joining (again); everything else that is not 0 it answers by looking for the coordinator.
JOIN_AGAIN = {ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS}
PAUSE = 0.05


def blob(data):
    return struct.pack(">i", len(data)) + data


def find_coordinator(connection, group):
    """(error, "host:port")."""
    reader = connection.call(FIND_COORDINATOR, 1, wire.string(group) + b"\0")
    _, error = reader.unpack("ih")
    reader.string()
    reader.unpack("i")
    return error, f"{reader.string()}:{reader.unpack('i')}"


def join(connection, group, member, session_ms, rebalance_ms=5_000):
    """(error, generation, leader, own id, ids of all members if it leads)."""
    protocols = wire.array([wire.string("range") + blob(b"")])
    body = wire.string(group) + struct.pack(">ii", session_ms, rebalance_ms) + wire.string(member) + wire.string("consumer") + protocols
    reader = connection.call(JOIN_GROUP, 2, body)
    _, error, generation = reader.unpack("ihi")
    reader.string()
    leader, member = reader.string(), reader.string()
    return error, generation, leader, member, [name for name, _ in reader.array(lambda: (reader.string(), reader.bytes()))]


def sync(connection, group, generation, member, assignments=()):
    """(error, what this member was assigned)."""
    listed = wire.array([wire.string(name) + blob(what) for name, what in assignments])
    reader = connection.call(SYNC_GROUP, 1, wire.string(group) + struct.pack(">i", generation) + wire.string(member) + listed)
    _, error = reader.unpack("ih")
    return error, reader.bytes()


def heartbeat(connection, group, generation, member):
    reader = connection.call(HEARTBEAT, 1, wire.string(group) + struct.pack(">i", generation) + wire.string(member))
    return reader.unpack("ih")[1]


def commit(connection, group, generation, member, topic, partition, offset):
    place = wire.array([wire.string(topic) + wire.array([struct.pack(">iq", partition, offset) + wire.nullable_string("")])])
    reader = connection.call(OFFSET_COMMIT, 5, wire.string(group) + struct.pack(">i", generation) + wire.string(member) + place)
    reader.unpack("i")
    return reader.array(lambda: (reader.string(), reader.array(lambda: reader.unpack("ih"))))[0][1][0][1]


def committed(connection, group, topic, partitions):
    """(error, {partition: committed offset}); the error is the first there is."""
    wanted = wire.array([wire.string(topic) + wire.array([struct.pack(">i", p) for p in partitions])])
    reader = connection.call(OFFSET_FETCH, 3, wire.string(group) + wanted)
    reader.unpack("i")

    def partition():
        number, offset = reader.unpack("iq")
        reader.string()
        return number, offset, reader.unpack("h")
    found = dict(reader.array(lambda: (reader.string(), reader.array(partition)))).get(topic, [])
    errors = [error for _, _, error in found if error] + [error for error in [reader.unpack("h")] if error]
    return (errors[0] if errors else 0), {number: offset for number, offset, _ in found}


class Member(threading.Thread):
    """Joins, then sends heartbeats and commits its own partition as fast as PAUSE allows; finds its coordinator again when it loses it.

    worked[kind] is when the last heartbeat, or commit, that was answered without an error had been *sent*; offset is the last committed one."""

    def __init__(self, group, topic, partition, brokers, session_ms=30_000):
        super().__init__(name=f"{group}-{partition}", daemon=True)
        self.group, self.topic, self.partition, self.brokers, self.session_ms = group, topic, partition, brokers, session_ms
        self.member, self.generation, self.assignment, self.joined = "", -1, None, 0
        self.worked, self.errors, self.offset, self.sent = {}, collections.Counter(), -1, 0
        self.failure, self.stopping = None, threading.Event()
        self.connection = self.coordinator = None

    def run(self):
        try:
            while not self.stopping.wait(PAUSE):
                try:
                    self.step()
                except (OSError, wire.Closed):
                    self.errors["closed"] += 1
                    self.lose()
        except Exception as error:  # a thread's failure must fail the case
            self.failure = f"{self.name}: {error!r}"

    def step(self):
        if self.connection is None and not self.connect():
            return
        if self.assignment is None:
            if not self.enter():
                return
        began = time.monotonic()
        if self.settle("heartbeat", began, heartbeat(self.connection, self.group, self.generation, self.member)):
            began, offset = time.monotonic(), self.offset + 1
            self.sent = max(self.sent, offset)
            if self.settle("commit", began, commit(self.connection, self.group, self.generation, self.member, self.topic, self.partition, offset)):
                self.offset = offset

    def settle(self, kind, began, error):
        """Whether it worked; otherwise it decides what is done next."""
        if error == 0:
            self.worked[kind] = began
            return True
        self.errors[f"{kind} {error}"] += 1
        if error in JOIN_AGAIN:
            self.assignment = None
            if error == UNKNOWN_MEMBER_ID:
                self.member = ""
        else:
            self.lose()
        return False

    def connect(self):
        """Asks the brokers in turn until one names a coordinator that can be reached."""
        for broker in self.brokers():
            try:
                with wire.Connection(broker, timeout=3) as asked:
                    error, where = find_coordinator(asked, self.group)
                if error:
                    self.errors[f"find {error}"] += 1
                    continue
                # Nothing that is asked of it may take longer than a rebalance.
                self.connection, self.coordinator = wire.Connection(where, timeout=10), where
                return True
            except (OSError, wire.Closed):
                self.errors["not found"] += 1
        return False

    def enter(self):
        error, generation, leader, member, members = join(self.connection, self.group, self.member, self.session_ms)
        if not self.settle("join", time.monotonic(), error):
            return False
        self.member, self.generation = member, generation
        given = [(name, f"share of {name}".encode()) for name in members] if leader == member else []
        error, assignment = sync(self.connection, self.group, generation, member, given)
        if not self.settle("sync", time.monotonic(), error):
            return False
        self.assignment, self.joined = assignment, self.joined + 1
        return True

    def lose(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = self.coordinator = None

    def works_since(self, moment):
        return all(self.worked.get(kind, 0) > moment for kind in ("heartbeat", "commit"))

    def finish(self, timeout=30):
        self.stopping.set()
        self.join(timeout)
