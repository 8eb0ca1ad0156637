"""Produce with librdkafka's own rdkafka_performance, which leaves a broker more of the machine than a Java client does; beside a warm Kafka, in turns.

Owns: case librdkafka; getting and building the program, optimised (`tests/compat` builds librdkafka for its tests, which is another build). Does not own:
what the figures mean.
"""
import re
import shutil
import statistics
import subprocess

from report import WORK, create, out  # first: it says where the rest is
import broker_cpu
from clusters import warm_kafka
from crates import crate_source

CRATE = "4.10.0"
HOME = WORK / "librdkafka-built"
PROGRAM = HOME / "examples" / "rdkafka_performance"
CASES = {
    "client defaults, 12 partitions": (12, 1000, []),
    "1 MiB batches, 1 partition": (1, 1000, ["linger.ms=100", "batch.size=1040000", "batch.num.messages=1000000"]),
    "requests of one 1 KiB record, 12 partitions": (12, 1024, ["batch.num.messages=1", "linger.ms=0"]),
}
# One record a request: a GiB of them would take minutes.
FEW = 0.05
RATE = re.compile(r"([\d.]+) MB/s")


def program():
    if not PROGRAM.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        shutil.copytree(crate_source(WORK / "get", "rdkafka-sys", CRATE) / "librdkafka", HOME)
        for script in [HOME / "configure", HOME / "lds-gen.py", *(HOME / "mklove").iterdir()]:
            script.chmod(script.stat().st_mode | 0o111)
        for command in (["./configure", "--disable-gssapi", "--disable-curl", "--disable-ssl", "--disable-zstd", "--disable-debug-symbols"],
                        ["make", "-j2", "libs"], ["make", "-C", "examples", "rdkafka_performance"]):
            subprocess.run(command, cwd=HOME, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return PROGRAM


def produce(broker, topic, size, properties, gib):
    """(CPU-seconds of the broker per GiB, records per CPU-second, MB/s)"""
    records = int(gib * 2**30 / size)
    command = [str(program()), "-P", "-q", "-t", topic, "-s", str(size), "-c", str(records), "-b", broker.kafka, "-a", "-1"]
    for each in properties:
        command += ["-X", each]
    before = broker_cpu.cpu_seconds(broker.pid)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    cpu = broker_cpu.cpu_seconds(broker.pid) - before
    rates = RATE.findall(ran.stdout + ran.stderr)
    if ran.returncode or not rates:
        raise RuntimeError(f"rdkafka_performance: {ran.stdout[-300:]}{ran.stderr[-300:]}")
    return cpu / gib, records / cpu, float(rates[-1])


def librdkafka(args, start):
    """Medians of `--rounds` rounds, both brokers by turns in each."""
    esker, kafka = start(args.binary, "librdkafka", args.set), warm_kafka(args)
    taken = {}
    try:
        for turn in range(args.rounds):
            for case, (partitions, size, properties) in CASES.items():
                gib = args.gib * (FEW if "one 1 KiB" in case else 1)
                for name, broker in (("esker", esker), ("kafka", kafka)):
                    topic = f"lrk-{turn}-{partitions}-{size}"
                    create(broker, topic, partitions)
                    taken.setdefault((case, name), []).append(produce(broker, topic, size, properties, gib))
        for (case, name), rounds in taken.items():
            cpu, records, rate = (statistics.median(figures) for figures in zip(*rounds))
            out(f"librdkafka: {case}", name=name, rounds=len(rounds), cpu_s_per_gib=round(cpu, 3), records_per_cpu_s=round(records), mb_s=round(rate, 1))
        esker.stop()
    finally:
        if esker.alive():
            esker.kill()
        shutil.rmtree(WORK / "librdkafka", ignore_errors=True)

