"""Consumer groups: 1,000 of them with 10,000 members, each on a connection of its own.

Owns: the case `groups`: `esker dev`, a cluster of three agents, and Kafka, one after the other, each with one round that is not measured.
Does not own: the load (agent/examples/group_load, built with `cargo build --release -p esker-agent --example group_load`).
"""
import contextlib
import json
import resource
import statistics
import subprocess

from clusters import running
from lifecycle import dev
from real_kafka import Kafka
from report import ROOT, WORK, out

LOAD = ROOT / "target" / "release" / "examples" / "group_load"
FILES_MAX = 20_000
# All have Kafka's default; `esker dev` does not wait for members of its own accord. One address may have this many connections.
DELAY_MS = 3000
SETTINGS = {"group.initial.rebalance.delay.ms": str(DELAY_MS), "max.connections": "15000", "max.connections.per.ip": "15000"}


@contextlib.contextmanager
def kafka():
    found = Kafka(WORK / "groups-kafka", quick=False, group_initial_rebalance_delay_ms=DELAY_MS)
    found.remove()
    try:
        yield found.start()
    finally:
        found.kill()
        found.remove()


@contextlib.contextmanager
def peer(name, args):
    """Where clients connect, and [(process, id)]."""
    settings = SETTINGS | args.set
    if name == "dev":
        with dev(args, "groups-dev", settings) as broker:
            yield broker.kafka, [("broker", broker.pid)]
    elif name == "kafka":
        with kafka() as broker:
            yield broker.kafka, [("broker", broker.pid)]
    else:
        with running(args, "groups-cluster", settings, agents=3, etcd=int(name.split()[-1])) as cluster:
            yield cluster.agents[0].kafka, [(process.name, process.pid) for process in cluster.processes()]


def load(address, processes, seconds):
    """{phase: figures} of one round. The agents of a cluster are one broker: their figures are added up; those of its servers too."""
    watched = [word for name, pid in processes for word in ("--watch", f"{name}={pid}")]
    ran = subprocess.run([LOAD, address, "--seconds", str(seconds), *watched], capture_output=True, text=True, timeout=600)
    if ran.returncode:
        raise RuntimeError(f"the load ends with {ran.returncode}: {ran.stderr[-600:]}")
    return {line.pop("phase"): added_up(line) for line in map(json.loads, ran.stdout.splitlines())}


def added_up(line):
    sums = {}
    for name, value in line.items():
        process, of, figure = name.partition("_cpu_s") if name.endswith("_cpu_s") else name.partition("_rss_mib")
        if of and process != "load":
            role = "broker" if process == "broker" or process.startswith("agent") else "servers"
            name = role + of
        sums[name] = round(sums.get(name, 0) + value, 3)
    return sums


def median(rounds):
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


def groups(args):
    """Each peer with a round that is not measured, then as many as asked for; their medians last."""
    if not LOAD.exists():
        raise RuntimeError("cargo build --release -p esker-agent --example group_load")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    for name in ("dev", "cluster, etcd 1", "cluster, etcd 3", "kafka"):
        with peer(name, args) as (address, processes):
            rounds = []
            for turn in range(args.rounds + 1):
                figures = load(address, processes, 20)
                for phase, of_phase in figures.items():
                    if count := of_phase.get("count"):
                        of_phase["broker_cpu_s_per_10k"] = round(of_phase["broker_cpu_s"] / count * 10_000, 3)
                    out(f"groups: {name}: {phase}", round=turn or "warming", **of_phase)
                rounds.append(figures)
            for phase in rounds[0]:
                out(f"groups: {name}: {phase}", round="median", **median([figures[phase] for figures in rounds[1:]]))


CASES = {"groups": groups}
