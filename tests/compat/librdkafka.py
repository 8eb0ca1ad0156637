"""librdkafka's own tests, as they ship in the crate rdkafka-sys.

Owns: getting and building them, the command line of one test, reading its report. Does not own: what is expected (expected.txt).

A test is a number; a number has one or several rows, told apart in the report that the runner writes. Rows that need no
broker, that are started by hand, or that librdkafka lists as a known issue of its own are not run.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

import processes
from crates import crate_source
from matrix import FAIL, PASS, SKIP, Row, Unit

NAME = "librdkafka"
CRATE = "4.10.0"
# The newest release the tests know; it decides which of them apply.
KAFKA_VERSION = "4.1.0"
HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = {"g++": "g++", "make": "make"}
HEADERS = {"rapidjson/document.h": "rapidjson-dev", "zstd.h": "libzstd-dev", "zlib.h": "zlib1g-dev", "openssl/ssl.h": "libssl-dev"}
ROW = re.compile(r"^    _TEST\((\w+),(.*?)(?=^    _TEST\(|^    \{NULL\})", re.M | re.S)
# They want the first members of a group in one generation.
SLOW_JOIN = {"0102", "0113", "0118"}
# What these print where they mean to fail.
ONLY_SAID = {"0101_fetch_from_follower": "rxbytes was not highest on broker corresponding to client.rack"}
LONG = {"0113": 900.0, "0081": 600.0}


class Suite:
    def __init__(self, cache):
        self.home = cache / "librdkafka"
        self.tests = self.home / "tests"
        self.logs = cache / "logs" / NAME

    def prepare(self):
        """Gets and builds the tests, unless that was done; and the jars that kafka/bin wants."""
        if not (HERE.parent.parent / "target" / "clients" / "jars").is_dir():
            subprocess.run([HERE.parent / "clients" / "setup"], check=True)
        stamp = self.home / f".built-{CRATE}"
        if stamp.exists():
            return
        install_missing()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(crate_source(self.home.parent / "get", "rdkafka-sys", CRATE) / "librdkafka", self.home)
        for script in [self.home / "configure", self.home / "lds-gen.py", *(self.home / "mklove").iterdir()]:
            script.chmod(script.stat().st_mode | 0o111)
        configure = ["./configure", "--disable-gssapi", "--disable-curl", "--disable-optimization", "--disable-debug-symbols",
                     "--CFLAGS=-O1", "--CXXFLAGS=-O1"]
        for step, command in enumerate([configure, ["make", "-j2", "libs"], ["make", "-j2", "-C", "tests", "build"]]):
            processes.build(command, self.logs / f"build-{step}.log", cwd=self.home)
        stamp.touch()

    def rows(self):
        """(number, row, scenario) of every row that wants a broker, in the order of the suite's own table."""
        for name, rest in ROW.findall((self.tests / "test.c").read_text()):
            if not re.search(r"TEST_F_(LOCAL|MANUAL|KNOWN_ISSUE)\b", rest):
                yield name.split("_")[0], name, "noautocreate" if '"noautocreate"' in rest else "default"

    def units(self):
        found = dict.fromkeys((number, scenario) for number, _, scenario in self.rows())
        for number, scenario in sorted(found, key=lambda unit: (unit[0] in SLOW_JOIN, unit[1] != "default")):
            settings = {}
            if scenario == "noautocreate":
                settings["auto.create.topics.enable"] = "false"
            if number in SLOW_JOIN:
                settings["group.initial.rebalance.delay.ms"] = "3000"
            suffix = "" if scenario == "default" else f"-{scenario}"
            yield Unit(number + suffix, LONG.get(number, 300.0), tuple(settings.items()))

    def run(self, unit, bootstrap, limit_seconds):
        number, _, scenario = unit.name.partition("-")
        work = self.logs / unit.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "test.conf").write_text(f"bootstrap.servers={bootstrap}\ntest.timeout.multiplier=3\n")
        report = work / "report.json"
        environment = {"LD_LIBRARY_PATH": f"{self.home / 'src'}:{self.home / 'src-cpp'}", "TEST_KAFKA_VERSION": KAFKA_VERSION, "TESTS": number,
                       "TEST_SCENARIO": scenario or "default", "TEST_REPORT": str(report), "RDKAFKA_TEST_CONF": str(work / "test.conf"),
                       "KAFKA_PATH": str(HERE / "kafka"), "BROKERS": bootstrap}
        code, seconds, output = processes.run([self.tests / "test-runner", "-L", "-p1"], work / "output.log", limit_seconds, environment, self.tests)
        for stats in self.tests.glob(f"stats_{number}_*.json"):
            stats.unlink()
        names = [row for n, row, s in self.rows() if n == number and s == (scenario or "default")]
        return judge(names, read_report(report), code, seconds, output)


def read_report(path):
    """State and seconds by row; empty when the process ended before it could write one."""
    try:
        return {name: (row["state"], row["duration"]) for name, row in json.loads(path.read_text())["tests"].items()}
    except (OSError, ValueError):
        return {}


def judge(names, report, code, seconds, output):
    """A row passed when the report says so, it took time, and the process ended well or another row is to blame."""
    failure = re.search(r'^### Test "[^"]*" failed at (.*?) at \w{3} \w{3} .*?\n(.*)', output, re.M)
    said = " ".join(failure.groups()) if failure else ("time is up" if code is None else f"exit code {code}")
    blamed = any(report.get(name, ("", 0))[0] == "FAILED" for name in names)
    found = []
    for name in names:
        state, took = report.get(name, ("", seconds))
        if state == "SKIPPED" or (state == "PASSED" and took == 0):
            skipped = re.search(rf"^\[{name} .*SKIPPING TEST: (.*)", output, re.M)
            found.append(Row(name, SKIP, took, skipped.group(1) if skipped else "took no time"))
        elif name in ONLY_SAID and ONLY_SAID[name] in output:
            found.append(Row(name, FAIL, took, ONLY_SAID[name]))
        elif state == "PASSED" and (code == 0 or blamed):
            found.append(Row(name, PASS, took))
        else:
            found.append(Row(name, FAIL, took, said))
    return found


def install_missing():
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    include = [pathlib.Path("/usr/include"), pathlib.Path("/usr/include/x86_64-linux-gnu")]
    missing += [package for header, package in HEADERS.items() if not any((place / header).exists() for place in include)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise RuntimeError(f"please install {' '.join(missing)} (not root, so this cannot)")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", *missing], check=True, env=environment, stdout=subprocess.DEVNULL)
