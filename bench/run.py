#!/usr/bin/env python3
"""Esker's benchmarks, each bounded in time and count. Figures of one machine; compare only what one run prints.

usage: run.py [--binary target/release/esker] [--gib 1] [--warm-gib 12] [--rounds 3] [--set KEY=VALUE]… [CASES…]
`esker dev` on a local directory:
  peers           broker CPU per GiB, MB/s and latency beside a warm Apache Kafka, in turns
  librdkafka      the same for produce with librdkafka's rdkafka_performance, medians
  esker-bench     the same with the load of `esker bench`: produce, consume, lone records, medians
  flushes         flushes and PUTs a second: idle, one record a second, one synchronous producer, 100 of them, full rate
  partitions      PUTs per GiB at 1, 100 and 10,000 partitions
  fetch           CPU per GiB fetched from memory by 1, 10 and 100 consumers beside a warm Apache Kafka, and cold from the directory
  scale           10,000 and 100,000 partitions, 1,000 connections: answers, rates, CPU, memory, starts
  memory          resident memory idle and with 10,000 partitions; cold start with both
One agent, etcd and MinIO:
  cluster-cpu     broker CPU per GiB and MB/s beside a warm Apache Kafka, in turns
  latency-floor   acknowledgements above a store that always takes 100 ms, at half of the full load
  one-connection  five 1 MiB requests under way on one connection above such a store
  etcd-bytes      bytes and writes to etcd per GiB
Both:
  start           time to the ready line with 10,000 partitions and 4,096 commits to replay
  lone            a lone record's acknowledgement above the store and the commit
  price           requests a second and their list price a month: idle, one record a second, full rate
  groups          1,000 consumer groups of 10 members: rebalances, offset commits, memory; one and three etcd members, and Apache Kafka
Without CASES, all of them: about an hour. Needs what `tests/clients/setup --judge` gets, target/release/esker-proxy, and up to 30 GiB of
disk for `peers`, `librdkafka`, `esker-bench` and `cluster-cpu`. One JSON line per figure.
"""
import argparse
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

from report import ROOT, WORK, create, out  # first: it says where the rest is
import broker_cpu
import clusters
import esker
import fetch_load
import group_load
import lifecycle
import scale
import native_load
import own_load
from clusters import measure, warm_kafka
from real_kafka import JARS


def start(binary, name, settings=None, keep=False):
    directory = WORK / name
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    broker = esker.Broker(binary, directory / "data", directory / "log", settings)
    broker.start()
    return broker


def metric(broker, name, labels=""):
    text = urllib.request.urlopen(f"http://{broker.http}/metrics", timeout=10).read().decode()
    total = 0.0
    for line in text.splitlines():
        if line.startswith(name) and not line.startswith(name + "_") and labels in line:
            total += float(line.rsplit(" ", 1)[1])
    return total


def puts(broker):
    return metric(broker, "esker_store_requests_total", 'op="put"')


def commits(broker):
    return metric(broker, "esker_commits_total")


def perf(broker, topic, records, *props, size=1000, throughput=-1):
    command = ["java", "-Xmx2g", "-cp", f"{JARS}/*", "org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
               "--num-records", str(records), "--record-size", str(size), "--throughput", str(throughput),
               "--producer-props", f"bootstrap.servers={broker.kafka}", "acks=all", *props]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


class Synchronous(threading.Thread):
    """One producer over a raw socket that sends the next batch when the one before is acknowledged."""

    def __init__(self, broker, until):
        super().__init__(daemon=True)
        self.address, self.until, self.latencies = broker.kafka, until, []

    def run(self):
        import wire
        host, port = self.address.rsplit(":", 1)
        frame = wire.framed(wire.request(0, 8, 1, wire.produce_body({"sync": {0: wire.batch(b"x" * 1000)}})))
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.time() < self.until:
                began = time.perf_counter()
                connection.sendall(frame)
                length = int.from_bytes(receive(connection, 4), "big")
                receive(connection, length)
                self.latencies.append(time.perf_counter() - began)


def receive(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError("broker closed the connection")
        data += more
    return data


def quantile(values, part):
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2) if ordered else None


def flushes(args):
    broker = start(args.binary, "flushes")
    create(broker, "sync", 1)
    time.sleep(2)

    def rate(case, seconds, act):
        before, committed, cpu, began = puts(broker), commits(broker), broker_cpu.cpu_seconds(broker.process.pid), time.time()
        extra = act(seconds) or {}
        took = time.time() - began
        out(f"flushes: {case}", puts_s=round((puts(broker) - before) / took, 2),
            commits_s=round((commits(broker) - committed) / took, 2),
            cpu_pct=round(100 * (broker_cpu.cpu_seconds(broker.process.pid) - cpu) / took, 1), **extra)

    def synchronous(count):
        def act(seconds):
            threads = [Synchronous(broker, time.time() + seconds) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            all_of_them = [latency for thread in threads for latency in thread.latencies]
            return {"acks_s": round(len(all_of_them) / seconds), "p50_ms": quantile(all_of_them, 0.5),
                    "p99_ms": quantile(all_of_them, 0.99)}
        return act

    rate("idle", 20, time.sleep)
    rate("one record a second", 20, lambda s: perf(broker, "sync", s, throughput=1) and None)
    rate("one synchronous producer", 10, synchronous(1))
    rate("100 synchronous producers", 10, synchronous(100))
    rate("full rate", 10, lambda _: perf(broker, "sync", 1_000_000) and None)
    broker.stop()


def partitions(args):
    for count in (1, 100, 10_000):
        broker = start(args.binary, f"partitions-{count}")
        create(broker, "many", count)
        before, gib = puts(broker), min(args.gib, 1)
        cpu = broker_cpu.cpu_seconds(broker.process.pid)
        ran = perf(broker, "many", int(gib * 2**30 / 1000))
        found = re.findall(r"\(([\d.]+) MB/sec\)", ran.stdout)
        out(f"partitions: {count}", puts_per_gib=round((puts(broker) - before) / gib),
            mb_s=float(found[-1]) if found else (ran.stdout + ran.stderr)[-300:],
            cpu_s_per_gib=round((broker_cpu.cpu_seconds(broker.process.pid) - cpu) / gib, 2))
        broker.stop()


def memory(args):
    broker = start(args.binary, "memory")
    time.sleep(3)
    idle = broker_cpu.resident_mib(broker.process.pid)
    out("memory: idle", rss_mib=idle, start_ms=round(1000 * broker.ready_seconds))
    for number in range(10):
        create(broker, f"wide-{number}", 1000)
    time.sleep(2)
    out("memory: 10,000 partitions", rss_mib=broker_cpu.resident_mib(broker.process.pid))
    broker.stop()
    for _ in range(3):
        broker = start(args.binary, "memory", keep=True)
        out("start: 10,000 partitions", start_ms=round(1000 * broker.ready_seconds),
            rss_mib=broker_cpu.resident_mib(broker.process.pid))
        broker.stop()
    for _ in range(5):
        broker = start(args.binary, "start")
        out("start: new data directory", start_ms=round(1000 * broker.ready_seconds))
        broker.stop()


def peers(args):
    """Warms Kafka up, then takes turns, so that noise hits both alike."""
    broker, kafka = start(args.binary, "peers", args.set), warm_kafka(args)
    try:
        measure("esker (warming)", broker.kafka, broker.process.pid, args.gib, "large,default,fetch")
        for _ in range(args.rounds):
            measure("esker", broker.kafka, broker.process.pid, args.gib, "large,default,fetch,latency")
            measure("kafka", kafka.kafka, kafka.pid, args.gib, "large,default,fetch,latency")
        broker.stop()
    finally:
        if broker.alive():
            broker.kill()
        shutil.rmtree(WORK / "peers", ignore_errors=True)


CASES = {"peers": peers, "librdkafka": lambda args: native_load.librdkafka(args, start), "flushes": flushes, "partitions": partitions, "memory": memory, **clusters.CASES, **lifecycle.CASES, **group_load.CASES,
         **fetch_load.CASES, **own_load.CASES, **scale.CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "esker"))
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--warm-gib", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the broker (cases that take it)")
    parser.add_argument("--proxy", default=str(clusters.PROXY), help="esker-proxy")
    parser.add_argument("cases", nargs="*", metavar="CASES")
    args = parser.parse_args()
    args.set = dict(pair.split("=", 1) for pair in args.set)
    try:
        for case in args.cases or CASES:
            CASES[case](args)
    finally:
        clusters.end_kafka()


if __name__ == "__main__":
    main()
