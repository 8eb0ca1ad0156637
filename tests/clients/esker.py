"""Starts, watches, kills and stops one broker (`esker dev`) on loopback.

Owns: the child process, its ports, data directory and log file. Does not own: what clients do with it.
"""
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "infra" / "local"))
from cluster import free_port  # noqa: E402

READY = re.compile(r"^ready kafka=(\S+) grpc=(\S+) http=(\S+) cluster=(\S+) node=(\d+)\s*$")
FILES_MAX = 20_000


class BrokerError(Exception):
    """The broker did something the contract of `esker dev` does not allow."""


class Broker:
    """One `esker dev`. start() returns when it says it is ready; kill() is SIGKILL; stop() is SIGTERM and wants exit code 0."""

    def __init__(self, binary, data_dir, log, settings=None, flags=(), port=None):
        self.binary, self.data_dir, self.log = str(binary), pathlib.Path(data_dir), pathlib.Path(log)
        self.settings, self.flags = dict(settings or {}), list(flags)
        self.port = free_port() if port is None else port
        self.process = None
        self.ready_seconds = None
        self.kafka = self.grpc = self.http = self.cluster = self.node = None

    def command(self):
        command = [self.binary, "dev", "--data-dir", str(self.data_dir), "--kafka", f"127.0.0.1:{self.port}",
                   "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command + self.flags

    def start(self, timeout=30.0):
        self.spawn()
        return self.wait_ready(timeout)

    def spawn(self):
        """Starts the process and returns at once."""
        if self.alive():
            raise BrokerError("already running")
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                                            text=True, preexec_fn=_raise_file_limit)
        self.ready, self.lines = threading.Event(), []
        threading.Thread(target=_read_stdout, args=(self.process.stdout, self.lines, self.ready), daemon=True).start()

    def wait_ready(self, timeout=30.0):
        if not self.ready.wait(timeout) or not self.lines:
            code = self.process.poll()
            self.kill()
            raise BrokerError(f"no ready line within {timeout:.0f} s (exit code {code}); see {self.log}")
        match = READY.match(self.lines[0])
        if match is None:
            self.kill()
            raise BrokerError(f"not a ready line: {self.lines[0]!r}")
        self.kafka, self.grpc, self.http, self.cluster, self.node = match.groups()
        self.ready_seconds = time.monotonic() - self.began
        return self

    @property
    def bootstrap(self):
        return self.kafka

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=30.0):
        """SIGTERM; a broker that does not drain and exit 0 in time is an error."""
        if not self.alive():
            raise BrokerError(f"exited by itself with code {self.process.returncode}; see {self.log}")
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerError(f"still running {timeout:.0f} s after SIGTERM") from None
        if code != 0:
            raise BrokerError(f"exit code {code} after SIGTERM; see {self.log}")

    def check_data(self):
        """Runs `esker check-data` on the stopped node: (exit code, everything it printed)."""
        if self.alive():
            raise BrokerError("check-data wants a stopped node")
        result = subprocess.run([self.binary, "check-data", "--data-dir", str(self.data_dir)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=120)
        return result.returncode, result.stdout

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def panics(self):
        """Lines of the log that show a Rust panic."""
        if not self.log.exists():
            return []
        with open(self.log, errors="replace") as log:
            return [line.strip() for line in log if "panicked at" in line]


class Running:
    """A broker somebody else started: only its address is known."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap


def _read_stdout(stream, lines, ready):
    # Keeps reading after the first line, so that the broker can never block on a full pipe.
    for line in stream:
        lines.append(line)
        ready.set()
    ready.set()


def _raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX) if hard != resource.RLIM_INFINITY else FILES_MAX, hard))
