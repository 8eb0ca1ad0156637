"""A cluster on loopback: etcd, an S3 server, agents, perhaps a compactor. Each a process of its own.

Owns: ports, directories below a work directory, starting, killing, pausing and stopping the processes.
Does not own: getting the servers (infra/parts/get), what clients do (tests/clients).
"""
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = pathlib.Path(os.environ.get("PARTS_DIR", ROOT / "target" / "parts" / "bin"))
KEY, SECRET, BUCKET = "eskerlocal", "eskerlocal-secret", "esker"
READY = re.compile(r"^ready kafka=(\S+) grpc=(\S+) http=(\S+) cluster=(\S+) node=(\d+)\s*$")
START_SECONDS = 30
# For servers that are not ours, on a machine whose disk is busy with what ran before.
PART_SECONDS = 60


class ClusterError(Exception):
    """A process did not start, or did not end as it should."""


def free_port(claims={}):
    """A port below the ephemeral range, given out once: a client that keeps dialling a dead port there can connect to itself and occupy it.
    Until this process ends it holds a socket that is called after the port, so that no other run gets it, even before anybody listens there."""
    for port in range(20_000 + os.getpid() % 4_000, 32_000):
        if port in claims:
            continue
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0esker-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        claims[port] = claim
        return port
    raise ClusterError("no free port between 20000 and 32000")


def inherited():
    """The environment without what is ours: to an agent an unknown ESKER_… variable is an error."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ESKER_") or name == "ESKER_LOG"}


class Process:
    """One process with a log file. start() again after kill() or stop()."""

    def __init__(self, name, command, log, environment=None, prefix=()):
        self.name, self.command, self.log = name, [str(word) for word in command], pathlib.Path(log)
        self.environment, self.prefix = environment or {}, list(prefix)
        self.process, self.began = None, None

    def spawn(self):
        if self.alive():
            raise ClusterError(f"{self.name} is running already")
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.prefix + self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=inherited() | self.environment, start_new_session=True)
        return self

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.alive():
            self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def stop(self, timeout=30.0):
        """SIGTERM; returns how long it took. Anything but exit code 0 is an error."""
        if not self.alive():
            raise ClusterError(f"{self.name} has ended by itself with {self.process.returncode}; see {self.log}")
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} still runs {timeout:.0f} s after SIGTERM") from None
        if code != 0:
            raise ClusterError(f"{self.name} exits {code} after SIGTERM; see {self.log}")
        return time.monotonic() - began

    def panics(self):
        if not self.log.exists():
            return []
        with open(self.log, errors="replace") as log:
            return [line.strip() for line in log if "panicked at" in line]


class Agent(Process):
    """An `esker agent`."""

    kafka = grpc = http = peer_port = cluster = node = user = None

    def start(self, timeout=START_SECONDS):
        begin = self.log.stat().st_size if self.log.exists() else 0
        self.spawn()
        return self.wait_ready(begin, timeout)

    def wait_ready(self, begin, timeout=START_SECONDS):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with open(self.log, errors="replace") as log:
                log.seek(begin)
                for line in log:
                    match = READY.match(line)
                    if match:
                        self.kafka, self.grpc, self.http, self.cluster, self.node = match.groups()
                        self.ready_seconds = time.monotonic() - self.began
                        return self
            if not self.alive():
                said = self.log.read_text(errors="replace")[-600:]
                raise ClusterError(f"{self.name} has ended with {self.process.returncode}; see {self.log}, which ends with:\n{said}")
            time.sleep(0.02)
        self.kill()
        raise ClusterError(f"{self.name} is not ready after {timeout:.0f} s; see {self.log}")

    def readyz(self):
        """Status and body of /readyz; (0, reason) if nobody answers."""
        host, port = self.http.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()


def wait_answer(port, path, process, timeout=PART_SECONDS):
    """Waits until GET path answers 200; fails at once if the process ends."""
    deadline = time.monotonic() + timeout
    last = None
    while process.alive() and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            last = connection.getresponse().status
            if last == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            last = error
        finally:
            connection.close()
        time.sleep(0.05)
    said = process.log.read_text(errors="replace")[-2000:]
    how = f"does not answer on port {port} within {timeout:.0f} s ({last})" if process.alive() else f"has ended with {process.process.returncode}"
    raise ClusterError(f"{process.name} {how}; its log ends with:\n{said}")


def wait_bucket(port, timeout=PART_SECONDS):
    """Creates the bucket as soon as the server lets us."""
    deadline = time.monotonic() + timeout
    while True:
        status, said = create_bucket(port)
        if status in (200, 409):
            return
        if status != 503 or time.monotonic() > deadline:
            raise ClusterError(f"bucket not created: {status} {said[:200]!r}")
        time.sleep(0.1)


def create_bucket(port):
    """PUT /BUCKET with AWS's signature, version 4: status and body of the answer."""
    host, when = f"127.0.0.1:{port}", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope, digest = f"{when[:8]}/us-east-1/s3/aws4_request", hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    request = f"PUT\n/{BUCKET}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{when}\n\n{names}\n{digest}"
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers = {"x-amz-date": when, "x-amz-content-sha256": digest,
               "authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", f"/{BUCKET}", headers=headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, said


class Cluster:
    """Everything below one work directory. etcd: how many members; zones: one agent for each."""

    def __init__(self, work, binary, etcd=3, zones=("a", "b", "c"), compactor=True, settings=None, ports=None, etcd_binary="etcd-3.6",
                 proxy=None, users=False):
        """proxy: an esker-proxy that stands before the S3 server. users: each agent runs as a user of its own, so that nft can tell them apart."""
        self.work, self.binary = pathlib.Path(work), pathlib.Path(binary)
        self.settings = {"auto.create.topics.enable": "true"} | (settings or {})
        self.ports_given = ports is not None
        self.port = iter(ports).__next__ if self.ports_given else free_port
        self.etcd_ports = [(self.port(), self.port()) for _ in range(etcd)]
        self.s3_port, self.store_port = self.port(), None
        self.zones, self.with_compactor, self.etcd_binary = list(zones), compactor, etcd_binary
        self.etcd, self.s3, self.agents, self.compactor = [], None, [], None
        self.proxy_binary, self.proxy, self.users = proxy, None, users

    def start(self):
        try:
            return self.start_all()
        except BaseException:
            self.kill()
            raise

    def start_all(self):
        self.work.mkdir(parents=True, exist_ok=True)
        self.start_etcd()
        self.start_s3()
        self.agents = [self.new_agent(number, zone) for number, zone in enumerate(self.zones, 1)]
        for agent in self.agents:
            agent.start()
        if self.with_compactor:
            self.compactor = self.new_compactor().spawn()
        return self

    def start_etcd(self):
        members = ",".join(f"m{n}=http://127.0.0.1:{peer}" for n, (_, peer) in enumerate(self.etcd_ports))
        for number, (client, peer) in enumerate(self.etcd_ports):
            command = [PARTS / self.etcd_binary, "--name", f"m{number}", "--data-dir", self.work / f"etcd-{number}",
                       "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
                       "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                       "--initial-cluster", members, "--initial-cluster-token", "esker-local", "--snapshot-count", "5000", "--log-level", "warn"]
            self.etcd.append(Process(f"etcd-{number}", command, self.work / f"etcd-{number}.log").spawn())
        for member, (client, _) in zip(self.etcd, self.etcd_ports):
            wait_answer(client, "/health", member)

    def start_s3(self):
        environment = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_PROMETHEUS_AUTH_TYPE": "public",
                       "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        # It is not what is tested: when it does not come up, another one does, unless the port was asked for.
        for last in (True,) if self.ports_given else (False, True):
            command = [PARTS / "minio", "server", "--quiet", "--address", f"127.0.0.1:{self.s3_port}", self.work / ("minio" if last else "minio-first")]
            self.s3 = Process("minio", command, self.work / "minio.log", environment).spawn()
            try:
                wait_answer(self.s3_port, "/minio/health/ready", self.s3)
                break
            except ClusterError as error:
                if last:
                    raise
                print(f"a second MinIO, since the first failed: {error}", file=sys.stderr, flush=True)
                self.s3.kill()
                self.s3_port = self.port()
        wait_bucket(self.s3_port)
        if self.proxy_binary:
            self.store_port, self.admin_port = self.port(), self.port()
            command = [self.proxy_binary, "--upstream", f"127.0.0.1:{self.s3_port}", "--listen", f"127.0.0.1:{self.store_port}",
                       "--admin", f"127.0.0.1:{self.admin_port}"]
            self.proxy = Process("proxy", command, self.work / "proxy.log").spawn()
            wait_answer(self.admin_port, "/counts", self.proxy)

    def order(self, method, path, body=None):
        """Tells the proxy something."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status // 100 != 2:
            raise ClusterError(f"{method} {path}: {answer.status} {said[:200]!r}")
        return json.loads(said) if said else None

    def set_faults(self, rules):
        self.order("PUT", "/faults", rules)

    def fault_counts(self):
        return self.order("GET", "/counts")

    def etcd_status(self, client):
        """What a member says of itself; None if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", client, timeout=2)
        try:
            connection.request("POST", "/v3/maintenance/status", body="{}")
            return json.loads(connection.getresponse().read())
        except (OSError, ValueError):
            return None
        finally:
            connection.close()

    def etcd_leader(self):
        """The process of the member that leads."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for process, (client, _) in zip(self.etcd, self.etcd_ports):
                status = self.etcd_status(client) or {}
                if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return process
            time.sleep(0.1)
        raise ClusterError("etcd has no leader")

    def etcd_healthy(self):
        """How many members know a leader."""
        return sum(bool((self.etcd_status(client) or {}).get("leader")) for client, _ in self.etcd_ports)

    @property
    def etcd_clients(self):
        return [client for client, _ in self.etcd_ports]

    @property
    def etcd_flag(self):
        return ",".join(f"127.0.0.1:{client}" for client in self.etcd_clients) + "/esker"

    @property
    def environment(self):
        port = self.store_port or self.s3_port
        return {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def new_agent(self, number, zone):
        listens = {flag: self.port() for flag in ("--kafka", "--grpc", "--http", "--peer")}
        command = [self.binary, "agent", "--etcd", self.etcd_flag, "--store", f"s3://{BUCKET}"]
        for flag, port in listens.items():
            command += [flag, f"127.0.0.1:{port}"]
        if zone:
            command += ["--zone", zone]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        agent = Agent(f"agent-{number}", command, self.work / f"agent-{number}.log", self.environment)
        agent.peer_port, agent.http = listens["--peer"], f"127.0.0.1:{listens['--http']}"
        if self.users:
            agent.user = 47_000 + number
            agent.prefix = ["setpriv", f"--reuid={agent.user}", "--clear-groups"]
        return agent

    def new_compactor(self):
        command = [self.binary, "compactor", "--etcd", self.etcd_flag, "--store", f"s3://{BUCKET}", "--http", f"127.0.0.1:{self.port()}"]
        return Process("compactor", command, self.work / "compactor.log", self.environment)

    @property
    def bootstrap(self):
        return ",".join(agent.kafka for agent in self.agents if agent.kafka)

    @property
    def grpc(self):
        return ",".join(agent.grpc for agent in self.agents if agent.grpc)

    def alive(self):
        return all(process.alive() for process in self.processes())

    def processes(self):
        return [p for p in [self.compactor, *self.agents, self.proxy, self.s3, *self.etcd] if p is not None]

    def panics(self):
        return [f"{p.name}: {line}" for p in self.processes() for line in p.panics()]

    def kill(self):
        """Ends everything at once."""
        for process in self.processes():
            if process.alive():
                process.resume()
            process.kill()

    def stop(self):
        """Drains agents and compactor, then ends the servers. What went wrong, as texts."""
        wrong = []
        for process in [self.compactor, *self.agents]:
            if process is None:
                continue
            try:
                process.stop()
            except ClusterError as error:
                wrong.append(str(error))
        wrong += [f"panic: {line}" for line in self.panics()]
        self.kill()
        return wrong

    def remove(self):
        shutil.rmtree(self.work, ignore_errors=True)
