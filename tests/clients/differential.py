"""The same raw requests to Esker and to a real Apache Kafka 4.3: what they answer must be the same, or be listed with its reason.

A scenario is a case that talks to both brokers at once:

    @scenario
    def topics_are_found_by_id(both):
        name = both.name("found")                        # the same on both, used by no other case
        made = both.call("CREATE_TOPICS", 7, {"topics": [{"name": name, "numPartitions": 1, "replicationFactor": 1}]})
        topic_id = made.at("topics", 0, "topicId")       # each broker's own value: a `Both`, good anywhere in a later body
        for version in (10, 12, 13):
            both.call("METADATA", version, {"topics": [{"topicId": topic_id, "name": None}]},
                      differs={"topics[*].errorCode": ("metadata-by-id", "UNKNOWN_TOPIC_ID", "NONE")} if version == 10 else {})

`call(api, version, body)` names the API as Kafka's `ApiMessageType` does. The body has the fields of Kafka's own JSON form (camelCase names of
the message definitions); fields left out have Kafka's defaults, fields which that version has not are left out, and a field that no version has
fails the case. Bytes and records are given as `bytes` (`wire.batch(…)` makes batches, `wire.Batch` lying ones). In answers error codes are
names, bytes are base64, records of Fetch lists of batches. `at(…)` follows keys and indexes; {"name": x} stands for the first element of a
list that has it; `map(function)` changes a `Both` on either side.

What came is a response, CLOSED (the connection) or SILENT (no answer within `wait` seconds, 10 unless told; with `keep=True` the connection
stays, as after a Produce that wants no answer). `connection="b"` is another
socket to either broker. `start(…)` is `call` without waiting, and `.answer()` of what it returns waits and compares: for JoinGroup and long
polls. `raw(api, version, bytes)` sends a body that no encoder would; it compares the bytes that come back. `until(predicate, …)` repeats a call
until each broker's answer satisfies the predicate, and compares the last ones: for what Kafka does a moment after it has answered.

Compared is everything but throttle times, addresses and cluster ids; ids in OPAQUE must stand for each other throughout a case; times
near now are alike; of messages it counts only that there is one where Kafka has one; the order of lists counts only in ORDERED and where elements have no
names. `only=` drops elements of other cases from lists with names, `ignore=[…]` drops paths that say nothing.

Paths are as in the failures: `topics[found].partitions[0].errorCode`, an element being called by its name without what `name()` added; `*` is
anything inside brackets or between dots; the path of a whole outcome is "". `differs={path: (reason, Kafka's value, Esker's value)}` lists a difference: the
reason is a key of `differences.REASONS`, `...` is any value, ABSENT a field or element that is not there. A difference that is not listed
fails the case, and so does a listed one that was not found. Failures gather until the case ends, so that one run shows all of them.

Owns: the bridge, the Kafka that all differential cases share, what is compared. Does not own: scenarios (`differential_*`), reasons (`differences`).
"""
import atexit
import base64
import functools
import inspect
import itertools
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid

from differences import REASONS
from harness import CACHE, ROOT, Failed, case, check
from real_kafka import JARS, Kafka

WAIT_SECONDS = 10
STEPS_SHOWN, LINES_SHOWN = 40, 8
DAY_MS = 86_400_000
READING = ("DESCRIBE_", "LIST_", "METADATA", "FIND_COORDINATOR", "OFFSET_FOR_LEADER_EPOCH", "OFFSET_FETCH")
SETTLED_SECONDS = 1.0  # Kafka's broker learns of what its controller has answered a moment later: what only reads is asked again
ESKERS_SETTINGS = {"esker.produce.order.wait": "100ms"}  # a batch ahead of its predecessor is to be refused soon
SETTINGS = {"group.max.size": 4, "group.min.session.timeout.ms": 1000}  # of both brokers: small enough to be met


class Word:
    """A value that is none of JSON's."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


CLOSED, SILENT, ABSENT, RESPONSE = Word("CLOSED"), Word("SILENT"), Word("ABSENT"), Word("a response")

SKIPPED = {"throttleTimeMs", "clusterId", "host", "port", "nodeEndpoints"}
OPAQUE = {"topicId": ("AAAAAAAAAAAAAAAAAAAAAA",), "producerId": (-1,), "memberId": ("",), "leader": ("",), "incarnationId": (),
          "leaderEpoch": (-1,), "partitionLeaderEpoch": (-1,)}
MESSAGES = {"errorMessage", "topicErrorMessage", "batchIndexErrorMessage", "reason"}
NAMES = ("resourceType", "resourceName", "name", "topicName", "topic", "groupId", "key", "user", "mechanism", "apiKey", "partitionIndex", "partition",
         "partitionId", "index", "nodeId", "brokerId", "entity", "entityType", "entityName", "transactionalId")
ORDERED = {"synonyms", "records", "replicaNodes", "isrNodes", "replicas"}


class Both:
    """Kafka's value and Esker's."""

    def __init__(self, kafka, esker):
        self.kafka, self.esker = kafka, esker

    def at(self, *path):
        return self.map(lambda value: functools.reduce(_step, path, value))

    def map(self, function):
        return Both(function(self.kafka), function(self.esker))

    def __repr__(self):
        return f"Both({self.kafka!r}, {self.esker!r})"


def _step(value, key):
    if isinstance(key, dict):
        return next(v for v in value if key.items() <= v.items())
    return value[key]


def resolve(body, side):
    """The body for one of the brokers, ready to be JSON."""
    if isinstance(body, Both):
        body = getattr(body, side)
    if isinstance(body, dict):
        return {key: resolve(value, side) for key, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [resolve(value, side) for value in body]
    if isinstance(body, bytes):
        return base64.b64encode(body).decode()
    return body


# --- the brokers --------------------------------------------------------------------------------------------------------------

class Bridge:
    """Bridge.java as a child: requests by number, answers as they come."""

    def __init__(self):
        self.process = subprocess.Popen(["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{JARS}/*", ROOT / "tests" / "clients" / "Bridge.java"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.numbers, self.waiting = itertools.count(), {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            self.waiting.pop(answer["id"]).put(answer)

    def ask(self, **line):
        number, slot = next(self.numbers), queue.Queue()
        self.waiting[number] = slot
        self.process.stdin.write(json.dumps({"id": number, **line}) + "\n")
        self.process.stdin.flush()
        return slot


@functools.cache
def kafka_and_bridge():
    """One of each for all differential cases of a run."""
    subprocess.run([sys.executable, ROOT / "tests" / "clients" / "setup", "--judge"], check=True)
    kafka = Kafka(CACHE / "work" / f"differential-kafka-{os.getpid()}", **{name.replace(".", "_"): value for name, value in SETTINGS.items()})
    for left in (CACHE / "work").glob("differential-kafka-*"):  # by a run that was killed
        if not pathlib.Path("/proc", left.name.rsplit("-", 1)[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    kafka.remove()
    bridge = Bridge()
    kafka.spawn()
    atexit.register(lambda: (kafka.kill(), bridge.process.kill(), kafka.remove()))
    return kafka.wait(), bridge


def scenario(function):
    """Registers a case that is called with a `Pair`."""
    @functools.wraps(function)
    def run(context):
        kafka, bridge = kafka_and_bridge()
        both = Pair(kafka.bootstrap, context.shared(**{name.replace(".", "_"): str(value) for name, value in (SETTINGS | ESKERS_SETTINGS).items()}).bootstrap, bridge)
        try:
            function(both)
        except Exception as error:
            if not both.failures:
                raise
            both.failures.append(f"and then: {error!r}")
        finally:
            both.close()
        context.note(f"{both.steps} steps" + (f", {both.listed} listed differences" if both.listed else ""))
        check(not both.failures, both.told())
    return case(run)


class Started:
    """A step under way."""

    def __init__(self, finish, slots):
        self.finish, self.slots = finish, slots

    def answer(self):
        return self.finish(self.slots)

    def answers(self):
        """How many of the brokers have answered."""
        return sum(not slot.empty() for slot in self.slots.values())


class Pair:
    """Both brokers, for one case."""

    def __init__(self, kafka, esker, bridge):
        self.to, self.bridge = {"kafka": kafka, "esker": esker}, bridge
        self.suffix = "-" + uuid.uuid4().hex[:6]
        self.connections = {"a"}
        self.steps, self.listed, self.failures, self.stands_for = 0, 0, [], {}
        self.saying = ""  # what the steps of now are about, for the failures

    def name(self, stem):
        return stem + self.suffix

    def call(self, api, version, body, **options):
        return self.start(api, version, body, **options).answer()

    def start(self, api, version, body, *, connection="a", wait=WAIT_SECONDS, keep=False, client="differential", differs=None, ignore=(),
              only=None):
        where = f"step {self.steps + 1}, line {_line()}: {self.saying} {api} {version} {_short(body)}"

        def ask():
            return {side: self._ask(side, connection, wait, api=api, version=version, client=client, keep=keep, request=resolve(body, side))
                    for side in self.to}
        again = ask if api.startswith(READING) else None
        return Started(lambda slots: self._finish(where, slots, differs or {}, ignore, only, again), ask())

    def raw(self, api, version, body, *, connection="a", wait=WAIT_SECONDS, client="differential", flexible=False, differs=None):
        where = f"step {self.steps + 1}, line {_line()}: raw {api} {version} {body[:40].hex()}"
        slots = {side: self._ask(side, connection, wait, api=api, version=version, client=client, flexible=flexible, body=resolve(body, side)) for side in self.to}
        return self._finish(where, slots, differs or {}, (), None)

    def until(self, predicate, api, version, body, *, seconds=20, **options):
        deadline = time.monotonic() + seconds
        plain = {key: value for key, value in options.items() if key in ("connection", "wait", "client")}
        for side in self.to:
            while True:
                found = _outcome(self._ask(side, plain.get("connection", "a"), plain.get("wait", WAIT_SECONDS), api=api, version=version,
                                           client=plain.get("client"), request=resolve(body, side)).get(timeout=WAIT_SECONDS + 5))
                if predicate(found):
                    break
                if time.monotonic() > deadline:
                    raise Failed(f"not within {seconds} s at {side}: {api} {version} {_short(body)}; last {_short(found)}")
                time.sleep(0.02)
        return self.call(api, version, body, **options)

    def disconnect(self, connection="a"):
        for side in self.to:
            self._ask(side, connection, 1, close=True).get(timeout=5)

    def close(self):
        for connection in self.connections:
            self.disconnect(connection)

    def told(self):
        return "\n".join(_first(self.failures, STEPS_SHOWN, "steps"))

    def _ask(self, side, connection, wait, **line):
        self.connections.add(connection)
        return self.bridge.ask(to=self.to[side], connection=connection + self.suffix, wait=wait, **line)

    def _finish(self, where, slots, differs, ignore, only, ask_again=None):
        self.steps += 1
        for reason, *_ in differs.values():
            check(reason in REASONS, f"{where}: no reason is called {reason!r}")
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            both, known = Both(*(_outcome(slots[side].get(timeout=120)) for side in ("kafka", "esker"))), dict(self.stands_for)
            wrong, listed = _judged(Comparison(self, ignore, only).outcomes(both), differs)
            if not wrong or ask_again is None or time.monotonic() > deadline:
                break
            self.stands_for = known
            time.sleep(0.05)
            slots = ask_again()
        self.listed += listed
        if wrong:
            self.failures.append("\n".join([where, *_first(wrong, LINES_SHOWN, "differences")]))
        return both


def _judged(found, differs):
    """(what is wrong, how many differences are listed)"""
    expected, met, wrong = [(_pattern(path), path, *rest) for path, rest in differs.items()], set(), []
    for path, kafka, esker in found:
        listed = next((e for e in expected if e[0].fullmatch(path) and _fits(e[3], kafka) and _fits(e[4], esker)), None)
        if listed:
            met.add(listed[1])
        else:
            wrong.append(f"    {_short(path)[1:-1] or 'outcome'}: Kafka {_short(kafka)}, Esker {_short(esker)}")
    listed = len(found) - len(wrong)
    wrong += [f"    {path or 'outcome'}: the difference listed as {reason!r} is not there" for path, (reason, *_) in differs.items() if path not in met]
    return wrong, listed


def _first(lines, count, what):
    return lines if len(lines) <= count else [*lines[:count], f"    and {len(lines) - count} more {what}"]


def _line():
    """Where the scenario is: the line of the case, and of what it calls outside this file."""
    outside = itertools.dropwhile(lambda frame: frame.filename == __file__, inspect.stack())
    return " < ".join(str(frame.lineno) for frame in itertools.takewhile(lambda frame: frame.filename != __file__, outside))


def _outcome(answer):
    if "failed" in answer:
        raise Failed(f"the bridge: {answer['failed']}")
    if "closed" in answer:
        return CLOSED
    return SILENT if "silent" in answer else answer.get("response", answer.get("bytes"))


def _short(value):
    text = re.sub(r"(\w)\1{20,}", r"\1…\1", repr(value))
    return text if len(text) < 200 else text[:200] + "…"


def _fits(expected, found):
    return expected is ... or expected == found


def _pattern(path):
    return re.compile(r"[^\]]*".join(re.escape(part) for part in path.split("*")))


# --- what is the same ---------------------------------------------------------------------------------------------------------

class Comparison:
    """Walks two answers at once; differences are (path, Kafka's, Esker's)."""

    def __init__(self, pair, ignore, only):
        self.pair, self.ignore, self.only = pair, [_pattern(path) for path in ignore], only
        self.found = []
        self.now = time.time() * 1000

    def outcomes(self, both):
        kinds = [value if isinstance(value, Word) else RESPONSE for value in (both.kafka, both.esker)]
        if kinds[0] is not kinds[1]:
            return [("", *kinds)]
        if kinds[0] is RESPONSE:
            self.walk("", "", both.kafka, both.esker)
        return self.found

    def walk(self, path, field, kafka, esker):
        if field in SKIPPED or any(pattern.fullmatch(path) for pattern in self.ignore):
            return
        if isinstance(kafka, dict) and isinstance(esker, dict):
            for key in sorted(kafka.keys() | esker.keys()):
                if key in MESSAGES and self.not_wanted(kafka, esker, key):
                    continue
                self.walk(f"{path}.{key}" if path else key, key, kafka.get(key, ABSENT), esker.get(key, ABSENT))
        elif isinstance(kafka, list) and isinstance(esker, list):
            self.lists(path, field, kafka, esker)
        elif not self.same(field, kafka, esker):
            self.found.append((path, self.plain(kafka), self.plain(esker)))

    @staticmethod
    def not_wanted(kafka, esker, message):
        """Where the errors differ, messages do, too; and an error may be explained that Kafka does not explain."""
        codes = [key for key in kafka if key.endswith("rrorCode")]
        return any(kafka[key] != esker.get(key) for key in codes) or (not kafka[message] and any(kafka[key] != "NONE" for key in codes))

    def lists(self, path, field, kafka, esker):
        named_kafka, named_esker = self.named(field, kafka), self.named(field, esker)
        for name in [*named_kafka, *(n for n in named_esker if n not in named_kafka)]:
            self.walk(f"{path}[{self.plain(name)}]", "", named_kafka.get(name, ABSENT), named_esker.get(name, ABSENT))

    def named(self, field, values):
        """The elements by what they are called, else by where they are."""
        out = {}
        if field not in ORDERED and all(isinstance(value, str) for value in values):
            values = sorted(values)
        for position, value in enumerate(values):
            name = self.called(value) if field not in ORDERED and isinstance(value, dict) else None
            if name is None and isinstance(value, dict) and "topicId" in value:  # Esker's is called as the one that it stands for
                name = self.pair.stands_for.get(("topicId", "esker", value["topicId"]), value["topicId"])
            if name is not None and self.only is not None and not name.startswith(self.only):
                continue
            name = str(position) if name is None else name
            while name in out:
                name += "'"
            out[name] = value
        return out

    @staticmethod
    def called(value):
        parts = [value[key] for key in NAMES if value.get(key) is not None]
        parts = [sorted(part, key=str) if isinstance(part, list) else part for part in parts]  # an entity has no order
        if "memberId" in value:  # they begin with the client id or the instance id, and go on at random
            parts.append(re.sub(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "", value["memberId"]))
        return " ".join(part or "''" if isinstance(part, str) else json.dumps(part) for part in parts) or None

    def same(self, field, kafka, esker):
        if kafka is ABSENT or esker is ABSENT:
            return False
        if field == "abortedTransactions":
            return not kafka and not esker  # null and an empty list are both none
        if field in MESSAGES:
            return bool(kafka) == bool(esker)
        if field in OPAQUE and kafka not in OPAQUE[field] and esker not in OPAQUE[field] and kafka is not None and esker is not None:
            known, field = self.pair.stands_for, "memberId" if field == "leader" else field
            return known.setdefault((field, "kafka", kafka), esker) == esker and known.setdefault((field, "esker", esker), kafka) == kafka
        if isinstance(kafka, int) and isinstance(esker, int) and abs(kafka - self.now) < DAY_MS and abs(esker - self.now) < DAY_MS:
            return True
        return type(kafka) is type(esker) and kafka == esker

    def plain(self, value):
        return value.replace(self.pair.suffix, "") if isinstance(value, str) else value
