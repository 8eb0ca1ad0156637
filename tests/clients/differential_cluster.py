"""What a cluster tells of itself to raw requests, beside a real Kafka: versions, brokers, coordinators, reassignments, transactions."""
from differential import ABSENT, scenario
from differential_topics import create, topic
from differential_produce import made, produce
import wire


@scenario
def versions_told(both):
    told = ["apiKeys*", "supportedFeatures*", "finalizedFeatures*", "finalizedFeaturesEpoch", "zkMigrationReady"]
    for version in (0, 1, 2):
        both.call("API_VERSIONS", version, {}, ignore=told)
    for version in (3, 4):
        for name, number in (("apache-kafka-java", "4.3.0"), ("", "1"), ("a", ""), ("-a", "1"), ("a-", "1"), ("a b", "1"), ("a.b-c", "1.0-SNAPSHOT"), ("ü", "1"),
                             ("a" * 1000, "1"), ("a_b", "1")):
            both.call("API_VERSIONS", version, {"clientSoftwareName": name, "clientSoftwareVersion": number}, ignore=told)


@scenario
def versions_are_kafkas(both):
    """Whatever is told in the same versions, and nothing that Kafka does not tell."""
    kept = ["supportedFeatures*", "finalizedFeatures*", "finalizedFeaturesEpoch", "zkMigrationReady"]
    for version in (0, 4):
        both.call("API_VERSIONS", version, {"clientSoftwareName": "kafka", "clientSoftwareVersion": "1"}, ignore=kept, differs={"apiKeys[*]": ("not-served", ..., ABSENT)})


@scenario
def cluster_described(both):
    for version in (0, 1, 2):
        for more in ({}, {"includeClusterAuthorizedOperations": True}):
            both.call("DESCRIBE_CLUSTER", version, more)
        if version:
            both.call("DESCRIBE_CLUSTER", version, {"endpointType": 3})
            both.call("DESCRIBE_CLUSTER", version, {"endpointType": 0})


@scenario
def reassignments(both):
    name = both.name("stays")
    create(both, 7, topic(name, 2))
    for version in (0, 1):
        def assign(*partitions, of=name):
            both.call("ALTER_PARTITION_REASSIGNMENTS", version, {"timeoutMs": 5000, "topics": [{"name": of, "partitions": [
                {"partitionIndex": index, "replicas": replicas} for index, replicas in partitions]}]})
        assign((0, [1]))
        assign((0, None))
        assign((7, [1]))
        assign((7, None))
        assign((0, [1]), of=both.name("unknown"))
        assign((0, []))
        assign((0, [1, 1]))
        assign((0, [-1]))
    for topics in (None, [], [{"name": name, "partitionIndexes": [0, 1]}], [{"name": name, "partitionIndexes": [7]}], [{"name": both.name("unknown"), "partitionIndexes": [0]}]):
        both.call("LIST_PARTITION_REASSIGNMENTS", 0, {"timeoutMs": 5000, "topics": topics})
    for version in (0, 1, 2):
        for kind in (0, 1):
            both.call("ELECT_LEADERS", version, {"electionType": kind, "timeoutMs": 5000, "topicPartitions": [{"topic": name, "partitions": [0, 1]}]})
            both.call("ELECT_LEADERS", version, {"electionType": kind, "timeoutMs": 5000, "topicPartitions": [{"topic": name, "partitions": [7]}]})
            both.call("ELECT_LEADERS", version, {"electionType": kind, "timeoutMs": 5000, "topicPartitions": [{"topic": both.name("unknown"), "partitions": [0]}]})
        both.call("ELECT_LEADERS", version, {"electionType": 0, "timeoutMs": 5000, "topicPartitions": []})


@scenario
def producers_described(both):
    name = both.name("producers")
    made(both, name, partitions=2)
    produce(both, 8, name, wire.batch(b"a"))
    for topics in ([], [{"name": name, "partitionIndexes": [0, 1]}], [{"name": name, "partitionIndexes": [7]}], [{"name": both.name("unknown"), "partitionIndexes": [0]}]):
        both.call("DESCRIBE_PRODUCERS", 0, {"topics": topics})
    both.call("DESCRIBE_PRODUCERS", 0, {"topics": [{"name": "", "partitionIndexes": [0]}]}, differs={
        "topics[*].partitions[*].errorCode": ("empty-topic-name", "INVALID_TOPIC_EXCEPTION", "UNKNOWN_TOPIC_OR_PARTITION")})


@scenario
def transactions_told(both):
    for version in (0, 1, 2):
        both.call("LIST_TRANSACTIONS", version, {"stateFilters": ["Ongoing"]})
        both.call("LIST_TRANSACTIONS", version, {"stateFilters": ["NoSuchState"]})
        both.call("LIST_TRANSACTIONS", version, {"producerIdFilters": [4_000_000_000]})


@scenario
def apis_that_are_not(both):
    for api, version in ((18, 5), (18, 99), (18, -1), (3, 99), (0, 99), (999, 0), (-1, 0), (4, 0), (1, 3)):
        both.raw(api, version, b"", flexible=True)


@scenario
def odds_and_ends(both):
    name = both.name("told")
    made(both, name)
    for version in (1, 3, 5):
        both.call("DESCRIBE_LOG_DIRS", version, {"topics": [{"topic": name, "partitions": [0]}]}, ignore=["results*"])
        both.call("DESCRIBE_LOG_DIRS", version, {"topics": [{"topic": both.name("unknown"), "partitions": [0]}]}, ignore=["results*"])
    both.call("DESCRIBE_TRANSACTIONS", 0, {"transactionalIds": []})
    both.call("DESCRIBE_TRANSACTIONS", 0, {"transactionalIds": [both.name("txn"), ""]}, differs={
        "transactionStates[*].errorCode": ("transactions", "NOT_COORDINATOR", "TRANSACTIONAL_ID_NOT_FOUND")})
    for version in (0, 2):
        both.call("DESCRIBE_QUORUM", version, {"topics": [{"topicName": name, "partitions": [{"partitionIndex": 0}]}]},
                  ignore=["topics[*].partitions[*].leaderEpoch", "nodes*"])
        both.call("DESCRIBE_QUORUM", version, {"topics": []}, ignore=["nodes*"])
        both.call("DESCRIBE_QUORUM", version, {"topics": [{"topicName": "__cluster_metadata", "partitions": [{"partitionIndex": 0}]}]}, ignore=["topics*", "nodes*"])
    for version in (0, 3, 4, 6):
        for kind in (1, 3, 7, -1):
            both.call("FIND_COORDINATOR", version, {"key": both.name("group"), "keyType": kind, "coordinatorKeys": [both.name("group"), ""]}, ignore=["nodeId", "coordinators[*].nodeId"])
