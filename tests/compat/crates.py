"""The tests inside the crates rdkafka and rskafka.

Owns: getting and building them with the versions in their own Cargo.lock, the command line of one test. Does not own: what is
expected (expected.txt).
"""
import json
import pathlib
import re
import shutil
import subprocess

import processes
from matrix import FAIL, PASS, SKIP, Row, Unit

CRATES = {"rdkafka": "0.39.0", "rskafka": "0.6.0"}
# What in a Cargo.lock no longer compiles, and the version that does.
NEWER = {"rskafka": {"rsasl": "2.3.1"}}
# rskafka's tests return at once, and count as passed, when they miss something; those with Java miss a JVM inside the process.
NOT_RUN = re.compile(r"(skipped|skipping|skip) .*|^test test_produce\w*_java_\w+", re.I | re.M)
# Of the broker that the crate's own docker-compose.yaml starts.
SETTINGS = {"rdkafka": {"num.partitions": "3"}, "rskafka": {"auto.create.topics.enable": "false"}}
ENVIRONMENT = {
    "rdkafka": lambda bootstrap: {"KAFKA_HOST": bootstrap, "KAFKA_VERSION": "4.1.0"},
    "rskafka": lambda bootstrap: {"KAFKA_CONNECT": bootstrap, "TEST_INTEGRATION": "1", "TEST_BROKER_IMPL": "kafka"},
}


class Suite:
    def __init__(self, cache, crate):
        self.crate, self.version = crate, CRATES[crate]
        self.cache, self.home, self.logs = cache, cache / crate, cache / "logs" / crate
        self.binaries = {}

    def prepare(self):
        if not (self.home / "Cargo.toml").exists():
            shutil.copytree(crate_source(self.cache / "get", self.crate, self.version), self.home)
            (self.home / "rust-toolchain.toml").unlink(missing_ok=True)  # the one that is here does
            with open(self.home / "Cargo.toml", "a") as manifest:
                manifest.write("\n[workspace]\n")
            for name, version in NEWER.get(self.crate, {}).items():
                processes.build(["cargo", "update", "-p", name, "--precise", version], self.logs / "update.log", cwd=self.home)
        command = ["cargo", "test", "--locked", "--no-run", "--tests", "--message-format=json", "--target-dir", self.cache / "cargo"]
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home)
        if built.returncode != 0:
            raise RuntimeError(f"{self.crate} does not compile:\n{built.stderr[-3000:]}")
        for message in map(json.loads, built.stdout.splitlines()):
            if message.get("executable") and "test" in message["target"]["kind"]:
                self.binaries[message["target"]["name"]] = message["executable"]

    def units(self):
        for name, binary in sorted(self.binaries.items()):
            listed = subprocess.run([binary, "--list", "--format", "terse"], check=True, stdout=subprocess.PIPE, text=True).stdout
            for line in listed.splitlines():
                if line.endswith(": test"):
                    yield Unit(f"{name}::{line.removesuffix(': test')}", 120.0, tuple(SETTINGS[self.crate].items()))

    def run(self, unit, bootstrap, limit_seconds):
        binary, _, test = unit.name.partition("::")
        command = [self.binaries[binary], "--exact", test, "--nocapture", "--test-threads=1"]
        log = self.logs / f"{unit.name.replace(':', '_')}.log"
        code, seconds, output = processes.run(command, log, limit_seconds, ENVIRONMENT[self.crate](bootstrap), self.home)
        return [judge(unit.name, code, seconds, output)]


def judge(unit, code, seconds, output):
    if code == 0 and re.search(r"^test result: ok\. 1 passed; 0 failed; 0 ignored", output, re.M):
        skipped = NOT_RUN.search(output)
        return Row(unit, SKIP, seconds, skipped.group(0)) if skipped else Row(unit, PASS, seconds)
    if code == 0 and "1 ignored" in output:
        return Row(unit, SKIP, seconds, "ignored by the crate")
    panic = re.search(r"panicked at (.*)\n(.*)", output)
    return Row(unit, FAIL, seconds, " ".join(panic.groups()) if panic else "time is up" if code is None else f"exit code {code}")


def crate_source(work, crate, version):
    """Where cargo unpacked a crate."""
    (work / "src").mkdir(parents=True, exist_ok=True)
    (work / "src" / "lib.rs").touch()
    (work / "Cargo.toml").write_text('[package]\nname = "get"\nversion = "0.0.0"\nedition = "2021"\n\n[workspace]\n\n[dependencies]\n'
                                     f'{crate} = {{ version = "={version}", default-features = false }}\n')
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(work / "Cargo.toml")]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    return next(pathlib.Path(package["manifest_path"]).parent for package in packages if package["name"] == crate)
