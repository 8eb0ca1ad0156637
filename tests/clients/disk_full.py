"""A full disk: no acknowledgement that is not true, no crash, and once there is room again it goes on by itself.

A tmpfs of 64 MiB is the data directory's disk. It is filled by producing and then, to the last byte, by a file; removing that file frees it.
Mounting needs root; without it the cases fail.
"""
import contextlib
import json
import os
import random
import subprocess
import threading
import time

import history
import stock
import wire
from harness import case, check, equal, wait_until
from kill_loop import Recorder

DISK_BYTES = 64 << 20
BALLAST_BYTES = 16 << 20  # what is freed in the end, and more
RECORD_BYTES = 20_000
FULL_SECONDS = 6.0
RETRIABLE = {5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT", 56: "KAFKA_STORAGE_ERROR"}


@contextlib.contextmanager
def small_disk(path):
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "esker-test", str(path)], capture_output=True, text=True)
    check(mounted.returncode == 0, f"this case needs root, to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        (path / "ballast").write_bytes(bytes(BALLAST_BYTES))
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill_to_the_last_byte(path):
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    check(os.statvfs(path).f_bavail == 0, "the disk is not full")


class Writer:
    """One raw connection that produces and records what it is told."""

    def __init__(self, broker, topic, recorder):
        self.broker, self.topic, self.recorder, self.count = broker, topic, recorder, 0
        self.dice = random.Random(1)
        self.codes = {}
        self.connection = None
        recorder.event("producer", id="w", idempotent=False, ordered=True)

    def one(self, size=RECORD_BYTES):
        """Sends one record; returns its error code (None when there was no answer in time)."""
        if self.connection is None:
            self.connection = wire.Connection(self.broker.bootstrap, timeout=5.0)
        value = f"w{self.count}"
        self.count += 1
        self.recorder.event("send", id="w", v=value)
        data = value.encode() + b"|" + self.dice.randbytes(size)
        try:
            code, offset = self.connection.produce({self.topic: {0: wire.batch(data)}}, timeout_ms=1_000)[self.topic, 0]
        except (TimeoutError, wire.Closed):
            self.connection.close()
            self.connection, code, offset = None, None, None
        if code == 0:
            self.recorder.event("ack", id="w", v=value, p=f"{self.topic}/0", o=offset)
        self.codes[code] = self.codes.get(code, 0) + 1
        return code


class Patient(threading.Thread):
    """An idempotent producer that does not give up: what it sends while the disk is full must be stored once, later."""

    def __init__(self, broker, topic, recorder):
        super().__init__(daemon=True)
        self.topic, self.recorder, self.stopping, self.count, self.acked = topic, recorder, threading.Event(), 0, 0
        self.producer = stock.producer(broker.bootstrap, enable_idempotence=True, message_timeout_ms=120_000, retry_backoff_ms=50, retry_backoff_max_ms=200,
                                       request_timeout_ms=3_000, reconnect_backoff_max_ms=200)
        recorder.event("producer", id="i", idempotent=True, ordered=True)

    def run(self):
        while not self.stopping.wait(0.02):
            value = f"i{self.count}"
            self.count += 1
            self.recorder.event("send", id="i", v=value)
            self.producer.produce(self.topic, value + "|", on_delivery=lambda error, m, value=value: self.on_delivery(value, error, m))
            self.producer.poll(0)
        if self.producer.flush(60):
            self.recorder.error(f"{len(self.producer)} records of the idempotent producer are unanswered 60 s after there was room again")

    def on_delivery(self, value, error, message):
        if error is None:
            self.acked += 1
            self.recorder.event("ack", id="i", v=value, p=f"{self.topic}/0", o=message.offset())
        else:
            self.recorder.error(f"{value}: {error}")


def read_all(broker, topics, recorder, reader, complete=False):
    for topic in topics:
        _, high = stock.watermarks(broker.bootstrap, topic)
        recorder.event("seek", r=reader, p=f"{topic}/0", o=0)
        for message in stock.read(broker.bootstrap, topic, 0, 0, high):
            recorder.event("read", r=reader, p=f"{topic}/0", o=message.offset(), v=message.value().split(b"|")[0].decode())
        if complete:
            recorder.event("complete", r=reader, p=f"{topic}/0", o=high)


def fill(writer, disk):
    """Produces until the disk is full, then takes the last byte; the records after that must not be acknowledged."""
    wait_until(lambda: writer.one() != 0, 60, "the disk is full", every=0)
    filled = writer.count
    fill_to_the_last_byte(disk / "ballast")
    deadline = time.monotonic() + FULL_SECONDS
    while time.monotonic() < deadline:
        code = writer.one(size=10)
        check(code is None or code in RETRIABLE or code == 0, f"error {code} from a full disk is not one that clients retry")
        time.sleep(0.01)  # the pace of the attempts
    return filled


def verdicts(context, recorder):
    recorder.check()
    recorder.close()
    with open(recorder.path) as events:
        found, counts = history.check(events)
    context.note(", ".join(f"{v} {k}" for k, v in counts.items()))
    check(not found, f"{len(found)} verdicts: " + "; ".join(map(json.dumps, found[:6])))


def told(writer):
    return ", ".join(f"{n} times {'no answer' if code is None else RETRIABLE.get(code, 'success' if code == 0 else code)}" for code, n in writer.codes.items())


@case(own_broker=True)
def full_and_freed(context):
    """The disk fills up under two producers and is freed; the broker runs on and serves throughout."""
    with small_disk(context.work / "disk") as disk:
        broker = context.broker(data_dir=disk / "data")
        topics = [stock.create_topic(broker.bootstrap, name) for name in ("big", "patient")]
        recorder = Recorder(context.work / "history.jsonl")
        writer, patient = Writer(broker, topics[0], recorder), Patient(broker, topics[1], recorder)
        patient.start()
        try:
            filled = fill(writer, disk)
            check(broker.alive(), "the broker ended when its disk was full")
            read_all(broker, topics, recorder, "while-full")
            with wire.Connection(broker.bootstrap) as connection:
                equal([code for code, _ in connection.metadata(topics).values()], [0, 0], "metadata while the disk is full")
            check(broker.alive(), "the broker ended while its disk was full")
            (disk / "ballast").unlink()
            began, before = time.monotonic(), patient.acked
            wait_until(lambda: writer.one(size=10) == 0, 30, "producing works again")
            context.note(f"full after {filled} records, told {told(writer)}; works {time.monotonic() - began:.1f} s after there is room")
            wait_until(lambda: patient.acked > before or recorder.check() is None, 30, "the idempotent producer goes on")
        finally:
            patient.stopping.set()
            patient.join(70)
        read_all(broker, topics, recorder, "freed")
        broker.stop()
        code, said = broker.check_data()
        broker.start()
        read_all(broker, topics, recorder, "final", complete=True)
        verdicts(context, recorder)
        check(code == 0, f"check-data exits {code}: {said[-800:]}")


@case(own_broker=True)
def killed_while_full(context):
    """kill -9 while the disk is full; with room again it starts and has everything it acknowledged."""
    with small_disk(context.work / "disk") as disk:
        broker = context.broker(data_dir=disk / "data")
        topic = stock.create_topic(broker.bootstrap, "big")
        recorder = Recorder(context.work / "history.jsonl")
        writer = Writer(broker, topic, recorder)
        fill(writer, disk)
        broker.kill()
        # Whether it can start on a full disk is its own affair; that it tried must not hurt.
        broker.spawn()
        with contextlib.suppress(Exception):
            broker.wait_ready(5)
        if broker.alive():
            broker.kill()
        (disk / "ballast").unlink()
        broker.start()
        writer.connection = None
        wait_until(lambda: writer.one(size=10) == 0, 30, "producing works again")
        read_all(broker, [topic], recorder, "final", complete=True)
        verdicts(context, recorder)
