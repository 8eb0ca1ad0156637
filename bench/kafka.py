"""A real Apache Kafka (KRaft, one node) on loopback, as its own scripts would run it: the peer that Esker is measured beside.

Owns: its properties, process and directory. Does not own: the jars (`tests/clients/setup --judge`), load. `tests/clients/judge` runs one
too, but with the JIT held back so that it starts fast: nothing may be measured beside that.
"""
import base64
import pathlib
import shutil
import socket
import subprocess
import time
import uuid

from cluster import free_port

JARS = pathlib.Path(__file__).resolve().parent.parent / "target" / "clients" / "judge-jars"
START_SECONDS = 120


class Kafka:
    """start() returns when it listens; kill() ends it. Its data goes with remove()."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.port, self.controller = free_port(), free_port()
        self.kafka, self.process = f"127.0.0.1:{self.port}", None

    def properties(self):
        values = {
            "process.roles": "broker,controller", "node.id": 1, "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "listeners": f"PLAINTEXT://{self.kafka},CONTROLLER://127.0.0.1:{self.controller}", "advertised.listeners": f"PLAINTEXT://{self.kafka}",
            "controller.listener.names": "CONTROLLER", "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.directory / "data", "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1, "group.initial.rebalance.delay.ms": 0}
        path = self.directory / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return path

    def start(self):
        self.remove()
        self.directory.mkdir(parents=True)
        java, properties = ["java", "-cp", f"{JARS}/*"], self.properties()
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties], check=True, capture_output=True)
        with open(self.directory / "log", "ab") as log:
            # The flags of kafka-server-start.sh, with the heap of a small broker.
            self.process = subprocess.Popen(["java", "-Xms1g", "-Xmx4g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                                             "-XX:InitiatingHeapOccupancyPercent=35", *java[1:], "kafka.Kafka", properties],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait()
        return self

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"Kafka does not start; see {self.directory / 'log'}")

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)
