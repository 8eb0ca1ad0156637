"""Cases on a cluster: one etcd member, MinIO, one agent, and where it matters a compactor or a store that always takes as long.

Owns: cluster-cpu, latency-floor, one-connection, etcd-bytes. Does not own: starting the processes (infra/local/cluster.py), load (`load`).
"""
import contextlib
import shutil
import subprocess
import sys

import broker_cpu
from cluster import Cluster
from load import Load, Metrics, produce_frame, quantile_ms
from real_kafka import JARS, Kafka
from report import HERE, ROOT, WORK, create, out

PROXY = ROOT / "target" / "release" / "esker-proxy"
# What a store costs in the goals: always so long, whatever is sent.
STORE_MS = 100
CONSTANT = [{"fault": "delay", "from_millis": STORE_MS, "to_millis": STORE_MS}, {"fault": "pretend", "verbs": ["PUT"]}]
KAFKA = []
EAGER = {"esker.flush.age": "5ms", "esker.flush.min.interval": "1ms", "esker.flush.uploads.max": "64"}


@contextlib.contextmanager
def running(args, name, settings=None, compactor=False, constant_store=False, agents=1, etcd=1):
    """A cluster of one agent, unless more are asked for. Everything ends and goes when the case does."""
    subprocess.run([ROOT / "infra" / "parts" / "get", "etcd-3.6", "minio"], check=True)
    shutil.rmtree(WORK / name, ignore_errors=True)
    found = Cluster(WORK / name, args.binary, etcd=etcd, zones=("a",) * agents, compactor=compactor, settings=settings,
                    proxy=args.proxy if constant_store else None)
    try:
        found.start()
        if constant_store:
            found.set_faults(CONSTANT)
        yield found
        for line in found.panics():
            raise RuntimeError(line)
    finally:
        found.kill()
        found.remove()


def measure(name, address, pid, gib, cases):
    subprocess.run([sys.executable, str(HERE / "broker_cpu.py"), "--libs", str(JARS), "--bootstrap", address, "--pid", str(pid), "--name", name,
                    "--gib", str(gib), "--cases", cases], check=True)


def warm_kafka(args):
    """The one Kafka of this run: it gets warm once. `end_kafka` ends it."""
    if not KAFKA:
        kafka = Kafka(WORK / "kafka", quick=False)
        kafka.remove()
        KAFKA.append(kafka.start())
        warmed = 0
        while warmed < args.warm_gib:
            measure("kafka (warming)", KAFKA[0].kafka, KAFKA[0].pid, 2, "large,default,fetch")
            warmed += 6
    return KAFKA[0]


def end_kafka():
    for kafka in KAFKA:
        kafka.kill()
        kafka.remove()
    KAFKA.clear()


def cluster_cpu(args):
    """In turns with a warm Kafka. What merges, etcd and MinIO take is said too: it is not the broker's, but it is on the same cores."""
    kafka = warm_kafka(args)
    with running(args, "cluster-cpu", args.set, compactor=True) as cluster:
        agent = cluster.agents[0]
        for turn in range(args.rounds + 1):
            name = "agent" if turn else "agent (warming)"
            before = {process.name: broker_cpu.cpu_seconds(process.pid) for process in cluster.processes()}
            measure(name, agent.kafka, agent.pid, args.gib, "large,fetch")
            measure(name, agent.kafka, agent.pid, args.gib / 4, "default")
            out("cluster-cpu: all processes, CPU seconds", **{process.name: round(broker_cpu.cpu_seconds(process.pid) - before[process.name], 2)
                                                              for process in cluster.processes()})
            if turn:
                measure("kafka", kafka.kafka, kafka.pid, args.gib, "large,fetch")
                measure("kafka", kafka.kafka, kafka.pid, args.gib / 4, "default")


def full_rate(agent, frames):
    """Acknowledgements a second with 32 MiB under way."""
    load = Load(agent.kafka, 64)
    _, within = load.closed(frames, 8, 6)
    load.close()
    return within / 6


class Probe:
    """What the store's 100 ms look like to somebody who only waits for them, in a process of its own: what is above them is the machine's."""

    def __init__(self, cluster, seconds):
        code = ("import http.client, sys, threading, time\n"
                "took, end = [], time.perf_counter() + float(sys.argv[2])\n"
                "def ask():\n"
                "    connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=30)\n"
                "    while (began := time.perf_counter()) < end:\n"
                "        connection.request('PUT', '/probe/probe', b'x' * 1024)\n"
                "        connection.getresponse().read()\n"
                "        took.append(time.perf_counter() - began)\n"
                "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
                "[thread.start() for thread in threads]\n"
                "[thread.join() for thread in threads]\n"
                "print(*took)\n")
        self.process = subprocess.Popen([sys.executable, "-c", code, str(cluster.store_port), str(seconds)], stdout=subprocess.PIPE, text=True)

    def took(self):
        said, _ = self.process.communicate(timeout=60)
        return [float(word) for word in said.split()]


def latency_floor(args):
    """Acknowledgements above a store that always takes 100 ms, at half of what goes through at most."""
    for name, settings in (("eager", EAGER), ("defaults", {})):
        with running(args, "latency-floor", settings | args.set, constant_store=True) as cluster:
            agent = cluster.agents[0]
            create(agent, "floor", 12)
            frames = [produce_frame("floor", 64 << 10, [partition]) for partition in range(12)]
            full_rate(agent, frames)
            for _ in range(args.rounds):
                # Each time anew: how fast the machine is changes with what else it does.
                rate = full_rate(agent, frames) / 2
                load = Load(agent.kafka, 16)
                load.open(frames, rate, 3)
                before, cpu = Metrics(agent.http), broker_cpu.cpu_seconds(agent.pid)
                probe = Probe(cluster, 15)
                took = load.open(frames, rate, 15)
                after, probed = Metrics(agent.http), probe.took()
                load.close()
                commit, put = after.mean_ms(before, "esker_commit_seconds"), after.mean_ms(before, "esker_store_seconds", 'op="put"')
                p99 = quantile_ms(took, 0.99)
                out(f"latency-floor: {name}", half_mib_s=round(rate / 16, 1), p50_ms=quantile_ms(took, 0.5),
                    p99_ms=p99, mean_ms=round(1000 * sum(took) / len(took), 2), store_mean_ms=put, commit_mean_ms=commit,
                    server_mean_ms=after.mean_ms(before, "esker_produce_ack_seconds"), acks=len(took),
                    p50_above_ms=round(quantile_ms(took, 0.5) - STORE_MS - commit, 2), p99_above_ms=round(p99 - STORE_MS - commit, 2),
                    probe_p50_ms=quantile_ms(probed, 0.5), probe_p99_ms=quantile_ms(probed, 0.99),
                    flushes_s=round(after.since(before, "esker_store_requests_total", 'op="put"') / 15, 1),
                    cpu_pct=round(100 * (broker_cpu.cpu_seconds(agent.pid) - cpu) / 15))


def one_connection(args):
    """Five requests of 1 MiB under way on one connection, above a store that always takes 100 ms."""
    with running(args, "one-connection", {"esker.flush.min.interval": "25ms"} | args.set, constant_store=True) as cluster:
        agent = cluster.agents[0]
        create(agent, "one", 1)
        frames = [produce_frame("one", 1 << 20)]
        load = Load(agent.kafka, 1)
        load.closed(frames, 5, 5)
        for _ in range(args.rounds):
            before = Metrics(agent.http)
            took, within = load.closed(frames, 5, 10)
            after = Metrics(agent.http)
            commit = after.mean_ms(before, "esker_commit_seconds")
            best = 5 / (STORE_MS + commit) * 1000
            out("one-connection", mib_s=round(within / 10, 1), best_mib_s=round(best, 1), share=round(within / 10 / best, 3), commit_mean_ms=commit,
                store_mean_ms=after.mean_ms(before, "esker_store_seconds", 'op="put"'), p50_ms=quantile_ms(took, 0.5), p99_ms=quantile_ms(took, 0.99),
                flushes_s=round(after.since(before, "esker_store_requests_total", 'op="put"') / 10, 1))
        load.close()


def etcd_bytes(args):
    """What a GiB costs etcd: as the agent counts it, and as etcd itself does."""
    with running(args, "etcd-bytes", args.set, compactor=True) as cluster:
        agent, etcd = cluster.agents[0], f"127.0.0.1:{cluster.etcd_ports[0][0]}"
        for case, gib in (("large", args.gib), ("default", args.gib / 4)):
            before, etcd_before = Metrics(agent.http), Metrics(etcd)
            measure("agent", agent.kafka, agent.pid, gib, case)
            after, etcd_after = Metrics(agent.http), Metrics(etcd)
            out(f"etcd-bytes: {'1 MiB batches' if case == 'large' else 'client defaults, 12 partitions'}",
                kib_per_gib=round(after.since(before, "esker_metadata_bytes_total") / gib / 1024, 1),
                writes_per_gib=round(after.since(before, "esker_metadata_requests_total", 'op="txn"') / gib),
                commits_per_gib=round(after.since(before, "esker_commits_total") / gib),
                puts_per_gib=round(after.since(before, "esker_store_requests_total", 'op="put"') / gib),
                etcd_puts_per_gib=round(etcd_after.since(etcd_before, "etcd_mvcc_put_total") / gib),
                etcd_received_kib_per_gib=round(etcd_after.since(etcd_before, "etcd_network_client_grpc_received_bytes_total") / gib / 1024, 1),
                etcd_wal_kib_per_gib=round(etcd_after.since(etcd_before, "etcd_disk_wal_write_bytes_total") / gib / 1024, 1))


CASES = {"cluster-cpu": cluster_cpu, "latency-floor": latency_floor, "one-connection": one_connection, "etcd-bytes": etcd_bytes}
