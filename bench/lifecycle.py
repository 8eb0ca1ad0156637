"""Cases about a process as a whole, alone (`esker dev`) and with etcd and MinIO.

Owns: start, price, lone. Does not own: starting the processes, load (`load`).
"""
import contextlib
import shutil
import time

import esker
from clusters import running
from load import Load, Metrics, produce_frame, quantile_ms
from report import WORK, create, out

TOPICS, PARTITIONS, COMMITS, BATCHES = 10, 1_000, 4_096, 10
# Nothing is merged and no checkpoint is written: the next start has every commit before it.
UNMERGED = {"esker.merge.segments": "1000000", "esker.merge.age": "1d", "esker.checkpoint.commits": "1000000", "esker.checkpoint.interval": "1d",
            "esker.flush.age": "1ms", "esker.flush.min.interval": "0ms"}

# List prices of S3 Standard in us-east-1, looked up on 2026-11-23 in what others say of them (AWS's own page was out of reach): dollars for 1,000
# PUT, COPY, POST or LIST requests, for 1,000 GET and all others. DELETE is free. A month has 730 hours. Bytes stored and instances are not in it.
PUT_DOLLARS, GET_DOLLARS, MONTH_SECONDS = 0.005 / 1000, 0.0004 / 1000, 730 * 3600
OPS = ("put", "list", "get", "head", "delete")


@contextlib.contextmanager
def dev(args, name, settings=None):
    """One `esker dev` on a directory that goes with it."""
    shutil.rmtree(WORK / name, ignore_errors=True)
    (WORK / name).mkdir(parents=True)
    broker = esker.Broker(args.binary, WORK / name / "data", WORK / name / "log", settings)
    try:
        yield broker.start()
    finally:
        if broker.alive():
            broker.kill()
        shutil.rmtree(WORK / name, ignore_errors=True)


def fill(broker):
    """10,000 partitions, and 4,096 commits of ten batches each."""
    names = [f"wide-{number}" for number in range(TOPICS)]
    for name in names:
        create(broker, name, PARTITIONS)
    frames = [produce_frame(name, 300, range(first, first + BATCHES)) for first in range(0, PARTITIONS, BATCHES) for name in names]
    before, load = Metrics(broker.http), Load(broker.kafka, 1)

    def commits():
        return Metrics(broker.http).since(before, "esker_commits_total", 'outcome="committed"')
    deadline = time.monotonic() + 240
    while (missing := COMMITS - commits()) > 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{missing:.0f} commits are missing after 240 s")
        load.closed(frames, 1, min(5, missing / 2000))
    load.close()
    return int(commits())


def ready_after(process):
    """Milliseconds from starting the process to its ready line."""
    if isinstance(process, esker.Broker):
        process.start()
        return round(1000 * process.ready_seconds, 1)
    begin = process.log.stat().st_size
    process.spawn()
    while process.alive() and time.monotonic() < process.began + 30:
        with open(process.log, "rb") as log:
            log.seek(begin)
            if b"\nready kafka=" in b"\n" + log.read():
                took = time.monotonic() - process.began
                process.wait_ready(begin)
                return round(1000 * took, 1)
        time.sleep(0.001)
    raise RuntimeError(f"{process.name} is not ready; see {process.log}")


def restarted(process, end, times):
    """How long each start took, sorted."""
    took = []
    for _ in range(times):
        end()
        took.append(ready_after(process))
    return sorted(took)


def restarts(case, args, process):
    """Killed and started again, several times: what is not in a checkpoint has to be replayed each time."""
    empty = restarted(process, process.kill, args.rounds)
    before = Metrics(process.http)
    commits = fill(process)
    after = Metrics(process.http)
    full = restarted(process, process.kill, 2 * args.rounds + 1)
    unmerged = Metrics(process.http).sum("esker_unmerged_entries")
    drained = restarted(process, process.stop, args.rounds)
    out(f"start: {case}", empty_ms=empty, commits=commits, checkpoints=int(after.since(before, "esker_checkpoint_seconds_count")),
        unmerged_batches=int(unmerged), partitions=TOPICS * PARTITIONS, after_kill_ms=full, p50_ms=full[len(full) // 2], max_ms=full[-1],
        after_drain_ms=drained)


def start(args):
    with dev(args, "start-dev", UNMERGED | args.set) as broker:
        restarts("esker dev", args, broker)
    with running(args, "start-agent", UNMERGED | args.set) as cluster:
        restarts("esker agent", args, cluster.agents[0])


def compactor_http(cluster):
    """Where the compactor serves its metrics: it was told so."""
    return cluster.compactor.command[cluster.compactor.command.index("--http") + 1] if cluster.compactor else None


def priced(case, address, https, act, seconds):
    """Requests a second while `act` goes on, by kind, and what they would cost at S3's list price if it went on for a month."""
    before, began = [Metrics(http) for http in https], time.time()
    extra = act(address, seconds) or {}
    took = time.time() - began
    after = [Metrics(http) for http in https]
    rates = {op: sum(a.since(b, "esker_store_requests_total", f'op="{op}"') for a, b in zip(after, before)) / took for op in OPS}
    dollars = MONTH_SECONDS * (PUT_DOLLARS * (rates["put"] + rates["list"]) + GET_DOLLARS * (rates["get"] + rates["head"]))
    out(f"price: {case}", seconds=round(took), dollars_a_month=round(dollars, 2), **{f"{op}_s": round(rate, 3) for op, rate in rates.items()},
        metadata_writes_s=round(sum(a.since(b, "esker_metadata_requests_total", 'op="txn"') for a, b in zip(after, before)) / took, 2), **extra)


def idle(_, seconds):
    time.sleep(seconds)


def one_a_second(address, seconds):
    load = Load(address, 1)
    load.open([produce_frame("price", 1_000)], 1, seconds)
    load.close()


def full_rate(address, seconds):
    """64 producers with eight requests of 64 KiB under way each."""
    load = Load(address, 64)
    _, within = load.closed([produce_frame("price", 64 << 10, [partition]) for partition in range(12)], 8, seconds)
    load.close()
    return {"mb_s": round(within * (64 << 10) / seconds / 1e6, 1)}


def priced_all(name, broker, https):
    create(broker, "price", 12)
    time.sleep(15)  # what follows from the start is over
    for case, act, seconds in (("idle", idle, 120), ("one record a second", one_a_second, 150), ("full rate", full_rate, 40), ("idle after that", idle, 60)):
        priced(f"{name}, {case}", broker.kafka, https, act, seconds)


def price(args):
    with dev(args, "price-dev", args.set) as broker:
        priced_all("esker dev", broker, [broker.http])
    with running(args, "price-agent", args.set, compactor=True) as cluster:
        agent = cluster.agents[0]
        priced_all("agent and compactor", agent, [agent.http, compactor_http(cluster)])


def lone(args):
    """A record of 1 KiB when nothing else is under way: above the store and the commit, of `esker dev` and of an agent whose store always takes 100 ms."""
    with dev(args, "lone", args.set) as broker:
        lone_records("lone record: esker dev", broker, args.rounds)
    with running(args, "lone", args.set, constant_store=True) as cluster:
        lone_records("lone record: agent", cluster.agents[0], args.rounds)


def lone_records(case, broker, rounds):
    create(broker, "lone", 1)
    load, frames = Load(broker.kafka, 1), [produce_frame("lone", 1 << 10)]
    load.open(frames, 3, 3)
    for _ in range(rounds):
        before = Metrics(broker.http)
        took = load.open(frames, 3, 15)
        after = Metrics(broker.http)
        commit, put = after.mean_ms(before, "esker_commit_seconds"), after.mean_ms(before, "esker_store_seconds", 'op="put"')
        p50 = quantile_ms(took, 0.5)
        out(case, p50_ms=p50, p99_ms=quantile_ms(took, 0.99), store_mean_ms=put, commit_mean_ms=commit, p50_above_ms=round(p50 - put - commit, 2), acks=len(took))
    load.close()


CASES = {"start": start, "price": price, "lone": lone}
