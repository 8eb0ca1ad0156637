"""Groups and their members as raw requests make them, on both brokers at once.

Every member has a client id and a connection of its own, called like it: so that requests can wait for each other, and so that members
are told apart by what their ids begin with. Sessions are long except where one is to end.

Owns: the requests of a group and what members remember between them. Does not own: scenarios (`differential_groups*`), how brokers are
compared (`differential`).
"""
import struct

LONG_MS, SHORT_MS = 20_000, 1_500
JOIN_VERSIONS = (0, 1, 3, 4, 5, 7, 9)
ANY_LEADER = ("leader", "members[*]")  # where any member may become it
STABLE, PREPARING, COMPLETING, EMPTY = "Stable", "PreparingRebalance", "CompletingRebalance", "Empty"


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def subscription(*topics, data=b""):
    """What a consumer tells its leader, version 0."""
    return struct.pack(">hi", 0, len(topics)) + b"".join(text(topic) for topic in topics) + struct.pack(">i", len(data)) + data


def protocols(*names, data=b"m"):
    """Subscriptions that differ from protocol to protocol: Kafka's coordinator reads those of consumers."""
    return [{"name": name, "metadata": subscription("topic", data=data + name.encode())} for name in names]


class Group:
    """A group by one name on both brokers."""

    def __init__(self, both, stem="group"):
        self.both, self.id = both, both.name(stem)
        # Kafka makes its topic of offsets when the first coordinator is looked for, and reads it.
        both.until(lambda answer: answer["coordinators"][0]["errorCode"] == "NONE", "FIND_COORDINATOR", 4, {"coordinatorKeys": [self.id]})
        both.until(lambda answer: answer["errorCode"] == "UNKNOWN_MEMBER_ID", "HEARTBEAT", 4, {"groupId": self.id, "memberId": "nobody"})

    def member(self, label, **options):
        return Member(self, label, **options)

    def describe(self, version=5, **options):
        return self.both.call("DESCRIBE_GROUPS", version, {"groups": [self.id]}, **options)

    def until(self, state, members=None, **options):
        """Until it is in that state, and has so many members."""
        def is_so(answer):
            group = answer["groups"][0]
            return group["groupState"] == state and members in (None, len(group["members"]))
        return self.both.until(is_so, "DESCRIBE_GROUPS", 5, {"groups": [self.id]}, **options)

    def call(self, api, version, body, **options):
        return self.both.call(api, version, {"groupId": self.id} | body, **options)

    def heartbeat(self, member, generation, version=4, instance=None, **options):
        return self.call("HEARTBEAT", version, {"memberId": member, "generationId": generation, "groupInstanceId": instance}, **options)

    def sync(self, member, generation, version=5, assignments=(), kind="consumer", protocol="range", instance=None, **options):
        body = {"memberId": member, "generationId": generation, "groupInstanceId": instance, "protocolType": kind, "protocolName": protocol,
                "assignments": assigned(*assignments)}
        return self.call("SYNC_GROUP", version, body, **options)

    def leave(self, *members, version=5, **options):
        """Members are ids, or bodies."""
        bodies = [member if isinstance(member, dict) else {"memberId": member} for member in members]
        if version < 3:
            return self.call("LEAVE_GROUP", version, bodies[0], **options)
        return self.call("LEAVE_GROUP", version, {"members": bodies}, **options)


class Member:
    """A member: what it says of itself, and the id that it was given."""

    def __init__(self, group, label, *, version=9, sync_version=5, kind="consumer", offers=("range",), data=b"m", session=LONG_MS, rebalance=LONG_MS,
                 instance=None):
        self.group, self.label, self.version, self.sync_version = group, label, version, sync_version
        self.kind, self.offers, self.data, self.instance = kind, offers, data, instance
        self.session, self.rebalance = session, rebalance
        self.id, self.joined = "", None

    def body(self, **more):
        return {"groupId": self.group.id, "sessionTimeoutMs": self.session, "rebalanceTimeoutMs": self.rebalance, "memberId": self.id,
                "groupInstanceId": self.instance, "protocolType": self.kind, "protocols": protocols(*self.offers, data=self.data), "reason": "test"} | more

    def ask(self, *, differs=None, ignore=(), **more):
        """A JoinGroup and its answer, whatever it is."""
        return self.group.both.call("JOIN_GROUP", self.version, self.body(**more), connection=self.label, client=self.label, differs=differs, ignore=ignore)

    def get_id(self):
        """The first of two requests, for versions that want two."""
        if self.version >= 4 and self.instance is None and self.id == "":
            self.id = self.ask().at("memberId")
        return self

    def start(self, *, differs=None, ignore=(), wait=10, **more):
        """A JoinGroup that will be answered when the others have come."""
        self.get_id()
        return self.group.both.start("JOIN_GROUP", self.version, self.body(**more), connection=self.label, client=self.label, differs=differs,
                                     ignore=ignore, wait=wait)

    def finish(self, started):
        self.joined = started.answer()
        self.id = self.joined.at("memberId")
        return self

    def join(self, **options):
        return self.finish(self.start(**options))

    @property
    def generation(self):
        return self.joined.at("generationId")

    def start_sync(self, assignments=(), *, differs=None, wait=10, **more):
        body = {"groupId": self.group.id, "memberId": self.id, "generationId": self.generation, "groupInstanceId": self.instance, "protocolType": self.kind,
                "protocolName": self.joined.at("protocolName"), "assignments": assigned(*assignments)} | more
        return self.group.both.start("SYNC_GROUP", self.sync_version, body, connection=self.label, client=self.label, differs=differs, wait=wait)

    def sync(self, *assignments, **more):
        """A SyncGroup and its answer."""
        return self.start_sync(assignments, **more).answer()

    def alone(self, **options):
        """Joins as the only one and assigns itself something."""
        self.join(**options)
        self.sync((self.id, b"all"))
        return self

    def heartbeat(self, version=4, **options):
        return self.group.heartbeat(self.id, self.generation, version, instance=self.instance, **options)


def assigned(*pairs):
    return [{"memberId": member, "assignment": assignment} for member, assignment in pairs]


def pair(group, first="first", second="second", **options):
    """Two members in one stable generation; the first leads."""
    one, two = group.member(first, **options).alone(), group.member(second, **options)
    together(group, one, two)
    one_synced = one.start_sync([(one.id, b"one"), (two.id, b"two")])
    two_synced = two.start_sync()
    one_synced.answer(), two_synced.answer()
    return one, two


def together(group, one, two):
    """`one` is in the group, `two` comes, both join."""
    comes = two.start()
    group.until(PREPARING, 2)
    again = one.start()
    one.finish(again)
    two.finish(comes)


def topics(both, *stems):
    """Topics with two partitions, as (name, id)."""
    made = []
    for stem in stems or ("topic",):
        name = both.name(stem)
        topic = both.call("CREATE_TOPICS", 7, {"topics": [{"name": name, "numPartitions": 2, "replicationFactor": 1}], "timeoutMs": 9000},
                          ignore=["topics[*].configs[*]"])
        made.append((name, topic.at("topics", 0, "topicId")))
        both.until(lambda answer: [p["errorCode"] for p in answer["topics"][0]["partitions"]] == ["NONE", "NONE"], "METADATA", 12, {"topics": [{"name": name}]})
    return made


def at(topic, *partitions):
    """A topic of a commit; partitions are numbers or bodies."""
    bodies = [partition if isinstance(partition, dict) else {"partitionIndex": partition} for partition in partitions]
    return {"name": topic[0], "topicId": topic[1], "partitions": [{"committedOffset": 5, "committedMetadata": "why"} | body for body in bodies]}


def commit(group, topic, version, member="", generation=-1, partitions=(0,), instance=None, **options):
    body = {"memberId": member, "generationIdOrMemberEpoch": generation, "groupInstanceId": instance, "topics": [at(topic, *partitions)]}
    return group.call("OFFSET_COMMIT", version, body, **options)


def fetch(group, topic, version, partitions=(0,), **options):
    """topic None asks for all."""
    if version < 8:
        asked = None if topic is None else [{"name": topic[0], "partitionIndexes": partitions}]
        return group.call("OFFSET_FETCH", version, {"topics": asked}, **options)
    return group.both.call("OFFSET_FETCH", version, {"groups": [wanted(group, topic, partitions)]}, **options)


def wanted(group, topic, partitions=(0,), **more):
    asked = None if topic is None else [{"name": topic[0], "topicId": topic[1], "partitionIndexes": partitions}]
    return {"groupId": group.id, "topics": asked} | more


NOWHERE = ("no-such-topic", "AAAAAAAAAAAAAAAAAAAAZw")
