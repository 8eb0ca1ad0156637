"""etcd and bucket that do not belong together, and a bucket whose etcd is lost: nothing is founded by mistake, and what was there comes back.

Owns: wrong words for either of the two, recovery from the bucket alone. Does not own: the cluster (infra/local).
"""
import shutil
import subprocess
import time

import admin
import chaos_takeovers
import stock
from harness import CLUSTER, case, check, equal, wait_until  # which puts infra/local on the path
from cluster import BUCKET, inherited

REFUSED_SECONDS = 20


def refused(cluster, command, etcd=None, store=None, **environment):
    """Starts a process on another pair of stores; its exit code and last line."""
    words = [str(word) for word in command]
    words[words.index("--etcd") + 1] = etcd or cluster.etcd_flag
    words[words.index("--store") + 1] = store or f"s3://{BUCKET}"
    for flag in ("--kafka", "--grpc", "--http", "--peer"):
        if flag in words:
            words[words.index(flag) + 1] = "127.0.0.1:0"
    ended = subprocess.run(words, env=inherited() | cluster.environment | environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=REFUSED_SECONDS)
    return ended.returncode, ended.stderr.decode().strip().splitlines()[-1]


@case(own_broker=True, needs=CLUSTER)
def wrong_prefixes_found_nothing(context):
    """Another etcd prefix or another bucket: agent and compactor exit with 2, name both sides and the way out, and neither store is touched."""
    cluster = context.cluster(etcd=1, zones=("a",), compactor=False)
    topic = stock.create_topic(cluster.bootstrap, context.topic("kept"))
    agent, compactor = cluster.agents[0], cluster.new_compactor()
    other, elsewhere = cluster.etcd_flag.replace("/esker", "/eskre"), f"s3://{BUCKET}/eskre"
    for command in (agent.command, compactor.command):
        # Twice: the first one must not have founded anything for the second.
        for _ in range(2):
            code, line = refused(cluster, command, etcd=other)
            check(code == 2 and other in line and f"s3://{BUCKET}" in line and cluster.agents[0].cluster in line and "--new-incarnation" in line, f"{code}: {line}")
            code, line = refused(cluster, command, store=elsewhere)
            check(code == 2 and elsewhere in line and cluster.etcd_flag in line and cluster.agents[0].cluster in line, f"{code}: {line}")
    # What is right for neither is a new cluster.
    second = cluster.new_agent(9, "")
    second.command[second.command.index("--etcd") + 1] = other
    second.command[second.command.index("--store") + 1] = elsewhere
    second.start()
    check(second.cluster != agent.cluster, f"two clusters of one id {agent.cluster}")
    second.stop()
    check(topic in stock.admin(cluster.bootstrap).list_topics(timeout=15).topics, "the topic is gone")


@case(own_broker=True, needs=CLUSTER)
def stores_that_are_away_are_waited_for(context):
    """An agent that finds nobody waits; it says so only when it knows."""
    cluster = context.cluster(etcd=1, zones=("a",), compactor=False)
    cluster.s3.kill()
    late = cluster.new_agent(8, "")
    late.command[late.command.index("--etcd") + 1] = cluster.etcd_flag.replace("/esker", "/eskre")
    late.spawn()
    wait_until(lambda: "waiting for" in late.log.read_text(), 30, "the agent says what it waits for")
    check(late.alive(), "an agent that waits for the bucket has ended")
    cluster.s3.spawn()
    equal(late.process.wait(60), 2, "exit code when the bucket has answered")


@case(own_broker=True, needs=CLUSTER)
def what_administrators_set_survives_etcd(context):
    """etcd lost with all its data: `esker recover --new-incarnation` brings back records, configs of topics and brokers, quotas and SCRAM users."""
    cluster = context.cluster(etcd=1, zones=("a",), compactor=False)
    agent = cluster.agents[0]
    topic = stock.create_topic(cluster.bootstrap, context.topic("kept"), cleanup_policy="compact", retention_ms=12345678)
    stock.send(stock.producer(cluster.bootstrap), topic, [{"key": b"k", "value": b"v", "partition": 0}])
    # Long after the last record, so that no checkpoint would come by itself.
    wait_until(lambda: checkpoints(agent) > 0, 60, "a checkpoint of the record")
    time.sleep(1)
    before = checkpoints(agent)
    defaults, user = ["--entity-type", "brokers", "--entity-default"], ["--entity-type", "users", "--entity-name", "u"]
    admin.kafka_configs(cluster, "--alter", *defaults, "--add-config", "num.io.threads=9")
    for config in ("producer_byte_rate=1234", "SCRAM-SHA-256=[iterations=4096,password=secret]"):
        admin.kafka_configs(cluster, "--alter", *user, "--add-config", config)
    told = [admin.kafka_configs(cluster, "--describe", *of)[0] for of in (defaults, user)]
    check("num.io.threads=9" in told[0] and "1234" in told[1] and "SCRAM-SHA-256" in told[1], f"{told}")
    wait_until(lambda: checkpoints(agent) > before, 60, "a checkpoint of what was set")
    agent.kill()
    etcd = cluster.etcd[0]
    etcd.kill()
    shutil.rmtree(cluster.work / "etcd-0")
    etcd.spawn()
    wait_until(lambda: cluster.etcd_healthy() == 1, 30, "an empty etcd")
    code, line = refused(cluster, agent.command)
    check(code == 2 and "--new-incarnation" in line, f"{code}: {line}")
    words = [cluster.binary, "recover", "--etcd", cluster.etcd_flag, "--store", f"s3://{BUCKET}", "--new-incarnation"]
    done = subprocess.run(words, env=inherited() | cluster.environment, capture_output=True, timeout=60, text=True)
    check(done.returncode == 0 and "1 configs of topics, 1 of brokers and others, 1 quotas, 1 credentials" in done.stdout, done.stdout + done.stderr)
    agent.start()
    equal([admin.kafka_configs(cluster, "--describe", *of)[0] for of in (defaults, user)], told, "what administrators are told")
    for name, value in (("cleanup.policy", "compact"), ("retention.ms", "12345678")):
        equal(admin.topic_value(cluster, topic, name), value, name)
    equal([m.value() for m in stock.read(cluster.bootstrap, topic)], [b"v"], "the record")


def checkpoints(agent):
    """How often the agent has published one."""
    return chaos_takeovers.metric(agent, "esker_checkpoint_seconds_count")
