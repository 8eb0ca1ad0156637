"""What every case gets: the registry, a context with brokers and a work directory, and the ways to fail.

Owns: which cases exist, the life of the brokers they use. Does not own: the clients (`stock`, `wire`).
"""
import dataclasses
import os
import pathlib
import shutil
import sys
import time
import uuid

from esker import Broker, Running  # which puts infra/local on the path
from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

CLUSTER = "cluster"  # what a case needs beside the clients
ETCD = os.environ.get("CHAOS_ETCD", "etcd-3.6")  # which etcd, as infra/parts names them
CACHE = ROOT / "target" / "clients"
CASES = []


# What `esker dev` sets and stock clients notice.
DEV_LIKE = {"group.initial.rebalance.delay.ms": "0", "esker.flush.age": "50ms", "esker.flush.min.interval": "10ms"}


class Failed(Exception):
    """The broker (or the machine) did not do what the case demands."""


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    function: object
    own_broker: bool
    needs: object = None
    grpc: bool = False


def case(function=None, *, own_broker=False, name=None, needs=None, grpc=False):
    """Registers a case. own_broker: it starts, kills or looks into the process, so a foreign broker will not do. grpc: it needs Esker's own API."""
    def register(function):
        module = function.__module__.rsplit(".", 1)[-1]
        CASES.append(Case(f"{module}/{name or function.__name__}", function, own_broker, needs, grpc))
        return function
    return register if function is None else register(function)


def check(condition, message):
    if not condition:
        raise Failed(message)


def equal(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


def wait_until(predicate, timeout, what, every=0.02):
    """Polls until predicate() is true and returns its value; Failed when it never is."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout:.0f} s: {what}")
        time.sleep(every)


class Context:
    """One case's view of the world."""

    def __init__(self, name, binary, bootstrap, shared):
        self.name, self.binary, self.bootstrap = name, binary, bootstrap
        self.work = CACHE / "work" / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.notes = []
        self.brokers = []
        self.clusters = []
        self._shared = shared

    def note(self, text):
        """A figure worth a line in the output."""
        self.notes.append(text)

    def topic(self, stem):
        return f"{stem}-{uuid.uuid4().hex[:8]}"

    def broker(self, data_dir=None, flags=(), **settings):
        """A broker of this case's own, started. Settings use `_` where the broker's name has `.`."""
        log = self.work / f"broker-{len(self.brokers)}.log"
        data = data_dir or self.work / f"data-{len(self.brokers)}"
        broker = Broker(self.binary, data, log, {k.replace("_", "."): v for k, v in settings.items()}, flags)
        self.brokers.append(broker)
        return broker.start()

    def cluster(self, **options):
        """Three agents on three members of etcd and MinIO, of this case's own, started."""
        return self.new_cluster(**options).start()

    def new_cluster(self, **options):
        """The same, not started; ended with the case."""
        cluster = Cluster(self.work / f"cluster-{len(self.clusters)}", self.binary, etcd_binary=ETCD, **options)
        self.clusters.append(cluster)
        return cluster

    def shared(self, **settings):
        """The broker that the cases of one module share (or the one given by --bootstrap)."""
        if self.bootstrap:
            return Running(self.bootstrap)
        return self._shared.get(self.binary, {k.replace("_", "."): v for k, v in settings.items()})

    def kept(self, name, start):
        """What start() makes once for all cases of the module, and close()d after them."""
        if name not in self._shared.kept:
            self._shared.kept[name] = start()
        return self._shared.kept[name]

    def close(self, keep):
        """Ends this case's brokers; says what is wrong with them."""
        wrong = []
        for broker in self.brokers:
            wrong += [f"panic: {line}" for line in broker.panics()]
            if broker.alive():
                broker.kill()
        for cluster in self.clusters:
            wrong += [f"panic: {line}" for line in cluster.panics()]
            cluster.kill()
        if not keep and not wrong:
            shutil.rmtree(self.work, ignore_errors=True)
        return wrong


class Shared:
    """The broker of the module that is running; a change of module or settings stops it."""

    def __init__(self, clustered=False):
        self.module, self.settings, self.broker = None, None, None
        self.clustered = clustered  # three agents instead of `esker dev`
        self.keep = False  # set when a case failed: its log may tell why
        self.kept = {}  # what else the cases of the module share

    def get(self, binary, settings):
        if self.broker is not None and (settings != self.settings or not self.broker.alive()):
            self.close()
        if self.broker is None:
            work = CACHE / "work" / f"{self.module}-shared"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            if self.clustered:
                broker = Cluster(work, binary, settings=DEV_LIKE | settings, etcd_binary=ETCD)
            else:
                broker = Broker(binary, work / "data", work / "broker.log", settings)
            broker.start()
            self.broker, self.settings = broker, settings
        return self.broker

    def enter(self, module):
        """Called before each case. Returns what went wrong with the previous module's broker."""
        wrong = []
        if module != self.module:
            while self.kept:
                self.kept.popitem()[1].close()
            wrong = self.close()
        self.module, self.keep = module, False if module != self.module else self.keep
        return wrong

    def close(self):
        if self.broker is None:
            return []
        broker, self.broker = self.broker, None
        wrong = []
        try:
            wrong += broker.stop() or []
        except Exception as error:  # reported by the runner as a failed case
            wrong.append(str(error))
        wrong += [f"panic: {line}" for line in broker.panics()]
        if not wrong and not self.keep:
            shutil.rmtree(CACHE / "work" / f"{self.module}-shared", ignore_errors=True)
        return wrong
