"""What administrators do with librdkafka, and what of Kafka's own tools cannot be compared with Kafka (see `tools`).

The broker is `esker dev`, or with --cluster three agents.
"""
import functools
import json
import subprocess

from confluent_kafka import KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType, ScramCredentialInfo, ScramMechanism, \
    UserScramCredentialDeletion, UserScramCredentialUpsertion

import stock
from harness import CACHE, ROOT, Failed, case, check, equal, wait_until


@functools.cache
def whole_kafka():
    """The class path with kafka-configs, which the small set of jars has not."""
    subprocess.run([ROOT / "tests" / "clients" / "setup", "--judge"], check=True)
    return f"{CACHE / 'judge-jars'}/*"


def kafka_configs(broker, *args, ok=True):
    command = [whole_kafka() if part.endswith("/jars/*") else part for part in stock.JAVA]
    result = stock.run([*command, "kafka.admin.ConfigCommand", "--bootstrap-server", broker.bootstrap, *args], ok=ok)
    return result.stdout.decode(), result.stderr, result.returncode


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
def broker_defaults_altered_count_on_every_agent(context):
    """kafka-configs --entity-default: message.max.bytes for all brokers limits what every agent takes and what topics are described with; deleted, it is gone."""
    broker = context.shared()
    topic = stock.create_topic(broker.bootstrap, context.topic("default"), partitions=6)
    of_all = ["--entity-type", "brokers", "--entity-default"]

    def outcomes():
        errors, producer = [], stock.producer(broker.bootstrap, retries=0)
        for partition in range(6):
            producer.produce(topic, b"x" * 4000, partition=partition, on_delivery=lambda error, _: errors.append(error.name() if error else None))
        equal(producer.flush(20), 0, "records without an answer")
        return set(errors)

    kafka_configs(broker, "--alter", *of_all, "--add-config", "message.max.bytes=1000")
    try:
        check("message.max.bytes=1000" in kafka_configs(broker, "--describe", *of_all)[0], "message.max.bytes of all brokers")
        equal(topic_value(broker, topic, "max.message.bytes"), "1000", "max.message.bytes on every agent")
        told = kafka_configs(broker, "--describe", "--all", "--entity-type", "topics", "--entity-name", topic)[0]
        check("DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=1000, DEFAULT_CONFIG:message.max.bytes=1048588" in told, told)
        equal(outcomes(), {"MSG_SIZE_TOO_LARGE"}, "what became of records above the limit")
    finally:
        kafka_configs(broker, "--alter", *of_all, "--delete-config", "message.max.bytes")
    equal(topic_value(broker, topic, "max.message.bytes"), "1048588", "max.message.bytes after the deletion")
    equal(outcomes(), {None}, "what became of records then")


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
    sent = stock.send(stock.producer(broker.bootstrap), topic, [{"value": b"v", "partition": partition} for partition in range(4)])
    equal(sorted(message.partition() for message in sent), list(range(4)), "partitions that took a record")
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
        told, _, _ = stock.java("LogDirsCommand", "--bootstrap-server", broker.bootstrap, "--describe", "--topic-list", topic)
        told = json.loads(told.strip().splitlines()[-1])
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
def scram_credentials(context):
    """SCRAM credentials by librdkafka: kept, told, deleted."""
    broker = context.shared()
    user = context.topic("scram")
    client = stock.admin(broker.bootstrap)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    upsertion = UserScramCredentialUpsertion(user, info, b"secret", b"salt")
    client.alter_user_scram_credentials([upsertion])[user].result(20)
    told = client.describe_user_scram_credentials([user])[user].result(20).scram_credential_infos
    equal([(i.mechanism, i.iterations) for i in told], [(ScramMechanism.SCRAM_SHA_512, 8192)], "credentials")
    client.alter_user_scram_credentials([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512)])[user].result(20)
    try:
        client.describe_user_scram_credentials([user])[user].result(20)
        raise Failed("credentials after their deletion")
    except KafkaException as error:
        equal(error.args[0].name(), "RESOURCE_NOT_FOUND", "credentials after their deletion")


@case(own_broker=True)
def altered_configs_survive_a_restart(context):
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, context.topic("durable"))
    entry = ConfigEntry("retention.ms", "4242", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = stock.admin(broker.bootstrap)
    client.incremental_alter_configs([resource])[resource].result(20)
    broker.kill()
    broker.start()
    wait_until(lambda: topic_value(broker, topic, "retention.ms") == "4242", 15, "retention.ms after kill -9 and a start")
    broker.stop()
