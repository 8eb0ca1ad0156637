"""Case `scale`: what a broker takes with 10,000 and 100,000 partitions and with 1,000 connections, and whether anything grows with them that should not.

Owns: scale. Does not own: starting the processes, load (`load`, `fetch_load`).
"""
import statistics
import time

import broker_cpu
import wire
from fetch_load import Consumer, consume, fill
from lifecycle import dev
from load import Load, produce_frame, quantile_ms
from report import create, out

TOPIC_PARTITIONS = 1_000


def cpu_pct(pid, seconds):
    cpu, began = broker_cpu.cpu_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    return round(100 * (broker_cpu.cpu_seconds(pid) - cpu) / (time.perf_counter() - began), 2)


def timed_call(connection, *call):
    began = time.perf_counter()
    connection.call(*call)
    return time.perf_counter() - began


def answers(broker, topic):
    """Milliseconds of an answer: metadata of all topics and of one, a fetch of 1,000 partitions that have nothing."""
    everything = {partition: 0 for partition in range(TOPIC_PARTITIONS)}
    with wire.Connection(broker.kafka, timeout=60) as connection:
        requests = {"metadata_all": (wire.METADATA, 4, wire.struct.pack(">i", -1) + b"\0", ),
                    "metadata_one": (wire.METADATA, 4, wire.array([wire.string(topic)]) + b"\0"),
                    "fetch_1000": (wire.FETCH, 11, wire.fetch_body(topic, everything))}
        return {f"{name}_ms": round(1000 * statistics.median(timed_call(connection, *call) for _ in range(7)), 2) for name, call in requests.items()}


def rates(broker, topic, connections, seconds=5):
    """Produced by so many connections, 16 KiB a request to partitions in turn; then 64 MiB fetched from one of them."""
    load, cpu = Load(broker.kafka, connections), broker_cpu.cpu_seconds(broker.pid)
    frames = [produce_frame(topic, 16 << 10, [partition]) for partition in range(0, TOPIC_PARTITIONS, 50)]
    took, within = load.closed(frames, 1, seconds)
    cpu = broker_cpu.cpu_seconds(broker.pid) - cpu
    load.close()
    hot = f"hot-{time.time_ns()}"
    create(broker, hot, 1)
    fill(broker.kafka, hot, 64, 16 << 10)
    crowd, fetch_cpu, began = [Consumer(broker.kafka, hot)], broker_cpu.cpu_seconds(broker.pid), time.perf_counter()
    sent, _ = consume(crowd, 1 << 30)
    wall, fetch_cpu = time.perf_counter() - began, broker_cpu.cpu_seconds(broker.pid) - fetch_cpu
    crowd[0].socket.close()
    return dict(produce_mb_s=round(within * (16 << 10) / seconds / 1e6, 1), produce_cpu_s_per_gib=round(cpu * 2**30 / (len(took) * (16 << 10)), 2),
                produce_p50_ms=quantile_ms(took, 0.5), produce_p99_ms=quantile_ms(took, 0.99), fetch_mb_s=round(sent / wall / 1e6),
                fetch_cpu_s_per_gib=round(fetch_cpu * 2**30 / sent, 3))


def partitions(args):
    with dev(args, "scale", args.set) as broker:
        empty_ms, made, before = round(1000 * broker.ready_seconds), 0, broker_cpu.resident_mib(broker.pid)
        out("scale: new", start_ms=empty_ms, rss_mib=before, idle_cpu_pct=cpu_pct(broker.pid, 5))
        for upto in (1_000, 10_000, 100_000):
            began, cpu = time.perf_counter(), broker_cpu.cpu_seconds(broker.pid)
            for nth in range(made, upto, TOPIC_PARTITIONS):
                create(broker, f"wide-{nth}", TOPIC_PARTITIONS)
            wall, cpu, added, made = time.perf_counter() - began, broker_cpu.cpu_seconds(broker.pid) - cpu, upto - made, upto
            time.sleep(3)
            rss = broker_cpu.resident_mib(broker.pid)
            figures = answers(broker, f"wide-{upto - TOPIC_PARTITIONS}") | rates(broker, "wide-0", 64)
            time.sleep(5)
            idle = cpu_pct(broker.pid, 10)
            broker.stop()
            broker.start()
            after_drain = round(1000 * broker.ready_seconds)
            broker.kill()
            broker.start()
            out(f"scale: {upto} partitions", create_1000_ms=round(1000 * wall * 1000 / added), create_cpu_ms=round(1000 * cpu * 1000 / added),
                rss_mib=rss, more_mib=rss - before, idle_cpu_pct=idle, **figures, start_after_drain_ms=after_drain,
                start_after_kill_ms=round(1000 * broker.ready_seconds), started_rss_mib=broker_cpu.resident_mib(broker.pid))


def connections(args):
    with dev(args, "scale-connections", args.set) as broker:
        create(broker, "wide", TOPIC_PARTITIONS)
        for count in (10, 100, 1_000):
            before = broker_cpu.resident_mib(broker.pid)
            out(f"scale: {count} connections", **rates(broker, "wide", count), rss_mib=broker_cpu.resident_mib(broker.pid), before_mib=before)


def scale(args):
    partitions(args)
    connections(args)


CASES = {"scale": scale}
