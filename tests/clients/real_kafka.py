"""A real Apache Kafka 4.3 (KRaft, one node) on loopback, for tests that hold Esker to what Kafka does and for benches beside it.

    kafka = Kafka(directory, num_partitions=4).start()      properties use `_` where Kafka's name has `.`
    … kafka.bootstrap …
    kafka.kill(); kafka.remove()

Owns: its properties, process and directory. Does not own: the jars (`tests/clients/setup --judge`), what clients do with it.
quick holds the JIT back and logs warnings only, so that it starts in some seconds: nothing may be measured beside that. Without it the
flags are those of Kafka's own script, with the heap of a small broker. A directory that was used before is continued; remove() first where
a fresh one is wanted. It ends with the thread that started it, so it is started by the main thread.
"""
import base64
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import uuid

from cluster import free_port

JARS = pathlib.Path(__file__).resolve().parent.parent.parent / "target" / "clients" / "judge-jars"
START_SECONDS = 120
QUICK = ["-Xms256m", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
FULL = ["-Xms1g", "-Xmx4g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]


class Kafka:
    """start() returns when it answers; kill() is SIGKILL, terminate() SIGTERM; remove() takes its data away."""

    def __init__(self, directory, quick=True, port=None, **properties):
        self.directory, self.quick = pathlib.Path(directory).resolve(), quick
        self.port, self.controller = port or free_port(), free_port()
        self.extra = {name.replace("_", "."): value for name, value in properties.items()}
        self.kafka, self.process = f"127.0.0.1:{self.port}", None

    @property
    def bootstrap(self):
        return self.kafka

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.directory / "log"

    def start(self):
        self.spawn()
        return self.wait()

    def spawn(self):
        """Starts the process and returns at once."""
        self.directory.mkdir(parents=True, exist_ok=True)
        classes = ["-cp", f"{JARS}/*"]
        fresh, properties = not (self.directory / "server.properties").exists(), self.properties()
        if fresh:
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # With `=`, for one id in 64 begins with a dash.
            subprocess.run(["java", *QUICK, *classes, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", properties],
                           check=True, capture_output=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["java", *(QUICK if self.quick else FULL), *classes, "kafka.Kafka", properties],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with(os.getpid()))

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"Kafka does not start; see {self.log}")

    def properties(self):
        values = {
            "process.roles": "broker,controller", "node.id": 1, "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "listeners": f"PLAINTEXT://{self.kafka},CONTROLLER://127.0.0.1:{self.controller}", "advertised.listeners": f"PLAINTEXT://{self.kafka}",
            "controller.listener.names": "CONTROLLER", "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.directory / "data", "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1, "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1, "group.initial.rebalance.delay.ms": 0, **self.extra}
        path = self.directory / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return path

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self):
        self.process.terminate()

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def _end_with(parent):
    def prepare():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a test that is killed leaves no Kafka behind
        if os.getppid() != parent:
            os._exit(1)
    return prepare
