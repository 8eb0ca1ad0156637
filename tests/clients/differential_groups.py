"""Classic consumer groups as raw requests see them, beside a real Kafka: joining, assigning, heartbeats, leaving.

Owns: the scenarios. Does not own: the requests (`raw_groups`), how brokers are compared (`differential`), what stock clients make of
groups (`groups`).
"""
import struct

from differential import RESPONSE, SETTINGS, SILENT, scenario
from raw_groups import (ANY_LEADER, COMPLETING, EMPTY, JOIN_VERSIONS, PREPARING, SHORT_MS, STABLE,
                        Group, commit, fetch, pair, protocols, together, topics)


# --- finding coordinators ----------------------------------------------------------------------------------------------------------

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


# --- joining -----------------------------------------------------------------------------------------------------------------------

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
    # Given back while the group is stable.
    stable = Group(both, "stable")
    one = stable.member("first").alone()
    stable.leave(stable.member("pending").get_id().id)
    reason = "unused-id-goes"
    stable.describe(differs={"groups[*].groupState": (reason, PREPARING, STABLE), "groups[*].protocolData": (reason, "", "range"),
                             "groups[*].members[*].memberMetadata": (reason, "", ...)})
    one.heartbeat(differs={"errorCode": (reason, "REBALANCE_IN_PROGRESS", "NONE")})
    # Not used by the time the last member goes.
    last = Group(both, "last")
    one, pending = last.member("first").alone(), last.member("pending").get_id()
    waits = one.start(protocols=protocols("range", data=b"new"), differs={"memberId": ("who-waited-is-named", "", ...)})
    last.until(PREPARING, 1)
    last.leave(one.id)
    waits.answer()
    last.describe(differs={"groups[*].groupState": ("last-member-goes", PREPARING, EMPTY)})
    pending.join(differs={"generationId": ("last-member-goes", 2, 3)})
    last.describe()
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


# --- assigning ---------------------------------------------------------------------------------------------------------------------

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
def member_leaves_while_it_waits_for_its_assignment(both):
    group = Group(both)
    one, two = group.member("first").alone(), group.member("second")
    together(group, one, two)
    waiting = two.start_sync(wait=2, differs={"": ("sync-of-who-leaves", SILENT, RESPONSE)})
    group.until(COMPLETING, 2)
    group.leave(two.id)
    waiting.answer()
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


# --- heartbeats and leaving --------------------------------------------------------------------------------------------------------

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
