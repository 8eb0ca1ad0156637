"""What administrators do, with Kafka's own tools and librdkafka: configs, partitions, sizes, and what has nothing to do here.

The broker is `esker dev`, or with --cluster three agents.
"""
import functools
import json
import re
import subprocess

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType, ScramCredentialInfo, ScramMechanism, \
    UserScramCredentialDeletion, UserScramCredentialUpsertion

import stock
from harness import CACHE, ROOT, case, check, equal, wait_until

TOOLS = stock.TOOLS


@functools.cache
def whole_kafka():
    """The class path with kafka-configs, which the small set of jars has not."""
    subprocess.run([ROOT / "tests" / "clients" / "setup", "--judge"], check=True)
    return f"{CACHE / 'judge-jars'}/*"


def kafka_configs(broker, *args, ok=True):
    command = [whole_kafka() if part.endswith("/jars/*") else part for part in stock.JAVA]
    result = stock.run([*command, "kafka.admin.ConfigCommand", "--bootstrap-server", broker.bootstrap, *args], ok=ok)
    return result.stdout.decode(), result.stderr, result.returncode


def tool(main, broker, *args, ok=True, flag="--bootstrap-server"):
    out, err, code = stock.java(TOOLS + main, flag, broker.bootstrap, *args, ok=ok)
    return out if ok else (out, err, code)


def topic_value(broker, topic, name):
    """The value of a topic config as each agent tells it; they must agree."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    values = set()
    for address in broker.bootstrap.split(","):
        client = stock.admin(address)
        values.add(client.describe_configs([resource])[resource].result(20)[name].value)
    equal(len(values), 1, f"agents that tell different values of {name}: {values}")
    return values.pop()


@case
def topics_described_altered_grown(context):
    """kafka-topics: created with configs, described, given more partitions, which take records."""
    broker = context.shared()
    topic = context.topic("tool")
    tool("TopicCommand", broker, "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=60000", "--config", "cleanup.policy=compact")
    told = tool("TopicCommand", broker, "--describe", "--topic", topic)
    check("PartitionCount: 2" in told and "retention.ms=60000" in told and "cleanup.policy=compact" in told, told)
    tool("TopicCommand", broker, "--alter", "--topic", topic, "--partitions", "5")
    told = tool("TopicCommand", broker, "--describe", "--topic", topic)
    equal(sorted(map(int, re.findall(r"Partition: (\d+)", told))), list(range(5)), "partitions after --alter")
    _, err, code = tool("TopicCommand", broker, "--alter", "--topic", topic, "--partitions", "3", ok=False)
    check(code != 0 and "5 partition" in err, f"fewer partitions: exit {code}, {err[-300:]}")
    sent = stock.send(stock.producer(broker.bootstrap), topic, [{"key": b"k", "value": b"v", "partition": p} for p in range(5)])
    equal(sorted(m.partition() for m in sent), list(range(5)), "partitions that took a record")


@case
def configs_altered_by_the_tool(context):
    """kafka-configs: topic configs altered, appended to, deleted; broker configs described, and refused where they would do nothing at once."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("configs"))
    of_topic = ["--entity-type", "topics", "--entity-name", topic]
    kafka_configs(broker, "--alter", *of_topic, "--add-config", "retention.ms=12345,cleanup.policy=[compact,delete]")
    equal(topic_value(broker, topic, "retention.ms"), "12345", "retention.ms on every agent")
    equal(topic_value(broker, topic, "cleanup.policy"), "compact,delete", "cleanup.policy")
    told = kafka_configs(broker, "--describe", *of_topic)[0]
    check("retention.ms=12345" in told and "DYNAMIC_TOPIC_CONFIG:retention.ms=12345" in told, told)
    told = kafka_configs(broker, "--describe", "--all", *of_topic)[0]
    equal(len(re.findall(r"^  \S+=", told, re.M)), 33, "topic configs that are told")
    kafka_configs(broker, "--alter", *of_topic, "--delete-config", "retention.ms")
    equal(topic_value(broker, topic, "retention.ms"), "604800000", "retention.ms after its deletion")
    _, err, code = kafka_configs(broker, "--alter", *of_topic, "--add-config", "retention.ms=never", ok=False)
    check(code != 0 and "InvalidConfig" in err + _, f"an impossible value: exit {code}, {err[-300:]}{_[-300:]}")

    node = next(iter(stock.admin(broker.bootstrap).list_topics(timeout=15).brokers))
    of_broker = ["--entity-type", "brokers", "--entity-name", str(node)]
    told = kafka_configs(broker, "--describe", "--all", *of_broker)[0]
    check(len(re.findall(r"^  \S+=", told, re.M)) >= 340 and "message.max.bytes=1048588" in told, told[-2000:])
    kafka_configs(broker, "--alter", *of_broker, "--add-config", "num.io.threads=9")
    check("num.io.threads=9" in kafka_configs(broker, "--describe", *of_broker)[0], "num.io.threads after it was set")
    kafka_configs(broker, "--alter", *of_broker, "--delete-config", "num.io.threads")
    out, err, code = kafka_configs(broker, "--alter", *of_broker, "--add-config", "message.max.bytes=1000", ok=False)
    check(code != 0 and "next start" in out + err, f"a setting that needs a restart: exit {code}, {(out + err)[-500:]}")


@case
def trap_27_connect_finds_what_it_needs(context):
    """Connect starts only if cleanup.policy is exactly `compact`, and reads it through DescribeConfigs."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("connect-offsets"), cleanup_policy="compact")
    equal(topic_value(broker, topic, "cleanup.policy"), "compact", "cleanup.policy")


@case
def trap_08_altered_limits_count_at_once(context):
    """max.message.bytes altered by librdkafka counts on every agent when the call has returned."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("limit"), partitions=6)
    entry = ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = stock.admin(broker.bootstrap)
    client.incremental_alter_configs([resource])[resource].result(20)
    equal(topic_value(broker, topic, "max.message.bytes"), "1000", "max.message.bytes on every agent")
    errors = []
    producer = stock.producer(broker.bootstrap, retries=0)
    for partition in range(6):
        producer.produce(topic, b"x" * 4000, partition=partition, on_delivery=lambda error, _: errors.append(error.name() if error else None))
    equal(producer.flush(20), 0, "records without an answer")
    equal(errors, ["MSG_SIZE_TOO_LARGE"] * 6, "what became of records above the limit")


@case
def read_modify_write(context):
    """librdkafka 0092: what DescribeConfigs tells can be written back by AlterConfigs, and nothing changes."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("rmw"), retention_ms=5000)
    client = stock.admin(broker.bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    before = client.describe_configs([resource])[resource].result(20)
    own = {e.name: e.value for e in before.values() if not e.is_default and not e.is_read_only}
    own["flush.ms"] = "12345"
    changed = ConfigResource(ResourceType.TOPIC, topic, set_config=own)
    client.alter_configs([changed])[changed].result(20)
    after = client.describe_configs([resource])[resource].result(20)
    differ = {name for name in before if before[name].value != after[name].value}
    equal(differ, {"flush.ms"}, "configs that changed")


@case
def partitions_by_librdkafka(context):
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("grow"))
    client = stock.admin(broker.bootstrap)
    client.create_partitions([NewPartitions(topic, 4)], validate_only=True)[topic].result(20)
    client.create_partitions([NewPartitions(topic, 4)])[topic].result(20)
    equal(len(stock.describe(broker.bootstrap, topic).partitions), 4, "partitions")
    cluster = client.describe_cluster(request_timeout=15).result(20)
    equal(len(cluster.nodes), len(broker.bootstrap.split(",")), "agents that DescribeCluster tells")


@case
def log_dirs_tell_sizes(context):
    """kafka-log-dirs: the sizes over all agents are those of the records, once."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("sizes"), partitions=4)
    value = b"0123456789abcdef" * 64
    records = [{"value": value, "partition": n % 4} for n in range(400)]
    stock.send(stock.producer(broker.bootstrap), topic, records)

    def sizes():
        told = json.loads(tool("LogDirsCommand", broker, "--describe", "--topic-list", topic).strip().splitlines()[-1])
        partitions = [p for b in told["brokers"] for d in b["logDirs"] for p in d["partitions"]]
        check(all(d["error"] is None for b in told["brokers"] for d in b["logDirs"]), told)
        return sorted((p["partition"], p["size"]) for p in partitions)

    found = sizes()
    if len(broker.bootstrap.split(",")) == 1:
        equal([name for name, _ in found], [f"{topic}-{p}" for p in range(4)], "partitions in the answer")
    by_name = dict(found)
    equal(set(by_name), {f"{topic}-{p}" for p in range(4)}, "partitions in the answer")
    for name, size in found:
        check(100 * len(value) <= size < 100 * (len(value) + 100), f"{name} has {size} bytes for 100 records of {len(value)}")


@case
def api_versions_and_features(context):
    """kafka-broker-api-versions and kafka-features."""
    broker = context.shared()
    told = tool("BrokerApiVersionsCommand", broker)
    equal(told.count("(id: "), len(broker.bootstrap.split(",")), "agents in the answer")
    for name in ("DescribeConfigs(32): 1 to 4", "DescribeLogDirs(35): 1 to 5", "DescribeCluster(60): 0 to 2", "DescribeTopicPartitions(75): 0"):
        check(name in told, f"{name} is not in {told[-3000:]}")
    tool("FeatureCommand", broker, "describe")
    out, err, code = tool("FeatureCommand", broker, "upgrade", "--feature", "metadata.version=20", ok=False)
    check(code != 0 and "cannot be changed" in out + err, f"a feature was changed: exit {code}, {(out + err)[-500:]}")


@case
def quorum_elections_and_reassignments(context):
    """kafka-metadata-quorum, kafka-leader-election, kafka-reassign-partitions: answers that their tools understand."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("elect"), partitions=2)
    status = tool("MetadataQuorumCommand", broker, "describe", "--status")
    check(re.search(r"LeaderId:\s+\d+", status) and re.search(r"HighWatermark:\s+[1-9]", status), status)
    check("Leader" in tool("MetadataQuorumCommand", broker, "describe", "--replication"), "--replication")
    told = tool("LeaderElectionCommand", broker, "--election-type", "preferred", "--topic", topic, "--partition", "0")
    check("already elected" in told, told)
    tool("LeaderElectionCommand", broker, "--election-type", "preferred", "--all-topic-partitions")
    check("No partition reassignments found" in tool("reassign.ReassignPartitionsCommand", broker, "--list"), "--list")


@case
def producers_and_transactions(context):
    """kafka-transactions: the producers of a partition, and no transactions."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("producers"))
    stock.send(stock.producer(broker.bootstrap, enable_idempotence="true"), topic, [(None, b"a"), (None, b"b")])
    rows = tool("TransactionsCommand", broker, "describe-producers", "--topic", topic, "--partition", "0").strip().splitlines()
    equal(len(rows), 2, f"lines: {rows}")
    equal(rows[1].split()[3], "1", f"last sequence in {rows[1]}")
    equal(len(tool("TransactionsCommand", broker, "list").strip().splitlines()), 1, "lines of the list")


@case
def quotas_by_the_tool(context):
    """kafka-configs keeps quotas of users, clients and addresses, and finds them."""
    broker = context.shared()
    user = context.topic("user")
    of_user = ["--entity-type", "users", "--entity-name", user]
    kafka_configs(broker, "--alter", *of_user, "--add-config", "producer_byte_rate=1024,request_percentage=50")
    told = kafka_configs(broker, "--describe", *of_user)[0]
    check("producer_byte_rate=1024" in told and "request_percentage=50" in told, told)
    both = [*of_user, "--entity-type", "clients", "--entity-default"]
    kafka_configs(broker, "--alter", *both, "--add-config", "consumer_byte_rate=2048")
    check("consumer_byte_rate=2048" in kafka_configs(broker, "--describe", *both)[0], "the quota of a user's clients")
    kafka_configs(broker, "--alter", *of_user, "--delete-config", "producer_byte_rate,request_percentage")
    kafka_configs(broker, "--alter", *both, "--delete-config", "consumer_byte_rate")
    check("byte_rate" not in kafka_configs(broker, "--describe", *of_user)[0], "quotas after their deletion")


@case
def scram_credentials(context):
    """SCRAM credentials by librdkafka and kafka-configs: kept, told, deleted."""
    broker = context.shared()
    user = context.topic("scram")
    client = stock.admin(broker.bootstrap)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    upsertion = UserScramCredentialUpsertion(user, info, b"secret", b"salt")
    client.alter_user_scram_credentials([upsertion])[user].result(20)
    told = client.describe_user_scram_credentials([user])[user].result(20).scram_credential_infos
    equal([(i.mechanism, i.iterations) for i in told], [(ScramMechanism.SCRAM_SHA_512, 8192)], "credentials")
    of_user = ["--entity-type", "users", "--entity-name", user]
    kafka_configs(broker, "--alter", *of_user, "--add-config", "SCRAM-SHA-256=[iterations=4096,password=other]")
    check("SCRAM-SHA-256=iterations=4096" in kafka_configs(broker, "--describe", *of_user)[0], "SCRAM-SHA-256")
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        client.alter_user_scram_credentials([UserScramCredentialDeletion(user, mechanism)])[user].result(20)
    check("SCRAM" not in kafka_configs(broker, "--describe", *of_user)[0], "credentials after their deletion")


@case(own_broker=True)
def altered_configs_survive_a_restart(context):
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, context.topic("durable"))
    kafka_configs(broker, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=4242")
    broker.kill()
    broker.start()
    wait_until(lambda: topic_value(broker, topic, "retention.ms") == "4242", 15, "retention.ms after kill -9 and a start")
    broker.stop()
