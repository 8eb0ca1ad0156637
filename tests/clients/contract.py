"""The command line of `esker` that everything else relies on: ready line, ports, exit codes, readiness, metrics."""
import contextlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import stock
import wire
from esker import Broker
from harness import case, check, equal, wait_until

METRICS = ["esker_store_requests_total", "esker_store_bytes_total", "esker_store_seconds", "esker_commit_seconds", "esker_commits_total",
           "esker_metadata_bytes_total", "esker_unmerged_entries", "esker_fold_index", "esker_produce_ack_seconds", "process_cpu_seconds_total",
           "process_resident_memory_bytes"]


def esker(context, *args, timeout=20):
    result = subprocess.run([context.binary, *args], capture_output=True, text=True, timeout=timeout, cwd=context.work)
    return result.returncode, result.stdout, result.stderr


def get(address, path):
    with contextlib.suppress(ConnectionError, urllib.error.URLError):
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
    return None, ""


@case(own_broker=True)
def ready_line_and_free_ports(context):
    """Port 0 takes free ports; the ready line names them, and each answers."""
    broker = Broker(context.binary, context.work / "data", context.work / "log", port=0)
    context.brokers.append(broker)
    broker.start()
    ports = [address.rsplit(":", 1)[1] for address in (broker.kafka, broker.grpc, broker.http)]
    check(len(set(ports)) == 3 and "0" not in ports, f"ports {ports}")
    with wire.Connection(broker.kafka) as connection:
        equal(connection.api_versions()[0], 0, "ApiVersions")
    equal(get(broker.http, "/readyz")[0], 200, "/readyz")
    first, said = (broker.cluster, broker.node), broker.lines[:]
    broker.stop()
    equal(len(said), 1, f"lines on stdout before the end: {said}")
    broker.start()
    equal((broker.cluster, broker.node)[0], first[0], "cluster id after a restart")
    equal(get(broker.http, "/nonsense")[0], 404, "an unknown path")
    context.note(f"ready {broker.ready_seconds * 1000:.0f} ms after the start of the process")
    broker.stop()


@case(own_broker=True)
def metrics_move(context):
    """All promised metrics are there, and count what happens."""
    broker = context.broker()
    before = puts(get(broker.http, "/metrics")[1])
    for n in range(5):
        stock.send(stock.producer(broker.bootstrap), "counted", [(None, b"%d" % n)])
    text = get(broker.http, "/metrics")[1]
    missing = [name for name in METRICS if not re.search(rf"^{name}(_bucket|_sum|_count)?[{{ ]", text, re.M)]
    check(not missing, f"not at /metrics: {missing}")
    after = puts(text)
    check(after >= before + 5, f"five records, one after the other, moved esker_store_requests_total{{op=put,outcome=ok}} from {before} to {after}")


def puts(text):
    counts = re.findall(r'^esker_store_requests_total\{(?=[^}]*op="put")(?=[^}]*outcome="ok")[^}]*\} (\S+)$', text, re.M)
    return sum(map(float, counts))


@case(own_broker=True)
def idle_costs_nothing(context):
    """Without clients nothing is put, and the process hardly uses the CPU."""
    broker = context.broker()
    stock.send(stock.producer(broker.bootstrap), "once", [(None, b"x")])
    time.sleep(2)  # lets what the record started come to rest
    before, cpu = puts(get(broker.http, "/metrics")[1]), cpu_seconds(broker.pid)
    time.sleep(4)  # the idle time that is measured
    used = cpu_seconds(broker.pid) - cpu
    equal(puts(get(broker.http, "/metrics")[1]), before, "objects put while idle for 4 s")
    context.note(f"{used * 1000 / 4:.0f} ms of CPU a second, {broker.rss_bytes() >> 20} MiB resident")
    check(used < 0.4, f"{used:.2f} s of CPU in 4 idle seconds")


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@case(own_broker=True)
def mistakes_exit_2(context):
    """Bad arguments and settings: exit code 2, and a message that helps; no ready line, no data directory."""
    for args, hint in [(["dev", "--no-such-flag"], "no-such-flag"), (["no-such-verb"], "no-such-verb"), (["dev", "--kafka", "nonsense"], "nonsense"),
                       (["dev", "--set", "num.partition=3"], "num.partitions"), (["dev", "--set", "num.partitions=many"], "num.partitions"),
                       (["dev", "--set", "esker.flush.ages=1ms"], "esker.flush.age"), (["dev", "--set", "num.partitions"], "num.partitions"),
                       (["dev", "--config", "/nonexistent.toml"], "nonexistent")]:
        code, out, err = esker(context, *args)
        equal(code, 2, f"exit code of esker {' '.join(args)} ({err.strip()[-200:]})")
        check(hint in err and "ready" not in out, f"esker {' '.join(args)} says {err.strip()[-300:]!r}, without {hint!r}")
    check(not (context.work / "esker-data").exists(), "a start that failed left a data directory")


@case(own_broker=True)
def failures_exit_1(context):
    """A port in use and a data directory in use: exit code 1, and the broker that was there goes on."""
    broker = context.broker()
    for args in (["--data-dir", str(context.work / "other"), "--kafka", broker.kafka], ["--data-dir", str(broker.data_dir), "--kafka", "127.0.0.1:0"]):
        code, out, err = esker(context, "dev", *args, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
        equal(code, 1, f"exit code with {args} ({err.strip()[-200:]})")
        check("ready" not in out and err.strip(), f"with {args}: stdout {out!r}, stderr {err!r}")
    stock.send(stock.producer(broker.bootstrap), "still-here", [(None, b"x")])
    broker.stop()


@case(own_broker=True)
def other_verbs(context):
    code, out, _ = esker(context, "--version")
    check(code == 0 and re.match(r"esker \d+\.\d+\.\d+", out), f"--version: exit {code}, {out!r}")
    for shell in ("bash", "zsh", "fish"):
        code, out, err = esker(context, "completions", shell)
        check(code == 0 and "esker" in out, f"completions {shell}: exit {code}, {err[-200:]!r}")
    code, _, _ = esker(context, "check-data", "--data-dir", str(context.work / "nothing-here"))
    check(code in (1, 2), f"check-data of a directory that does not exist exits {code}")
    other = context.work / "something-else"
    other.mkdir()
    code, _, err = esker(context, "check-data", "--data-dir", str(other))
    check(code == 1 and "no data directory" in err and not any(other.iterdir()), f"check-data of another directory exits {code}: {err}")


@case(own_broker=True)
def settings_from_three_places(context):
    """A flag beats the environment, which beats the file; each takes effect."""
    config = context.work / "esker.toml"
    config.write_text('"num.partitions" = 3\n"auto.create.topics.enable" = false\n')
    broker = Broker(context.binary, context.work / "data", context.work / "log", flags=["--config", str(config)])
    context.brokers.append(broker)
    with partitions_by(broker) as (created, _):
        equal(created, None, "auto-creation, switched off in the file")
    for settings, expected in [({"auto.create.topics.enable": "true"}, 3), ({"auto.create.topics.enable": "true", "num.partitions": "5"}, 5)]:
        broker.settings = settings
        with partitions_by(broker) as (created, _):
            equal(created, expected, f"partitions of an auto-created topic with {settings}")


@contextlib.contextmanager
def partitions_by(broker):
    """Starts the broker, asks for a new topic, stops it: (partitions or None, error)."""
    broker.start()
    name = f"auto-{time.monotonic_ns()}"
    with wire.Connection(broker.bootstrap) as connection:
        connection.metadata([name])
        error, partitions = connection.metadata([name])[name]
        yield (len(partitions) if error == 0 else None), error
    broker.stop()


@case(own_broker=True)
def ephemeral_leaves_nothing(context):
    """--ephemeral keeps its data nowhere: gone after the end, even when it was killed and started again."""
    home = context.work / "home"
    home.mkdir()
    broker = Broker(context.binary, home, context.work / "log", flags=["--ephemeral"])
    context.brokers.append(broker)
    broker.start()
    stock.send(stock.producer(broker.bootstrap), "fleeting", [(None, b"x")])
    broker.stop()
    equal([p.name for p in home.rglob("*") if p.is_file()], [], "files left behind")
    broker.start()
    with wire.Connection(broker.bootstrap) as connection:
        equal(connection.metadata(["fleeting"], auto_create=False)["fleeting"][0], wire.UNKNOWN_TOPIC_OR_PARTITION, "the topic of the previous life")
    broker.stop()


@case(own_broker=True)
def a_second_signal_ends_at_once(context):
    """SIGINT works like SIGTERM; /readyz turns away while draining."""
    broker = context.broker()
    answers = []
    thread = threading.Thread(target=lambda: [answers.append(get(broker.http, "/readyz")[0]) for _ in range(200) if broker.alive()])
    thread.start()
    broker.process.send_signal(signal.SIGINT)
    wait_until(lambda: not broker.alive(), 10, "the end after SIGINT")
    thread.join()
    equal(broker.process.returncode, 0, "exit code after SIGINT")
    check(set(answers) <= {200, 503, None}, f"/readyz said {set(answers)}")
