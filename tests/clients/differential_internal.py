"""The topic of committed offsets as raw requests see it, beside a real Kafka: there once a group was looked for, internal, and not for clients to write to."""
from differential import scenario
from differential_produce import produce
from differential_topics import create, topic
import wire

OFFSETS = "__consumer_offsets"


def there(both):
    """The topic, once a group has been looked for."""
    for version in (0, 4):
        both.until(lambda answer: "NONE" in str(answer), "FIND_COORDINATOR", version, {"key": both.name("sought"), "coordinatorKeys": [both.name("sought")], "keyType": 0})
    return both.until(lambda answer: answer["topics"][0]["errorCode"] == "NONE", "METADATA", 12, {"topics": [{"name": OFFSETS}], "allowAutoTopicCreation": False})


@scenario
def offsets_topic_is_told(both):
    known = there(both)
    both.call("METADATA", 12, {"topics": [{"name": None, "topicId": known.at("topics", 0, "topicId")}]})
    for version in (0, 1, 9, 13):
        both.call("METADATA", version, {"topics": None if version else []}, only=OFFSETS)
    both.call("DESCRIBE_TOPIC_PARTITIONS", 0, {"topics": [{"name": OFFSETS}]})
    both.call("DESCRIBE_TOPIC_PARTITIONS", 0, {"topics": []}, only=OFFSETS)
    both.call("DESCRIBE_CONFIGS", 4, {"resources": [{"resourceType": 2, "resourceName": OFFSETS, "configurationKeys": None}], "includeSynonyms": True},
              ignore=["results[*].configs[min.insync.replicas]*"])
    both.call("LIST_OFFSETS", 7, {"replicaId": -1, "topics": [{"name": OFFSETS, "partitions": [{"partitionIndex": 49, "timestamp": -2}, {"partitionIndex": 50, "timestamp": -1}]}]})


@scenario
def offsets_topic_is_not_for_clients(both):
    there(both)
    for version in (3, 9, 12):
        for client in ("differential", "__admin_client"):
            # Kafka has offsets of its groups there.
            produce(both, version, OFFSETS, wire.batch(b"v", key=b"k"), client=client, ignore=["responses[*].partitionResponses[0].baseOffset"])
            produce(both, version, OFFSETS, wire.batch(b"v", key=b"k"), partition=50, client=client)
            produce(both, version, OFFSETS, b"", client=client, differs={
                "responses[*].partitionResponses[0].errorCode": ("internal-first", "INVALID_RECORD", "INVALID_TOPIC_EXCEPTION")} if client == "differential" else {})
    for client in ("differential", "__admin_client"):
        both.call("DELETE_RECORDS", 2, {"topics": [{"name": OFFSETS, "partitions": [{"partitionIndex": 0, "offset": 0}, {"partitionIndex": 50, "offset": -1}]}], "timeoutMs": 9000}, client=client)
    for name in (OFFSETS, "__cluster_metadata"):
        create(both, 7, topic(name, 3), validateOnly=True)
    both.call("METADATA", 12, {"topics": [{"name": "__cluster_metadata"}], "allowAutoTopicCreation": True})
    both.call("CREATE_PARTITIONS", 3, {"topics": [{"name": OFFSETS, "count": 50, "assignments": None}, {"name": "__cluster_metadata", "count": 50, "assignments": None}], "timeoutMs": 9000})
    both.call("CREATE_PARTITIONS", 3, {"topics": [{"name": OFFSETS, "count": 51, "assignments": None}], "timeoutMs": 9000, "validateOnly": True})
    both.call("INCREMENTAL_ALTER_CONFIGS", 1, {"resources": [{"resourceType": 2, "resourceName": OFFSETS, "configs": [
        {"name": "retention.ms", "configOperation": 0, "value": "-1"}]}], "validateOnly": True})
