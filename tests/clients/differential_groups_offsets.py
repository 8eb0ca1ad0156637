"""Groups as administrators see them, and their offsets, beside a real Kafka.

Owns: the scenarios. Does not own: the requests (`raw_groups`), how brokers are compared (`differential`).
"""
from differential import ABSENT, CLOSED, RESPONSE, scenario
from raw_groups import COMPLETING, EMPTY, NOWHERE, PREPARING, STABLE, Group, at, commit, fetch, subscription, topics, wanted


# --- what people see ---------------------------------------------------------------------------------------------------------------

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


# --- offsets -----------------------------------------------------------------------------------------------------------------------

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
