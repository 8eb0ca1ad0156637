#!/usr/bin/env python3
"""Broker CPU-seconds per GiB, MB/s and latency of any Kafka-protocol broker, driven by Kafka's own perf tools.

usage: broker_cpu.py --libs DIR_OF_KAFKA_JARS --bootstrap HOST:PORT --pid PID [--gib 1] [--cases large,default,fetch,latency]
One JSON line per case. A JVM broker is warm only after some 12 GiB: compare nothing before its figure stops falling.
"""
import argparse
import json
import os
import re
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
RECORD_BYTES = 1000


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) // 1024


class Run:
    def __init__(self, args):
        self.args, self.tag, self.topics = args, str(int(time.time() * 1000)), []

    def java(self, main, *args):
        command = ["java", "-Xmx2g", "-cp", f"{self.args.libs}/*", main, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=900)

    def out(self, case, **figures):
        line = {"name": self.args.name, "case": case, **figures, "rss_mib": resident_mib(self.args.pid)}
        print(json.dumps(line), flush=True)

    def topic(self, name, partitions):
        made = self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.args.bootstrap, "--create",
                         "--topic", name, "--partitions", str(partitions), "--replication-factor", "1")
        if made.returncode:
            raise SystemExit(f"topic {name}: {made.stdout}{made.stderr}")
        self.topics.append(name)

    def delete_topics(self):
        """So that runs in a row do not fill the disk."""
        for name in self.topics:
            self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.args.bootstrap, "--delete", "--topic", name)

    def produce(self, case, topic, partitions, props):
        self.topic(topic, partitions)
        records = int(self.args.gib * 2**30 / RECORD_BYTES)
        cpu, began = cpu_seconds(self.args.pid), time.time()
        ran = self.java("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", str(records),
                        "--record-size", str(RECORD_BYTES), "--throughput", "-1", "--producer-props",
                        f"bootstrap.servers={self.args.bootstrap}", "acks=all", *props)
        cpu, wall = cpu_seconds(self.args.pid) - cpu, time.time() - began
        found = re.findall(r"\(([\d.]+) MB/sec\).* (\d+) ms 50th.* (\d+) ms 99th", ran.stdout)
        if not found:
            return self.out(case, error=(ran.stdout + ran.stderr)[-600:])
        rate, p50, p99 = found[-1]
        self.out(case, mb_s=float(rate), cpu_s_per_gib=round(cpu / self.args.gib, 3), p50_ms=int(p50), p99_ms=int(p99),
                 wall_s=round(wall, 1))

    def fetch(self, topic):
        records = int(self.args.gib * 2**30 / RECORD_BYTES)
        cpu = cpu_seconds(self.args.pid)
        ran = self.java("org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", self.args.bootstrap, "--topic",
                        topic, "--num-records", str(records), "--timeout", "60000", "--hide-header")
        cpu = cpu_seconds(self.args.pid) - cpu
        fields = ran.stdout.strip().splitlines()[-1].split(",") if ran.stdout.strip() else []
        if len(fields) < 4:
            return self.out("fetch", error=(ran.stdout + ran.stderr)[-600:])
        self.out("fetch", mb_s=float(fields[3]), cpu_s_per_gib=round(cpu / self.args.gib, 3))

    def latency(self):
        topic = f"lat-{self.tag}"
        self.topic(topic, 1)
        ran = self.java("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", "3000",
                        "--record-size", "200", "--throughput", "200", "--producer-props",
                        f"bootstrap.servers={self.args.bootstrap}", "acks=all", "linger.ms=0")
        found = re.findall(r" (\d+) ms 50th.* (\d+) ms 99th", ran.stdout)
        self.out("lone records, 200/s", p50_ms=int(found[-1][0]), p99_ms=int(found[-1][1]))

    def run(self):
        cases, big = self.args.cases.split(","), f"big-{self.tag}"
        if "large" in cases or "fetch" in cases:
            self.produce("produce, 1 MiB batches", big, 1, ["batch.size=1040000", "linger.ms=100", "max.request.size=1048576"])
        if "default" in cases:
            self.produce(f"produce, client defaults, {self.args.partitions} partitions", f"def-{self.tag}",
                         self.args.partitions, [])
        if "fetch" in cases:
            self.fetch(big)
        if "latency" in cases:
            self.latency()
        self.delete_topics()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libs", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--name", default="broker")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--cases", default="large,default,fetch,latency")
    Run(parser.parse_args()).run()


if __name__ == "__main__":
    main()
