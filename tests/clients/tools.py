"""Kafka's own tools give on Esker what they give on Kafka: the same command lines run against both, exit codes and outputs compared.

Owns: the command lines, what is taken out of an output because it must differ, which differences are meant.
Does not own: starting Kafka (`real_kafka`), running the tools (`Tools.java`).

A script is a text with one command line each. `name* …` compares the lines without their order, `… <<< text` gives it on stdin, DIR is a
directory of the broker's own. A difference is a line of the output that only Kafka has (-) or only Esker (+). Those that are meant are listed
below a script with their reason; one that is not listed is a failure, and so is one that is listed and not found.
"""
import concurrent.futures
import difflib
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import stock
from harness import CACHE, ROOT, Failed, case, check, wait_until
from real_kafka import JARS, Kafka

TOOLS = {name: "org.apache.kafka.tools." + main for name, main in {
    "topics": "TopicCommand", "groups": "consumer.group.ConsumerGroupCommand", "get-offsets": "GetOffsetShell", "delete-records": "DeleteRecordsCommand",
    "log-dirs": "LogDirsCommand", "api-versions": "BrokerApiVersionsCommand", "features": "FeatureCommand", "elect": "LeaderElectionCommand",
    "reassign": "reassign.ReassignPartitionsCommand", "quorum": "MetadataQuorumCommand", "transactions": "TransactionsCommand",
    "all-groups": "GroupsCommand", "client-metrics": "ClientMetricsCommand", "verifiable-producer": "VerifiableProducer",
    "verifiable-consumer": "VerifiableConsumer", "compatibility": "ClientCompatibilityTest", "produce": "ConsoleProducer",
    "consume": "consumer.ConsoleConsumer"}.items()} | {"configs": "kafka.admin.ConfigCommand"}

# What differs between any two clusters, and what stands in its place.
NORMAL = [(re.compile(pattern, re.M), word) for pattern, word in [
    (r"^\s+(at .*|\.\.\. \d+ (more|common frames omitted))(\n|\Z)", ""),
    (r"[ \t]+", " "),
    (r" $", ""),
    (r"127\.0\.0\.1:\d+", "HOST:PORT"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\b1[6-9]\d{11}\b|20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d", "TIME"),
    (r"(?<=TopicId: )\S{22}|(?<=ClusterId: )\S{22}$", "ID"),
    (r"(?<=HighWatermark: )\d+|(?<= A{22} )\d+|\d+(?= ms ago)", "N"),
    (r'(?<="size": )[1-9]\d*|(?<="avg_throughput": )[\d.]+', "N"),
]]
# And what follows from the number of brokers.
WHERE = [(re.compile(pattern, re.M), word) for pattern, word in [
    (r"Leader: \d+ Replicas: \S+ Isr: \S+|ReplicationFactor: \d+|(?<=HOST:PORT )\(\d+\)|\(id: \d+ rack: \w+", "SOMEWHERE"),
    (r"(?<=from brokers )[\d,]+|(?<=existent brokers: )[\d,]+|(?<=^ broker.rack=).*", "N"),
    (r"(?<=Local controller )\d+|^\d+(?= A{22} )|(?<=LeaderId: )\d+", "N"),
    (r"^Dynamic configs for broker [23] are:(\n|\Z)", ""),
]]
ASK_AGAIN_SECONDS = 2


class Side:
    """One of the two brokers, and a JVM that runs tools against it."""

    def __init__(self, broker, directory, clustered, log_dir, **words):
        self.bootstrap, self.directory, self.clustered = broker.bootstrap, pathlib.Path(directory), clustered
        self.log_dir, self.words = str(log_dir), words  # what stands for a name in braces
        self.directory.mkdir(parents=True)
        self.jvm = subprocess.Popen(
            ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
             "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp", f"{JARS}/*", ROOT / "tests" / "clients" / "Tools.java"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.directory / "jvm.log", "w"), text=True, cwd=self.directory)

    def run(self, line):
        """What a command line does: exit code, stdout and stderr, without what must differ."""
        line, _, stdin = line.replace("DIR", str(self.directory)).format(**self.words).partition(" <<< ")
        name, *args = shlex.split(line)
        main = TOOLS[name.rstrip("*")]
        request = {"main": main, "args": ["--bootstrap-server", self.bootstrap, *args], "stdin": stdin.replace("\\n", "\n")}
        self.jvm.stdin.write(json.dumps(request) + "\n")
        self.jvm.stdin.flush()
        answer = self.jvm.stdout.readline()
        if not answer:
            raise Failed(f"the JVM ended in {line}")
        told = json.loads(answer)
        check(told["exit"] is not None, f"no end of {line} against {self.bootstrap}")
        out, err = self.normal(told["out"]), self.normal(told["err"])
        if name.endswith("*"):
            out = [re.sub(r"(?<= are ).*", lambda found: ", ".join(sorted(found[0].split(", "))), line) for line in out]
            out = sorted(set(out) if self.clustered else out)  # of three brokers that say the same, one
        return [f"exit {told['exit']}", *out, *(f"stderr: {line}" for line in err)]

    def normal(self, text):
        text = text.replace(str(self.directory), "DIR").replace(self.bootstrap, "HOST:PORT").replace(f'"{self.log_dir}"', '"LOG_DIR"')
        text = "\n".join(self.normal_json(line) if line.startswith('{"') else line for line in text.splitlines())
        for pattern, word in NORMAL + WHERE * self.clustered:
            text = pattern.sub(word, text)
        return text.splitlines()

    def normal_json(self, line):
        told = json.loads(line)
        if self.clustered and "brokers" in told:
            told = [partition for broker in told["brokers"] for directory in broker["logDirs"] for partition in directory["partitions"]]
            told.sort(key=lambda partition: partition["partition"])
        return json.dumps(told, sort_keys=True)

    def close(self):
        self.jvm.kill()
        self.jvm.wait()


class Both:
    """Kafka and Esker side by side, for all cases of the module."""

    def __init__(self, context):
        subprocess.run([sys.executable, ROOT / "tests" / "clients" / "setup", "--judge"], check=True)
        work = CACHE / "work" / "tools-kafka"
        shutil.rmtree(work, ignore_errors=True)
        self.kafka = Kafka(work / "broker")
        self.kafka.spawn()
        esker = context.shared()
        self.kafka.wait()
        nodes = len(esker.bootstrap.split(","))
        self.sides = [Side(self.kafka, work / "with-kafka", nodes > 1, self.kafka.directory / "data", longest="x" * 249, acls=True, nodes=1),
                      Side(esker, work / "with-esker", nodes > 1, "bucket" if nodes == 1 else "s3://esker", longest="x" * 249, acls=False, nodes=nodes)]
        self.pool = concurrent.futures.ThreadPoolExecutor(2)
        # A new Kafka counts replicas that could lead (KIP-966), and sets min.insync.replicas of the whole cluster for it.
        for line in ("features downgrade --feature eligible.leader.replicas.version=0",
                     "configs --alter --entity-type brokers --entity-default --delete-config min.insync.replicas"):
            self.sides[0].run(line)

    def each(self, function):
        """What a function of a side gives for Kafka and for Esker."""
        return list(self.pool.map(function, self.sides))

    def differences(self, line, are_meant):
        """Runs a command line on both; what only Kafka prints has a minus, what only Esker prints a plus. Kafka's brokers learn of a change
        after its answer: Kafka is asked again what only reads, or what it refused, as long as there are differences that are not meant."""
        expected, told = self.each(lambda side: side.run(line))
        reads, deadline = re.search(r"(--| )(describe|list)( |$)", line), time.monotonic() + ASK_AGAIN_SECONDS
        while True:
            found = [difference for difference in difflib.ndiff(expected, told) if difference[0] in "-+"]
            unmeant = [difference for difference in found if not are_meant(difference)]
            if not unmeant or not (reads or expected[0] != "exit 0") or time.monotonic() > deadline:
                return found, unmeant
            expected = self.sides[0].run(line)

    def close(self):
        for side in self.sides:
            side.close()
        self.kafka.kill()
        self.kafka.remove()


def both(context):
    return context.kept("both", lambda: Both(context))


def same(context, script, *meant):
    """Runs a script against both. meant: (pattern of command lines, pattern of their differences, reason)."""
    problems, shown, missing, pair = [], set(), list(meant), both(context)
    lines = [line.strip() for line in script.strip().splitlines()]
    for line in lines:
        listed = [entry for entry in meant if re.fullmatch(entry[0], line)]
        found, unmeant = pair.differences(line, lambda difference: any(re.fullmatch(pattern, difference) for _, pattern, _ in listed))
        missing = [entry for entry in missing if entry not in listed or not any(re.fullmatch(entry[1], difference) for difference in found)]
        if set(unmeant) - shown:
            problems.append("\n".join([f"$ {line}", *(f"    {difference}" for difference in unmeant)]))
            shown |= set(unmeant)
    problems += [f"{reason}: listed, and no difference any more: {pattern} of {command}" for command, pattern, reason in missing]
    context.note(f"{len(lines)} commands")
    check(not problems, "\n".join(problems))


@case
def topics(context):
    """kafka-topics."""
    same(context, r"""
        topics --list
        topics --create --topic first
        topics --create --topic two.parts --partitions 2 --replication-factor 1
        topics --create --topic two_parts
        topics --create --topic first
        topics --create --topic first --if-not-exists
        topics --create --topic configured --partitions 3 --config retention.ms=60000 --config cleanup.policy=compact --config compression.type=zstd
        topics --create --topic assigned --replica-assignment 1,1,1
        topics --create --topic elsewhere --replica-assignment 1,2
        topics --delete --topic elsewhere --if-exists
        topics --create --topic twice --replica-assignment 1:1
        topics --create --topic replicated --replication-factor 3
        topics --delete --topic replicated --if-exists
        topics --create --topic replicated --replication-factor 0
        topics --create --topic none --partitions 0
        topics --create --topic negative --partitions -3
        topics --create --topic wrong --config no.such.config=1
        topics --create --topic wrong --config retention.ms=soon
        topics --create --topic wrong --config cleanup.policy=burn
        topics --create --topic wrong --config segment.bytes=14
        topics --create --topic wrong --config min.insync.replicas=0
        topics --create --topic a/b
        topics --create --topic ..
        topics --create --topic {longest}
        topics --create --topic {longest}y
        topics --list
        topics --list --topic first
        topics --list --topic "t.*"
        topics --list --exclude-internal
        topics* --describe
        topics --describe --topic configured
        topics --describe --topic "two.*"
        topics --describe --topic nowhere
        topics --describe --topic nowhere --if-exists
        topics* --describe --topics-with-overrides
        topics* --describe --under-replicated-partitions
        topics* --describe --unavailable-partitions
        topics* --describe --under-min-isr-partitions
        topics* --describe --exclude-internal --partition-size-limit-per-response 1
        topics --alter --topic first --partitions 3
        topics --alter --topic first --partitions 2
        topics --alter --topic first --partitions 3
        topics --alter --topic first --partitions 5 --replica-assignment 1,1,1,1,1
        topics --create --topic grown
        topics --alter --topic grown --partitions 2 --replica-assignment 1:7
        topics --alter --topic grown --partitions 2 --replica-assignment 1,7
        topics --delete --topic grown
        topics --alter --topic first --partitions 7 --replica-assignment 1,1,1,1,1,1
        topics --alter --topic nowhere --partitions 3
        topics --alter --topic nowhere --partitions 3 --if-exists
        topics --alter --topic "two.*" --partitions 4
        topics* --describe
        topics --delete --topic nowhere
        topics --delete --topic nowhere --if-exists
        topics --delete --topic assigned
        topics --delete --topic "two.*"
        topics --describe --topic assigned
        topics --list
        topics --create --topic __cluster_metadata
        topics --create --topic __consumer_offsets --partitions 2
        topics --list
        topics --list --exclude-internal
        topics* --describe --exclude-internal
        topics --describe --topic __consumer_offsets
        topics --alter --topic __consumer_offsets --partitions 3
        topics --delete --topic __consumer_offsets
        topics --list
    """,
         (r"topics --create .* (--replica-assignment 1,2|--replication-factor 3)|topics --alter --topic grown .* 1,7",
          r"[-+] exit .|\+ Created topic .*|- Error while .*(no such broker is registered\.|Unable to replicate the partition 3 .*)",
          "replicas are the bucket's: any factor and any brokers will do"))


@case
def configs_of_topics(context):
    """kafka-configs on topics."""
    same(context, r"""
        topics --create --topic tuned --config retention.ms=60000 --config max.message.bytes=2000
        topics --create --topic plain
        configs --describe --entity-type topics --entity-name tuned
        configs --describe --entity-type topics --entity-name tuned --all
        configs --describe --entity-type topics --entity-name plain
        configs --describe --entity-type topics --entity-name plain --all
        configs* --describe --entity-type topics
        configs* --describe --entity-type topics --all
        configs --describe --entity-type topics --entity-name nowhere
        configs --describe --topic tuned
        configs --alter --entity-type topics --entity-name tuned --add-config retention.ms=12345,cleanup.policy=[compact,delete]
        configs --describe --entity-type topics --entity-name tuned
        configs --alter --entity-type topics --entity-name tuned --delete-config cleanup.policy --add-config compression.type=lz4
        configs --describe --entity-type topics --entity-name tuned
        configs --alter --entity-type topics --entity-name tuned --delete-config cleanup.policy
        configs --alter --entity-type topics --entity-name tuned --delete-config no.such.config
        configs --alter --entity-type topics --entity-name tuned --add-config no.such.config=1
        configs --alter --entity-type topics --entity-name tuned --add-config retention.ms=soon
        configs --alter --entity-type topics --entity-name tuned --add-config retention.ms=-2
        configs --alter --entity-type topics --entity-name tuned --add-config cleanup.policy=burn
        configs --alter --entity-type topics --entity-name tuned --add-config cleanup.policy=[delete,burn]
        configs --alter --entity-type topics --entity-name tuned --add-config cleanup.policy=
        configs --alter --entity-type topics --entity-name tuned --add-config cleanup.policy=[delete,delete]
        configs --alter --entity-type topics --entity-name tuned --add-config compression.type=rar
        configs --alter --entity-type topics --entity-name tuned --add-config compression.gzip.level=10
        configs --alter --entity-type topics --entity-name tuned --add-config compression.zstd.level=23
        configs --alter --entity-type topics --entity-name tuned --add-config segment.bytes=14
        configs --alter --entity-type topics --entity-name tuned --add-config max.message.bytes=-1
        configs --alter --entity-type topics --entity-name tuned --add-config max.message.bytes=99999999999
        configs --alter --entity-type topics --entity-name tuned --add-config min.cleanable.dirty.ratio=1.5
        configs --alter --entity-type topics --entity-name tuned --add-config min.insync.replicas=0
        configs --alter --entity-type topics --entity-name tuned --add-config message.timestamp.type=Never
        configs --alter --entity-type topics --entity-name tuned --add-config preallocate=maybe
        configs --alter --entity-type topics --entity-name tuned --add-config unclean.leader.election.enable=TRUE
        configs --alter --entity-type topics --entity-name tuned --add-config min.compaction.lag.ms=10,max.compaction.lag.ms=5
        configs --alter --entity-type topics --entity-name tuned --add-config remote.storage.enable=true
        configs --alter --entity-type topics --entity-name tuned --add-config local.retention.ms=999999999999
        configs --alter --entity-type topics --entity-name tuned --add-config segment.index.bytes=x
        configs --alter --entity-type topics --entity-name tuned --add-config min.cleanable.dirty.ratio=x
        configs --alter --entity-type topics --entity-name tuned --add-config min.cleanable.dirty.ratio=1
        configs --alter --entity-type topics --entity-name tuned --add-config cleanup.policy=[delete,]
        configs --alter --entity-type topics --entity-name tuned --add-config follower.replication.throttled.replicas=nobody
        configs --alter --entity-type topics --entity-name tuned --add-config leader.replication.throttled.replicas=*
        configs --alter --entity-type topics --entity-name tuned --add-config follower.replication.throttled.replicas=[0:1,1:1]
        configs --alter --entity-type topics --entity-name nowhere --add-config retention.ms=1
        configs --alter --entity-type topics --entity-name tuned --add-config retention.bytes=1000,segment.ms=7200000,flush.messages=5
        configs --describe --entity-type topics --entity-name tuned --all
        topics* --describe --topics-with-overrides
    """)


@case
def configs_of_brokers(context):
    """kafka-configs on brokers."""
    same(context, r"""
        configs --describe --entity-type brokers --entity-name 1
        configs --describe --entity-type brokers --entity-default
        configs --describe --entity-type brokers
        configs --describe --entity-type brokers --entity-name 1 --all
        configs --describe --entity-type brokers --entity-default --all
        configs --describe --broker 1
        configs --describe --entity-type brokers --entity-name one
        configs --alter --entity-type brokers --entity-name 1 --add-config leader.replication.throttled.rate=1000
        configs --describe --entity-type brokers --entity-name 1
        configs --describe --entity-type brokers --entity-name 1 --all
        configs --alter --entity-type brokers --entity-name 1 --delete-config leader.replication.throttled.rate
        configs --alter --entity-type brokers --entity-name 1 --add-config num.io.threads=9
        configs --describe --entity-type brokers --entity-name 1
        configs --alter --entity-type brokers --entity-default --add-config num.io.threads=10,log.cleaner.threads=2
        configs --describe --entity-type brokers --entity-default
        configs --describe --entity-type brokers --entity-name 1
        configs --describe --entity-type brokers
        configs --alter --entity-type brokers --entity-name 1 --delete-config num.io.threads
        configs --describe --entity-type brokers --entity-name 1
        configs --alter --entity-type brokers --entity-default --delete-config num.io.threads,log.cleaner.threads
        configs --describe --entity-type brokers --entity-default
        configs --alter --entity-type brokers --entity-name 1 --delete-config num.io.threads
        configs --alter --entity-type brokers --entity-name 1 --add-config node.id=4
        configs --alter --entity-type brokers --entity-name 1 --add-config num.io.threads=many
        configs --alter --entity-type brokers --entity-name 1 --add-config num.io.threads=0
        configs --alter --entity-type brokers --entity-default --add-config num.io.threads=0
        configs --alter --entity-type brokers --entity-default --add-config node.id=3
        configs --alter --entity-type brokers --entity-name 1 --add-config log.cleaner.min.cleanable.ratio=2
        configs --alter --entity-type brokers --entity-name 1 --add-config log.preallocate=x
        configs --alter --entity-type brokers --entity-name 1 --add-config no.such.config=1
        configs --describe --entity-type brokers --entity-name 1
        configs --alter --entity-type brokers --entity-name 1 --add-config advertised.listeners=PLAINTEXT://elsewhere:1
        configs --alter --entity-type brokers --entity-name 1 --add-config background.threads=20,log.retention.ms=3600000
        configs --alter --entity-type brokers --entity-default --add-config message.max.bytes=1000000
        configs --alter --entity-type brokers --entity-default --add-config max.connections=7000
        configs --describe --entity-type brokers --entity-default
        configs --alter --entity-type brokers --entity-default --delete-config max.connections
        configs --alter --entity-type brokers --entity-default --add-config log.retention.ms=7200000
        configs --describe --entity-type brokers --entity-name 1
        configs --alter --entity-type brokers --entity-name 1 --delete-config background.threads,log.retention.ms
        configs --alter --entity-type brokers --entity-default --delete-config message.max.bytes,log.retention.ms
        configs --alter --entity-type brokers --entity-name 1 --delete-config no.such.config
        configs --describe --entity-type brokers
        configs --describe --entity-type broker-loggers --entity-name 1
        configs --alter --entity-type broker-loggers --entity-name 1 --add-config kafka.server=DEBUG
    """,
         (r".* --all", r"\+  esker\..*", "Esker's own settings"),
         (r".* --all", r"[-+]  (controller\..*|listeners|listener\.security\.protocol\.map|process\.roles)=.*", "there is no controller"),
         (r".* --all", r"[-+]  log\.dirs=.*", "the bucket is the one directory"),
         (r".* --all", r"[-+]  max\.connections(\.per\.ip)?=.*", "connections are limited unless somebody says otherwise"),
         (r".* --all", r"[-+]  (offsets\.topic|share\.coordinator\.state\.topic|transaction\.state\.log)\.(replication\.factor|min\.isr)=.*",
          "said to Kafka, so that one node is enough"),
         (r".* --alter .*no\.such\.config=1", r"[-+] exit .|- Completed .*|\+ stderr: (Error while .*|.*Unknown config name: no\.such\.config)",
          "a name that nobody knows is refused"),
         (r".* --describe .*", r"-  no\.such\.config=null .*", "it was refused"),
         (r".* --alter .*max\.connections=.*", r"[-+] exit .|- Completed .*|\+ stderr: (Error while .*|.* takes effect at the next start only: .*)",
          "what does something in Esker is chosen at start"),
         (r".* --describe .*", r"-  max\.connections=.*", "it was refused"),
         (r".* broker-loggers .*", r"-  (root|org\.apache\.kafka\.server\.logger\.LoggingController)=.*", "log levels are chosen at start"))


@case
def quotas_credentials_and_subscriptions(context):
    """kafka-configs on users, clients, addresses, client metrics and groups; kafka-client-metrics."""
    same(context, r"""
        configs --describe --entity-type users
        configs --describe --entity-type users --entity-name alice
        configs --alter --entity-type users --entity-name alice --add-config producer_byte_rate=1024,request_percentage=50.5
        configs --alter --entity-type users --entity-default --add-config consumer_byte_rate=2048
        configs --alter --entity-type clients --entity-name app --add-config controller_mutation_rate=10,consumer_byte_rate=5e6
        configs --alter --entity-type clients --entity-default --add-config producer_byte_rate=77
        configs --alter --entity-type users --entity-name alice --entity-type clients --entity-name app --add-config producer_byte_rate=1
        configs --alter --entity-type users --entity-name alice --entity-type clients --entity-default --add-config producer_byte_rate=2
        configs --alter --entity-type users --entity-default --entity-type clients --entity-default --add-config producer_byte_rate=3
        configs --alter --entity-type ips --entity-name 127.0.0.9 --add-config connection_creation_rate=100
        configs --alter --entity-type ips --entity-default --add-config connection_creation_rate=200
        configs* --describe --entity-type users
        configs* --describe --entity-type users --entity-name alice
        configs* --describe --entity-type users --entity-default
        configs* --describe --entity-type clients
        configs* --describe --entity-type clients --entity-name app
        configs* --describe --entity-type clients --entity-default
        configs* --describe --entity-type users --entity-type clients
        configs* --describe --entity-type users --entity-name alice --entity-type clients
        configs* --describe --entity-type users --entity-name alice --entity-type clients --entity-name app
        configs* --describe --entity-type ips
        configs* --describe --entity-type ips --entity-name 127.0.0.9
        configs* --describe --entity-type ips --entity-default
        configs* --describe --user alice
        configs* --describe --client app
        configs* --describe --ip 127.0.0.9
        configs* --describe --user-defaults
        configs --alter --entity-type users --entity-name alice --add-config no_such_rate=1
        configs --alter --entity-type users --entity-name alice --add-config producer_byte_rate=fast
        configs --alter --entity-type users --entity-name alice --add-config producer_byte_rate=-1
        configs --alter --entity-type users --entity-name alice --add-config producer_byte_rate=1.5
        configs --alter --entity-type users --entity-name alice --delete-config consumer_byte_rate
        configs --alter --entity-type users --entity-name alice --delete-config no_such_rate
        configs --alter --entity-type ips --entity-name localhost --add-config connection_creation_rate=300
        configs* --describe --entity-type ips
        configs --alter --entity-type ips --entity-name localhost --delete-config connection_creation_rate
        configs --alter --entity-type ips --entity-name not.an.address.at.all --add-config connection_creation_rate=1
        configs --alter --entity-type ips --entity-name 127.0.0.9 --add-config producer_byte_rate=1
        configs --alter --entity-type ips --entity-name 127.0.0.9 --add-config connection_creation_rate=0.5
        configs --alter --entity-type users --entity-name alice --delete-config producer_byte_rate,request_percentage
        configs --alter --entity-type users --entity-default --delete-config consumer_byte_rate
        configs --alter --entity-type clients --entity-name app --delete-config controller_mutation_rate,consumer_byte_rate
        configs --alter --entity-type clients --entity-default --delete-config producer_byte_rate
        configs --alter --entity-type users --entity-name alice --entity-type clients --entity-name app --delete-config producer_byte_rate
        configs --alter --entity-type users --entity-name alice --entity-type clients --entity-default --delete-config producer_byte_rate
        configs --alter --entity-type users --entity-default --entity-type clients --entity-default --delete-config producer_byte_rate
        configs --alter --entity-type ips --entity-name 127.0.0.9 --delete-config connection_creation_rate
        configs --alter --entity-type ips --entity-default --delete-config connection_creation_rate
        configs --describe --entity-type users --entity-type clients
        configs --describe --entity-type ips
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[iterations=4096,password=secret],SCRAM-SHA-512=[password=secret]
        configs --alter --entity-type users --entity-name alice --delete-config SCRAM-SHA-256,SCRAM-SHA-512
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[iterations=4096,password=secret]
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-512=[password=secret]
        configs* --describe --entity-type users --entity-name alice
        configs* --describe --entity-type users
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[iterations=1,password=secret]
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[iterations=40960,password=secret]
        configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-1=[password=secret]
        configs --alter --entity-type users --entity-default --add-config SCRAM-SHA-256=[password=secret]
        configs --alter --entity-type users --entity-name bob --delete-config SCRAM-SHA-256
        configs --alter --entity-type users --entity-name alice --delete-config SCRAM-SHA-256,SCRAM-SHA-512
        configs* --describe --entity-type users --entity-name alice
        configs --describe --entity-type client-metrics
        configs --alter --entity-type client-metrics --entity-name sub --add-config interval.ms=1000,metrics=[org.apache.kafka.producer.,org.apache.kafka.consumer.]
        configs --alter --entity-type client-metrics --entity-name sub --add-config match=[client_id=app.*]
        configs --describe --entity-type client-metrics --entity-name sub
        configs --describe --entity-type client-metrics
        configs --describe --entity-type client-metrics --entity-name missing
        configs --describe --entity-type client-metrics --entity-name sub --all
        configs --alter --entity-type client-metrics --entity-name sub --add-config interval.ms=1
        configs --alter --entity-type client-metrics --entity-name sub --add-config no.such=1
        configs --alter --entity-type client-metrics --entity-name sub --add-config match=[no_such_thing=x]
        configs --alter --entity-type client-metrics --entity-name sub --add-config match=[client_id=(]
        configs --alter --entity-type client-metrics --entity-name sub --add-config match=[client_id=app.*]
        client-metrics --list
        client-metrics* --describe
        client-metrics --describe --name sub
        client-metrics --alter --name other --interval 5000 --metrics a.b --match client_id=x
        client-metrics* --describe
        client-metrics --delete --name other
        client-metrics --delete --name missing
        client-metrics --list
        configs --alter --entity-type client-metrics --entity-name sub --delete-config interval.ms,metrics,match
        configs --describe --entity-type client-metrics
        configs --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=50000
        configs --describe --entity-type groups --entity-name g
        configs --describe --entity-type groups --entity-name g --all
        configs --describe --entity-type groups
        configs --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=1
        configs --alter --entity-type groups --entity-name g --add-config consumer.heartbeat.interval.ms=60000
        configs --alter --entity-type groups --entity-name g --add-config share.auto.offset.reset=sometimes
        configs --alter --entity-type groups --entity-name g --add-config share.isolation.level=x
        configs --alter --entity-type groups --entity-name g --add-config share.renew.acknowledge.enable=x
        configs --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=x
        configs --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=-1
        configs --alter --entity-type groups --entity-name g --add-config streams.num.standby.replicas=99
        configs --alter --entity-type groups --entity-name g --add-config share.partition.max.record.locks=1
        configs --alter --entity-type groups --entity-name g --add-config share.heartbeat.interval.ms=99
        configs --alter --entity-type groups --entity-name g --add-config no.such=1
        configs --alter --entity-type groups --entity-name g --delete-config consumer.session.timeout.ms
        configs --describe --entity-type groups
    """,
         (r".*match=\[client_id=\(\]", r"[-+] exit .|\+ Completed .*|- stderr: (Error while .*|.*Illegal client matching pattern: client_id=\()",
          "patterns are not compiled as long as nothing uses them"))


@case
def records(context):
    """kafka-console-producer, -consumer, kafka-get-offsets, kafka-delete-records, kafka-log-dirs."""
    def write_files(side):
        at = lambda *offsets: json.dumps({"version": 1, "partitions": [{"topic": t, "partition": p, "offset": o} for t, p, o in offsets]})
        (side.directory / "delete.json").write_text(at(("log", 0, 1), ("log", 1, 1)))
        (side.directory / "delete-badly.json").write_text(at(("log", 0, 99), ("empty", 0, 1), ("compacted", 0, 0), ("kept", 0, 0)))
        (side.directory / "delete-end.json").write_text(at(("log", 0, -1)))
    both(context).each(write_files)
    same(context, r"""
        topics --create --topic log --partitions 2
        topics --create --topic empty
        topics --create --topic compacted --config cleanup.policy=compact
        topics --create --topic kept
        configs --alter --entity-type topics --entity-name kept --add-config cleanup.policy=
        produce --topic log --reader-property parse.key=true --reader-property key.separator=: <<< a:1\nb:2\nc:3\nd:4\ne:5\nf:6\n
        produce --topic compacted <<< no key\n
        consume* --topic log --group reading --from-beginning --max-messages 6 --formatter-property print.key=true --formatter-property print.partition=true --formatter-property print.offset=true --formatter-property print.headers=true
        consume --topic log --partition 0 --offset 1 --max-messages 1
        consume --topic log --partition 7 --offset 1 --max-messages 1 --timeout-ms 3000
        consume --topic empty --group reading --from-beginning --timeout-ms 500
        get-offsets --topic log
        get-offsets --exclude-internal-topics
        get-offsets --topic log --time -1
        get-offsets --topic log --time latest
        get-offsets --topic log --time earliest
        get-offsets --topic log --time -2
        get-offsets --topic timed --time max-timestamp
        get-offsets --topic timed --time -3
        get-offsets --topic timed --time 1700000002000
        get-offsets --topic timed --time 1700000003001
        get-offsets --topic empty --time max-timestamp
        get-offsets --topic log --time earliest-local
        get-offsets --topic log --time latest-tiered
        get-offsets --topic log --time earliest-pending-upload
        get-offsets --topic log --time 0
        get-offsets --topic log --time 99999999999999
        get-offsets --topic log --time -9
        get-offsets --topic log --time when
        get-offsets --topic log --partitions 1
        get-offsets --topic log --partitions 1,9
        get-offsets --topic nowhere
        get-offsets --topic-partitions log:1,empty
        get-offsets --topic-partitions log:0-1,log:1-
        produce --topic log --sync --reader-property parse.key=true --reader-property key.separator=: <<< a:7\n
        delete-records* --offset-json-file DIR/delete.json
        get-offsets --topic log --time earliest
        delete-records* --offset-json-file DIR/delete-badly.json
        delete-records* --offset-json-file DIR/delete-end.json
        get-offsets --topic log --time earliest
        log-dirs --describe --topic-list empty
        log-dirs --describe --topic-list nowhere
        log-dirs --describe --topic-list timed --broker-list 1
        log-dirs --describe --topic-list timed --broker-list 1,8
    """)


@case
def groups_without_members(context):
    """kafka-consumer-groups on groups that are empty."""
    def fill(side):
        for topic, partitions in (("orders", 2), ("bills", 1)):
            stock.create_topic(side.bootstrap, topic, partitions, retention_ms=-1)
            records = [{"value": b"%d" % n, "partition": n % partitions, "timestamp": 1_700_000_000_000 + n * 1000} for n in range(10)]
            stock.send(stock.producer(side.bootstrap), topic, records)
        for group, commits in (("g1", [("orders", 0, 3), ("orders", 1, 1)]), ("g2", [("orders", 0, 5), ("bills", 0, 10)]), ("g3", [("bills", 0, 0)])):
            consumer = stock.consumer(side.bootstrap, group)
            consumer.commit(offsets=[stock.TopicPartition(*commit) for commit in commits], asynchronous=False)
            consumer.close()
        (side.directory / "reset.csv").write_text("orders,0,4\norders,1,2\n")
        (side.directory / "reset-two.csv").write_text("g1,orders,0,1\ng2,bills,0,6\n")
    both(context).each(fill)
    same(context, r"""
        groups* --list
        groups* --list --state
        groups* --list --state empty,stable
        groups* --list --state dead
        groups* --list --type
        groups* --list --type classic
        groups* --list --type consumer
        groups* --list --state --type
        groups --describe --group g1
        groups* --describe --all-groups
        groups --describe --group g1 --offsets --verbose
        groups --describe --group g1 --members
        groups --describe --group g1 --members --verbose
        groups --describe --group g1 --state
        groups --describe --group g1 --state --verbose
        groups* --describe --all-groups --state
        groups* --describe --all-groups --members
        groups --describe --group missing
        groups --describe --group missing --state
        groups --describe --group missing --members
        groups --reset-offsets --group g1 --topic orders --to-earliest --dry-run
        groups --reset-offsets --group g1 --topic orders --to-earliest
        groups --reset-offsets --group g1 --topic orders --to-latest --execute
        groups --describe --group g1
        groups --reset-offsets --group g1 --topic orders:0 --to-offset 2 --execute
        groups --reset-offsets --group g1 --topic orders:0 --to-offset 99 --execute
        groups --reset-offsets --group g1 --topic orders:0 --to-offset -7 --execute
        groups --reset-offsets --group g1 --topic orders:0,1 --shift-by -1 --execute
        groups --reset-offsets --group g1 --topic orders --shift-by 2 --execute
        groups --reset-offsets --group g1 --topic orders --to-current --execute
        groups --reset-offsets --group g1 --topic orders --to-datetime 2023-11-14T22:13:24.000 --execute
        groups --reset-offsets --group g1 --topic orders --to-datetime 2033-11-14T22:13:24.000+01:00 --execute
        groups --reset-offsets --group g1 --topic orders --to-datetime yesterday
        groups --reset-offsets --group g1 --topic orders --by-duration P10000D --execute
        groups --reset-offsets --group g1 --topic orders --by-duration PT1S --execute
        groups --reset-offsets --group g1 --all-topics --to-earliest --execute
        groups* --reset-offsets --all-groups --all-topics --to-earliest --dry-run
        groups --reset-offsets --group g1 --all-topics --to-current --export
        groups --reset-offsets --group g1 --all-topics --from-file DIR/reset.csv --dry-run
        groups --reset-offsets --group g1 --all-topics --from-file DIR/reset.csv --execute
        groups* --reset-offsets --group g1 --group g2 --all-topics --to-current --export
        groups* --reset-offsets --group g1 --group g2 --from-file DIR/reset-two.csv --execute
        groups* --describe --all-groups
        groups --reset-offsets --group fresh --topic bills --to-earliest --execute
        groups --describe --group fresh
        groups --reset-offsets --group g1 --topic nowhere --to-earliest --dry-run
        groups --reset-offsets --group g1 --topic orders:9 --to-earliest --dry-run
        groups --reset-offsets --group g1 --to-earliest --dry-run
        groups --delete-offsets --group g1 --topic orders:0
        groups --describe --group g1
        groups --delete-offsets --group g1 --topic nowhere
        groups --delete-offsets --group g1 --topic orders
        groups --delete-offsets --group missing --topic orders
        groups --describe --group g1
        groups --delete --group g2
        groups --delete --group missing
        groups* --delete --group g3 --group missing
        groups* --delete --all-groups
        groups --list
        all-groups --list
    """,
         (r"groups --describe --group g1", r"- stderr: (Consumer group 'g1' has no active members\.)?|\+ (Error: .*|stderr: .*)?Group g1 not found\.|\+ ?",
          "a group that never had members goes with its last offset, not ten minutes later"),
         (r"groups\* --delete --all-groups", r"[-+] Deletion of requested consumer groups \(('reading', )?('g1', )?'fresh'\) was successful\.", "g1 is gone already"))


@case
def groups_with_members(context):
    """kafka-consumer-groups on groups in use."""
    def join(side):
        stock.create_topic(side.bootstrap, "clicks", 2)
        stock.create_topic(side.bootstrap, "views", 1)
        for topic, partition in (("clicks", 0), ("clicks", 1), ("views", 0)):
            stock.send(stock.producer(side.bootstrap), topic, [{"value": b"v", "partition": partition}] * 3)
        members = [stock.consumer(side.bootstrap, "dynamic", client_id="reader", auto_offset_reset="earliest"),
                   stock.consumer(side.bootstrap, "static", client_id="fixed", group_instance_id="one", partition_assignment_strategy="roundrobin",
                                  auto_offset_reset="earliest")]
        for member in members:
            member.subscribe(["clicks", "views"])
        for member in members:
            wait_until(lambda: member.poll(0.05) is not None and len(member.assignment()) == 3, 20, "an assignment")
        members[0].commit(offsets=[stock.TopicPartition("clicks", 0, 1), stock.TopicPartition("views", 0, 2)], asynchronous=False)
        return members
    members = both(context).each(join)
    try:
        same(context, r"""
            groups* --list --state
            groups* --list --type
            groups* --list --state stable
            groups* --describe --group dynamic
            groups* --describe --group static
            groups* --describe --group static --verbose
            groups --describe --group dynamic --members
            groups --describe --group dynamic --members --verbose
            groups --describe --group static --members --verbose
            groups* --describe --group dynamic --group static --state
            groups --describe --group dynamic --state --verbose
            groups --describe --group static --offsets --members
            groups* --reset-offsets --group dynamic --all-topics --to-earliest --dry-run
            groups* --reset-offsets --group dynamic --all-topics --to-earliest --execute
            groups* --reset-offsets --all-groups --topic clicks --to-latest --execute
            groups --delete --group dynamic
            groups --delete-offsets --group dynamic --topic clicks
            groups* --delete --all-groups
            all-groups* --list
            all-groups* --list --consumer
            all-groups* --list --group-type classic
            all-groups* --list --group-type share
            all-groups* --list --protocol consumer
            all-groups* --list --protocol something
            topics --list
            topics --list --exclude-internal
            topics* --describe --topic __consumer_offsets
            topics* --describe --exclude-internal
            configs --describe --entity-type topics --entity-name __consumer_offsets
            configs --describe --entity-type topics --entity-name __consumer_offsets --all
            get-offsets --topic-partitions __consumer_offsets:49-51
            get-offsets --topic-partitions __consumer_offsets:49-51 --exclude-internal-topics
        """)
    finally:
        for member in sum(members, []):
            member.close()


@case
def cluster(context):
    """What tools tell of the cluster as such."""
    elections = json.dumps({"partitions": [{"topic": "elected", "partition": partition} for partition in (0, 1)]})
    both(context).each(lambda side: (side.directory / "elect.json").write_text(elections))
    same(context, r"""
        api-versions*
        features describe
        features upgrade --feature metadata.version=20
        features upgrade --metadata 4.0-IV0
        features upgrade --feature transaction.version=1
        features downgrade --metadata 3.3-IV3
        features upgrade --feature no.such.feature=1
        features upgrade --feature group.version=99
        topics --create --topic elected --partitions 2
        elect --election-type preferred --topic elected --partition 0
        elect --election-type preferred --all-topic-partitions
        elect --election-type unclean --topic elected --partition 1
        elect --election-type unclean --topic elected --partition 7
        elect --election-type preferred --topic nowhere --partition 0
        elect --election-type preferred --path-to-json-file DIR/elect.json
        quorum describe --status
        quorum describe --replication
        quorum describe --replication --human-readable
        transactions list
        transactions describe --transactional-id missing
        transactions describe-producers --topic elected --partition 0
            transactions find-hanging --broker-id 1
        transactions abort --topic elected --partition 0 --start-offset 0
        log-dirs --describe --topic-list elected
    """,
         (r"api-versions\*", r"[-+]  (Sasl\w+|AddPartitionsToTxn|AddOffsetsToTxn|EndTxn|WriteTxnMarkers|TxnOffsetCommit|\w+Acls|\w+DelegationToken|ConsumerGroup\w+"
          r"|\w*ShareGroup\w+|Share\w+|StreamsGroup\w+)\(\d+\): .*", "not served yet"),
         (r"api-versions\*", r"[-+]  (AlterReplicaLogDirs|UnregisterBroker|\w+RaftVoter)\(\d+\): .*", "there are no replicas and no controllers"),
         (r"features describe", r"- Feature: .*", "no feature is finalised"),
         (r"features (up|down)grade .*", r"[-+] Could not (up|down)grade (metadata|transaction|group)\.version to .*", "no feature is known"),
         (r"quorum describe --status", r"[-+] CurrentVoters: .*", "the agents are told, there are no controllers"))


@case(own_broker=True)  # three agents are three replicas of every partition, one Kafka is one
def replicas(context):
    """kafka-reassign-partitions, and what else depends on replicas."""
    def write_files(side):
        at = lambda topic, brokers: {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": brokers, "log_dirs": ["any"] * len(brokers)}]}
        files = {"topics": {"version": 1, "topics": [{"topic": "moved"}]}, "same": at("moved", [1]), "away": at("moved", [2]), "nowhere": at("nowhere", [1])}
        for name, content in files.items():
            (side.directory / f"{name}.json").write_text(json.dumps(content))
    both(context).each(write_files)
    same(context, r"""
        topics --create --topic moved --partitions 2
        topics* --describe --at-min-isr-partitions --exclude-internal
        reassign --list
        reassign --generate --topics-to-move-json-file DIR/topics.json --broker-list 1
        reassign --generate --topics-to-move-json-file DIR/topics.json --broker-list 1,2
        reassign --execute --reassignment-json-file DIR/same.json
        reassign --verify --reassignment-json-file DIR/same.json
        reassign --cancel --reassignment-json-file DIR/same.json
        reassign --execute --reassignment-json-file DIR/away.json
        reassign --execute --reassignment-json-file DIR/nowhere.json
        reassign --execute --reassignment-json-file DIR/same.json --throttle 1000 --additional
        configs --describe --entity-type topics --entity-name moved
        configs --describe --entity-type brokers --entity-name 1
        reassign --verify --reassignment-json-file DIR/same.json
        configs --describe --entity-type topics --entity-name moved
        configs --describe --entity-type brokers --entity-name 1
    """)


@case
def verifiable_clients(context):
    """VerifiableProducer, VerifiableConsumer, ClientCompatibilityTest."""
    same(context, r"""
        topics --create --topic verified --partitions 1
        topics --create --topic compatible --partitions 1
        verifiable-producer --topic verified --max-messages 5
        verifiable-producer --topic verified --max-messages 3 --value-prefix 7 --repeating-keys 2 --acks 1
        verifiable-producer --topic verified --max-messages 3 --message-create-time 1700000000000
        transactions describe-producers --topic verified --partition 0
        verifiable-producer --topic verified --max-messages 2 --acks 0
        verifiable-consumer --topic verified --group-id verifying --max-messages 13 --verbose
        verifiable-consumer --topic verified --group-id again --max-messages 5 --group-instance-id me
        verifiable-consumer --topic verified --group-id committing --max-messages 5 --enable-autocommit
        groups --describe --group verifying
        groups --describe --group verifying --members
        compatibility --topic compatible --offsets-for-times-supported True --cluster-id-supported True --expect-record-too-large-exception False --num-cluster-nodes {nodes} --create-topics-supported True --describe-acls-supported {acls} --describe-configs-supported True --idempotent-producer-supported True
    """)
