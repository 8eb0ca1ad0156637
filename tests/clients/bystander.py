"""A well-behaved client that works on while others misbehave, and a watch on the broker's memory.

Owns: what "undisturbed" and "bounded" mean in figures. Does not own: the misbehaviour.
"""
import contextlib
import threading
import time

import stock
import wire
from harness import check, wait_until

ROUND_SECONDS_MAX = 3.0
GROWTH_BYTES_MAX = 256 << 20
MIB = 1 << 20


class Bystander(threading.Thread):
    """Produces one record and reads it back, again and again; every tenth round on a new connection, as a new idempotent producer every hundredth."""

    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self.bootstrap, self.topic = bootstrap, topic
        self.stopping, self.errors, self.rounds, self.slowest = threading.Event(), [], 0, 0.0
        self.stored = []  # (offset, value)

    def run(self):
        connection = None
        try:
            connection = wire.Connection(self.bootstrap)
            while not self.stopping.wait(0.01):
                began = time.monotonic()
                if self.rounds % 10 == 9:
                    connection.close()
                    connection = wire.Connection(self.bootstrap)
                self.round(connection)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.rounds += 1
        except Exception as error:  # reported by undisturbed()
            self.errors.append(repr(error))
        finally:
            if connection:
                connection.close()

    def round(self, connection):
        if self.rounds % 100 == 0:
            self.producer, self.sequence = connection.init_producer_id(), 0
            check(self.producer[0] in (0, wire.COORDINATOR_LOADING), f"InitProducerId: error {self.producer[0]}")
        value = b"bystander %d" % self.rounds
        _, producer_id, epoch = self.producer
        plain = self.producer[0] != 0
        data = wire.batch(value) if plain else wire.batch(value, producer_id=producer_id, producer_epoch=epoch, base_sequence=self.sequence)
        self.sequence += 1
        error, offset = connection.produce_one(self.topic, data)
        check(error == 0, f"produce: error {error}")
        self.stored.append((offset, value))
        error, high, _, _, records = connection.fetch(self.topic, {0: offset}, max_wait_ms=5000, min_bytes=1)[0]
        found = wire.decode_batches(records)
        check(error == 0 and high > offset and found and found[0][2] == [(offset, None, value)], f"fetch {offset}: error {error}, high watermark {high}, {found[:1]}")


@contextlib.contextmanager
def undisturbed(context, broker=None, growth_max=GROWTH_BYTES_MAX):
    """Runs the block beside a bystander; fails if that one is disturbed, the broker grows too much or ends, or a record is lost."""
    broker = broker or context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("bystander"))
    with wire.Connection(broker.bootstrap) as connection:
        wait_until(lambda: connection.list_offset(topic, -1)[0] == 0, 10, "the bystander's topic is ready")
    bystander, memory = Bystander(broker.bootstrap, topic), Memory(broker)
    memory.start()
    bystander.start()
    try:
        wait_until(lambda: bystander.rounds > 2 or bystander.errors, 10, "the bystander's first rounds")
        yield bystander
        rounds = bystander.rounds
        wait_until(lambda: bystander.rounds > rounds + 2 or bystander.errors, 10, "the bystander's last rounds")
    finally:
        bystander.stopping.set()
        bystander.join(20)
        memory.stop()
    context.note(f"bystander: {bystander.rounds} rounds, slowest {bystander.slowest:.2f} s; memory {memory.first / MIB:.0f} MiB, at most +{memory.growth() / MIB:.0f}")
    check(not bystander.errors, f"bystander in round {bystander.rounds}: {bystander.errors}")
    check(bystander.slowest < ROUND_SECONDS_MAX, f"a round of the bystander took {bystander.slowest:.1f} s")
    check(memory.growth() <= growth_max, f"the broker grew by {memory.growth() / MIB:.0f} MiB, allowed are {growth_max / MIB:.0f}")
    check(memory.ended is None, f"the broker's process ended: {memory.ended}")
    log = {m.offset(): m.value() for m in stock.read(broker.bootstrap, topic)}
    lost = [(offset, value) for offset, value in bystander.stored if log.get(offset) != value]
    check(not lost and len(log) == len(bystander.stored), f"{len(lost)} acknowledged records lost, {len(log)} in the log of {len(bystander.stored)}: {lost[:3]}")


class Memory(threading.Thread):
    """Samples the broker's resident memory."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.done, self.ended = broker, threading.Event(), None
        self.first = self.most = broker.rss_bytes()

    def run(self):
        while not self.done.wait(0.02):
            try:
                self.most = max(self.most, self.broker.rss_bytes())
            except OSError as error:
                self.ended = error
                return

    def growth(self):
        return self.most - self.first

    def stop(self):
        self.done.set()
        self.join()
