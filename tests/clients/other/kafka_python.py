"""kafka-python as an administrator: everything its KafkaAdminClient offers, and what of it came to pass.

Owns: the calls of KafkaAdminClient. Does not own: its producer and consumer (`kafka_python_records`).
"""
import contextlib
import logging
import time
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, AlterConfigOp, ConfigResource, MemberToRemove, OffsetSpec, OffsetTimestamp, \
    ResourcePattern, ResourceType, ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion
from kafka.structs import TopicPartitionReplica

from harness import check, equal, wait_until

logging.getLogger("kafka").setLevel(logging.CRITICAL)
NOON = 1_700_000_000_000  # milliseconds; records of these tests are a second apart


@contextlib.contextmanager
def admin(context):
    client = KafkaAdminClient(bootstrap_servers=context.shared().bootstrap.split(","))
    try:
        yield client
    finally:
        client.close()


def refused(call, *kinds):
    """What a call that has to fail says."""
    try:
        answer = call()
    except errors.KafkaError as error:
        check(isinstance(error, kinds), f"expected {kinds}, found {error!r}")
        return str(error)
    raise AssertionError(f"not refused, but answered {answer!r}")


def created(context, client, stem, partitions=1, **configs):
    """A new topic whose partitions all have leaders."""
    topic = context.topic(stem)
    client.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": {k.replace("_", "."): v for k, v in configs.items()}}},
                         wait_for_metadata=False)
    client.wait_for_topics([topic])
    return topic


def filled(context, topic, partitions, each):
    """Writes `each` records to each partition, timestamps a second apart."""
    producer = KafkaProducer(bootstrap_servers=context.shared().bootstrap.split(","))
    sent = [producer.send(topic, b"value %d" % n, b"key", partition=p, timestamp_ms=NOON + n * 1000) for p in range(partitions) for n in range(each)]
    equal([f.get(20).offset for f in sent], [*range(each)] * partitions, "offsets of what was sent")
    producer.close()


def partitions_of(client, topic):
    return sorted(p["partition_index"] for p in client.describe_topics([topic])[0]["partitions"])


def topics(context):
    """Topics are created, told, paged, grown and deleted, by name and by id."""
    with admin(context) as client:
        brokers = {b["broker_id"] for b in client.describe_cluster()["brokers"]}
        one, two = context.topic("kp-one"), context.topic("kp-two")
        equal(client.create_topics({one: {"num_partitions": 3}}, validate_only=True)["topics"][0]["error_code"], 0, "validation")
        check(one not in client.list_topics(), "a topic that was only to be validated is there")
        answer = client.create_topics({one: {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "60000"}}, two: {}})
        equal([(t["name"], t["num_partitions"]) for t in answer["topics"]], [(one, 3), (two, 1)], "topics of the answer")
        equal(answer["topics"][0]["configs"]["retention.ms"]["value"], "60000", "a config of the answer")
        client.wait_for_topics([one, two])
        check({one, two} <= set(client.list_topics()), "topics that are listed")
        told = client.describe_topics([one])[0]
        equal((told["error_code"], told["name"], told["is_internal"]), (0, one, False), "the topic as it is told")
        equal(sorted(p["partition_index"] for p in told["partitions"]), [0, 1, 2], "its partitions")
        check({p["leader_id"] for p in told["partitions"]} <= brokers, "leaders are brokers of the cluster")
        refused(lambda: client.create_topics({one: {}}), errors.TopicAlreadyExistsError)
        refused(lambda: client.create_topics({"no/such/name": {}}), errors.InvalidTopicError)
        refused(lambda: client.create_topics({context.topic("kp"): {"configs": {"retention.ms": "never"}}}), errors.InvalidConfigurationError)
        client.create_partitions({one: 4}, validate_only=True)
        equal(partitions_of(client, one), [0, 1, 2], "partitions after a validation")
        client.create_partitions({one: 5})
        wait_until(lambda: partitions_of(client, one) == [0, 1, 2, 3, 4], 10, "five partitions")
        refused(lambda: client.create_partitions({one: 2}), errors.InvalidPartitionsError)
        first = client.describe_topic_partitions([one], response_partition_limit=3)
        rest = client.describe_topic_partitions([one], cursor=first["next_cursor"])
        pages = [[p["partition_index"] for p in page["topics"][0]["partitions"]] for page in (first, rest)]
        equal((pages, rest["next_cursor"]), ([[0, 1, 2], [3, 4]], None), "pages of partitions")
        topic_id = uuid.UUID(str(told["topic_id"]))
        by_id = client.describe_topics([topic_id])[0]
        equal((by_id["name"], len(by_id["partitions"])), (one, 5), "the topic found by its id")
        client.delete_topics([topic_id])
        client.delete_topics([two])
        wait_until(lambda: not {one, two} & set(client.list_topics()), 10, "no topic is left")
        refused(lambda: client.delete_topics([two]), errors.UnknownTopicOrPartitionError)


def configs(context):
    """Configs of topics and brokers: described with their sources, altered in both ways, refused, reset."""
    def described(**options):
        return client.describe_configs([ConfigResource("topic", topic)], **options)["topic"][topic]

    def altered(changes, **options):
        return client.alter_configs([ConfigResource("topic", topic, changes)], **options)["topic"][topic]

    with admin(context) as client:
        topic = created(context, client, "kp-configs", retention_ms="60000")
        modified = described()
        equal({k: (v["value"], v["config_source"]) for k, v in modified.items()}, {"retention.ms": ("60000", "DYNAMIC_TOPIC_CONFIG")}, "what is modified")
        every = described(config_filter="all", include_synonyms=True)
        equal((every["cleanup.policy"]["value"], every["cleanup.policy"]["config_source"]), ("delete", "DEFAULT_CONFIG"), "cleanup.policy")
        equal((every["retention.ms"]["config_type"], every["min.insync.replicas"]["value"]), ("LONG", "1"), "a type and a default")
        equal([s["name"] for s in every["retention.ms"]["synonyms"]][0], "retention.ms", "the first synonym of retention.ms")
        equal(altered({"cleanup.policy": (AlterConfigOp.APPEND, "compact"), "retention.ms": (AlterConfigOp.SET, "70000"), "flush.ms": "99"}), "OK", "incremental")
        equal({k: v["value"] for k, v in described().items()}, {"cleanup.policy": "delete,compact", "retention.ms": "70000", "flush.ms": "99"}, "values after it")
        equal(altered({"cleanup.policy": (AlterConfigOp.SUBTRACT, "delete"), "retention.ms": (AlterConfigOp.DELETE, None)}), "OK", "subtract and delete")
        equal({k: v["value"] for k, v in described().items()}, {"cleanup.policy": "compact", "flush.ms": "99"}, "values after that")
        equal(altered({"flush.ms": "1"}, validate_only=True), "OK", "a validation")
        equal(described()["flush.ms"]["value"], "99", "a value that was only to be validated")
        equal(altered({"retention.ms": "50000"}, incremental=False), "OK", "the old call, which the client completes")
        equal({k: v["value"] for k, v in described().items()}, {"cleanup.policy": "compact", "flush.ms": "99", "retention.ms": "50000"}, "values after it")
        check("InvalidConfig" in altered({"retention.ms": "never"}), "an impossible value")
        check("InvalidConfig" in altered({"no.such.config": "1"}, raise_on_unknown=False), "an unknown name")
        equal(client.reset_configs([ConfigResource("topic", topic, ["flush.ms"])])["topic"][topic], "OK", "a reset")
        equal(sorted(described()), ["cleanup.policy", "retention.ms"], "what is modified after it")
        equal(client.reset_configs([ConfigResource("topic", topic, {})])["topic"][topic], "OK", "a reset of everything")
        equal(described(), {}, "what is modified after that")
        node = str(client.describe_cluster()["brokers"][0]["broker_id"])
        broker = client.describe_configs([ConfigResource("broker", node)], config_filter="all")["broker"][node]
        equal((broker["message.max.bytes"]["value"], broker["message.max.bytes"]["config_type"]), ("1048588", "INT"), "message.max.bytes of a broker")
        listed = client.list_config_resources(["TOPIC", "BROKER"])
        check(topic in listed["topic"] and node in listed["broker"], f"config resources: {listed}")


def subscribed(context, topic, group, **options):
    """A member of a group. It knows the topic before it joins: else, where groups form at once, it may assign nothing and leave it at that, or
    join again and forget to go on when its poll times out in between."""
    consumer = KafkaConsumer(topic, bootstrap_servers=context.shared().bootstrap.split(","), group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, **options)
    check(topic in consumer.topics(), f"{topic} is not there")
    return consumer


def joined(context, topic, group, **options):
    """A member of a group that has its assignment."""
    consumer = subscribed(context, topic, group, **options)
    deadline = time.monotonic() + 30
    while not consumer.assignment():
        check(time.monotonic() < deadline, "no assignment within 30 s")
        consumer.poll(100)
    return consumer


def groups(context):
    """Groups are listed, told with their members, emptied and deleted."""
    with admin(context) as client:
        topic, group = created(context, client, "kp-groups", 2), context.topic("kp-group")
        filled(context, topic, 2, 5)
        member = joined(context, topic, group, client_id="kp-member", group_instance_id="kp-instance")
        listed = {g["group_id"]: g for g in client.list_groups()}
        equal((listed[group]["protocol_type"], listed[group]["group_state"], listed[group]["group_type"]), ("consumer", "Stable", "classic"), "as it is listed")
        check(group in {g["group_id"] for g in client.list_groups(states_filter=["stable"], types_filter=["classic"])}, "not among the stable groups")
        check(group not in {g["group_id"] for g in client.list_groups(states_filter=["empty"])}, "among the empty groups")
        told = client.describe_groups([group])[group]
        equal((told["error"], told["group_state"], told["protocol_type"], told["protocol_data"]), (None, "Stable", "consumer", "range"), "the group")
        only = told["members"][0]
        equal((len(told["members"]), only["client_id"], only["group_instance_id"]), (1, "kp-member", "kp-instance"), "its member")
        check(only["client_host"].lstrip("/") == "127.0.0.1", f"host {only['client_host']}")
        equal([(t["topic"], sorted(t["partitions"])) for t in only["member_assignment"]["assigned_partitions"]], [(topic, [0, 1])], "its assignment")
        equal(client.delete_groups([group]), {group: "NonEmptyGroupError"}, "deleting a group with a member")
        removed = client.remove_group_members(group, [MemberToRemove(group_instance_id="kp-instance")])
        equal(list(removed.values()), [errors.NoError], "removing the member")
        wait_until(lambda: client.describe_groups([group])[group]["group_state"] == "Empty", 10, "a group without members")
        member.close(autocommit=False)
        equal(client.delete_groups([group, "kp-never-was"]), {group: "OK", "kp-never-was": "GroupIdNotFoundError"}, "deleting groups")
        check(group not in {g["group_id"] for g in client.list_groups()}, "a deleted group is listed")


def group_offsets(context):
    """Offsets of a group are committed, listed, altered, reset by time and deleted by the administrator."""
    with admin(context) as client:
        topic, group = created(context, client, "kp-offsets", 2), context.topic("kp-group")
        filled(context, topic, 2, 10)
        zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)

        def listed():
            return {tp: found.offset for tp, found in client.list_group_offsets(group)[group].items()}

        equal(client.alter_group_offsets(group, {zero: OffsetAndMetadata(4, "why", None), one: OffsetAndMetadata(7, "", None)}),
              {zero: errors.NoError, one: errors.NoError}, "altered")
        found = client.list_group_offsets({group: [zero]})[group]
        equal({tp: (f.offset, f.metadata) for tp, f in found.items()}, {zero: (4, "why")}, "one offset with its metadata")
        equal(listed(), {zero: 4, one: 7}, "all offsets")
        reset = client.reset_group_offsets(group, {zero: OffsetTimestamp(NOON + 5500), one: OffsetSpec.EARLIEST})
        equal({tp: (r["error"], r["offset"]) for tp, r in reset.items()}, {zero: (errors.NoError, 6), one: (errors.NoError, 0)}, "reset by time and to the start")
        client.reset_group_offsets(group, {zero: OffsetSpec.LATEST, one: 1000})
        equal(listed(), {zero: 10, one: 10}, "reset to the end, and beyond it")
        equal(client.delete_group_offsets(group, [one]), {one: errors.NoError}, "deleted")
        equal(listed(), {zero: 10}, "what is left")
        equal(client.list_group_offsets(["kp-never-was"]), {"kp-never-was": {}}, "a group that never was")
        equal(client.delete_groups([group]), {group: "OK"}, "deleting the group")
        equal(client.list_group_offsets(group), {group: {}}, "offsets of a deleted group")


def records(context):
    """Offsets by kind and time, records deleted, leaders elected, replicas not moved."""
    with admin(context) as client:
        topic = created(context, client, "kp-records", 2)
        filled(context, topic, 2, 10)
        zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)

        def offsets(spec):
            return {tp: (f.offset, f.timestamp) for tp, f in client.list_partition_offsets({zero: spec, one: spec}).items()}

        equal(offsets(OffsetSpec.EARLIEST)[zero][0], 0, "the first offset")
        equal(offsets(OffsetSpec.LATEST)[one][0], 10, "the next offset")
        equal(offsets(OffsetSpec.MAX_TIMESTAMP)[zero], (9, NOON + 9000), "the latest record")
        equal(offsets(NOON + 2500)[one], (3, NOON + 3000), "the first record after a time")
        equal(offsets(NOON + 99_000)[one], (-1, -1), "a time after all records")
        equal({tp: r["low_watermark"] for tp, r in client.delete_records({zero: 4, one: -1}).items()}, {zero: 4, one: 10}, "low watermarks")
        equal({tp: f[0] for tp, f in offsets(OffsetSpec.EARLIEST).items()}, {zero: 4, one: 10}, "where the logs start")
        refused(lambda: client.delete_records({zero: 11}), errors.OffsetOutOfRangeError)
        refused(lambda: client.delete_records({TopicPartition(topic, 9): 1}), errors.UnknownTopicOrPartitionError)
        elected = client.elect_leaders(0, {topic: [0, 1]})
        found = sorted((p.partition_id, p.error_code) for r in elected.replica_election_results for p in r.partition_result)
        equal((elected.error_code, found), (0, [(0, 84), (1, 84)]), "ELECTION_NOT_NEEDED for each partition")
        equal(client.list_partition_reassignments([zero, one]), {}, "reassignments")
        equal(client.alter_partition_reassignments({zero: None}), {zero: errors.NoReassignmentInProgressError}, "a reassignment that is not there")
        producers = client.describe_producers([zero])[zero].active_producers
        equal([p.last_sequence for p in producers], [9], "the last sequence of the only producer")
        wait_until(lambda: no_such_transaction(client, context.topic("kp-never")), 20, "a transaction that is not there is told so")
        equal((sum(map(len, client.list_transactions().values())), client.find_hanging_transactions()), (0, []), "transactions")


def no_such_transaction(client, name):
    """False while Kafka still makes the topic of its coordinator."""
    kinds = (errors.TransactionalIdNotFoundError, errors.CoordinatorNotAvailableError, errors.CoordinatorLoadInProgressError, errors.NotCoordinatorError)
    return "TransactionalIdNotFound" in refused(lambda: client.describe_transactions([name]), *kinds)


def cluster(context):
    """What the cluster tells of itself: brokers, directories with sizes, quorum, versions, features."""
    with admin(context) as client:
        told = client.describe_cluster()
        addresses = {f"{b['host']}:{b['port']}" for b in told["brokers"]}
        equal(addresses, set(context.shared().bootstrap.split(",")), "addresses of the brokers")
        check(told["cluster_id"] and told["controller_id"] in {b["broker_id"] for b in told["brokers"]}, told)
        topic = created(context, client, "kp-cluster", 2)
        filled(context, topic, 2, 20)
        dirs = client.describe_log_dirs([topic])
        equal({d["broker"] for d in dirs}, {b["broker_id"] for b in told["brokers"]}, "brokers that tell their directories")
        check(all(found["error_code"] == 0 for d in dirs for found in d["log_dirs"]), dirs)
        sizes = {p["partition_index"]: p["partition_size"] for d in dirs for found in d["log_dirs"] for t in found["topics"] if t["name"] == topic
                 for p in t["partitions"] if p["partition_size"]}
        check(set(sizes) == {0, 1} and all(20 * 10 < size < 20 * 200 for size in sizes.values()), f"sizes: {sizes}")
        quorum = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
        check(quorum["error"] is None and quorum["high_watermark"] > 0 and quorum["leader_id"] >= 0, quorum)
        equal(client.get_broker_version_data(told["controller_id"]).api_versions[0][1], 13, "the highest version of Produce")
        versions = {key.name: found for key, found in client.api_versions().items()}
        check(versions["Fetch"][1] >= 17 and versions["CreateTopics"] == (2, 7), versions)
        refused(lambda: client.update_features({"metadata.version": 1}), errors.KafkaError)
        check("transaction.version" not in client.describe_features() or "supported" in client.describe_features()["transaction.version"], "features")
        moved = TopicPartitionReplica(topic, 0, told["controller_id"])
        with contextlib.suppress(errors.UnsupportedVersionError, errors.IncompatibleBrokerVersion):  # Kafka has the call, but not the directory
            equal(client.alter_replica_log_dirs({moved: "/no/such/directory"}), {moved: errors.LogDirNotFoundError}, "moving a replica")


def users(context):
    """SCRAM credentials are kept and told; ACLs, which are not there, are refused clearly and hurt nothing."""
    with admin(context) as client:
        user = context.topic("kp-user")
        for mechanism, iterations in ("SCRAM-SHA-256", 8192), ("SCRAM-SHA-512", 4096):
            equal(client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, mechanism, "secret", iterations)]), {user: None}, mechanism)
        twice = client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, mechanism, "secret") for mechanism in (1, 2)])
        check("twice" in twice[user], f"two alterations of one user: {twice}")
        found = client.describe_user_scram_credentials([user])[user]
        equal(sorted((i["mechanism"], i["iterations"]) for i in found["credential_infos"]), [(ScramMechanism.SCRAM_SHA_256, 8192), (ScramMechanism.SCRAM_SHA_512, 4096)],
              "credentials")
        check(user in client.describe_user_scram_credentials(), "not among all users")
        for mechanism in ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512:
            equal(client.alter_user_scram_credentials([UserScramCredentialDeletion(user, mechanism)]), {user: None}, "deleting one")
        check(client.describe_user_scram_credentials([user])[user]["error"], "no error for a user without credentials")
        check(client.alter_user_scram_credentials([UserScramCredentialDeletion(user, 1)])[user], "no error for deleting what is not there")
        pattern = ResourcePattern(ResourceType.TOPIC, "kp")
        kinds = (errors.SecurityDisabledError, errors.UnsupportedVersionError, errors.IncompatibleBrokerVersion)
        wanted = ACLFilter(None, "*", ACLOperation.ANY, ACLPermissionType.ANY, pattern)
        refused(lambda: client.describe_acls(wanted), *kinds)
        acl = ACL("User:kp", "*", ACLOperation.READ, ACLPermissionType.ALLOW, pattern)
        with contextlib.suppress(*kinds):
            equal(client.create_acls([acl]), {"succeeded": [], "failed": [errors.SecurityDisabledError]}, "creating an ACL")
        with contextlib.suppress(*kinds):
            equal([found[2] for found in client.delete_acls([wanted])], [errors.SecurityDisabledError], "deleting ACLs")
        check(client.describe_cluster()["brokers"], "the connection after that")


CASES = [topics, configs, groups, group_offsets, records, cluster, users]
