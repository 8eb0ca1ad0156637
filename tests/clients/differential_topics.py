"""Topics as raw requests see them, beside a real Kafka: creating, growing, deleting, describing."""
from differential import ABSENT, scenario

CREATE_VERSIONS = (2, 5, 7)
NO_ID = "A" * 22
GONE = "AAAAAAAAAAAAAAAAAAAAAQ"  # an id that no topic has


def topic(name, partitions=1, replicas=1, **more):
    return {"name": name, "numPartitions": partitions, "replicationFactor": replicas, **more}


def assigned(*brokers):
    return [{"partitionIndex": index, "brokerIds": list(ids)} for index, ids in brokers]


def create(both, version, *topics, **more):
    options = {key: more.pop(key) for key in ("differs", "ignore", "only") if key in more}
    # The one config that Kafka's own start sets.
    options.setdefault("ignore", ["topics[*].configs[min.insync.replicas].configSource"])
    return both.call("CREATE_TOPICS", version, {"topics": list(topics), "timeoutMs": 9000, **more}, **options)


def metadata(both, version, topics, **more):
    """Of the named topics, without what is told of brokers."""
    options = {key: more.pop(key) for key in ("differs", "ignore", "only") if key in more}
    return both.call("METADATA", version, {"topics": topics, "allowAutoTopicCreation": False, **more}, **options)


def accepted(reason, version, name, error, partitions=1, replicas=1):
    """Kafka refuses what Esker creates."""
    path = f"topics[{name}]."
    listed = {path + "errorCode": (reason, error, "NONE")}
    if version >= 5:
        listed |= {path + "numPartitions": (reason, -1, partitions), path + "replicationFactor": (reason, -1, replicas), path + "configs[*]": (reason, ABSENT, ...)}
    if version >= 7:
        listed[path + "topicId"] = (reason, NO_ID, ...)
    return listed


@scenario
def created(both):
    for version in CREATE_VERSIONS:
        name = both.name(f"plain{version}")
        create(both, version, topic(name, 2))
        create(both, version, topic(name, 2))
        create(both, version, topic(both.name(f"defaults{version}"), -1, -1))
        create(both, version, topic(both.name(f"configured{version}"), 3, configs=[{"name": "retention.ms", "value": "60000"},
                                                                                 {"name": "cleanup.policy", "value": "compact,delete"}]))
        create(both, version)


@scenario
def not_created(both):
    for version in CREATE_VERSIONS:
        there = both.name(f"there{version}")
        create(both, version, topic(there))
        for name in ("", ".", "..", "a b", "a/b", "ü", "x" * 249, "x" * 250, "a:b", "__consumer_offsets", "a\x00"):
            create(both, version, topic(name), validateOnly=True)
        for partitions, replicas in ((0, 1), (-2, 1), (1, 0), (1, -2)):
            create(both, version, topic(both.name("counts"), partitions, replicas), validateOnly=True)
        for replicas in (2, 32767):
            create(both, version, topic(both.name("counts"), 1, replicas), validateOnly=True,
                   differs=accepted("replicas", version, "counts", "INVALID_REPLICATION_FACTOR", replicas=replicas))
        create(both, version, topic(both.name("counts"), 10_001), validateOnly=True,
               differs={"topics[counts].errorCode": ("too-many-partitions", "POLICY_VIOLATION", "INVALID_PARTITIONS")})
        create(both, version, *(topic(both.name(f"half{n}"), 6_000) for n in range(2)), validateOnly=True,
               differs=accepted("too-many-partitions", version, "half0", "POLICY_VIOLATION", partitions=6_000)
               | accepted("too-many-partitions", version, "half1", "POLICY_VIOLATION", partitions=6_000))
        create(both, version, topic(both.name("twice")), topic(both.name("twice")), topic(both.name("once")))
        create(both, version, topic(both.name("twice"), 2))
        create(both, version, topic(there), topic(both.name("beside")))
        create(both, version, topic(both.name("collides.a")))
        create(both, version, topic(both.name("collides_a")))


@scenario
def created_with_configs(both):
    def configs(*pairs):
        return [{"name": name, "value": value} for name, value in pairs]
    tries = [[("no.such.config", "1")], [("", "1")], [("retention.ms", None)], [("retention.ms", "")], [("retention.ms", "-2")], [("retention.ms", "-1")],
             [("retention.ms", "abc")], [("retention.ms", " 5 ")], [("retention.ms", "5"), ("retention.ms", "6")], [("cleanup.policy", "shred")],
             [("cleanup.policy", "")], [("cleanup.policy", "delete,delete")], [("cleanup.policy", "delete, compact")], [("compression.type", "LZ4")],
             [("compression.type", "lz4")], [("max.message.bytes", "-1")], [("min.cleanable.dirty.ratio", "1.5")],
             [("preallocate", "TRUE")], [("preallocate", "yes")], [("segment.bytes", "10")], [("segment.bytes", "99999999999")],
             [("message.timestamp.type", "Never")], [("remote.storage.enable", "true")], [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")], [("local.retention.ms", "100000000000")],
             [("min.insync.replicas", "2")], [("min.insync.replicas", "0")], [("retention.bytes", "5")], [("unclean.leader.election.enable", "true")],
             [("message.format.version", "2.8")], [("leader.replication.throttled.replicas", "0:1")], [("leader.replication.throttled.replicas", "nonsense")],
             [("compression.gzip.level", "10")], [("compression.gzip.level", "9")]]
    for version in (4, 7):
        create(both, 4, topic(both.name("configs"), configs=configs(("min.cleanable.dirty.ratio", "NaN"))), validateOnly=True,
               differs={"topics[configs].errorCode": ("nan", "NONE", "INVALID_CONFIG")})
        for pairs in tries:
            create(both, version, topic(both.name("configs"), configs=configs(*pairs)), validateOnly=True)


@scenario
def created_with_assignments(both):
    for version in CREATE_VERSIONS:
        for at, assignments in enumerate((assigned((0, [1])), assigned((0, [1]), (1, [1])), assigned((1, [1])), assigned((0, [1]), (2, [1])), assigned((0, [])),
                                          assigned((0, [1, 1])), assigned((0, [1]), (0, [1])), assigned((-1, [1])), assigned((0, [-1])))):
            create(both, version, topic(both.name(f"assigned{at}"), -1, -1, assignments=assignments), validateOnly=at != 1)
        for brokers in ([7], [1, 7]):
            create(both, version, topic(both.name("elsewhere"), -1, -1, assignments=assigned((0, brokers))), validateOnly=True,
                   differs=accepted("replicas", version, "elsewhere", "INVALID_REPLICA_ASSIGNMENT", replicas=len(brokers)))
        create(both, version, topic(both.name("counted"), 1, -1, assignments=assigned((0, [1]))), validateOnly=True)
        create(both, version, topic(both.name("counted"), -1, 1, assignments=assigned((0, [1]))), validateOnly=True)


@scenario
def only_validated(both):
    for version in CREATE_VERSIONS:
        name = both.name(f"valid{version}")
        create(both, version, topic(name, 3), topic(both.name("bad"), 0), validateOnly=True)
        metadata(both, 12, [{"name": name}])
        create(both, version, topic(name, 1))
        create(both, version, topic(name, 1), validateOnly=True)


@scenario
def grown(both):
    for version in (0, 2, 3):
        def grow(*topics, **more):
            both.call("CREATE_PARTITIONS", version, {"topics": list(topics), "timeoutMs": 9000, **more})

        name, other = both.name(f"grows{version}"), both.name(f"other{version}")
        create(both, 7, topic(name), topic(other))
        for count in (0, -1, 1):
            grow({"name": name, "count": count, "assignments": None})
        grow({"name": name, "count": 2, "assignments": None}, validateOnly=True)
        grow({"name": name, "count": 3, "assignments": None})
        grow({"name": name, "count": 3, "assignments": None})
        grow({"name": name, "count": 2, "assignments": None})
        grow({"name": name, "count": 4, "assignments": [{"brokerIds": [1]}]})
        grow({"name": name, "count": 5, "assignments": [{"brokerIds": [1]}, {"brokerIds": [1]}]})
        grow({"name": name, "count": 6, "assignments": [{"brokerIds": [9]}]})
        grow({"name": name, "count": 6, "assignments": [{"brokerIds": []}]})
        grow({"name": name, "count": 6, "assignments": [{"brokerIds": [1, 1]}]})
        grow({"name": name, "count": 7, "assignments": []})
        grow({"name": both.name("unknown"), "count": 2, "assignments": None}, {"name": other, "count": 2, "assignments": None})
        grow({"name": other, "count": 5, "assignments": None}, {"name": other, "count": 6, "assignments": None})
        grow({"name": "", "count": 5, "assignments": None}, {"name": "a b", "count": 6, "assignments": None})
        grow()
        metadata(both, 12, [{"name": name}, {"name": other}])


@scenario
def deleted(both):
    def by_name(version, *names, **options):
        return both.call("DELETE_TOPICS", version, {"topicNames": list(names), "timeoutMs": 9000}, **options)

    for version in (1, 3, 4, 5):
        name, twice = both.name(f"goes{version}"), both.name(f"twice{version}")
        create(both, 7, topic(name), topic(twice))
        by_name(version, name)
        by_name(version, name)
        by_name(version, twice, twice, both.name("unknown"))
        by_name(version, "", "a b")
        by_name(version)
        metadata(both, 12, [{"name": name}, {"name": twice}])


@scenario
def deleted_by_id(both):
    def delete(*states, **options):
        return both.call("DELETE_TOPICS", 6, {"topics": list(states), "timeoutMs": 9000}, **options)

    names = [both.name(f"goes{n}") for n in range(4)]
    made = create(both, 7, *map(topic, names))
    ids = [made.at("topics", {"name": name}, "topicId") for name in names]
    delete({"topicId": ids[0], "name": None})
    delete({"topicId": ids[0], "name": None})
    delete({"topicId": GONE, "name": None}, {"name": names[1]})
    delete({"topicId": ids[2], "name": names[2]})
    delete({"topicId": ids[2], "name": None}, {"topicId": ids[2], "name": None})
    delete({"topicId": ids[2], "name": None}, {"name": names[2]})
    delete({"name": None})
    delete({"name": names[3]}, {"name": names[3]})
    delete({"name": names[3]})
    metadata(both, 12, [{"name": name} for name in names])


@scenario
def described_by_metadata(both):
    names = [both.name("a"), both.name("b")]
    made = create(both, 7, topic(names[0], 2), topic(names[1], 1))
    for version in range(14):
        metadata(both, version, [{"name": names[0]}])
        if version >= 4:  # before, to ask for it is to create it
            metadata(both, version, [{"name": names[1]}, {"name": names[0]}, {"name": both.name("unknown")}])
            metadata(both, version, [{"name": both.name("unknown")}, {"name": both.name("unknown")}])
        metadata(both, version, [{"name": names[0]}, {"name": names[0]}])
        metadata(both, version, [{"name": ""}, {"name": "a b"}, {"name": "x" * 250}])
        metadata(both, version, [] if version == 0 else None, only=both.name("")[-7:])
        if version > 0:
            metadata(both, version, [])
        if version >= 8:
            metadata(both, version, [{"name": names[0]}], includeTopicAuthorizedOperations=True, includeClusterAuthorizedOperations=version <= 10)
    topic_id, by_id = made.at("topics", {"name": names[0]}, "topicId"), "metadata-by-id"
    metadata(both, 10, [{"topicId": topic_id, "name": None}], differs={
        "brokers[*]": (by_id, ABSENT, ...), "controllerId": (by_id, -1, 1), "topics['']": (by_id, ..., ABSENT), "topics[a]": (by_id, ABSENT, ...)})
    for version in (12, 13):
        metadata(both, version, [{"topicId": topic_id, "name": None}])
        metadata(both, version, [{"topicId": topic_id, "name": names[0]}])
        metadata(both, version, [{"topicId": topic_id, "name": names[1]}])
        metadata(both, version, [{"topicId": GONE, "name": None}])
        metadata(both, version, [{"topicId": topic_id, "name": None}, {"name": names[1]}], differs={"topics[b]": ("ids-and-names", ABSENT, ...)})


@scenario
def created_by_metadata(both):
    for version in (0, 4, 8, 13):
        name = both.name(f"auto{version}")
        at_once = {"topics[*].errorCode": ("created-at-once", "UNKNOWN_TOPIC_OR_PARTITION", "NONE"), "topics[*].partitions[0]": ("created-at-once", ABSENT, ...)}
        with_id = {"topics[*].topicId": ("created-at-once", NO_ID, ...)} if version >= 10 else {}
        both.call("METADATA", version, {"topics": [{"name": name}, {"name": "a b"}], "allowAutoTopicCreation": True}, differs=at_once | with_id)
        both.until(lambda found: found["topics"][0]["errorCode"] == "NONE", "METADATA", version, {"topics": [{"name": name}]})
        metadata(both, version, [{"name": both.name("forbidden")}]) if version >= 4 else None
    both.call("METADATA", 9, {"topics": [{"name": both.name("dotted.name")}], "allowAutoTopicCreation": True}, differs=at_once)
    both.until(lambda found: found["topics"][0]["errorCode"] == "NONE", "METADATA", 9, {"topics": [{"name": both.name("dotted.name")}]})
    both.call("METADATA", 9, {"topics": [{"name": both.name("dotted_name")}], "allowAutoTopicCreation": True},
              differs={"topics[*].errorCode": ("created-at-once", "UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION")})


@scenario
def described_page_by_page(both):
    names = sorted(both.name(stem) for stem in "abc")
    create(both, 7, *(topic(name, 4) for name in names))

    def describe(topics, limit=2000, cursor=None, **options):
        return both.call("DESCRIBE_TOPIC_PARTITIONS", 0, {"topics": [{"name": name} for name in topics], "responsePartitionLimit": limit, "cursor": cursor}, **options)

    describe(names)
    describe(reversed(names))
    describe([names[0], names[0]])
    describe([both.name("unknown"), names[1]])
    describe([""], differs={"topics[''].errorCode": ("kafka-breaks", "UNKNOWN_SERVER_ERROR", "INVALID_TOPIC_EXCEPTION"),
                            "topics[''].topicAuthorizedOperations": ("kafka-breaks", -2**31, 3576)})
    describe(["a b", names[0]])
    for limit in (1, 3, 4, 5, 0, -1, 12, 13):
        describe(names, limit)
    for name, index in ((names[0], 2), (names[1], 0), (names[1], 3), (names[1], 4), (names[1], 99), (names[2], 1), (both.name("bb"), 0), (both.name("zz"), 0)):
        describe(names, 3, {"topicName": name, "partitionIndex": index})
    describe(names, 3, {"topicName": names[0], "partitionIndex": -1})
    describe(names, 3, {"topicName": "", "partitionIndex": 0})
    describe([], 5, {"topicName": names[2], "partitionIndex": 1}, only=both.name("c"))
