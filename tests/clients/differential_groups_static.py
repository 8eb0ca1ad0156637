"""Static members, and members that time passes over, beside a real Kafka.

Owns: the scenarios. Does not own: the requests (`raw_groups`), how brokers are compared (`differential`).
"""
from differential import scenario
from raw_groups import EMPTY, PREPARING, SHORT_MS, Group, pair, protocols, together


# --- static members ----------------------------------------------------------------------------------------------------------------

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
    waits = two.start(differs={"memberId": ("who-waited-is-named", ..., "")})
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


# --- time --------------------------------------------------------------------------------------------------------------------------

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
