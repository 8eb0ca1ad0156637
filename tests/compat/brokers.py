"""The brokers that suites meet: one `esker dev`, or three agents on three members of etcd and MinIO.

Owns: one broker at a time, restarted when the next test wants other settings. Does not own: processes (tests/clients/esker.py,
infra/local/cluster.py).
"""
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "target" / "compat"
sys.path.append(str(ROOT / "tests" / "clients"))
from esker import Broker  # noqa: E402  which puts infra/local on the path
from cluster import Cluster  # noqa: E402

# Suites assume topics of four partitions that are created by use; a group that forms at once saves hours.
SETTINGS = {"num.partitions": "4", "group.initial.rebalance.delay.ms": "0"}
# The names that librdkafka's 0101 knows.
ZONES = ("RACK1", "RACK2", "RACK3")
DEV_LIKE = {"esker.flush.age": "50ms", "esker.flush.min.interval": "10ms"}


class Foreign:
    """A broker that somebody else started; it has the settings it has."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def get(self, _settings):
        return self.bootstrap

    def close(self):
        return []


class Own:
    """Started from a binary."""

    def __init__(self, binary, clustered):
        self.binary, self.clustered = binary, clustered
        self.work = CACHE / "work" / f"{'cluster' if clustered else 'dev'}-{os.getpid()}"
        self.settings, self.broker, self.number = None, None, 0
        if clustered:
            subprocess.run([ROOT / "infra" / "parts" / "get", "etcd-3.6", "minio"], check=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def get(self, settings):
        """Bootstrap addresses of a broker with these settings. Raises what tests/clients/esker.py and infra/local/cluster.py raise."""
        settings = SETTINGS | dict(settings)
        if self.broker is not None and settings == self.settings and self.broker.alive():
            return self.broker.bootstrap
        for problem in self.close():
            print(f"     {problem}", flush=True)
        self.number += 1
        work = self.work / str(self.number)
        work.mkdir(parents=True)
        if self.clustered:
            self.broker = Cluster(work, self.binary, zones=ZONES, settings=DEV_LIKE | settings)
        else:
            self.broker = Broker(self.binary, work / "data", work / "broker.log", settings)
        self.broker.start()
        self.settings = settings
        return self.broker.bootstrap

    def close(self):
        """Ends the broker. Returns what was wrong with it; its logs are kept, its data is not."""
        if self.broker is None:
            return []
        broker, self.broker, wrong = self.broker, None, []
        try:
            wrong += broker.stop() or []
        except Exception as error:  # the run ends with it as a failure
            wrong.append(str(error))
        wrong += [f"panic: {line}" for line in broker.panics()]
        for path in (self.work / str(self.number)).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        return wrong
