"""Load without a client library: produce requests that are encoded once, on many connections of one thread.

Owns: sending, taking in answers, how long each took. Does not own: what the figures mean. The same bytes are sent again and again: batches
without a producer id are not duplicates to anybody. An answer with an error ends the run: a figure of refused requests is none.
"""
import collections
import selectors
import socket
import time
import urllib.request

import wire

DRAIN_SECONDS = 30


def produce_frame(topic, size, partitions=(0,)):
    """One produce request (acks=all) with one batch of about `size` bytes for each partition."""
    batch = wire.batch(b"x" * (size - 80))
    return wire.framed(wire.request(wire.PRODUCE, 8, 1, wire.produce_body({topic: dict.fromkeys(partitions, batch)}, timeout_ms=30_000)))


def quantile_ms(seconds, part):
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2) if ordered else None


class Flow:
    """One connection; its answers come in the order of its requests."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent, self.waiting, self.got = collections.deque(), collections.deque(), bytearray()

    def send(self, frame):
        self.waiting.append(time.perf_counter())
        self.unsent.append(memoryview(frame))
        self.push()

    def push(self):
        while self.unsent:
            try:
                sent = self.socket.send(self.unsent[0])
            except BlockingIOError:
                return
            if sent == len(self.unsent[0]):
                self.unsent.popleft()
            else:
                self.unsent[0] = self.unsent[0][sent:]

    def take(self):
        """How long each request took whose answer has come."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return []
        if not data:
            raise wire.Closed("the broker closed the connection")
        now, took = time.perf_counter(), []
        self.got += data
        while len(self.got) >= 4 and len(self.got) >= 4 + (length := int.from_bytes(self.got[:4], "big")):
            reader = wire.Reader(bytes(self.got[8:4 + length]))
            del self.got[:4 + length]
            errors = {error for error, _ in wire.read_produce_response(reader).values() if error}
            if errors:
                raise RuntimeError(f"produce was refused with {errors}")
            took.append(now - self.waiting.popleft())
        return took


class Load:
    """Connections in one loop. Both runs return how long the acknowledged requests took."""

    def __init__(self, address, connections):
        self.flows, self.selector = [Flow(address) for _ in range(connections)], selectors.DefaultSelector()
        for flow in self.flows:
            self.selector.register(flow.socket, selectors.EVENT_READ, flow)

    def close(self):
        self.selector.close()
        for flow in self.flows:
            flow.socket.close()

    def step(self, timeout):
        """[(flow, how long each answered request took)]"""
        for flow in self.flows:
            self.selector.modify(flow.socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if flow.unsent else 0), flow)
        done = []
        for key, events in self.selector.select(max(0, timeout)):
            if events & selectors.EVENT_WRITE:
                key.data.push()
            if events & selectors.EVENT_READ:
                done.append((key.data, key.data.take()))
        return done

    def drain(self):
        took, deadline = [], time.perf_counter() + DRAIN_SECONDS
        while any(flow.waiting for flow in self.flows):
            if time.perf_counter() > deadline:
                raise RuntimeError(f"requests without an answer {DRAIN_SECONDS} s after the last was sent")
            for _, some in self.step(1):
                took += some
        return took

    def closed(self, frames, in_flight, seconds, until=lambda: False):
        """So many requests under way on every connection, a new one for each answer."""
        took, nth, end = [], 0, time.perf_counter() + seconds
        for _ in range(in_flight):
            for flow in self.flows:
                flow.send(frames[nth % len(frames)])
                nth += 1
        while time.perf_counter() < end and not until():
            for flow, some in self.step(end - time.perf_counter()):
                took += some
                for _ in some:
                    flow.send(frames[nth % len(frames)])
                    nth += 1
        within = len(took)
        return took + self.drain(), within

    def open(self, frames, rate, seconds):
        """So many requests a second, whatever becomes of them; by turns on the connections."""
        took, nth, began = [], 0, time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            while nth < (now - began) * rate:
                self.flows[nth % len(self.flows)].send(frames[nth % len(frames)])
                nth += 1
            for _, some in self.step(began + nth / rate - time.perf_counter()):
                took += some
        return took + self.drain()


class Metrics:
    """What /metrics said at one moment."""

    def __init__(self, http):
        self.values, self.at = {}, time.time()
        for line in urllib.request.urlopen(f"http://{http}/metrics", timeout=10).read().decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self.values[name] = float(value)

    def sum(self, name, *labels):
        return sum(value for key, value in self.values.items() if key.split("{")[0] == name and all(label in key for label in labels))

    def since(self, before, name, *labels):
        return self.sum(name, *labels) - before.sum(name, *labels)

    def mean_ms(self, before, name, *labels):
        """Of a histogram, between two moments."""
        count = self.since(before, name + "_count", *labels)
        return round(1000 * self.since(before, name + "_sum", *labels) / count, 2) if count else None
