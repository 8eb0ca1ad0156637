"""Classic consumer groups as raw requests see them, beside a real Kafka: joining, assigning, leaving, expiring, describing, committing.

Every member has a client id and a connection of its own, called like it: so that requests can wait for each other, and so that members
are told apart by what their ids begin with. Sessions are long except where one is to end.

Owns: the scenarios. Does not own: how brokers are compared (`differential`), what stock clients make of it (`groups`).
"""
import struct

from differential import ABSENT, CLOSED, RESPONSE, SETTINGS, SILENT, scenario

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

    def start_sync(self, assignments=(), *, differs=None, **more):
        body = {"groupId": self.group.id, "memberId": self.id, "generationId": self.generation, "groupInstanceId": self.instance, "protocolType": self.kind,
                "protocolName": self.joined.at("protocolName"), "assignments": assigned(*assignments)} | more
        return self.group.both.start("SYNC_GROUP", self.sync_version, body, connection=self.label, client=self.label, differs=differs)

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


# --- finding coordinators -----------------------------------------------------------------------------------------------------

@scenario
def coordinators(both):
    group = Group(both)
    for version in (0, 1, 3):
        both.call("FIND_COORDINATOR", version, {"key": group.id, "keyType": 0})
        both.call("FIND_COORDINATOR", version, {"key": "", "keyType": 0})
    for version in (1, 3):
        both.call("FIND_COORDINATOR", version, {"key": group.id, "keyType": 2})
        both.call("FIND_COORDINATOR", version, {"key": group.id, "keyType": 3})
        both.call("FIND_COORDINATOR", version, {"key": group.id, "keyType": -1})
    for version in (4, 5, 6):
        both.call("FIND_COORDINATOR", version, {"keyType": 0, "coordinatorKeys": [group.id, both.name("other")]})
        both.call("FIND_COORDINATOR", version, {"keyType": 0, "coordinatorKeys": [group.id, group.id]})
        both.call("FIND_COORDINATOR", version, {"keyType": 0, "coordinatorKeys": []})
        both.call("FIND_COORDINATOR", version, {"keyType": 0, "coordinatorKeys": [""]})
        both.call("FIND_COORDINATOR", version, {"keyType": 2, "coordinatorKeys": [group.id]})
        both.call("FIND_COORDINATOR", version, {"keyType": 2, "coordinatorKeys": [""]})
        both.call("FIND_COORDINATOR", version, {"keyType": 7, "coordinatorKeys": [group.id]})
        both.call("FIND_COORDINATOR", version, {"keyType": 7, "coordinatorKeys": []})
    found = {"coordinators[*:0 *]": ("share-groups", ..., ...)}
    both.until(lambda answer: answer["coordinators"][0]["errorCode"] != "COORDINATOR_NOT_AVAILABLE", "FIND_COORDINATOR", 6,
               {"keyType": 2, "coordinatorKeys": [f"{group.id}:AAAAAAAAAAAAAAAAAAAAAQ:0"]}, differs=found)


@scenario
def coordinators_of_transactions(both):
    name = both.name("transactional")
    both.until(lambda answer: answer["coordinators"][0]["errorCode"] == "NONE", "FIND_COORDINATOR", 4, {"keyType": 1, "coordinatorKeys": [name]})
    for version in (1, 3):
        both.call("FIND_COORDINATOR", version, {"key": name, "keyType": 1})
        both.call("FIND_COORDINATOR", version, {"key": "", "keyType": 1})
    both.call("FIND_COORDINATOR", 6, {"keyType": 1, "coordinatorKeys": [name, ""]})


# --- joining ------------------------------------------------------------------------------------------------------------------

@scenario
def joins_that_are_refused(both):
    for version in JOIN_VERSIONS:
        group = Group(both, f"refused{version}")
        new = group.member("new", version=version)
        new.ask(groupId="")
        new.ask(memberId="nobody")
        new.ask(groupId="", memberId="nobody")
        new.ask(sessionTimeoutMs=SETTINGS["group.min.session.timeout.ms"] - 1)
        new.ask(sessionTimeoutMs=0)
        new.ask(sessionTimeoutMs=-1)
        new.ask(sessionTimeoutMs=1_800_001)
        new.ask(sessionTimeoutMs=1, memberId="nobody")
        new.ask(protocols=[], memberId="nobody")
        new.ask(protocolType="", memberId="nobody")
        if version >= 5:
            new.ask(groupInstanceId="static", memberId="nobody")
        group.describe(6)
        new.ask(protocols=[])
        new.ask(protocolType="")
    group.describe(differs={"groups[*].groupState": ("refused-join-leaves-no-group", "Empty", "Dead")})
    group.describe(6, differs={"groups[*].groupState": ("refused-join-leaves-no-group", "Empty", "Dead"),
                               "groups[*].errorCode": ("refused-join-leaves-no-group", "NONE", "GROUP_ID_NOT_FOUND")})
    new.ask(protocols=[], memberId="nobody", differs={"errorCode": ("refused-join-leaves-no-group", "INCONSISTENT_GROUP_PROTOCOL", "UNKNOWN_MEMBER_ID")})


@scenario
def one_member_in_every_version(both):
    for version in range(10):
        group = Group(both, f"single{version}")
        member = group.member("only", version=version, sync_version=min(version, 5), offers=("range", "other"))
        member.join()
        group.describe()
        member.sync((member.id, b"all"))
        member.heartbeat(min(version, 4))
        group.describe(min(version, 6))
        group.leave(member.id, version=min(version, 5))
        group.describe()
        group.describe(6)


@scenario
def member_ids_are_required(both):
    group = Group(both)
    first, second = group.member("first").get_id(), group.member("second").get_id()
    group.describe()
    both.call("LIST_GROUPS", 5, {}, only=group.id)
    group.heartbeat(first.id, 0)
    group.heartbeat(first.id, -1)
    group.sync(first.id, 0)
    group.leave(second.id)
    second.ask()
    second.id = ""
    second.get_id()
    # Whether the second, who has an id and has not used it, is waited for.
    first.join()
    group.describe()
    first.sync((first.id, b"all"))
    third = group.member("third").get_id()
    group.describe()
    first.heartbeat()
    waiting = third.start()
    group.until(PREPARING, 2)
    first.heartbeat()
    again = first.start()
    group.leave(second.id)
    first.finish(again)
    third.finish(waiting)
    group.leave(third.id, first.id, second.id)
    group.describe()


@scenario
def inconsistent_protocols(both):
    for version in JOIN_VERSIONS:
        group = Group(both, f"picky{version}")
        group.member("first", version=version, offers=("range", "sticky")).alone()
        other = group.member("other", version=version)
        other.ask(protocolType="connect")
        other.ask(protocolType="")
        other.ask(protocols=[])
        other.ask(protocols=protocols("unheard"))
        other.ask(protocolType="connect", memberId="nobody")
        other.ask(protocols=protocols("unheard"), memberId="nobody")
        if version >= 5:
            other.ask(groupInstanceId="static", protocols=protocols("unheard"))
            other.ask(groupInstanceId="static", protocolType="connect")
        group.describe()


@scenario
def known_member_joins_again(both):
    for version in (0, 3, 5, 9):
        group = Group(both, f"again{version}")
        member = group.member("only", version=version)
        member.join()
        member.join()                                       # while its assignment is awaited: the same generation
        member.join(protocols=protocols("range", data=b"other"))  # another subscription: the next
        member.sync((member.id, b"all"))
        member.join()                                       # the leader may always
        group.describe()
        member.sync((member.id, b"all"))
        member.join(protocols=protocols("range", "more"))
        member.join(protocols=protocols("more"))
        member.join(protocolType="connect")
        group.describe()


@scenario
def follower_joins_again(both):
    group = Group(both)
    one, two = pair(group)
    two.join()                                              # nothing new: the same generation at once
    group.describe()
    changed = two.start(protocols=protocols("range", data=b"other"))
    group.until(PREPARING, 2)
    one.heartbeat(), two.heartbeat()
    one.sync()
    two.finish(group_joins(one, changed))
    group.describe()
    two.join(protocols=protocols("range", data=b"other"))   # completing, not the leader
    one.join()
    group.describe()


def group_joins(one, started):
    """The other joins too; what was started can be answered then."""
    one.finish(one.start())
    return started


@scenario
def two_members_join(both):
    for version in JOIN_VERSIONS:
        group = Group(both, f"two{version}")
        one, two = pair(group, version=version, sync_version=min(version, 5))
        group.describe()
        one.heartbeat(), two.heartbeat()
        group.leave(one.id, version=min(version, 5))
        two.heartbeat()
        group.describe()
        two.join()
        two.sync((two.id, b"all"))
        group.describe()


@scenario
def members_speak_different_versions(both):
    group = Group(both)
    members = [group.member("m0", version=0, sync_version=0).alone(), group.member("m9", instance="i9"), group.member("m4", version=4, sync_version=2)]
    waiting = [member.start() for member in members[1:]]
    group.until(PREPARING, 3)
    again = members[0].start()
    for member, started in zip(members, [again, *waiting]):
        member.finish(started)
    synced = [member.start_sync() for member in members[1:]]
    members[0].sync(*((member.id, member.label.encode()) for member in members))
    for started in synced:
        started.answer()
    group.describe()
    members[1].version, members[1].id = 5, ""
    members[1].join()
    group.describe(0)


@scenario
def ids_that_were_not_used(both):
    topic, = topics(both)
    group = Group(both)
    pending = group.member("pending").get_id()
    for generation in (-1, 0, 1):
        commit(group, topic, 8, pending.id, generation)
    fetch(group, topic, 8)
    both.call("OFFSET_DELETE", 0, {"groupId": group.id, "topics": [{"name": topic[0], "partitions": [{"partitionIndex": 0}]}]})
    both.call("DELETE_GROUPS", 2, {"groupsNames": [group.id]})
    group.heartbeat(pending.id, 0)
    pending.ask()
    group.describe(6)
    other = Group(both, "other")
    pending = other.member("pending").get_id()
    pending.ask(groupInstanceId="i1", differs={"errorCode": ("unused-id-with-an-instance", "UNKNOWN_SERVER_ERROR", "UNKNOWN_MEMBER_ID"),
                                               "memberId": ("unused-id-with-an-instance", "", ...)})
    other.member("stranger").ask(memberId=pending.id, protocolType="connect")
    other.describe()


@scenario
def protocols_are_voted_for(both):
    for name, offers in {
        "most": (("range", "sticky"), ("sticky", "range"), ("sticky", "range")),
        "common": (("range", "sticky"), ("range", "other", "sticky"), ("sticky",)),
        "last": (("a", "b", "c"), ("c", "b", "a"), ("b",)),
    }.items():
        group = Group(both, name)
        members = [group.member(f"m{n}", offers=all_of) for n, all_of in enumerate(offers)]
        members[0].alone()
        waiting = [member.start() for member in members[1:]]
        group.until(PREPARING, len(members))
        again = members[0].start()
        for member, started in zip(members, [again, *waiting]):
            member.finish(started)
        group.describe()


@scenario
def votes_may_be_equal(both):
    for offers in (("b", "a"), ("range", "sticky")):
        tie = offers != ("b", "a")
        differs = {"protocolName": ("equal-votes", "sticky", "range")} if tie else {}
        told = {"members[*].metadata": ("equal-votes", ..., ...)} if tie else {}
        group = Group(both, offers[0])
        one, two = group.member("first", offers=offers).alone(), group.member("second", offers=offers[::-1])
        waiting = two.start(differs=differs)
        group.until(PREPARING, 2)
        again = one.start(differs=differs | told)
        one.finish(again), two.finish(waiting)


@scenario
def protocol_is_offered_twice(both):
    group = Group(both)
    one = group.member("first", offers=("a", "a", "b"))
    reason = "protocol-offered-twice"
    one.join(differs={"protocolName": (reason, "b", "a"), "members[*].metadata": (reason, ..., ...)})
    one.sync(differs={"protocolName": (reason, "b", "a")})


@scenario
def subscription_that_cannot_be_read(both):
    group = Group(both)
    member = group.member("only")
    broken = [{"name": "range", "metadata": struct.pack(">hi", 0, 1)}]
    member.get_id().start(protocols=broken, wait=1, differs={"": ("unreadable-subscription", SILENT, RESPONSE)}).answer()


@scenario
def group_is_full(both):
    group = Group(both)
    # Kafka goes on without who was sent away only when the rebalance time-out has passed.
    members = [group.member(f"m{n}", rebalance=2 * SHORT_MS) for n in range(SETTINGS["group.max.size"])]
    members[0].alone()
    waiting = [member.start() for member in members[1:]]
    group.until(PREPARING, len(members))
    again = members[0].start()
    for member, started in zip(members, [again, *waiting]):
        member.finish(started)

    def nobody_more():
        group.member("extra").ask()
        group.member("extra").ask(memberId="nobody")
        group.member("extra", instance="static").ask()
        group.member("old", version=3).ask()
        group.member("old", version=1).ask(memberId="nobody")

    nobody_more()
    members[0].sync(*((member.id, b"some") for member in members))
    nobody_more()
    members[1].join()                                       # the same again
    # While members join, those count who wait; the last to come is one too many.
    waiting = [members[1].start(protocols=protocols("range", data=b"new"), ignore=ANY_LEADER)]
    group.until(PREPARING, 4)
    come = [group.member(f"s{n}", instance=f"i{n}", rebalance=2 * SHORT_MS) for n in range(3)]
    waiting += [member.start(ignore=ANY_LEADER) for member in come]
    group.until(PREPARING, 7)
    nobody_more()
    for member in (members[0], members[2], members[3]):
        member.ask()
    for member, started in zip((members[1], *come), waiting):
        member.finish(started)
    group.describe()


@scenario
def leader_leaves(both):
    group = Group(both)
    one, two = pair(group)
    comes = group.member("third")
    waiting = comes.start(ignore=ANY_LEADER)
    group.until(PREPARING, 3)
    again = two.start(ignore=ANY_LEADER)
    group.leave(one.id)
    two.finish(again), comes.finish(waiting)
    group.describe()


@scenario
def requests_sent_again(both):
    """On another connection, as by a client that gave the first one up."""
    group = Group(both)
    one, two = group.member("first").alone(), group.member("second")
    lost = {"": ("repeated-request", SILENT, RESPONSE)}
    first = two.start(wait=2, differs=lost)
    group.until(PREPARING, 2)
    second = both.start("JOIN_GROUP", 9, two.body(), connection="other", client="second")
    first.answer()
    again = one.start()
    one.finish(again), two.finish(second)


@scenario
def names_of_all_kinds(both):
    for name in (" ", "ä/ö:\n", "x" * 300):
        group = Group(both, name)
        group.member("only").alone()
        group.describe()
    group = Group(both)
    for instance in ("", " ", "ä", "x" * 300):
        group.member("static", instance=instance).alone()
        group.describe()
        group.leave({"memberId": "", "groupInstanceId": instance})
    for client in (None, "", " ", "x" * 300):
        member = group.member("client")
        for _ in range(2):
            member.id = both.call("JOIN_GROUP", 9, member.body(), client=client).at("memberId")
        group.describe()
        group.leave(member.id)


# --- static members -----------------------------------------------------------------------------------------------------------

@scenario
def static_members(both):
    for version in (5, 7, 9):
        group = Group(both, f"static{version}")
        sync_version = {5: 3, 7: 5, 9: 5}[version]
        first = group.member("first", version=version, sync_version=sync_version, instance="i1")
        first.alone()
        group.describe()
        old = first.id
        first.heartbeat(3)
        first.id = ""
        first.join()                                        # the same instance again
        group.describe()
        group.heartbeat(old, 1, instance="i1")              # the replaced member
        group.heartbeat(old, 1)
        group.heartbeat(first.id, 1, instance="i1")
        group.heartbeat(first.id, 1, instance="i2")
        group.heartbeat(first.id, 1)
        group.sync(old, 1, instance="i1")
        group.sync(old, 1)
        first.ask(memberId=old)
        first.ask(memberId=old, groupInstanceId=None)
        first.ask(memberId=old, groupInstanceId="i2")
        first.sync()
        first.sync((first.id, b"changed"))
        group.leave({"memberId": old, "groupInstanceId": "i1"}, version=3)
        group.leave({"memberId": old}, version=3)
        group.leave({"memberId": "", "groupInstanceId": "i2"}, version=4)
        group.describe()
        group.leave({"memberId": "", "groupInstanceId": "i1"}, version=5)
        group.describe()


@scenario
def static_member_is_replaced_with_another_subscription(both):
    group = Group(both)
    first = group.member("first", instance="i1", offers=("range", "sticky"))
    first.alone()
    first.id = ""
    first.join(protocols=protocols("range", "sticky", data=b"other"))
    group.describe()
    first.sync((first.id, b"again"))
    group.describe()
    first.id = ""
    first.join(protocols=protocols("sticky"))
    group.describe()
    first.sync((first.id, b"again"), protocolName="sticky")
    first.id = ""
    first.join(protocols=protocols("unheard"))
    group.describe()


@scenario
def static_follower_is_replaced(both):
    group = Group(both)
    one = group.member("first", instance="i1").alone()
    two = group.member("second", instance="i2")
    together(group, one, two)
    one_synced, two_synced = one.start_sync([(one.id, b"one"), (two.id, b"two")]), two.start_sync()
    one_synced.answer(), two_synced.answer()
    old, two.id = two.id, ""
    two.join()
    group.heartbeat(old, two.generation, instance="i2")
    two.heartbeat(), one.heartbeat()
    two.sync()
    group.describe()
    # The leader is replaced: whether the new one is told to skip the assignment.
    for version in (9, 8):
        one.version, one.id = version, ""
        one.join()
        one.sync()
        group.describe()


@scenario
def static_member_is_replaced_while_it_waits(both):
    group = Group(both)
    one = group.member("first", instance="i1").alone()
    two = group.member("second", instance="i2")
    waits = two.start(differs={"memberId": ("fenced-join-names-nobody", ..., "")})
    group.until(PREPARING, 2)
    other = group.member("third", instance="i2")
    takes = other.start()
    waits.answer()
    again = one.start()
    one.finish(again), other.finish(takes)
    group.describe(differs={"groups[*].members[i2].clientId": ("latest-client", "second", "third")})
    waits_for_sync = other.start_sync()
    last = group.member("fourth", instance="i2")
    takes = last.start()
    waits_for_sync.answer()
    latest = {"groups[*].members[i2].clientId": ("latest-client", "second", "fourth")}
    group.until(PREPARING, 2, differs=latest)
    again = one.start()
    one.finish(again), last.finish(takes)
    group.describe(differs=latest)


@scenario
def static_members_leave_and_return(both):
    group = Group(both)
    one = group.member("first", instance="i1").alone()
    two = group.member("second")
    together(group, one, two)
    group.leave({"memberId": one.id, "groupInstanceId": "i2"})
    group.leave({"memberId": two.id, "groupInstanceId": "i1"})
    group.leave({"memberId": two.id, "groupInstanceId": "i9"})
    group.leave({"memberId": one.id}, {"memberId": "", "groupInstanceId": "i1"})
    group.describe()
    one.ask()
    group.leave({"memberId": "", "groupInstanceId": ""})
    group.leave({"memberId": ""})
    group.leave(two.id)
    group.describe()


# --- assigning ----------------------------------------------------------------------------------------------------------------

@scenario
def assignments_are_given(both):
    group = Group(both)
    one, two = group.member("first").alone(), group.member("second")
    together(group, one, two)
    follower = two.start_sync([(one.id, b"wrong"), (two.id, b"wrong")])  # a follower's are ignored
    leader = one.start_sync([(one.id, b"one"), ("nobody", b"lost")])     # and nobody's; who is left out gets nothing
    leader.answer(), follower.answer()
    group.describe()
    one.sync((one.id, b"changed"), (two.id, b"changed"))    # too late
    two.sync()
    group.describe()


@scenario
def assignments_may_be_empty(both):
    group = Group(both)
    one = group.member("first").join()
    one.sync()
    group.describe()
    one.join()
    one.sync((one.id, b""))
    one.join()
    one.sync((one.id, b"first"), (one.id, b"second"))
    group.describe()


@scenario
def syncs_that_are_refused(both):
    unknown = Group(both, "unknown")
    group = Group(both)
    member = group.member("only")
    member.get_id().join()
    for version in (0, 1, 3, 4, 5):
        unknown.sync("nobody", 1, version)
        unknown.sync("", -1, version)
        group.call("SYNC_GROUP", version, {"groupId": "", "memberId": member.id, "generationId": 1, "protocolType": "consumer", "protocolName": "range"})
        group.sync("nobody", 1, version)
        group.sync("", 1, version)
        group.sync(member.id, 2, version)
        group.sync(member.id, 0, version)
        group.sync(member.id, -1, version)
        group.sync("nobody", 7, version)
        if version >= 3:
            group.sync(member.id, 1, version, instance="i1")
    group.sync(member.id, 1, kind=None)
    group.sync(member.id, 1, protocol=None)
    group.sync(member.id, 1, kind=None, protocol=None)
    group.sync(member.id, 1, kind="connect")
    group.sync(member.id, 1, kind="")
    group.sync(member.id, 1, protocol="sticky")
    group.sync("nobody", 1, kind=None)
    unknown.sync("nobody", 1, kind=None)
    group.sync(member.id, 7, protocol="sticky")
    member.sync((member.id, b"all"))
    group.sync(member.id, 1, protocol="sticky")
    group.sync(member.id, 7)
    group.leave(member.id)
    group.sync(member.id, 1)
    group.sync(member.id, 2)


@scenario
def syncs_while_members_join(both):
    group = Group(both)
    one, two = group.member("first").alone(), group.member("second")
    waiting = two.start()
    group.until(PREPARING, 2)
    one.sync()
    group.sync(one.id, 7)
    group.sync(two.id, 1)
    group.heartbeat(one.id, 1), group.heartbeat(two.id, 1), group.heartbeat(one.id, 2)
    again = one.start()
    one.finish(again), two.finish(waiting)
    held = two.start_sync()                                 # answered when somebody else comes
    third = group.member("third")
    waiting = third.start()
    group.until(PREPARING, 3)
    held.answer()
    again = [one.start(), two.start()]
    one.finish(again[0]), two.finish(again[1]), third.finish(waiting)
    held = two.start_sync()
    group.until(COMPLETING, 3)
    two.heartbeat(), third.heartbeat()
    group.leave(third.id)
    held.answer()
    group.describe()


# --- heartbeats and leaving ---------------------------------------------------------------------------------------------------

@scenario
def heartbeats(both):
    unknown, group = Group(both, "unknown"), Group(both)
    member = group.member("only").join()
    for state in (COMPLETING, STABLE, EMPTY):
        for version in (0, 2, 3, 4):
            unknown.heartbeat("nobody", 1, version)
            group.call("HEARTBEAT", version, {"groupId": "", "memberId": member.id, "generationId": 1})
            group.heartbeat(member.id, 1, version)
            group.heartbeat(member.id, 0, version)
            group.heartbeat(member.id, 2, version)
            group.heartbeat(member.id, -1, version)
            group.heartbeat("nobody", 1, version)
            group.heartbeat("nobody", 7, version)
            group.heartbeat("", 1, version)
            if version >= 3:
                group.heartbeat(member.id, 1, version, instance="i1")
                group.heartbeat("nobody", 1, version, instance="i1")
        if state == COMPLETING:
            member.sync((member.id, b"all"))
        elif state == STABLE:
            group.leave(member.id)


@scenario
def leaving(both):
    unknown, group = Group(both, "unknown"), Group(both)
    for version in range(6):
        unknown.leave("nobody", version=version)
        unknown.leave("", version=version)
        group.call("LEAVE_GROUP", version, {"groupId": "", "memberId": "nobody", "members": [{"memberId": "nobody"}]})
        one, two = pair(group, version=min(version, 4))
        group.leave("nobody", version=version)
        group.leave("", version=version)
        if version >= 3:
            group.leave(version=version)
            unknown.leave(version=version)
            group.leave("nobody", {"memberId": "", "groupInstanceId": "i1"}, {"memberId": one.id, "groupInstanceId": "i1"}, two.id, two.id, version=version)
        else:
            group.leave(two.id, version=version)
        group.describe()
        group.leave(one.id, version=version)
        group.leave(one.id, version=version)
        group.describe()


# --- time ---------------------------------------------------------------------------------------------------------------------

@scenario
def sessions_end(both):
    group = Group(both)
    one, two = pair(group, session=SHORT_MS)
    static = group.member("static", instance="i1", session=SHORT_MS)
    waiting = static.start()
    group.until(PREPARING, 3)
    one.finish(group_starts(one, two)), static.finish(waiting)
    group.until(EMPTY, 0)
    one.heartbeat(), static.heartbeat()
    one.ask()
    static.ask()
    group.leave(one.id)
    # An id that was not used in time.
    late = group.member("late", session=SHORT_MS).get_id()
    early = group.member("early").alone()
    comes = group.member("comes")
    waiting = comes.start()
    early.finish(early.start()), comes.finish(waiting)
    late.ask()
    group.describe()


def group_starts(*members):
    started = [member.start() for member in members]
    for member, one in zip(members[1:], started[1:]):
        member.finish(one)
    return started[0]


@scenario
def rebalance_goes_on_without_who_does_not_join(both):
    group = Group(both)
    one, two = pair(group, rebalance=SHORT_MS)
    two.join(protocols=protocols("range", data=b"new"))     # the first, who led, does not come
    group.describe()
    one.heartbeat(), two.heartbeat()
    one.ask()


@scenario
def rebalance_goes_on_without_who_does_not_assign(both):
    group = Group(both)
    one, two = group.member("first", rebalance=SHORT_MS).alone(), group.member("second", rebalance=SHORT_MS)
    together(group, one, two)
    two.sync()                                              # is told to join again when the first is given up
    one.heartbeat(), two.heartbeat()
    group.describe()
    two.join()
    two.sync()
    group.describe()
    # A member that never asks for what it is assigned.
    three = group.member("third", rebalance=SHORT_MS)
    together(group, two, three)
    two.sync((two.id, b"two"), (three.id, b"three"))
    group.describe()
    three.heartbeat()
    group.until(PREPARING, 1)
    three.heartbeat(), three.sync()
    two.join()
    group.describe()


@scenario
def static_member_that_does_not_join_stays(both):
    group = Group(both)
    one = group.member("first", instance="i1", rebalance=SHORT_MS).alone()
    two = group.member("second", rebalance=SHORT_MS)
    two.join()
    group.describe()
    two.sync((two.id, b"two"), (one.id, b"one"))
    group.describe()
    one.heartbeat()


# --- what people see ----------------------------------------------------------------------------------------------------------

@scenario
def groups_are_described(both):
    group = Group(both)
    for version in range(7):
        group.describe(version)
        both.call("DESCRIBE_GROUPS", version, {"groups": [""]})
        both.call("DESCRIBE_GROUPS", version, {"groups": []})
        both.call("DESCRIBE_GROUPS", version, {"groups": [group.id, group.id, both.name("other")]})
    member = group.member("only", instance="i1", offers=("range", "other")).join()
    for version in (0, 4, 6):
        group.describe(version)
    member.sync((member.id, b"all"))
    for version in range(7):
        group.describe(version)
        if version >= 3:
            both.call("DESCRIBE_GROUPS", version, {"groups": [group.id, both.name("other"), ""], "includeAuthorizedOperations": True})
    group.leave({"memberId": "", "groupInstanceId": "i1"})
    for version in (0, 4, 5, 6):
        group.describe(version)
    both.call("DELETE_GROUPS", 2, {"groupsNames": [group.id]})
    for version in (0, 4, 5, 6):
        group.describe(version)


@scenario
def groups_are_listed(both):
    first, second, third = Group(both, "first"), Group(both, "second"), Group(both, "third")
    first.member("only", kind="connect").alone()
    second.member("only").join()
    topic = topics(both)[0]
    commit(third, topic, 8)
    member = Group(both, "fourth").member("only").alone()
    member.group.leave(member.id)
    mine = {"only": ("first" + both.suffix, "second" + both.suffix, "third" + both.suffix, "fourth" + both.suffix)}
    for version in range(6):
        both.call("LIST_GROUPS", version, {}, **mine)
    for states in (["Stable"], ["stable"], ["STABLE", "empty"], ["CompletingRebalance"], ["completingrebalance", "Empty"], ["Dead"], ["Nonsense"], [""],
                   ["Stable", "Nonsense"], ["Assigning"], ["Unknown"], ["NotReady"]):
        both.call("LIST_GROUPS", 4, {"statesFilter": states}, **mine)
        both.call("LIST_GROUPS", 5, {"statesFilter": states}, **mine)
    for types in (["classic"], ["Classic"], ["CLASSIC", "consumer"], ["consumer"], ["share"], ["streams"], ["nonsense"], ["unknown"], ["classic", "nonsense"], [""]):
        both.call("LIST_GROUPS", 5, {"typesFilter": types}, **mine)
    both.call("LIST_GROUPS", 5, {"typesFilter": ["classic"], "statesFilter": ["Empty"]}, **mine)
    both.call("LIST_GROUPS", 5, {"typesFilter": ["consumer"], "statesFilter": ["Empty"]}, **mine)


@scenario
def groups_are_deleted(both):
    group, gone = Group(both), Group(both, "gone")
    topic = topics(both)[0]
    for version in range(3):
        both.call("DELETE_GROUPS", version, {"groupsNames": [group.id]})
        both.call("DELETE_GROUPS", version, {"groupsNames": [""]})
        both.call("DELETE_GROUPS", version, {"groupsNames": []})
        member = group.member("only").join()
        both.call("DELETE_GROUPS", version, {"groupsNames": [group.id]})
        member.sync((member.id, b"all"))
        commit(gone, topic, 8)
        both.call("DELETE_GROUPS", version, {"groupsNames": [group.id, gone.id, both.name("unknown"), ""]})
        fetch(gone, topic, 8)
        group.leave(member.id)
        commit(gone, topic, 8)
        both.call("DELETE_GROUPS", version, {"groupsNames": [gone.id, group.id]})
        both.call("DELETE_GROUPS", version, {"groupsNames": [group.id, group.id]})
        member.ask()
        member.heartbeat()
        group.describe(6)


# --- offsets ------------------------------------------------------------------------------------------------------------------

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


@scenario
def offsets_of_no_group(both):
    topic, = topics(both)
    for version in range(2, 11):
        group = Group(both, f"simple{version}")
        gone = {"topics[*].partitions[0].errorCode": ("commit-without-group", "GROUP_ID_NOT_FOUND", "ILLEGAL_GENERATION")} if version >= 9 else {}
        commit(group, topic, version, generation=0, differs=gone)
        commit(group, topic, version, generation=3, member="nobody", differs=gone)
        commit(group, topic, version, member="nobody", generation=0, differs=gone)
        if version >= 7:
            commit(group, topic, version, instance="i1", generation=1, differs=gone)
            commit(group, topic, version, instance="i1", member="nobody")
            group = Group(both, f"simpler{version}")
        commit(group, topic, version, member="nobody")
        commit(group, topic, version)
        fetch(group, topic, max(version, 1))
        commit(group, topic, version, generation=0)
        commit(group, topic, version, generation=1, member="nobody")
        commit(group, topic, version, member="nobody", partitions=[1])
        fetch(group, None, max(version, 2))
        group.describe()
        commit(group, NOWHERE, version)
        commit(group, topic, version, partitions=[2, -1, 0])
        commit(group, NOWHERE, version, generation=7, member="nobody")
        group.call("OFFSET_COMMIT", version, {"groupId": "", "topics": [at(topic, 0)]})
        group.call("OFFSET_COMMIT", version, {"groupId": "", "topics": [at(NOWHERE, 0)]})
        group.call("OFFSET_COMMIT", version, {"topics": []})
        group.call("OFFSET_COMMIT", version, {"generationIdOrMemberEpoch": 7, "memberId": "nobody", "topics": []})
        group.call("OFFSET_COMMIT", version, {"topics": [at(topic)]}, differs={"topics[*]": ("topics-as-asked", ABSENT, ...)})


@scenario
def what_a_commit_says(both):
    topic, other = topics(both, "topic", "other")
    for version in (2, 4, 5, 6, 8, 10):
        group = Group(both, f"what{version}")
        say = [{"partitionIndex": 0, "committedOffset": 0, "committedMetadata": None}, {"partitionIndex": 1, "committedOffset": 2**62, "committedMetadata": "ä" * 2048}]
        commit(group, topic, version, partitions=say)
        fetch(group, topic, 7, [0, 1])
        say = [{"partitionIndex": 0, "committedMetadata": "x" * 4097}, {"partitionIndex": 1, "committedMetadata": "x" * 4096, "committedLeaderEpoch": 3}]
        commit(group, topic, version, partitions=say)
        fetch(group, topic, 7, [0, 1])
        twice = [{"partitionIndex": 0, "committedOffset": 7}, {"partitionIndex": 0, "committedOffset": 6, "committedMetadata": ""}]
        commit(group, topic, version, partitions=twice)
        fetch(group, topic, 8)
        group.call("OFFSET_COMMIT", version, {"topics": [at(topic, 0), at(other, 0, 1), at(NOWHERE, 0), at(topic, 1)], "retentionTimeMs": 1},
                   differs={"topics[*].partitions[1]": ("topics-as-asked", ..., ABSENT), "topics[*']": ("topics-as-asked", ABSENT, ...)})
        fetch(group, None, 8)
        commit(group, topic, version, partitions=[{"partitionIndex": 0, "committedOffset": -1}, {"partitionIndex": 1, "committedOffset": -5}])
        fetch(group, topic, 8, [0, 1])
        fetch(group, None, 8)
        commit(group, topic, version, partitions=[{"partitionIndex": 0, "committedLeaderEpoch": -2}, {"partitionIndex": 1, "committedLeaderEpoch": 2**31 - 1}])
        fetch(group, topic, 8, [0, 1], differs={"groups[*].topics[topic].partitions[0].committedLeaderEpoch": ("negative-leader-epoch", -2, -1)} if version >= 6 else {})


@scenario
def commits_of_members(both):
    topic, = topics(both)
    for version in (2, 6, 7, 9, 10):
        group = Group(both, f"members{version}")
        one, two = group.member("first").join(), group.member("second")
        for state in (COMPLETING, STABLE, PREPARING, EMPTY):
            if state == STABLE:
                one.sync((one.id, b"all"))
            elif state == PREPARING:
                waiting = two.start()
                group.until(PREPARING, 2)
            elif state == EMPTY:
                one.finish(one.start()), two.finish(waiting)
                group.leave(one.id, two.id)
            commit(group, topic, version, one.id, 1)
            commit(group, topic, version, one.id, 0)
            commit(group, topic, version, one.id, 2)
            commit(group, topic, version, one.id, -1)
            commit(group, topic, version, "nobody", 1)
            commit(group, topic, version, "nobody", -1)
            commit(group, topic, version, "", 1)
            commit(group, topic, version)
            if version >= 7:
                commit(group, topic, version, one.id, 1, instance="i1")
                commit(group, topic, version, instance="i1")
                commit(group, topic, version, instance="i1", generation=1)
            if state == PREPARING:
                commit(group, topic, version, two.id, 1)
        fetch(group, topic, 8)


@scenario
def commits_of_static_members(both):
    topic, = topics(both)
    group = Group(both)
    member = group.member("only", instance="i1").alone()
    old, member.id = member.id, ""
    member.join()
    commit(group, topic, 8, old, 1, instance="i1")
    commit(group, topic, 8, old, 1)
    commit(group, topic, 8, member.id, 1, instance="i1")
    commit(group, topic, 8, member.id, 1)
    commit(group, topic, 8, member.id, 1, instance="i2")
    commit(group, topic, 8, "", 1, instance="i1")
    commit(group, topic, 8, "", -1, instance="i1")


@scenario
def offsets_are_fetched(both):
    topic, other = topics(both, "topic", "other")
    group, empty = Group(both), Group(both, "empty")
    member = group.member("only").alone()
    commit(group, topic, 8, member.id, 1)
    commit(group, other, 8, member.id, 1, partitions=[0, 1])
    for version in range(1, 8):
        fetch(group, topic, version, [0, 1, 2, -1])
        fetch(group, topic, version, [])
        fetch(group, NOWHERE, version, [0])
        fetch(empty, topic, version, [0, 7])
        fetch(empty, NOWHERE, version, [0])
        group.call("OFFSET_FETCH", version, {"groupId": "", "topics": [{"name": topic[0], "partitionIndexes": [0]}]})
        group.call("OFFSET_FETCH", version, {"topics": []})
        group.call("OFFSET_FETCH", version, {"topics": [{"name": topic[0], "partitionIndexes": [0]}, {"name": topic[0], "partitionIndexes": [0, 0]}]})
        if version >= 2:
            fetch(group, None, version)
            fetch(empty, None, version)
            group.call("OFFSET_FETCH", version, {"groupId": "", "topics": None})
        if version == 7:
            group.call("OFFSET_FETCH", version, {"topics": None, "requireStable": True})
    for version in (8, 9, 10):
        for stable in (False, True):
            both.call("OFFSET_FETCH", version, {"requireStable": stable, "groups": [
                wanted(group, topic, [0, 1, 2, -1]), wanted(empty, topic), wanted(group, None, groupId=both.name("unknown")), wanted(group, other, groupId="")]})
        both.call("OFFSET_FETCH", version, {"groups": [wanted(group, None), wanted(group, topic)]})
        both.call("OFFSET_FETCH", version, {"groups": []})
        both.call("OFFSET_FETCH", version, {"groups": [{"groupId": group.id, "topics": []}]})
        both.call("OFFSET_FETCH", version, {"groups": [wanted(group, NOWHERE)]})
        both.call("OFFSET_FETCH", version, {"groups": [wanted(empty, NOWHERE)]})
        both.call("OFFSET_FETCH", version, {"groups": [wanted(group, ("", "AAAAAAAAAAAAAAAAAAAAAA"))]})
    for version in (9, 10):
        for name, epoch in (("nobody", 1), ("nobody", -1), (None, 1), ("", 7), (member.id, 1), (member.id, 7), (member.id, -1)):
            both.call("OFFSET_FETCH", version, {"groups": [wanted(group, topic, memberId=name, memberEpoch=epoch)]})
            both.call("OFFSET_FETCH", version, {"groups": [wanted(empty, topic, memberId=name, memberEpoch=epoch)]})
            both.call("OFFSET_FETCH", version, {"groups": [wanted(group, None, memberId=name, memberEpoch=epoch)]})


@scenario
def offsets_of_deleted_topics(both):
    kept, gone = topics(both, "kept", "gone")
    group = Group(both)
    group.call("OFFSET_COMMIT", 8, {"topics": [at(kept, 0), at(gone, 0)]})
    both.call("DELETE_TOPICS", 6, {"topics": [{"name": gone[0]}], "timeoutMs": 9000})
    both.until(lambda answer: len(answer["groups"][0]["topics"]) == 1, "OFFSET_FETCH", 8, {"groups": [wanted(group, None)]})
    fetch(group, gone, 8)
    fetch(group, gone, 10)
    commit(group, gone, 8)
    commit(group, gone, 10)
    again, = topics(both, "gone")
    fetch(group, again, 8)
    fetch(group, again, 10)
    commit(group, gone, 10)
    fetch(group, None, 10)


@scenario
def offsets_are_deleted(both):
    topic, other = topics(both, "topic", "other")
    unknown, group, simple = Group(both, "unknown"), Group(both), Group(both, "simple")

    def delete(of, *partitions, topic=topic, **options):
        return of.call("OFFSET_DELETE", 0, {"topics": [{"name": topic[0], "partitions": [{"partitionIndex": p} for p in partitions]}]}, **options)

    delete(unknown, 0)
    delete(unknown, 0, topic=NOWHERE)
    unknown.call("OFFSET_DELETE", 0, {"topics": []})
    unknown.call("OFFSET_DELETE", 0, {"groupId": "", "topics": []})
    unknown.call("OFFSET_DELETE", 0, {"groupId": "", "topics": [{"name": topic[0], "partitions": [{"partitionIndex": 0}]}]})
    commit(simple, topic, 8, partitions=[0, 1])
    delete(simple, 0)
    fetch(simple, topic, 8, [0, 1])
    delete(simple, 0, 0, 2, -1)
    delete(simple, 0, topic=NOWHERE)
    delete(simple, differs={"topics[topic]": ("topics-as-asked", ABSENT, ...)})
    delete(simple, 1)
    fetch(simple, None, 8)
    simple.describe(6, differs={"groups[*].errorCode": ("group-goes-with-its-offsets", "NONE", "GROUP_ID_NOT_FOUND"),
                                "groups[*].groupState": ("group-goes-with-its-offsets", "Empty", "Dead")})
    delete(simple, 1, differs={"errorCode": ("group-goes-with-its-offsets", "NONE", "GROUP_ID_NOT_FOUND"),
                               "topics[topic]": ("group-goes-with-its-offsets", ..., ABSENT)})
    member = group.member("only").join(protocols=[{"name": "range", "metadata": subscription(topic[0])}])
    for state in (COMPLETING, STABLE):
        delete(group, 0)
        delete(group, 0, topic=other)
        delete(group, 7)
        delete(group, 0, topic=NOWHERE)
        if state == COMPLETING:
            member.sync((member.id, b"all"))
            commit(group, topic, 8, member.id, 1)
            commit(group, other, 8, member.id, 1)
    fetch(group, None, 8)
    group.leave(member.id)
    delete(group, 0)
    fetch(group, None, 8)
    for kind, metadata in (("connect", b"x"), ("consumer", b""), ("consumer", b"\0"), ("consumer", subscription())):
        odd = Group(both, f"odd{kind}{len(metadata)}")
        joined = odd.member("only", kind=kind).join(protocols=[{"name": "range", "metadata": metadata}])
        joined.sync((joined.id, b"all"))
        commit(odd, topic, 8, joined.id, 1)
        delete(odd, 0)
        fetch(odd, topic, 8)
        odd.leave(joined.id)
        delete(odd, 0)
        fetch(odd, topic, 8)


@scenario
def groups_of_other_kinds(both):
    topic, = topics(both)
    group = Group(both)
    member = group.member("only", kind="connect", offers=("sessioned", "compatible", "default")).alone()
    group.describe()
    commit(group, topic, 8, member.id, 1)
    fetch(group, topic, 8)
    member.join()
    group.leave(member.id)
    group.describe()
    both.call("LIST_GROUPS", 5, {}, only=group.id)
    # An empty group may become another kind.
    other = group.member("other").alone()
    group.describe()
    group.leave(other.id)
    both.call("LIST_GROUPS", 5, {}, only=group.id)
    simple = Group(both, "simple")
    commit(simple, topic, 8)
    both.call("LIST_GROUPS", 5, {}, only=simple.id)
    simple.member("first", kind="connect").alone()
    both.call("LIST_GROUPS", 5, {}, only=simple.id)


@scenario
def groups_that_are_not_served(both):
    name, refused = both.name("other"), {"": ("not-served", RESPONSE, CLOSED)}
    member = {"groupId": name, "memberId": "AAAAAAAAAAAAAAAAAAAAAQ", "memberEpoch": 0}
    both.call("CONSUMER_GROUP_HEARTBEAT", 0, member, differs=refused)
    both.call("CONSUMER_GROUP_HEARTBEAT", 1, member, differs=refused)
    for version in (0, 1):
        both.call("CONSUMER_GROUP_DESCRIBE", version, {"groupIds": [name]}, differs=refused)
    both.call("SHARE_GROUP_HEARTBEAT", 1, member, differs=refused)
    both.call("SHARE_GROUP_DESCRIBE", 1, {"groupIds": [name]}, differs=refused)
    both.call("STREAMS_GROUP_HEARTBEAT", 0, member, differs=refused)
    both.call("STREAMS_GROUP_DESCRIBE", 0, {"groupIds": [name]}, differs=refused)
