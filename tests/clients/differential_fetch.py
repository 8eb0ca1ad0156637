"""Records on their way out, beside a real Kafka: Fetch, ListOffsets, DeleteRecords, OffsetForLeaderEpoch."""
import time

import wire
from differential import ABSENT, scenario
from differential_produce import made, produce
from differential_topics import metadata

VERSIONS = (4, 7, 11, 12)
FAR = 2**62


def epoch(both, name):
    """The leader epoch, each broker's own."""
    return metadata(both, 12, [{"name": name}]).at("topics", 0, "partitions", 0, "leaderEpoch")


def fetch(both, version, name, *partitions, topic_id=None, differs=None, wait=5, ignore=(), **request):
    """partitions: (index, offset, more)."""
    asked = [{"partition": index, "currentLeaderEpoch": -1, "fetchOffset": offset, "lastFetchedEpoch": -1, "logStartOffset": -1, "partitionMaxBytes": 1 << 20, **more}
             for index, offset, more in partitions]
    topic = {"topic": name, "partitions": asked} if topic_id is None else {"topicId": topic_id, "partitions": asked}
    body = {"replicaId": -1, "maxWaitMs": 0, "minBytes": 0, "maxBytes": 1 << 20, "isolationLevel": 0, "sessionId": 0, "sessionEpoch": -1, "topics": [topic], **request}
    return both.call("FETCH", version, body, wait=wait, differs=differs, ignore=ignore)


def filled(both, stem, partitions=2):
    """A topic with three batches in partition 0: offsets 0, 1 to 3, 4; timestamps 1000 s from each other."""
    name, start = both.name(stem), int(time.time()) * 1000 - 10_000_000
    topic_id, = made(both, name, partitions=partitions)
    for at, values in enumerate(((b"a",), (b"b", b"c", b"d"), (b"e",))):
        produce(both, 8, name, wire.batch(*values, base_timestamp=start + at * 1_000_000))
    return name, topic_id, start


def out_of_range(version, start):
    listed = {f"responses[*].partitions[*].{field}": ("out-of-range-tells", -1, ...) for field in ("highWatermark", "lastStableOffset")}
    return listed | ({"responses[*].partitions[*].logStartOffset": ("out-of-range-tells", -1, start)} if version >= 5 else {})


BROKE = ("kafka-breaks", ..., ...)
BROKEN = {f"responses[*].partitions[*].{field}": BROKE for field in ("errorCode", "highWatermark", "lastStableOffset", "records[0]", "records[1]", "records[2]")}


@scenario
def fetched(both):
    name, topic_id, _ = filled(both, "fetched")
    for version in VERSIONS:
        for offset in (0, 1, 2, 4, 5):
            fetch(both, version, name, (0, offset, {}))
        for offset in (6, -1, -2, FAR):
            fetch(both, version, name, (0, offset, {}), differs=out_of_range(version, 0))
        fetch(both, version, name, (1, 0, {}))
        fetch(both, version, name, (1, 1, {}), differs=out_of_range(version, 0))
        fetch(both, version, name, (2, 0, {}), (-1, 0, {}))
        fetch(both, version, both.name("unknown"), (0, 0, {}))
        fetch(both, version, "", (0, 0, {}))
        fetch(both, version, name, differs={"responses[*]": ("topics-as-asked", ABSENT, ...)})
        fetch(both, version, name, (0, 0, {}), isolationLevel=1)
        fetch(both, version, name, (0, 0, {}), isolationLevel=7, differs=BROKEN | ({"errorCode": BROKE} if version >= 7 else {})
              | ({"responses[*].partitions[*].logStartOffset": BROKE} if version >= 5 else {}))
        fetch(both, version, name, (0, 0, {}), maxWaitMs=100, minBytes=1 << 20)
        fetch(both, version, name, (0, 5, {}), maxWaitMs=-1, minBytes=1)
        fetch(both, version, name, topics=[])
    for version in (13, 16, 18):
        fetch(both, version, None, (0, 1, {}), (2, 0, {}), topic_id=topic_id)
        fetch(both, version, None, (0, 0, {}), topic_id="AAAAAAAAAAAAAAAAAAAAAQ")
        fetch(both, version, None, (0, 0, {}), topic_id="AAAAAAAAAAAAAAAAAAAAAA")


@scenario
def leader_epochs(both):
    name, _, _ = filled(both, "epochs")
    now = epoch(both, name)
    newer, older = now.map(lambda one: one + 1), now.map(lambda one: one - 1)
    for version in (9, 12):
        fetch(both, version, name, (0, 0, {"currentLeaderEpoch": now}))
        fetch(both, version, name, (0, 0, {"currentLeaderEpoch": newer}))
    for version in (2, 3, 4):
        def ask(index, current, wanted, topic=name, differs=None):
            both.call("OFFSET_FOR_LEADER_EPOCH", version, {"replicaId": -1, "topics": [{"topic": topic, "partitions": [
                {"partition": index, "currentLeaderEpoch": current, "leaderEpoch": wanted}]}]}, differs=differs)
        ask(0, -1, now)
        ask(0, now, now)
        ask(0, newer, now)
        ask(0, -1, newer)
        ask(0, -1, -1)
        ask(0, -1, -5, differs={"topics[*].partitions[*].endOffset": ("epoch-below-all", 0, -1), "topics[*].partitions[*].leaderEpoch": ("epoch-below-all", -5, -1)})
        ask(7, -1, now)
        ask(-1, -1, now)
        ask(0, -1, now, both.name("unknown"))
    for version in (4, 7):
        for current in (now, newer):
            both.call("LIST_OFFSETS", version, {"replicaId": -1, "topics": [{"name": name, "partitions": [{"partitionIndex": 0, "currentLeaderEpoch": current, "timestamp": -1}]}]})


@scenario
def offsets_listed(both):
    name, _, start = filled(both, "listed")
    for version in (1, 4, 7, 8, 9, 11):
        def ask(timestamp, index=0, topic=name, differs=None, **more):
            both.call("LIST_OFFSETS", version, {"replicaId": -1, "topics": [{"name": topic, "partitions": [
                {"partitionIndex": index, "currentLeaderEpoch": -1, "timestamp": timestamp}]}], "timeoutMs": 1000, **more}, differs=differs)
        for timestamp in (-1, -2, -3, -4, -5, -6, -7, -100, 0, 1, start - 1, start, start + 1, start + 1_000_000, start + 2_000_000, start + 2_000_001, FAR):
            ask(timestamp)
            ask(timestamp, index=1)
        ask(-1, index=2)
        ask(-1, index=-1)
        ask(-1, topic=both.name("unknown"))
        ask(-1, topic="")
        ask(-1, isolationLevel=1)
        if version >= 2:
            fields = ("errorCode", "offset", "leaderEpoch") if version >= 4 else ("errorCode", "offset")
            ask(-1, isolationLevel=9, differs={f"topics[*].partitions[*].{field}": BROKE for field in fields})
        both.call("LIST_OFFSETS", version, {"replicaId": -1, "topics": []})
        both.call("LIST_OFFSETS", version, {"replicaId": -1, "topics": [{"name": name, "partitions": []}]},
                  differs={"topics[*]": ("topics-as-asked", ABSENT, ...)})


@scenario
def records_deleted(both):
    for version in (0, 1, 2):
        name, _, start = filled(both, f"deleted{version}")

        def delete(offset, index=0, topic=name):
            both.call("DELETE_RECORDS", version, {"topics": [{"name": topic, "partitions": [{"partitionIndex": index, "offset": offset}]}], "timeoutMs": 5000})
        delete(-2)
        delete(6)
        delete(2)
        fetch(both, 12, name, (0, 0, {}), differs=out_of_range(12, 2))
        fetch(both, 12, name, (0, 2, {}))
        delete(1)
        delete(2)
        both.call("LIST_OFFSETS", 7, {"replicaId": -1, "topics": [{"name": name, "partitions": [{"partitionIndex": 0, "timestamp": start}]}]})
        delete(-1)
        delete(0, index=1)
        delete(1, index=1)
        delete(0, index=9)
        delete(0, topic=both.name("unknown"))
        delete(0, topic="")
        both.call("DELETE_RECORDS", version, {"topics": [], "timeoutMs": 5000})
        fetch(both, 12, name, (0, 5, {}))
        fetch(both, 12, name, (0, 4, {}), differs=out_of_range(12, 5))


@scenario
def limits(both):
    name, _, _ = filled(both, "limits")
    for version in VERSIONS:
        for limit in (0, 1, 70, 100, 150):
            fetch(both, version, name, (0, 0, {"partitionMaxBytes": limit}), (1, 0, {}))
            fetch(both, version, name, (0, 0, {}), maxBytes=limit)
        broken = {path: BROKE for path in BROKEN if "records[1]" not in path and "records[2]" not in path}
        broken |= {"responses[*].partitions[*].logStartOffset": BROKE} if version >= 5 else {}
        fetch(both, version, name, (0, 0, {"partitionMaxBytes": -1}), differs=broken, ignore=["errorCode"])
        fetch(both, version, name, (0, 0, {}), maxBytes=-1, differs=broken, ignore=["errorCode"])
        first = "responses[*].partitions[0].records[0]."
        fetch(both, version, name, (0, 0, {}), (0, 4, {}), differs={"responses[*].partitions[0']": ("any-of-one-partition", ABSENT, ...)} | {
            first + field: ("any-of-one-partition", ..., ...) for field in ("baseOffset", "lastOffset", "records[0].offset", "records[0].value")}
            | {f"responses[*].partitions[0].records[{at}]": ("any-of-one-partition", ABSENT, ...) for at in (1, 2)})
        fetch(both, version, name, (0, 0, {}), maxWaitMs=200, minBytes=2**31 - 1)
        fetch(both, version, name, (0, 0, {}), minBytes=-1)


@scenario
def sessions(both):
    name, _, _ = filled(both, "sessions")
    for version in (7, 12):
        fetch(both, version, name, (0, 0, {}), sessionEpoch=0, differs={"sessionId": ("no-fetch-sessions", ..., 0)})
        for session, number in ((0, 1), (5, 0), (5, 1), (5, -1), (-1, 0), (0, -2)):
            fetch(both, version, name, (0, 0, {}), sessionId=session, sessionEpoch=number,
                  differs={"sessionId": ("no-fetch-sessions", ..., 0)} if number == 0 else {})
        fetch(both, version, name, (0, 0, {}), forgottenTopicsData=[{"topic": name, "partitions": [0]}])


@scenario
def followers_that_are_none(both):
    """Who says that it is a replica."""
    def served(version):
        reason, at = "no-followers", "responses[*].partitions[*]."
        listed = {at + "errorCode": (reason, "NOT_LEADER_OR_FOLLOWER", "NONE"), at + "highWatermark": (reason, -1, 5), at + "lastStableOffset": (reason, -1, 5),
                  at + "records[*]": (reason, ABSENT, ...)}
        return listed | ({at + "logStartOffset": (reason, -1, 0)} if version >= 5 else {}) | ({at + "currentLeader": (reason, ..., ABSENT)} if version >= 16 else {})
    name, topic_id, _ = filled(both, "followed")
    for replica in (-2, 0, 1, 9):
        for version in (*VERSIONS, 13, 15, 18):
            by_id = version >= 13
            fetch(both, version, None if by_id else name, (0, 0, {}), topic_id=topic_id if by_id else None, replicaId=replica,
                  replicaState={"replicaId": replica, "replicaEpoch": -1}, differs=served(version) if replica >= 0 else {})
