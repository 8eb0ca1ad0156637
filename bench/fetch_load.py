"""Cases about fetching: consumers without a client library that look at nothing but batch headers, so that the broker is what is measured.

Owns: fetch, fan-out. Does not own: starting the processes. A consumer asks as a Java one does by default (1 MiB of a partition, one request
under way) and begins again where it began when it has come to the end, until the bytes of the case have been sent.
"""
import selectors
import socket
import struct
import time

import broker_cpu
import wire
from clusters import warm_kafka
from lifecycle import dev
from load import Load, produce_frame, quantile_ms
from report import create, out

PARTITION_BYTES = 1 << 20
BATCH_HEADER = struct.Struct(">qi")


class Consumer:
    """One connection with one fetch of one partition under way; takes answers in without keeping them."""

    def __init__(self, address, topic, partition=0):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.topic, self.partition, self.offset, self.bytes, self.rounds = topic, partition, 0, 0, 0
        self.buffer = memoryview(bytearray(PARTITION_BYTES + (1 << 20)))
        self.got = 0

    def ask(self):
        body = wire.fetch_body(self.topic, {self.partition: self.offset}, max_wait_ms=0, min_bytes=0, partition_max_bytes=PARTITION_BYTES)
        self.asked = time.perf_counter()
        self.socket.sendall(wire.framed(wire.request(wire.FETCH, 11, 1, body)))

    def take(self):
        """How long the answer took, once it is complete."""
        self.got += self.socket.recv_into(self.buffer[self.got:])
        if self.got < 4 or self.got < 4 + int.from_bytes(self.buffer[:4], "big"):
            return None
        took, self.got = time.perf_counter() - self.asked, 0
        self.skip(self.records())
        return took

    def records(self):
        """The records of an answer with one partition (Fetch 11)."""
        at = 4 + 4 + 4 + 2 + 4 + 4  # length, correlation, throttle, error, session, topics
        at += 2 + len(self.topic) + 4 + 4
        error, watermark = struct.unpack_from(">hq", self.buffer, at)
        if error:
            raise RuntimeError(f"fetch was refused with {error}")
        at += 2 + 8 + 8 + 8
        aborted = struct.unpack_from(">i", self.buffer, at)[0]
        at += 4 + 16 * max(0, aborted) + 4
        length = struct.unpack_from(">i", self.buffer, at)[0]
        return self.buffer[at + 4:at + 4 + length]

    def skip(self, records):
        self.bytes += len(records)
        at = 0
        while at + 61 <= len(records):
            base, length = BATCH_HEADER.unpack_from(records, at)
            self.offset = base + struct.unpack_from(">i", records, at + 23)[0] + 1
            at += 12 + length
        if not len(records):
            self.offset, self.rounds = 0, self.rounds + 1


def consume(consumers, total_bytes):
    """Until so many bytes have come, by all of them; (bytes, how long each answer took)."""
    took, selector = [], selectors.DefaultSelector()
    for consumer in consumers:
        selector.register(consumer.socket, selectors.EVENT_READ, consumer)
        consumer.ask()
    begin = sum(consumer.bytes for consumer in consumers)
    deadline, live, sent = time.perf_counter() + 300, len(consumers), 0
    while live:
        if time.perf_counter() > deadline:
            raise RuntimeError("fetches without an answer")
        for key, _ in selector.select(5):
            before = key.data.bytes
            seconds = key.data.take()
            if seconds is None:
                continue
            took.append(seconds)
            sent += key.data.bytes - before
            if sent < total_bytes:
                key.data.ask()
            else:
                live -= 1
    selector.close()
    return sum(consumer.bytes for consumer in consumers) - begin, took


def fill(address, topic, megabytes, batch_bytes):
    """The same batch again and again, eight requests under way."""
    load, frame = Load(address, 4), produce_frame(topic, batch_bytes)
    for nth in range((megabytes << 20) // batch_bytes):
        load.flows[nth % 4].send(frame)
        while sum(len(flow.waiting) for flow in load.flows) >= 8:
            load.step(1)
    load.drain()
    load.close()


def measured(case, address, pid, topic, consumers, gib, **more):
    """Fetches so much with so many consumers; says what it cost the broker."""
    crowd = [Consumer(address, topic) for _ in range(consumers)]
    cpu, began = broker_cpu.cpu_seconds(pid), time.perf_counter()
    sent, took = consume(crowd, int(gib * 2**30))
    wall, cpu = time.perf_counter() - began, broker_cpu.cpu_seconds(pid) - cpu
    for consumer in crowd:
        consumer.socket.close()
    out(case, consumers=consumers, cpu_s_per_gib=round(cpu * 2**30 / sent, 3), mb_s=round(sent / wall / 1e6), answers=len(took),
        p50_ms=quantile_ms(took, 0.5), p99_ms=quantile_ms(took, 0.99), rss_mib=broker_cpu.resident_mib(pid), **more)


def from_memory(name, broker, gib):
    """64 MiB that every broker has in memory, in large batches and in those of a client with defaults, by 1, 10 and 100 consumers."""
    for batch_bytes in (1_000_000, 16 << 10):
        topic = f"hot-{batch_bytes}-{time.time_ns()}"
        create(broker, topic, 1)
        fill(broker.kafka, topic, 64, batch_bytes)
        time.sleep(1)
        measured(f"{name}: (warming)", broker.kafka, broker.pid, topic, 1, gib / 4)
        for consumers in (1, 10, 100):
            measured(f"{name}: from memory", broker.kafka, broker.pid, topic, consumers, gib, batch_bytes=batch_bytes)


def cold(name, broker, gib):
    """Written, forgotten by a restart, read once from where it is stored."""
    for batch_bytes in (1_000_000, 16 << 10):
        topic = f"cold-{batch_bytes}"
        create(broker, topic, 1)
        fill(broker.kafka, topic, int(gib * 1024), batch_bytes)
    for batch_bytes in (1_000_000, 16 << 10):
        broker.stop()
        broker.start()
        time.sleep(2)
        measured(f"{name}: cold", broker.kafka, broker.pid, f"cold-{batch_bytes}", 1, 0.98 * gib, batch_bytes=batch_bytes)


def fetch(args):
    """`esker dev`, in turns with a Kafka that the same fetches have warmed up."""
    with dev(args, "fetch", args.set) as broker:
        kafka = warm_kafka(args) if args.warm_gib else None
        for _ in range(args.rounds):
            from_memory("esker", broker, args.gib)
            if kafka:
                from_memory("kafka", kafka, args.gib)
    with dev(args, "fetch-cold", args.set) as broker:
        cold("esker", broker, args.gib)


CASES = {"fetch": fetch}
