"""The load of `esker bench`, which leaves a broker more of the machine than any client does, on `esker dev` and a warm Kafka, in turns.

Owns: case esker-bench. Does not own: the load (`esker bench`), starting the processes.
"""
import json
import statistics
import subprocess

from report import out  # first: it says where the rest is
from clusters import warm_kafka
from lifecycle import dev

SECONDS = 5
CASES_OF_PRODUCE = {
    "produce, 1 MiB batches, 12 partitions": ["--batch", "1MiB"],
    "produce, requests of 12 batches of 16 KiB": ["--batch", "16KiB", "--spread", "12"],
    "produce, requests of one 1 KiB record, 50 connections, 20 under way on each": ["--size", "1024", "--batch", "1024", "--connections", "50", "--in-flight", "20"],
    "produce, 20 MB a second in batches of 64 KiB, 4 connections": ["--batch", "64KiB", "--connections", "4", "--rate", "20MB"],
}


def told(binary, broker, *args):
    command = [binary, "bench", *args, "--bootstrap", broker.kafka, "--pid", str(broker.pid), "--duration", f"{SECONDS}s", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if ran.returncode:
        raise RuntimeError(f"esker bench: {ran.stderr[-600:]}")
    return json.loads(ran.stdout)


def figures(line):
    """What medians are taken of: latencies until acknowledged, or whatever the run has."""
    latency, cpu = line["latency"][0], line["broker_cpu"]
    found = {"mib_s": line["mib_per_second"], "p50_ms": latency["p50_ms"], "p99_ms": latency["p99_ms"], "broker_cpu_s_per_gib": cpu["seconds_per_gib"],
             "requests_per_cpu_s": line["requests"] / cpu["seconds"]}
    return {name: value for name, value in found.items() if value is not None}


def turn(binary, broker, taken, name, nth):
    def take(case, *run):
        found = figures(told(binary, broker, *run))
        taken.setdefault((case, name), []).append(found)
        out(f"esker bench: {case}: a round", name=name, **{figure: round(value, 2) for figure, value in found.items()})

    for case, run in CASES_OF_PRODUCE.items():
        take(case, "produce", *run)
    topic = f"bench-{nth}"
    told(binary, broker, "produce", "--batch", "1MiB", "--topic", topic, "--count", "400000")
    take("consume 400 MB that were just written", "consume", "--check", "--topic", topic)
    take("lone records, 200 a second", "latency", "--rate", "200")


def esker_bench(args):
    with dev(args, "own-load", args.set) as broker:
        kafka, taken = warm_kafka(args), {}
        for nth in range(args.rounds):
            turn(args.binary, broker, taken, "esker", nth)
            turn(args.binary, kafka, taken, "kafka", nth)
        for (case, name), rounds in taken.items():
            medians = {figure: round(statistics.median(each[figure] for each in rounds), 2) for figure in rounds[0]}
            out(f"esker bench: {case}", name=name, rounds=len(rounds), **medians)


CASES = {"esker-bench": esker_bench}
