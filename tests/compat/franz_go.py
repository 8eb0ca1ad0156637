"""franz-go's own tests (pkg/kgo) that talk to a broker.

Owns: getting and building them, the command line of one test, reading what it prints. Does not own: what is expected (expected.txt).

Which tests talk to a broker is read from their source: they make a client of the suite's own, or a topic. A test with
sub-tests has a row for each of them and none of its own. pkg/kadm has no test that talks to a broker.
"""
import json
import os
import pathlib
import re
import subprocess

import processes
from matrix import FAIL, PASS, SKIP, Row, Unit

NAME = "franz-go"
VERSION = "v1.22.2"
# Of the two chains of groups; the suite's own default of 500,000 takes half an hour on two cores.
RECORDS = "50000"
TALKS = re.compile(r"newTestClient|scramSeeds|testClientOpts|getSeedBrokers|adm\(\)|tmpTopic|tmpGroup")
RESULT = re.compile(r"^ *--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)$", re.M)
OUTCOMES = {"PASS": PASS, "FAIL": FAIL, "SKIP": SKIP}


class Suite:
    def __init__(self, cache):
        self.home, self.logs = cache / "franz-go", cache / "logs" / NAME
        self.binary = self.home / f"kgo-{VERSION}.test"

    def prepare(self):
        self.home.mkdir(parents=True, exist_ok=True)
        output = subprocess.run(["go", "mod", "download", "-json", f"github.com/twmb/franz-go@{VERSION}"], check=True, stdout=subprocess.PIPE,
                                cwd=self.home, env=os.environ | {"GO111MODULE": "on"}).stdout
        self.source = pathlib.Path(json.loads(output)["Dir"]) / "pkg" / "kgo"
        if not self.binary.exists():
            processes.build(["go", "test", "-c", "-o", self.binary, "."], self.logs / "build.log", cwd=self.source)

    def units(self):
        for path in sorted(self.source.glob("*_test.go")):
            for function in re.split(r"^func ", path.read_text(), flags=re.M)[1:]:
                name = re.match(r"(Test\w+)\(t ", function)
                if name and TALKS.search(function):
                    yield Unit(name.group(1))

    def run(self, unit, bootstrap, limit_seconds):
        environment = {"KGO_SEEDS": bootstrap, "KGO_TEST_RF": "1", "KGO_TEST_RECORDS": RECORDS}
        command = [self.binary, "-test.run", f"^{unit.name}$", "-test.v", "-test.timeout", f"{limit_seconds - 5:.0f}s"]
        code, seconds, output = processes.run(command, self.logs / f"{unit.name}.log", limit_seconds, environment, self.source)
        return judge(unit.name, code, seconds, output)


def judge(unit, code, seconds, output):
    """Sub-tests are the rows where there are any. A process that ended before it said anything about its test failed it."""
    found = {name: (word, float(took)) for word, name, took in RESULT.findall(output)}
    leaves = [name for name in found if name != unit] or list(found)
    said = re.search(r"^ +\w+_test\.go:\d+: (?!FAILED TESTING)(.*)", output, re.M)
    panic = re.search(r"^panic: (.*)", output, re.M)
    why = said.group(1) if said else panic.group(1) if panic else "time is up" if code is None else f"exit code {code}"
    rows = [Row(name, OUTCOMES[found[name][0]], found[name][1], "" if found[name][0] == "PASS" else why) for name in leaves]
    if not rows or (code != 0 and all(row.outcome != FAIL for row in rows)):
        rows = [row for row in rows if row.name != unit] + [Row(unit, FAIL, seconds, why)]
    return rows
